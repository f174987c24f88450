//! fork, wait, copy-on-write, limits on processes.

use std::sync::atomic::Ordering::SeqCst;

use crate::{
    sys::{self, fork, wait, wait_exit},
    syscall,
};

crate::tests! { "process":
    exit_codes_reach_the_parent [frees];
    a_tree_of_processes [frees];
    wait_finds_what_it_is_asked_for;
    waitid_tells_who_and_how;
    wait_without_children_is_echild;
    writes_after_fork_are_private [frees];
    shared_memory_stays_shared [frees];
    orphans_go_to_init;
    thousands_of_forks_lose_no_memory (120) [frees];
    vfork_and_clone_flags;
    groups_and_sessions;
    the_process_limit_stops_a_fork_bomb (60);
    identity;
}

fn exit_codes_reach_the_parent() {
    for code in [0, 1, 42, 255] {
        assert_eq!(wait_exit(fork(|| code)), code);
    }
    assert_eq!(wait_exit(fork(|| 256 + 7)), 7, "only the low byte counts");
}

fn a_tree_of_processes() {
    fn grow(depth: i32) -> i32 {
        if depth == 0 {
            return 1;
        }
        let children: Vec<i32> = (0..2).map(|_| fork(|| grow(depth - 1))).collect();
        children.into_iter().map(wait_exit).sum::<i32>() + 1
    }
    assert_eq!(grow(5), 63, "a tree of depth 5 has 63 nodes");
}

fn wait_finds_what_it_is_asked_for() {
    let (reader, writer) = sys::pipe(0);
    let slow = fork(|| {
        let _ = sys::read(reader, &mut [0]);
        1
    });
    let fast = fork(|| 2);
    assert_eq!(wait(slow, libc::WNOHANG), Ok((0, 0)), "it has not ended");
    assert_eq!(
        wait(fast, 0).map(|(pid, status)| (pid, libc::WEXITSTATUS(status))),
        Ok((fast, 2))
    );
    sys::write(writer, b"x").expect("write");
    assert_eq!(
        wait(-1, 0).map(|(pid, status)| (pid, libc::WEXITSTATUS(status))),
        Ok((slow, 1))
    );
    let grouped = fork(|| {
        let _ = syscall!(SYS_setpgid, 0, 0);
        0
    });
    let _ = syscall!(SYS_setpgid, grouped, grouped);
    assert_eq!(wait(-grouped, 0).map(|(pid, _)| pid), Ok(grouped), "by its group");
    let own = fork(|| 0);
    assert_eq!(wait(0, 0).map(|(pid, _)| pid), Ok(own), "by the caller's group");
}

fn waitid_tells_who_and_how() {
    let pid = fork(|| 9);
    let mut info = sys::empty_info();
    let flags = libc::WEXITED | libc::WNOWAIT;
    syscall!(SYS_waitid, libc::P_PID, pid, &raw mut info, flags, 0).expect("waitid");
    let told = sys::info(&raw mut info);
    assert_eq!(
        (told.signo, told.code, told.pid, told.status),
        (libc::SIGCHLD, libc::CLD_EXITED, pid, 9)
    );
    assert_eq!(wait_exit(pid), 9, "WNOWAIT left it");
    assert_eq!(
        syscall!(SYS_waitid, libc::P_ALL, 0, &raw mut info, 0, 0),
        Err(libc::EINVAL),
        "no state asked for"
    );
    let killed = fork(|| {
        sys::sleep_ms(60_000);
        0
    });
    sys::kill(killed, libc::SIGTERM).expect("kill");
    syscall!(SYS_waitid, libc::P_PID, killed, &raw mut info, libc::WEXITED, 0).expect("waitid");
    let told = sys::info(&raw mut info);
    assert_eq!((told.code, told.status), (libc::CLD_KILLED, libc::SIGTERM));
}

fn wait_without_children_is_echild() {
    assert_eq!(wait(-1, 0), Err(libc::ECHILD));
    assert_eq!(wait(1, libc::WNOHANG), Err(libc::ECHILD), "not ours");
    assert_eq!(wait(-1, 0x7000_0000), Err(libc::EINVAL));
}

fn writes_after_fork_are_private() {
    const PAGES: usize = 64;
    let memory = sys::memory(PAGES * 4096);
    let at = |page: usize| memory + page * 4096;
    (0..PAGES).for_each(|page| sys::poke(at(page), 1));
    let (to_child, from_parent) = sys::pipe(0);
    let pid = fork(|| {
        (0..PAGES).step_by(2).for_each(|page| sys::poke(at(page), 2));
        let _ = sys::read(to_child, &mut [0]);
        // The parent has written meanwhile: nothing of it may show here.
        i32::from(!(0..PAGES).all(|page| sys::peek(at(page)) == if page % 2 == 0 { 2 } else { 1 }))
    });
    (0..PAGES).step_by(3).for_each(|page| sys::poke(at(page), 3));
    sys::write(from_parent, b"x").expect("write");
    assert_eq!(wait_exit(pid), 0, "the child saw the parent's writes or lost its own");
    for page in 0..PAGES {
        assert_eq!(sys::peek(at(page)), if page % 3 == 0 { 3 } else { 1 }, "page {page}");
    }
}

fn shared_memory_stays_shared() {
    let counters = sys::shared_counters(1);
    let children: Vec<i32> = (0..8)
        .map(|_| {
            fork(|| {
                for _ in 0..1000 {
                    counters[0].fetch_add(1, SeqCst);
                }
                0
            })
        })
        .collect();
    children.into_iter().for_each(|pid| assert_eq!(wait_exit(pid), 0));
    assert_eq!(counters[0].load(SeqCst), 8000);
}

fn orphans_go_to_init() {
    let counters = sys::shared_counters(2);
    let parent = fork(|| {
        fork(|| {
            counters[0].store(std::os::unix::process::parent_id().into(), SeqCst);
            while u64::from(std::os::unix::process::parent_id()) == counters[0].load(SeqCst) {
                sys::sleep_ms(1);
            }
            counters[1].store(std::os::unix::process::parent_id().into(), SeqCst);
            0
        });
        while counters[0].load(SeqCst) == 0 {
            sys::sleep_ms(1);
        }
        0
    });
    assert_eq!(wait_exit(parent), 0);
    while counters[1].load(SeqCst) == 0 {
        sys::sleep_ms(1);
    }
    let adopted = counters[1].load(SeqCst);
    assert_ne!(adopted, counters[0].load(SeqCst));
    assert_ne!(
        adopted,
        u64::from(std::process::id()),
        "a grandchild is not handed to its grandparent"
    );
}

fn thousands_of_forks_lose_no_memory() {
    for round in 0..3000 {
        assert_eq!(wait_exit(fork(|| round % 251)), round % 251);
    }
}

fn vfork_and_clone_flags() {
    let counters = sys::shared_counters(1);
    // CLONE_VFORK alone: the parent goes on only after the child is gone.
    let flags = libc::CLONE_VFORK | libc::SIGCHLD;
    match syscall!(SYS_clone, flags, 0, 0, 0, 0).expect("clone") {
        0 => {
            sys::sleep_ms(50);
            counters[0].store(1, SeqCst);
            sys::exit(0);
        }
        pid => {
            assert_eq!(
                counters[0].load(SeqCst),
                1,
                "the parent of a vfork ran before its child ended"
            );
            assert_eq!(wait_exit(pid as i32), 0);
        }
    }
    // Sharing signal actions without memory, threads without actions: refused.
    assert_eq!(syscall!(SYS_clone, libc::CLONE_SIGHAND, 0, 0, 0, 0), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_clone, libc::CLONE_THREAD, 0, 0, 0, 0), Err(libc::EINVAL));
}

fn groups_and_sessions() {
    sys::in_child(|| {
        let own = std::process::id() as i32;
        assert_eq!(syscall!(SYS_setsid), Ok(own as usize));
        assert_eq!(syscall!(SYS_getpgid, 0), Ok(own as usize));
        assert_eq!(
            syscall!(SYS_setsid),
            Err(libc::EPERM),
            "a group leader makes no session"
        );
        assert_eq!(
            syscall!(SYS_setpgid, 0, 0),
            Err(libc::EPERM),
            "a session leader changes no group"
        );
        let (reader, writer) = sys::pipe(0);
        let child = fork(|| {
            let _ = sys::read(reader, &mut [0]);
            0
        });
        assert_eq!(syscall!(SYS_setpgid, child, child), Ok(0));
        assert_eq!(syscall!(SYS_getpgid, child), Ok(child as usize));
        assert_eq!(
            syscall!(SYS_setpgid, child, 999_999),
            Err(libc::EPERM),
            "no such group in the session"
        );
        assert_eq!(syscall!(SYS_setpgid, child, -5i32), Err(libc::EINVAL));
        assert_eq!(syscall!(SYS_setpgid, 1, 0), Err(libc::ESRCH), "no child of ours");
        assert_eq!(syscall!(SYS_getsid, child), Ok(own as usize));
        assert_eq!(sys::kill(-child, 0), Ok(0));
        sys::write(writer, b"x").expect("write");
        assert_eq!(wait_exit(child), 0);
        assert_eq!(
            sys::kill(-child, 0),
            Err(libc::ESRCH),
            "the group went with its last member"
        );
    });
}

fn the_process_limit_stops_a_fork_bomb() {
    sys::in_child(|| {
        // Root is above the limit: become somebody else first.
        syscall!(SYS_setresgid, 5555, 5555, 5555).expect("setresgid");
        syscall!(SYS_setresuid, 5555, 5555, 5555).expect("setresuid");
        let limit = libc::rlimit {
            rlim_cur: 20,
            rlim_max: 20,
        };
        syscall!(SYS_prlimit64, 0, libc::RLIMIT_NPROC, &raw const limit, 0).expect("prlimit64");
        let mut children = Vec::new();
        let refused = loop {
            match sys::try_fork(|| {
                sys::sleep_ms(60_000);
                0
            }) {
                Ok(pid) => children.push(pid),
                Err(error) => break error,
            }
            assert!(children.len() < 100, "no limit at all");
        };
        assert_eq!(refused, libc::EAGAIN);
        assert!(children.len() >= 15, "refused after {} already", children.len());
        for pid in children {
            let _ = sys::kill(pid, libc::SIGKILL);
            assert_eq!(sys::wait_killed(pid), libc::SIGKILL);
        }
    });
}

fn identity() {
    let own = std::process::id() as usize;
    assert_eq!(syscall!(SYS_getpid), Ok(own));
    assert_eq!(syscall!(SYS_gettid), Ok(own));
    let parent = own;
    sys::in_child(|| {
        assert_eq!(syscall!(SYS_getppid), Ok(parent));
        assert_ne!(syscall!(SYS_getpid), Ok(parent));
    });
    assert_eq!(sys::kill(own as i32, 0), Ok(0));
    assert_eq!(sys::kill(i32::MAX, 0), Err(libc::ESRCH));
    assert_eq!(sys::kill(own as i32, 65), Err(libc::EINVAL));
}
