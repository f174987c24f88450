//! Of tracing and filters.

use options::Group;

use super::{Given, with};
use crate::{
    options::place::{kept, room, words},
    sys::{self, fork},
    syscall,
};

/// What goes with a choice of these.
pub fn given(group: &Group, choice: &str) -> Option<Given> {
    Some(match (group.call, group.what) {
        ("ptrace", "request") => request(choice),
        ("ptrace", "options") => with([libc::PTRACE_SETOPTIONS as usize, stopped()]),
        ("ptrace", _) => with([
            libc::PTRACE_PEEKSIGINFO as usize,
            stopped(),
            words(&[0, 1 << 32]),
            room(),
        ]),
        ("seccomp", "operation") => match choice {
            "SECCOMP_SET_MODE_FILTER" => with([0, 0, filter()]),
            "SECCOMP_SET_MODE_STRICT" => with([0]),
            _ => with([0, 0, room()]),
        },
        ("seccomp", "flags") => {
            let beside = if choice == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" {
                8
            } else {
                0
            };
            with([1, beside, filter()])
        }
        ("seccomp", _) => with([2, 0, room()]),
        ("prctl", "mode of PR_SET_SECCOMP") => with([libc::PR_SET_SECCOMP as usize, 0, filter()]),
        _ => return None,
    })
}

/// A `struct sock_fprog` of a filter that allows everything.
fn filter() -> usize {
    // BPF_RET | BPF_K, SECCOMP_RET_ALLOW.
    let program = words(&[0x7fff_0000_0000_0006]);
    words(&[1, program as u64])
}

/// A child that is traced and stands.
fn stopped() -> usize {
    let child = fork(|| {
        syscall!(SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0).expect("PTRACE_TRACEME");
        syscall!(SYS_kill, std::process::id(), libc::SIGSTOP).expect("kill");
        0
    });
    let (_, status) = sys::wait(child, libc::WUNTRACED).expect("wait4");
    assert!(libc::WIFSTOPPED(status));
    child as usize
}

/// A child that waits for a signal.
fn running() -> usize {
    fork(|| {
        loop {
            let _ = syscall!(SYS_ppoll, 0, 0, 0, 0);
        }
    }) as usize
}

/// A child that is seized and stands.
fn seized() -> usize {
    let child = running();
    syscall!(SYS_ptrace, 0x4206, child, 0, 0).expect("PTRACE_SEIZE");
    child
}

fn request(choice: &str) -> Given {
    // A word of the parent's and child's memory alike.
    let word = kept([0_u64; 64]);
    let siginfo = room();
    match choice {
        "PTRACE_TRACEME" => with([0]),
        "PTRACE_ATTACH" | "PTRACE_SEIZE" => with([0, running(), 0, 0]),
        "PTRACE_INTERRUPT" => with([0, seized(), 0, 0]),
        // It stands for no group's stop.
        "PTRACE_LISTEN" => {
            let child = seized();
            syscall!(SYS_kill, child, libc::SIGSTOP).expect("kill");
            // Its delivery, then the stop itself.
            sys::wait(child as i32, 0x4000_0000).expect("wait4");
            syscall!(SYS_ptrace, libc::PTRACE_CONT, child, 0, libc::SIGSTOP).expect("PTRACE_CONT");
            sys::wait(child as i32, 0x4000_0000).expect("wait4");
            with([0, child, 0, 0])
        }
        "PTRACE_CONT"
        | "PTRACE_SINGLESTEP"
        | "PTRACE_DETACH"
        | "PTRACE_SYSCALL"
        | "PTRACE_SYSEMU"
        | "PTRACE_SYSEMU_SINGLESTEP"
        | "PTRACE_SINGLEBLOCK"
        | "PTRACE_KILL"
        | "PTRACE_SETOPTIONS"
        | "PTRACE_OLDSETOPTIONS" => with([0, stopped(), 0, 0]),
        "PTRACE_PEEKUSER" | "PTRACE_POKEUSER" => with([0, stopped(), 0, word]),
        "PTRACE_GETREGSET" => with([0, stopped(), 1, kept([room(), 4096])]),
        "PTRACE_SETREGSET" | "PTRACE_SETREGS" => {
            let child = stopped();
            let registers = room();
            let run = kept([registers, 4096]);
            syscall!(SYS_ptrace, libc::PTRACE_GETREGSET, child, 1, run).expect("PTRACE_GETREGSET");
            with([0, child, 1, if choice == "PTRACE_SETREGS" { registers } else { run }])
        }
        "PTRACE_SETFPREGS" => {
            let child = stopped();
            let registers = room();
            syscall!(SYS_ptrace, libc::PTRACE_GETREGSET, child, 2, kept([registers, 4096])).expect("PTRACE_GETREGSET");
            with([0, child, 0, registers])
        }
        "PTRACE_SETSIGINFO" => {
            let child = stopped();
            syscall!(SYS_ptrace, libc::PTRACE_GETSIGINFO, child, 0, siginfo).expect("PTRACE_GETSIGINFO");
            with([0, child, 0, siginfo])
        }
        "PTRACE_PEEKSIGINFO" => with([0, stopped(), words(&[0, 1 << 32]), siginfo]),
        "PTRACE_GETSIGMASK" | "PTRACE_SETSIGMASK" => with([0, stopped(), 8, word]),
        // It has none.
        "PTRACE_SECCOMP_GET_FILTER" => with([0, stopped(), 0, word]).fails(libc::EINVAL),
        "PTRACE_SECCOMP_GET_METADATA" => with([0, stopped(), 16, word]).fails(libc::EINVAL),
        "PTRACE_GET_SYSCALL_INFO" => with([0, stopped(), 88, room()]),
        _ => with([0, stopped(), word, room()]),
    }
}
