//! The part of signal delivery that has a different layout on each architecture.
//!
//! `arch::signal` implements [`SignalFrames`] for `arch::UserContext`, so that what lands on the user stack is byte for
//! byte Linux's `struct rt_sigframe` (`arch/*/include/uapi/asm/sigcontext.h`, `ucontext.h`).

use alloc::vec::Vec;

/// `stack_t` (`asm-generic/signal-defs.h`): the alternate signal stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AltStack {
    /// `ss_sp`.
    pub sp: u64,
    /// `ss_flags`.
    pub flags: i32,
    /// `ss_size`.
    pub size: u64,
}

/// What the kernel decided about one delivery.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The signal number.
    pub signo: i32,
    /// `sa_handler`.
    pub handler: u64,
    /// Where the handler returns to: `sa_restorer`, or the trampoline page's address where the program gave none.
    pub restorer: u64,
    /// The frame is built below this address (the user's stack pointer, or the top of the alternate stack). Where it is
    /// the interrupted stack, the architecture leaves its red zone alone.
    pub stack_top: u64,
    /// Whether `stack_top` is an alternate stack's top.
    pub on_alt_stack: bool,
    /// The signal mask to put back at `rt_sigreturn`.
    pub saved_mask: u64,
    /// The alternate stack as `uc_stack` reports it.
    pub alt_stack: AltStack,
    /// `siginfo_t`, ready for the user.
    pub info: [u8; 128],
    /// The fault address and architecture code, for the frame's sigcontext; zero for other signals.
    pub fault_address: u64,
}

/// What `rt_sigreturn` found in a frame besides registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The signal mask to put back.
    pub mask: u64,
    /// The alternate stack to put back.
    pub alt_stack: AltStack,
}

/// A frame that no kernel would have written: the thread gets SIGSEGV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame;

/// Building and reading signal frames. FP/SIMD state is taken from and put into the context's saved copy, which the
/// caller has made current with [`FpOps::save`](crate::traits::FpOps::save) first.
pub trait SignalFrames: Sized {
    /// Code to be mapped, read-only and executable, at the start of a page of each process and used as the restorer by
    /// programs that give none (aarch64); empty where every C library brings its own.
    const TRAMPOLINE: &'static [u8];

    /// The frame's bytes and the user address they belong at, which becomes the handler's stack pointer. The context is
    /// not changed.
    fn build_frame(&self, delivery: &Delivery) -> (u64, Vec<u8>);

    /// Points the context at the handler, once the frame has been copied to `frame_address`.
    fn enter_handler(&mut self, delivery: &Delivery, frame_address: u64);

    /// The bytes `rt_sigreturn` has to read: their user address and how many.
    fn frame_location(&self) -> (u64, usize);

    /// Puts the registers and FP/SIMD state of the frame into the context, with every privileged bit sanitised.
    ///
    /// # Errors
    /// [`BadFrame`] if the frame is malformed; the context is then unchanged.
    fn restore_frame(&mut self, frame: &[u8]) -> Result<Restored, BadFrame>;
}
