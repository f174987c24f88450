//! The flags and options of system calls, and what becomes of each: the one list from which `docs/SYSCALLS.md` is made, and
//! which the test programs (`user/tests/src/options`) try in a guest.
//!
//! Values are Linux's (`include/uapi`), and what is told is told of calls whose other arguments are valid.
#![no_std]
#![forbid(unsafe_code)]

mod errno;
#[macro_use]
mod list;

mod absent;
mod events;
mod files;
mod futexes;
mod memory;
mod names;
mod processes;
mod queues;
mod scheduling;
mod signals;
mod sockets;
mod system;
mod tracing;

pub use absent::{ABSENT, Absent};
pub use errno::Errno;

/// The machines whose values may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86_64.
    X86_64,
    /// aarch64.
    Aarch64,
}

/// Something that differs between the machines, or that one does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Each<T> {
    /// On x86_64.
    pub x86_64: Option<T>,
    /// On aarch64.
    pub aarch64: Option<T>,
}

impl<T: Copy> Each<T> {
    /// What it is there.
    pub const fn on(&self, arch: Arch) -> Option<T> {
        match arch {
            Arch::X86_64 => self.x86_64,
            Arch::Aarch64 => self.aarch64,
        }
    }
}

/// What becomes of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does what it does on Linux.
    Supported,
    /// It is taken, and nothing comes of it that would on Linux.
    Ignored,
    /// It is refused, as on Linux 6.1 configured as distributions do.
    Refused(Errno),
    /// Linux has it; here this is the answer.
    Missing(Errno),
}

/// How far the tests go with a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It is tried on either kernel.
    Both,
    /// It is tried on ours: Linux has it since this version.
    Since(&'static str),
    /// It is tried on ours: what Linux answers depends on this.
    Ours(&'static str),
    /// It cannot be tried, for this reason.
    Never(&'static str),
}

/// A flag, a command, a name.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Linux's name.
    pub name: &'static str,
    /// Its value, where the machine has it.
    pub value: Each<u64>,
    /// What becomes of it.
    pub standing: Standing,
    /// How it is tried.
    pub trial: Trial,
    /// What else there is to say; may be empty.
    pub note: &'static str,
}

/// Where a choice is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In an argument (the first is 0).
    Argument(usize),
    /// In the structure to which an argument points.
    Field {
        /// The argument.
        argument: usize,
        /// Bytes from the structure's start.
        offset: usize,
    },
}

/// What the choices of a group are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bits of a word of so many: each is tried beside what is there already.
    Flags(u32),
    /// Values of a word of so many bits, one at a time.
    Values(u32),
    /// Names: a pointer to a string is written.
    Names,
}

/// What becomes of bits and values that are in no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They are refused.
    Refused(Errno),
    /// Nothing comes of them.
    Ignored,
    /// That is not tried, for this reason.
    Untried(&'static str),
}

/// Choices that a call offers in one place.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The call.
    pub call: &'static str,
    /// Its number, as in the kernel's table.
    pub number: Each<u16>,
    /// Which of its arguments, or parts of it.
    pub what: &'static str,
    /// Where it is written.
    pub place: Place,
    /// How.
    pub kind: Kind,
    /// What is in no list.
    pub others: Others,
    /// The list.
    pub choices: &'static [Choice],
}

impl Group {
    /// All bits of the choices that a machine has.
    pub fn bits(&self, arch: Arch) -> u64 {
        let values = self.choices.iter().filter_map(|choice| choice.value.on(arch));
        values.fold(0, |bits, value| bits | value)
    }
}

/// Groups of calls that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// What they are about.
    pub name: &'static str,
    /// The groups.
    pub groups: &'static [Group],
}

/// Every group.
pub const FAMILIES: &[Family] = &[
    events::FAMILY,
    files::FAMILY,
    names::FAMILY,
    memory::FAMILY,
    processes::FAMILY,
    scheduling::FAMILY,
    signals::FAMILY,
    futexes::FAMILY,
    tracing::FAMILY,
    sockets::FAMILY,
    queues::FAMILY,
    system::FAMILY,
];
