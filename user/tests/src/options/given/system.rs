//! Of the machine, epolls and terminals.

use options::Group;

use super::{Given, with};
use crate::{
    options::place::{HERE, descriptor, kept, pipe, room, text, words},
    syscall,
};

/// What goes with a choice of these.
pub fn given(group: &Group, choice: &str) -> Option<Given> {
    Some(match (group.call, group.what) {
        ("reboot", _) => with([0xfee1_dead, 0x2812_1969]).undone(|_, _| {
            // As it was.
            let _ = syscall!(SYS_reboot, 0xfee1_dead_u32, 0x2812_1969, 0x89ab_cdef_u32, 0);
        }),
        ("syslog", _) => with([0, room(), 4096]),
        ("epoll_ctl", what) => {
            let epoll = syscall!(SYS_epoll_create1, 0).expect("epoll_create1");
            let watched = pipe().0;
            if matches!(choice, "EPOLL_CTL_DEL" | "EPOLL_CTL_MOD") {
                syscall!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, watched, room()).expect("EPOLL_CTL_ADD");
            }
            let operation = if what == "events" {
                libc::EPOLL_CTL_ADD as usize
            } else {
                0
            };
            with([epoll, operation, watched, room()])
        }
        ("ioctl", "of a terminal") => with([terminal(), 0, of_a_terminal(choice)]),
        ("ioctl", _) => with([descriptor(), 0, room()]),
        _ => return None,
    })
}

/// The console, which is not to be the tests' controlling terminal.
fn terminal() -> usize {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK;
    syscall!(SYS_openat, HERE, text("/dev/console"), flags).expect("the console")
}

/// Mostly what the terminal has already.
fn of_a_terminal(choice: &str) -> usize {
    let told = |request: usize| {
        let told = room();
        // Where it cannot be told it cannot be set either, which is what is tried.
        let _ = syscall!(SYS_ioctl, terminal(), request, told);
        told
    };
    match choice {
        "TCSETS" | "TCSETSW" | "TCSETSF" => told(0x5401),
        "TCSETA" | "TCSETAW" | "TCSETAF" => told(0x5405),
        "TCSETS2" => told(0x802c_542a),
        "TIOCSWINSZ" => told(0x5413),
        // It waits for what has been written.
        "TCSBRK" => 1,
        // TCOON.
        "TCXONC" => 1,
        "TIOCSSOFTCAR" => kept(1),
        _ => words(&[0]),
    }
}
