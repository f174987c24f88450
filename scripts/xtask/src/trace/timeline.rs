//! From records to slices: what each CPU did from when to when, one within the other, and which wake led to which poll.
//!
//! Every slice has an end: what was still going on when the trace ended ends with it. What had begun before it begins with
//! it, or with the CPU's oldest record, if older ones were overwritten. A call that waits is a slice in each of the polls it
//! takes.

mod build;

use self::build::Builder;
use super::dump::{Cpu, Dump, Event, Record};

/// What a CPU does in a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A task is polled.
    Poll,
    /// The executor is at work between polls. Only where it wakes somebody.
    Executor,
    /// Nothing: it sleeps.
    Idle,
    /// In user mode.
    User,
    /// A system call is made.
    Call,
    /// A page is brought in, or whatever else becomes of a fault, up to the next time in user mode or the poll's end.
    Fault,
    /// An interrupt is dealt with.
    Interrupt,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Poll,
        Self::Executor,
        Self::Idle,
        Self::User,
        Self::Call,
        Self::Fault,
        Self::Interrupt,
    ];

    /// In a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Executor => "executor",
            Self::Idle => "idle",
            Self::User => "user",
            Self::Call => "call",
            Self::Fault => "fault",
            Self::Interrupt => "interrupt",
        }
    }
}

/// What a CPU did from when to when. Times are nanoseconds since the trace began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub cpu: u32,
    pub kind: Kind,
    pub name: String,
    pub begin: u64,
    pub end: u64,
    /// How many slices it lies in.
    pub depth: usize,
    /// What else is known: names and values.
    pub facts: Vec<(&'static str, String)>,
}

/// A wake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    pub cpu: u32,
    pub at: u64,
    /// The name of who is woken, if it was ever polled.
    pub name: String,
    /// Who wakes: a task's name, or what else.
    pub by: String,
    /// The CPU and the time of the poll that it led to: none if another wake had come before it, or the trace ended.
    pub poll: Option<(u32, u64)>,
}

/// What all CPUs did.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The CPUs.
    pub cpus: Vec<u32>,
    /// By beginning; what lies within comes after what it lies in.
    pub slices: Vec<Slice>,
    /// By time.
    pub wakes: Vec<Wake>,
    /// When it began, in nanoseconds since boot.
    pub began: u64,
    /// How long it is, in nanoseconds.
    pub length: u64,
    /// Records that were lost.
    pub lost: u64,
}

impl Timeline {
    /// Makes sense of the records.
    pub fn new(dump: &Dump) -> Self {
        let records = merge(dump);
        let mut builder = Builder::new(dump, &records);
        for (index, record) in records {
            builder.add(index, record);
        }
        builder.finish()
    }
}

/// All records in the order in which they happened, each with the index of its CPU. At one time wakes come first, so that
/// none comes after the poll that it leads to; each CPU's own keep their order.
fn merge(dump: &Dump) -> Vec<(usize, &Record)> {
    let mut queues: Vec<_> = dump
        .cpus
        .iter()
        .map(|cpu| in_order(cpu).into_iter().peekable())
        .collect();
    let mut merged = Vec::new();
    loop {
        let heads = queues.iter_mut().enumerate().filter_map(|(index, queue)| {
            let record = queue.peek()?;
            Some((record.at, !matches!(record.event, Event::Woken { .. }), index))
        });
        let Some((_, _, index)) = heads.min() else { break };
        merged.extend(queues[index].next().map(|record| (index, record)));
    }
    merged
}

/// One CPU's records by time. Where the clock is too coarse to tell, an interrupt's wakes, which are written before it, lie
/// within it; and what was interrupted just before it was written is known by its being none that an interrupt makes.
fn in_order(cpu: &Cpu) -> Vec<&Record> {
    let mut records: Vec<&Record> = cpu.records.iter().collect();
    records.sort_by_key(|record| record.at);
    let mut began = None;
    for index in 0..records.len() {
        let record = records[index];
        match record.event {
            Event::InterruptBegan => {
                let is_its = |wake: &&&Record| {
                    wake.at == record.at && matches!(wake.event, Event::Woken { in_interrupt: true, .. })
                };
                let start = index - records[..index].iter().rev().take_while(is_its).count();
                records[start..=index].rotate_right(1);
                began = Some(start);
            }
            Event::InterruptEnded(_) => began = None,
            Event::Woken { .. } => {}
            _ => {
                if let Some(start) = began.filter(|start| records[*start].at == record.at) {
                    records[start..=index].rotate_right(1);
                    began = Some(start + 1);
                }
            }
        }
    }
    records
}

#[cfg(test)]
mod tests;
