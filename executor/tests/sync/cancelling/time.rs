//! Sleeps, waits with a deadline, joins.

use std::{cell::Cell, future::poll_fn, pin::pin, sync::Arc, task::Poll};

use executor::{
    Elapsed, Platform, RawSpinLock, sleep_until,
    sync::{Mutex, Notify},
    timeout, yield_now,
};

use super::{Held, count};
use crate::{
    exploring::{Action, explore},
    machine::{ByHand, Relays, options, pass},
    polling::Tasks,
};

/// Nanoseconds that pass at a time.
const STEP: u64 = 100_000;

fn sleepers() -> usize {
    ByHand::executor().cpu(0).expect("a CPU").timers
}

/// Has the executor's tasks polled, which pass wakes on. Who is gone sleeps no more.
fn run_tasks<T>(tasks: &Tasks<'_, T>) {
    ByHand::executor().run_until_idle();
    assert!(sleepers() <= tasks.ids().count());
}

/// Who sleeps is woken in time and not before, also by another waker, and at another time; who is dropped sleeps no
/// more.
#[test]
fn a_sleep_ends_in_time() {
    const STEPS: [u64; 4] = [1, 2, 3, 3];
    let (relays, others) = (Relays::new(), [Relays::new(), Relays::new()]);
    explore(6, |schedule| {
        let start = ByHand::now();
        let passed = || (ByHand::now() - start) / STEP;
        let sleep = |steps: u64| sleep_until::<ByHand>(start + steps * STEP);
        let mut tasks = Tasks::new();
        tasks.spawn(|id| async move {
            sleep(STEPS[id]).await;
            assert!(passed() >= STEPS[id]);
        });
        tasks.spawn(|id| {
            let sleep = relays.through(sleep(STEPS[id]));
            async move {
                sleep.await;
                assert!(passed() >= STEPS[id]);
            }
        });
        for (relays, early_or_late) in others.iter().zip([1, 9]) {
            tasks.spawn(|id| {
                relays.through(async move {
                    let mut sleep = pin!(sleep(early_or_late));
                    _ = poll_fn(|context| Poll::Ready(sleep.as_mut().poll(context))).await;
                    yield_now().await;
                    sleep.as_mut().reset(start + STEPS[id] * STEP);
                    sleep.await;
                    assert!(passed() >= STEPS[id]);
                })
            });
        }
        schedule.play(&mut tasks, &[("time", 3, &|| pass(STEP))], run_tasks);
        assert!(tasks.ids().all(|id| passed() < STEPS[id]), "somebody sleeps too long");
        pass(3 * STEP);
        tasks.settle();
        assert!(tasks.is_empty());
        assert_eq!(sleepers(), 0);
    });
}

/// A wait that takes too long is given up, and what it was given is passed on.
#[test]
fn a_wait_with_a_deadline_gives_up() {
    let relays = [Relays::new(), Relays::new(), Relays::new()];
    explore(8, |schedule| {
        let start = ByHand::now();
        let (mutex, held) = (Mutex::<RawSpinLock, ()>::new(()), Held::default());
        let mut tasks = Tasks::new();
        for relays in &relays {
            tasks.spawn(|id| {
                let deadline = start + STEP * (id as u64 + 1);
                let locked = relays.through(timeout::<ByHand, _>(deadline, mutex.lock()));
                let held = &held;
                async move {
                    match locked.await {
                        Ok(_guard) => {
                            let _mark = held.clone();
                            sleep_until::<ByHand>(deadline + STEP / 2).await;
                        }
                        Err(Elapsed) => assert!(ByHand::now() >= deadline),
                    }
                }
            });
        }
        schedule.play(&mut tasks, &[("time", 3, &|| pass(STEP))], run_tasks);
        assert!(
            tasks.is_empty() || count(&held) == 1,
            "somebody waits for a lock that is free"
        );
        pass(4 * STEP);
        tasks.settle();
        assert!(tasks.is_empty());
        assert!(mutex.try_lock().is_some());
        assert_eq!(sleepers(), 0);
    });
}

/// Who is left to join a task is told its end, and gets its output once; nothing is left of it.
#[test]
fn a_join_is_told_the_end() {
    let (relays, executor) = (Relays::new(), ByHand::executor());
    let others = executor.tasks().count();
    explore(9, |schedule| {
        let (output, end) = (Arc::new(()), Arc::new(Notify::<RawSpinLock>::new()));
        let (result, ended) = (output.clone(), end.clone());
        let task = executor.spawn(options(), async move {
            ended.notified().await;
            result
        });
        let task = task.unwrap();
        let id = task.id();
        let handle = Mutex::<RawSpinLock, _>::new(Some(task));
        let told = Cell::new(None);
        let join = async || {
            let mut handle = handle.lock().await;
            if let Some(task) = &mut *handle {
                told.set(Some(task.await.is_ok()));
                *handle = None;
            }
        };
        let mut tasks = Tasks::new();
        tasks.spawn(|_| join());
        tasks.spawn(|_| relays.through(join()));
        let way = Cell::new(None);
        let finish = || {
            way.set(way.get().or(Some(true)));
            end.notify_one();
        };
        let abort = || {
            way.set(way.get().or(Some(false)));
            executor.abort(id);
        };
        let detach = || drop(handle.try_lock().and_then(|mut handle| handle.take()));
        let actions: [Action<'_>; 3] = [("finish", 1, &finish), ("abort", 1, &abort), ("detach", 1, &detach)];
        schedule.play(&mut tasks, &actions, run_tasks);
        assert!(tasks.is_empty() || way.get().is_none(), "the end was not told");
        assert!(told.get().is_none() || told == way);
        drop(tasks);
        drop(handle);
        end.notify_one();
        executor.run_until_idle();
        assert_eq!(Arc::strong_count(&output), 1);
        assert_eq!(executor.tasks().count(), others);
    });
}
