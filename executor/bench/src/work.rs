//! The futures that every peer runs, and the gate by which the main task awaits them.
//!
//! A row's tasks run on one thread, so counts are relaxed atomics without read-modify-write: they cost next to nothing, and
//! the same for all.

use std::{
    future::Future,
    hint::black_box,
    pin::Pin,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
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

    /// One of them.
    fn arrive(&self) {
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
            if self.left.load(Relaxed) == 0 {
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
