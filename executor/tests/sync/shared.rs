//! A value made once, the latest value, every message, and waiters that move: against models, with futures polled and dropped
//! at random.
//!
//! That these can fail was tried by breaking the code:
//!
//! | broken | test |
//! |---|---|
//! | `OnceCell` does not look again once it has the permit | `a_once_cell_is_filled_once_whoever_is_dropped` |
//! | `OnceCell` fills and wakes nobody | `a_once_cell_is_filled_once_whoever_is_dropped` |
//! | a `Feed` that changes wakes one of those who wait | `a_watcher_sees_the_latest_value` |
//! | a nudge that comes back is added to the one that is kept | `a_nudge_that_comes_back_is_one_with_the_one_that_is_kept` |
//! | `broadcast` forgets how many are gone | `a_broadcast_reaches_everybody_in_order` |
//! | `List::rekey` takes those again that it has moved, or not the first ones | `waiters_move_in_order` |

use std::{
    cell::Cell,
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use executor::{
    RawSpinLock,
    sync::{BroadcastError, Ended, Notify, OnceCell, Ring, Wait, WaitQueue, broadcast, watch},
    yield_now,
};
use proptest::prelude::*;

use super::polling::Tasks;

type Waiter<'a> = Pin<Box<Wait<'a, RawSpinLock, u8>>>;

proptest! {
    /// However many come, and whoever is dropped on the way: one future makes the value, and all who stay get it.
    #[test]
    fn a_once_cell_is_filled_once_whoever_is_dropped(
        operations in prop::collection::vec((0u8..5, 0usize..8), 1..60),
        fails in prop::collection::vec(any::<bool>(), 8),
    ) {
        let (cell, made) = (OnceCell::<RawSpinLock, usize>::new(), Cell::new(0));
        let mut tasks = Tasks::new();
        let mut tried = 0;
        for (operation, which) in operations {
            match operation {
                0 | 1 => {
                    let (cell, made, fail) = (&cell, &made, fails[tried % fails.len()]);
                    tried += 1;
                    tasks.spawn(|_| async move {
                        let make = async {
                            yield_now().await;
                            if fail {
                                return Err(());
                            }
                            made.set(made.get() + 1);
                            Ok(which)
                        };
                        cell.get_or_try_init(make).await.copied()
                    });
                }
                2 => {
                    let cell = &cell;
                    tasks.spawn(|_| async move { Ok(*cell.wait().await) });
                }
                3 => {
                    if let Some(id) = tasks.pick(which) {
                        tasks.drop(id);
                    }
                }
                _ => {
                    if let Some(id) = tasks.ready(which)
                        && let Poll::Ready(value) = tasks.poll(id)
                    {
                        prop_assert!(value.is_err() || value.ok() == cell.get().copied());
                    }
                }
            }
            prop_assert!(made.get() <= 1);
            prop_assert_eq!(cell.get().is_some(), made.get() == 1);
        }
        for value in tasks.settle() {
            prop_assert!(value.is_err() || value.ok() == cell.get().copied());
        }
        // Who is left waits for somebody to fill it.
        prop_assert!(tasks.is_empty() || cell.get().is_none());
        if let Some(filled) = cell.get().copied() {
            prop_assert_eq!(cell.set(99), Err(99));
            prop_assert_eq!(cell.get(), Some(&filled));
        } else {
            prop_assert_eq!(cell.set(99), Ok(&99));
            prop_assert!(tasks.settle().iter().all(|value| *value == Ok(99)));
            prop_assert!(tasks.is_empty());
        }
    }

    /// Each sees values in order, none twice, and the last one; and the end.
    #[test]
    fn a_watcher_sees_the_latest_value(operations in prop::collection::vec(0usize..6, 1..80)) {
        let (sender, receiver) = watch::<RawSpinLock, u64>(0);
        let seen: Vec<Cell<u64>> = (0..3).map(|_| Cell::new(0)).collect();
        let mut tasks = Tasks::new();
        for seen in &seen {
            let mut receiver = receiver.clone();
            tasks.spawn(|_| async move {
                loop {
                    match receiver.changed().await {
                        Ok(value) => {
                            assert!(value > seen.get(), "{value} after {}", seen.get());
                            assert_eq!(value, receiver.get());
                            seen.set(value);
                        }
                        Err(Ended) => return,
                    }
                }
            });
        }
        let mut sent = 0;
        for operation in operations {
            match operation {
                which @ 0..3 => {
                    if let Some(id) = tasks.ready(which) {
                        prop_assert!(tasks.poll(id).is_pending());
                    }
                }
                _ => {
                    sent += 1;
                    sender.send(sent);
                }
            }
        }
        prop_assert_eq!(sender.subscribe().get(), sent);
        prop_assert!(tasks.settle().is_empty());
        prop_assert!(seen.iter().all(|seen| seen.get() == sent), "{:?}", seen);
        drop(sender);
        prop_assert_eq!(tasks.settle().len(), 3);
    }

    /// Each receiver gets every message in order, but for those it is told that it missed.
    #[test]
    fn a_broadcast_reaches_everybody_in_order(
        operations in prop::collection::vec((0usize..6, 0u8..4), 1..120),
        capacity in 1usize..5,
    ) {
        let (sender, receiver) = broadcast::<RawSpinLock, u64>(capacity).unwrap();
        let next: Vec<Cell<u64>> = (0..3).map(|_| Cell::new(0)).collect();
        let mut tasks = Tasks::new();
        for next in &next {
            let mut receiver = receiver.clone();
            tasks.spawn(|_| async move {
                loop {
                    match receiver.receive().await {
                        Ok(message) => {
                            assert_eq!(message, next.get());
                            next.set(message + 1);
                        }
                        Err(BroadcastError::Lagged(missed)) => {
                            assert!(missed > 0);
                            next.set(next.get() + missed);
                        }
                        Err(BroadcastError::Ended) => return,
                    }
                    yield_now().await;
                }
            });
        }
        let mut sent = 0;
        for (operation, burst) in operations {
            match operation {
                which @ 0..3 => {
                    if let Some(id) = tasks.ready(which) {
                        prop_assert!(tasks.poll(id).is_pending());
                    }
                }
                _ => (0..burst).for_each(|_| {
                    sender.send(sent);
                    sent += 1;
                }),
            }
        }
        prop_assert!(tasks.settle().is_empty());
        prop_assert!(next.iter().all(|next| next.get() == sent), "{:?} of {}", next, sent);
        let mut late = sender.subscribe();
        prop_assert_eq!(late.try_receive(), None);
        drop(sender);
        prop_assert_eq!(tasks.settle().len(), 3);
        prop_assert_eq!(late.try_receive(), Some(Err(BroadcastError::Ended)));
    }

    /// Waiters that are moved to another key keep their order and stand behind those who wait there; dropped ones leave.
    #[test]
    fn waiters_move_in_order(operations in prop::collection::vec((0u8..5, 0u8..3, 0u8..3, 0usize..40), 1..80)) {
        let queue = WaitQueue::<RawSpinLock, u8>::new();
        let mut waits: Vec<(usize, Waiter<'_>)> = Vec::new();
        let mut model: [VecDeque<usize>; 3] = Default::default();
        let mut made = 0;
        for (operation, from, to, count) in operations {
            let (from_queue, to_queue) = (from as usize, to as usize);
            match operation {
                0 | 1 => {
                    let mut wait = Box::pin(queue.wait_with(from));
                    prop_assert!(!wait.as_mut().enable());
                    waits.push((made, wait));
                    model[from_queue].push_back(made);
                    made += 1;
                }
                2 if !waits.is_empty() => {
                    let (gone, _) = waits.remove(count % waits.len());
                    model.iter_mut().for_each(|queue| queue.retain(|waiter| *waiter != gone));
                }
                3 => {
                    let wake = count % 3;
                    let expected_woken = wake.min(model[from_queue].len());
                    let woken: Vec<_> = model[from_queue].drain(..expected_woken).collect();
                    let expected_moved = count.min(model[from_queue].len());
                    let moved: Vec<_> = model[from_queue].drain(..expected_moved).collect();
                    model[to_queue].extend(moved);
                    let done = queue.requeue(wake, count, &from, &to, || true);
                    prop_assert_eq!(done, Some((expected_woken, expected_moved)));
                    prop_assert_eq!(queue.requeue(9, 9, &from, &to, || false), None);
                    for waiter in woken {
                        let at = waits.iter().position(|(number, _)| *number == waiter).unwrap();
                        let (_, mut wait) = waits.remove(at);
                        let polled = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                        prop_assert_eq!(polled, Poll::Ready(()), "the longest were woken");
                    }
                }
                _ => {}
            }
        }
    }
}

/// Words keep their order, and what finds no room is counted.
#[test]
fn a_ring_of_completions_counts_what_it_lost() {
    let ring = Ring::<u64, 4>::new();
    assert!((0..4).all(|n| ring.push(n << 40)));
    assert!(!ring.push(9) && ring.lost() == 1);
    assert_eq!([ring.pop(), ring.pop()], [Some(0), Some(1 << 40)]);
    assert!(ring.push(u64::MAX));
    let left: Vec<_> = std::iter::from_fn(|| ring.pop()).collect();
    assert_eq!(left, [2 << 40, 3 << 40, u64::MAX]);
    assert!(ring.is_empty() && ring.lost() == 1);
}

/// However the wait that was given a nudge is dropped, no more than one is kept.
#[test]
fn a_nudge_that_comes_back_is_one_with_the_one_that_is_kept() {
    let notify = Notify::<RawSpinLock>::new();
    let mut waits = Tasks::new();
    let given = waits.spawn(|_| notify.notified());
    assert!(waits.poll(given).is_pending());
    // The first is the wait's, the second is kept.
    notify.notify_one();
    notify.notify_one();
    waits.drop(given);
    (0..2).for_each(|_| _ = waits.spawn(|_| notify.notified()));
    assert_eq!(waits.settle().len(), 1);
}
