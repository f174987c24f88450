//! Sleeping: futures that a CPU's timer wheel wakes.

#![expect(unsafe_code, reason = "an intrusive wheel entry inside a pinned future")]

use core::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    ptr::NonNull,
    task::{Context, Poll, Waker},
};

use crate::{
    cpu::{NEVER, PerCpu},
    executor::Executor,
    platform::Platform,
    wheel::{Entry, Wheel},
};

/// How many wakers are taken from the wheel at a time.
const TAKE: usize = 16;

impl<P: Platform> Executor<P> {
    /// Works on a wheel and notes its next event.
    fn with_wheel<T>(cpu: &PerCpu<P>, work: impl FnOnce(&mut Wheel) -> T) -> T {
        cpu.wheel.with(|wheel| {
            let result = work(wheel);
            cpu.next_event.set(wheel.next_event().unwrap_or(NEVER));
            result
        })
    }

    /// The timer fired: wakes who is due and arms it anew. The wakers run outside the lock.
    pub(crate) fn run_timers(&self, cpu: &PerCpu<P>) {
        // The timer is disarmed by its interrupt, or armed for something that is looked at right here.
        cpu.armed.set(NEVER);
        let now = P::now();
        loop {
            let mut due: [Option<Waker>; TAKE] = [const { None }; TAKE];
            Self::with_wheel(cpu, |wheel| {
                wheel.advance(now);
                due.iter_mut().for_each(|slot| *slot = wheel.take_due());
            });
            let full = due[TAKE - 1].is_some();
            due.into_iter().flatten().for_each(Waker::wake);
            if !full {
                break;
            }
        }
        self.arm(cpu, cpu.next_event.get());
    }

    /// Has the timer armed for `deadline`, or disarmed for [`NEVER`].
    pub(crate) fn arm(&self, cpu: &PerCpu<P>, deadline: u64) {
        if cpu.armed.get() != deadline {
            cpu.armed.set(deadline);
            P::arm_timer((deadline != NEVER).then_some(deadline));
        }
    }
}

/// Ready at or after a deadline, never before. Made by [`sleep_until`].
///
/// Dropping it cancels: the entry leaves the wheel before the drop returns, on whichever CPU that happens. Polled by tasks
/// only (it uses the polling CPU's wheel).
pub struct Sleep<P: Platform> {
    deadline: u64,
    /// The CPU whose wheel holds, or held, the entry.
    cpu: Option<u32>,
    entry: Entry,
    platform: PhantomData<fn() -> P>,
}

/// Ready at `deadline`, in nanoseconds of [`Platform::now`]'s clock; at once if that has passed. `u64::MAX` is never.
#[must_use = "a future does nothing unless awaited"]
pub const fn sleep_until<P: Platform>(deadline: u64) -> Sleep<P> {
    Sleep {
        deadline,
        cpu: None,
        entry: Entry::new(),
        platform: PhantomData,
    }
}

impl<P: Platform> Sleep<P> {
    /// When it is ready.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Sleeps until another time from now on. The next poll says whether that has come.
    pub fn reset(self: Pin<&mut Self>, deadline: u64) {
        // SAFETY: nothing is moved out of the pinned value.
        let this = unsafe { self.get_unchecked_mut() };
        this.cancel();
        this.deadline = deadline;
    }

    fn cancel(&mut self) {
        if let Some(cpu) = self.cpu.take() {
            let entry = NonNull::from(&self.entry);
            // SAFETY: inserted into this very wheel, pinned since.
            let waker = Executor::<P>::with_wheel(&P::executor().cpus[cpu as usize], |wheel| unsafe {
                wheel.cancel(entry)
            });
            drop(waker);
        }
    }

    fn poll_in_place(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if P::now() >= self.deadline {
            self.cancel();
            return Poll::Ready(());
        }
        if self.deadline == NEVER {
            return Poll::Pending;
        }
        let executor = P::executor();
        let entry = NonNull::from(&self.entry);
        if let Some(cpu) = self.cpu {
            // SAFETY: inserted into this very wheel, pinned since.
            let (waits, old) = executor.cpus[cpu as usize]
                .wheel
                .with(|wheel| unsafe { wheel.update(entry, context.waker()) });
            drop(old);
            if waits {
                return Poll::Pending;
            }
        }
        let (me, cpu) = executor.here().expect("a sleep is polled by a CPU");
        let waker = context.waker().clone();
        // SAFETY: the entry is in no wheel, is pinned with this future, and leaves the wheel before the future is dropped.
        Executor::<P>::with_wheel(cpu, |wheel| unsafe { wheel.insert(entry, self.deadline, waker) });
        self.cpu = Some(me);
        if cpu.next_event.get() < cpu.armed.get() {
            executor.arm(cpu, cpu.next_event.get());
        }
        Poll::Pending
    }
}

impl<P: Platform> Future for Sleep<P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: nothing is moved out of the pinned value.
        unsafe { self.get_unchecked_mut() }.poll_in_place(context)
    }
}

impl<P: Platform> Drop for Sleep<P> {
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
