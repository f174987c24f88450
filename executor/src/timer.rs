//! Sleeping: futures that a CPU's timer wheel wakes.

#![expect(unsafe_code, reason = "pins the parts of a pinned future")]

use core::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    cpu::{NEVER, PerCpu},
    entry::{EntryRef, Sleeper},
    executor::Executor,
    platform::Platform,
    prim::Ordering::{Acquire, Relaxed, Release},
    task::NONE,
    waker::{self, Target},
    wheel::Memory,
};

impl<P: Platform> Executor<P> {
    /// The timer fired: wakes who is due and arms it anew.
    pub(crate) fn run_timers(&self, cpu: &PerCpu<P>) {
        // The timer is disarmed by its interrupt, or armed for something that is looked at right here.
        cpu.armed.set(NEVER);
        self.take_cancelled(cpu);
        self.fire_until(cpu, P::now());
        let next = cpu.wheel.next_event().unwrap_or(NEVER);
        cpu.next_event.set(next);
        self.arm(cpu, next);
    }

    /// Wakes everybody who sleeps here, due or not: the calling CPU leaves.
    pub(crate) fn expire_timers(&self, cpu: &PerCpu<P>) {
        self.take_cancelled(cpu);
        self.fire_until(cpu, NEVER);
        cpu.next_event.set(NEVER);
        self.arm(cpu, NEVER);
    }

    fn fire_until(&self, cpu: &PerCpu<P>, now: u64) {
        let memory = self.timer_memory(cpu);
        cpu.wheel.advance(memory, now);
        while let Some((entry, number)) = cpu.wheel.take_due::<P>(memory) {
            let Some(entry) = self.entries.get(entry) else { continue };
            let Some(sleeper) = entry.fire(number) else { continue };
            self.entries.free(entry, Some(&cpu.entries));
            match sleeper {
                Sleeper::Number(number) => self.wake_at(Target::of(number), || now),
                Sleeper::Foreign(waker) => waker.wake(),
            }
        }
    }

    #[inline]
    fn timer_memory<'a>(&'a self, cpu: &'a PerCpu<P>) -> Memory<'a> {
        Memory {
            entries: &self.entries,
            blocks: &self.blocks,
            cache: Some(&cpu.blocks),
        }
    }

    /// Takes what was cancelled elsewhere out of the wheel.
    pub(crate) fn take_cancelled(&self, cpu: &PerCpu<P>) {
        if cpu.cancelled.load(Relaxed) == NONE {
            return;
        }
        let memory = self.timer_memory(cpu);
        let mut list = cpu.cancelled.swap(NONE, Acquire);
        while let Some(entry) = self.entries.get(list) {
            list = entry.mail.load(Relaxed);
            cpu.wheel.remove(memory, &entry);
            entry.retire();
            self.entries.free(entry, Some(&cpu.entries));
        }
    }

    /// Has the timer armed for `deadline`, or disarmed for [`NEVER`].
    pub(crate) fn arm(&self, cpu: &PerCpu<P>, deadline: u64) {
        if cpu.armed.get() != deadline {
            cpu.armed.set(deadline);
            P::arm_timer((deadline != NEVER).then_some(deadline));
        }
    }

    /// Has the timer armed for `deadline` or earlier. An earlier one stays: it interrupts once in vain, and slices mostly end long
    /// before they are over, so most are never armed for.
    #[inline]
    pub(crate) fn arm_by(&self, cpu: &PerCpu<P>, deadline: u64) {
        if cpu.armed.get() > deadline {
            self.arm(cpu, deadline);
        }
    }

    /// Leaves a cancelled entry to the CPU in whose wheel it is.
    fn mail_cancelled(&self, cpu: &PerCpu<P>, entry: EntryRef<'_>) {
        let mut head = cpu.cancelled.load(Relaxed);
        loop {
            entry.mail.store(head, Relaxed);
            match cpu
                .cancelled
                .compare_exchange_weak(head, entry.number, Release, Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

/// The number of no waker of this executor.
const FOREIGN: u64 = u64::MAX;

/// Ready at or after a deadline, never before. Made by [`sleep_until`].
///
/// Polled by tasks only: it waits in the polling CPU's wheel, in an entry of a slab that never shrinks. If there is no
/// memory for another entry the task keeps itself ready instead and looks at the clock, until there is.
///
/// Dropping it cancels: on the CPU that polled it first the entry is free at once, on another one when that CPU looks at
/// its timers next.
pub struct Sleep<P: Platform> {
    deadline: u64,
    /// The number of the waker that the entry is to wake, or [`FOREIGN`].
    number: u64,
    /// The entry, if one is or was armed; the CPU in whose wheel it is.
    entry: u32,
    generation: u32,
    cpu: u32,
    platform: PhantomData<fn() -> P>,
}

/// Ready at `deadline`, in nanoseconds of [`Platform::now`]'s clock; at once if that has passed. `u64::MAX` is never.
#[must_use = "a future does nothing unless awaited"]
pub const fn sleep_until<P: Platform>(deadline: u64) -> Sleep<P> {
    Sleep {
        deadline,
        number: FOREIGN,
        entry: NONE,
        generation: 0,
        cpu: 0,
        platform: PhantomData,
    }
}

impl<P: Platform> Sleep<P> {
    /// When it is ready.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Sleeps until another time from now on. The next poll says whether that has come.
    pub fn reset(mut self: Pin<&mut Self>, deadline: u64) {
        self.cancel();
        self.deadline = deadline;
    }

    #[inline]
    fn cancel(&mut self) {
        if self.entry == NONE {
            return;
        }
        let executor = P::executor();
        let (entry, cpu) = (
            executor.entries.get(core::mem::replace(&mut self.entry, NONE)),
            executor.cpus.get(self.cpu as usize),
        );
        let (Some(entry), Some(cpu)) = (entry, cpu) else { return };
        if self.is_here() {
            if entry.cancel_here(self.generation) {
                cpu.wheel.remove(executor.timer_memory(cpu), &entry);
                executor.entries.free(entry, Some(&cpu.entries));
            }
        } else if entry.cancel_elsewhere(self.generation) {
            P::checkpoint();
            executor.mail_cancelled(cpu, entry);
        }
    }

    /// Whether the entry, if there is one, is in the wheel of the calling CPU, which may touch it.
    #[inline]
    fn is_here(&self) -> bool {
        P::cpu() == self.cpu && !P::in_interrupt()
    }

    /// Whether an entry waits, to wake the waker of this number. If it has fired or is given up there is none any more.
    #[inline]
    fn waits(&mut self, number: u64) -> bool {
        let executor = P::executor();
        let Some(entry) = executor.entries.get(self.entry) else {
            return false;
        };
        if !entry.is_waiting(self.generation) {
            self.entry = NONE;
            return false;
        }
        if number == self.number && number != FOREIGN {
            return true;
        }
        if number != FOREIGN && self.number != FOREIGN && self.is_here() {
            let cpu = &executor.cpus[self.cpu as usize];
            cpu.wheel.renumber(executor.timer_memory(cpu), &entry, number);
            self.number = number;
            return true;
        }
        // Rare: another entry is armed for the other waker.
        self.cancel();
        false
    }

    #[inline]
    fn poll_in_place(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let number = waker::number::<P>(context.waker()).unwrap_or(FOREIGN);
        let was_armed = self.entry != NONE;
        if self.waits(number) {
            return Poll::Pending;
        }
        // Fired is not yet due, if the CPU has left in whose wheel it was or memory was short: then it sleeps on.
        let executor = P::executor();
        let (me, cpu) = executor.here().expect("a sleep is polled by a CPU");
        if was_armed && (cpu.clock.get() >= self.deadline || P::now() >= self.deadline) {
            return Poll::Ready(());
        }
        let first = self.deadline < cpu.next_event.get();
        // Without being the first it is not due: the next event would be, and comes first.
        if first && P::now() >= self.deadline {
            return Poll::Ready(());
        }
        if self.deadline == NEVER {
            return Poll::Pending;
        }
        executor.take_cancelled(cpu);
        let Some(entry) = executor.entries.allocate(Some(&cpu.entries)) else {
            return self.poll_without_entry(context);
        };
        let memory = executor.timer_memory(cpu);
        if !cpu.wheel.insert(memory, entry, self.deadline, number) {
            executor.entries.free(entry, Some(&cpu.entries));
            return self.poll_without_entry(context);
        }
        let foreign = (number == FOREIGN).then(|| context.waker().clone());
        self.generation = entry.arm(foreign);
        (self.number, self.entry, self.cpu) = (number, entry.number, me);
        if first {
            cpu.next_event.set(self.deadline);
            cpu.stir();
            if self.deadline < cpu.armed.get() {
                executor.arm(cpu, self.deadline);
            }
        }
        Poll::Pending
    }

    #[cold]
    fn poll_without_entry(&self, context: &Context<'_>) -> Poll<()> {
        if P::now() >= self.deadline {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<P: Platform> Future for Sleep<P> {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.poll_in_place(context)
    }
}

impl<P: Platform> Drop for Sleep<P> {
    #[inline]
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The deadline passed before the future was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// A future with a deadline. Made by [`timeout`]. Dropping it drops the future and cancels the timer.
pub struct Timeout<P: Platform, F> {
    future: F,
    sleep: Sleep<P>,
}

/// `future`'s output, or [`Elapsed`] if it is not ready when `deadline` (as of [`sleep_until`]) has come. The future is
/// dropped with the `Timeout`, not before.
#[must_use = "a future does nothing unless awaited"]
pub const fn timeout<P: Platform, F: Future>(deadline: u64, future: F) -> Timeout<P, F> {
    Timeout {
        future,
        sleep: sleep_until(deadline),
    }
}

impl<P: Platform, F: Future> Future for Timeout<P, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: both fields are pinned with the whole: never moved, and dropped in place.
        let (future, sleep) = unsafe {
            let this = self.get_unchecked_mut();
            (
                Pin::new_unchecked(&mut this.future),
                Pin::new_unchecked(&mut this.sleep),
            )
        };
        match future.poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => sleep.poll(context).map(|()| Err(Elapsed)),
        }
    }
}

/// Lets everything that is ready run first: the task goes to the end of its queue, a user task to its place by run time.
/// Dropping it does nothing.
#[must_use = "a future does nothing unless awaited"]
pub const fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// See [`yield_now`].
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if core::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
