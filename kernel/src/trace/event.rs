//! What is recorded, as the words of a record and as text.
//!
//! The first word of a record is its time, in nanoseconds since boot, shifted by four, and its kind; the other three are the
//! kind's own.

use core::fmt;

use executor::Name;

use super::ring::Words;
use crate::{syscall::table, task::Pid};

/// Bits of the kind.
const KIND_BITS: u32 = 4;

/// An interrupt's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The CPU's one-shot timer.
    Timer,
    /// Another CPU.
    Ipi,
    /// A device's line.
    Line(u32),
}

/// Why user mode was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Left {
    Call,
    Interrupt,
    PageFault,
    Exception,
}

/// An event. Tasks are numbers of the executor's, calls the architecture's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    PollBegan { task: u64, name: [u64; 2] },
    PollEnded { task: u64, finished: bool },
    Woken { task: u64, by: u64, in_interrupt: bool },
    InterruptBegan,
    InterruptEnded(Interrupt),
    UserBegan { tid: Pid },
    UserEnded(Left),
    CallBegan { number: u64, tid: Pid },
    CallEnded { result: i64 },
    IdleBegan,
    IdleEnded,
}

impl Event {
    /// The letter that stands for the kind in the file.
    pub const fn letter(kind: u64) -> u8 {
        match kind {
            1 => b'p',
            2 => b'P',
            3 => b'w',
            4 => b'i',
            5 => b'I',
            6 => b'u',
            7 => b'U',
            8 => b'c',
            9 => b'C',
            10 => b'd',
            11 => b'D',
            _ => b'-',
        }
    }

    /// The record's time and kind.
    pub const fn stamp(words: Words) -> (u64, u64) {
        (words[0] >> KIND_BITS, words[0] & ((1 << KIND_BITS) - 1))
    }

    /// As a record.
    pub const fn encode(self, at: u64) -> Words {
        let (kind, a, b, c) = match self {
            Self::PollBegan { task, name } => (1, task, name[0], name[1]),
            Self::PollEnded { task, finished } => (2, task, finished as u64, 0),
            Self::Woken { task, by, in_interrupt } => (3, task, by, in_interrupt as u64),
            Self::InterruptBegan => (4, 0, 0, 0),
            Self::InterruptEnded(Interrupt::Timer) => (5, 1, 0, 0),
            Self::InterruptEnded(Interrupt::Ipi) => (5, 2, 0, 0),
            Self::InterruptEnded(Interrupt::Line(line)) => (5, 3, line as u64, 0),
            Self::UserBegan { tid } => (6, tid as u64, 0, 0),
            Self::UserEnded(why) => (7, why as u64, 0, 0),
            Self::CallBegan { number, tid } => (8, number, tid as u64, 0),
            Self::CallEnded { result } => (9, result as u64, 0, 0),
            Self::IdleBegan => (10, 0, 0, 0),
            Self::IdleEnded => (11, 0, 0, 0),
        };
        [at << KIND_BITS | kind, a, b, c]
    }

    /// The time and the event of a record; `None` if it is none.
    pub const fn decode(words: Words) -> Option<(u64, Self)> {
        let (at, kind) = Self::stamp(words);
        let [_, a, b, c] = words;
        let event = match (kind, a) {
            (1, task) => Self::PollBegan { task, name: [b, c] },
            (2, task) => Self::PollEnded { task, finished: b != 0 },
            (3, task) => Self::Woken {
                task,
                by: b,
                in_interrupt: c != 0,
            },
            (4, _) => Self::InterruptBegan,
            (5, 1) => Self::InterruptEnded(Interrupt::Timer),
            (5, 2) => Self::InterruptEnded(Interrupt::Ipi),
            (5, 3) => Self::InterruptEnded(Interrupt::Line(b as u32)),
            (6, tid) => Self::UserBegan { tid: tid as Pid },
            (7, 0) => Self::UserEnded(Left::Call),
            (7, 1) => Self::UserEnded(Left::Interrupt),
            (7, 2) => Self::UserEnded(Left::PageFault),
            (7, 3) => Self::UserEnded(Left::Exception),
            (8, number) => Self::CallBegan { number, tid: b as Pid },
            (9, result) => Self::CallEnded { result: result as i64 },
            (10, _) => Self::IdleBegan,
            (11, _) => Self::IdleEnded,
            _ => return None,
        };
        Some((at, event))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PollBegan { task, name } => write!(f, "poll of {} ({task:x}) begins", Name::from_words(name)),
            Self::PollEnded { task, finished: false } => write!(f, "poll of {task:x} ends"),
            Self::PollEnded { task, finished: true } => write!(f, "poll of {task:x} ends, and the task"),
            Self::Woken {
                task,
                in_interrupt: true,
                ..
            } => write!(f, "wakes {task:x}, in an interrupt"),
            Self::Woken { task, by: 0, .. } => write!(f, "wakes {task:x}"),
            Self::Woken { task, by, .. } => write!(f, "wakes {task:x}, by {by:x}"),
            Self::InterruptBegan => f.write_str("interrupt"),
            Self::InterruptEnded(what) => write!(f, "interrupt ends: {what:?}"),
            Self::UserBegan { tid } => write!(f, "thread {tid} enters user mode"),
            Self::UserEnded(why) => write!(f, "leaves user mode: {why:?}"),
            Self::CallBegan { number, tid } => match table::find(number) {
                Some(call) => write!(f, "thread {tid} calls {}", call.name()),
                None => write!(f, "thread {tid} makes call {number}"),
            },
            Self::CallEnded { result } => write!(f, "the call returns {result:#x}"),
            Self::IdleBegan => f.write_str("goes to sleep"),
            Self::IdleEnded => f.write_str("wakes up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back() {
        let events = [
            Event::PollBegan {
                task: 5 << 32,
                name: Name::new("sh").words(),
            },
            Event::PollEnded {
                task: 6,
                finished: true,
            },
            Event::PollEnded {
                task: 6,
                finished: false,
            },
            Event::Woken {
                task: u64::MAX,
                by: 3,
                in_interrupt: true,
            },
            Event::InterruptBegan,
            Event::InterruptEnded(Interrupt::Timer),
            Event::InterruptEnded(Interrupt::Ipi),
            Event::InterruptEnded(Interrupt::Line(1019)),
            Event::UserBegan { tid: 7 },
            Event::UserEnded(Left::Call),
            Event::UserEnded(Left::Interrupt),
            Event::UserEnded(Left::PageFault),
            Event::UserEnded(Left::Exception),
            Event::CallBegan { number: 93, tid: 8 },
            Event::CallEnded { result: -11 },
            Event::IdleBegan,
            Event::IdleEnded,
        ];
        for event in events {
            let words = event.encode(1 << 59);
            assert_eq!(Event::decode(words), Some((1 << 59, event)));
            assert_ne!(Event::letter(Event::stamp(words).1), b'-');
        }
        assert_eq!(Event::decode([0; 4]), None);
    }

    #[test]
    fn text_names_tasks_and_calls() {
        let name = Name::new("init").words();
        assert_eq!(
            Event::PollBegan { task: 16, name }.to_string(),
            "poll of init (10) begins"
        );
        let number = u64::from(table::ENTRIES[0].number(hal::arch::ABI).unwrap());
        let text = Event::CallBegan { number, tid: 1 }.to_string();
        assert_eq!(text, format!("thread 1 calls {}", table::ENTRIES[0].name));
    }
}
