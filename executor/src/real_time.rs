//! Real-time user tasks: Linux's `SCHED_FIFO` and `SCHED_RR`.
//!
//! On its CPU a real-time task runs before every fair one and before those of a lower priority, and takes the CPU from them
//! at once; kernel tasks go before it as before every user task. First come, first served: it runs until it waits, yields or
//! one of a higher priority is ready. In turns (`SCHED_RR`): also until its slice is over and an equal waits. Preempted it
//! stays first among its equals; having yielded, waited or used its slice it goes behind them.
//!
//! # Where
//!
//! A real-time task that would wait where it is woken, or that is preempted, is sent to a CPU of its mask where it can run at
//! once: an idle one, else one that runs fair tasks, else the one of the lowest priority ([`Executor::offer`]). If there is
//! none it waits, and a CPU that has done with a real-time task takes it ([`Executor::pull`]). Either side says what it has
//! first and looks second, with a full fence between: who queues writes `waits`, then reads the others' `runs`; who has done
//! writes `runs`, then reads the others' `waits`. Fair tasks pay for neither.
//!
//! A fair task that waits where a real-time one has run for a slice goes to a CPU that has none.
//!
//! # How much
//!
//! Where fair tasks wait, real-time ones get at most [`RUNTIME_NS`] of each [`PERIOD_NS`] of the CPU; after that the fair ones
//! go first until the period is over. Where none waits there is no limit, and no timer for it.

use crate::{
    balance::bits,
    cpu::PerCpu,
    executor::Executor,
    gate::Preempted,
    options::{Class, TaskId},
    platform::Platform,
    prim::{
        AtomicU32,
        Ordering::{Relaxed, SeqCst},
        OwnedU32, OwnedU64, const_fn, fence,
    },
    ready::POKE,
    task::Task,
};

/// The highest priority.
pub const TOP_PRIORITY: u32 = 99;

/// Nanoseconds that a task of the policy by turns runs before an equal that waits.
pub const ROUND_ROBIN_SLICE: u64 = 100_000_000;

/// Of so many nanoseconds real-time tasks get [`RUNTIME_NS`] at most, where fair ones wait.
pub const PERIOD_NS: u64 = 1_000_000_000;
/// See [`PERIOD_NS`].
pub const RUNTIME_NS: u64 = 950_000_000;

/// What puts a user task before the fair ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RealTime(u8);

impl RealTime {
    /// Nothing does: it is fair.
    pub const NONE: Self = Self(0);
    const TURNS: u8 = 1 << 7;

    /// It runs until it waits, yields, or a higher priority is ready. 1 is the lowest priority, 99 the highest: more counts as
    /// that. 0 is [`RealTime::NONE`].
    #[must_use]
    pub const fn fifo(priority: u8) -> Self {
        Self(if priority < TOP_PRIORITY as u8 {
            priority
        } else {
            TOP_PRIORITY as u8
        })
    }

    /// As [`RealTime::fifo`], and after [`ROUND_ROBIN_SLICE`] equals that wait have their turn.
    #[must_use]
    pub const fn round_robin(priority: u8) -> Self {
        match Self::fifo(priority).0 {
            0 => Self::NONE,
            priority => Self(priority | Self::TURNS),
        }
    }

    /// 1 to 99; 0 of a fair task.
    #[must_use]
    pub const fn priority(self) -> u8 {
        self.0 & !Self::TURNS
    }
}

/// A user task's weight and [`RealTime`], in one word, so that they change together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    const SHIFT: u32 = 24;
    const MOST: u32 = (1 << Self::SHIFT) - 1;

    /// A weight of zero counts as one.
    #[inline]
    pub const fn new(weight: u32, real_time: RealTime) -> Self {
        let weight = match weight {
            0 => 1,
            1..=Self::MOST => weight,
            _ => Self::MOST,
        };
        Self(weight | (real_time.0 as u32) << Self::SHIFT)
    }

    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }

    #[inline]
    pub const fn weight(self) -> u32 {
        self.0 & Self::MOST
    }

    #[inline]
    pub const fn real_time(self) -> RealTime {
        RealTime((self.0 >> Self::SHIFT) as u8)
    }

    #[inline]
    pub const fn is_real_time(self) -> bool {
        self.0 > Self::MOST
    }

    /// 1 to 99; 0 of a fair task.
    #[inline]
    pub const fn priority(self) -> u32 {
        self.real_time().priority() as u32
    }

    const fn takes_turns(self) -> bool {
        self.real_time().0 & RealTime::TURNS != 0
    }
}

/// What a CPU keeps about its real-time tasks; but for `runs` its own.
pub struct OnCpu {
    /// The priority of the real-time task that it runs; 0 while it runs none.
    pub runs: AtomicU32,
    /// 1 if the running task, when it gives way, goes behind its equals.
    behind: OwnedU32,
    /// When the running task began, or the period that it began in ended.
    since: OwnedU64,
    /// The period that is being looked at, by its number.
    period: OwnedU64,
    /// Nanoseconds of real-time tasks in it, without the running one's.
    used: OwnedU64,
    /// Until when fair tasks go first.
    fair_until: OwnedU64,
}

impl OnCpu {
    const_fn! {
        pub fn new() -> Self {
            Self {
                runs: AtomicU32::new(0),
                behind: OwnedU32::new(0),
                since: OwnedU64::new(0),
                period: OwnedU64::new(0),
                used: OwnedU64::new(0),
                fair_until: OwnedU64::new(0),
            }
        }
    }

    /// Whether fair tasks go first.
    pub fn is_throttled(&self, now: u64) -> bool {
        now < self.fair_until.get()
    }

    /// Nanoseconds of real-time tasks in this period.
    fn used(&self, now: u64) -> u64 {
        let period = now / PERIOD_NS;
        if period != self.period.get() {
            self.period.set(period);
            self.used.set(0);
            self.since.set(self.since.get().max(period * PERIOD_NS));
        }
        let running = if self.runs.load(Relaxed) == 0 {
            0
        } else {
            now.saturating_sub(self.since.get())
        };
        self.used.get() + running
    }
}

impl Task<'_> {
    /// A user task's share.
    #[inline]
    pub fn share(&self) -> Share {
        Share::from_bits(self.share.get())
    }

    /// Changes it.
    #[inline]
    pub fn set_share(&self, share: Share) {
        self.share.set(share.bits());
    }

    /// What is left of its slice, if it takes turns; 0 for a whole one. In the link of the lists, in which no user task stands.
    fn slice_left(&self) -> &OwnedU32 {
        &self.head().next
    }
}

impl<P: Platform> Executor<P> {
    /// Sets a user task's share, against [`WEIGHT_ONE`](crate::WEIGHT_ONE), and what puts it before all that have one. Where it
    /// runs or waits that is obeyed at once. False if it is gone. Task context.
    pub fn set_policy(&self, id: TaskId, weight: u32, real_time: RealTime) -> bool {
        self.with_live(id, |task| {
            let share = Share::new(weight, real_time);
            let before = task.share();
            if before == share || task.class() != Class::User {
                return;
            }
            if !before.takes_turns() {
                task.slice_left().set(0);
            }
            task.set_share(share);
            if before.is_real_time() || share.is_real_time() {
                // The share first, then where the task is; whoever moves it writes where first, and looks at the share second.
                fence(SeqCst);
                let Some(cpu) = self.cpus.get(task.home() as usize) else {
                    return;
                };
                let running = cpu.running_time(P::now());
                cpu.user.with(|queue| {
                    if queue.holds(task) {
                        queue.resort(&self.slab, &cpu.waits, task, 2 * P::USER_SLICE, running);
                    }
                });
            }
            // Where it runs the gate looks at its share only when it has been poked; where it waits, whether it is to run.
            self.mark(task.home(), POKE);
        })
    }

    /// The running user task is about to yield ([`yield_now`](crate::yield_now)) of its own accord: a real-time one goes behind
    /// its equals, where it would else stay before them. In its poll.
    pub fn note_yield(&self) {
        if let Some((_, cpu)) = self.here() {
            cpu.real_time.behind.set(1);
        }
    }

    /// A real-time task, whose link is the caller's, has come here; counted as runnable.
    #[cold]
    pub(crate) fn receive_real_time(&self, me: u32, cpu: &PerCpu<P>, task: Task<'_>, now: u64) {
        let priority = task.share().priority();
        cpu.user
            .with(|queue| queue.place(&self.slab, &cpu.waits, task, 2 * P::USER_SLICE, cpu.running_time(now)));
        let runs = cpu.real_time.runs.load(Relaxed);
        if runs >= priority || cpu.waits.load(Relaxed) > priority || cpu.real_time.is_throttled(now) {
            self.offer(me, cpu);
        }
    }

    /// The calling CPU begins to run a real-time task.
    #[cold]
    pub(crate) fn begin_real_time(&self, me: u32, cpu: &PerCpu<P>, task: Task<'_>, now: u64) {
        let (share, state) = (task.share(), &cpu.real_time);
        // The last period is over before this task counts.
        state.used(now);
        state.runs.store(share.priority(), Relaxed);
        state.since.set(now);
        state.behind.set(0);
        let slice = match task.slice_left().get() {
            _ if !share.takes_turns() => u64::MAX,
            0 => now + ROUND_ROBIN_SLICE,
            left => now + u64::from(left),
        };
        cpu.running.slice_end.set(slice);
        if cpu.waits.load(Relaxed) != 0 {
            self.offer(me, cpu);
        }
    }

    /// The calling CPU has done with the real-time task that it ran.
    #[cold]
    pub(crate) fn end_real_time(&self, me: u32, cpu: &PerCpu<P>) {
        let state = &cpu.real_time;
        state.used.set(state.used(cpu.clock.get()));
        state.runs.store(0, Relaxed);
        self.pull(me, cpu);
    }

    /// A task that takes turns gives the CPU away: what is left of its slice.
    pub(crate) fn keep_slice(cpu: &PerCpu<P>, task: Task<'_>) {
        if task.share().takes_turns() {
            let left = cpu.running.slice_end.get().saturating_sub(cpu.clock.get());
            task.slice_left().set(u32::try_from(left).unwrap_or(0));
        }
    }

    /// Where the task that runs here goes among its equals.
    pub(crate) fn end_of_queue(cpu: &PerCpu<P>) -> crate::queue::End {
        if cpu.real_time.behind.get() == 0 {
            crate::queue::End::Front
        } else {
            crate::queue::End::Back
        }
    }

    /// The share of the running user task has changed since it began to run, or since this was called.
    #[cold]
    pub(crate) fn change_running(&self, me: u32, cpu: &PerCpu<P>, task: Task<'_>, now: u64) {
        let share = task.share();
        let (running, state) = (&cpu.running, &cpu.real_time);
        let was = Share::from_bits(running.share.get());
        // Fair from fair: from here on its time counts anew.
        let base = match cpu.running_time(now) {
            Some(time) => time,
            None => cpu.user.with(|queue| queue.fair.clock()),
        };
        running.base.set(base);
        running.since.set(now);
        running.share.set(share.bits());
        if !was.is_real_time() && !share.is_real_time() {
            return;
        }
        state.used.set(state.used(now));
        state.since.set(now);
        state.runs.store(share.priority(), Relaxed);
        if was.real_time() != share.real_time() {
            state.behind.set(0);
            running.slice_end.set(if !share.is_real_time() {
                now + P::USER_SLICE
            } else if share.takes_turns() {
                now + ROUND_ROBIN_SLICE
            } else {
                u64::MAX
            });
        }
        if share.priority() < was.priority() {
            self.pull(me, cpu);
        }
    }

    /// Whether the user task that the calling CPU runs, or a waiting one, is real-time, so that the gate asks
    /// [`Executor::contend`].
    #[inline]
    pub(crate) fn is_contended(cpu: &PerCpu<P>) -> bool {
        cpu.waits.load(Relaxed) != 0 || Share::from_bits(cpu.running.share.get()).is_real_time()
    }

    /// Until when the running user task may go on for the sake of those that wait, where a real-time one is involved.
    ///
    /// # Errors
    /// [`Preempted`] if it may not.
    #[cold]
    pub(crate) fn contend(&self, me: u32, cpu: &PerCpu<P>, now: u64) -> Result<u64, Preempted> {
        let (running, state) = (&cpu.running, &cpu.real_time);
        let share = Share::from_bits(running.share.get());
        let waits = cpu.waits.load(Relaxed);
        let fair = || cpu.user.with(|queue| queue.fair.least(&self.slab));
        if !share.is_real_time() {
            if waits != 0 && !state.is_throttled(now) {
                return Err(Preempted);
            }
            let until = if waits == 0 { u64::MAX } else { state.fair_until.get() };
            return match fair() {
                Some(rival) => Ok(until.min(Self::contend_fairly(cpu, rival, now)?)),
                None => Ok(until),
            };
        }
        if waits > share.priority() {
            return Err(Preempted);
        }
        let mut until = u64::MAX;
        if waits == share.priority() && share.takes_turns() {
            if now >= running.slice_end.get() {
                state.behind.set(1);
                return Err(Preempted);
            }
            until = running.slice_end.get();
        }
        if fair().is_some() {
            let used = state.used(now);
            if used >= RUNTIME_NS {
                state.fair_until.set((now / PERIOD_NS + 1) * PERIOD_NS);
                return Err(Preempted);
            }
            // With what the next period allows if this one ends first, which is more.
            until = until.min(now + (RUNTIME_NS - used)).min(self.relieve(me, cpu, now));
        }
        Ok(until)
    }

    /// As [`Executor::contend`], for a look in passing: whether a user task that waits goes before the running one.
    #[cold]
    pub(crate) fn is_outranked(&self, cpu: &PerCpu<P>, now: u64) -> bool {
        let share = Share::from_bits(cpu.running.share.get());
        let waits = cpu.waits.load(Relaxed);
        let over = now >= cpu.running.slice_end.get();
        if share.is_real_time() {
            waits > share.priority() || (waits == share.priority() && share.takes_turns() && over)
        } else if cpu.real_time.is_throttled(now) {
            over
        } else {
            waits != 0
        }
    }

    /// Sends fair tasks away from where a real-time one has run for a slice, to CPUs that have none. When to look again.
    fn relieve(&self, me: u32, cpu: &PerCpu<P>, now: u64) -> u64 {
        let mut free = self.without_real_time(self.online.load(Relaxed) & !(1 << me));
        if free == 0 {
            return u64::MAX;
        }
        let due = cpu.next_balance.get().max(cpu.real_time.since.get() + P::USER_SLICE);
        if now < due {
            return due;
        }
        while let Some(task) = cpu.user.with(|queue| queue.steal_fair(&self.slab, &cpu.waits, free)) {
            let Some(target) = self.least_loaded(task.affinity.get() & free) else {
                cpu.user
                    .with(|queue| queue.push(&self.slab, &cpu.waits, task, crate::queue::End::Back));
                break;
            };
            self.send(cpu, task, target);
            free = self.without_real_time(free);
        }
        let next = now + 2 * P::USER_SLICE;
        cpu.next_balance.set(next);
        next
    }

    /// Those of the CPUs that neither run a real-time task nor have one waiting.
    pub(crate) fn without_real_time(&self, mask: u64) -> u64 {
        let has_none = |&cpu: &u32| self.level(cpu) == 0;
        bits(mask).filter(has_none).fold(0, |mask, cpu| mask | 1 << cpu)
    }

    /// Above which priority a task that comes to the CPU runs at once.
    fn level(&self, cpu: u32) -> u32 {
        let cpu = &self.cpus[cpu as usize];
        cpu.real_time.runs.load(Relaxed).max(cpu.waits.load(Relaxed))
    }

    /// Sends real-time tasks that wait here to CPUs where they can run at once.
    #[cold]
    pub(crate) fn offer(&self, me: u32, cpu: &PerCpu<P>) {
        // They have been queued; see the module.
        fence(SeqCst);
        let mut others = self.online.load(Relaxed) & !(1 << me);
        while others != 0 && cpu.waits.load(Relaxed) != 0 {
            let idle = self.idle.load(Relaxed);
            let easiest = bits(others).min_by_key(|&other| {
                let load = self.cpus[other as usize].runnable.load(Relaxed);
                (self.level(other), idle >> other & 1 == 0, load)
            });
            let Some(target) = easiest else { return };
            let above = self.level(target);
            if cpu.waits.load(Relaxed) <= above {
                return;
            }
            others &= !(1 << target);
            let task = cpu
                .user
                .with(|queue| queue.steal_real_time(&self.slab, &cpu.waits, 1 << target, above));
            if let Some(task) = task {
                self.send(cpu, task, target);
            }
        }
    }

    /// Takes the most urgent real-time task that waits elsewhere and would run here at once.
    #[cold]
    pub(crate) fn pull(&self, me: u32, cpu: &PerCpu<P>) {
        // What runs here has been written, before it is looked who else there is; see the module.
        fence(SeqCst);
        let mut others = self.online.load(Relaxed) & !(1 << me);
        if others == 0 {
            return;
        }
        loop {
            let above = self.level(me);
            let waiting = bits(others).map(|other| (self.cpus[other as usize].waits.load(Relaxed), other));
            let Some((_, other)) = waiting.filter(|(waits, _)| *waits > above).max() else {
                return;
            };
            others &= !(1 << other);
            let victim = &self.cpus[other as usize];
            let task = victim
                .user
                .with(|queue| queue.steal_real_time(&self.slab, &victim.waits, 1 << me, above));
            if let Some(task) = task {
                return self.take_over(me, cpu, victim, task);
            }
        }
    }
}
