//! The simulated machine's signal frames: a layout of its own that keeps everything.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::context::{FP_WORDS, Registers, UserContext};
use crate::{
    signal::{AltStack, Delivery, FrameError, Restored, SignalFrames},
    traits::PageTableOps,
};

const MAGIC: u64 = u64::from_le_bytes(*b"sigframe");
const RED_ZONE: u64 = 128;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    magic: u64,
    restorer: u64,
    mask: u64,
    alt_sp: u64,
    alt_flags: i64,
    alt_size: u64,
    fault_address: u64,
    info: [u8; 128],
    registers: Registers,
    fp: [u64; FP_WORDS],
}

impl SignalFrames for UserContext {
    const SIGNAL_RETURN: Option<&'static str> = None;

    fn frame_address(&self, delivery: &Delivery) -> u64 {
        let red_zone = if delivery.on_alt_stack { 0 } else { RED_ZONE };
        delivery.stack_top.wrapping_sub(red_zone + size_of::<Frame>() as u64) & !15
    }

    fn write_frame<E>(&self, delivery: &Delivery, mut copy: impl FnMut(u64, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let frame = Frame {
            magic: MAGIC,
            restorer: delivery.restorer,
            mask: delivery.saved_mask,
            alt_sp: delivery.alt_stack.sp,
            alt_flags: delivery.alt_stack.flags.into(),
            alt_size: delivery.alt_stack.size,
            fault_address: delivery.fault_address,
            info: delivery.info,
            registers: self.registers,
            fp: self.fp.0,
        };
        copy(self.frame_address(delivery), frame.as_bytes())
    }

    fn enter_handler(&mut self, delivery: &Delivery, frame_address: u64) {
        self.registers.pc = delivery.handler;
        self.registers.sp = frame_address;
        self.registers.again = 0;
        let info = frame_address.wrapping_add(core::mem::offset_of!(Frame, info) as u64);
        self.registers.arguments = [delivery.signo as u64, info, frame_address, 0, 0, 0];
    }

    fn restore_frame<E>(
        &mut self,
        mut copy: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Restored, FrameError<E>> {
        let mut frame = Frame::new_zeroed();
        copy(self.registers.sp, frame.as_mut_bytes())?;
        if frame.magic != MAGIC || frame.registers.pc >= super::PageTable::USER_END {
            return Err(FrameError::Malformed);
        }
        self.registers = frame.registers;
        self.fp.0 = frame.fp;
        let alt_stack = AltStack {
            sp: frame.alt_sp,
            flags: frame.alt_flags as i32,
            size: frame.alt_size,
        };
        Ok(Restored {
            mask: frame.mask,
            alt_stack,
        })
    }
}
