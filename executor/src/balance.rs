//! Where user tasks run: placed where there is least to do, stolen by idle CPUs, passed on by busy ones.
//!
//! - A CPU with more than one runnable user task pokes an idle one, if there is one; an idle CPU takes a task before it
//!   sleeps.
//! - When all are busy, a CPU whose tasks have fallen behind passes one on: to a CPU with at least two fewer, or to one
//!   with one fewer whose running task has got ahead by more than two slices of virtual time. Five spinners on four CPUs
//!   so take turns at sharing a CPU, and each gets four fifths of one.
//!
//! # No CPU idles beside a task that it could run
//!
//! Either side says what it has first and looks second, with a full fence between. The CPU that queues: task into the heap,
//! fence, [`Executor::idle`]. The CPU that idles: its bit into `idle`, fence, the others' heaps. So one of them sees the
//! other, at least. The rest is that seeing is enough:
//!
//! - What the one that queues looks for is what the thief will look for: *any* queued task that an idle CPU may run
//!   ([`UserQueue::find`](crate::queue::UserQueue::find)), not the first alone. The first may be bound to this CPU, and once
//!   it runs, for as long as it likes, nobody looks again.
//! - A bit that another has cleared means a CPU that is awake or being called. It sets the bit again, and looks again,
//!   before it sleeps; and as every change of `idle` is a read-modify-write, it then sees what the loser of the bit had
//!   queued. The loser tries the next idle CPU.
//! - A thief that has been called by one CPU may take from another. So having taken, it passes the call on for every CPU
//!   that has more than it can run.
//! - A mask that is widened is a task queued for those whom it admits: [`Executor::set_affinity`] pokes the task's CPU,
//!   which pokes on.
//!
//! # A mask is obeyed wherever the task is
//!
//! [`Executor::set_affinity`] writes the mask, then reads the task's CPU and pokes it; who moves a task writes its CPU, then
//! has the mask looked at (by the gate, or when it is queued); a full fence between on either side. So the poke goes to the
//! CPU that has the task, or that CPU sees the new mask.
//!
//! Two cases are left to the end of the running task's slice, which is armed whenever another task waits: a heap in which
//! the bounded look passes the task by, and a task that is stolen while its mask is being widened.

use core::cmp::Reverse;

use crate::{
    cpu::PerCpu,
    executor::Executor,
    platform::Platform,
    prim::Ordering::{AcqRel, Relaxed, SeqCst},
    prim::fence,
    ready::{INBOX, POKE},
    task::Task,
};

/// The numbers of the bits that are set, ascending.
#[inline]
pub fn bits(mask: u64) -> impl Iterator<Item = u32> + Clone {
    core::iter::successors(Some(mask), |mask| Some(mask & mask.wrapping_sub(1)))
        .take_while(|mask| *mask != 0)
        .map(u64::trailing_zeros)
}

impl<P: Platform> Executor<P> {
    /// The CPU of `mask` that runs and has the fewest runnable user tasks, the caller's among equals; `None` if there is
    /// none. Before any CPU runs: the caller's.
    pub(crate) fn least_loaded(&self, mask: u64) -> Option<u32> {
        let me = P::cpu();
        let online = self.online.load(Relaxed);
        if online == 0 {
            let here = me < 64 && mask >> me & 1 == 1;
            return if here { Some(me) } else { bits(mask).next() };
        }
        bits(online & mask).min_by_key(|&cpu| (self.cpus[cpu as usize].runnable.load(Relaxed), cpu != me))
    }

    /// Sends a task, whose link is the caller's and which is counted here, to a CPU where it may run. False if there is
    /// none.
    pub(crate) fn forward(&self, me: u32, cpu: &PerCpu<P>, task: Task<'_>) -> bool {
        let mask = task.affinity.get() & self.online.load(Relaxed) & !(1 << me);
        let Some(target) = self.least_loaded(mask).filter(|_| mask != 0) else {
            return false;
        };
        self.send(cpu, task, target);
        true
    }

    pub(crate) fn send(&self, from: &PerCpu<P>, task: Task<'_>, target: u32) {
        let to = &self.cpus[target as usize];
        to.runnable.fetch_add(1, Relaxed);
        from.runnable.fetch_sub(1, Relaxed);
        from.counts.pushes.add(1);
        task.set_home(target);
        fence(SeqCst);
        to.ready.push(task);
        self.mark(target, INBOX);
    }

    /// Wakes an idle CPU, other than `me`, if there is a user task on `cpu` that it could take. To be called after such a
    /// task was queued there, or was given a wider mask.
    pub(crate) fn poke_idle(&self, me: u32, cpu: &PerCpu<P>) {
        if cpu.runnable.load(Relaxed) < 2 {
            return;
        }
        fence(SeqCst);
        let mut idle = self.idle.load(Relaxed) & !(1 << me);
        while idle != 0 {
            // Any task that is queued, not the first alone: that one may have to stay.
            let affinity = cpu
                .user
                .with(|queue| queue.find(&self.slab, idle).map(|task| task.affinity.get()));
            let Some(chosen) = bits(idle & affinity.unwrap_or(0)).next() else {
                return;
            };
            let before = self.idle.fetch_and(!(1 << chosen), AcqRel);
            if before >> chosen & 1 == 1 {
                self.mark(chosen, POKE);
                return;
            }
            // Awake already, or called by another: it looks again before it sleeps. Try the next.
            idle &= before & !(1 << chosen);
        }
    }

    /// Takes a user task from a CPU that has more than it can run.
    pub(crate) fn steal(&self, me: u32, cpu: &PerCpu<P>) -> bool {
        let others = self.online.load(Relaxed) & !(1 << me);
        // Start after oneself, so that idle CPUs do not all go for the same victim.
        let after = others & u64::MAX.checked_shl(me + 1).unwrap_or(0);
        for victim in bits(after).chain(bits(others & !after)) {
            let victim = &self.cpus[victim as usize];
            if victim.runnable.load(Relaxed) < 2 {
                continue;
            }
            let Some(task) = victim
                .user
                .with(|queue| queue.steal(&self.slab, &victim.waits, 1 << me))
            else {
                continue;
            };
            self.take_over(me, cpu, victim, task);
            // One poke wakes one thief, and maybe not for whom it came; it passes the call on while there is more to take.
            for other in bits(others) {
                self.poke_idle(me, &self.cpus[other as usize]);
            }
            return true;
        }
        false
    }

    /// Queues a task here that was taken from another CPU's queue.
    pub(crate) fn take_over(&self, me: u32, cpu: &PerCpu<P>, victim: &PerCpu<P>, task: Task<'_>) {
        cpu.runnable.fetch_add(1, Relaxed);
        victim.runnable.fetch_sub(1, Relaxed);
        // It may be in user mode, and stay there.
        let now = P::now();
        victim.note_load(now);
        task.set_home(me);
        fence(SeqCst);
        let running = cpu.running_time(now);
        cpu.user
            .with(|queue| queue.place(&self.slab, &cpu.waits, task, 2 * P::USER_SLICE, running));
        cpu.counts.steals.add(1);
    }

    /// Now and then: passes the most deserving waiting task on, if it would fare better elsewhere.
    pub(crate) fn balance(&self, me: u32, cpu: &PerCpu<P>, now: u64) {
        let load = cpu.runnable.load(Relaxed);
        if load < 2 || now < cpu.next_balance.get() {
            return;
        }
        cpu.next_balance.set(now + 2 * P::USER_SLICE);
        let Some((time, affinity)) = cpu.user.with(|queue| {
            let first = queue.fair.heap.first(&self.slab).filter(|_| queue.len() > 1);
            first.map(|task| (task.key.get(), task.affinity.get()))
        }) else {
            return;
        };
        let candidates = self.without_real_time(self.online.load(Relaxed) & affinity & !(1 << me));
        let measured = bits(candidates).map(|other| {
            let other_cpu = &self.cpus[other as usize];
            let ahead = other_cpu.running_time(now).unwrap_or(0).saturating_sub(time);
            (other_cpu.runnable.load(Relaxed), Reverse(ahead), other)
        });
        let Some((other_load, Reverse(ahead), target)) = measured.min() else {
            return;
        };
        if other_load + 2 <= load || (other_load + 1 == load && ahead > 2 * P::USER_SLICE) {
            let taken = cpu
                .user
                .with(|queue| queue.steal_fair(&self.slab, &cpu.waits, 1 << target));
            if let Some(task) = taken {
                self.send(cpu, task, target);
            }
        }
    }
}
