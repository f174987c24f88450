//! A keyboard's endpoint: room for its reports, and what comes of them.

use alloc::sync::Arc;

use arrayvec::ArrayVec;

use super::{
    context::index_in,
    ring::Producer,
    trb::{Transfer, Trb, code},
};
use crate::{
    drivers::{
        keyboard::{Keyboard, hid::Reports},
        usb::descriptor,
    },
    errno::{Errno, Result},
    mm::dma::{self, DmaMemory},
    tty::Tty,
};

/// Reports that there is room for at a time: those that come while the task does not run.
const REPORTS: usize = 4;
/// Bytes from one to the next: the longest packet.
const STRIDE: usize = 1024;
/// Failures one after the other that end it.
const FAILURES: u32 = 4;

/// What is to be done after a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// The controller is to be told that there is room.
    Ring,
    /// The endpoint has halted and lost its room: it is to be taken out of it, then given all anew.
    Recover,
}

/// The endpoint.
pub struct Endpoint {
    descriptor: descriptor::Keyboard,
    ring: Producer,
    memory: Arc<DmaMemory>,
    /// The blocks that the controller has, in order, and which of the rooms each is for.
    given: ArrayVec<(u64, usize), REPORTS>,
    failures: u32,
    reports: Reports,
    keyboard: Keyboard,
}

impl Endpoint {
    /// One whose ring and room are in these pages.
    pub fn new(descriptor: descriptor::Keyboard, ring: Arc<DmaMemory>, memory: Arc<DmaMemory>, tty: Arc<Tty>) -> Self {
        Self {
            descriptor,
            ring: Producer::new(ring),
            memory,
            given: ArrayVec::new(),
            failures: 0,
            reports: Reports::new(),
            keyboard: Keyboard::new(tty, false),
        }
    }

    /// Its index in the device's context.
    pub const fn index(&self) -> u8 {
        index_in(self.descriptor.endpoint)
    }

    /// Its number.
    pub const fn number(&self) -> u8 {
        self.descriptor.endpoint
    }

    /// See [`Producer::dequeue`].
    pub fn dequeue(&self) -> u64 {
        self.ring.dequeue()
    }

    /// Gives the controller all room; it has none.
    pub fn give_all(&mut self) {
        self.given.clear();
        (0..REPORTS).for_each(|room| self.give(room));
    }

    fn give(&mut self, room: usize) {
        let address = self.memory.address() + (room * STRIDE) as u64;
        let block = self.ring.push(Trb::normal(address, self.descriptor.packet));
        self.given.push((block, room));
    }

    /// A transfer of this endpoint has ended, at `now`.
    ///
    /// # Errors
    /// `EIO` if it makes no sense, or one too many has failed.
    pub fn ended(&mut self, transfer: Transfer, now: u64) -> Result<Next> {
        let Some((block, room)) = self.given.first().copied() else {
            return Ok(Next::Nothing);
        };
        match transfer.code {
            code::SUCCESS | code::SHORT_PACKET if transfer.block == block => {
                self.failures = 0;
                let packet = usize::from(self.descriptor.packet);
                let left = usize::try_from(transfer.left).unwrap_or(usize::MAX);
                let length = packet.checked_sub(left).ok_or(Errno::EIO)?;
                self.report(room, length, now);
                self.given.remove(0);
                self.give(room);
                Ok(Next::Ring)
            }
            code::STALL | code::TRANSACTION | code::BABBLE => {
                self.failures += 1;
                if self.failures == FAILURES {
                    return Err(Errno::EIO);
                }
                Ok(Next::Recover)
            }
            _ => Err(Errno::EIO),
        }
    }

    fn report(&mut self, room: usize, length: usize, now: u64) {
        dma::after_device();
        let mut bytes = [0; crate::drivers::keyboard::hid::REPORT];
        let length = length.min(bytes.len());
        self.memory.read_bytes(room * STRIDE, &mut bytes[..length]);
        let keyboard = &mut self.keyboard;
        self.reports.take(&bytes[..length], |event| keyboard.key(event, now));
    }

    /// When the held key is to be typed again.
    pub fn next_repeat(&self) -> Option<u64> {
        self.keyboard.next_repeat()
    }

    /// Types it, if it is time.
    pub fn repeat(&mut self, now: u64) {
        self.keyboard.repeat(now);
    }
}
