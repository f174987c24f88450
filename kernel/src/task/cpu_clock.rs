//! The clocks that count the CPU time of a process or thread, and waiting for what they will show.
//!
//! Such a clock stands still while nobody runs whose time it counts. Who waits for one looks at it again when it can have come
//! there at the earliest; while it stands it waits for one of the threads to be polled. Only threads that somebody waits for in
//! this way look whether somebody does ([`Process::watch_clock`]).

use alloc::sync::{Arc, Weak};
use core::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering, fence},
};

use linux_raw_sys::general::{CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};

use super::{Pid, deadline::until, process::Process, table, thread::Thread};
use crate::{
    cpu,
    errno::{Errno, Result},
    rt,
    sync::WaitQueue,
};

/// How late a wait may notice that its time has come: what it waits at least between two looks.
const GRAIN: u64 = 20_000;

/// Who waits for a process's CPU clocks.
#[derive(Default)]
pub(super) struct ClockWatch {
    /// Whether somebody ever did. Set under the lock of [`Process::shared`].
    watched: AtomicBool,
    /// Those who wait for a thread to run.
    standing: WaitQueue,
    /// All others: woken when there is one more thread, for then the clock may go faster.
    running: WaitQueue,
}

/// Which time a clock counts (`CPUCLOCK_PROF` and so on of Linux's `posix-timers.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// All: `CPUCLOCK_PROF` and `CPUCLOCK_SCHED`.
    All,
    /// That in user mode: `CPUCLOCK_VIRT`.
    User,
}

/// Whose time a clock counts.
#[derive(Clone, Debug)]
enum Whose<P, T> {
    Process(P),
    Thread(T),
}

type Now = Whose<Arc<Process>, Arc<Thread>>;

/// A CPU-time clock. It outlives what it counts for, and then says nothing any more.
#[derive(Clone, Debug)]
pub struct CpuClock {
    whose: Whose<Weak<Process>, Weak<Thread>>,
    counts: Counts,
}

/// A clock's number taken apart (`clock_getcpuclockid(3)`): the complement of a process's or thread's number in the upper 29
/// bits, then a bit for one thread alone, and two bits for which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number {
    id: Pid,
    one_thread: bool,
    counts: Counts,
}

impl Number {
    fn new(clock: u32) -> Result<Self> {
        const ONE_THREAD: i32 = 4;
        let own = |one_thread| Self {
            id: 0,
            one_thread,
            counts: Counts::All,
        };
        match clock {
            CLOCK_PROCESS_CPUTIME_ID => return Ok(own(false)),
            CLOCK_THREAD_CPUTIME_ID => return Ok(own(true)),
            _ => {}
        }
        let clock = clock as i32;
        if clock >= 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Self {
            id: !(clock >> 3),
            one_thread: clock & ONE_THREAD != 0,
            counts: match clock & 3 {
                0 | 2 => Counts::All,
                1 => Counts::User,
                _ => return Err(Errno::EINVAL),
            },
        })
    }

    /// Whose clock that is for `caller`. Of threads it may ask only those of its own process.
    fn whose(self, caller: &Arc<Thread>) -> Result<Now> {
        let own = caller.process();
        match (self.id, self.one_thread) {
            (0, false) => Some(Whose::Process(own.clone())),
            (0, true) => Some(Whose::Thread(caller.clone())),
            (pid, false) => table::process(pid).map(Whose::Process),
            (tid, true) => table::thread(tid)
                .filter(|thread| Arc::ptr_eq(thread.process(), own))
                .map(Whose::Thread),
        }
        .ok_or(Errno::EINVAL)
    }
}

impl Now {
    fn time(&self, counts: Counts) -> u64 {
        let (user, system) = match self {
            Self::Process(process) => process.times(),
            Self::Thread(thread) => thread.times(),
        };
        match counts {
            Counts::All => user + system,
            Counts::User => user,
        }
    }

    fn process(&self) -> &Arc<Process> {
        match self {
            Self::Process(process) => process,
            Self::Thread(thread) => thread.process(),
        }
    }

    /// How many times faster than time itself the clock may go at most.
    fn most(&self) -> u64 {
        match self {
            Self::Thread(_) => 1,
            Self::Process(process) => {
                let threads = process.shared.lock().threads.len();
                threads.clamp(1, cpu::online_count().max(1) as usize) as u64
            }
        }
    }

    /// Whether it stands.
    fn stands(&self) -> bool {
        match self {
            Self::Thread(thread) => !thread.cpu_time.is_running(),
            Self::Process(process) => {
                let shared = process.shared.lock();
                !shared.threads.iter().any(|thread| thread.cpu_time.is_running())
            }
        }
    }
}

/// What a clock's number that is none of the fixed ones says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is no such clock.
    None,
    /// It would be a device's, by a descriptor (`CLOCKFD`).
    Descriptor,
    /// It would be a process's or thread's.
    Cpu,
}

/// What kind of clock a number that is none of the fixed ones stands for.
pub const fn kind(clock: u32) -> Kind {
    match (clock as i32, clock & 7) {
        (0.., _) => Kind::None,
        (_, 3) => Kind::Descriptor,
        _ => Kind::Cpu,
    }
}

/// What a clock shows, by Linux's number, for `caller`.
///
/// # Errors
/// `EINVAL` if there is no such clock.
pub fn read(caller: &Arc<Thread>, clock: u32) -> Result<u64> {
    let mut number = Number::new(clock)?;
    // Whoever asks for its process by its thread's number gets it, if only to read.
    if !number.one_thread && number.id == caller.tid() {
        number.id = 0;
    }
    Ok(number.whose(caller)?.time(number.counts))
}

impl CpuClock {
    /// The clock with Linux's number, for `caller`.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub fn find(caller: &Arc<Thread>, clock: u32) -> Result<Self> {
        let number = Number::new(clock)?;
        let whose = match number.whose(caller)? {
            Whose::Process(process) => Whose::Process(Arc::downgrade(&process)),
            Whose::Thread(thread) => Whose::Thread(Arc::downgrade(&thread)),
        };
        Ok(Self {
            whose,
            counts: number.counts,
        })
    }

    /// A process's own.
    pub(super) fn of_process(process: &Arc<Process>, counts: Counts) -> Self {
        Self {
            whose: Whose::Process(Arc::downgrade(process)),
            counts,
        }
    }

    /// Whether it is of `caller` alone: one that sleeps does not get anywhere by it.
    pub fn is_of(&self, caller: &Arc<Thread>) -> bool {
        matches!(&self.whose, Whose::Thread(thread) if thread.as_ptr() == Arc::as_ptr(caller))
    }

    /// Whose it is; `None` once that is gone for good.
    fn now(&self) -> Option<Now> {
        match &self.whose {
            Whose::Process(process) => {
                let process = process.upgrade()?;
                let there = table::process(process.pid()).is_some_and(|there| Arc::ptr_eq(&there, &process));
                there.then_some(Whose::Process(process))
            }
            Whose::Thread(thread) => {
                let thread = thread.upgrade()?;
                let there = table::thread(thread.tid()).is_some_and(|there| Arc::ptr_eq(&there, &thread));
                there.then_some(Whose::Thread(thread))
            }
        }
    }

    /// What it shows, in nanoseconds; `None` once the thread has ended, or the process has been reaped.
    pub fn time(&self) -> Option<u64> {
        Some(self.now()?.time(self.counts))
    }

    /// Waits until it shows `time`: for ever, if that does not come. Dropping it cancels.
    pub async fn reached(&self, time: u64) {
        // Kept for as long as it is waited for, so that the queues are there.
        let Some(whose) = self.now() else {
            return core::future::pending().await;
        };
        let process = whose.process();
        process.watch_clock();
        let watch = &process.clock_watch;
        // Whether a thread has begun to run since the last look. It need not be running now: this task may have taken its CPU, and
        // would take it again and again if it went on to wait for its running.
        let mut has_begun = false;
        loop {
            let mut standing = pin!(watch.standing.wait());
            let mut running = pin!(watch.running.wait());
            running.as_mut().enable();
            let shown = whose.time(self.counts);
            if shown >= time {
                return;
            }
            if !has_begun && whose.stands() {
                standing.as_mut().enable();
                // A thread says that it runs, then looks whether somebody waits for that; here it is the other way round.
                fence(Ordering::SeqCst);
                if whose.stands() {
                    standing.await;
                    has_begun = true;
                    continue;
                }
                standing.as_mut().cancel();
            }
            has_begun = false;
            let earliest = ((time - shown) / whose.most()).max(GRAIN);
            let _faster = until(Some(rt::now().saturating_add(earliest)), running).await;
        }
    }
}

impl Process {
    /// Has all its threads, from now on, tell those who wait for a clock that stands.
    fn watch_clock(&self) {
        let shared = self.shared.lock();
        if self.clock_watch.watched.swap(true, Ordering::Relaxed) {
            return;
        }
        for thread in &shared.threads {
            thread.clock_watched.store(true, Ordering::Relaxed);
            // One that runs is polled again, and one that was about to run with the old word is seen as it does.
            thread.wake();
        }
    }

    /// A new thread of it, under the lock of [`Process::shared`].
    pub(super) fn clock_gains(&self, thread: &Thread) {
        if self.clock_watch.watched.load(Ordering::Relaxed) {
            thread.clock_watched.store(true, Ordering::Relaxed);
            self.clock_watch.running.wake_all();
        }
    }
}

impl Thread {
    /// Says that the thread runs to those who wait for that. Its stopwatch has been started.
    #[inline]
    pub(super) fn tell_clock_watch(&self) {
        if self.clock_watched.load(Ordering::Relaxed) {
            self.wake_clock_watch();
        }
    }

    #[cold]
    fn wake_clock_watch(&self) {
        fence(Ordering::SeqCst);
        let standing = &self.process().clock_watch.standing;
        if standing.has_waiters() {
            standing.wake_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_c_library() {
        let number = |clock: i32| Number::new(clock as u32);
        // MAKE_PROCESS_CPUCLOCK(5, CPUCLOCK_SCHED), MAKE_THREAD_CPUCLOCK(0, CPUCLOCK_VIRT).
        let process = Number {
            id: 5,
            one_thread: false,
            counts: Counts::All,
        };
        assert_eq!(number(!5 << 3 | 2), Ok(process));
        let thread = Number {
            id: 0,
            one_thread: true,
            counts: Counts::User,
        };
        assert_eq!(number(!0 << 3 | 4 | 1), Ok(thread));
        assert_eq!(number(!5 << 3 | 3), Err(Errno::EINVAL), "a clock's descriptor");
        assert_eq!(number(4), Err(Errno::EINVAL));
    }
}
