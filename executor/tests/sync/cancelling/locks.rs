//! Locks, semaphores, nudges and events.

use std::cell::Cell;

use executor::{
    RawSpinLock,
    sync::{Event, Mutex, Notify, RwLock, Semaphore},
};

use super::{Held, count, hold};
use crate::{
    exploring::{Line, explore},
    polling::Tasks,
};

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
