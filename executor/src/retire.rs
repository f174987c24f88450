//! Taking a CPU out of service: it stops polling, and others go on with what was its.
//!
//! The CPU that goes wakes everybody who sleeps on its wheel, so that they sleep on elsewhere; sends its user tasks to CPUs
//! they may run on; and last of all writes both away bits into its ready word, which no CPU otherwise has. Whoever makes
//! something ready there from then on finds them, in the one operation that makes it ready, and calls the *heir* instead,
//! another CPU. A second word for "gone" could be looked at too early.
//!
//! The heir takes what stands in the word, the lists and the inbox of the CPU that is gone. Tasks of the timer and service
//! classes become its own. Drivers keep their number and their bit, which their wakers name; the heir polls them at every
//! call. It does so in its own turn, never within a poll. When it goes as well, its own heir does both.

use crate::{
    balance::bits,
    cpu::PerCpu,
    executor::Executor,
    options::Class,
    platform::Platform,
    prim::Ordering::{AcqRel, Acquire, Relaxed, Release},
    ready::{DRIVERS, INBOX, POKE, READY},
};

/// Why a CPU stays in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetireError {
    /// It does not run its loop, or is going already.
    NotOnline,
    /// No other CPU would be left.
    LastCpu,
}

impl core::fmt::Display for RetireError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotOnline => "the CPU is not in service",
            Self::LastCpu => "no other CPU would be left in service",
        })
    }
}

impl core::error::Error for RetireError {}

impl<P: Platform> Executor<P> {
    /// Asks a CPU to leave: its [`Executor::run`] returns once it has, and it is no longer [`Executor::online`]. Its tasks go
    /// on elsewhere: user tasks where their masks allow it, or anywhere if those name no other CPU; all others on one CPU.
    /// Everything that sleeps there is polled once more than it would have been. Interrupts that the CPU still takes may
    /// wake, nothing else. A CPU that has left cannot come back. Any context.
    ///
    /// # Errors
    /// See [`RetireError`].
    pub fn retire(&self, cpu: u32) -> Result<(), RetireError> {
        let bit = 1u64.checked_shl(cpu).unwrap_or(0);
        if self.online.load(Acquire) & bit == 0 {
            return Err(RetireError::NotOnline);
        }
        let mut leaving = self.leaving.load(Relaxed);
        loop {
            if leaving & bit != 0 {
                return Err(RetireError::NotOnline);
            }
            // Never all of them: whoever has begun to leave has an heir.
            if self.online.load(Acquire) & !(leaving | bit) == 0 {
                return Err(RetireError::LastCpu);
            }
            match self.leaving.compare_exchange(leaving, leaving | bit, AcqRel, Relaxed) {
                Ok(_) => break,
                Err(now) => leaving = now,
            }
        }
        self.mark(cpu, POKE);
        Ok(())
    }

    /// Whether a CPU has left, or is about to.
    pub(crate) fn is_leaving(&self, cpu: u32) -> bool {
        self.leaving.load(Relaxed) >> (cpu & 63) & 1 == 1
    }

    /// Whether a CPU has left.
    pub(crate) fn has_left(&self, cpu: u32) -> bool {
        self.is_leaving(cpu) && self.online.load(Acquire) >> (cpu & 63) & 1 == 0
    }

    /// Who looks after a CPU that has left.
    pub(crate) fn heir(&self, cpu: u32) -> u32 {
        let heir = self
            .cpus
            .get(cpu as usize)
            .map_or(cpu, |record| record.heir.load(Acquire));
        // An heir has left later than whom it inherits from, so this ends.
        if self.has_left(heir) { self.heir(heir) } else { heir }
    }

    /// The calling CPU has been poked while some CPU leaves or has left. True if it has left itself. At the beginning of its
    /// turn.
    #[cold]
    pub(crate) fn answer_summons(&self, me: u32, cpu: &PerCpu<P>) -> bool {
        cpu.summoned.set(0);
        for other in bits(self.leaving.load(Acquire)) {
            let Some(gone) = self.cpus.get(other as usize) else {
                continue;
            };
            // By the word, which the other writes when it is done with everything.
            if gone.ready.has_left() && self.heir(other) == me {
                self.serve_for(me, cpu, other, gone);
            }
        }
        let leaves = self.is_leaving(me);
        if leaves {
            self.leave(me, cpu);
        }
        leaves
    }

    /// The calling CPU leaves.
    fn leave(&self, me: u32, cpu: &PerCpu<P>) {
        let staying = self.online.load(Acquire) & !self.leaving.load(Acquire);
        cpu.heir.store(staying.trailing_zeros(), Release);
        self.idle.fetch_and(!(1 << me), AcqRel);
        self.online.fetch_and(!(1 << me), AcqRel);
        self.expire_timers(cpu);
        let inbox = cpu.ready.take(INBOX);
        self.serve_queues(me, cpu, inbox);
        while let Some(task) = cpu.user.with(|queue| queue.pop(&self.slab, &cpu.waits, || false)) {
            if !self.forward(me, cpu, task) {
                self.send(cpu, task, self.heir(me));
            }
        }
        self.slab.empty(&cpu.tasks);
        self.entries.empty(&cpu.entries);
        self.blocks.empty(&cpu.blocks);
        cpu.note_load(P::now());
        // What was woken here in task context stands in a word of its own.
        cpu.ready.mark(cpu.woken_drivers.get());
        cpu.woken_drivers.set(0);
        cpu.turning.set(0);
        cpu.ready.leave_for_good();
        self.mark(self.heir(me), POKE);
    }

    /// Takes over what has become ready on a CPU that has left.
    fn serve_for(&self, me: u32, cpu: &PerCpu<P>, other: u32, gone: &PerCpu<P>) {
        if gone.inherited.get() == 0 {
            gone.inherited.set(1);
            // Before anything of it is looked at: from now on these are woken here, or through the inbox that is emptied next.
            for task in self.slab.iter() {
                if matches!(task.class(), Class::Timer | Class::Service) {
                    // Not if the slot is being used again for a task of another CPU.
                    task.inherit(other, me);
                }
            }
            for (from, to) in gone.fifos.iter().zip(&cpu.fifos) {
                while let Some(task) = from.pop::<P>(&self.slab) {
                    to.push(&self.slab, task);
                }
            }
        }
        // What was cancelled too late for it, which is then free for everybody.
        self.take_cancelled(gone);
        self.entries.empty(&gone.entries);
        self.blocks.empty(&gone.blocks);
        let ready = gone.ready.take(READY);
        if ready & INBOX != 0 {
            self.inherit_inbox(me, cpu, gone);
        }
        self.serve_drivers(cpu, gone, other, ready & DRIVERS);
        self.serve_groups(cpu, gone, other, ready);
    }

    fn inherit_inbox(&self, me: u32, cpu: &PerCpu<P>, gone: &PerCpu<P>) {
        let mut list = gone.ready.take_inbox(&self.slab);
        while let Some(task) = self.slab.get(list) {
            list = task.inbox_next.load(Relaxed);
            if task.class() == Class::User {
                cpu.runnable.fetch_add(1, Relaxed);
                gone.runnable.fetch_sub(1, Relaxed);
            }
            task.set_home(me);
            self.receive_any(me, cpu, task);
        }
    }
}
