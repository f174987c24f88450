use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::task::{signal::set::SIGCHLD, testing};

/// A process in the table; as a child of `parent`, or of nobody in a session of its own.
fn born(parent: Option<&Arc<Process>>) -> Arc<Process> {
    hal::host::machine().attach(0);
    let pid = allocate_pid().unwrap();
    let thread = testing::thread(pid);
    let process = thread.process().clone();
    let (session, group) = parent.map_or_else(|| (Session::new(pid), pid), |parent| (parent.session(), parent.group()));
    process.set_session(session);
    process.group.store(group, Ordering::Relaxed);
    process
        .parent
        .store(parent.map_or(0, |parent| parent.pid()), Ordering::Relaxed);
    process.shared.lock().threads.remove(&thread);
    insert(&process, &thread, SIGCHLD);
    process
}

/// As the definition has it: each member is looked at.
fn is_orphaned(table: &Table, group: Pid, ignored: Option<Pid>) -> bool {
    let members = table.processes.iter().filter(|(_, node)| node.group == group);
    !members.filter(|(pid, _)| Some(**pid) != ignored).any(|(_, node)| {
        let parent = table.node(node.parent);
        node.exit.is_none()
            && parent
                .is_some_and(|parent| parent.group != node.group && parent.session == node.session && node.parent != 1)
    })
}

fn check(family: &[Arc<Process>]) {
    let table = TABLE.lock();
    for process in family {
        let (pid, group) = (process.pid(), process.group());
        let children: Vec<Pid> = table.children(table.node(pid).unwrap()).map(|(pid, _)| pid).collect();
        let of_pid = |node: &&Node| node.parent == pid;
        assert_eq!(children.len(), table.processes.values().filter(of_pid).count());
        assert!(children.iter().all(|child| table.node(*child).unwrap().parent == pid));
        let of_group = |node: &&Node| node.group == group;
        assert_eq!(
            table.nodes_of(group).count(),
            table.processes.values().filter(of_group).count()
        );
        for ignored in [None, Some(pid)] {
            assert_eq!(
                table.is_orphaned(group, ignored),
                is_orphaned(&table, group, ignored),
                "{pid} of {group}, without {ignored:?}"
            );
        }
    }
}

/// A process ends: its children go to `heir`, and it becomes a zombie or nothing.
fn ends(process: &Process, heir: Pid, is_reaped: bool) {
    let mut table = TABLE.lock();
    let pid = process.pid();
    while let Some(child) = table.first_child(pid) {
        table.hand_over(child, heir);
    }
    table.change(pid, |table| table.node_mut(pid).unwrap().exit = Some(WaitStatus(0)));
    let gone = is_reaped.then(|| table.remove(pid));
    table.threads.remove(&pid);
    drop(table);
    drop(gone);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn groups_know_whether_they_are_orphaned(steps in proptest::collection::vec((0u8..6, any::<u16>(), any::<u16>()), 1..80)) {
        let first = born(None);
        let mut family = std::vec![first.clone()];
        for (step, one, other) in steps {
            let process = family[one as usize % family.len()].clone();
            let another = &family[other as usize % family.len()];
            let is_alive = TABLE.lock().node(process.pid()).unwrap().exit.is_none();
            match step {
                0 | 1 if is_alive => {
                    let child = born(Some(&process));
                    family.push(child);
                }
                // Whatever is refused changes nothing.
                2 => drop(set_group(&process, another.pid(), process.pid())),
                3 => drop(set_group(&process, 0, another.group())),
                4 if is_alive => drop(new_session(&process)),
                5 if is_alive && process.pid() != first.pid() => {
                    let is_reaped = other % 2 == 0;
                    ends(&process, first.pid(), is_reaped);
                    if is_reaped {
                        family.retain(|member| member.pid() != process.pid());
                    }
                }
                _ => {}
            }
            check(&family);
        }
        for process in family.iter().rev() {
            ends(process, first.pid(), true);
        }
    }
}

#[test]
fn who_is_next_is_found_by_number() {
    let (one, two) = (born(None), born(None));
    let known = [one.pid(), two.pid()];
    let is_known = |process: &Process| known.contains(&process.pid());
    assert_eq!(next(0, is_known).map(|process| process.pid()), Some(one.pid()));
    assert_eq!(next(one.pid(), is_known).map(|process| process.pid()), Some(two.pid()));
    assert!(next(two.pid(), is_known).is_none());
    for process in [one, two] {
        ends(&process, 0, true);
    }
}

#[test]
fn all_of_a_group_are_found_however_many_they_are() {
    let first = born(None);
    let mut family = std::vec![first.clone()];
    for count in 1..FEW + 10 {
        let found: Vec<Pid> = group_members(first.pid()).map(|process| process.pid()).collect();
        assert_eq!(found.len(), count);
        assert!(family.iter().all(|member| found.contains(&member.pid())));
        family.push(born(Some(&first)));
    }
    assert!(processes().filter(|process| process.group() == first.pid()).count() == family.len());
    let last = family.last().unwrap();
    assert_eq!(next_thread(last.pid() - 1, last), Some(last.pid()));
    assert_eq!(next_thread(last.pid(), last), None);
    for process in family.iter().rev() {
        ends(process, first.pid(), true);
    }
}
