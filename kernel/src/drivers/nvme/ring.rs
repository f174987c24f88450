//! A pair of queues in memory (NVM Express Base 2.0c, 3.3.1).

use crate::mm::dma;

use super::command::{Completion, Entry};
use crate::{errno::Result, mm::dma::DmaMemory};

const SUBMISSION: usize = 64;
const COMPLETION: usize = 16;
/// The phase tag in the last word of a completion queue entry.
const PHASE: u32 = 1 << 16;

/// Commands go in by [`Ring::push`], and what became of them comes out by [`Ring::pop`]. The controller learns of either by
/// doorbells, which are its owner's to ring.
pub struct Ring {
    submission: DmaMemory,
    completion: DmaMemory,
    entries: u16,
    tail: u16,
    head: u16,
    phase: bool,
}

impl Ring {
    /// Of so many entries, at least 2; one of them is never used.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(entries: u16) -> Result<Self> {
        Ok(Self {
            submission: DmaMemory::new(usize::from(entries) * SUBMISSION)?,
            completion: DmaMemory::new(usize::from(entries) * COMPLETION)?,
            entries,
            tail: 0,
            head: 0,
            phase: true,
        })
    }

    /// How many entries.
    pub const fn entries(&self) -> u16 {
        self.entries
    }

    /// Where commands stand, and where what became of them.
    pub const fn addresses(&self) -> (u64, u64) {
        (self.submission.address(), self.completion.address())
    }

    /// Forgets everything. The controller does not know of the ring.
    pub fn clear(&mut self) {
        (self.tail, self.head, self.phase) = (0, 0, true);
        for entry in 0..usize::from(self.entries) {
            self.completion.write_u32(entry * COMPLETION + 12, 0);
        }
    }

    /// Puts a command in. The caller has fewer under way than there are entries.
    pub fn push(&mut self, entry: &Entry) {
        let start = usize::from(self.tail) * SUBMISSION;
        for (index, word) in entry.iter().enumerate() {
            self.submission.write_u32(start + 4 * index, *word);
        }
        self.tail = self.after(self.tail);
    }

    /// What the doorbell of commands is to be told.
    pub const fn tail(&self) -> u16 {
        self.tail
    }

    /// What the doorbell of completions is to be told.
    pub const fn head(&self) -> u16 {
        self.head
    }

    /// What became of a command, if there is something new.
    pub fn pop(&mut self) -> Option<Completion> {
        let start = usize::from(self.head) * COMPLETION;
        let last = self.completion.read_u32(start + 12);
        if (last & PHASE != 0) != self.phase {
            return None;
        }
        dma::after_device();
        let start = usize::from(self.head) * COMPLETION;
        self.head = self.after(self.head);
        if self.head == 0 {
            self.phase = !self.phase;
        }
        Some(Completion {
            id: last as u16,
            // Without "more" and "do not retry".
            status: (last >> 17) as u16 & 0x7ff,
            result: self.completion.read_u32(start),
        })
    }

    const fn after(&self, place: u16) -> u16 {
        (place + 1) % self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_are_told_from_old_ones_round_after_round() {
        let mut ring = Ring::new(4).unwrap();
        assert_eq!(ring.pop(), None);
        for turn in 0_u16..11 {
            let (slot, phase) = (usize::from(turn % 4), turn / 4 % 2 == 0);
            let word = u32::from(turn) | if phase { PHASE } else { 0 } | 5 << 17;
            ring.completion.write_u32(slot * COMPLETION + 12, word);
            ring.completion.write_u32(slot * COMPLETION, 77);
            let expected = Completion {
                id: turn,
                status: 5,
                result: 77,
            };
            assert_eq!(ring.pop(), Some(expected));
            assert_eq!((ring.pop(), ring.head()), (None, (turn + 1) % 4));
        }
        ring.clear();
        assert_eq!((ring.pop(), ring.head(), ring.tail()), (None, 0, 0));
    }

    #[test]
    fn commands_go_round() {
        let mut ring = Ring::new(2).unwrap();
        for turn in 0..3 {
            ring.push(&[turn; 16]);
        }
        assert_eq!(ring.tail(), 1);
        assert_eq!(ring.submission.read_u32(60), 2);
        assert_eq!(ring.submission.read_u32(64), 1);
    }
}
