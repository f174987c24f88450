//! What the executor keeps for each CPU.

use crate::{
    load::{self, Load},
    options::Class,
    platform::Platform,
    prim::{
        AtomicPtr, AtomicU32, AtomicU64, Counter, Lock,
        Ordering::{Relaxed, SeqCst},
        OwnedTime, OwnedU32, OwnedU64, array, const_fn, fence,
    },
    queue::UserQueue,
    ready::{DIRECT, GROUPS, Group, Ready},
    real_time::{OnCpu, Share},
    slab::{Cache, Slab},
    stopwatch::Stopwatch,
    task::{Head, NONE, Task},
    wheel::Wheel,
};

/// No deadline.
pub const NEVER: u64 = u64::MAX;

/// Lists of a [`Fifo`].
const LANES: u32 = 8;

/// Tasks that the nearest cache has room for.
const FEW: u32 = 128;

/// First come, first served; of the owner in task context alone.
///
/// Linked, so that it needs no memory, as [`LANES`] lists that are filled and emptied in turn. In one list each task would
/// say only which is next, and of many tasks each is a miss in the caches, one after the other; so each names the one after
/// eight, which is prefetched in time. Of up to eight tasks none is linked at all.
pub struct Fifo {
    heads: [OwnedU32; LANES as usize],
    tails: [OwnedU32; LANES as usize],
    /// Tasks ever pushed and popped, modulo 2^32.
    pushed: OwnedU32,
    popped: OwnedU32,
}

impl Fifo {
    const fn new() -> Self {
        Self {
            heads: [const { OwnedU32::new(NONE) }; LANES as usize],
            tails: [const { OwnedU32::new(NONE) }; LANES as usize],
            pushed: OwnedU32::new(0),
            popped: OwnedU32::new(0),
        }
    }

    #[inline]
    pub fn push(&self, slab: &Slab<Head>, task: Task<'_>) {
        let pushed = self.pushed.get();
        let lane = (pushed % LANES) as usize;
        if pushed.wrapping_sub(self.popped.get()) < LANES {
            self.heads[lane].set(task.slot);
        } else if let Some(tail) = slab.get(self.tails[lane].get()) {
            tail.head().next.set(task.slot);
        }
        self.tails[lane].set(task.slot);
        self.pushed.set(pushed.wrapping_add(1));
    }

    #[inline]
    pub fn pop<'a, P: Platform>(&self, slab: &'a Slab<Head>) -> Option<Task<'a>> {
        let popped = self.popped.get();
        let length = self.pushed.get().wrapping_sub(popped);
        if length == 0 {
            return None;
        }
        let lane = &self.heads[(popped % LANES) as usize];
        let task = slab.get(lane.get())?;
        self.popped.set(popped.wrapping_add(1));
        if length > LANES {
            let next = task.head().next.get();
            lane.set(next);
            if length > FEW
                && let Some(next) = slab.get(next)
            {
                next.prefetch::<P>();
            }
        }
        Some(task)
    }

    pub fn is_empty(&self) -> bool {
        self.pushed.get() == self.popped.get()
    }

    pub fn len(&self) -> usize {
        self.pushed.get().wrapping_sub(self.popped.get()) as usize
    }
}

/// The user task that a CPU runs: when it began, and where its virtual time stood then. `since` is [`NEVER`] while no user
/// task runs. Read by others, roughly, for balancing.
pub struct RunningUser {
    pub since: OwnedTime,
    pub base: OwnedU64,
    /// Its [`Share`], as it was when the gate looked last.
    pub share: OwnedU32,
    /// When its slice ends.
    pub slice_end: OwnedU64,
    /// Until when it may be in user mode whatever is ready: the user class's guaranteed share.
    pub granted_until: OwnedU64,
    /// 1 if it was woken while it runs: it is ready, and its poller queues it.
    pub woken: OwnedU32,
    /// 1 once the gate has let it through in this poll and nothing has come up since but what the ready word says. Whatever on
    /// this CPU may close the gate, or change until when the timer lets it stay open, makes it 0 ([`PerCpu::stir`]).
    pub calm: OwnedU32,
    /// 1 if it has less than a whole share, as the gate found last.
    pub low: OwnedU32,
    /// Ticks of user mode here before this poll.
    pub user_before: OwnedU64,
}

/// Counts, for listings.
pub struct Counts {
    pub polls: OwnedU64,
    pub steals: OwnedU64,
    pub pushes: OwnedU64,
    pub idles: OwnedU64,
    pub user_entries: OwnedU64,
    pub preemptions: OwnedU64,
    pub timer_interrupts: Counter,
    pub ipis_received: Counter,
    /// Interrupts sent *to* this CPU, and saved because it was here or being called already.
    pub ipis_sent: Counter,
    pub ipis_saved: Counter,
}

/// Where a CPU's time goes, but for the kernel's own.
pub struct Times {
    /// Asleep. Stopped by an interrupt handler as well.
    pub idle: Stopwatch,
    /// In user mode, on behalf of tasks with a whole share or more, in ticks.
    pub user: Stopwatch,
    /// In user mode, on behalf of tasks with less, in ticks.
    pub low: Stopwatch,
}

/// One CPU.
#[repr(align(128))]
pub struct PerCpu<P: Platform> {
    /// What others touch.
    pub ready: Ready,
    /// User tasks ready or running here, the inbox included: the load balancing goes by.
    pub runnable: AtomicU32,
    /// Timer entries cancelled elsewhere, to be taken out of the wheel.
    pub cancelled: AtomicU32,
    /// Who looks after it, once it has left.
    pub heir: AtomicU32,
    /// Driver numbers of the first level in use.
    pub drivers_used: AtomicU64,
    /// The driver's slot, by number, on the first level.
    pub drivers: [AtomicU32; DIRECT as usize],
    /// The second level, made when the first is full.
    pub groups: [AtomicPtr<Group>; GROUPS],
    /// From here on: the CPU's own. The slot being polled.
    pub current: OwnedU32,
    /// Drivers of the first level that were woken here, in task context.
    pub woken_drivers: OwnedU64,
    /// 1 once the CPU has begun to turn.
    pub turning: OwnedU32,
    /// 1 if it was poked while some CPU leaves or has left: see [`crate::retire`].
    pub summoned: OwnedU32,
    /// 1 once the heir of this CPU, which has left, has taken over its tasks; the heir's.
    pub inherited: OwnedU32,
    /// Timer and service class, in this order.
    pub fifos: [Fifo; 2],
    /// The clock as last read: for kernel tasks only while polls are timed.
    pub clock: OwnedU64,
    /// 1 if `clock` was read a moment ago, at the end of a poll, and nothing has been done since.
    pub fresh: OwnedU32,
    /// Polls of higher classes, and since when, that a waiting user task has been passed over for.
    pub passed_polls: OwnedU32,
    pub passed_since: OwnedTime,
    pub tasks: Cache,
    pub entries: Cache,
    pub blocks: Cache,
    /// For what the timer is armed. Holds, or [`TIMER`](crate::ready::TIMER) is set.
    pub armed: OwnedTime,
    /// The wheel's next event, or an earlier time.
    pub next_event: OwnedTime,
    pub wheel: Wheel,
    pub user: Lock<P::RawLock, UserQueue>,
    /// The priority of the first real-time task in `user`; 0 if there is none. Written under its lock.
    pub waits: AtomicU32,
    pub real_time: OnCpu,
    pub running: RunningUser,
    /// When to look again whether the load lies well.
    pub next_balance: OwnedU64,
    /// When it began to turn; [`NEVER`] until then.
    pub since: OwnedTime,
    pub times: Times,
    pub load: Lock<P::RawLock, Load>,
    /// When `load` has to catch up next; written under its lock.
    pub next_load: OwnedU64,
    /// User tasks ready or running, as last noted for `load`.
    pub active: OwnedU32,
    pub spin: OwnedU32,
    pub counts: Counts,
}

impl<P: Platform> PerCpu<P> {
    const_fn! {
        pub fn new() -> Self {
            Self {
                ready: Ready::new(),
                runnable: AtomicU32::new(0),
                cancelled: AtomicU32::new(NONE),
                heir: AtomicU32::new(0),
                drivers_used: AtomicU64::new(0),
                drivers: array!(AtomicU32::new(NONE)),
                groups: array!(AtomicPtr::new(core::ptr::null_mut())),
                current: OwnedU32::new(NONE),
                woken_drivers: OwnedU64::new(0),
                turning: OwnedU32::new(0),
                summoned: OwnedU32::new(0),
                inherited: OwnedU32::new(0),
                fifos: [Fifo::new(), Fifo::new()],
                clock: OwnedU64::new(0),
                fresh: OwnedU32::new(0),
                passed_polls: OwnedU32::new(0),
                passed_since: OwnedTime::never(),
                tasks: Cache::new(),
                entries: Cache::new(),
                blocks: Cache::new(),
                armed: OwnedTime::never(),
                next_event: OwnedTime::never(),
                wheel: Wheel::new(),
                user: Lock::new(UserQueue::new()),
                waits: AtomicU32::new(0),
                real_time: OnCpu::new(),
                running: RunningUser {
                    since: OwnedTime::never(),
                    base: OwnedU64::new(0),
                    share: OwnedU32::new(0),
                    slice_end: OwnedU64::new(0),
                    granted_until: OwnedU64::new(0),
                    woken: OwnedU32::new(0),
                    calm: OwnedU32::new(0),
                    low: OwnedU32::new(0),
                    user_before: OwnedU64::new(0),
                },
                next_balance: OwnedU64::new(0),
                since: OwnedTime::never(),
                times: Times {
                    idle: Stopwatch::new(),
                    user: Stopwatch::new(),
                    low: Stopwatch::new(),
                },
                load: Lock::new(Load::new()),
                next_load: OwnedU64::new(0),
                active: OwnedU32::new(0),
                spin: OwnedU32::new(0),
                counts: Counts {
                    polls: OwnedU64::new(0),
                    steals: OwnedU64::new(0),
                    pushes: OwnedU64::new(0),
                    idles: OwnedU64::new(0),
                    user_entries: OwnedU64::new(0),
                    preemptions: OwnedU64::new(0),
                    timer_interrupts: Counter::new(),
                    ipis_received: Counter::new(),
                    ipis_sent: Counter::new(),
                    ipis_saved: Counter::new(),
                },
            }
        }
    }

    /// Makes a driver of the first level ready, by the CPU itself in task context.
    #[inline]
    pub fn wake_driver(&self, driver: u32) {
        self.woken_drivers.set(self.woken_drivers.get() | 1 << driver);
        self.stir();
    }

    /// Has the gate look at everything the next time.
    #[inline]
    pub fn stir(&self) {
        self.running.calm.set(0);
    }

    /// The list of a class that has one.
    #[inline]
    pub fn fifo(&self, class: Class) -> Option<&Fifo> {
        match class {
            Class::Timer => Some(&self.fifos[0]),
            Class::Service => Some(&self.fifos[1]),
            Class::Driver | Class::User => None,
        }
    }

    /// Notes for the load averages how many user tasks there are, after catching up with the number noted before: by the
    /// CPU as it goes away, and by one that takes a task from it.
    #[inline]
    pub fn note_load(&self, now: u64) {
        if now >= self.next_load.get() {
            self.advance_load(now);
        }
        let mut runnable = self.runnable.load(Relaxed);
        while runnable != self.active.get() {
            // Written first, looked at again second, on either side: so whoever writes last has seen the last change.
            self.active.set(runnable);
            fence(SeqCst);
            runnable = self.runnable.load(Relaxed);
        }
    }

    #[cold]
    fn advance_load(&self, now: u64) {
        self.load.with(|load| {
            load.advance(now, self.active.get());
            self.next_load.set((now / load::PERIOD + 1) * load::PERIOD);
        });
    }

    /// Adds up the time in user mode of the task that runs here.
    #[inline]
    pub fn user_watch(&self) -> &Stopwatch {
        if self.running.low.get() != 0 {
            &self.times.low
        } else {
            &self.times.user
        }
    }

    /// Ticks of user mode, now that the CPU is not there.
    pub fn user_sum(&self) -> u64 {
        self.times.user.sum() + self.times.low.sum()
    }

    /// The virtual time of the fair task that runs here at `now`.
    pub fn running_time(&self, now: u64) -> Option<u64> {
        let running = &self.running;
        let since = running.since.get();
        let share = Share::from_bits(running.share.get());
        (since != NEVER && !share.is_real_time())
            .then(|| crate::fair::running_time(running.base.get(), since, now, share.weight()))
    }
}
