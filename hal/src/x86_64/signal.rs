//! Signal frames: `struct rt_sigframe` of `arch/x86/include/asm/sigframe.h`, with what programs know as `ucontext_t`.
//!
//! ```text
//!   0  pretcode            the restorer, where the handler returns to
//!   8  uc_flags, uc_link, uc_stack
//!  48  struct sigcontext   (arch/x86/include/uapi/asm/sigcontext.h, sigcontext_64)
//! 304  uc_sigmask
//! 312  siginfo
//! 440  (16 bytes unused)
//! 456  XSAVE area, then FP_XSTATE_MAGIC2
//! ```
//!
//! The XSAVE area is aligned to 64, the frame so that the handler starts as after a call; together they make its offset
//! the same in every frame.

use core::{mem::size_of, sync::atomic::Ordering::Relaxed};

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{
    constants::{USER_CS, USER_DS, rflags},
    cpuid::FEATURES,
    fp::{FpState, LEGACY_SIZE, MAGIC2},
    interrupt_frame::UserContext,
};
use crate::signal::{AltStack, Delivery, FrameError, Restored, SignalFrames};

/// `UC_FP_XSTATE`: the floating-point state is an XSAVE area.
const UC_FP_XSTATE: u64 = 1;
/// `UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`: the frame's SS is meant.
const UC_SS: u64 = 2 | 4;
/// Bytes below the stack pointer that a function may use without moving it (System V ABI, 3.2.2).
const RED_ZONE: u64 = 128;
/// `struct sigcontext_64`.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigContext {
    /// r8 to r15.
    high: [u64; 8],
    di: u64,
    si: u64,
    bp: u64,
    bx: u64,
    dx: u64,
    ax: u64,
    cx: u64,
    sp: u64,
    ip: u64,
    flags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    err: u64,
    trapno: u64,
    oldmask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// `struct rt_sigframe` without its siginfo.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    pretcode: u64,
    uc_flags: u64,
    uc_link: u64,
    ss_sp: u64,
    ss_flags: i32,
    ss_pad: u32,
    ss_size: u64,
    context: SigContext,
    sigmask: u64,
}

const FP_OFFSET: usize = 456;
const UC_OFFSET: u64 = 8;
const INFO_OFFSET: u64 = 312;

const _: () = assert!(size_of::<SigContext>() == 256);
const _: () = assert!(size_of::<Frame>() == INFO_OFFSET as usize);

fn has_xsave() -> bool {
    FEATURES.xcr0.load(Relaxed) != 0
}

/// Bytes of the floating-point part: with XSAVE the second magic stands behind it.
fn fp_size() -> usize {
    FpState::used_size() + if has_xsave() { size_of::<u32>() } else { 0 }
}

impl UserContext {
    fn sig_context(&self, delivery: &Delivery, fpstate: u64) -> SigContext {
        SigContext {
            high: [
                self.r8, self.r9, self.r10, self.r11, self.r12, self.r13, self.r14, self.r15,
            ],
            di: self.rdi,
            si: self.rsi,
            bp: self.rbp,
            bx: self.rbx,
            dx: self.rdx,
            ax: self.rax,
            cx: self.rcx,
            sp: self.rsp,
            ip: self.rip,
            flags: self.rflags,
            cs: USER_CS,
            gs: 0,
            fs: 0,
            ss: USER_DS,
            err: self.error_code,
            trapno: self.trap_number,
            oldmask: delivery.saved_mask,
            cr2: self.cr2,
            fpstate,
            reserved: [0; 8],
        }
    }

    /// Copies the floating-point part of the frame to `address`.
    fn write_fp<E>(&self, address: u64, copy: &mut impl FnMut(u64, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let at = |offset: usize| address.wrapping_add(offset as u64);
        if self.fp.is_reset() {
            copy(address, FpState::default().bytes())?;
        } else {
            copy(address, self.fp.bytes())?;
        }
        if !has_xsave() {
            return Ok(());
        }
        // As Linux does, x87 and SSE are declared present even where they are in their initial state.
        let present = self.fp.bytes()[LEGACY_SIZE];
        if present & 0b11 != 0b11 {
            copy(at(LEGACY_SIZE), &[present | 0b11])?;
        }
        copy(at(FpState::used_size()), &MAGIC2.to_le_bytes())
    }

    /// Takes the floating-point state over from the frame's part at `address`. It is initial if that cannot be read.
    fn read_fp<E>(&mut self, address: u64, copy: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>) -> Result<(), E> {
        let mut magic2 = [0; 4];
        let mut read = copy(address, self.fp.bytes_mut());
        if read.is_ok() && has_xsave() {
            read = copy(address.wrapping_add(FpState::used_size() as u64), &mut magic2);
        }
        match read {
            Ok(()) => self.fp.sanitise(u32::from_le_bytes(magic2)),
            Err(_) => self.fp.reset(),
        }
        read
    }

    /// Where the floating-point part of a new frame begins.
    fn fp_address(delivery: &Delivery) -> u64 {
        let top = if delivery.on_alt_stack {
            delivery.stack_top
        } else {
            delivery.stack_top.wrapping_sub(RED_ZONE)
        };
        top.wrapping_sub(fp_size() as u64) & !63
    }
}

impl SignalFrames for UserContext {
    const SIGNAL_RETURN: Option<&'static str> = None;

    fn frame_address(&self, delivery: &Delivery) -> u64 {
        Self::fp_address(delivery).wrapping_sub(FP_OFFSET as u64)
    }

    fn write_frame<E>(&self, delivery: &Delivery, mut copy: impl FnMut(u64, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let fpstate = Self::fp_address(delivery);
        let frame = Frame {
            pretcode: delivery.restorer,
            uc_flags: UC_SS | if has_xsave() { UC_FP_XSTATE } else { 0 },
            uc_link: 0,
            ss_sp: delivery.alt_stack.sp,
            ss_flags: delivery.alt_stack.flags,
            ss_pad: 0,
            ss_size: delivery.alt_stack.size,
            context: self.sig_context(delivery, fpstate),
            sigmask: delivery.saved_mask,
        };
        let address = self.frame_address(delivery);
        copy(address, frame.as_bytes())?;
        copy(address.wrapping_add(INFO_OFFSET), &delivery.info)?;
        self.write_fp(fpstate, &mut copy)
    }

    /// As on Linux the handler starts with initial floating-point state.
    fn enter_handler(&mut self, delivery: &Delivery, frame_address: u64) {
        self.rdi = u64::from(delivery.signo.cast_unsigned());
        self.rsi = frame_address.wrapping_add(INFO_OFFSET);
        self.rdx = frame_address.wrapping_add(UC_OFFSET);
        self.rax = 0;
        self.rip = delivery.handler;
        self.rsp = frame_address;
        self.rflags &= !(rflags::DF | rflags::RF | rflags::TF);
        self.orig_rax = u64::MAX;
        self.fp.reset();
    }

    /// A frame may say that it has no floating-point state; it may not have moved it elsewhere.
    fn restore_frame<E>(
        &mut self,
        mut copy: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Restored, FrameError<E>> {
        // The handler's `ret` has taken `pretcode`.
        let address = self.rsp.wrapping_sub(8);
        let mut fixed = Frame::new_zeroed();
        copy(address, fixed.as_mut_bytes())?;
        let context = &fixed.context;
        match context.fpstate {
            0 => self.fp.reset(),
            fpstate if fpstate == address.wrapping_add(FP_OFFSET as u64) => self.read_fp(fpstate, &mut copy)?,
            _ => return Err(FrameError::Malformed),
        }
        [
            self.r8, self.r9, self.r10, self.r11, self.r12, self.r13, self.r14, self.r15,
        ] = context.high;
        self.rdi = context.di;
        self.rsi = context.si;
        self.rbp = context.bp;
        self.rbx = context.bx;
        self.rdx = context.dx;
        self.rax = context.ax;
        self.rcx = context.cx;
        self.rsp = context.sp;
        self.rip = context.ip;
        self.rflags = self.rflags & !rflags::USER | context.flags & rflags::USER | rflags::IF | rflags::FIXED;
        // A restored context is not in a call: nothing is to be restarted.
        self.orig_rax = u64::MAX;
        let alt_stack = AltStack {
            sp: fixed.ss_sp,
            flags: fixed.ss_flags,
            size: fixed.ss_size,
        };
        Ok(Restored {
            mask: fixed.sigmask,
            alt_stack,
        })
    }
}
