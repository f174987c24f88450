//! Every flag and option that `kernel/options` lists, tried: what `docs/SYSCALLS.md` says of each is so, and of those that are in
//! no list too.
//!
//! A trial is a call with otherwise valid arguments ([`given`]) in a process of its own, which then ends. On a Linux that is not ours
//! what is missing here may do anything; all else must agree, or the list is wrong.

mod given;
mod place;

use std::{
    ffi::CString,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use options::{ABSENT, Arch, Choice, FAMILIES, Family, Group, Kind, Others, Place, Standing, Trial};

use self::{given::Given, place::Directory};
use crate::{runner, sys, syscall};

/// Milliseconds until a trial counts as hung.
const PATIENCE: u64 = 20_000;

const ARCH: Arch = if cfg!(target_arch = "x86_64") {
    Arch::X86_64
} else {
    Arch::Aarch64
};

crate::tests! { "options":
    every_family_is_tried;
    what_is_absent_says_so [breenix "there, Linux has them"];
    events (120);
    files (120);
    names (120);
    memory (120);
    processes (120);
    scheduling (120);
    signals_and_time (120);
    futexes (120);
    tracing (120);
    sockets (120);
    queues (120);
    system (120);
}

/// The tests below, by family.
const TRIED: &[&str] = &[
    "events",
    "files",
    "names",
    "memory",
    "processes",
    "scheduling",
    "signals and time",
    "futexes",
    "tracing",
    "sockets",
    "queues",
    "system",
];

fn every_family_is_tried() {
    let names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(names, TRIED);
}

fn what_is_absent_says_so() {
    for absent in ABSENT {
        if let Some(number) = absent.number.on(ARCH) {
            let made = sys::call(number.into(), &[usize::MAX; 6]);
            assert_eq!(made, Err(libc::ENOSYS), "{}", absent.name);
        }
    }
}

fn events() {
    family("events");
}

fn files() {
    family("files");
}

fn names() {
    family("names");
}

fn memory() {
    family("memory");
}

fn processes() {
    family("processes");
}

fn scheduling() {
    family("scheduling");
}

fn signals_and_time() {
    family("signals and time");
}

fn futexes() {
    family("futexes");
}

fn tracing() {
    family("tracing");
}

fn sockets() {
    family("sockets");
}

fn queues() {
    family("queues");
}

fn system() {
    family("system");
}

/// Tries all of a family, and says of everything that is not as it is written.
fn family(name: &str) {
    let family = FAMILIES.iter().find(|family| family.name == name).expect("a family");
    let ours = runner::breenix_build().is_some();
    let directory = Directory::new();
    let wrong: Vec<String> = family.groups.iter().flat_map(|group| try_group(group, ours)).collect();
    drop(directory);
    assert!(wrong.is_empty(), "{} of {name}:\n{}", wrong.len(), wrong.join("\n"));
    runner::note(&format!("{} choices", count(family)));
}

fn count(family: &Family) -> usize {
    family.groups.iter().map(|group| group.choices.len()).sum()
}

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The call came back.
    Made(Result<(), i32>),
    /// Its process ended before.
    Ended(i32),
    /// It did not come back.
    Hung,
}

fn try_group(group: &Group, ours: bool) -> Vec<String> {
    let Some(number) = group.number.on(ARCH) else {
        return Vec::new();
    };
    let number = i64::from(number);
    let mut wrong = Vec::new();
    for choice in group.choices {
        let Some(value) = choice.value.on(ARCH) else {
            continue;
        };
        let is_tried = match choice.trial {
            Trial::Both => true,
            Trial::Since(_) | Trial::Ours(_) => ours,
            Trial::Never(_) => false,
        };
        if !is_tried || !ours && matches!(choice.standing, Standing::Missing(_)) {
            continue;
        }
        let (outcomes, expected) = attempt(group, number, &[(choice.name, value)]);
        let wanted = wanted(group, choice, expected[0]);
        if outcomes[0] != Outcome::Made(wanted) && (ours || !is_absent(outcomes[0])) {
            wrong.push(format!(
                "{} {} {} ({value:#x}): {:?}, not {wanted:?}",
                group.call, group.what, choice.name, outcomes[0]
            ));
        }
    }
    let others: Vec<_> = others(group).into_iter().map(|value| ("", value)).collect();
    let refusal = match group.others {
        Others::Refused(errno) => Some(errno.number),
        Others::Ignored => None,
        Others::Untried(_) => return wrong,
    };
    let (outcomes, expected) = attempt(group, number, &others);
    for (((_, value), outcome), expected) in others.iter().zip(outcomes).zip(expected) {
        let wanted = refusal.map_or(expected, Err);
        if outcome != Outcome::Made(wanted) && (ours || !is_absent(outcome)) {
            wrong.push(format!(
                "{} {} {value:#x}, in no list: {outcome:?}, not {wanted:?}",
                group.call, group.what
            ));
        }
    }
    wrong
}

/// Whether a Linux does not have the call.
fn is_absent(outcome: Outcome) -> bool {
    outcome == Outcome::Made(Err(libc::ENOSYS))
}

/// What is to come of a choice.
fn wanted(group: &Group, choice: &Choice, expected: Result<(), i32>) -> Result<(), i32> {
    match choice.standing {
        Standing::Supported | Standing::Ignored => {
            if let (Others::Refused(errno), Err(expected)) = (group.others, expected) {
                assert_ne!(
                    errno.number, expected,
                    "{} {}: the trial cannot fail",
                    group.call, choice.name
                );
            }
            expected
        }
        Standing::Refused(errno) | Standing::Missing(errno) => Err(errno.number),
    }
}

/// Bits or values that are in no list.
fn others(group: &Group) -> Vec<u64> {
    let known: Vec<u64> = group
        .choices
        .iter()
        .filter_map(|choice| choice.value.on(ARCH))
        .collect();
    match group.kind {
        Kind::Flags(width) => {
            let bits = group.bits(ARCH);
            (0..width).map(|bit| 1 << bit).filter(|bit| bits & bit == 0).collect()
        }
        Kind::Values(width) => {
            let most = u64::MAX >> (64 - width);
            let last = known.iter().copied().max().unwrap_or(0);
            // Every gap of a short list.
            let near = if last < 64 { 0 } else { last };
            let mut values: Vec<u64> = (near..=last + 1).chain([most >> 1, most]).collect();
            values.retain(|value| !known.contains(value) && *value <= most);
            values
        }
        Kind::Names => vec![0],
    }
}

/// Makes calls in one process, each with one choice written over the arguments given; what came of each, and what was to be
/// expected if the choice is supported.
fn attempt(group: &Group, number: i64, tried: &[(&str, u64)]) -> (Vec<Outcome>, Vec<Result<(), i32>>) {
    let slots = sys::shared_counters(2 * tried.len().max(1));
    let child = sys::fork(|| {
        let _ = syscall!(SYS_setsid);
        for (index, &(name, value)) in tried.iter().enumerate() {
            let given = given::given(group, name);
            slots[2 * index + 1].store(encode(given.expected), Relaxed);
            let arguments = written(group, &given, name, value);
            let result = (given.call)(number, arguments);
            slots[2 * index].store(encode(result.map(|_| ())), Relaxed);
            if let Ok(value) = result {
                (given.undo)(value, arguments);
            }
        }
        0
    });
    let ended = end_of(child);
    let outcomes = (0..tried.len())
        .map(|index| match (decode(&slots[2 * index]), ended) {
            (Some(result), _) => Outcome::Made(result),
            (None, Some(status)) => Outcome::Ended(status),
            (None, None) => Outcome::Hung,
        })
        .collect();
    let expected = (0..tried.len())
        .map(|index| decode(&slots[2 * index + 1]).unwrap_or(Ok(())))
        .collect();
    let _ = syscall!(SYS_munmap, slots.as_ptr(), size_of_val(slots));
    (outcomes, expected)
}

/// A result as a word that is not 0.
fn encode(result: Result<(), i32>) -> u64 {
    1 + result.map_or_else(|errno| errno as u64, |()| 0)
}

fn decode(word: &AtomicU64) -> Option<Result<(), i32>> {
    match word.load(Relaxed) {
        0 => None,
        1 => Some(Ok(())),
        errno => Some(Err(errno as i32 - 1)),
    }
}

/// Waits for a process, and ends all of its session; its status, or none if it had to be killed.
fn end_of(child: i32) -> Option<i32> {
    let descriptor = syscall!(SYS_pidfd_open, child, 0).expect("pidfd_open") as i32;
    let in_time = sys::poll(descriptor, libc::POLLIN, PATIENCE) != 0;
    sys::close(descriptor);
    if !in_time {
        let _ = sys::kill(child, libc::SIGKILL);
    }
    let _ = sys::kill(-child, libc::SIGKILL);
    let (_, status) = sys::wait(child, 0).expect("wait4");
    in_time.then_some(status)
}

/// The arguments with a choice in its place.
fn written(group: &Group, given: &Given, name: &str, value: u64) -> [usize; 6] {
    let mut arguments = given.arguments;
    let (word, offset) = match group.place {
        Place::Argument(argument) => (&raw mut arguments[argument], 0),
        Place::Field { argument, offset } => (arguments[argument] as *mut usize, offset),
    };
    let place = word.cast::<u8>().wrapping_add(offset);
    // SAFETY: an argument of ours, or a structure that `given` has made for this call and that is long enough.
    unsafe {
        match group.kind {
            Kind::Flags(64) => *place.cast::<u64>() |= value,
            Kind::Flags(_) => *place.cast::<u32>() |= value as u32,
            Kind::Values(64) => *place.cast::<u64>() = value,
            Kind::Values(16) => *place.cast::<u16>() = value as u16,
            Kind::Values(_) => *place.cast::<u32>() = value as u32,
            Kind::Names => {
                let name = if name.is_empty() { "nosuch" } else { name };
                *place.cast::<usize>() = CString::new(name).expect("a name").into_raw() as usize;
            }
        }
    }
    arguments
}
