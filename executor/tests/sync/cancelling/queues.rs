//! Wait queues: wakes of one's own, under keys, moved; attempts.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
};

use executor::{RawSpinLock, sync::WaitQueue, yield_now};

use crate::{
    exploring::{Action, explore},
    polling::{Id, Tasks},
};

/// What a queue with two keys is: who waits under which; and who was woken, under which if it has a wake of its own.
#[derive(Default)]
struct Model {
    queued: [Vec<Id>; 2],
    woken: Vec<(Id, Option<usize>)>,
}

type Queue = WaitQueue<RawSpinLock, usize>;

impl Model {
    fn wake(&mut self, key: usize, limit: usize) -> usize {
        let count = limit.min(self.queued[key].len());
        let woken = self.queued[key].drain(..count);
        self.woken.extend(woken.map(|id| (id, Some(key))));
        count
    }

    fn wake_all(&mut self) -> usize {
        let woken: Vec<_> = self.queued.iter_mut().flat_map(|queued| queued.drain(..)).collect();
        self.woken.extend(woken.iter().map(|id| (*id, None)));
        woken.len()
    }

    fn requeue(&mut self) -> (usize, usize) {
        let woken = self.wake(0, 1);
        let [from, to] = &mut self.queued;
        let moved = from.len().min(1);
        to.extend(from.drain(..moved));
        (woken, moved)
    }

    fn leave(&mut self, id: Id) {
        self.queued
            .iter_mut()
            .for_each(|queued| queued.retain(|other| *other != id));
        if let Some(at) = self.woken.iter().position(|woken| woken.0 == id)
            && let (_, Some(key)) = self.woken.remove(at)
        {
            self.wake(key, 1);
        }
    }
}

/// Waits, and so does the model.
async fn wait(queue: &Queue, model: &RefCell<Model>, id: Id, key: usize) {
    struct Stay<'a>(&'a RefCell<Model>, Id);
    impl Drop for Stay<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().leave(self.1);
        }
    }
    model.borrow_mut().queued[key].push(id);
    let _stay = Stay(model, id);
    queue.wait_with(key).await;
    model.borrow_mut().woken.retain(|woken| woken.0 != id);
}

type Wakeup = (&'static str, usize, fn(&Queue, &mut Model));

/// Those are woken, and only those, whom the model says: a task for each key.
fn explore_queue(most: usize, keys: [usize; 3], wakeups: [Wakeup; 2]) {
    explore(most, |schedule| {
        let (queue, model) = (Queue::new(), RefCell::new(Model::default()));
        let (queue, model) = (&queue, &model);
        let mut tasks = Tasks::new();
        for key in keys {
            tasks.spawn(|id| wait(queue, model, id, key));
        }
        let actions = wakeups.map(|(name, most, act)| (name, most, move || act(queue, &mut model.borrow_mut())));
        let actions = actions
            .each_ref()
            .map(|action| (action.0, action.1, &action.2 as &dyn Fn()));
        schedule.play(&mut tasks, &actions, |tasks| {
            let model = model.borrow();
            assert!(
                model.woken.iter().all(|woken| tasks.is_woken(woken.0)),
                "a wake was lost"
            );
            assert!(
                !model.queued.iter().flatten().any(|id| tasks.is_woken(*id)),
                "a wake was made"
            );
        });
    });
}

const WAKE_ONE: Wakeup = ("wake one", 2, |queue, model| {
    assert_eq!(queue.wake_one(), model.wake(0, 1))
});
const WAKE_ALL: Wakeup = ("wake all", 1, |queue, model| {
    assert_eq!(queue.wake_all(), model.wake_all())
});
const WAKE_MOVED: Wakeup = ("wake moved", 2, |queue, model| {
    assert_eq!(queue.wake_matching(1, |key| *key == 1), model.wake(1, 1));
});
const WAKE_TWO: Wakeup = ("wake two", 2, |queue, model| {
    assert_eq!(queue.wake_matching(2, |key| *key == 0), model.wake(0, 2));
});
const REQUEUE: Wakeup = ("requeue", 2, |queue, model| {
    assert_eq!(queue.requeue(1, 1, &0, &1, || true), Some(model.requeue()));
});

/// A wake of one's own is passed on, one for all is not.
#[test]
fn a_wake_of_ones_own_is_passed_on() {
    explore_queue(7, [0, 0, 0], [WAKE_ONE, WAKE_ALL]);
}

/// Who has another key neither gets nor passes on.
#[test]
fn a_wake_is_passed_on_under_its_key() {
    explore_queue(7, [0, 1, 0], [WAKE_TWO, WAKE_MOVED]);
}

/// Who was moved is woken, and passes on, where it is then.
#[test]
fn a_wake_is_passed_on_to_where_waiters_moved() {
    explore_queue(7, [0, 0, 1], [REQUEUE, WAKE_MOVED]);
}

/// Nobody waits while something is there, be it put there right after somebody looked; and one that takes its wait
/// back, woken or not, is as good as dropped.
#[test]
fn an_attempt_is_made_by_somebody() {
    const FICKLE: Id = 2;
    explore(7, |schedule| {
        let (queue, there, late) = (WaitQueue::<RawSpinLock>::new(), Cell::new(0_u32), Cell::new(false));
        let put = || {
            there.set(there.get() + 1);
            queue.wake_one();
        };
        let take = || {
            let taken = there.get().checked_sub(1).map(|left| there.set(left));
            if late.take() {
                put();
            }
            taken
        };
        let mut tasks = Tasks::new();
        for _ in 0..FICKLE {
            tasks.spawn(|_| queue.wait_until(take));
        }
        tasks.spawn(|_| async {
            let mut wait = pin!(queue.wait());
            wait.as_mut().enable();
            yield_now().await;
            wait.as_mut().cancel();
            yield_now().await;
        });
        let actions: [Action<'_>; 2] = [("put", 2, &put), ("put late", 1, &|| late.set(true))];
        schedule.play(&mut tasks, &actions, |_| {});
        assert!(tasks.is_empty() || there.get() == 0);
        assert!(tasks.ids().all(|id| id != FICKLE));
    });
}
