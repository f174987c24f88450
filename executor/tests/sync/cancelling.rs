//! Cancelling at every point: all schedules of a few polls, drops and actions, on a few futures over one primitive.
//!
//! Once a schedule has been played only who is woken is polled, so that a lost wake is a future that never ends. What
//! only threads can see is left to the models in `tests/loom`.
//!
//! That these can fail was tried by breaking the code:
//!
//! | broken | tests that fail |
//! |---|---|
//! | a dropped `Acquire` does not give back what it was given | `a_semaphore_keeps_its_permits` and ten more |
//! | a dropped `Acquire` does not serve who stood behind | `a_semaphore_keeps_its_permits` and seven more |
//! | `Acquire` keeps the first waker | `a_semaphore_keeps_its_permits` and eleven more |
//! | a semaphore lets who comes overtake who waits | `a_rw_lock_is_passed_on`, `a_semaphore_keeps_its_permits` |
//! | a semaphore that closes gives permits | `a_semaphore_that_closes_tells_everybody` |
//! | any number of nudges is kept | `a_nudge_is_passed_on` |
//! | a nudge that was used comes back | `a_nudge_is_passed_on` |
//! | a dropped `Wait` does not pass its wake on | `a_wake_of_ones_own_is_passed_on` and three more |
//! | a dropped `Wait` passes a wake for all on | `a_wake_of_ones_own_is_passed_on` |
//! | a dropped `Wait` passes its wake on to any key | `a_wake_is_passed_on_under_its_key` and one more |
//! | `Wait` keeps the first waker | `a_wake_of_ones_own_is_passed_on` and seven more |
//! | `Wait::cancel` keeps a wake | `an_attempt_is_made_by_somebody` |
//! | `wait_until` does not look once it is registered | `an_attempt_is_made_by_somebody` |
//! | `requeue` moves to the front, or without changing the key | `a_wake_is_passed_on_to_where_waiters_moved` |
//! | `Event::set` wakes one | `an_event_lets_everybody_through` |
//! | `OnceCell` does not look again once it has the permit | `a_once_cell_is_filled_by_who_is_left` |
//! | `OnceCell` is filled and wakes nobody | `a_once_cell_is_filled_by_who_is_left` |
//! | `OnceCell` keeps the permit if its future fails | `a_once_cell_is_filled_by_who_is_left` |
//! | a `Feed` that changes wakes one, or ends silently | `a_watcher_misses_no_last_value` and one more |
//! | a broadcast's receiver counts a message before it has it | `a_broadcast_misses_nobody` |
//! | a place promised to a dropped send stays promised | `a_channel_loses_nothing` |
//! | a dropped send does not give its place on | `a_channel_loses_nothing` |
//! | a send, or the receiver, keeps the first waker | `a_channel_loses_nothing` |
//! | the last sender goes silently | `a_channel_loses_nothing` |
//! | senders that wait are not told that the receiver goes | `a_channel_that_closes_leaves_nothing_behind` |
//! | what is in the hand is left there by a receiver that goes | `a_channel_that_closes_leaves_nothing_behind` |
//! | `IrqCell` forgets signals when it begins to wait | `an_interrupt_is_heard` |
//! | a dropped `Sleep` stays in the wheel | `a_sleep_ends_in_time`, `a_wait_with_a_deadline_gives_up` |
//! | `Sleep` keeps the first foreign waker | `a_sleep_ends_in_time`, `a_wait_with_a_deadline_gives_up` |
//! | `Sleep` keeps the number of the first waker | `a_sleep_ends_in_time`, `a_wait_with_a_deadline_gives_up` |
//! | `Sleep::reset` leaves its entry | `a_sleep_ends_in_time` |
//! | `JoinHandle` keeps the first foreign waker, or the number of the first | `a_join_is_told_the_end` |
//! | a dropped `JoinHandle` keeps the slot | `a_join_is_told_the_end` |

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use executor::{
    Elapsed, Platform, RawSpinLock, sleep_until,
    sync::{
        BroadcastError, Closed, Ended, Event, IrqCell, Mutex, Notify, OnceCell, Receiver, Ring, RwLock, Semaphore,
        TryReceiveError, WaitQueue, broadcast, channel, watch,
    },
    timeout, yield_now,
};

use super::{
    exploring::{Action, Line, explore},
    machine::{ByHand, Relays, options, pass},
    polling::{Id, Tasks},
};

/// Counts what is held.
type Held = Rc<()>;

fn count(held: &Held) -> usize {
    Rc::strong_count(held) - 1
}

/// Takes something of which `parts` count, in its turn, and holds it for a while.
async fn hold<G>(take: impl Future<Output = G>, held: &Held, parts: usize) {
    let _guard = take.await;
    let _marks = vec![held.clone(); parts];
    yield_now().await;
}

/// One holds the lock at a time, in order of arrival, and nobody waits for a lock that is free.
#[test]
fn a_mutex_is_passed_on() {
    explore(10, |schedule| {
        let (mutex, line, held) = (Mutex::<RawSpinLock, ()>::new(()), Line::default(), Held::default());
        let mut tasks = Tasks::new();
        for _ in 0..3 {
            tasks.spawn(|id| hold(line.wait(id, mutex.lock()), &held, 1));
        }
        schedule.play(&mut tasks, &[], |tasks| {
            line.look(tasks);
            assert!(count(&held) <= 1);
        });
        assert!(tasks.is_empty(), "the lock was lost");
        assert!(mutex.try_lock().is_some());
    });
}

/// Readers or a writer hold it, in order of arrival.
#[test]
fn a_rw_lock_is_passed_on() {
    explore(7, |schedule| {
        let (lock, line) = (RwLock::<RawSpinLock, ()>::new(()), Line::default());
        let (read, written) = (Held::default(), Held::default());
        let mut tasks = Tasks::new();
        for _ in 0..2 {
            tasks.spawn(|id| hold(line.wait(id, lock.read()), &read, 1));
            tasks.spawn(|id| hold(line.wait(id, lock.write()), &written, 1));
        }
        schedule.play(&mut tasks, &[], |tasks| {
            line.look(tasks);
            assert!(count(&written) == 0 || (count(&written), count(&read)) == (1, 0));
        });
        assert!(tasks.is_empty(), "a turn was lost");
        assert!(lock.try_write().is_some());
    });
}

/// Every permit is free, held, or given to who was woken for it; and who waits first wants more than is free.
#[test]
fn a_semaphore_keeps_its_permits() {
    const WANTED: [u32; 4] = [1, 2, 1, 3];
    explore(7, |schedule| {
        let (semaphore, line, held) = (Semaphore::<RawSpinLock>::new(2), Line::default(), Held::default());
        let total = Cell::new(2);
        let mut tasks = Tasks::new();
        for wanted in WANTED {
            tasks.spawn(|id| hold(line.wait(id, semaphore.acquire(wanted)), &held, wanted as usize));
        }
        let release = || {
            total.set(total.get() + 1);
            semaphore.release(1);
        };
        schedule.play(&mut tasks, &[("release", 1, &release)], |tasks| {
            line.look(tasks);
            let (given, waiting) = line.split(tasks);
            let given: u32 = given.iter().map(|id| WANTED[*id]).sum();
            assert_eq!(semaphore.available() + given + count(&held) as u32, total.get());
            assert!(waiting.first().is_none_or(|id| WANTED[*id] > semaphore.available()));
        });
        assert!(tasks.is_empty() || total.get() == 2);
        semaphore.release(1);
        tasks.settle();
        assert!(tasks.is_empty(), "a permit was lost");
    });
}

/// Who waits when it is closed is told so; what was given before is given back.
#[test]
fn a_semaphore_that_closes_tells_everybody() {
    explore(8, |schedule| {
        let (semaphore, line, held) = (Semaphore::<RawSpinLock>::new(1), Line::default(), Held::default());
        let mut tasks = Tasks::new();
        for _ in 0..3 {
            tasks.spawn(|id| hold(line.wait(id, semaphore.acquire(1)), &held, 0));
        }
        schedule.play(&mut tasks, &[("close", 1, &|| semaphore.close())], |tasks| {
            line.look(tasks)
        });
        assert!(tasks.is_empty());
        assert_eq!(semaphore.available(), 1);
    });
}

/// A nudge is given to one that waits, or one nudge is kept for the next.
#[test]
fn a_nudge_is_passed_on() {
    explore(8, |schedule| {
        let (notify, line, nudges) = (Notify::<RawSpinLock>::new(), Line::default(), Cell::new(0));
        let (notify, line, nudges) = (&notify, &line, &nudges);
        let mut tasks = Tasks::new();
        for _ in 0..3 {
            tasks.spawn(|id| async move {
                line.wait(id, notify.notified()).await;
                nudges.set(nudges.get() - 1);
            });
        }
        let nudge = || {
            nudges.set(nudges.get() + 1);
            notify.notify_one();
        };
        schedule.play(&mut tasks, &[("nudge", 3, &nudge)], |tasks| {
            line.look(tasks);
            let (given, waiting) = line.split(tasks);
            let there = given.len() + waiting.len();
            nudges.set(nudges.get().min(there + 1));
            assert_eq!(given.len(), nudges.get().min(there));
        });
        assert!(tasks.is_empty() || nudges.get() == 0);
    });
}

/// Nobody waits for what has happened.
#[test]
fn an_event_lets_everybody_through() {
    explore(7, |schedule| {
        let (event, line) = (Event::<RawSpinLock>::new(), Line::default());
        let mut tasks = Tasks::new();
        for _ in 0..3 {
            tasks.spawn(|id| line.wait(id, event.wait()));
        }
        let (set, reset) = (|| _ = event.set(), || _ = event.reset());
        schedule.play(&mut tasks, &[("set", 2, &set), ("reset", 1, &reset)], |tasks| {
            assert!(!event.is_set() || line.split(tasks).1.is_empty());
        });
        assert!(tasks.is_empty() || !event.is_set());
        event.set();
        tasks.settle();
        assert!(tasks.is_empty());
    });
}

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

/// One makes the value if one of those is left that can, and all who are left get it.
#[test]
fn a_once_cell_is_filled_by_who_is_left() {
    const FAILS: Id = 0;
    const WAITS: Id = 3;
    explore(7, |schedule| {
        let (cell, made) = (OnceCell::<RawSpinLock, Id>::new(), Cell::new(0));
        let (cell, made) = (&cell, &made);
        let mut tasks = Tasks::new();
        for _ in 0..WAITS {
            tasks.spawn(|id| async move {
                let make = async {
                    yield_now().await;
                    if id == FAILS {
                        return Err(());
                    }
                    made.set(made.get() + 1);
                    Ok(id)
                };
                match cell.get_or_try_init(make).await {
                    Ok(value) => assert_eq!(cell.get(), Some(value)),
                    Err(()) => assert_eq!(id, FAILS),
                }
            });
        }
        tasks.spawn(|_| async move {
            let value = cell.wait().await;
            assert_eq!(cell.get(), Some(value));
        });
        let set = || made.set(made.get() + usize::from(cell.set(9).is_ok()));
        schedule.play(&mut tasks, &[("set", 1, &set)], |_| {
            assert_eq!(made.get(), usize::from(cell.get().is_some()));
        });
        match cell.get() {
            Some(_) => assert!(tasks.is_empty()),
            None => {
                assert!(tasks.ids().all(|id| id == WAITS), "somebody could make it");
                assert_eq!(cell.set(9), Ok(&9), "the permit was lost");
                tasks.settle();
                assert!(tasks.is_empty());
            }
        }
    });
}

/// What was sent is received once, in order, by whoever has the receiver then; what was not is not.
#[test]
fn a_channel_loses_nothing() {
    explore(7, |schedule| {
        let (sender, receiver) = channel::<RawSpinLock, (Id, u32)>(1).unwrap();
        let receiver = Mutex::<RawSpinLock, _>::new(receiver);
        let (line, sent, received) = (Line::default(), RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let (receiver, line, sent, received) = (&receiver, &line, &sent, &received);
        let mut tasks = Tasks::new();
        for _ in 0..2 {
            let sender = sender.clone();
            tasks.spawn(|id| async move {
                for n in 0..2 {
                    line.wait(id, sender.send((id, n))).await.unwrap();
                    sent.borrow_mut().push((id, n));
                }
            });
            tasks.spawn(|_| async {
                let mut receiver = receiver.lock().await;
                while let Some(value) = receiver.receive().await {
                    received.borrow_mut().push(value);
                }
            });
        }
        drop(sender);
        schedule.play(&mut tasks, &[], |tasks| line.look(tasks));
        let mut receiver = receiver.try_lock().expect("the receiver waits for what is there");
        loop {
            match receiver.try_receive() {
                Ok(value) => received.borrow_mut().push(value),
                Err(TryReceiveError::Closed) => break,
                Err(TryReceiveError::Empty) => panic!("a sender waits for a place that is free"),
            }
            tasks.settle();
        }
        assert!(tasks.is_empty());
        assert_eq!(sent, received);
    });
}

/// What is on its way when the receiver goes comes back to who sends it, or is dropped, once.
#[test]
fn a_channel_that_closes_leaves_nothing_behind() {
    explore(9, |schedule| {
        let (sender, receiver) = channel::<RawSpinLock, Held>(1).unwrap();
        let receiver: RefCell<Option<Receiver<_, _>>> = RefCell::new(Some(receiver));
        let value = Held::default();
        let mut tasks = Tasks::new();
        for _ in 0..3 {
            tasks.spawn(|_| async {
                if let Err(Closed(value)) = sender.send(value.clone()).await {
                    drop(value);
                    assert!(receiver.borrow().is_none());
                }
            });
        }
        let receive = || {
            if let Some(receiver) = &mut *receiver.borrow_mut() {
                drop(receiver.poll_receive(&mut Context::from_waker(Waker::noop())));
            }
        };
        let close = || drop(receiver.take());
        schedule.play(&mut tasks, &[("receive", 2, &receive), ("close", 1, &close)], |_| {});
        close();
        tasks.settle();
        assert!(tasks.is_empty(), "somebody was not told");
        assert_eq!(count(&value), 0);
    });
}

/// Two follow what is sent, one of them in the place of another one that may be dropped: the last of it is seen by all
/// who are left, and by who follows after them. `follow` notes what it has seen.
fn explore_followers<S: Fn(u64), E>(
    most: usize,
    make: impl Fn() -> (S, [E; 2]),
    follow: impl AsyncFn(&mut E, &Cell<u64>),
) {
    explore(most, |schedule| {
        let (send, ends) = make();
        let ends = ends.map(|end| (Mutex::<RawSpinLock, _>::new(end), Cell::new(0)));
        let sent = Cell::new(0);
        let mut tasks = Tasks::new();
        let follow = async |which: usize| follow(&mut *ends[which].0.lock().await, &ends[which].1).await;
        for which in [0, 1, 0] {
            tasks.spawn(|_| follow(which));
        }
        let send_next = || {
            sent.set(sent.get() + 1);
            send(sent.get());
        };
        schedule.play(&mut tasks, &[("send", 3, &send_next)], |_| {});
        for (end, seen) in &ends {
            assert!(
                end.try_lock().is_some() || seen.get() == sent.get(),
                "somebody waits for what is there"
            );
        }
        // The sender goes, and what is left is told so.
        drop(send);
        for which in [0, 1] {
            tasks.spawn(|_| follow(which));
        }
        tasks.settle();
        assert!(tasks.is_empty());
        assert!(ends.iter().all(|(_, seen)| seen.get() == sent.get()));
    });
}

/// Values are seen in order, at last the latest.
#[test]
fn a_watcher_misses_no_last_value() {
    let make = || {
        let (sender, receiver) = watch::<RawSpinLock, u64>(0);
        (move |value| sender.send(value), [receiver.clone(), receiver])
    };
    explore_followers(7, make, async |receiver, seen| {
        loop {
            match receiver.changed().await {
                Ok(value) => {
                    assert!(value > seen.get());
                    seen.set(value);
                }
                Err(Ended) => return,
            }
        }
    });
}

/// Messages are heard in order, but for those that are said to be missed.
#[test]
fn a_broadcast_misses_nobody() {
    let make = || {
        let (sender, receiver) = broadcast::<RawSpinLock, u64>(2).unwrap();
        (move |value| sender.send(value), [receiver.clone(), receiver])
    };
    explore_followers(7, make, async |receiver, seen| {
        loop {
            match receiver.receive().await {
                Ok(message) => {
                    assert_eq!(message, seen.get() + 1);
                    seen.set(message);
                }
                Err(BroadcastError::Lagged(missed)) => seen.set(seen.get() + missed),
                Err(BroadcastError::Ended) => return,
            }
        }
    });
}

/// What an interrupt leaves is found by whoever has the turn.
#[test]
fn an_interrupt_is_heard() {
    explore(8, |schedule| {
        let (signals, words) = (IrqCell::new(), Ring::<u64, 4>::new());
        let (pushed, popped, heard) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let turn = Mutex::<RawSpinLock, ()>::new(());
        let pop = || {
            while let Some(word) = words.pop() {
                assert_eq!(word, popped.replace(word + 1));
            }
        };
        let mut tasks = Tasks::new();
        for _ in 0..3 {
            tasks.spawn(|_| async {
                let _turn = turn.lock().await;
                loop {
                    pop();
                    heard.set(heard.get() + signals.wait().await);
                }
            });
        }
        let interrupt = || {
            assert!(words.push(pushed.replace(pushed.get() + 1)));
            signals.signal();
        };
        schedule.play::<()>(&mut tasks, &[("interrupt", 3, &interrupt)], |_| {});
        assert!(tasks.is_empty() || pushed == popped);
        pop();
        assert_eq!(pushed, popped);
        assert_eq!(u64::from(heard.get() + signals.take()), pushed.get());
    });
}

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
