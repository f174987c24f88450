//! The gate to user mode.
//!
//! A user thread's poll ends in user mode, and comes back by a trap. Going there is the same transition as falling asleep:
//! a compare-exchange on the ready word from "nothing ready" to `IN_USER`, with interrupts masked, so that whatever becomes
//! ready later finds the bit and interrupts the CPU, and whatever became ready before keeps the gate shut.
//!
//! The caller's loop:
//!
//! ```text
//! loop {
//!     mask interrupts
//!     match executor.try_enter_user() {
//!         Ok(visit) => { trap = enter user mode; visit.leave(); dispatch an interrupt if that is what it was; unmask;
//!                        serve the trap, maybe awaiting }
//!         Err(Preempted) => { unmask; yield_now().await }
//!     }
//! }
//! ```
//!
//! `yield_now` puts the thread back into its CPU's user queue, by its virtual time: what closed the gate runs first, and
//! the thread goes on here, or on an idle CPU that takes it.

use core::marker::PhantomData;

use crate::{
    cpu::{NEVER, PerCpu},
    executor::Executor,
    options::WEIGHT_ONE,
    platform::Platform,
    prim::Ordering::Relaxed,
    ready::{Away, INBOX, POKE, TIMER},
};

/// The gate did not open, because something is to run first: a higher class, another user task, or the thread itself,
/// which was woken or aborted meanwhile. Unmask interrupts, await [`yield_now`](crate::yield_now), try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preempted;

/// The calling CPU is in user mode, as far as others are concerned.
#[must_use = "a CPU that never leaves user mode wakes nobody"]
pub struct InUser<'a, P: Platform> {
    cpu: &'a PerCpu<P>,
    began: u64,
    /// It stays on its CPU.
    not_send: PhantomData<*const ()>,
}

impl<P: Platform> InUser<'_, P> {
    /// From when on the time counts as user mode's, by [`Platform::ticks`].
    #[inline]
    pub const fn began(&self) -> u64 {
        self.began
    }

    /// Back from user mode: interrupts still masked, before the trap is looked at. When user mode ended, by [`Platform::ticks`].
    #[inline]
    pub fn leave(self) -> u64 {
        let now = P::ticks();
        self.cpu.ready.back(Away::InUser);
        self.cpu.user_watch().end(now);
        now
    }
}

impl<P: Platform> Executor<P> {
    /// Opens the way to user mode for the user task that the calling CPU polls. Interrupts are masked, and stay so until
    /// user mode is entered directly afterwards; [`InUser::leave`] follows the trap.
    ///
    /// In between the CPU counts as being in user mode. It must wake nothing, spawn nothing and arm no timer there: a wake
    /// by a CPU that is away interrupts nobody, and hides the need to from those that follow. Whatever may wake comes before
    /// the gate; a debug build panics if it does not.
    ///
    /// From here on a wake on this CPU, of a higher class or of another user task, interrupts user mode; so does a wake or
    /// an abort of the running task itself, so that a signal is delivered at once. The one-shot timer is armed for the
    /// next sleeper, and for the end of the slice if another user task waits; with neither user mode runs without a tick, but for
    /// the one interrupt that an earlier slice may have left armed.
    ///
    /// # Errors
    /// [`Preempted`]: the CPU is not marked as in user mode.
    #[inline]
    pub fn try_enter_user(&self) -> Result<InUser<'_, P>, Preempted> {
        let Some((me, cpu)) = self.here() else {
            return Err(Preempted);
        };
        if Self::is_calm(cpu) && cpu.ready.leave(Away::InUser) {
            return Ok(Self::enter(cpu));
        }
        match self.try_gate(me, cpu) {
            Ok(()) => Ok(Self::enter(cpu)),
            Err(preempted) => {
                cpu.counts.preemptions.add(1);
                Err(preempted)
            }
        }
    }

    /// Whether nothing has come up since the gate last opened in this poll, but for what the ready word says: the way of a call
    /// that returns at once. A new mask of CPUs or share comes with [`POKE`], an abort and every wake from elsewhere with [`INBOX`].
    #[inline]
    fn is_calm(cpu: &PerCpu<P>) -> bool {
        let calm = cpu.running.calm.get() != 0;
        debug_assert!(
            !calm || Self::is_free_of_others(cpu),
            "something has come up and not stirred"
        );
        calm
    }

    /// Whether the CPU's own state has nothing for the gate to look at.
    fn is_free_of_others(cpu: &PerCpu<P>) -> bool {
        cpu.running.woken.get() == 0
            && cpu.woken_drivers.get() == 0
            && cpu.summoned.get() == 0
            && cpu.fifos[0].is_empty()
            && cpu.fifos[1].is_empty()
            && cpu.armed.get() <= cpu.next_event.get()
    }

    /// The gate has opened.
    #[inline]
    fn enter(cpu: &PerCpu<P>) -> InUser<'_, P> {
        let began = P::ticks();
        cpu.counts.user_entries.add(1);
        cpu.user_watch().begin(began);
        InUser {
            cpu,
            began,
            not_send: PhantomData,
        }
    }

    #[inline(never)]
    fn try_gate(&self, me: u32, cpu: &PerCpu<P>) -> Result<(), Preempted> {
        let Some(task) = self.slab.get(cpu.current.get()) else {
            return Err(Preempted);
        };
        loop {
            // Queues are sorted out here rather than by a round through the loop: most wakes of user tasks do not preempt.
            let bits = cpu.ready.take(TIMER | INBOX | POKE);
            if bits != 0 {
                self.serve_queues(me, cpu, bits);
            }
            let elsewhere = task.affinity.get() & self.online.load(Relaxed);
            if task.state().is_woken() || (elsewhere != 0 && elsewhere >> me & 1 == 0) {
                return Err(Preempted);
            }
            let now = P::now();
            let higher = Self::higher_ready(cpu);
            let granted = now < cpu.running.granted_until.get();
            if higher && !granted {
                return Err(Preempted);
            }
            let mut until = if higher { cpu.running.granted_until.get() } else { NEVER };
            if task.share.get() != cpu.running.share.get() {
                self.change_running(me, cpu, task, now);
            }
            if cpu.runnable.load(Relaxed) >= 2 {
                if Self::is_contended(cpu) {
                    until = until.min(self.contend(me, cpu, now)?);
                } else if let Some(rival) = self.rival(cpu) {
                    until = until.min(Self::contend_fairly(cpu, rival, now)?);
                }
            }
            self.arm_by(cpu, until.min(cpu.next_event.get()));
            if higher {
                cpu.ready.leave_regardless(Away::InUser);
            } else if !cpu.ready.leave(Away::InUser) {
                continue;
            }
            cpu.note_load(now);
            // Alone, it stands in the load so. Another comes through the inbox.
            let alone = cpu.runnable.load(Relaxed) == 1 && cpu.active.get() == 1;
            let calm = alone && !higher && cpu.running.woken.get() == 0 && cpu.armed.get() <= cpu.next_event.get();
            debug_assert!(!calm || Self::is_free_of_others(cpu), "looked at above");
            cpu.running.calm.set(calm.into());
            // A real-time one has more.
            cpu.running.low.set((task.share.get() < WEIGHT_ONE).into());
            return Ok(());
        }
    }

    /// The virtual time of the most deserving fair task that waits here.
    fn rival(&self, cpu: &PerCpu<P>) -> Option<u64> {
        cpu.user.with(|queue| queue.fair.least(&self.slab))
    }

    /// Until when the running fair task may go on, beside one that waits with the virtual time `rival`.
    ///
    /// # Errors
    /// [`Preempted`] if it may not.
    #[inline]
    pub(crate) fn contend_fairly(cpu: &PerCpu<P>, rival: u64, now: u64) -> Result<u64, Preempted> {
        let mine = cpu.running_time(now).unwrap_or(0);
        let slice_end = cpu.running.slice_end.get();
        // Within its slice it gives way to who is a slice behind: tasks that talk to each other, one of which began a
        // little earlier, do not take the CPU from each other at every word. Who has slept for long has two in hand.
        if now >= slice_end || rival.saturating_add(P::USER_SLICE) < mine {
            return Err(Preempted);
        }
        Ok(slice_end)
    }

    /// When the poll of the user task that the calling CPU runs began, by the platform's clock; `None` where none runs. Task
    /// context.
    #[inline]
    pub fn poll_began(&self) -> Option<u64> {
        let (_, cpu) = self.here()?;
        let since = cpu.running.since.get();
        (since != NEVER).then_some(since)
    }

    /// The time, for the outermost future of a user task at the end of its poll: the executor, which has to know when that was, does
    /// not look at the clock again then. Task context.
    #[inline]
    pub fn poll_ends(&self) -> u64 {
        let now = P::now();
        if let Some((_, cpu)) = self.here() {
            cpu.clock.set(now);
            cpu.fresh.set(1);
        }
        now
    }

    /// Whether something waits for the calling CPU that goes before the running task: for a long piece of kernel work to
    /// await [`yield_now`](crate::yield_now) by. Task context.
    pub fn should_yield(&self) -> bool {
        let Some((_, cpu)) = self.here() else { return false };
        Self::higher_ready(cpu)
            || cpu.ready.peek(TIMER | INBOX) != 0
            || (cpu.runnable.load(Relaxed) >= 2 && self.has_rival(cpu))
    }

    /// Whether a user task that waits goes before the running one.
    fn has_rival(&self, cpu: &PerCpu<P>) -> bool {
        if Self::is_contended(cpu) {
            self.is_outranked(cpu, P::now())
        } else {
            self.rival(cpu).is_some() && P::now() >= cpu.running.slice_end.get()
        }
    }
}
