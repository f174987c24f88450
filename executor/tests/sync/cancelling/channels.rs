//! Cells, channels, watch, broadcast, and what interrupts leave.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Waker},
};

use executor::{
    RawSpinLock,
    sync::{
        BroadcastError, Closed, Ended, IrqCell, Mutex, OnceCell, Receiver, Ring, TryReceiveError, broadcast, channel,
        watch,
    },
    yield_now,
};

use super::{Held, count};
use crate::{
    exploring::{Line, explore},
    polling::{Id, Tasks},
};

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
