//! Reading ahead of a reader who reads in order.

use core::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The first pages read ahead.
const FIRST: u64 = 4;
/// Most pages read ahead (Linux's `read_ahead_kb` of 128).
const MOST: u64 = 32;

/// What is known of the reader of one open file. Where several read by it at once, they spoil it for each other and nothing
/// worse.
#[derive(Debug, Default)]
pub struct ReadAhead {
    /// Where the last attempt to read began.
    last: AtomicU64,
    /// Where the next one begins, if it reads in order.
    next: AtomicU64,
    /// Pages to have in front of it; 0 unless it does.
    window: AtomicU64,
    /// What has been asked for up to.
    until: AtomicU64,
}

impl ReadAhead {
    /// Notes an attempt to read pages `first..end` of `length`, which may be the last one repeated. What to ask for behind `end`,
    /// if anything.
    pub fn note(&self, first: u64, end: u64, length: u64) -> Option<Range<u64>> {
        let next = self.next.load(Relaxed);
        if first == self.last.load(Relaxed) && end == next {
            return None;
        }
        // The last page may have been read in part.
        let in_order = first == next || first + 1 == next;
        let window = self.window.load(Relaxed);
        let until = self.until.load(Relaxed);
        self.last.store(first, Relaxed);
        self.next.store(end, Relaxed);
        if !in_order {
            self.window.store(0, Relaxed);
            self.until.store(end, Relaxed);
            return None;
        }
        let until = until.max(end);
        if until - end > window / 2 {
            return None;
        }
        let window = (window * 2).clamp(FIRST, MOST);
        let wanted = until..end.saturating_add(window).min(length);
        self.window.store(window, Relaxed);
        self.until.store(wanted.end.max(until), Relaxed);
        (!wanted.is_empty()).then_some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_in_order_finds_ever_more() {
        let ahead = ReadAhead::default();
        let mut asked = 1;
        let mut last = 0;
        for page in 0..200 {
            // Twice: the first attempt has to wait.
            let note = ahead.note(page, page + 1, 150);
            assert!(page == 0 || ahead.note(page, page + 1, 150).is_none());
            if let Some(range) = note {
                assert_eq!(range.start, asked.max(page + 1), "nothing twice and nothing left out");
                assert!(range.end <= 150 && range.end - page <= MOST + 1);
                last = last.max(range.end - range.start);
                asked = range.end;
            }
        }
        assert_eq!(asked, 150);
        assert!(last >= MOST / 2);
    }

    #[test]
    fn who_jumps_about_gets_nothing_besides() {
        let ahead = ReadAhead::default();
        let _ = ahead.note(0, 1, 1000);
        for step in 1..50 {
            assert_eq!(ahead.note(step * 37 % 1000, step * 37 % 1000 + 1, 1000), None);
        }
    }
}
