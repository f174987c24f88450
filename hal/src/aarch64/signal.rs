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

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::exception_frame::{USER_PSTATE, UserContext};
use crate::signal::{AltStack, Delivery, FrameError, Restored, SignalFrames};

const RESERVED_BYTES: usize = 4096;
const FRAME: usize = size_of::<Head>() + RESERVED_BYTES;
/// `{fp, lr}`, behind the frame.
const RECORD: usize = 16;

/// `struct _aarch64_ctx` magics.
const FPSIMD_MAGIC: u32 = 0x4650_8001;
const ESR_MAGIC: u32 = 0x4553_5201;
/// `PSTATE` bits that a frame may not have set: AArch32, and D, A, I, F.
const PSTATE_FORBIDDEN: u64 = 0xf << 6 | 0x1f;

/// `struct rt_sigframe` up to `__reserved`: 128 bytes of siginfo, then `struct ucontext`, whose `sigcontext` is aligned to 16.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Head {
    info: [u8; 128],
    uc_flags: u64,
    uc_link: u64,
    ss_sp: u64,
    ss_flags: i32,
    ss_pad: u32,
    ss_size: u64,
    sigmask: u64,
    unused: [u64; 16],
    fault_address: u64,
    x: [u64; 31],
    sp: u64,
    pc: u64,
    pstate: u64,
    padding: u64,
}

/// `struct _aarch64_ctx`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, PartialEq, Eq)]
#[repr(C)]
struct Header {
    magic: u32,
    size: u32,
}

/// `struct fpsimd_context` up to `vregs`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct FpSimd {
    header: Header,
    fpsr: u32,
    fpcr: u32,
}

/// `struct esr_context` and the terminator; or the terminator and what nobody reads.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Tail {
    esr: Header,
    esr_value: u64,
    end: Header,
    padding: u64,
}

/// Bytes of `vregs`.
const VREGS: usize = 512;
const END: Header = Header { magic: 0, size: 0 };
const FPSIMD: Header = Header {
    magic: FPSIMD_MAGIC,
    size: (size_of::<FpSimd>() + VREGS) as u32,
};

const _: () = assert!(core::mem::offset_of!(Head, fault_address) == UC as usize + 176);
const _: () = assert!(size_of::<Head>() == UC as usize + 176 + 288);
const _: () = assert!(size_of::<FpSimd>() == 16 && FPSIMD.size == 528);

/// Offset of the ucontext.
const UC: u64 = 128;

/// Walks the records of `__reserved`, which begins at `at`: where the fpsimd_context is. There must be exactly one; Linux insists
/// on it as well. Records that point to more room than `__reserved` has are never written here.
fn find_fp<E>(mut at: u64, copy: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>) -> Result<u64, FrameError<E>> {
    let end = at + RESERVED_BYTES as u64;
    let mut fp = None;
    loop {
        let mut header = END;
        copy(at, header.as_mut_bytes())?;
        let next = at + u64::from(header.size);
        match header {
            END => return fp.ok_or(FrameError::Malformed),
            FPSIMD if fp.is_none() => fp = Some(at),
            Header { magic: ESR_MAGIC, .. } => {}
            _ => return Err(FrameError::Malformed),
        }
        if header.size < 16 || !header.size.is_multiple_of(16) || next > end - size_of::<Header>() as u64 {
            return Err(FrameError::Malformed);
        }
        at = next;
    }
}

impl UserContext {
    fn head(&self, delivery: &Delivery) -> Head {
        Head {
            info: delivery.info,
            uc_flags: 0,
            uc_link: 0,
            ss_sp: delivery.alt_stack.sp,
            ss_flags: delivery.alt_stack.flags,
            ss_pad: 0,
            ss_size: delivery.alt_stack.size,
            sigmask: delivery.saved_mask,
            unused: [0; 16],
            fault_address: delivery.fault_address,
            x: self.x,
            sp: self.sp,
            pc: self.pc,
            pstate: self.pstate,
            padding: 0,
        }
    }

    fn tail(&self, delivery: &Delivery) -> Tail {
        let esr = Header {
            magic: ESR_MAGIC,
            size: 16,
        };
        let (esr, esr_value) = match delivery.fault_address {
            0 => (END, 0),
            _ => (esr, self.esr),
        };
        Tail {
            esr,
            esr_value,
            end: END,
            padding: 0,
        }
    }
}

impl SignalFrames for UserContext {
    const SIGNAL_RETURN: Option<&'static str> = Some("__kernel_rt_sigreturn");

    fn frame_address(&self, delivery: &Delivery) -> u64 {
        let record = (delivery.stack_top.wrapping_sub(RECORD as u64)) & !15;
        record.wrapping_sub(FRAME as u64)
    }

    /// As on Linux the rest of `__reserved` is left as it is.
    fn write_frame<E>(&self, delivery: &Delivery, mut copy: impl FnMut(u64, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let address = self.frame_address(delivery);
        let at = |offset: usize| address.wrapping_add(offset as u64);
        let fp = FpSimd {
            header: FPSIMD,
            fpsr: self.fp.fpsr,
            fpcr: self.fp.fpcr,
        };
        copy(at(FRAME), [self.x[29], self.x[30]].as_bytes())?;
        copy(address, self.head(delivery).as_bytes())?;
        let vregs = size_of::<Head>() + size_of::<FpSimd>();
        copy(at(size_of::<Head>()), fp.as_bytes())?;
        copy(at(vregs), self.fp.vregs.as_bytes())?;
        copy(at(vregs + VREGS), self.tail(delivery).as_bytes())
    }

    fn enter_handler(&mut self, delivery: &Delivery, frame_address: u64) {
        self.x[0] = delivery.signo.cast_unsigned().into();
        self.x[1] = frame_address;
        self.x[2] = frame_address + UC;
        self.x[29] = frame_address + FRAME as u64;
        self.x[30] = delivery.restorer;
        self.sp = frame_address;
        self.pc = delivery.handler;
        // BTYPE: a handler is entered like any function, not as the target of the branch that was interrupted.
        self.pstate &= USER_PSTATE & !(3 << 10);
    }

    fn restore_frame<E>(
        &mut self,
        mut copy: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Restored, FrameError<E>> {
        let address = self.sp;
        if !address.is_multiple_of(16) {
            return Err(FrameError::Malformed);
        }
        let mut head = Head::new_zeroed();
        copy(address, head.as_mut_bytes())?;
        if head.pstate & PSTATE_FORBIDDEN != 0 {
            return Err(FrameError::Malformed);
        }
        // The copy would have failed for an address that overflows here.
        let at = find_fp(address + size_of::<Head>() as u64, &mut copy)?;
        let mut fp = FpSimd::new_zeroed();
        copy(at, fp.as_mut_bytes())?;
        copy(at + size_of::<FpSimd>() as u64, self.fp.vregs.as_mut_bytes())?;
        (self.fp.fpsr, self.fp.fpcr) = (fp.fpsr, fp.fpcr);
        (self.sp, self.pc) = (head.sp, head.pc);
        self.x = head.x;
        self.pstate = head.pstate & USER_PSTATE;
        Ok(Restored {
            mask: head.sigmask,
            alt_stack: AltStack {
                sp: head.ss_sp,
                flags: head.ss_flags,
                size: head.ss_size,
            },
        })
    }
}
