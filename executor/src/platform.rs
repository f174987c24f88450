//! What the executor asks of the machine under it.

use crate::{Event, Executor};

/// The machine: clock, one-shot timer, inter-processor interrupt, idling. All functions are static, because there is one
/// machine and because a waker is an integer with no room for a reference.
///
/// A wrong implementation can lose wakes and starve tasks; it cannot break memory safety.
pub trait Platform: Sized + Send + Sync + 'static {
    /// The lock of the executor's own short critical sections (timer wheels, user run queues): in the kernel, the
    /// interrupt-masking one. Never taken in interrupt context, never while foreign code runs.
    type RawLock: lock_api::RawMutex + Send + Sync + 'static;

    /// How long a user task runs before another runnable one gets its turn, in nanoseconds.
    const USER_SLICE: u64 = 4_000_000;

    /// The most times an idle CPU looks again before it sleeps; 0 where spinning never pays.
    const SPIN: u32 = 0;

    /// The one executor. On a host that runs many machines in one process: the calling thread's.
    fn executor() -> &'static Executor<Self>;

    /// The calling CPU, dense from 0, stable between awaits. A host thread that is no CPU answers `u32::MAX`; it may
    /// spawn with an explicit CPU, wake and abort, nothing else.
    fn cpu() -> u32;

    /// Whether the caller is in interrupt context: has interrupted what its CPU was doing. Then nothing is touched but what
    /// may be touched from everywhere. Called in any context.
    fn in_interrupt() -> bool;

    /// Nanoseconds since boot: monotonic, the same on every CPU.
    fn now() -> u64;

    /// The counter behind [`Platform::now`], for time that is only added up and looked at later: going to user mode and coming back
    /// read it, and nothing else, so it should be as cheap as it gets. It need not be ordered against what surrounds it; on one CPU it
    /// never goes back.
    #[inline]
    fn ticks() -> u64 {
        Self::now()
    }

    /// How many nanoseconds so many [`Platform::ticks`] are.
    #[inline]
    fn nanoseconds(ticks: u64) -> u64 {
        ticks
    }

    /// Arms the calling CPU's one-shot timer, replacing what was armed; `None` disarms it. It may fire late, never early,
    /// and fires at once if the deadline has passed. Its interrupt leaves it disarmed and calls
    /// [`Executor::timer_interrupt`].
    fn arm_timer(deadline: Option<u64>);

    /// Interrupts another CPU, waking it from [`Platform::idle`] or bringing it out of user mode. Stores made before are
    /// visible to whoever sees the interrupt: the barrier is the platform's (`dsb ishst` before the GIC write, a fence
    /// before the x2APIC's). Called in any context.
    fn send_ipi(cpu: u32);

    /// Masks interrupts, calls `check`, and if that says true waits until an interrupt is pending, with no window in which
    /// it could be missed; unmasks. May return early.
    fn idle(check: impl FnOnce() -> bool);

    /// Called in the middle of what another CPU or an interrupt might see half done; does nothing. A simulation lets others
    /// run here.
    #[inline]
    fn checkpoint() {}

    /// Told of what the calling CPU does, while [`Executor::set_tracing`] is on: polls and wakes. Called in any context, so it
    /// takes no lock and no memory.
    #[inline]
    fn trace(_: Event) {}

    /// A hint that the memory there is read soon: many tasks in a queue are in no cache. Does nothing where a machine has no
    /// such hint.
    #[inline]
    fn prefetch<T>(_: &T) {}

    /// A hint that the caller spins.
    fn relax() {
        core::hint::spin_loop();
    }
}
