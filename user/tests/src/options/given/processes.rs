//! Of calls about processes, and who runs when.

use options::Group;

use super::{Given, with};
use crate::{
    options::place::{kept, room, text, words},
    sys, syscall,
};

fn own() -> usize {
    std::process::id() as usize
}

/// What goes with a choice of these.
pub fn given(group: &Group, choice: &str) -> Option<Given> {
    Some(match (group.call, group.what) {
        ("clone", _) => {
            let flags = beside(choice);
            with([flags, 0, room(), room(), room()]).by(sys::make_and_exit)
        }
        ("clone3", _) => {
            let [flags, descriptor, child, parent, tls] = [beside(choice), room(), room(), room(), room()];
            let (signal, descriptor) = match choice {
                // It is an end that nobody is told of.
                "CLONE_THREAD" | "CLONE_PARENT" => (0, descriptor),
                _ => (libc::SIGCHLD as u64, descriptor),
            };
            let [flags, descriptor, child, parent, tls] =
                [flags, descriptor, child, parent, tls].map(|word| word as u64);
            let arguments = words(&[flags, descriptor, child, parent, signal, 0, 0, tls, 0, 0, 0]);
            with([arguments, 88]).by(sys::make_and_exit)
        }
        ("unshare", _) => with([0]),
        ("wait4", _) => with([usize::MAX, 0, libc::WNOHANG as usize]).fails(libc::ECHILD),
        ("waitid", "options") => match choice {
            "WEXITED" | "WSTOPPED" | "WCONTINUED" => with([0, 0, room(), libc::WNOHANG as usize]),
            _ => with([0, 0, room(), (libc::WNOHANG | libc::WEXITED) as usize]),
        }
        .fails(libc::ECHILD),
        ("waitid", _) => {
            let whom = match choice {
                "P_PIDFD" => syscall!(SYS_pidfd_open, own(), 0).expect("pidfd_open"),
                _ => own(),
            };
            with([0, whom, room(), (libc::WNOHANG | libc::WEXITED) as usize]).fails(libc::ECHILD)
        }
        // Where it is already.
        ("setns", _) => with([syscall!(SYS_pidfd_open, own(), 0).expect("pidfd_open"), 0]),
        ("pidfd_open", _) => with([own()]),
        ("pidfd_send_signal", _) => with([syscall!(SYS_pidfd_open, own(), 0).expect("pidfd_open"), 0]),
        ("pidfd_getfd", _) => with([syscall!(SYS_pidfd_open, own(), 0).expect("pidfd_open"), 1]),
        ("prctl", "operation") => operation(choice),
        ("prctl", "of PR_CAP_AMBIENT") => {
            // CAP_CHOWN, which has to be inheritable before it can be ambient.
            let header = kept([0x2008_0522_u32, 0]);
            let sets = kept([0_u32; 6]);
            syscall!(SYS_capget, header, sets).expect("capget");
            // SAFETY: the six words above.
            unsafe { *(sets as *mut u32).add(2) |= 1 };
            syscall!(SYS_capset, header, sets).expect("capset");
            with([libc::PR_CAP_AMBIENT as usize])
        }
        ("prctl", "of PR_SET_SECUREBITS") => with([libc::PR_SET_SECUREBITS as usize]),
        ("arch_prctl", _) => {
            let base = kept(0_usize);
            match choice {
                "ARCH_SET_FS" => with([0, sys::thread_pointer()]),
                "ARCH_SET_GS" => with([0, 0]),
                _ => with([0, base]),
            }
        }
        ("personality", _) => with([0]),
        ("kcmp", _) => match choice {
            "KCMP_EPOLL_TFD" => {
                let epoll = syscall!(SYS_epoll_create1, 0).expect("epoll_create1") as u32;
                let pipe = sys::pipe(0).0;
                let event = words(&[libc::EPOLLIN as u64]);
                syscall!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, pipe, event).expect("epoll_ctl");
                with([own(), own(), 0, pipe as usize, kept([epoll, pipe as u32, 0])])
            }
            _ => with([own(), own(), 0, 1, 1]),
        },
        ("rseq", _) => {
            const SIGNATURE: usize = 0x5305_3053;
            let area = room().next_multiple_of(32);
            if choice == "RSEQ_FLAG_UNREGISTER" {
                syscall!(SYS_rseq, area, 32, 0, SIGNATURE).expect("rseq");
            }
            with([area, 32, 0, SIGNATURE])
        }
        ("capget", _) => with([kept([0_u32, 0]), room()]),
        ("prlimit64", _) => with([0, 0, 0, room()]),
        ("getrusage", _) => with([0, room()]),
        ("sched_setscheduler", _) => {
            let priority = u32::from(matches!(choice, "SCHED_FIFO" | "SCHED_RR"));
            with([0, 0, kept([priority])])
        }
        ("sched_setattr", _) => {
            let priority = u64::from(matches!(choice, "SCHED_FIFO" | "SCHED_RR"));
            let deadline = if choice == "SCHED_DEADLINE" {
                [1_000_000, 10_000_000, 10_000_000]
            } else {
                [0; 3]
            };
            let [runtime, deadline, period] = deadline;
            let attributes = words(&[56, 0, priority << 32, runtime, deadline, period, 0]);
            with([0, attributes])
        }
        ("sched_getattr", _) => with([0, room(), 56]),
        ("sched_get_priority_max", _) => with([0]),
        ("getpriority" | "setpriority" | "ioprio_get", _) => with([0, 0, 0]),
        ("ioprio_set", _) => with([1, 0]),
        _ => return None,
    })
}

/// The flags that another asks for, and a signal.
fn beside(choice: &str) -> usize {
    let flags = match choice {
        "CLONE_SIGHAND" => libc::CLONE_VM,
        "CLONE_THREAD" => libc::CLONE_VM | libc::CLONE_SIGHAND,
        _ => 0,
    };
    flags as usize
}

fn operation(choice: &str) -> Given {
    let whole = |a: [usize; 4]| with([0, a[0], a[1], a[2], a[3]]);
    match choice {
        "PR_GET_PDEATHSIG" | "PR_GET_NAME" | "PR_GET_CHILD_SUBREAPER" | "PR_GET_TSC" | "PR_GET_TID_ADDRESS" => {
            whole([room(), 0, 0, 0])
        }
        "PR_SET_NAME" => whole([text("options"), 0, 0, 0]),
        "PR_SET_DUMPABLE" | "PR_SET_NO_NEW_PRIVS" | "PR_SET_TSC" => whole([1, 0, 0, 0]),
        "PR_SET_SECCOMP" => whole([1, 0, 0, 0]),
        "PR_CAP_AMBIENT" => whole([4, 0, 0, 0]),
        _ => whole([0; 4]),
    }
}
