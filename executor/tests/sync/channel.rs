//! The bounded channel against a model of it: futures are polled and dropped by hand, as a generated list of steps says.
//!
//! That it can fail was tried by breaking the channel, one place at a time. What only threads can see is caught by the models
//! in `tests/loom/channel.rs`.
//!
//! | broken | caught by |
//! |---|---|
//! | a place promised to a dropped send stays promised | `a_channel_is_fair_and_loses_nothing` |
//! | a dropped send does not give its place on | `a_channel_is_fair_and_loses_nothing` |
//! | a promised send whose value went into the hand does not give its place on | `a_channel_is_fair_and_loses_nothing` |
//! | the queue is looked at before the hand | `a_channel_is_fair_and_loses_nothing` |
//! | the last sender goes silently | `a_receiver_is_told_when_the_last_sender_goes` |
//! | senders that wait are not told that the receiver goes | `a_receiver_that_goes_leaves_nothing_behind` |
//! | what is in the hand is left there by a receiver that goes | `a_receiver_that_goes_leaves_nothing_behind` |
//! | the hand is filled past the queue | `a_channel_takes_from_two_senders` (loom) |
//! | the first value in the queue wakes nobody | `a_channel_keeps_order_and_loses_no_wake` (loom) |
//! | the receiver does not look again once it is registered | `a_channel_takes_from_two_senders` (loom) |
//! | `HUNGRY` is stored relaxed | `a_channel_keeps_order_and_loses_no_wake` (loom) |
//! | `FULL` is stored relaxed | `a_channel_keeps_order_and_loses_no_wake` (loom) |
//! | `HUNGRY` is stored over `FULL` | `a_channel_keeps_order_and_loses_no_wake` (loom) |

use std::{cell::RefCell, collections::VecDeque, task::Poll};

use executor::{
    RawSpinLock,
    sync::{Closed, Receiver, TryReceiveError, TrySendError, channel},
};
use proptest::prelude::*;

use super::polling::{Id, Tasks};

/// What the channel is: where values stand, who waits for a place, and who was given one.
struct Model {
    capacity: usize,
    hand: Option<u64>,
    hungry: bool,
    queue: VecDeque<u64>,
    waiting: VecDeque<Id>,
    promised: Vec<Id>,
}

impl Model {
    fn push(&mut self, value: u64) {
        if self.queue.is_empty() && self.hungry {
            self.hungry = false;
            self.hand = Some(value);
        } else {
            self.queue.push_back(value);
        }
    }

    fn has_place(&self) -> bool {
        self.waiting.is_empty() && self.queue.len() + self.promised.len() < self.capacity
    }

    fn promise(&mut self) {
        if self.queue.len() + self.promised.len() < self.capacity {
            self.promised.extend(self.waiting.pop_front());
        }
    }

    fn pop(&mut self) -> Option<u64> {
        if let Some(value) = self.hand.take() {
            return Some(value);
        }
        let value = self.queue.pop_front()?;
        self.hungry = false;
        self.promise();
        Some(value)
    }

    fn leave(&mut self, id: Id) {
        self.waiting.retain(|other| *other != id);
        self.promised.retain(|other| *other != id);
        self.promise();
    }
}

type Shelf = RefCell<Option<Receiver<RawSpinLock, u64>>>;

/// Receives with the receiver that stands on the shelf, and puts it back, also when it is dropped.
async fn receive(shelf: &Shelf) -> Option<u64> {
    struct Borrowed<'a>(&'a Shelf, Option<Receiver<RawSpinLock, u64>>);
    impl Drop for Borrowed<'_> {
        fn drop(&mut self) {
            *self.0.borrow_mut() = self.1.take();
        }
    }
    let receiver = shelf.borrow_mut().take();
    let mut borrowed = Borrowed(shelf, receiver);
    borrowed.1.as_mut().expect("one receives at a time").receive().await
}

proptest! {
    /// Values arrive in the order in which they got a place, places are given in order of arrival, a place or a value is
    /// neither lost nor made by who gives up, nobody overtakes, and nobody waits for what is there.
    #[test]
    fn a_channel_is_fair_and_loses_nothing(
        steps in prop::collection::vec((0u8..14, any::<usize>()), 1..250),
        capacity in 1usize..4,
    ) {
        let (sender, receiver) = channel::<RawSpinLock, u64>(capacity).unwrap();
        let shelf = RefCell::new(Some(receiver));
        let mut model = Model {
            capacity, hand: None, hungry: false, queue: VecDeque::new(), waiting: VecDeque::new(), promised: Vec::new(),
        };
        let mut sends = Tasks::new();
        let mut receives = Tasks::new();
        for (n, (what, which)) in steps.into_iter().enumerate() {
            let value = n as u64;
            match what {
                0..=3 => drop(sends.spawn(|id| sender.send(id as u64 + 1_000_000))),
                4 => {
                    let expected = if model.has_place() { Ok(()) } else { Err(TrySendError::Full(value)) };
                    prop_assert_eq!(sender.try_send(value), expected);
                    if expected.is_ok() {
                        model.push(value);
                    }
                }
                5 => if let Some(receiver) = shelf.borrow_mut().as_mut() {
                    prop_assert_eq!(receiver.try_receive(), model.pop().ok_or(TryReceiveError::Empty));
                },
                6 => if let Some(id) = sends.pick(which) {
                    sends.drop(id);
                    model.leave(id);
                },
                7 => if let Some(id) = receives.pick(0) {
                    receives.drop(id);
                },
                8..=10 => if let Some(id) = sends.pick(which) {
                    let may = if let Some(at) = model.promised.iter().position(|other| *other == id) {
                        model.promised.remove(at);
                        true
                    } else {
                        !model.waiting.contains(&id) && model.has_place()
                    };
                    if may {
                        model.push(id as u64 + 1_000_000);
                        model.promise();
                    } else if !model.waiting.contains(&id) {
                        model.waiting.push_back(id);
                    }
                    prop_assert_eq!(sends.poll(id), if may { Poll::Ready(Ok(())) } else { Poll::Pending });
                },
                _ => {
                    let id = receives.pick(0).unwrap_or_else(|| receives.spawn(|_| receive(&shelf)));
                    let expected = model.pop();
                    model.hungry |= expected.is_none();
                    prop_assert_eq!(receives.poll(id), expected.map_or(Poll::Pending, |value| Poll::Ready(Some(value))));
                }
            }
            if model.hand.is_some() || !model.queue.is_empty() {
                prop_assert!(receives.ids().all(|id| receives.is_woken(id)), "the receiver was not woken");
            }
            for id in &model.promised {
                prop_assert!(sends.is_woken(*id), "a place was given, and nobody woke its owner");
            }
            for id in &model.waiting {
                prop_assert!(!sends.is_woken(*id), "woken for nothing");
            }
        }
        // The end comes after everything sent.
        receives.ids().collect::<Vec<_>>().into_iter().for_each(|id| receives.drop(id));
        sends.ids().collect::<Vec<_>>().into_iter().for_each(|id| { sends.drop(id); model.leave(id) });
        drop(sends);
        drop(sender);
        let mut receiver = shelf.take().unwrap();
        while let Some(value) = model.pop() {
            prop_assert_eq!(receiver.try_receive(), Ok(value));
        }
        prop_assert_eq!(receiver.try_receive(), Err(TryReceiveError::Closed));
    }

    /// Whatever is under way when the receiver goes comes back to its sender, or is dropped, once.
    #[test]
    fn a_receiver_that_goes_leaves_nothing_behind(
        steps in prop::collection::vec((0u8..5, any::<usize>()), 0..30),
    ) {
        let (sender, receiver) = channel::<RawSpinLock, std::rc::Rc<()>>(2).unwrap();
        let counted = std::rc::Rc::new(());
        let mut receiver = Some(receiver);
        let mut sends = Tasks::new();
        for (what, which) in steps {
            match (what, sends.ready(which)) {
                (0, _) => {
                    if let Some(receiver) = &mut receiver {
                        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                        let _ = receiver.poll_receive(&mut context);
                    }
                }
                (1, _) => drop(sends.spawn(|_| sender.send(counted.clone()))),
                (_, Some(id)) => {
                    let _ = sends.poll(id);
                }
                _ => {}
            }
        }
        receiver = None;
        drop(receiver);
        while let Some(id) = sends.ready(0) {
            prop_assert_eq!(sends.poll(id), Poll::Ready(Err(Closed(counted.clone()))));
        }
        prop_assert!(sends.is_empty(), "not told that the receiver is gone");
        prop_assert_eq!(sender.try_send(counted.clone()), Err(TrySendError::Closed(counted.clone())));
        prop_assert_eq!(std::rc::Rc::strong_count(&counted), 1);
    }
}

/// What waits for a value is told when the last sender goes.
#[test]
fn a_receiver_is_told_when_the_last_sender_goes() {
    let (sender, mut receiver) = channel::<RawSpinLock, u32>(1).unwrap();
    let other = sender.clone();
    let mut tasks = Tasks::new();
    let id = tasks.spawn(|_| receiver.receive());
    assert_eq!(tasks.poll(id), Poll::Pending);
    drop(sender);
    assert!(!tasks.is_woken(id));
    drop(other);
    assert!(tasks.is_woken(id));
    assert_eq!(tasks.poll(id), Poll::Ready(None));
}
