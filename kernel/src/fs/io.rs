//! Where the bytes of a read go and the bytes of a write come from.
//!
//! A file operation is an *attempt*: it never waits, not even for a page of the caller's buffer. [`Sink`] and
//! [`Source`] are cursors over the caller's memory that remember how far earlier attempts came. A user page that is not
//! there ends the attempt with [`UserFault`]; the call's async wrapper has the page brought in and attempts again, and
//! the cursor goes on where it stopped. A file therefore consumes (or keeps) exactly what the cursor says was copied.
//!
//! One attempt sees a *window* of at most [`WINDOW`] bytes, so that no lock is held for the length of a huge transfer.

use hal::{arch::PageTable, traits::PageTableOps};

use crate::errno::{Errno, Result};
use crate::mm::frame::Frame;
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

/// A place in a list of runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    index: usize,
    within: usize,
}

impl Place {
    /// What is left of the run at the place, none of them empty; `None` at the end.
    pub fn run(&mut self, slices: &[UserSlice]) -> Option<UserSlice> {
        loop {
            let slice = slices.get(self.index)?;
            if self.within < slice.len {
                return Some(UserSlice {
                    address: slice.address + self.within as u64,
                    len: slice.len - self.within,
                });
            }
            self.index += 1;
            self.within = 0;
        }
    }

    /// Goes on within the run.
    pub fn advance(&mut self, bytes: usize) {
        self.within += bytes;
    }
}

/// A place in a list of runs, and how much of them is to be moved.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    place: Place,
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
        self.place
            .run(slices)
            .map_or((0, 0), |run| (run.address, len.min(run.len)))
    }

    fn advance(&mut self, bytes: usize) {
        self.place.advance(bytes);
        self.done += bytes;
    }

    /// Goes back to where `done` bytes had been moved.
    fn rewind(&mut self, done: usize, slices: &[UserSlice]) {
        debug_assert!(done <= self.done);
        self.done = done;
        let mut place = Place { index: 0, within: done };
        while let Some(slice) = slices.get(place.index).filter(|slice| place.within >= slice.len) {
            place.within -= slice.len;
            place.index += 1;
        }
        self.place = place;
    }
}

/// The caller's memory: the kernel's, as `K`, or a program's.
enum Memory<'a, K> {
    Kernel(K),
    User(&'a [UserSlice]),
    One([UserSlice; 1]),
}

impl<K> Memory<'_, K> {
    /// The runs of user memory; none for the kernel's.
    const fn slices(&self) -> &[UserSlice] {
        match self {
            Self::Kernel(_) => &[],
            Self::User(slices) => slices,
            Self::One(slices) => slices,
        }
    }
}

/// A cursor over memory: what [`Sink`] and [`Source`] have in common. They differ in the direction of the copy.
pub struct Buffer<'a, K> {
    memory: Memory<'a, K>,
    cursor: Cursor,
}

/// Where a read puts its bytes.
pub type Sink<'a> = Buffer<'a, &'a mut [u8]>;

/// Where a write takes its bytes.
pub type Source<'a> = Buffer<'a, &'a [u8]>;

impl<'a, K> Buffer<'a, K> {
    fn new(memory: Memory<'a, K>, total: usize) -> Self {
        let mut buffer = Self {
            memory,
            cursor: Cursor::new(total),
        };
        buffer.open_window();
        buffer
    }

    /// Several runs of user memory, used in order.
    pub fn user(slices: &'a [UserSlice]) -> Self {
        let total = slices.iter().fold(0, |sum: usize, slice| sum.saturating_add(slice.len));
        Self::new(Memory::User(slices), total)
    }

    /// One run of user memory.
    pub fn user_slice(slice: UserSlice) -> Self {
        Self::new(Memory::One([slice]), slice.len)
    }

    /// Whether the memory is a program's.
    pub const fn is_user(&self) -> bool {
        !matches!(self.memory, Memory::Kernel(_))
    }

    /// Whether every run of user memory begins at a multiple of `unit` and has a multiple of it.
    pub fn is_aligned(&self, unit: usize) -> bool {
        let aligned = |slice: &UserSlice| slice.address.is_multiple_of(unit as u64) && slice.len.is_multiple_of(unit);
        self.memory.slices().iter().all(aligned)
    }

    /// Bytes moved so far, by all attempts.
    pub const fn done(&self) -> usize {
        self.cursor.done
    }

    /// Bytes of the whole transfer.
    pub const fn total(&self) -> usize {
        self.cursor.total
    }

    /// Bytes that this attempt's window still admits.
    pub fn remaining(&self) -> usize {
        self.cursor.remaining()
    }

    /// Whether every byte asked for has been moved.
    pub const fn is_complete(&self) -> bool {
        self.cursor.done == self.cursor.total
    }

    /// Starts the next attempt's window.
    pub fn open_window(&mut self) {
        self.cursor.open_window();
    }

    /// Forgets what was moved after the first `done` bytes.
    pub fn rewind(&mut self, done: usize) {
        self.cursor.rewind(done, self.memory.slices());
    }

    /// Moves `wanted` bytes, which the window admits: `kernel` moves all of them, given the kernel's memory and where
    /// in it; `user` moves as many as it is given, from where in the whole to which address.
    fn transfer(
        &mut self,
        wanted: usize,
        kernel: impl FnOnce(&mut K, usize),
        mut user: impl FnMut(usize, u64, usize) -> core::result::Result<(), UserFault>,
    ) -> core::result::Result<usize, UserFault> {
        if let Memory::Kernel(memory) = &mut self.memory {
            kernel(memory, self.cursor.done);
            self.cursor.advance(wanted);
            return Ok(wanted);
        }
        if let Memory::One([slice]) = &self.memory {
            let address = slice.address + self.cursor.done as u64;
            user(0, address, wanted).inspect_err(|fault| self.cursor.advance(fault.copied))?;
            self.cursor.advance(wanted);
            return Ok(wanted);
        }
        let mut moved = 0;
        while moved < wanted {
            let (address, length) = self.cursor.user(self.memory.slices(), wanted - moved);
            // A fault moves the cursor over what was copied before it.
            user(moved, address, length).inspect_err(|fault| self.cursor.advance(fault.copied))?;
            self.cursor.advance(length);
            moved += length;
        }
        Ok(moved)
    }
}

impl<'a> Sink<'a> {
    /// Kernel memory.
    pub fn kernel(buffer: &'a mut [u8]) -> Self {
        let total = buffer.len();
        Self::new(Memory::Kernel(buffer), total)
    }

    /// Puts as many of `bytes` as there is room for, and says how many.
    ///
    /// # Errors
    /// A fault. What was put before it counts: see [`Buffer::done`].
    pub fn put(&mut self, bytes: &[u8]) -> core::result::Result<usize, UserFault> {
        let wanted = bytes.len().min(self.remaining());
        self.transfer(
            wanted,
            |buffer, at| buffer[at..at + wanted].copy_from_slice(&bytes[..wanted]),
            |moved, address, length| copy_out(address, &bytes[moved..moved + length]),
        )
    }

    /// Puts up to `length` bytes of a frame from `offset` on, and says how many.
    ///
    /// # Errors
    /// As [`Sink::put`].
    ///
    /// # Panics
    /// If the bytes are not all within the frame.
    pub fn put_frame(&mut self, frame: &Frame, offset: usize, length: usize) -> core::result::Result<usize, UserFault> {
        let wanted = length.min(self.remaining());
        self.transfer(
            wanted,
            |buffer, at| frame.read(offset, &mut buffer[at..at + wanted]),
            |moved, address, length| frame.copy_out(offset + moved, length, address),
        )
    }

    /// Puts up to `count` zeroes, and says how many.
    ///
    /// # Errors
    /// As [`Sink::put`].
    pub fn put_zeroes(&mut self, count: usize) -> core::result::Result<usize, UserFault> {
        static ZEROES: [u8; 4096] = [0; 4096];
        let wanted = count.min(self.remaining());
        if wanted <= ZEROES.len() {
            return self.put(&ZEROES[..wanted]);
        }
        let mut put = 0;
        while put < wanted {
            put += self.put(&ZEROES[..ZEROES.len().min(wanted - put)])?;
        }
        Ok(put)
    }
}

impl<'a> Source<'a> {
    /// Kernel memory.
    pub fn kernel(bytes: &'a [u8]) -> Self {
        Self::new(Memory::Kernel(bytes), bytes.len())
    }

    /// Takes bytes until `buffer` is full or the window ends, and says how many.
    ///
    /// # Errors
    /// A fault. What was taken before it stands in `buffer` and counts: see [`Buffer::done`].
    pub fn take(&mut self, buffer: &mut [u8]) -> core::result::Result<usize, UserFault> {
        let wanted = buffer.len().min(self.remaining());
        // Lent to one of the two closures at a time.
        let buffer = core::cell::RefCell::new(buffer);
        self.transfer(
            wanted,
            |bytes, at| buffer.borrow_mut()[..wanted].copy_from_slice(&bytes[at..at + wanted]),
            |moved, address, length| copy_in(&mut buffer.borrow_mut()[moved..moved + length], address),
        )
    }

    /// Takes up to `length` bytes into a frame, to `offset` on, and says how many.
    ///
    /// # Errors
    /// A fault. What was taken before it stands in the frame and counts: see [`Buffer::done`].
    ///
    /// # Panics
    /// If the bytes are not all within the frame.
    pub fn take_frame(
        &mut self,
        frame: &Frame,
        offset: usize,
        length: usize,
    ) -> core::result::Result<usize, UserFault> {
        let wanted = length.min(self.remaining());
        self.transfer(
            wanted,
            |bytes, at| frame.write(offset, &bytes[at..at + wanted]),
            |moved, address, length| frame.copy_in(offset + moved, length, address),
        )
    }

    /// Takes and drops up to `count` bytes without looking at them.
    pub fn skip(&mut self, count: usize) -> usize {
        let skipped = count.min(self.remaining());
        // Nothing is copied, so nothing faults.
        self.transfer(skipped, |_, _| {}, |_, _, _| Ok(())).unwrap_or(0)
    }
}
