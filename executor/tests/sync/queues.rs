//! Wait queues and locks: random polls, wakes and drops against what must hold.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use executor::{
    RawSpinLock,
    sync::{
        Acquire, ByteRing, Mutex, MutexGuard, Permit, RwLock, Semaphore, TryReceiveError, TrySendError, Wait,
        WaitQueue, channel,
    },
};
use proptest::prelude::*;

use super::polling::Wakes;

struct Waiting<'a> {
    future: Pin<Box<Wait<'a, RawSpinLock, u8>>>,
    key: u8,
    count: Arc<Wakes>,
    polled: bool,
}

proptest! {
    /// Every wake that was given is seen by exactly one waiter, or was passed on until nobody was left who could use it;
    /// waiters are served in order; nobody is woken who was not given a wake.
    #[test]
    fn wait_queue_passes_wakes_on(operations in prop::collection::vec((0u8..7, 0usize..8, 0u8..3), 1..200)) {
        let queue = WaitQueue::<RawSpinLock, u8>::new();
        let mut waiting: Vec<Waiting<'_>> = Vec::new();
        // The model: who is queued (index into `waiting` by identity), who holds a wake of its own or of all.
        let mut queued: Vec<*const Wakes> = Vec::new();
        let mut given: Vec<*const Wakes> = Vec::new();
        let mut given_to_all: Vec<*const Wakes> = Vec::new();
        for (operation, which, key) in operations {
            let nth = if waiting.is_empty() { None } else { Some(which % waiting.len()) };
            match (operation, nth) {
                (0, _) => {
                    let future = Box::pin(queue.wait_with(key));
                    waiting.push(Waiting { future, key, count: Arc::default(), polled: false });
                }
                (1, Some(n)) => {
                    let id = Arc::as_ptr(&waiting[n].count);
                    let early = waiting[n].future.as_mut().enable();
                    let expected = given.contains(&id) || given_to_all.contains(&id);
                    prop_assert_eq!(early, expected);
                    if !expected && !queued.contains(&id) {
                        queued.push(id);
                    }
                }
                (2, Some(n)) => {
                    let id = Arc::as_ptr(&waiting[n].count);
                    let waker = Waker::from(waiting[n].count.clone());
                    let ready = waiting[n].future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
                    let expected = given.contains(&id) || given_to_all.contains(&id);
                    prop_assert_eq!(ready, expected);
                    waiting[n].polled = true;
                    if ready {
                        given.retain(|other| *other != id);
                        given_to_all.retain(|other| *other != id);
                        waiting[n].polled = false;
                    } else if !queued.contains(&id) {
                        queued.push(id);
                    }
                }
                (3, _) => {
                    let woken = queue.wake_one();
                    prop_assert_eq!(woken, queued.len().min(1));
                    given.extend(queued.drain(..woken));
                }
                (4, _) => {
                    let key_of = |id: &*const Wakes| waiting.iter().find(|w| Arc::as_ptr(&w.count) == *id).unwrap().key;
                    let limit = which % 3;
                    let woken = queue.wake_matching(limit, |other| *other == key);
                    let chosen: Vec<_> = queued.iter().copied().filter(|id| key_of(id) == key).take(limit).collect();
                    prop_assert_eq!(woken, chosen.len());
                    queued.retain(|id| !chosen.contains(id));
                    given.extend(chosen);
                }
                (5, _) => {
                    prop_assert_eq!(queue.wake_all(), queued.len());
                    given_to_all.append(&mut queued);
                }
                (6, Some(n)) => {
                    let gone = waiting.remove(n);
                    let id = Arc::as_ptr(&gone.count);
                    queued.retain(|other| *other != id);
                    given_to_all.retain(|other| *other != id);
                    let held = given.contains(&id);
                    given.retain(|other| *other != id);
                    let key = gone.key;
                    drop(gone);
                    if held {
                        let key_of = |id: &*const Wakes| waiting.iter().find(|w| Arc::as_ptr(&w.count) == *id).unwrap().key;
                        if let Some(at) = queued.iter().position(|id| key_of(id) == key) {
                            given.push(queued.remove(at));
                        }
                    }
                }
                _ => {}
            }
            for waiter in &waiting {
                let id = Arc::as_ptr(&waiter.count);
                if waiter.count.take() > 0 {
                    prop_assert!(given.contains(&id) || given_to_all.contains(&id), "woken for nothing");
                }
            }
            prop_assert_eq!(queue.is_empty(), queued.is_empty());
        }
    }

    /// Permits are neither lost nor made, whatever is dropped when; who waits in front is served first.
    #[test]
    fn semaphore_keeps_its_permits(operations in prop::collection::vec((0u8..5, 0usize..8, 1u32..4), 1..200)) {
        const PERMITS: u32 = 4;
        let semaphore = Semaphore::<RawSpinLock>::new(PERMITS);
        let waker = Waker::from(Arc::<Wakes>::default());
        let mut waiting: Vec<(Pin<Box<Acquire<'_, RawSpinLock>>>, u32)> = Vec::new();
        let mut held: Vec<(Permit<'_, RawSpinLock>, u32)> = Vec::new();
        for (operation, which, count) in operations {
            match operation {
                0 => waiting.push((Box::pin(semaphore.acquire(count)), count)),
                1 if !waiting.is_empty() => {
                    let n = which % waiting.len();
                    if let Poll::Ready(permit) = waiting[n].0.as_mut().poll(&mut Context::from_waker(&waker)) {
                        let (_, count) = waiting.remove(n);
                        held.push((permit.unwrap(), count));
                    }
                }
                2 if !waiting.is_empty() => drop(waiting.remove(which % waiting.len())),
                3 if !held.is_empty() => drop(held.remove(which % held.len())),
                4 => held.extend(semaphore.try_acquire(count).map(|permit| (permit, count))),
                _ => {}
            }
            let taken: u32 = held.iter().map(|(_, count)| count).sum();
            prop_assert!(taken + semaphore.available() <= PERMITS);
        }
        waiting.clear();
        let taken: u32 = held.iter().map(|(_, count)| count).sum();
        prop_assert_eq!(taken + semaphore.available(), PERMITS);
        held.clear();
        prop_assert!(semaphore.try_acquire(PERMITS).is_some());
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn wait_until_looks_after_registering_and_passes_on() {
    let queue = WaitQueue::<RawSpinLock>::new();
    let value = AtomicUsize::new(0);
    let take = || (value.load(SeqCst) > 0).then(|| value.fetch_sub(1, SeqCst));
    let mut first = Box::pin(queue.wait_until(take));
    let mut second = Box::pin(queue.wait_until(take));
    assert!(poll(first.as_mut()).is_pending());
    assert!(poll(second.as_mut()).is_pending());
    value.store(1, SeqCst);
    assert_eq!(queue.wake_one(), 1);
    // The first was given the wake and goes without looking: the second gets it.
    drop(first);
    assert!(poll(second.as_mut()).is_ready());
    assert!(queue.is_empty());
}

#[test]
fn mutex_and_rw_lock_are_fair_and_survive_cancelling() {
    let mutex = Mutex::<RawSpinLock, u32>::new(1);
    let held = mutex.try_lock().unwrap();
    let mut second = Box::pin(mutex.lock());
    let mut third = Box::pin(mutex.lock());
    assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
    drop(held);
    assert!(mutex.try_lock().is_none(), "overtook a waiter");
    drop(second);
    let Poll::Ready(mut guard) = poll(third.as_mut()) else {
        panic!("the lock was not passed on")
    };
    *guard += 1;
    fn is_send<T: Send>(_: &T) {}
    is_send::<MutexGuard<'_, RawSpinLock, u32>>(&guard);
    drop(guard);
    drop(third);
    assert_eq!(mutex.into_inner(), 2);

    let lock = RwLock::<RawSpinLock, u32>::new(0);
    let readers = [lock.try_read().unwrap(), lock.try_read().unwrap()];
    let mut writer = Box::pin(lock.write());
    assert!(poll(writer.as_mut()).is_pending());
    assert!(lock.try_read().is_none(), "overtook a writer");
    drop(writer);
    assert!(lock.try_read().is_some());
    drop(readers);
    *lock.try_write().unwrap() = 3;
    assert_eq!(*lock.try_read().unwrap(), 3);
}

#[test]
fn channel_is_bounded_and_tells_both_ends() {
    let (sender, mut receiver) = channel::<RawSpinLock, u32>(1).unwrap();
    let other = sender.clone();
    assert_eq!(sender.try_send(1), Ok(()));
    assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
    let mut waiting = Box::pin(sender.send(3));
    assert!(poll(waiting.as_mut()).is_pending());
    assert_eq!(receiver.try_receive(), Ok(1));
    assert_eq!(poll(waiting.as_mut()), Poll::Ready(Ok(())));
    drop(waiting);
    drop((sender, other));
    assert_eq!(receiver.try_receive(), Ok(3));
    assert_eq!(receiver.try_receive(), Err(TryReceiveError::Closed));
    let (sender, receiver) = channel::<RawSpinLock, u32>(1).unwrap();
    drop(receiver);
    assert_eq!(sender.try_send(1), Err(TrySendError::Closed(1)));
    assert!(matches!(poll(Box::pin(sender.send(1)).as_mut()), Poll::Ready(Err(_))));
}

#[test]
fn byte_ring_keeps_order_and_counts_what_it_lost() {
    let ring = ByteRing::<4>::new();
    for round in 0..10u8 {
        let pushed = (0..6).filter(|n| ring.push(round + n)).count();
        assert_eq!(pushed, 4);
        assert!((0..4).all(|n| ring.pop() == Some(round + n)));
        assert!(ring.pop().is_none() && ring.is_empty());
    }
    assert_eq!(ring.lost(), 20);
}
