//! async-task with a VecDeque: the plainest executor that can be made of it. The queue is the thread's own and unlocked.

use super::{Allocating, Named, Spinning};
use crate::measure::Until;
use async_task::Runnable;
use std::{
    cell::RefCell,
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

thread_local!(static QUEUE: RefCell<VecDeque<Runnable>> = const { RefCell::new(VecDeque::new()) });

fn schedule(runnable: Runnable) {
    QUEUE.with_borrow_mut(|queue| queue.push_back(runnable));
}

/// async-task.
pub struct AsyncTask;

impl Named for AsyncTask {
    const NAME: &'static str = "async-task";
}

impl Allocating for AsyncTask {
    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) {
        let (runnable, task) = async_task::spawn(future, schedule);
        task.detach();
        runnable.schedule();
    }

    fn spawn_joined<F: Future<Output: Send> + Send + 'static>(future: F) -> impl Future<Output = F::Output> + Send {
        let (runnable, task) = async_task::spawn(future, schedule);
        runnable.schedule();
        task
    }

    fn run<M: Future<Output: Send> + Send + 'static>(main: M) -> M::Output {
        super::run_until_idle::<Self, M>(main, || {
            while let Some(runnable) = QUEUE.with_borrow_mut(VecDeque::pop_front) {
                runnable.run();
            }
        })
    }
}

impl Spinning for AsyncTask {
    /// By a queue under a lock, as others push to it.
    fn spin<F: Future<Output = ()> + Send + 'static>(_: u32, task: F, mut until: Until) {
        let queue = Arc::new(Mutex::new(VecDeque::new()));
        let shared = queue.clone();
        let schedule = move |runnable| {
            shared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_back(runnable)
        };
        let (runnable, task) = async_task::spawn(task, schedule);
        task.detach();
        runnable.schedule();
        while until.goes_on() {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            next.map(Runnable::run);
        }
    }
}
