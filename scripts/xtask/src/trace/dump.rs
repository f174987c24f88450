//! What `/proc/breenix/trace` says, read back. The format: docs/TRACING.md.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;

/// The first line's first words, and the last line's.
pub const HEAD: &str = "BREENIX-TRACE 1 ";
const END: &str = "BREENIX-TRACE-END ";

/// Why user mode ends that goes on after a fault.
pub const PAGE_FAULT: &str = "page fault";

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A poll begins.
    PollBegan { task: u64, name: String },
    /// It ends, and the task perhaps with it.
    PollEnded { task: u64, finished: bool },
    /// A task is woken, by another one (0: by none) or in an interrupt.
    Woken { task: u64, by: u64, in_interrupt: bool },
    /// An interrupt is taken.
    InterruptBegan,
    /// It has been dealt with; its source.
    InterruptEnded(String),
    /// A thread enters user mode.
    UserBegan { tid: u64 },
    /// It has come back; why.
    UserEnded(&'static str),
    /// A thread makes a call.
    CallBegan { number: u64, tid: u64 },
    /// The call returns.
    CallEnded { result: i64 },
    /// The CPU goes to sleep.
    IdleBegan,
    /// It wakes up.
    IdleEnded,
}

/// What happened, where and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds since boot.
    pub at: u64,
    /// What.
    pub event: Event,
}

/// One CPU's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub number: u32,
    /// Those that were overwritten, or were being written.
    pub lost: u64,
    /// In the order in which they were written, which is nearly that of their times.
    pub records: Vec<Record>,
}

/// A whole trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// By number.
    pub cpus: Vec<Cpu>,
    /// Names of calls.
    pub calls: BTreeMap<u64, String>,
}

impl Dump {
    /// Reads the trace that stands somewhere in what a guest said.
    ///
    /// # Errors
    /// There is none, or a part of it is missing or makes no sense.
    pub fn parse(text: &str) -> Result<Self> {
        let begin = text
            .find(HEAD)
            .context("the guest printed no trace (scripts/run shows what it says)")?;
        let mut lines = text[begin..].lines().map(str::trim_end);
        let head = lines.next().unwrap_or_default();
        let counts = head[HEAD.len()..].split_whitespace().collect::<Vec<_>>();
        let ["cpus", cpus, "calls", calls] = counts[..] else {
            bail!("what is {head:?}?");
        };
        let mut next = || lines.next().context("the trace ends in the middle: it was cut off");
        let mut dump = Self::default();
        let mut kept = Vec::new();
        for _ in 0..cpus.parse::<usize>()? {
            let (cpu, count) = ring(next()?)?;
            dump.cpus.push(cpu);
            kept.push(count);
        }
        for _ in 0..calls.parse::<usize>()? {
            let line = next()?;
            let (number, name) = call(line).with_context(|| format!("what is {line:?}?"))?;
            dump.calls.insert(number, name.to_owned());
        }
        for (cpu, kept) in dump.cpus.iter_mut().zip(&kept) {
            for _ in 0..*kept {
                let line = next()?;
                let (number, record) = record(line).with_context(|| format!("what is {line:?}?"))?;
                ensure!(
                    number == cpu.number,
                    "{line:?} stands among those of CPU {}",
                    cpu.number
                );
                match record {
                    Some(record) => cpu.records.push(record),
                    None => cpu.lost += 1,
                }
            }
        }
        let line = next()?;
        let count = line.strip_prefix(END).and_then(hex);
        let wanted = kept.iter().sum::<u64>();
        ensure!(
            count == Some(wanted),
            "after {wanted} records the trace should end, but {line:?} follows"
        );
        Ok(dump)
    }
}

fn hex(word: &str) -> Option<u64> {
    u64::from_str_radix(word, 16).ok()
}

/// `R <cpu> <begun> <kept>`; the CPU, and how many records it kept.
fn ring(line: &str) -> Result<(Cpu, u64)> {
    let words = line.split(' ').collect::<Vec<_>>();
    let ["R", number, begun, kept] = words[..] else {
        bail!("what is {line:?}?");
    };
    let number = u32::from_str_radix(number, 16)?;
    let (begun, kept) = (u64::from_str_radix(begun, 16)?, u64::from_str_radix(kept, 16)?);
    let lost = begun.checked_sub(kept).context("more records kept than begun")?;
    let cpu = Cpu {
        number,
        lost,
        records: Vec::new(),
    };
    Ok((cpu, kept))
}

/// `N <number> <name>`.
fn call(line: &str) -> Option<(u64, &str)> {
    let (number, name) = line.strip_prefix("N ")?.split_once(' ')?;
    Some((hex(number)?, name))
}

/// `E <cpu> <kind> <time> <a> <b> <c>`; no record if it was being written when it was read.
fn record(line: &str) -> Option<(u32, Option<Record>)> {
    let words = line.split(' ').collect::<Vec<_>>();
    let ["E", cpu, kind, at, a, b, c] = words[..] else {
        return None;
    };
    let cpu = u32::from_str_radix(cpu, 16).ok()?;
    if kind == "-" {
        return Some((cpu, None));
    }
    let [at, a, b, c] = [hex(at)?, hex(a)?, hex(b)?, hex(c)?];
    let event = match (kind, a) {
        ("p", task) => Event::PollBegan {
            task,
            name: name([b, c]),
        },
        ("P", task) => Event::PollEnded { task, finished: b != 0 },
        ("w", task) => Event::Woken {
            task,
            by: b,
            in_interrupt: c != 0,
        },
        ("i", _) => Event::InterruptBegan,
        ("I", 1) => Event::InterruptEnded("timer".to_owned()),
        ("I", 2) => Event::InterruptEnded("other CPU".to_owned()),
        ("I", 3) => Event::InterruptEnded(format!("line {b}")),
        ("u", tid) => Event::UserBegan { tid },
        ("U", 0) => Event::UserEnded("call"),
        ("U", 1) => Event::UserEnded("interrupt"),
        ("U", 2) => Event::UserEnded(PAGE_FAULT),
        ("U", 3) => Event::UserEnded("exception"),
        ("c", number) => Event::CallBegan { number, tid: b },
        ("C", result) => Event::CallEnded {
            result: result.cast_signed(),
        },
        ("d", _) => Event::IdleBegan,
        ("D", _) => Event::IdleEnded,
        _ => return None,
    };
    Some((cpu, Some(Record { at, event })))
}

/// A task's name: 16 bytes, zeroes behind it.
fn name(words: [u64; 2]) -> String {
    let bytes = words.map(u64::to_le_bytes).concat();
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        let words = |at: u64, a: u64, b: u64, c: u64| format!("{at:016x} {a:016x} {b:016x} {c:016x}");
        [
            "$ noise\nBREENIX-TRACE 1 cpus 2 calls 1          ".to_owned(),
            format!("R 00 {:016x} {:016x}   ", 5, 3),
            format!("R 0a {:016x} {:016x}", 1, 1),
            "N 003f read         ".to_owned(),
            format!("E 00 p {} ", words(16, 7, u64::from_le_bytes(*b"init\0\0\0\0"), 0)),
            format!("E 00 - {}", words(0, 0, 0, 0)),
            format!("E 00 C {}", words(18, u64::MAX, 0, 0)),
            format!("E 0a I {}", words(19, 3, 33, 0)),
            format!("BREENIX-TRACE-END {:016x}  ", 4),
            "more noise".to_owned(),
        ]
        .join("\n")
    }

    #[test]
    fn a_trace_is_found_and_read() {
        let dump = Dump::parse(&text()).unwrap();
        assert_eq!(dump.calls[&63], "read");
        assert_eq!([dump.cpus[0].number, dump.cpus[1].number], [0, 10]);
        assert_eq!([dump.cpus[0].lost, dump.cpus[1].lost], [3, 0]);
        let began = Event::PollBegan {
            task: 7,
            name: "init".to_owned(),
        };
        assert_eq!(dump.cpus[0].records[0], Record { at: 16, event: began });
        assert_eq!(dump.cpus[0].records[1].event, Event::CallEnded { result: -1 });
        assert_eq!(
            dump.cpus[1].records[0].event,
            Event::InterruptEnded("line 33".to_owned())
        );
    }

    #[test]
    fn what_is_cut_off_or_torn_is_an_error() {
        let text = text();
        assert!(Dump::parse("nothing").unwrap_err().to_string().contains("no trace"));
        let lines = text.lines().collect::<Vec<_>>();
        for cut in 2..lines.len() - 1 {
            assert!(Dump::parse(&lines[..cut].join("\n")).is_err(), "{cut} lines");
        }
        for (from, to) in [
            ("E 0a I", "E 00 I"),
            ("E 00 p", "E 00 q"),
            ("0004", "0005"),
            ("cpus", "cups"),
        ] {
            assert!(Dump::parse(&text.replace(from, to)).is_err(), "{from}");
        }
    }
}
