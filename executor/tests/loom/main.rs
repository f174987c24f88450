//! Models of the executor's races, explored exhaustively (up to a bound on preemptions) on the code that ships.
//!
//! `CARGO_TARGET_DIR=target/loom CARGO_PROFILE_RELEASE_LTO=off RUSTFLAGS="--cfg loom" cargo test -p executor --release --test loom`
//!
//! With `LOOM_UNBOUNDED=1` in the environment the bound is lifted: of one model at a time, and for hours.
//!
//! A CPU is a loom thread; being idle or in user mode is waiting for a notification that only the platform's IPI gives. A
//! lost wake is therefore a deadlock, which loom reports. Payloads are relaxed atomics: that a poll sees them is the
//! executor's doing.
//!
//! That the models can fail was tried by breaking the code, one place at a time; each made the named model fail, some also
//! others:
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
//! | `State::complete` releases a task that is still linked | `a_slot_is_not_used_again_while_its_task_is_linked` |
//! | the joiner's number is stored after `JOINER` | `a_join_by_a_task_of_another_cpu_is_woken` |
//! | holds are counted by a load and a store | `a_hold_dropped_elsewhere_lets_the_abort_through` |
//! | a wake for a CPU that has left does not call its heir | `a_driver_is_inherited` |
//! | a CPU that leaves does not call its heir | `a_driver_is_inherited` |
//! | the inbox of a CPU that has left is not looked at | `a_service_task_is_inherited` |
//! | dropping `HoldAbort` looks for an abort by a plain load | `a_hold_dropped_elsewhere_lets_the_abort_through` |
//! | `State::complete_alone` stores instead of exchanging | `a_slot_is_not_used_again_while_its_task_is_linked` |
//! | a joiner's number is left on any CPU as it is at home | `a_join_by_a_task_of_another_cpu_is_woken` |
//! | a number that was left at home is not left again elsewhere | `a_join_that_moves_to_another_cpu_is_woken` |
//! | `Generations::pass`, or `leave`, wakes nobody | `a_change_waits_for_a_cpu_that_joins`, `a_cpu_that_leaves_is_not_waited_for` |
//! | a CPU that is behind counts its own change as passed | `a_cpu_that_is_behind_makes_a_change` |
//! | a change is numbered before its maker has passed it | `a_change_without_others_is_not_waited_for` |
//! | `Generations::wait` does not look again | `a_change_waits_for_a_cpu_that_joins` |
//! | `Generations` without the fence of `join`, of `advance`, of `pass` | `a_change_waits_for_a_cpu_that_joins` (twice), `two_cpus_pass_at_once` |
#![cfg(loom)]

mod abort;
mod channel;
mod generations;
mod join;
mod retire;
mod timer;
mod user;
mod wake;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex as PlainMutex,
        atomic::{AtomicU64 as PlainU64, AtomicUsize as PlainUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use executor::{Class, Executor, JoinHandle, Platform, SpawnOptions};
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
        EXECUTOR.run_until_idle();
        if done() {
            return;
        }
        Model::idle(|| EXECUTOR.enter_idle());
        EXECUTOR.exit_idle();
    }
}

/// Wakes a thread that waits for it.
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

/// Polls on the calling thread, when woken and only then.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let bell = Arc::new(Bell(Notify::new()));
    let waker = Waker::from(bell.clone());
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => bell.0.wait(),
        }
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    check_bounded(3, model);
}

fn check_bounded(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    let unbounded = std::env::var_os("LOOM_UNBOUNDED").is_some();
    builder.preemption_bound = (!unbounded).then_some(preemptions);
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

    /// A task of CPU 0 that waits for the payload, not polled yet.
    fn spawn(class: Class) -> Self {
        let cell = Self::new();
        spawn(class, cell.wait()).detach();
        cell
    }

    /// Another thread leaves the payload and wakes the task, which has been polled.
    fn deliver(&self) -> thread::JoinHandle<()> {
        let (waker, payload) = (self.waker(), self.payload.clone());
        thread::spawn(move || {
            payload.store(7, Relaxed);
            waker.wake();
        })
    }

    fn waker(&self) -> Waker {
        self.waker.lock().unwrap().clone().expect("the task was polled")
    }

    fn seen(&self) -> bool {
        self.seen.load(SeqCst) != 0
    }
}

fn spawn(class: Class, future: impl Future<Output = usize> + Send + 'static) -> JoinHandle<usize, Model> {
    EXECUTOR
        .spawn(SpawnOptions::new(class, "model").cpu(0), future)
        .unwrap()
}
