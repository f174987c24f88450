//! Going to sleep, and coming back.

use crate::{
    cpu::PerCpu,
    executor::Executor,
    platform::Platform,
    prim::{
        Ordering::{AcqRel, Relaxed, SeqCst},
        fence,
    },
    ready::Away,
};

impl<P: Platform> Executor<P> {
    /// Whether the calling CPU may sleep: nothing is ready and nothing can be stolen. The timer has been armed for the next
    /// event, if there is one. From then on whatever becomes ready here interrupts the CPU. Interrupts masked.
    pub fn enter_idle(&self) -> bool {
        let Some((me, cpu)) = self.here() else { return false };
        if self.has_left(me) {
            return true;
        }
        self.idle.fetch_or(1 << me, AcqRel);
        // Said first, looked second; whoever makes a user task stealable looks second as well.
        fence(SeqCst);
        let quiet = !self.has_local_work(cpu) && !self.steal(me, cpu) && {
            self.arm(cpu, cpu.next_event.get());
            cpu.ready.leave(Away::Asleep)
        };
        if quiet {
            let now = P::now();
            cpu.note_load(now);
            cpu.times.idle.start(now);
            cpu.counts.idles.add(1);
        } else {
            self.idle.fetch_and(!(1 << me), AcqRel);
        }
        quiet
    }

    fn has_local_work(&self, cpu: &PerCpu<P>) -> bool {
        Self::higher_ready(cpu) || (cpu.runnable.load(Relaxed) != 0 && cpu.user.with(|queue| queue.len()) != 0)
    }

    /// The calling CPU is awake again, or did not sleep.
    pub fn exit_idle(&self) {
        let Some((me, cpu)) = self.here() else { return };
        if self.has_left(me) {
            return;
        }
        cpu.ready.back(Away::Asleep);
        self.idle.fetch_and(!(1 << me), AcqRel);
        cpu.times.idle.stop_once(P::now());
    }

    /// An interrupt has come at `now`: if the calling CPU was asleep, it no longer is. In interrupt context, first of all,
    /// so that the time an interrupt takes is no time asleep; one atomic operation.
    pub fn interrupted(&self, now: u64) {
        if let Some(cpu) = self.cpus.get(P::cpu() as usize) {
            cpu.times.idle.stop_once(now);
        }
    }
}
