//! What a reader gets: lines, or bytes by `VMIN` and `VTIME`.
//!
//! A read is an attempt that takes everything it returns in one step, so nothing is lost when a reader is interrupted
//! between two bytes: until the condition holds the bytes stay in the buffer.

use linux_raw_sys::general as raw;

use super::{Effects, LineDiscipline};
use crate::tty::termios::DISABLED;

/// What a reader may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Take this many bytes into the caller's buffer, and `consume` from the input (an end of file is consumed, not copied).
    Ready {
        /// Bytes for the reader.
        copy: usize,
        /// Bytes that leave the input.
        consume: usize,
    },
    /// Wait for input.
    Wait,
    /// Wait for input, but from this time on (in ns) return what there is, perhaps nothing.
    WaitUntil(u64),
}

/// The clock as a read sees it, in ns.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadTimes {
    /// Now.
    pub now: u64,
    /// When this read began.
    pub started: u64,
    /// When the last byte arrived.
    pub last_input: u64,
}

/// Nanoseconds in the unit of `VTIME`.
const TENTH_OF_SECOND: u64 = 100_000_000;

impl LineDiscipline {
    /// What a read of `length` bytes may do.
    pub fn readiness(&self, length: usize, times: ReadTimes) -> Readiness {
        if length == 0 {
            return Readiness::Ready { copy: 0, consume: 0 };
        }
        if self.termios.canonical() {
            self.line_readiness(length)
        } else {
            self.raw_readiness(length, times)
        }
    }

    fn line_readiness(&self, length: usize) -> Readiness {
        let lines = self.input.lines_len();
        if lines == 0 {
            return Readiness::Wait;
        }
        let is_eof = |(byte, end): (u8, bool)| end && byte == DISABLED;
        let most = lines.min(length);
        for index in 0..most {
            let (byte, end) = self.input.peek(index);
            if end {
                let copy = if byte == DISABLED { index } else { index + 1 };
                return Readiness::Ready {
                    copy,
                    consume: index + 1,
                };
            }
        }
        // A buffer filled to the byte swallows the end of file behind it, else that would read as a second one.
        let consume = if most < lines && is_eof(self.input.peek(most)) {
            most + 1
        } else {
            most
        };
        Readiness::Ready { copy: most, consume }
    }

    fn raw_readiness(&self, length: usize, times: ReadTimes) -> Readiness {
        let available = self.input.len();
        let take = Readiness::Ready {
            copy: available.min(length),
            consume: available.min(length),
        };
        let minimum = self.termios.character(raw::VMIN) as usize;
        let timeout = self.termios.character(raw::VTIME) as u64 * TENTH_OF_SECOND;
        if available >= minimum.max(1).min(length) {
            return take;
        }
        match (minimum, timeout) {
            (0, 0) => take,
            (0, _) if times.now >= times.started.saturating_add(timeout) => take,
            (0, _) => Readiness::WaitUntil(times.started.saturating_add(timeout)),
            (_, 0) => Readiness::Wait,
            // The time between bytes runs from the first byte on.
            _ if available == 0 => Readiness::Wait,
            _ => match times.started.max(times.last_input).saturating_add(timeout) {
                deadline if times.now >= deadline => take,
                deadline => Readiness::WaitUntil(deadline),
            },
        }
    }

    /// The first `length` readable bytes, in up to two pieces. They stay until [`Self::consume`].
    pub fn front(&self, length: usize) -> (&[u8], &[u8]) {
        self.input.front(length)
    }

    /// Takes bytes off that a reader has got.
    pub fn consume(&mut self, length: usize) -> Effects {
        self.input.consume(length);
        let mut effects = Effects::default();
        self.unthrottle(&mut effects);
        effects
    }

    /// Whether a reader should try (`POLLIN`).
    pub fn poll_readable(&self) -> bool {
        if self.termios.canonical() {
            return self.input.lines_len() > 0;
        }
        let timed = self.termios.character(raw::VTIME) != 0;
        let minimum = if timed {
            1
        } else {
            self.termios.character(raw::VMIN).max(1)
        };
        self.input.len() >= minimum as usize
    }

    /// Bytes that can be read (`FIONREAD`).
    pub fn readable_len(&self) -> usize {
        if !self.termios.canonical() {
            return self.input.len();
        }
        let lines = self.input.lines_len();
        lines
            - (0..lines)
                .filter(|&index| self.input.peek(index) == (DISABLED, true))
                .count()
    }
}
