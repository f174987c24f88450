//! Where the bytes of a read go and the bytes of a write come from.
//!
//! A file operation is an *attempt*: it never waits, not even for a page of the caller's buffer. [`Sink`] and [`Source`] are
//! cursors over the caller's memory that remember how far earlier attempts came. A user page that is not there ends the attempt
//! with [`UserFault`]; the call's async wrapper has the page brought in and attempts again, and the cursor goes on where it
//! stopped. A file therefore consumes (or keeps) exactly what the cursor says was copied.
//!
//! One attempt sees a *window* of at most [`WINDOW`] bytes, so that no lock is held for the length of a huge transfer.

use hal::{arch::PageTable, traits::PageTableOps};

use crate::errno::{Errno, Result};
pub use crate::mm::user::{UserFault, copy_in, copy_out};

/// The most bytes one attempt transfers.
pub const WINDOW: usize = 64 << 10;
/// The most bytes one call transfers (`MAX_RW_COUNT` of Linux, for 4 KiB pages).
pub const MAX_TRANSFER: usize = 0x7fff_f000;

/// One run of user memory (`struct iovec`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserSlice {
    /// The first byte's address.
    pub address: u64,
    /// Bytes.
    pub len: usize,
}

impl UserSlice {
    /// A run, cut to [`MAX_TRANSFER`].
    ///
    /// # Errors
    /// `EFAULT` if it does not lie in the user half.
    pub fn new(address: u64, len: u64) -> Result<Self> {
        let end = address.checked_add(len).ok_or(Errno::EFAULT)?;
        if end > PageTable::USER_END {
            return Err(Errno::EFAULT);
        }
        Ok(Self {
            address,
            len: (len.min(MAX_TRANSFER as u64)) as usize,
        })
    }
}

/// A position in a list of runs.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    index: usize,
    within: usize,
    done: usize,
    total: usize,
    window: usize,
}

impl Cursor {
    fn new(total: usize) -> Self {
        Self {
            total: total.min(MAX_TRANSFER),
            ..Self::default()
        }
    }

    /// Bytes this attempt may still move.
    fn remaining(&self) -> usize {
        self.total.min(self.window).saturating_sub(self.done)
    }

    fn open_window(&mut self) {
        self.window = self.done.saturating_add(WINDOW);
    }

    /// The user run at the cursor, cut to `len`.
    fn user(&mut self, slices: &[UserSlice], len: usize) -> (u64, usize) {
        while let Some(slice) = slices.get(self.index) {
            if self.within < slice.len {
                return (slice.address + self.within as u64, len.min(slice.len - self.within));
            }
            self.index += 1;
            self.within = 0;
        }
        (0, 0)
    }

    fn advance(&mut self, bytes: usize) {
        self.within += bytes;
        self.done += bytes;
    }

    /// Goes back to where `done` bytes had been moved.
    fn rewind(&mut self, done: usize, slices: &[UserSlice]) {
        debug_assert!(done <= self.done);
        self.done = done;
        self.index = 0;
        self.within = done;
        while let Some(slice) = slices.get(self.index).filter(|slice| self.within >= slice.len) {
            self.within -= slice.len;
            self.index += 1;
        }
    }
}

enum SinkMemory<'a> {
    Kernel(&'a mut [u8]),
    User(&'a [UserSlice]),
    One([UserSlice; 1]),
}

/// Where a read puts its bytes.
pub struct Sink<'a> {
    memory: SinkMemory<'a>,
    cursor: Cursor,
}

impl<'a> Sink<'a> {
    /// Kernel memory.
    pub fn kernel(buffer: &'a mut [u8]) -> Self {
        let cursor = Cursor::new(buffer.len());
        let mut sink = Self {
            memory: SinkMemory::Kernel(buffer),
            cursor,
        };
        sink.open_window();
        sink
    }

    /// Several runs of user memory, filled in order.
    pub fn user(slices: &'a [UserSlice]) -> Self {
        let total = slices.iter().fold(0, |sum: usize, slice| sum.saturating_add(slice.len));
        let mut sink = Self {
            memory: SinkMemory::User(slices),
            cursor: Cursor::new(total),
        };
        sink.open_window();
        sink
    }

    /// One run of user memory.
    pub fn user_slice(slice: UserSlice) -> Self {
        let mut sink = Self {
            memory: SinkMemory::One([slice]),
            cursor: Cursor::new(slice.len),
        };
        sink.open_window();
        sink
    }

    /// Bytes put so far, by all attempts.
    pub const fn done(&self) -> usize {
        self.cursor.done
    }

    /// Bytes that the call asked for.
    pub const fn total(&self) -> usize {
        self.cursor.total
    }

    /// Room left in this attempt's window.
    pub fn remaining(&self) -> usize {
        self.cursor.remaining()
    }

    /// Whether every byte asked for has been put.
    pub const fn is_full(&self) -> bool {
        self.cursor.done == self.cursor.total
    }

    /// Starts the next attempt's window.
    pub fn open_window(&mut self) {
        self.cursor.open_window();
    }

    /// Puts as many of `bytes` as there is room for, and says how many.
    ///
    /// # Errors
    /// A fault. What was put before it counts: see [`Sink::done`].
    pub fn put(&mut self, bytes: &[u8]) -> core::result::Result<usize, UserFault> {
        let wanted = bytes.len().min(self.remaining());
        let mut put = 0;
        while put < wanted {
            let length = match &mut self.memory {
                SinkMemory::Kernel(buffer) => {
                    let at = self.cursor.done;
                    buffer[at..at + wanted].copy_from_slice(&bytes[..wanted]);
                    wanted
                }
                SinkMemory::User(slices) => out(&mut self.cursor, slices, &bytes[put..wanted])?,
                SinkMemory::One(slices) => out(&mut self.cursor, slices, &bytes[put..wanted])?,
            };
            self.cursor.advance(length);
            put += length;
        }
        Ok(put)
    }

    /// Puts up to `count` zeroes, and says how many.
    ///
    /// # Errors
    /// As [`Sink::put`].
    pub fn put_zeroes(&mut self, count: usize) -> core::result::Result<usize, UserFault> {
        static ZEROES: [u8; 4096] = [0; 4096];
        let wanted = count.min(self.remaining());
        let mut put = 0;
        while put < wanted {
            put += self.put(&ZEROES[..ZEROES.len().min(wanted - put)])?;
        }
        Ok(put)
    }

    /// Forgets what was put after the first `done` bytes.
    pub fn rewind(&mut self, done: usize) {
        match &self.memory {
            SinkMemory::Kernel(_) => self.cursor.rewind(done, &[]),
            SinkMemory::User(slices) => self.cursor.rewind(done, slices),
            SinkMemory::One(slices) => self.cursor.rewind(done, slices),
        }
    }
}

/// Copies one run's worth out; a fault moves the cursor over what was copied before it.
fn out(cursor: &mut Cursor, slices: &[UserSlice], bytes: &[u8]) -> core::result::Result<usize, UserFault> {
    let (address, length) = cursor.user(slices, bytes.len());
    copy_out(address, &bytes[..length]).inspect_err(|fault| cursor.advance(fault.copied))?;
    Ok(length)
}

enum SourceMemory<'a> {
    Kernel(&'a [u8]),
    User(&'a [UserSlice]),
    One([UserSlice; 1]),
}

/// Where a write takes its bytes.
pub struct Source<'a> {
    memory: SourceMemory<'a>,
    cursor: Cursor,
}

impl<'a> Source<'a> {
    /// Kernel memory.
    pub fn kernel(bytes: &'a [u8]) -> Self {
        let mut source = Self {
            memory: SourceMemory::Kernel(bytes),
            cursor: Cursor::new(bytes.len()),
        };
        source.open_window();
        source
    }

    /// Several runs of user memory, taken in order.
    pub fn user(slices: &'a [UserSlice]) -> Self {
        let total = slices.iter().fold(0, |sum: usize, slice| sum.saturating_add(slice.len));
        let mut source = Self {
            memory: SourceMemory::User(slices),
            cursor: Cursor::new(total),
        };
        source.open_window();
        source
    }

    /// One run of user memory.
    pub fn user_slice(slice: UserSlice) -> Self {
        let mut source = Self {
            memory: SourceMemory::One([slice]),
            cursor: Cursor::new(slice.len),
        };
        source.open_window();
        source
    }

    /// Bytes taken so far, by all attempts.
    pub const fn done(&self) -> usize {
        self.cursor.done
    }

    /// Bytes of the whole transfer.
    pub const fn total(&self) -> usize {
        self.cursor.total
    }

    /// Bytes left in this attempt's window.
    pub fn remaining(&self) -> usize {
        self.cursor.remaining()
    }

    /// Whether every byte has been taken.
    pub const fn is_empty(&self) -> bool {
        self.cursor.done == self.cursor.total
    }

    /// Starts the next attempt's window.
    pub fn open_window(&mut self) {
        self.cursor.open_window();
    }

    /// Takes bytes until `buffer` is full or the window ends, and says how many.
    ///
    /// # Errors
    /// A fault. What was taken before it stands in `buffer` and counts: see [`Source::done`].
    pub fn take(&mut self, buffer: &mut [u8]) -> core::result::Result<usize, UserFault> {
        let wanted = buffer.len().min(self.remaining());
        let mut taken = 0;
        while taken < wanted {
            let length = match &self.memory {
                SourceMemory::Kernel(bytes) => {
                    let at = self.cursor.done;
                    buffer[..wanted].copy_from_slice(&bytes[at..at + wanted]);
                    wanted
                }
                SourceMemory::User(slices) => bring(&mut self.cursor, slices, &mut buffer[taken..wanted])?,
                SourceMemory::One(slices) => bring(&mut self.cursor, slices, &mut buffer[taken..wanted])?,
            };
            self.cursor.advance(length);
            taken += length;
        }
        Ok(taken)
    }

    /// Takes and drops up to `count` bytes without looking at them.
    pub fn skip(&mut self, count: usize) -> usize {
        let mut left = count.min(self.remaining());
        let skipped = left;
        while left > 0 {
            let length = match &self.memory {
                SourceMemory::Kernel(_) => left,
                SourceMemory::User(slices) => self.cursor.user(slices, left).1,
                SourceMemory::One(slices) => self.cursor.user(slices, left).1,
            };
            self.cursor.advance(length);
            left -= length;
        }
        skipped
    }

    /// Gives back what was taken after the first `done` bytes.
    pub fn rewind(&mut self, done: usize) {
        match &self.memory {
            SourceMemory::Kernel(_) => self.cursor.rewind(done, &[]),
            SourceMemory::User(slices) => self.cursor.rewind(done, slices),
            SourceMemory::One(slices) => self.cursor.rewind(done, slices),
        }
    }
}

fn bring(cursor: &mut Cursor, slices: &[UserSlice], buffer: &mut [u8]) -> core::result::Result<usize, UserFault> {
    let (address, length) = cursor.user(slices, buffer.len());
    copy_in(&mut buffer[..length], address).inspect_err(|fault| cursor.advance(fault.copied))?;
    Ok(length)
}
