//! `/proc/<pid>/pagemap`: a word for each page of a process (Linux's `Documentation/admin-guide/mm/pagemap.rst`).

use alloc::sync::Arc;

use super::{process, seek};
use crate::{
    errno::{Errno, Result},
    fs::{
        file::{Attempt, File, Positioning, Transfer, Whence},
        io::Sink,
    },
    mm::{AddressSpace, space::USER_PAGES},
    task::{self, Capability, Pid},
};

/// Words that are copied at a time.
const WORDS: usize = 64;

/// The page is there.
const PRESENT: u64 = 1 << 63;
/// It is of a file or shared memory.
const FILE: u64 = 1 << 61;
/// Nobody else maps it.
const EXCLUSIVE: u64 = 1 << 56;

/// The open file.
pub(super) struct PageMap {
    space: Arc<AddressSpace>,
    /// Whether who opened it may know where memory is.
    shows_frames: bool,
}

impl PageMap {
    /// Opens that of a process.
    ///
    /// # Errors
    /// `ENOENT` if it has ended.
    pub(super) fn open(pid: Pid) -> Result<Arc<Self>> {
        let caller = task::current::tid().and_then(task::thread);
        Ok(Arc::new(Self {
            space: process::find(pid)?.mm(),
            shows_frames: caller.is_some_and(|caller| caller.credentials().can(Capability::SysAdmin)),
        }))
    }

    fn word(&self, page: u64) -> u64 {
        let Some(mapped) = self.space.mapped_page(page) else {
            return 0;
        };
        let frame = if self.shows_frames { mapped.frame } else { 0 };
        let file = if mapped.of_file { FILE } else { 0 };
        let exclusive = if mapped.mappings <= 1 { EXCLUSIVE } else { 0 };
        PRESENT | file | exclusive | frame
    }
}

impl File for PageMap {
    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        if !(*transfer.position).is_multiple_of(8) || !sink.remaining().is_multiple_of(8) {
            return Err(Errno::EINVAL.into());
        }
        if self.space.users() == 0 {
            return Ok(());
        }
        let mut bytes = [0; WORDS * 8];
        // Not more at once: who reads goes on.
        for _ in 0..8 {
            let page = *transfer.position / 8;
            let count = (sink.remaining() / 8)
                .min(WORDS)
                .min(USER_PAGES.saturating_sub(page) as usize);
            if count == 0 {
                break;
            }
            for (to, page) in bytes.chunks_exact_mut(8).zip(page..page + count as u64) {
                to.copy_from_slice(&self.word(page).to_ne_bytes());
            }
            let before = sink.done();
            let result = sink.put(&bytes[..count * 8]);
            *transfer.position += (sink.done() - before) as u64;
            result?;
        }
        Ok(())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Offsets
    }

    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        seek(position, offset, whence)
    }
}
