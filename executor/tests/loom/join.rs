//! Join handles, against the end of the task.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize as PlainUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use executor::{Class, SpawnOptions, yield_now};
use loom::thread;

use super::{EXECUTOR, be, block_on, check, check_bounded, run, spawn};

#[test]
fn a_join_wakes_and_sees_the_output() {
    check(|| {
        let handle = spawn(Class::Service, async { 7 });
        let other = thread::spawn(move || assert_eq!(block_on(handle), Ok(7)));
        EXECUTOR.run_until_idle();
        other.join().unwrap();
        assert_eq!(EXECUTOR.tasks().count(), 0);
    });
}

/// Runs CPU 1 until a joiner there has left the output.
fn until_joined(joined: Arc<PlainUsize>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        be(1);
        run(|| joined.load(SeqCst) != 0);
        assert_eq!(joined.load(SeqCst), 7);
    })
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
        let other = until_joined(joined);
        EXECUTOR.run_until_idle();
        other.join().unwrap();
        assert_eq!(EXECUTOR.tasks().count(), 0);
    });
}

/// The number of a joiner at home is left without an atomic operation; that of the next one, on another CPU, counts as well.
#[test]
fn a_join_that_moves_to_another_cpu_is_woken() {
    check_bounded(2, || {
        let joined = Arc::new(PlainUsize::new(0));
        let mut handle = spawn(Class::Service, async {
            yield_now().await;
            7
        });
        let done = joined.clone();
        let at_home = async move {
            poll_fn(|context| {
                assert!(Pin::new(&mut handle).poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            let joiner = async move { done.store(handle.await.unwrap(), SeqCst) };
            EXECUTOR
                .spawn_detached(SpawnOptions::new(Class::Service, "joiner").cpu(1), joiner)
                .unwrap();
        };
        EXECUTOR
            .spawn_detached(SpawnOptions::new(Class::Service, "at home"), at_home)
            .unwrap();
        let other = until_joined(joined);
        EXECUTOR.run_until_idle();
        other.join().unwrap();
        // A wake that came too late may still stand in the inbox.
        be(1);
        EXECUTOR.run_until_idle();
        assert_eq!(EXECUTOR.tasks().count(), 0);
    });
}

#[test]
fn a_handle_dropped_at_any_time_frees_the_task_once() {
    check(|| {
        let mut handle = spawn(Class::Service, async { 7 });
        let other = thread::spawn(move || {
            let _ = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop()));
        });
        EXECUTOR.run_until_idle();
        other.join().unwrap();
        assert_eq!(EXECUTOR.tasks().count(), 0);
    });
}
