//! The part of signal delivery that has a different layout on each architecture.
//!
//! `arch::signal` implements [`SignalFrames`] for `arch::UserContext`, so that what lands on the user stack is byte for
//! byte Linux's `struct rt_sigframe` (`arch/*/include/uapi/asm/sigcontext.h`, `ucontext.h`).

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

/// Why a frame was not restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError<E> {
    /// No kernel would have written it: the thread gets SIGSEGV.
    Malformed,
    /// It could not be read.
    Unread(E),
}

impl<E> From<E> for FrameError<E> {
    fn from(error: E) -> Self {
        Self::Unread(error)
    }
}

/// Building and reading signal frames. FP/SIMD state is taken from and put into the context's saved copy, which the
/// caller has made current with [`FpOps::save`](crate::traits::FpOps::save) first.
pub trait SignalFrames: Sized {
    /// What in the vDSO handlers return to in programs that give no restorer (aarch64); `None` where every C library brings its own.
    const SIGNAL_RETURN: Option<&'static str>;

    /// Where the frame begins, which becomes the handler's stack pointer.
    fn frame_address(&self, delivery: &Delivery) -> u64;

    /// Copies the frame to the program, piece by piece: `copy` gets a user address and what belongs there. The context is not
    /// changed.
    ///
    /// # Errors
    /// That of `copy`; the frame may be there in part.
    fn write_frame<E>(&self, delivery: &Delivery, copy: impl FnMut(u64, &[u8]) -> Result<(), E>) -> Result<(), E>;

    /// Points the context at the handler, once the frame has been copied to `frame_address`.
    fn enter_handler(&mut self, delivery: &Delivery, frame_address: u64);

    /// Puts the registers and FP/SIMD state of the frame that `rt_sigreturn` is about into the context, with every privileged bit
    /// sanitised. `copy` fetches what stands at a user address.
    ///
    /// # Errors
    /// [`FrameError`]; the context is then unchanged, but for FP/SIMD registers if it was those that could not be read.
    fn restore_frame<E>(
        &mut self,
        copy: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Restored, FrameError<E>>;
}
