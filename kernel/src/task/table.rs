//! Who there is: processes, threads, families, groups and sessions, under one lock.
//!
//! A process is in the table from fork until it is reaped; `exit` tells a zombie from a living one. A number is given
//! back when nothing bears it any more ([`Table::release`]), so that a group outlives its leader without its number
//! being given to a stranger.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;

use super::{
    kin::{Kin, Line, Neighbours},
    pid::{Pid, PidAllocator},
    process::{Process, WaitStatus},
    ptrace::Tracee,
    signal::Signo,
    thread::Thread,
};
use crate::{
    errno::{Errno, Result},
    sync::{Rank, SpinLock},
    tty::Tty,
};

/// A session: the process groups of one login, with at most one controlling terminal.
pub struct Session {
    id: Pid,
    tty: SpinLock<Option<Arc<Tty>>>,
}

impl Session {
    /// A session without a terminal.
    pub fn new(id: Pid) -> Arc<Self> {
        Arc::new(Self {
            id,
            tty: SpinLock::new(Rank::Signals, None),
        })
    }

    /// The number of the process that made it.
    pub fn id(&self) -> Pid {
        self.id
    }

    /// The controlling terminal.
    pub fn tty(&self) -> Option<Arc<Tty>> {
        self.tty.lock().clone()
    }

    /// Replaces the controlling terminal and returns the old one.
    pub fn set_tty(&self, tty: Option<Arc<Tty>>) -> Option<Arc<Tty>> {
        core::mem::replace(&mut *self.tty.lock(), tty)
    }
}

/// A process's place in the family.
pub(super) struct Node {
    pub process: Arc<Process>,
    pub parent: Pid,
    pub children: Line,
    siblings: Neighbours,
    pub group: Pid,
    comrades: Neighbours,
    pub session: Pid,
    /// What the parent gets when the process ends; 0 for nothing.
    pub exit_signal: Signo,
    /// Set once every thread is gone.
    pub exit: Option<WaitStatus>,
    /// A stop the parent has not waited for yet.
    pub stopped: Option<Signo>,
    /// A continuation the parent has not waited for yet.
    pub continued: bool,
}

impl Node {
    pub const fn neighbours(&self, kin: Kin) -> &Neighbours {
        match kin {
            Kin::Children => &self.siblings,
            Kin::Members => &self.comrades,
        }
    }

    pub const fn neighbours_mut(&mut self, kin: Kin) -> &mut Neighbours {
        match kin {
            Kin::Children => &mut self.siblings,
            Kin::Members => &mut self.comrades,
        }
    }
}

/// A process group.
#[derive(Default)]
pub(super) struct Group {
    /// Zombies included.
    members: Line,
    /// Members that keep it from being orphaned: [`Table::anchors`].
    anchors: usize,
}

/// The table.
pub(super) struct Table {
    pids: PidAllocator,
    pub processes: BTreeMap<Pid, Node>,
    pub threads: BTreeMap<Pid, Arc<Thread>>,
    /// Threads that are traced, by number; those that have ended until their tracer has waited for them.
    pub tracees: BTreeMap<Pid, Arc<Tracee>>,
    pub groups: BTreeMap<Pid, Group>,
    /// How many processes, zombies included, each session has.
    pub sessions: BTreeMap<Pid, usize>,
}

pub(super) static TABLE: SpinLock<Table> = SpinLock::new(Rank::ProcessTable, Table::new());

impl Table {
    const fn new() -> Self {
        Self {
            pids: PidAllocator::new(),
            processes: BTreeMap::new(),
            threads: BTreeMap::new(),
            tracees: BTreeMap::new(),
            groups: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    pub fn node(&self, pid: Pid) -> Option<&Node> {
        self.processes.get(&pid)
    }

    pub fn node_mut(&mut self, pid: Pid) -> Option<&mut Node> {
        self.processes.get_mut(&pid)
    }

    /// Gives a number back if nothing bears it.
    pub fn release(&mut self, pid: Pid) {
        let borne = self.processes.contains_key(&pid)
            || self.threads.contains_key(&pid)
            || self.groups.contains_key(&pid)
            || self.sessions.contains_key(&pid);
        if !borne {
            self.pids.free(pid);
        }
    }

    /// Whether a process keeps its group from being orphaned (POSIX): it lives, and its parent is in another group of the same session.
    fn anchors(&self, node: &Node) -> bool {
        node.exit.is_none()
            && self
                .node(node.parent)
                .is_some_and(|parent| parent.group != node.group && parent.session == node.session && node.parent != 1)
    }

    /// Has a process's group know whether it is among those that anchor it.
    fn note_anchor(&mut self, pid: Pid, anchors: bool) {
        let Some(node) = self.node(pid) else { return };
        if !self.anchors(node) {
            return;
        }
        let group = node.group;
        if let Some(group) = self.groups.get_mut(&group) {
            if anchors {
                group.anchors += 1;
            } else {
                group.anchors -= 1;
            }
        }
    }

    /// Changes what decides whether a process anchors its group.
    pub fn change<T>(&mut self, pid: Pid, change: impl FnOnce(&mut Self) -> T) -> T {
        self.note_anchor(pid, false);
        let result = change(self);
        self.note_anchor(pid, true);
        result
    }

    /// As [`Table::change`], where it decides of the process's children, too.
    fn change_family<T>(&mut self, pid: Pid, change: impl FnOnce(&mut Self) -> T) -> T {
        self.note_children(pid, false);
        let result = self.change(pid, change);
        self.note_children(pid, true);
        result
    }

    fn note_children(&mut self, pid: Pid, anchors: bool) {
        let mut at = self.node(pid).map_or(0, |node| node.children.first());
        while let Some(next) = self.node(at).map(|node| node.neighbours(Kin::Children).next()) {
            self.note_anchor(at, anchors);
            at = next;
        }
    }

    fn join_group(&mut self, pid: Pid, group: Pid) {
        let joined = self.groups.entry(group).or_default();
        joined.members.push(&mut self.processes, Kin::Members, pid);
        if let Some(node) = self.processes.get_mut(&pid) {
            node.group = group;
            node.process.group.store(group, Ordering::Relaxed);
        }
    }

    fn leave_group(&mut self, pid: Pid, group: Pid) {
        if let Some(left) = self.groups.get_mut(&group) {
            left.members.remove(&mut self.processes, Kin::Members, pid);
            if left.members.is_empty() {
                self.groups.remove(&group);
                self.release(group);
            }
        }
    }

    /// Gives a process, which is nobody's child, a parent.
    fn join_parent(&mut self, pid: Pid, parent: Pid) {
        if let Some(mut children) = self.node(parent).map(|node| node.children) {
            children.push(&mut self.processes, Kin::Children, pid);
            if let Some(parent) = self.node_mut(parent) {
                parent.children = children;
            }
        }
    }

    fn leave_parent(&mut self, pid: Pid, parent: Pid) {
        if let Some(mut children) = self.node(parent).map(|node| node.children) {
            children.remove(&mut self.processes, Kin::Children, pid);
            if let Some(parent) = self.node_mut(parent) {
                parent.children = children;
            }
        }
    }

    /// The first child of a process.
    pub fn first_child(&self, pid: Pid) -> Option<Pid> {
        let first = self.node(pid)?.children.first();
        (first != 0).then_some(first)
    }

    /// The children of a process.
    pub fn children(&self, of: &Node) -> impl Iterator<Item = (Pid, &Node)> {
        of.children.iter(&self.processes, Kin::Children)
    }

    /// Gives a child to another process.
    pub fn hand_over(&mut self, pid: Pid, heir: Pid) {
        self.change(pid, |table| {
            let Some(node) = table.node(pid) else { return };
            table.leave_parent(pid, node.parent);
            table.join_parent(pid, heir);
            if let Some(node) = table.node_mut(pid) {
                node.parent = heir;
                node.process.parent.store(heir, Ordering::Relaxed);
            }
        });
    }

    pub fn join_session(&mut self, session: Pid) {
        *self.sessions.entry(session).or_default() += 1;
    }

    pub fn leave_session(&mut self, session: Pid) {
        if let Some(count) = self.sessions.get_mut(&session) {
            *count -= 1;
            if *count == 0 {
                self.sessions.remove(&session);
                self.release(session);
            }
        }
    }

    /// Takes a zombie out for good.
    pub fn remove(&mut self, pid: Pid) -> Option<Node> {
        self.note_anchor(pid, false);
        let node = self.processes.get(&pid)?;
        let (parent, group, session) = (node.parent, node.group, node.session);
        self.leave_parent(pid, parent);
        // While the process bears its number, leaving a group or session of the same number does not give it back.
        self.leave_group(pid, group);
        self.leave_session(session);
        let node = self.processes.remove(&pid)?;
        self.release(pid);
        Some(node)
    }

    /// Whether `group` is orphaned (POSIX): no living member has a parent in another group of the same session. `ignored`
    /// counts as gone.
    pub fn is_orphaned(&self, group: Pid, ignored: Option<Pid>) -> bool {
        let anchors = self.groups.get(&group).map_or(0, |group| group.anchors);
        let ignored = ignored.and_then(|pid| self.node(pid));
        let is_one = ignored.is_some_and(|node| node.group == group && self.anchors(node));
        anchors == usize::from(is_one)
    }

    /// Whether a living member of `group` is stopped.
    pub fn has_stopped_member(&self, group: Pid) -> bool {
        self.nodes_of(group)
            .any(|node| node.exit.is_none() && node.process.shared.lock().stop.is_some())
    }

    pub fn members(&self, group: Pid) -> Vec<Arc<Process>> {
        self.nodes_of(group).map(|node| node.process.clone()).collect()
    }

    /// The members of a group, if they are few.
    fn few(&self, group: Pid) -> Option<ArrayVec<Arc<Process>, FEW>> {
        let mut few = ArrayVec::new();
        for node in self.nodes_of(group) {
            few.try_push(node.process.clone()).ok()?;
        }
        Some(few)
    }

    /// The members of a group, zombies included.
    fn nodes_of(&self, group: Pid) -> impl Iterator<Item = &Node> {
        let members = self.groups.get(&group).map_or(Line::default(), |group| group.members);
        members.iter(&self.processes, Kin::Members).map(|(_, node)| node)
    }
}

/// Takes a number for a process or thread.
///
/// # Errors
/// `EAGAIN` if all are taken.
pub(super) fn allocate_pid() -> Result<Pid> {
    TABLE.lock().pids.allocate()
}

/// Gives back a number that was never used.
pub(super) fn release_pid(pid: Pid) {
    TABLE.lock().release(pid);
}

static FORKS: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Processes made since boot.
pub fn forks() -> u64 {
    FORKS.load(core::sync::atomic::Ordering::Relaxed)
}

/// Adds a process, with its first thread, as a child of `process.parent()`.
pub(super) fn insert(process: &Arc<Process>, thread: &Arc<Thread>, exit_signal: Signo) {
    let session = process.session().id();
    let (pid, group) = (process.pid(), process.group());
    FORKS.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    let mut table = TABLE.lock();
    let node = Node {
        process: process.clone(),
        parent: process.parent(),
        children: Line::default(),
        siblings: Neighbours::default(),
        group,
        comrades: Neighbours::default(),
        session,
        exit_signal,
        exit: None,
        stopped: None,
        continued: false,
    };
    table.processes.insert(pid, node);
    table.threads.insert(pid, thread.clone());
    table.join_parent(pid, process.parent());
    table.join_group(pid, group);
    table.join_session(session);
    table.note_anchor(pid, true);
    process.shared.lock().threads.push(thread.clone());
}

/// The process with a number, zombies included.
pub fn process(pid: Pid) -> Option<Arc<Process>> {
    TABLE.lock().node(pid).map(|node| node.process.clone())
}

/// The living thread with a number.
pub fn thread(tid: Pid) -> Option<Arc<Thread>> {
    TABLE.lock().threads.get(&tid).cloned()
}

/// Every process, zombies included, by number. Each is looked for as its turn comes, and takes no memory; who is made meanwhile is among
/// them if the number is higher.
pub fn processes() -> impl Iterator<Item = Arc<Process>> {
    walk(|_| true)
}

fn walk(is_meant: impl Fn(&Process) -> bool) -> impl Iterator<Item = Arc<Process>> {
    let mut last = 0;
    core::iter::from_fn(move || {
        let found = next(last, &is_meant)?;
        last = found.pid();
        Some(found)
    })
}

/// The living thread with the lowest number above `after` that is of `process`.
pub fn next_thread(after: Pid, process: &Arc<Process>) -> Option<Pid> {
    let table = TABLE.lock();
    let mut behind = table.threads.range(after.saturating_add(1)..);
    behind
        .find(|(_, thread)| Arc::ptr_eq(thread.process(), process))
        .map(|(tid, _)| *tid)
}

/// How many threads live, and the number that was given last.
pub fn census() -> (usize, Pid) {
    let table = TABLE.lock();
    (table.threads.len(), table.pids.last())
}

/// The process, zombies included, for which `key` gives the largest value; `None` where it gives none for any. Takes no
/// memory. `key` runs under the table's lock.
pub(super) fn max_by_key<K: Ord>(mut key: impl FnMut(&Process) -> Option<K>) -> Option<Arc<Process>> {
    let table = TABLE.lock();
    let nodes = table.processes.values();
    let best = nodes.filter_map(|node| Some((key(&node.process)?, &node.process)));
    best.max_by(|(one, _), (other, _)| one.cmp(other))
        .map(|(_, process)| process.clone())
}

/// The first process behind `after`, by number, that `is_meant`, which runs under the table's lock. Takes no memory.
pub fn next(after: Pid, mut is_meant: impl FnMut(&Process) -> bool) -> Option<Arc<Process>> {
    let table = TABLE.lock();
    let mut nodes = table
        .processes
        .range(after.saturating_add(1)..)
        .map(|(_, node)| &node.process);
    nodes.find(|process| is_meant(process)).cloned()
}

/// Members of a group that are looked at in one step.
const FEW: usize = 32;

/// Every process of a group, zombies included. Takes no memory: those of a large group are looked for among all processes.
pub fn group_members(group: Pid) -> impl Iterator<Item = Arc<Process>> {
    let few = TABLE.lock().few(group);
    let all = few.is_none().then(|| walk(move |process| process.group() == group));
    few.into_iter().flatten().chain(all.into_iter().flatten())
}

/// Whether a group with a member in `session` exists.
pub fn group_is_in_session(group: Pid, session: Pid) -> bool {
    TABLE.lock().nodes_of(group).any(|node| node.session == session)
}

/// Whether a group is orphaned: then terminal stops have no effect and background reads are EIO.
pub fn is_orphaned_group(group: Pid) -> bool {
    TABLE.lock().is_orphaned(group, None)
}

/// The status of an ended, unreaped process.
pub fn exit_status(pid: Pid) -> Option<WaitStatus> {
    TABLE.lock().node(pid).and_then(|node| node.exit)
}

/// `setpgid(2)` for `caller`.
///
/// # Errors
/// As the manual page: `ESRCH`, `EPERM`, `EACCES`, `EINVAL`.
pub fn set_group(caller: &Process, pid: Pid, group: Pid) -> Result<()> {
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let pid = if pid == 0 { caller.pid() } else { pid };
    let group = if group == 0 { pid } else { group };
    let mut table = TABLE.lock();
    let own = table.node(caller.pid()).ok_or(Errno::ESRCH)?;
    let node = table.node(pid).ok_or(Errno::ESRCH)?;
    if pid != caller.pid() {
        if node.parent != caller.pid() {
            return Err(Errno::ESRCH);
        }
        if node.session != own.session {
            return Err(Errno::EPERM);
        }
        if node.process.has_execed.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
    }
    if node.session == pid {
        return Err(Errno::EPERM);
    }
    let (old, session) = (node.group, node.session);
    if group != pid && !table.nodes_of(group).any(|node| node.session == session) {
        return Err(Errno::EPERM);
    }
    if old != group {
        table.change_family(pid, |table| {
            table.leave_group(pid, old);
            table.join_group(pid, group);
        });
    }
    Ok(())
}

/// `setsid(2)`.
///
/// # Errors
/// `EPERM` if a group with the caller's number exists.
pub fn new_session(process: &Process) -> Result<Pid> {
    let pid = process.pid();
    let mut table = TABLE.lock();
    if table.groups.contains_key(&pid) {
        return Err(Errno::EPERM);
    }
    let node = table.node(pid).ok_or(Errno::ESRCH)?;
    let (group, session) = (node.group, node.session);
    table.change_family(pid, |table| {
        if let Some(node) = table.node_mut(pid) {
            node.session = pid;
        }
        process.set_session(Session::new(pid));
        table.join_session(pid);
        table.leave_group(pid, group);
        table.join_group(pid, pid);
        table.leave_session(session);
    });
    Ok(pid)
}

/// The group and session of a process; 0 is the caller's.
///
/// # Errors
/// `ESRCH` if there is none.
pub fn group_and_session(caller: &Process, pid: Pid) -> Result<(Pid, Pid)> {
    let pid = if pid == 0 { caller.pid() } else { pid };
    let table = TABLE.lock();
    let pid = table.threads.get(&pid).map_or(pid, |thread| thread.process().pid());
    table
        .node(pid)
        .map(|node| (node.group, node.session))
        .ok_or(Errno::ESRCH)
}

#[cfg(test)]
mod tests;
