//! Models of the executor's races, explored exhaustively (up to a bound on preemptions) on the code that ships.
//!
//! `CARGO_TARGET_DIR=target/loom CARGO_PROFILE_RELEASE_LTO=off RUSTFLAGS="--cfg loom" cargo test -p executor --release --test loom`
//!
//! A CPU is a loom thread; being idle or in user mode is waiting for a notification that only the platform's IPI gives. A
//! lost wake is therefore a deadlock, which loom reports. Payloads are relaxed atomics: that a poll sees them is the
//! executor's doing.
//!
//! That the models can fail was tried by breaking the code, one place at a time; each made the named model fail (the first
//! that did):
//!
//! | broken | model |
//! |---|---|
//! | `Ready::leave` sleeps without looking at the word | `a_driver_woken_interrupts_user_mode` |
//! | `Ready::push` publishes relaxed | `the_inbox_keeps_what_two_producers_push` |
//! | `State::wake` is relaxed | `a_wake_at_home_and_one_from_elsewhere_are_both_answered` |
//! | `State::start` takes `READY` relaxed | `two_wakers_of_one_task_poll_it_and_queue_it_once` |
//! | `State::unlink` takes an answered wake for an open one, and the reverse | `a_held_abort_waits_for_the_task` |
//! | an abort drops a future that holds it off | `a_held_abort_waits_for_the_task` |
//! | dropping `HoldAbort` does not wake | `a_held_abort_waits_for_the_task` |
//! | `State::leave_joiner` does not see that the task has ended | `a_join_by_a_task_of_another_cpu_is_woken` |
//! | `Entry::fire` stores instead of exchanging | `a_timer_dropped_on_another_cpu_fires_or_is_cancelled` |
//!
//! Two that no model has caught yet: `State::complete` releasing a task that is still linked (it takes a slot that is used
//! again at once to see it), and the joiner's number stored after `JOINER` (the store is no operation of loom's).
#![cfg(loom)]

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex as PlainMutex,
        atomic::{AtomicU64 as PlainU64, AtomicUsize as PlainUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use executor::{Class, Executor, JoinError, Platform, SpawnOptions, sleep_until, yield_now};
use loom::{
    sync::{
        Notify,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

loom::lazy_static! {
    static ref EXECUTOR: Executor<Model> = Executor::new();
    static ref IPI: [Notify; 2] = [Notify::new(), Notify::new()];
}

loom::thread_local!(static CPU: PlainU64 = PlainU64::new(u64::from(u32::MAX)));

// Of the test, whose models all run on its own thread of the host.
std::thread_local!(static NOW: PlainU64 = const { PlainU64::new(0) });

/// Drivers on the first level, under loom.
const DIRECT_UNDER_LOOM: usize = 2;

/// The stack of a model's body, in words.
const STACK_WORDS: usize = 1 << 15;

struct Model;

impl Platform for Model {
    // Under loom the executor's locks are loom's.
    type RawLock = executor::RawSpinLock;

    fn executor() -> &'static Executor<Self> {
        &EXECUTOR
    }
    fn cpu() -> u32 {
        CPU.with(|cpu| cpu.load(SeqCst) as u32)
    }
    fn in_interrupt() -> bool {
        false
    }
    fn now() -> u64 {
        NOW.with(|now| now.load(SeqCst))
    }
    fn arm_timer(_: Option<u64>) {}
    fn send_ipi(cpu: u32) {
        IPI[cpu as usize].notify();
    }
    fn idle(check: impl FnOnce() -> bool) {
        if check() {
            IPI[Self::cpu() as usize].wait();
        }
    }
}

fn be(cpu: u32) {
    CPU.with(|own| own.store(u64::from(cpu), SeqCst));
}

/// Runs the calling CPU until `done`.
fn run(done: impl Fn() -> bool) {
    loop {
        while EXECUTOR.turn() {}
        if done() {
            return;
        }
        Model::idle(|| EXECUTOR.enter_idle());
        EXECUTOR.exit_idle();
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    check_bounded(3, model);
}

fn check_bounded(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    let model = Arc::new(model);
    builder.check(move || {
        let model = model.clone();
        // The executor is made on the stack, and the stack that loom gives its first thread is short.
        let body = thread::Builder::new().stack_size(STACK_WORDS).spawn(move || {
            NOW.with(|now| now.store(0, SeqCst));
            be(0);
            model();
        });
        body.unwrap().join().unwrap();
    });
}

/// What a test and its task share: the task's waker, a payload, and whether the task has seen it.
#[derive(Clone)]
struct Cell {
    waker: Arc<PlainMutex<Option<Waker>>>,
    payload: Arc<AtomicUsize>,
    seen: Arc<PlainUsize>,
}

impl Cell {
    fn new() -> Self {
        Self {
            waker: Arc::default(),
            payload: Arc::new(AtomicUsize::new(0)),
            seen: Arc::default(),
        }
    }

    /// Ready once the payload is there.
    fn wait(&self) -> impl Future<Output = usize> + Send + use<> {
        let cell = self.clone();
        poll_fn(move |context| {
            *cell.waker.lock().unwrap() = Some(context.waker().clone());
            match cell.payload.load(Relaxed) {
                0 => Poll::Pending,
                payload => {
                    cell.seen.store(payload, SeqCst);
                    Poll::Ready(payload)
                }
            }
        })
    }

    fn waker(&self) -> Waker {
        self.waker.lock().unwrap().clone().expect("the task was polled")
    }

    fn seen(&self) -> bool {
        self.seen.load(SeqCst) != 0
    }
}

fn spawn(class: Class, future: impl Future<Output = usize> + Send + 'static) -> executor::JoinHandle<usize, Model> {
    EXECUTOR
        .spawn(SpawnOptions::new(class, "model").cpu(0), future)
        .unwrap()
}

fn wake_and_sleep(class: Class) {
    check(move || {
        let cell = Cell::new();
        spawn(class, cell.wait()).detach();
        while EXECUTOR.turn() {}
        let waker = cell.waker();
        let payload = cell.payload.clone();
        let other = thread::spawn(move || {
            payload.store(7, Relaxed);
            waker.wake();
        });
        run(|| cell.seen());
        other.join().unwrap();
    });
}

#[test]
fn a_wake_reaches_a_queued_task_falling_asleep() {
    wake_and_sleep(Class::Service);
}

#[test]
fn a_wake_reaches_a_driver_falling_asleep() {
    wake_and_sleep(Class::Driver);
}

#[test]
fn a_wake_reaches_a_user_task_falling_asleep() {
    wake_and_sleep(Class::User);
}

/// The driver's number is on the second level: its group's bit and the word's are two steps.
#[test]
fn a_wake_reaches_a_driver_of_the_second_level_falling_asleep() {
    check(|| {
        let direct: Vec<_> = (0..DIRECT_UNDER_LOOM)
            .map(|_| spawn(Class::Driver, std::future::pending()))
            .collect();
        let cells = [Cell::new(), Cell::new()];
        for cell in &cells {
            spawn(Class::Driver, cell.wait()).detach();
        }
        while EXECUTOR.turn() {}
        let threads = cells.clone().map(|cell| {
            let (waker, payload) = (cell.waker(), cell.payload.clone());
            thread::spawn(move || {
                payload.store(7, Relaxed);
                waker.wake();
            })
        });
        run(|| cells.iter().all(Cell::seen));
        for thread in threads {
            thread.join().unwrap();
        }
        direct.iter().for_each(executor::JoinHandle::abort);
        while EXECUTOR.turn() {}
    });
}

#[test]
fn two_wakers_of_one_task_poll_it_and_queue_it_once() {
    check(|| {
        let cell = Cell::new();
        spawn(Class::Service, cell.wait()).detach();
        while EXECUTOR.turn() {}
        let (first, second) = (cell.waker(), cell.waker());
        let payload = cell.payload.clone();
        let one = thread::spawn(move || first.wake());
        let two = thread::spawn(move || {
            payload.store(7, Relaxed);
            second.wake();
        });
        run(|| cell.seen());
        one.join().unwrap();
        two.join().unwrap();
        while EXECUTOR.turn() {}
        assert_eq!(EXECUTOR.cpu(0).unwrap().queued, [0, 0]);
    });
}

/// One wake is the CPU's own and needs no atomic operation, the other comes from elsewhere and uses the inbox.
#[test]
fn a_wake_at_home_and_one_from_elsewhere_are_both_answered() {
    check(|| {
        let cell = Cell::new();
        let here = Arc::new(AtomicUsize::new(0));
        let (own, wait) = (here.clone(), cell.clone());
        let task = poll_fn(move |context| {
            *wait.waker.lock().unwrap() = Some(context.waker().clone());
            if own.load(Relaxed) == 0 || wait.payload.load(Relaxed) == 0 {
                return Poll::Pending;
            }
            wait.seen.store(1, SeqCst);
            Poll::Ready(1)
        });
        spawn(Class::Service, task).detach();
        while EXECUTOR.turn() {}
        let (waker, payload) = (cell.waker(), cell.payload.clone());
        let other = thread::spawn(move || {
            payload.store(7, Relaxed);
            waker.wake();
        });
        here.store(1, Relaxed);
        cell.waker().wake();
        run(|| cell.seen());
        other.join().unwrap();
        while EXECUTOR.turn() {}
        assert_eq!(EXECUTOR.tasks().count(), 0);
        assert_eq!(EXECUTOR.cpu(0).unwrap().queued, [0, 0]);
    });
}

#[test]
fn the_inbox_keeps_what_two_producers_push() {
    check(|| {
        let cells = [Cell::new(), Cell::new()];
        for cell in &cells {
            spawn(Class::Service, cell.wait()).detach();
        }
        while EXECUTOR.turn() {}
        let threads = cells.clone().map(|cell| {
            let waker = cell.waker();
            let payload = cell.payload.clone();
            thread::spawn(move || {
                payload.store(7, Relaxed);
                waker.wake();
            })
        });
        run(|| cells.iter().all(Cell::seen));
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// Counts its drops.
struct Counted(Arc<PlainUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
        assert_eq!(Model::cpu(), 0, "dropped by another CPU than its own");
    }
}

#[test]
fn abort_wake_and_completion_drop_the_future_once() {
    check(|| {
        let (cell, drops) = (Cell::new(), Arc::new(PlainUsize::new(0)));
        let counted = Counted(drops.clone());
        let wait = cell.wait();
        let handle = spawn(Class::Service, async move {
            let _counted = counted;
            wait.await
        });
        let id = handle.id();
        while EXECUTOR.turn() {}
        let waker = cell.waker();
        let payload = cell.payload.clone();
        let one = thread::spawn(move || {
            payload.store(7, Relaxed);
            waker.wake();
        });
        let two = thread::spawn(move || EXECUTOR.abort(id));
        run(|| handle.is_finished());
        one.join().unwrap();
        two.join().unwrap();
        while EXECUTOR.turn() {}
        assert_eq!(drops.load(SeqCst), 1);
        let mut handle = handle;
        let result = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop()));
        let expected = if cell.seen() { Ok(7) } else { Err(JoinError::Aborted) };
        assert_eq!(result, Poll::Ready(expected));
    });
}

/// Wakes a thread that waits for it.
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

#[test]
fn a_join_wakes_and_sees_the_output() {
    check(|| {
        let mut handle = spawn(Class::Service, async { 7 });
        let other = thread::spawn(move || {
            let bell = Arc::new(Bell(Notify::new()));
            let waker = Waker::from(bell.clone());
            loop {
                match Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(result) => break assert_eq!(result, Ok(7)),
                    Poll::Pending => bell.0.wait(),
                }
            }
        });
        while EXECUTOR.turn() {}
        other.join().unwrap();
        assert_eq!(EXECUTOR.tasks().count(), 0);
    });
}

/// The joiner is a task on another CPU, which leaves a number and not a waker.
#[test]
fn a_join_by_a_task_of_another_cpu_is_woken() {
    check_bounded(2, || {
        let joined = Arc::new(PlainUsize::new(0));
        let handle = spawn(Class::Service, async { 7 });
        let done = joined.clone();
        let joiner = async move {
            done.store(handle.await.unwrap(), SeqCst);
        };
        EXECUTOR
            .spawn_detached(SpawnOptions::new(Class::Service, "joiner").cpu(1), joiner)
            .unwrap();
        let other = thread::spawn(move || {
            be(1);
            run(|| joined.load(SeqCst) != 0);
            assert_eq!(joined.load(SeqCst), 7);
        });
        while EXECUTOR.turn() {}
        other.join().unwrap();
        assert_eq!(EXECUTOR.tasks().count(), 0);
    });
}

/// A task that holds aborts off is asked, finishes what it does, and is dropped or ends by itself: once.
#[test]
fn a_held_abort_waits_for_the_task() {
    check(|| {
        let (cell, quiet) = (Cell::new(), Arc::new(PlainUsize::new(0)));
        let (wait, at_rest) = (cell.wait(), quiet.clone());
        let handle = spawn(Class::Service, async move {
            let hold = EXECUTOR.hold_abort();
            let mut wait = std::pin::pin!(wait);
            let mut aborted = std::pin::pin!(EXECUTOR.aborted());
            poll_fn(|context| match wait.as_mut().poll(context) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => aborted.as_mut().poll(context),
            })
            .await;
            at_rest.store(1, SeqCst);
            drop(hold);
            std::future::pending().await
        });
        let id = handle.id();
        while EXECUTOR.turn() {}
        let (waker, payload) = (cell.waker(), cell.payload.clone());
        let one = thread::spawn(move || {
            payload.store(7, Relaxed);
            waker.wake();
        });
        let two = thread::spawn(move || EXECUTOR.abort(id));
        run(|| handle.is_finished());
        one.join().unwrap();
        two.join().unwrap();
        assert_eq!(quiet.load(SeqCst), 1, "dropped while it held the abort off");
    });
}

#[test]
fn a_handle_dropped_at_any_time_frees_the_task_once() {
    check(|| {
        let mut handle = spawn(Class::Service, async { 7 });
        let other = thread::spawn(move || {
            let _ = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop()));
        });
        while EXECUTOR.turn() {}
        other.join().unwrap();
        assert_eq!(EXECUTOR.tasks().count(), 0);
    });
}

#[test]
fn a_stale_waker_touches_nothing() {
    check(|| {
        let first = Cell::new();
        spawn(Class::Service, first.wait()).detach();
        while EXECUTOR.turn() {}
        let (stale, waker) = (first.waker(), first.waker());
        let payload = first.payload.clone();
        payload.store(7, Relaxed);
        waker.wake();
        let other = thread::spawn(move || stale.wake());
        while EXECUTOR.turn() {}
        // Takes the freed slot, or another.
        let second = Cell::new();
        spawn(Class::Service, second.wait()).detach();
        while EXECUTOR.turn() {}
        other.join().unwrap();
        while EXECUTOR.turn() {}
        assert!(first.seen() && !second.seen());
        let task = EXECUTOR.tasks().next().unwrap();
        assert_eq!((task.polls, EXECUTOR.tasks().count()), (1, 1));
        EXECUTOR.abort(task.id);
        while EXECUTOR.turn() {}
    });
}

/// A user thread: in user mode until something calls the CPU, for ever.
async fn user_thread(stop: Arc<PlainUsize>) -> usize {
    while stop.load(SeqCst) == 0 {
        match EXECUTOR.try_enter_user() {
            Ok(()) => {
                IPI[0].wait();
                EXECUTOR.leave_user();
            }
            Err(_) => yield_now().await,
        }
    }
    0
}

#[test]
fn a_driver_woken_interrupts_user_mode() {
    check(|| {
        let (cell, stop) = (Cell::new(), Arc::new(PlainUsize::new(0)));
        let (wait, stopper) = (cell.wait(), stop.clone());
        spawn(Class::Driver, async move {
            let payload = wait.await;
            stopper.store(1, SeqCst);
            payload
        })
        .detach();
        while EXECUTOR.turn() {}
        let waker = cell.waker();
        let payload = cell.payload.clone();
        let user = spawn(Class::User, user_thread(stop));
        let other = thread::spawn(move || {
            payload.store(7, Relaxed);
            waker.wake();
        });
        run(|| user.is_finished());
        other.join().unwrap();
    });
}

#[test]
fn an_abort_interrupts_user_mode() {
    check(|| {
        let user = spawn(Class::User, user_thread(Arc::default()));
        let id = user.id();
        let other = thread::spawn(move || EXECUTOR.abort(id));
        run(|| user.is_finished());
        other.join().unwrap();
    });
}

/// CPU 0 has two user tasks, and the one it runs stays in user mode until the other has run: CPU 1, on its way to sleep,
/// takes it, or is poked awake to take it.
#[test]
fn an_idle_cpu_steals_what_another_cannot_run() {
    check_bounded(2, || {
        let stop = Arc::new(PlainUsize::new(0));
        let options = SpawnOptions::new(Class::User, "model").cpu(0);
        let stays = EXECUTOR.spawn(options.affinity(1), user_thread(stop.clone())).unwrap();
        let (stopper, id) = (stop.clone(), stays.id());
        EXECUTOR
            .spawn(options, async move {
                stopper.store(1, SeqCst);
                EXECUTOR.wake_task(id);
            })
            .unwrap()
            .detach();
        let other = thread::spawn(move || {
            be(1);
            run(|| stop.load(SeqCst) != 0);
        });
        run(|| stays.is_finished());
        IPI[1].notify();
        other.join().unwrap();
    });
}

/// As above, but the second task may move only once its mask is widened, by a third party, with CPU 0 in user mode.
#[test]
fn a_widened_mask_calls_an_idle_cpu() {
    check_bounded(2, || {
        let stop = Arc::new(PlainUsize::new(0));
        // Makes CPU 0 known, so that the masks are taken.
        EXECUTOR.turn();
        let options = SpawnOptions::new(Class::User, "model").cpu(0).affinity(1);
        let stays = EXECUTOR.spawn(options, user_thread(stop.clone())).unwrap();
        let (stopper, id) = (stop.clone(), stays.id());
        let moves = EXECUTOR
            .spawn(options, async move {
                stopper.store(1, SeqCst);
                EXECUTOR.wake_task(id);
            })
            .unwrap();
        let moving = moves.id();
        moves.detach();
        let thief = thread::spawn(move || {
            be(1);
            run(|| stop.load(SeqCst) != 0);
        });
        let widener = thread::spawn(move || assert!(EXECUTOR.set_affinity(moving, 0b11)));
        run(|| stays.is_finished());
        IPI[1].notify();
        thief.join().unwrap();
        widener.join().unwrap();
    });
}

#[test]
fn a_timer_dropped_on_another_cpu_fires_or_is_cancelled() {
    check(|| {
        let fired = Arc::new(Count(PlainUsize::new(0)));
        let mut sleep = Box::pin(sleep_until::<Model>(1_000_000));
        let waker = Waker::from(fired.clone());
        assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        let other = thread::spawn(move || {
            be(1);
            drop(sleep);
        });
        NOW.with(|now| now.store(2_000_000, SeqCst));
        EXECUTOR.timer_interrupt();
        while EXECUTOR.turn() {}
        other.join().unwrap();
        assert!(fired.0.load(SeqCst) <= 1);
        assert_eq!(Arc::strong_count(&fired), 1, "the wheel kept a waker");
        assert_eq!(EXECUTOR.cpu(0).unwrap().timers, 0);
    });
}

struct Count(PlainUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}
