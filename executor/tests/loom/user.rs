//! User mode, which a call from elsewhere ends, and user tasks that move to another CPU.

use std::sync::{
    Arc,
    atomic::{AtomicUsize as PlainUsize, Ordering::SeqCst},
};

use executor::{Class, Platform, RealTime, SpawnOptions, TaskId, WEIGHT_ONE, yield_now};
use loom::thread;

use super::{Cell, EXECUTOR, IPI, Model, be, check, check_bounded, run, spawn};

/// A user thread: in user mode until something calls the CPU, for ever.
async fn user_thread(stop: Arc<PlainUsize>) -> usize {
    while stop.load(SeqCst) == 0 {
        match EXECUTOR.try_enter_user() {
            Ok(visit) => {
                IPI[Model::cpu() as usize].wait();
                visit.leave();
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
        EXECUTOR.run_until_idle();
        let user = spawn(Class::User, user_thread(stop));
        let other = cell.deliver();
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

/// CPU 0 has two user tasks, and the one it runs stays in user mode until the other has run: CPU 1 has to. What `meanwhile`
/// gives, which is called with the task that moves, spawned by `moving`, before CPU 0 runs.
fn one_moves<T>(moving: SpawnOptions, meanwhile: impl FnOnce(TaskId) -> T) -> T {
    let stop = Arc::new(PlainUsize::new(0));
    let stays = SpawnOptions::new(Class::User, "model").cpu(0).affinity(1);
    let stays = EXECUTOR.spawn(stays, user_thread(stop.clone())).unwrap();
    let (stopper, id) = (stop.clone(), stays.id());
    let moves = async move {
        stopper.store(1, SeqCst);
        EXECUTOR.wake_task(id);
    };
    let moves = EXECUTOR.spawn_detached(moving, moves).unwrap();
    let thief = thread::spawn(move || {
        be(1);
        run(|| stop.load(SeqCst) != 0);
    });
    let given = meanwhile(moves);
    run(|| stays.is_finished());
    IPI[1].notify();
    thief.join().unwrap();
    given
}

/// CPU 1, on its way to sleep, takes the task, or is poked awake to take it.
#[test]
fn an_idle_cpu_steals_what_another_cannot_run() {
    check_bounded(2, || {
        one_moves(SpawnOptions::new(Class::User, "model").cpu(0), |_| ());
    });
}

/// The task may move only once its mask is widened, by a third party, with CPU 0 in user mode.
#[test]
fn a_widened_mask_calls_an_idle_cpu() {
    check_bounded(2, || {
        // Makes CPU 0 known, so that the masks are taken.
        EXECUTOR.turn();
        let widener = one_moves(SpawnOptions::new(Class::User, "model").cpu(0).affinity(1), |task| {
            thread::spawn(move || assert!(EXECUTOR.set_affinity(task, 0b11)))
        });
        widener.join().unwrap();
    });
}

/// CPU 0 has two real-time tasks, and the more urgent one stays in user mode until the other has run. So does the fair one of CPU
/// 1, which is no idle CPU that would look for work by itself: when it has done with a real-time one it has to take what waits,
/// or is given it. `moving` is the other one, `meanwhile` as in [`one_moves`].
fn one_is_pulled<T>(moving: SpawnOptions, meanwhile: impl FnOnce(TaskId) -> T) -> T {
    let stop = Arc::new(PlainUsize::new(0));
    let on = |cpu: u32, how| {
        SpawnOptions::new(Class::User, "model")
            .cpu(cpu)
            .affinity(1 << cpu)
            .real_time(how)
    };
    let stays = EXECUTOR
        .spawn(on(0, RealTime::fifo(9)), user_thread(stop.clone()))
        .unwrap();
    let spins = EXECUTOR
        .spawn_detached(on(1, RealTime::NONE), user_thread(stop.clone()))
        .unwrap();
    EXECUTOR.spawn_detached(on(1, RealTime::fifo(9)), async {}).unwrap();
    let (stopper, id) = (stop.clone(), stays.id());
    let moves = async move {
        stopper.store(1, SeqCst);
        EXECUTOR.wake_task(id);
        EXECUTOR.wake_task(spins);
    };
    let moves = EXECUTOR.spawn_detached(moving, moves).unwrap();
    let other = thread::spawn(move || {
        be(1);
        run(|| stop.load(SeqCst) != 0);
    });
    let given = meanwhile(moves);
    run(|| stays.is_finished());
    IPI[1].notify();
    other.join().unwrap();
    given
}

#[test]
fn a_cpu_that_has_done_with_real_time_takes_what_waits() {
    check_bounded(2, || {
        let moving = SpawnOptions::new(Class::User, "model")
            .cpu(0)
            .real_time(RealTime::fifo(5));
        one_is_pulled(moving, |_| ());
    });
}

/// The task is fair at first, and a third party makes it real-time, wherever it is then.
#[test]
fn a_policy_changed_elsewhere_is_obeyed() {
    check_bounded(1, || {
        EXECUTOR.turn();
        let moving = SpawnOptions::new(Class::User, "model").cpu(0);
        let changer = one_is_pulled(moving, |task| {
            thread::spawn(move || assert!(EXECUTOR.set_policy(task, WEIGHT_ONE, RealTime::fifo(5))))
        });
        changer.join().unwrap();
    });
}
