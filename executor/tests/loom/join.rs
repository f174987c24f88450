//! Join handles, against the end of the task.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize as PlainUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use executor::{Class, SpawnOptions};
use loom::{sync::Notify, thread};

use super::{EXECUTOR, be, check, check_bounded, run, spawn};

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
        EXECUTOR.run_until_idle();
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
        EXECUTOR.run_until_idle();
        other.join().unwrap();
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
