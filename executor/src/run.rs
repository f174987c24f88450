//! A CPU's loop: serve, in order of class, in bounded batches; then look elsewhere; then sleep.
//!
//! One *turn* polls
//! 1. every driver that is ready, once, lower numbers first; looks at the wheel if the timer fired, and empties the inbox;
//! 2. at most [`BATCH`] tasks of the timer class, then as many of the service class; after each of them step 1 again, but
//!    of the drivers only the first level;
//! 3. one user task, if nothing of a higher class is left, or if user tasks have been passed over for [`PASSED_POLLS`]
//!    polls or [`PASSED_NS`]: then it is guaranteed [`GRANT_NS`] of user mode as well.
//!
//! So a ready driver of the first level waits for at most one poll of every other one and one of another class; the first
//! of the timer and service lists is polled in the next turn, the n-th in the n/8-th; the first user task after
//! [`PASSED_POLLS`] polls and a turn at most ([`max_polls_per_turn`] bounds a turn). User tasks among themselves are fair
//! by run time, see [`crate::fair`].

#![expect(unsafe_code, reason = "polls what the state word has appointed it for")]

use core::task::{Context, Poll};

use crate::{
    cpu::{Fifo, NEVER, PerCpu},
    event::Event,
    executor::{Executor, MAX_CPUS, TIMED},
    options::TaskId,
    platform::Platform,
    prim::Ordering::{AcqRel, Acquire, Relaxed},
    ready::{DIRECT, DRIVERS, GROUP_BITS, GROUPS, INBOX, POKE, READY, TIMER, group_bit, group_driver},
    real_time::Share,
    state::{Start, Unlinked},
    task::{NONE, Task},
    waker::{self, Target},
};

/// Polls of one list in a turn.
pub const BATCH: u32 = 8;
/// Polls of higher classes that a waiting user task is passed over for.
pub const PASSED_POLLS: u32 = 256;
/// Nanoseconds of higher classes that a waiting user task is passed over for.
pub const PASSED_NS: u64 = 4_000_000;
/// Nanoseconds of user mode that a user task is guaranteed after having been passed over.
pub const GRANT_NS: u64 = 1_000_000;

/// The most polls in one turn of a CPU with so many drivers.
#[must_use]
pub const fn max_polls_per_turn(drivers: u32) -> u32 {
    let direct = if drivers < DIRECT { drivers } else { DIRECT };
    2 * BATCH * (1 + direct) + drivers + 1
}

impl<P: Platform> Executor<P> {
    /// The calling CPU and its state.
    #[inline]
    pub(crate) fn here(&self) -> Option<(u32, &PerCpu<P>)> {
        let me = P::cpu();
        self.cpus.get(me as usize).map(|cpu| (me, cpu))
    }

    /// Runs the calling CPU's tasks, on the stack it is called on, with interrupts unmasked, until the CPU has been taken out
    /// of service ([`Executor::retire`]): for ever, if it never is.
    ///
    /// # Panics
    /// If the platform says that the caller is no CPU.
    pub fn run(&self) {
        loop {
            self.run_until_idle();
            if self.has_left(P::cpu()) {
                return;
            }
            P::idle(|| self.enter_idle());
            self.exit_idle();
        }
    }

    /// Polls until nothing is ready and a bounded spin has found nothing either.
    ///
    /// # Panics
    /// If the platform says that the caller is no CPU.
    pub fn run_until_idle(&self) {
        let (_, cpu) = self.here().expect("run by a thread that is no CPU");
        loop {
            while self.turn() {}
            if cpu.turning.get() == 0 {
                // It has left.
                return;
            }
            let spin = cpu.spin.get();
            if !(0..spin).any(|_| {
                P::relax();
                cpu.ready.peek(u64::MAX) != 0
            }) {
                // It never pays for long: spin less the next time, but keep trying.
                cpu.spin.set((spin / 2).max(P::SPIN / 16));
                return;
            }
            cpu.spin.set((spin * 2).clamp(1, P::SPIN));
        }
    }

    /// One turn of the calling CPU; false if there was nothing to do. For [`Executor::run`], and for hosts and simulations
    /// that bring their own loop: `if !turn() { mask; if enter_idle() { wait } unmask; exit_idle() }`. Task context, not
    /// within a poll.
    pub fn turn(&self) -> bool {
        let Some((me, cpu)) = self.here() else { return false };
        if cpu.turning.get() == 0 && !self.begin(me, cpu) {
            return false;
        }
        if cpu.summoned.get() != 0 && self.answer_summons(me, cpu) {
            return false;
        }
        let mut fresh = cpu.fresh.get() != 0;
        if fresh {
            cpu.fresh.set(0);
        } else if self.is_timed() {
            cpu.clock.set(P::now());
            fresh = true;
        }
        let before = cpu.counts.polls.get();
        let bits = self.serve(me, cpu, READY);
        if !cpu.fifos.iter().all(Fifo::is_empty) {
            self.turn_lists(me, cpu);
        }
        let polls = cpu.counts.polls.get().wrapping_sub(before);
        fresh = if polls == 0 {
            fresh && bits == 0
        } else {
            cpu.fresh.get() != 0
        };
        self.turn_user(me, cpu, polls, fresh) || polls != 0 || bits != 0 || self.steal(me, cpu)
    }

    /// The first turn of the calling CPU. False if it has left.
    #[cold]
    fn begin(&self, me: u32, cpu: &PerCpu<P>) -> bool {
        if self.has_left(me) {
            return false;
        }
        cpu.turning.set(1);
        cpu.user.with(|queue| queue.belong_to(me));
        cpu.since.set(P::now());
        cpu.spin.set(P::SPIN);
        self.online.fetch_or(1 << me, AcqRel);
        true
    }

    /// Step 2. Apart, as what follows it in a turn is, so that a turn for a driver alone is short.
    #[inline(never)]
    fn turn_lists(&self, me: u32, cpu: &PerCpu<P>) {
        for fifo in &cpu.fifos {
            for _ in 0..BATCH {
                let Some(task) = fifo.pop::<P>(&self.slab) else { break };
                self.poll_queued(cpu, task);
                if cpu.woken_drivers.get() != 0 || cpu.ready.peek(READY & !GROUP_BITS) != 0 {
                    self.serve_between(me, cpu);
                }
            }
        }
    }

    /// Step 1 after a poll of step 2.
    #[inline(never)]
    fn serve_between(&self, me: u32, cpu: &PerCpu<P>) {
        self.serve(me, cpu, READY & !GROUP_BITS);
    }

    /// Whether something goes before user tasks.
    pub(crate) fn higher_ready(cpu: &PerCpu<P>) -> bool {
        cpu.woken_drivers.get() != 0
            || cpu.summoned.get() != 0
            || cpu.ready.peek(DRIVERS | GROUP_BITS | TIMER) != 0
            || !cpu.fifos.iter().all(Fifo::is_empty)
    }

    /// Step 1: of what is ready, that of `bits`. What there was.
    #[inline(always)]
    fn serve(&self, me: u32, cpu: &PerCpu<P>, bits: u64) -> u64 {
        let woken = cpu.woken_drivers.get();
        if woken != 0 {
            cpu.woken_drivers.set(0);
        }
        let bits = cpu.ready.take(bits);
        self.serve_drivers(cpu, cpu, me, woken | bits & DRIVERS);
        if bits & !DRIVERS != 0 {
            if bits & GROUP_BITS != 0 {
                self.serve_groups(cpu, cpu, me, bits);
            }
            self.serve_queues(me, cpu, bits);
        }
        bits
    }

    /// Drivers of the first level of `owner`, whose number is `home`: the calling CPU, or one that has left.
    #[inline(always)]
    pub(crate) fn serve_drivers(&self, cpu: &PerCpu<P>, owner: &PerCpu<P>, home: u32, mut drivers: u64) {
        while drivers != 0 {
            let driver = drivers.trailing_zeros();
            drivers &= drivers - 1;
            if let Some(task) = owner.driver(&self.slab, driver as usize) {
                self.poll_driver(cpu, owner, task, home, driver);
            }
        }
    }

    /// The drivers of the second level.
    pub(crate) fn serve_groups(&self, cpu: &PerCpu<P>, owner: &PerCpu<P>, home: u32, bits: u64) {
        for number in (0..GROUPS).filter(|number| bits & group_bit(*number) != 0) {
            let Some(group) = owner.group(number) else { continue };
            for (word, ready) in group.ready.iter().enumerate() {
                // The group's bit was taken with acquire: what was set before it was marked is seen here.
                if ready.load(Relaxed) == 0 {
                    continue;
                }
                let mut drivers = ready.swap(0, AcqRel);
                while drivers != 0 {
                    let index = word * 64 + drivers.trailing_zeros() as usize;
                    drivers &= drivers - 1;
                    let slot = group.slots.get(index).map_or(NONE, |slot| slot.load(Acquire));
                    if let Some(task) = self.slab.get(slot) {
                        self.poll_driver(cpu, owner, task, home, group_driver(number, index));
                    }
                }
            }
        }
    }

    /// Looks at the wheel, empties the inbox, and calls an idle CPU for what may have become movable, as `bits` say.
    pub(crate) fn serve_queues(&self, me: u32, cpu: &PerCpu<P>, bits: u64) {
        if bits & TIMER != 0 {
            self.run_timers(cpu);
        }
        if bits & INBOX != 0 {
            self.drain(me, cpu);
        }
        if bits & POKE != 0 {
            if self.leaving.load(Acquire) != 0 {
                // This may be within a poll: the turn answers.
                cpu.summoned.set(1);
                cpu.stir();
            }
            let waits = cpu.waits.load(Relaxed);
            if waits != 0 && (cpu.real_time.runs.load(Relaxed) >= waits || cpu.real_time.is_throttled(P::now())) {
                self.offer(me, cpu);
            }
            self.poke_idle(me, cpu);
        }
    }

    fn drain(&self, me: u32, cpu: &PerCpu<P>) {
        let mut list = cpu.ready.take_inbox(&self.slab);
        let mut now = None;
        while let Some(task) = self.slab.get(list) {
            list = task.inbox_next.load(Relaxed);
            match cpu.fifo(task.class()) {
                Some(fifo) => self.receive(cpu, fifo, task),
                None => {
                    let now = *now.get_or_insert_with(P::now);
                    self.receive_user(me, cpu, task, now);
                }
            }
        }
        if now.is_some() {
            self.poke_idle(me, cpu);
        }
    }

    /// A task that comes from the inbox of a CPU that has left.
    pub(crate) fn receive_any(&self, me: u32, cpu: &PerCpu<P>, task: Task<'_>) {
        match cpu.fifo(task.class()) {
            Some(fifo) => self.receive(cpu, fifo, task),
            None => {
                self.receive_user(me, cpu, task, P::now());
                self.poke_idle(me, cpu);
            }
        }
    }

    /// A task of the timer or service class from the inbox.
    fn receive(&self, cpu: &PerCpu<P>, fifo: &Fifo, task: Task<'_>) {
        match task.state().unlink() {
            Unlinked::Queue if !task.is_queued() => {
                task.set_queued(true);
                fifo.push(&self.slab, task);
                cpu.stir();
            }
            Unlinked::Ended if !task.is_queued() => self.release(cpu, task),
            _ => {}
        }
    }

    /// A user task from the inbox, or woken here; counted as runnable.
    pub(crate) fn receive_user(&self, me: u32, cpu: &PerCpu<P>, task: Task<'_>, now: u64) {
        if cpu.current.get() == task.slot {
            Self::woken_in_poll(cpu);
            cpu.runnable.fetch_sub(1, Relaxed);
        } else if task.affinity.get() >> me & 1 == 1 || !self.forward(me, cpu, task) {
            if task.share().is_real_time() {
                return self.receive_real_time(me, cpu, task, now);
            }
            let running = cpu.running_time(now);
            cpu.user
                .with(|queue| queue.place(&self.slab, &cpu.waits, task, 2 * P::USER_SLICE, running));
        }
    }

    /// The user task that runs here was woken: it must not be taken by a thief, and is counted as runnable already.
    #[inline]
    pub(crate) fn woken_in_poll(cpu: &PerCpu<P>) {
        cpu.running.woken.set(1);
        cpu.stir();
    }

    /// Step 3, after so many polls in this turn. `fresh`: the clock was read and nothing done since.
    fn turn_user(&self, me: u32, cpu: &PerCpu<P>, polls: u64, fresh: bool) -> bool {
        if cpu.runnable.load(Relaxed) != 0 && cpu.user.with(|queue| queue.len()) != 0 {
            return self.turn_waiting(me, cpu, polls, fresh);
        }
        cpu.passed_polls.set(0);
        cpu.passed_since.set(NEVER);
        false
    }

    /// As [`Executor::turn_user`], where a user task waits.
    #[inline(never)]
    fn turn_waiting(&self, me: u32, cpu: &PerCpu<P>, polls: u64, fresh: bool) -> bool {
        let now = if fresh { cpu.clock.get() } else { P::now() };
        cpu.clock.set(now);
        let passed_polls = u64::from(cpu.passed_polls.get()).saturating_add(polls);
        cpu.passed_polls.set(u32::try_from(passed_polls).unwrap_or(u32::MAX));
        if cpu.passed_since.get() == NEVER {
            cpu.passed_since.set(now);
        }
        let higher = Self::higher_ready(cpu);
        let passed = passed_polls >= PASSED_POLLS.into() || now.saturating_sub(cpu.passed_since.get()) >= PASSED_NS;
        if higher && !passed {
            return false;
        }
        self.balance(me, cpu, now);
        let fair_first = || cpu.real_time.is_throttled(now);
        let Some(task) = cpu.user.with(|queue| queue.pop(&self.slab, &cpu.waits, fair_first)) else {
            return false;
        };
        let running = &cpu.running;
        running.granted_until.set(if higher { now + GRANT_NS } else { 0 });
        running.slice_end.set(now + P::USER_SLICE);
        running.share.set(task.share.get());
        running.base.set(task.key.get());
        running.since.set(now);
        running.woken.set(0);
        running.calm.set(0);
        if Share::from_bits(running.share.get()).is_real_time() {
            self.begin_real_time(me, cpu, task, now);
        }
        self.poll_user(me, cpu, task);
        if cpu.real_time.runs.load(Relaxed) != 0 {
            self.end_real_time(me, cpu);
        }
        running.since.set(NEVER);
        cpu.passed_polls.set(0);
        cpu.passed_since.set(cpu.clock.get());
        true
    }

    /// Polls a task of the timer or service class, which was taken from its list.
    #[inline]
    fn poll_queued(&self, cpu: &PerCpu<P>, task: Task<'_>) {
        task.set_queued(false);
        let (start, generation) = task.state().start();
        if let Start::Ended { linked } = start {
            if !linked {
                self.release(cpu, task);
            }
            return;
        }
        let number = TaskId::new(task.slot, generation).0;
        if self.poll(cpu, task, number, start, self.watched()).is_ready() {
            self.complete(cpu, task);
        }
    }

    #[inline(always)]
    fn poll_driver(&self, cpu: &PerCpu<P>, owner: &PerCpu<P>, task: Task<'_>, home: u32, driver: u32) {
        let Some(start) = task.state().start_driver() else {
            return;
        };
        let number = Target::driver(home, driver);
        if self.poll(cpu, task, number, start, self.watched()).is_ready() {
            owner.release_driver(driver);
            self.complete(cpu, task);
        }
    }

    fn poll_user(&self, me: u32, cpu: &PerCpu<P>, task: Task<'_>) {
        let (start, generation) = task.state().start_user();
        if let Start::Ended { .. } = start {
            cpu.runnable.fetch_sub(1, Relaxed);
            return self.release(cpu, task);
        }
        let number = TaskId::new(task.slot, generation).0;
        let result = self.poll(cpu, task, number, start, self.watched() | TIMED);
        match cpu.running_time(cpu.clock.get()) {
            Some(time) => task.key.set(time),
            None => Self::keep_slice(cpu, task),
        }
        let woken = cpu.running.woken.get() != 0;
        if result.is_ready() {
            cpu.runnable.fetch_sub(1, Relaxed);
            self.complete(cpu, task);
            if woken {
                // No queue holds it: its queue was this very poll.
                self.release(cpu, task);
            }
        } else if woken {
            if self.is_timed() && task.woken_at.get() == 0 {
                task.woken_at.set(cpu.clock.get());
            }
            self.requeue_user(me, cpu, task);
        } else {
            cpu.runnable.fetch_sub(1, Relaxed);
        }
    }

    /// Polls a task, or drops its future if it was aborted. `watched` is as [`Executor::watched`].
    #[inline]
    fn poll(&self, cpu: &PerCpu<P>, task: Task<'_>, number: u64, start: Start, watched: u32) -> Poll<()> {
        match watched {
            0 => self.poll_future(cpu, task, number, start),
            TIMED => self.poll_timed(cpu, task, number, start),
            _ => self.poll_traced(cpu, task, number, start),
        }
    }

    /// Apart, so that what is not timed is short.
    #[inline(never)]
    fn poll_timed(&self, cpu: &PerCpu<P>, task: Task<'_>, number: u64, start: Start) -> Poll<()> {
        let began = Self::note_start(cpu, task);
        let result = self.poll_future(cpu, task, number, start);
        Self::note_poll(cpu, task, began);
        result
    }

    #[cold]
    #[inline(never)]
    fn poll_traced(&self, cpu: &PerCpu<P>, task: Task<'_>, number: u64, start: Start) -> Poll<()> {
        let id = task.id();
        P::trace(Event::PollBegan {
            task: id,
            name: task.name(),
        });
        let result = self.poll_timed(cpu, task, number, start);
        P::trace(Event::PollEnded {
            task: id,
            finished: result.is_ready(),
        });
        result
    }

    #[inline(always)]
    fn poll_future(&self, cpu: &PerCpu<P>, task: Task<'_>, number: u64, start: Start) -> Poll<()> {
        cpu.current.set(task.slot);
        cpu.fresh.set(0);
        let result = if start == Start::Abort && task.holds.load(Relaxed) == 0 {
            // SAFETY: the task was taken from its queue by this CPU, and `start` said that it has not ended.
            unsafe { task.clear() };
            Poll::Ready(())
        } else {
            let waker = waker::waker::<P>(number);
            // SAFETY: as above.
            unsafe { task.poll(&mut Context::from_waker(&waker)) }
        };
        cpu.current.set(NONE);
        task.polls.add(1);
        cpu.counts.polls.add(1);
        P::checkpoint();
        result
    }

    /// When the poll begins.
    fn note_start(cpu: &PerCpu<P>, task: Task<'_>) -> u64 {
        let began = cpu.clock.get();
        task.set_measured();
        let woken_at = task.woken_at.get();
        if woken_at != 0 {
            task.woken_at.set(0);
            task.latencies.count(began.saturating_sub(woken_at));
        }
        cpu.running.user_before.set(cpu.user_sum());
        began
    }

    fn note_poll(cpu: &PerCpu<P>, task: Task<'_>, began: u64) {
        if cpu.fresh.get() == 0 {
            cpu.clock.set(P::now());
            cpu.fresh.set(1);
        }
        let spent = cpu.clock.get().saturating_sub(began);
        task.run_ns.add(spent);
        let user = P::nanoseconds(cpu.user_sum() - cpu.running.user_before.get());
        task.user_ns.add(user);
        task.note_poll_ns(spent.saturating_sub(user));
    }

    /// A user task that was woken while it was polled goes back to its queue.
    fn requeue_user(&self, me: u32, cpu: &PerCpu<P>, task: Task<'_>) {
        if task.affinity.get() >> me & 1 == 0 && self.forward(me, cpu, task) {
            return;
        }
        let end = Self::end_of_queue(cpu);
        cpu.user.with(|queue| queue.push(&self.slab, &cpu.waits, task, end));
        self.poke_idle(me, cpu);
    }

    /// The number of CPUs the executor has room for.
    pub const fn max_cpus() -> usize {
        MAX_CPUS
    }
}
