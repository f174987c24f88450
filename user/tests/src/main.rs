//! The tests that run in user mode: ordinary Linux programs, all in one file.
//!
//! `tests run [word]…` runs every test (or those whose names contain a word), each in a process of its own with a time limit,
//! and reports. `tests <name>` runs one here. On Linux everything but what is Breenix's own is to pass as well
//! (`scripts/test --on-linux`): that is how the tests themselves are tested.
#![expect(unsafe_code, reason = "tests of the machine itself; raw calls are in `user_sys`")]

mod actions;
mod alternate;
mod arch;
mod barriers;
mod breenix;
mod capabilities;
mod costs;
mod cpu_clocks;
mod crowds;
mod epolls;
mod files;
mod floating;
mod futexes;
mod hostile;
mod intervals;
mod kcmps;
mod locks;
mod mappings;
mod memory;
mod messages;
mod moving;
mod mqueues;
mod nameless;
mod namespaces;
mod needs;
mod options;
mod pidfds;
mod pipes;
mod populating;
mod proc_files;
mod process;
mod process_vm;
mod programs;
mod ptraces;
mod real_time;
mod resolving;
mod runner;
mod sched;
mod seals;
mod seccomp;
mod segments;
mod semaphores;
mod sequences;
mod shares;
mod signalfds;
mod signals;
mod socket_messages;
mod socket_waits;
mod sockets;
mod sysv;
mod threads;
mod timerfds;
mod timers;
mod usage;
mod vdso;
mod xattrs;

use std::process::ExitCode;

use user_sys::{self as sys, syscall};

/// One test.
#[derive(Clone, Copy)]
pub struct Test {
    /// Its name, `group::what`.
    pub name: &'static str,
    /// Returns when all is well, panics otherwise.
    pub run: fn(),
    /// Seconds until it counts as hung.
    pub limit: u64,
    /// Where it means something.
    pub on: On,
    /// What it must leave as it was.
    pub leaves: Leaves,
}

/// Where a test means something.
#[derive(Clone, Copy)]
pub enum On {
    /// On any Linux.
    Any,
    /// On Breenix alone, for this reason.
    Breenix(&'static str),
    /// On Breenix, and on a Linux that has this.
    With(&'static needs::Need),
}

impl Test {
    /// Why it is not run on a Linux that is not ours, if it is not.
    fn left_out(&self) -> Option<&'static str> {
        match self.on {
            On::Any => None,
            On::Breenix(why) => Some(why),
            On::With(need) => (!(need.is_there)()).then_some(need.what),
        }
    }
}

/// What a test must leave as it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// Nothing is checked.
    Unchecked,
    /// Memory in use, to the last frame and heap object (checked on Breenix).
    Memory,
}

/// A table of tests: each a function's name, its limit in seconds `(60)`, and options: `[frees]` all memory that it takes,
/// `[breenix "why"]` makes sense on Breenix alone, `[needs NEED]` which of [`needs`] it takes where the kernel is not ours.
#[macro_export]
macro_rules! tests {
    ($group:literal: $($function:ident $(($limit:literal))? $([$option:ident $($value:tt)?])*;)*) => {
        /// The tests of this group.
        pub const TESTS: &[$crate::Test] = &[$({
            let test = $crate::Test {
                name: concat!($group, "::", stringify!($function)),
                run: $function,
                limit: 30,
                on: $crate::On::Any,
                leaves: $crate::Leaves::Unchecked,
            };
            $(let test = $crate::Test { limit: $limit, ..test };)?
            $(let test = $crate::tests!(@option test $option $($value)?);)*
            test
        }),*];
    };
    (@option $test:ident breenix $why:literal) => { $crate::Test { on: $crate::On::Breenix($why), ..$test } };
    (@option $test:ident needs $need:ident) => { $crate::Test { on: $crate::On::With(&$crate::needs::$need), ..$test } };
    (@option $test:ident frees) => { $crate::Test { leaves: $crate::Leaves::Memory, ..$test } };
}

/// All tests, in the order in which they run: what the later ones rely on comes first.
fn all() -> impl Iterator<Item = Test> {
    [
        process::TESTS,
        process_vm::TESTS,
        programs::TESTS,
        capabilities::calls::TESTS,
        capabilities::users::TESTS,
        capabilities::exec::TESTS,
        capabilities::files::TESTS,
        capabilities::permits::TESTS,
        mappings::TESTS,
        memory::TESTS,
        pipes::TESTS,
        nameless::TESTS,
        populating::TESTS,
        files::TESTS,
        locks::TESTS,
        sysv::TESTS,
        semaphores::TESTS,
        sequences::TESTS,
        seals::TESTS,
        segments::TESTS,
        messages::TESTS,
        moving::TESTS,
        mqueues::TESTS,
        signals::TESTS,
        actions::TESTS,
        alternate::TESTS,
        barriers::TESTS,
        timers::TESTS,
        cpu_clocks::TESTS,
        timerfds::TESTS,
        signalfds::TESTS,
        pidfds::TESTS,
        epolls::control::TESTS,
        epolls::edges::TESTS,
        epolls::waits::TESTS,
        sockets::TESTS,
        socket_waits::TESTS,
        socket_messages::TESTS,
        threads::TESTS,
        seccomp::programs::TESTS,
        seccomp::actions::TESTS,
        seccomp::inheriting::TESTS,
        futexes::waits::TESTS,
        futexes::locks::TESTS,
        futexes::requeue::TESTS,
        seccomp::listeners::TESTS,
        real_time::TESTS,
        ptraces::registers::TESTS,
        ptraces::calls::TESTS,
        ptraces::events::TESTS,
        ptraces::filters::TESTS,
        ptraces::steps::TESTS,
        ptraces::attaching::TESTS,
        resolving::TESTS,
        sched::TESTS,
        vdso::TESTS,
        xattrs::TESTS,
        floating::TESTS,
        proc_files::TESTS,
        shares::TESTS,
        namespaces::common::TESTS,
        namespaces::uts::TESTS,
        namespaces::ipc::TESTS,
        namespaces::net::TESTS,
        namespaces::time::TESTS,
        intervals::TESTS,
        hostile::TESTS,
        kcmps::TESTS,
        options::TESTS,
        costs::TESTS,
        crowds::TESTS,
        breenix::TESTS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        [] | ["list"] => {
            all().for_each(|test| println!("{}", test.name));
            ExitCode::SUCCESS
        }
        ["run", filters @ ..] => runner::run(filters),
        ["helper", name, rest @ ..] => programs::helper(name, rest),
        [name, ..] => match all().find(|test| test.name == *name) {
            Some(test) => {
                (test.run)();
                ExitCode::SUCCESS
            }
            None => {
                eprintln!("no test {name}");
                ExitCode::from(2)
            }
        },
    }
}
