//! Signal frames, byte for byte as Linux builds them (`arch/arm64/kernel/signal.c`, `asm/sigcontext.h`,
//! `asm/ucontext.h`).
//!
//! ```text
//! stack_top ─▶ ┌──────────────────────────┐
//!              │ {fp, lr} frame record    │ x29 of the handler; 16-byte aligned
//!              ├──────────────────────────┤
//!              │ sigcontext.__reserved    │ 4096: fpsimd_context, esr_context of a fault, terminator
//!              │ sigcontext               │ fault_address, x0-x30, sp, pc, pstate
//!              │ ucontext                 │ flags, link, stack, mask
//!              │ siginfo                  │
//!        sp ─▶ └──────────────────────────┘
//! ```

use alloc::{vec, vec::Vec};

use super::exception_frame::{USER_PSTATE, UserContext};
use super::fp::FpState;
use crate::signal::{AltStack, BadFrame, Delivery, Restored, SignalFrames};

/// Offsets in `struct rt_sigframe`: 128 bytes of siginfo, then the ucontext.
const UC: usize = 128;
const UC_STACK: usize = UC + 16;
const UC_SIGMASK: usize = UC + 40;
const SIGCONTEXT: usize = UC + 176;
const REGS: usize = SIGCONTEXT + 8;
const SP: usize = REGS + 31 * 8;
const PC: usize = SP + 8;
const PSTATE: usize = PC + 8;
const RESERVED: usize = SIGCONTEXT + 288;
const RESERVED_BYTES: usize = 4096;
const FRAME: usize = RESERVED + RESERVED_BYTES;
const RECORD: usize = 16;

/// `struct _aarch64_ctx` magics and sizes.
const FPSIMD_MAGIC: u32 = 0x4650_8001;
const FPSIMD_SIZE: usize = 8 + 8 + 512;
const ESR_MAGIC: u32 = 0x4553_5201;
const ESR_SIZE: usize = 16;
/// Records that point to more room than `__reserved` has; never written here.
const EXTRA_MAGIC: u32 = 0x4558_5401;

/// `PSTATE` bits that a frame may not have set: AArch32, and D, A, I, F.
const PSTATE_FORBIDDEN: u64 = 0xf << 6 | 0x1f;

fn put<const N: usize>(frame: &mut [u8], at: usize, bytes: [u8; N]) {
    frame[at..at + N].copy_from_slice(&bytes);
}

fn get<const N: usize>(frame: &[u8], at: usize) -> Result<[u8; N], BadFrame> {
    frame
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(BadFrame)
}

fn get_u32(frame: &[u8], at: usize) -> Result<u32, BadFrame> {
    Ok(u32::from_le_bytes(get(frame, at)?))
}

fn get_u64(frame: &[u8], at: usize) -> Result<u64, BadFrame> {
    Ok(u64::from_le_bytes(get(frame, at)?))
}

fn put_fp(frame: &mut [u8], at: usize, fp: &FpState) {
    put(frame, at, FPSIMD_MAGIC.to_le_bytes());
    put(frame, at + 4, (FPSIMD_SIZE as u32).to_le_bytes());
    put(frame, at + 8, fp.fpsr.to_le_bytes());
    put(frame, at + 12, fp.fpcr.to_le_bytes());
    for (i, register) in fp.vregs.iter().enumerate() {
        put(frame, at + 16 + 16 * i, register.to_le_bytes());
    }
}

fn get_fp(frame: &[u8], at: usize) -> Result<FpState, BadFrame> {
    let mut fp = FpState::INITIAL;
    fp.fpsr = get_u32(frame, at + 8)?;
    fp.fpcr = get_u32(frame, at + 12)?;
    for (i, register) in fp.vregs.iter_mut().enumerate() {
        *register = u128::from_le_bytes(get(frame, at + 16 + 16 * i)?);
    }
    Ok(fp)
}

/// Walks the records of `__reserved`. There must be exactly one fpsimd_context; Linux insists on it as well.
fn parse_records(frame: &[u8]) -> Result<FpState, BadFrame> {
    let mut at = RESERVED;
    let mut fp = None;
    loop {
        let (magic, size) = (get_u32(frame, at)?, get_u32(frame, at + 4)? as usize);
        match magic {
            0 if size == 0 => break,
            FPSIMD_MAGIC if size == FPSIMD_SIZE && fp.is_none() => fp = Some(get_fp(frame, at)?),
            ESR_MAGIC => {}
            EXTRA_MAGIC => return Err(BadFrame),
            _ => return Err(BadFrame),
        }
        if size < 16 || !size.is_multiple_of(16) || at + size > FRAME - 8 {
            return Err(BadFrame);
        }
        at += size;
    }
    fp.ok_or(BadFrame)
}

impl SignalFrames for UserContext {
    /// `mov x8, #139` (`rt_sigreturn`), `svc #0`.
    const TRAMPOLINE: &'static [u8] = &[0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4];

    fn build_frame(&self, delivery: &Delivery) -> (u64, Vec<u8>) {
        let record = (delivery.stack_top.wrapping_sub(RECORD as u64)) & !15;
        let address = record.wrapping_sub(FRAME as u64);
        let mut frame = vec![0; FRAME + RECORD];
        put(&mut frame, 0, delivery.info);
        put(&mut frame, UC_STACK, delivery.alt_stack.sp.to_le_bytes());
        put(&mut frame, UC_STACK + 8, delivery.alt_stack.flags.to_le_bytes());
        put(&mut frame, UC_STACK + 16, delivery.alt_stack.size.to_le_bytes());
        put(&mut frame, UC_SIGMASK, delivery.saved_mask.to_le_bytes());
        put(&mut frame, SIGCONTEXT, delivery.fault_address.to_le_bytes());
        for (i, register) in self.x.iter().enumerate() {
            put(&mut frame, REGS + 8 * i, register.to_le_bytes());
        }
        put(&mut frame, SP, self.sp.to_le_bytes());
        put(&mut frame, PC, self.pc.to_le_bytes());
        put(&mut frame, PSTATE, self.pstate.to_le_bytes());
        put_fp(&mut frame, RESERVED, &self.fp);
        if delivery.fault_address != 0 {
            let at = RESERVED + FPSIMD_SIZE;
            put(&mut frame, at, ESR_MAGIC.to_le_bytes());
            put(&mut frame, at + 4, (ESR_SIZE as u32).to_le_bytes());
            put(&mut frame, at + 8, self.esr.to_le_bytes());
        }
        // The terminator is zeroes.
        put(&mut frame, FRAME, self.x[29].to_le_bytes());
        put(&mut frame, FRAME + 8, self.x[30].to_le_bytes());
        (address, frame)
    }

    fn enter_handler(&mut self, delivery: &Delivery, frame_address: u64) {
        self.x[0] = delivery.signo.cast_unsigned().into();
        self.x[1] = frame_address;
        self.x[2] = frame_address + UC as u64;
        self.x[29] = frame_address + FRAME as u64;
        self.x[30] = delivery.restorer;
        self.sp = frame_address;
        self.pc = delivery.handler;
        // BTYPE: a handler is entered like any function, not as the target of the branch that was interrupted.
        self.pstate &= USER_PSTATE & !(3 << 10);
    }

    fn frame_location(&self) -> (u64, usize) {
        (self.sp, FRAME)
    }

    fn restore_frame(&mut self, frame: &[u8]) -> Result<Restored, BadFrame> {
        if frame.len() < FRAME || !self.sp.is_multiple_of(16) {
            return Err(BadFrame);
        }
        let pstate = get_u64(frame, PSTATE)?;
        if pstate & PSTATE_FORBIDDEN != 0 {
            return Err(BadFrame);
        }
        let fp = parse_records(frame)?;
        let restored = Restored {
            mask: get_u64(frame, UC_SIGMASK)?,
            alt_stack: AltStack {
                sp: get_u64(frame, UC_STACK)?,
                flags: get_u32(frame, UC_STACK + 8)?.cast_signed(),
                size: get_u64(frame, UC_STACK + 16)?,
            },
        };
        let mut registers = [0; 31];
        for (i, register) in registers.iter_mut().enumerate() {
            *register = get_u64(frame, REGS + 8 * i)?;
        }
        (self.sp, self.pc) = (get_u64(frame, SP)?, get_u64(frame, PC)?);
        self.x = registers;
        self.pstate = pstate & USER_PSTATE;
        self.fp = fp;
        Ok(restored)
    }
}
