//! The task that acts when a deadline of something passes.
//!
//! It sleeps until the deadline it has seen; only an earlier one wakes it. One that was put off or given up is found so when it
//! has slept: what is armed and disarmed around every call of a program costs a lock and a few stores.

use alloc::sync::Arc;
use core::{future::poll_fn, pin::pin, task::Poll};

use executor::{Class, SpawnOptions};

use super::settings;
use crate::{errno::Result, rt};

/// What a task is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// When, in nanoseconds since boot, as the wall clock stands now; `u64::MAX` for never.
    pub deadline: u64,
    /// Whether it has to hear of it when the wall clock is set.
    pub follows_wall: bool,
}

impl Wanted {
    const fn is_nothing(self) -> bool {
        self.deadline == u64::MAX && !self.follows_wall
    }
}

/// The task, as what it looks after knows it.
#[derive(Default)]
pub struct Keeper {
    task: Option<rt::Join<()>>,
    /// When it looks next; 0 if it is about to.
    sleeps_until: u64,
    watches_wall: bool,
}

/// Something with deadlines.
pub trait Deadlines: Send + Sync + 'static {
    /// The task's name.
    const NAME: &'static str;

    /// Lends the keeper, under the lock under which deadlines change, with what it is wanted for.
    fn with_keeper<T>(&self, look: impl FnOnce(&mut Keeper, Wanted) -> T) -> T;

    /// Acts on some of what is due; whether there may be more.
    fn expire(self: &Arc<Self>) -> bool;
}

/// What is to be done after a deadline has changed, once the lock is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a deadline may be missed"]
pub enum News {
    /// Nothing.
    None,
    /// This task has to look.
    Wake(executor::TaskId),
    /// There is no task yet.
    Start,
}

impl Keeper {
    fn sleeps_too_long(&self, wanted: Wanted) -> bool {
        wanted.deadline < self.sleeps_until || wanted.follows_wall && !self.watches_wall
    }

    /// What has to be done for what is wanted now.
    pub fn news(&self, wanted: Wanted) -> News {
        match &self.task {
            None if !wanted.is_nothing() => News::Start,
            Some(task) if self.sleeps_too_long(wanted) => News::Wake(task.id()),
            _ => News::None,
        }
    }

    /// Takes the task, to be aborted once the lock is released.
    pub fn take(&mut self) -> Option<rt::Join<()>> {
        self.task.take()
    }
}

impl News {
    /// Does it.
    ///
    /// # Errors
    /// `ENOMEM` if there is no memory for the task.
    pub fn follow<D: Deadlines>(self, of: &Arc<D>) -> Result<()> {
        match self {
            Self::None => return Ok(()),
            Self::Wake(task) => {
                rt::executor().wake_task(task);
                return Ok(());
            }
            Self::Start => {}
        }
        let options = SpawnOptions::new(Class::Service, D::NAME);
        let task = rt::executor().spawn(options, keep(of.clone()))?;
        let surplus = of.with_keeper(|keeper, _| match keeper.task {
            None => keeper.task.replace(task),
            // Another thread was faster.
            Some(_) => Some(task),
        });
        if let Some(task) = surplus {
            task.abort();
        }
        Ok(())
    }
}

/// The task.
async fn keep<D: Deadlines>(of: Arc<D>) {
    let mut set = pin!(settings().wait());
    loop {
        let watches = of.with_keeper(|keeper, wanted| {
            let newly = wanted.follows_wall && !keeper.watches_wall;
            keeper.watches_wall |= newly;
            newly
        });
        if watches {
            // Before the wall clock is looked at.
            set.as_mut().enable();
        }
        if of.expire() {
            rt::yield_now().await;
            continue;
        }
        let next = of.with_keeper(|keeper, wanted| {
            keeper.sleeps_until = wanted.deadline;
            wanted.deadline
        });
        let mut sleep = pin!((next != u64::MAX).then(|| rt::sleep_until(next)));
        poll_fn(|cx| {
            let woken = of.with_keeper(|keeper, wanted| {
                let set = keeper.watches_wall && set.as_mut().poll(cx).is_ready();
                keeper.watches_wall &= !set;
                set || keeper.sleeps_too_long(wanted)
            });
            match sleep.as_mut().as_pin_mut() {
                _ if woken => Poll::Ready(()),
                Some(sleep) => sleep.poll(cx),
                None => Poll::Pending,
            }
        })
        .await;
    }
}
