//! Aborts, against wakes and the end of the task.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex as PlainMutex,
        atomic::{AtomicUsize as PlainUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use executor::{Class, HoldAbort, JoinError, JoinHandle, Platform, yield_now};
use loom::thread;

use super::{Cell, EXECUTOR, Model, check, run, spawn};

/// Runs the CPU until the task has ended, which has been polled: one thread wakes it, another aborts it.
fn deliver_and_abort(cell: &Cell, handle: &JoinHandle<usize, Model>) {
    let id = handle.id();
    let one = cell.deliver();
    let two = thread::spawn(move || EXECUTOR.abort(id));
    run(|| handle.is_finished());
    one.join().unwrap();
    two.join().unwrap();
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
        let mut handle = spawn(Class::Service, async move {
            let _counted = counted;
            wait.await
        });
        EXECUTOR.run_until_idle();
        deliver_and_abort(&cell, &handle);
        EXECUTOR.run_until_idle();
        assert_eq!(drops.load(SeqCst), 1);
        let result = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop()));
        let expected = if cell.seen() { Ok(7) } else { Err(JoinError::Aborted) };
        assert_eq!(result, Poll::Ready(expected));
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
            let mut wait = pin!(wait);
            let mut aborted = pin!(EXECUTOR.aborted());
            poll_fn(|context| match wait.as_mut().poll(context) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => aborted.as_mut().poll(context),
            })
            .await;
            at_rest.store(1, SeqCst);
            drop(hold);
            std::future::pending().await
        });
        EXECUTOR.run_until_idle();
        deliver_and_abort(&cell, &handle);
        assert_eq!(quiet.load(SeqCst), 1, "dropped while it held the abort off");
    });
}

/// A hold that is dropped on another CPU, while the task takes and drops one of its own and is aborted, is counted, and the
/// abort takes effect.
#[test]
fn a_hold_dropped_elsewhere_lets_the_abort_through() {
    check(|| {
        let outside: Arc<PlainMutex<Option<HoldAbort<Model>>>> = Arc::default();
        let lent = outside.clone();
        let handle = spawn(Class::Service, async move {
            *lent.lock().unwrap() = EXECUTOR.hold_abort();
            yield_now().await;
            drop(EXECUTOR.hold_abort());
            std::future::pending().await
        });
        EXECUTOR.turn();
        let (hold, id) = (outside.lock().unwrap().take(), handle.id());
        let one = thread::spawn(move || drop(hold));
        let two = thread::spawn(move || EXECUTOR.abort(id));
        run(|| handle.is_finished());
        one.join().unwrap();
        two.join().unwrap();
    });
}
