//! `/proc/<tid>/allocations`: what was allocated and freed on behalf of a thread.
//!
//! Made for a thread that looks at itself: it is written afresh at every read, into memory of the reader's own poll, so that
//! looking changes nothing of what is seen. Its length never changes.

use core::fmt::Write;

use arrayvec::ArrayString;

use super::{seek, text::read};
use crate::{
    errno::{Errno, Result},
    fs::{
        file::{Attempt, File, Positioning, Transfer, Whence},
        io::Sink,
    },
    tally::{OPERATION_NAMES, Operations},
    task::{self, Pid},
};

/// The open file.
pub(super) struct Allocations {
    tid: Pid,
}

impl Allocations {
    pub(super) const fn new(tid: Pid) -> Self {
        Self { tid }
    }
}

fn text(counts: Operations) -> ArrayString<256> {
    let mut text = ArrayString::new();
    for (name, count) in OPERATION_NAMES.iter().zip(counts) {
        // Four lines of 40 bytes: they fit.
        let _ = writeln!(text, "{name:<18} {count:>20}");
    }
    text
}

impl File for Allocations {
    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        let thread = task::thread(self.tid).ok_or(Errno::ESRCH)?;
        read(text(thread.allocations()).as_bytes(), transfer, sink)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Offsets
    }

    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        seek(position, offset, whence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_of_one_length() {
        assert_eq!(text([u64::MAX; 4]).len(), text([0; 4]).len());
        assert_eq!(text([0; 4]).lines().count(), 4);
    }
}
