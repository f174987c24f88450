//! The other arguments of each call: valid ones.

mod files;
mod futexes;
mod memory;
mod names;
mod processes;
mod queues;
mod sockets;
mod system;
mod times;
mod tracing;

use options::Group;

use super::place::{NOWHERE, pipe, room, words};
use crate::{
    sys::{self, Sys},
    syscall,
};

/// A call that is to be made but for the choice.
pub struct Given {
    /// What the choice is written over.
    pub arguments: [usize; 6],
    /// What comes of the call with a supported choice.
    pub expected: Result<(), i32>,
    /// How it is made.
    pub call: fn(i64, [usize; 6]) -> Sys,
    /// Takes back what a successful call has done that outlives the process, by what it gave.
    pub undo: fn(usize, [usize; 6]),
}

impl Given {
    /// Is to fail.
    fn fails(self, errno: i32) -> Self {
        Self {
            expected: Err(errno),
            ..self
        }
    }

    /// Is made in another way.
    fn by(self, call: fn(i64, [usize; 6]) -> Sys) -> Self {
        Self { call, ..self }
    }

    /// Is taken back.
    fn undone(self, undo: fn(usize, [usize; 6])) -> Self {
        Self { undo, ..self }
    }
}

fn plain(number: i64, arguments: [usize; 6]) -> Sys {
    sys::call(number, &arguments)
}

/// A call that is to succeed and leaves nothing behind.
fn with<const N: usize>(first: [usize; N]) -> Given {
    let mut arguments = [0; 6];
    arguments[..N].copy_from_slice(&first);
    Given {
        arguments,
        expected: Ok(()),
        call: plain,
        undo: |_, _| {},
    }
}

/// What goes with a choice of a group; an empty name is one that is in no list.
pub fn given(group: &Group, choice: &str) -> Given {
    let given = events(group)
        .or_else(|| files::given(group, choice))
        .or_else(|| names::given(group, choice))
        .or_else(|| memory::given(group, choice))
        .or_else(|| processes::given(group, choice))
        .or_else(|| times::given(group, choice))
        .or_else(|| tracing::given(group, choice))
        .or_else(|| futexes::given(group, choice))
        .or_else(|| sockets::given(group, choice))
        .or_else(|| queues::given(group, choice))
        .or_else(|| system::given(group, choice));
    given.unwrap_or_else(|| panic!("nothing is given for {} {}", group.call, group.what))
}

fn events(group: &Group) -> Option<Given> {
    Some(match group.call {
        "eventfd2" | "timerfd_create" | "epoll_create1" => with([0]),
        "signalfd4" => with([NOWHERE, words(&[1 << 9]), 8]),
        "timerfd_settime" => {
            let timer = syscall!(SYS_timerfd_create, libc::CLOCK_REALTIME, 0).expect("timerfd_create");
            with([timer, 0, words(&[0, 0, 1 << 40]), 0])
        }
        "pipe2" => with([room()]),
        "dup3" => with([pipe().0, 100]),
        _ => return None,
    })
}
