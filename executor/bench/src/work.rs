//! The futures that every peer runs, and the gate by which the main task awaits them.
//!
//! Where a row's tasks run on one thread, counts are relaxed atomics without read-modify-write: they cost next to nothing,
//! and the same for all. [`Wanderer`] is for tasks that may move to other threads.

use std::{
    future::Future,
    hint::black_box,
    pin::Pin,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

/// Counts tasks in and polls; wakes the main task when the last has arrived.
#[derive(Default)]
pub struct Gate {
    left: AtomicU64,
    polls: AtomicU64,
    main: OnceLock<Waker>,
}

fn add(counter: &AtomicU64, difference: u64) -> u64 {
    let value = counter.load(Relaxed).wrapping_add(difference);
    counter.store(value, Relaxed);
    value
}

impl Gate {
    /// A gate for one round. It is never freed: tasks then hold it without counting references.
    pub fn new() -> &'static Self {
        Box::leak(Box::default())
    }

    /// This many are to arrive before [`Gate::wait`] is ready.
    pub fn expect(&self, count: u64) {
        self.left.store(count, Relaxed);
    }

    /// Has the last to arrive wake the calling task. Before the first of them is spawned, where they run on other threads.
    pub async fn register(&self) {
        std::future::poll_fn(|context| {
            self.main.get_or_init(|| context.waker().clone());
            Poll::Ready(())
        })
        .await;
    }

    /// One of them.
    pub fn arrive(&self) {
        if add(&self.left, u64::MAX) == 0
            && let Some(main) = self.main.get()
        {
            main.wake_by_ref();
        }
    }

    /// Until all have arrived. By one task, always the same.
    pub async fn wait(&self) {
        std::future::poll_fn(|context| {
            self.main.get_or_init(|| context.waker().clone());
            if self.left.load(Acquire) == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Polls of tasks so far.
    pub fn polls(&self) -> u64 {
        self.polls.load(Relaxed)
    }
}

/// Ends at its first poll.
pub struct Once {
    gate: &'static Gate,
    payload: [u64; 3],
}

impl Once {
    pub fn new(gate: &'static Gate) -> Self {
        Self { gate, payload: [1; 3] }
    }
}

impl Future for Once {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        add(&self.gate.polls, 1);
        black_box(&self.payload);
        self.gate.arrive();
        Poll::Ready(())
    }
}

/// Ends at its first poll, with a number.
pub struct Answer {
    gate: &'static Gate,
    payload: [u64; 3],
}

impl Answer {
    pub fn new(gate: &'static Gate, number: u64) -> Self {
        Self {
            gate,
            payload: [number; 3],
        }
    }
}

impl Future for Answer {
    type Output = u64;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u64> {
        add(&self.gate.polls, 1);
        Poll::Ready(black_box(self.payload[1]))
    }
}

/// Lets the others run a number of times, then ends.
pub struct Yielder {
    gate: &'static Gate,
    left: u64,
}

impl Yielder {
    pub fn new(gate: &'static Gate, times: u64) -> Self {
        Self { gate, left: times }
    }
}

impl Future for Yielder {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        add(&self.gate.polls, 1);
        if self.left == 0 {
            self.gate.arrive();
            return Poll::Ready(());
        }
        self.left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A [`Yielder`] that may be polled on any thread.
pub struct Wanderer {
    gate: &'static Gate,
    polls: u64,
    last: u64,
}

impl Wanderer {
    pub fn new(gate: &'static Gate, times: u64) -> Self {
        Self {
            gate,
            polls: 0,
            last: times + 1,
        }
    }
}

impl Future for Wanderer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.polls += 1;
        if self.polls < self.last {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.gate.polls.fetch_add(self.polls, Relaxed);
        if self.gate.left.fetch_sub(1, AcqRel) == 1
            && let Some(main) = self.gate.main.get()
        {
            main.wake_by_ref();
        }
        Poll::Ready(())
    }
}

/// Tasks that wait to be woken, and their wakers.
pub struct Population {
    pub gate: &'static Gate,
    wakers: Mutex<Vec<Waker>>,
    stop: AtomicBool,
}

impl Population {
    /// Never freed, as gates are not.
    pub fn new(size: usize) -> &'static Self {
        Box::leak(Box::new(Self {
            gate: Gate::new(),
            wakers: Mutex::new(Vec::with_capacity(size)),
            stop: AtomicBool::new(false),
        }))
    }

    /// The wakers of all that have been polled.
    pub fn take_wakers(&self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Their next poll is to be their last.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }
}

/// One of a population: every poll arrives at the gate.
pub struct Parked {
    population: &'static Population,
    registered: bool,
    payload: [u64; 2],
}

impl Parked {
    pub fn new(population: &'static Population) -> Self {
        Self {
            population,
            registered: false,
            payload: [1; 2],
        }
    }
}

impl Future for Parked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let population = self.population;
        add(&population.gate.polls, 1);
        black_box(&self.payload);
        if !self.registered {
            self.registered = true;
            let mut wakers = population.wakers.lock().unwrap_or_else(PoisonError::into_inner);
            wakers.push(context.waker().clone());
        }
        population.gate.arrive();
        if population.stop.load(Relaxed) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// Lets the others run once.
pub async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Two tasks on two CPUs that wake each other in turn.
#[derive(Default)]
pub struct Table {
    /// How often the ball was hit; who hits next is its parity.
    hits: AtomicU64,
    wakers: [OnceLock<Waker>; 2],
    /// Polls of each.
    pub polls: [AtomicU64; 2],
    /// Each one's end.
    pub ended: [AtomicBool; 2],
    /// Nanoseconds from the first hit to the last.
    pub spent: AtomicU64,
}

impl Table {
    /// Never freed, as gates are not.
    pub fn new() -> &'static Self {
        Box::leak(Box::default())
    }
}

/// One of the two.
pub struct Player {
    table: &'static Table,
    me: usize,
    hits: u64,
    start: Option<Instant>,
}

impl Player {
    pub fn new(table: &'static Table, me: usize, hits: u64) -> Self {
        Self {
            table,
            me,
            hits,
            start: None,
        }
    }

    fn end(&self) -> Poll<()> {
        if let Some(start) = self.start {
            self.table.spent.store(start.elapsed().as_nanos() as u64, Relaxed);
        }
        self.table.ended[self.me].store(true, Release);
        Poll::Ready(())
    }
}

impl Future for Player {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let table = self.table;
        add(&table.polls[self.me], 1);
        table.wakers[self.me].get_or_init(|| context.waker().clone());
        let hits = table.hits.load(Acquire);
        if hits >= self.hits {
            return self.end();
        }
        if hits % 2 != self.me as u64 {
            return Poll::Pending;
        }
        let Some(other) = table.wakers[1 - self.me].get() else {
            // The other has not come yet.
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        if hits == 0 {
            self.start = Some(Instant::now());
        }
        table.hits.store(hits + 1, Release);
        other.wake_by_ref();
        if hits + 1 >= self.hits {
            return self.end();
        }
        Poll::Pending
    }
}
