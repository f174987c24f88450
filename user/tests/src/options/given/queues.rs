//! Of semaphores and queues of messages.

use options::Group;

use super::{Given, with};
use crate::{
    options::place::{fresh, kept, room, text, words},
    sys::{self, Sys},
    syscall,
};

/// What goes with a choice of these.
pub fn given(group: &Group, choice: &str) -> Option<Given> {
    let key = 0x6f70_0000 + std::process::id() as usize;
    Some(match (group.call, group.what) {
        ("semget", _) => match choice {
            "IPC_EXCL" => with([key, 1, 0x200 | 0o600]),
            "IPC_CREAT" => with([key, 1, 0o600]),
            _ => with([0, 1, 0o600]),
        }
        .undone(|id, _| remove_set(id)),
        ("semctl", _) => {
            let id = set();
            let argument = match choice {
                "IPC_SET" => {
                    let now = room();
                    syscall!(SYS_semctl, id, 0, libc::IPC_STAT, now).expect("IPC_STAT");
                    now
                }
                "SETVAL" => 1,
                _ => room(),
            };
            let at = if choice.starts_with("SEM_STAT") {
                id & 0x7fff
            } else {
                id
            };
            with([at, 0, 0, argument, id]).by(on_a_set)
        }
        ("semop", _) => {
            // One is added.
            let operation = kept([0_u16, 1, 0, 0, 0, 0]);
            let id = set();
            with([id, operation, 1, 0, id]).by(on_a_set)
        }
        ("msgget", _) => match choice {
            "IPC_EXCL" => with([key, 0x200 | 0o600]),
            "IPC_CREAT" => with([key, 0o600]),
            _ => with([0, 0o600]),
        }
        .undone(|id, _| remove_queue(id)),
        ("msgctl", _) => {
            let id = queue();
            let argument = room();
            if choice == "IPC_SET" {
                syscall!(SYS_msgctl, id, libc::IPC_STAT, argument).expect("IPC_STAT");
            }
            let at = if choice.starts_with("MSG_STAT") {
                id & 0x7fff
            } else {
                id
            };
            with([at, 0, argument, 0, 0, id]).by(on_a_queue)
        }
        ("msgsnd", _) => {
            let id = queue();
            with([id, words(&[1, 0]), 8, 0, 0, id]).by(on_a_queue)
        }
        ("msgrcv", _) => {
            let id = queue();
            syscall!(SYS_msgsnd, id, words(&[1, 0]), 8, 0).expect("msgsnd");
            let (kind, beside) = match choice {
                "MSG_EXCEPT" => (2, 0),
                "MSG_COPY" => (0, libc::IPC_NOWAIT as usize),
                _ => (0, 0),
            };
            with([id, room(), 8, kind, beside, id]).by(on_a_queue)
        }
        ("mq_open", _) => {
            let name = text(&fresh("options"));
            let flags = match choice {
                "O_CREAT" => 0,
                "O_EXCL" => libc::O_CREAT as usize,
                _ => {
                    let queue = syscall!(SYS_mq_open, name, libc::O_CREAT, 0o600, 0).expect("mq_open");
                    sys::close(queue as i32);
                    0
                }
            };
            with([name, flags, 0o600])
                .by(and_unlink)
                .undone(|queue, _| sys::close(queue as i32))
        }
        ("mq_getsetattr", _) => with([open_queue(), room(), 0]).by(and_close),
        // For a thread: what it is to be told, and no socket.
        ("mq_notify", _) if choice == "SIGEV_THREAD" => with([open_queue(), words(&[room() as u64, u64::MAX >> 32])]),
        ("mq_notify", _) => with([open_queue(), words(&[0, libc::SIGUSR1 as u64])]).by(and_close),
        _ => return None,
    })
}

fn set() -> usize {
    syscall!(SYS_semget, libc::IPC_PRIVATE, 1, 0o600).expect("semget")
}

fn remove_set(id: usize) {
    let _ = syscall!(SYS_semctl, id, 0, libc::IPC_RMID, 0);
}

/// A call on a set that goes afterwards: what it is stands behind the arguments.
fn on_a_set(number: i64, arguments: [usize; 6]) -> Sys {
    let result = sys::call(number, &arguments);
    remove_set(arguments[4]);
    result
}

fn queue() -> usize {
    syscall!(SYS_msgget, libc::IPC_PRIVATE, 0o600).expect("msgget")
}

fn remove_queue(id: usize) {
    let _ = syscall!(SYS_msgctl, id, libc::IPC_RMID, 0);
}

fn on_a_queue(number: i64, arguments: [usize; 6]) -> Sys {
    let result = sys::call(number, &arguments);
    remove_queue(arguments[5]);
    result
}

fn and_unlink(number: i64, arguments: [usize; 6]) -> Sys {
    let result = sys::call(number, &arguments);
    let _ = syscall!(SYS_mq_unlink, arguments[0]);
    result
}

/// Users may have few queues at once.
fn and_close(number: i64, arguments: [usize; 6]) -> Sys {
    let result = sys::call(number, &arguments);
    sys::close(arguments[0] as i32);
    result
}

/// A queue of POSIX's that has no name any more.
fn open_queue() -> usize {
    let name = text(&fresh("options"));
    let queue = syscall!(SYS_mq_open, name, libc::O_CREAT | libc::O_RDWR, 0o600, 0).expect("mq_open");
    syscall!(SYS_mq_unlink, name).expect("mq_unlink");
    queue
}
