//! A CPU's loop: serve, in order of class, in bounded batches; then look elsewhere; then sleep.
//!
//! One *turn* polls
//! 1. every driver that is ready, once, lowest bit first; then looks at the wheel if the timer fired, and empties the inbox;
//! 2. at most [`BATCH`] tasks of the timer class, then as many of the service class, with step 1 after each;
//! 3. one user task, if nothing of a higher class is left, or if user tasks have been passed over for [`PASSED_POLLS`]
//!    polls or [`PASSED_NS`]: then it is guaranteed [`GRANT_NS`] of user mode as well.
//!
//! So a ready driver waits for at most one poll of every other driver and one of another class; the first of the timer and
//! service lists is polled in the next turn, the n-th in the n/8-th; the first user task after [`PASSED_POLLS`] polls and a
//! turn at most ([`MAX_POLLS_PER_TURN`] bounds a turn). User tasks among themselves are fair by run time, see
//! [`crate::fair`].

#![expect(unsafe_code, reason = "polls what the state word has appointed it for")]

use core::task::{Context, Poll, Waker};

use crate::{
    cpu::{Fifo, NEVER, PerCpu},
    executor::{Executor, MAX_CPUS},
    options::Class,
    platform::Platform,
    prim::Ordering::{AcqRel, Acquire, Relaxed},
    ready::{Away, DRIVERS, DRIVERS_PER_CPU, INBOX, POKE, TIMER},
    state::{Completed, Start, Wake},
    task::{Header, NONE},
    waker,
};

/// Polls of one list in a turn.
pub const BATCH: u32 = 8;
/// Polls of higher classes that a waiting user task is passed over for.
pub const PASSED_POLLS: u32 = 256;
/// Nanoseconds of higher classes that a waiting user task is passed over for.
pub const PASSED_NS: u64 = 4_000_000;
/// Nanoseconds of user mode that a user task is guaranteed after having been passed over.
pub const GRANT_NS: u64 = 1_000_000;
/// The most polls in one turn.
pub const MAX_POLLS_PER_TURN: u32 = (2 * BATCH + 1) * (DRIVERS_PER_CPU + 1) + 1;

impl<P: Platform> Executor<P> {
    /// The calling CPU and its state.
    pub(crate) fn here(&self) -> Option<(u32, &PerCpu<P>)> {
        let me = P::cpu();
        self.cpus.get(me as usize).map(|cpu| (me, cpu))
    }

    /// Runs the calling CPU's tasks for ever, on the stack it is called on, with interrupts unmasked.
    ///
    /// # Panics
    /// If the platform says that the caller is no CPU.
    pub fn run(&self) -> ! {
        loop {
            self.run_until_idle();
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
        if self.online.load(Relaxed) >> me & 1 == 0 {
            self.online.fetch_or(1 << me, AcqRel);
        }
        let now = P::now();
        cpu.clock.set(now);
        if cpu.since.get() == NEVER {
            cpu.since.set(now);
        }
        let mut polled = self.serve(me, cpu);
        for fifo in &cpu.fifos {
            for _ in 0..BATCH {
                let Some(task) = fifo.pop(&self.slab) else { break };
                self.poll_task(me, cpu, task);
                self.serve(me, cpu);
                polled = true;
            }
        }
        self.turn_user(me, cpu) || polled || self.steal(me, cpu)
    }

    /// Whether something goes before user tasks.
    pub(crate) fn higher_ready(cpu: &PerCpu<P>) -> bool {
        cpu.ready.peek(DRIVERS | TIMER) != 0 || !cpu.fifos.iter().all(Fifo::is_empty)
    }

    /// Step 1: drivers, wheel, inbox. Whether it had anything to do.
    fn serve(&self, me: u32, cpu: &PerCpu<P>) -> bool {
        let bits = cpu.ready.take(DRIVERS | TIMER | INBOX | POKE);
        let mut drivers = bits & DRIVERS;
        while drivers != 0 {
            let bit = drivers.trailing_zeros() as usize;
            drivers &= drivers - 1;
            if let Some(task) = cpu.drivers.get(bit).and_then(|slot| self.slab.get(slot.load(Acquire))) {
                self.poll_task(me, cpu, task);
            }
        }
        self.serve_queues(me, cpu, bits);
        bits != 0
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
            self.poke_idle(me, cpu);
        }
    }

    fn drain(&self, me: u32, cpu: &PerCpu<P>) {
        let mut list = cpu.ready.take_inbox(&self.slab);
        let now = P::now();
        let mut users = false;
        while let Some(task) = self.slab.get(list) {
            list = task.next.get();
            match cpu.fifo(task.class()) {
                Some(fifo) => fifo.push(&self.slab, task),
                None if task.affinity.get() >> me & 1 == 0 && self.forward(me, cpu, task) => {}
                None => {
                    users = true;
                    let running = cpu.running_time(now);
                    cpu.user
                        .with(|queue| queue.place(&self.slab, task, 2 * P::USER_SLICE, running));
                }
            }
        }
        if users {
            self.poke_idle(me, cpu);
        }
    }

    /// Step 3.
    fn turn_user(&self, me: u32, cpu: &PerCpu<P>) -> bool {
        let now = cpu.clock.get();
        if cpu.runnable.load(Relaxed) == 0 || cpu.user.with(|queue| queue.len()) == 0 {
            cpu.passed_polls.set(0);
            cpu.passed_since.set(now);
            return false;
        }
        let higher = Self::higher_ready(cpu);
        let passed = cpu.passed_polls.get() >= PASSED_POLLS || now.saturating_sub(cpu.passed_since.get()) >= PASSED_NS;
        if higher && !passed {
            return false;
        }
        self.balance(me, cpu, now);
        let Some(task) = cpu.user.with(|queue| queue.pop(&self.slab)) else {
            return false;
        };
        let running = &cpu.running;
        running.granted_until.set(if higher { now + GRANT_NS } else { 0 });
        running.slice_end.set(now + P::USER_SLICE);
        running.weight.set(task.weight.get());
        running.base.set(task.vruntime.get());
        running.since.set(now);
        self.poll_task(me, cpu, task);
        cpu.passed_polls.set(0);
        cpu.passed_since.set(cpu.clock.get());
        true
    }

    /// Polls a task that has just been taken from its queue, or drops its future if it was aborted.
    fn poll_task(&self, me: u32, cpu: &PerCpu<P>, task: &Header) {
        let class = task.class();
        let start = if class == Class::Driver {
            task.state.start_driver()
        } else {
            task.state.start()
        };
        if start == Start::Skip {
            self.user_stopped(cpu, class);
            return;
        }
        let began = cpu.clock.get();
        let in_user = task.user_ns.get();
        cpu.current.set(task.slot);
        let result = if start == Start::Abort {
            // SAFETY: `start` has set `RUNNING` for this call.
            unsafe { task.clear() };
            Poll::Ready(())
        } else {
            let waker: Waker = waker::waker::<P>(task, task.state.generation());
            // SAFETY: as above.
            unsafe { task.poll(&mut Context::from_waker(&waker)) }
        };
        cpu.current.set(NONE);
        let now = P::now();
        cpu.clock.set(now);
        let spent = now.saturating_sub(began);
        task.polls.add(1);
        task.run_ns.add(spent);
        let kernel = spent.saturating_sub(task.user_ns.get() - in_user);
        task.longest_poll_ns.set(task.longest_poll_ns.get().max(kernel));
        cpu.counts.polls.add(1);
        if class == Class::User {
            if let Some(time) = cpu.running_time(now) {
                task.vruntime.set(time);
            }
            cpu.running.since.set(NEVER);
        } else {
            cpu.passed_polls.set(cpu.passed_polls.get().saturating_add(1));
        }
        match result {
            Poll::Ready(()) => {
                if class == Class::Driver {
                    self.release_driver(me, task.bit.get());
                }
                self.user_stopped(cpu, class);
                self.complete(task);
            }
            Poll::Pending => match task.state.park() {
                Wake::Enqueue => self.requeue(me, cpu, task),
                Wake::Nothing | Wake::Recall => self.user_stopped(cpu, class),
            },
        }
    }

    /// A user task is no longer ready here.
    fn user_stopped(&self, cpu: &PerCpu<P>, class: Class) {
        if class == Class::User {
            cpu.runnable.fetch_sub(1, Relaxed);
        }
    }

    /// A task that was woken while it was polled goes to the end of its queue.
    fn requeue(&self, me: u32, cpu: &PerCpu<P>, task: &Header) {
        match task.class() {
            Class::Driver => self.mark(me, 1 << task.bit.get()),
            class => match cpu.fifo(class) {
                Some(fifo) => fifo.push(&self.slab, task),
                None if task.affinity.get() >> me & 1 == 0 && self.forward(me, cpu, task) => {}
                None => {
                    cpu.user.with(|queue| queue.push(&self.slab, task));
                    self.poke_idle(me, cpu);
                }
            },
        }
    }

    fn complete(&self, task: &Header) {
        match task.state.complete() {
            Completed::LeaveToHandle => {}
            Completed::Free => self.free(task),
            Completed::WakeJoiner => {
                // SAFETY: `complete` has given the joiner's slot to this call.
                if let Some(joiner) = unsafe { task.replace_joiner(None) } {
                    joiner.wake();
                }
                if task.state.release() {
                    self.free(task);
                }
            }
        }
    }

    /// Frees the slot of an ended task.
    pub(crate) fn free(&self, task: &Header) {
        // SAFETY: called once, by the one that the state word appointed: `complete`, `release` or `drop_handle` said so.
        unsafe { task.retire() };
        self.slab.free(task);
    }

    /// Whether the calling CPU may sleep: nothing is ready and nothing can be stolen. The timer has been armed for the next
    /// event, if there is one. From then on whatever becomes ready here interrupts the CPU. Interrupts masked.
    pub fn enter_idle(&self) -> bool {
        let Some((me, cpu)) = self.here() else { return false };
        self.idle.fetch_or(1 << me, AcqRel);
        // Said first, looked second; whoever makes a user task stealable looks second as well.
        crate::prim::fence(core::sync::atomic::Ordering::SeqCst);
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

    /// The number of CPUs the executor has room for.
    pub const fn max_cpus() -> usize {
        MAX_CPUS
    }
}
