//! The channel's races that its lock does not settle.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use executor::{RawSpinLock, sync::channel};
use loom::thread;

use super::{block_on, check};

/// One sender; values by way of the hand and of the queue arrive in order, and then the end.
#[test]
fn a_channel_keeps_order_and_loses_no_wake() {
    check(|| {
        let (sender, mut receiver) = channel::<RawSpinLock, u32>(1).unwrap();
        let sending = thread::spawn(move || {
            for value in 0..3 {
                block_on(sender.send(value)).unwrap();
            }
        });
        // Under one waker: only then does the receiver wait without a lock.
        block_on(async {
            for value in 0..3 {
                assert_eq!(receiver.receive().await, Some(value));
            }
            assert_eq!(receiver.receive().await, None);
        });
        sending.join().unwrap();
    });
}

/// Two senders; each one's values arrive in its order, under a waker that changes.
#[test]
fn a_channel_takes_from_two_senders() {
    check(|| {
        let (sender, mut receiver) = channel::<RawSpinLock, u32>(3).unwrap();
        let other = sender.clone();
        let sending = thread::spawn(move || {
            sender.try_send(1).unwrap();
            sender.try_send(2).unwrap();
        });
        let other = thread::spawn(move || block_on(other.send(7)).unwrap());
        let mut received = Vec::new();
        while let Some(value) = block_on(receiver.receive()) {
            received.push(value);
        }
        received.retain(|value| *value != 7);
        assert!(received.is_sorted());
        sending.join().unwrap();
        other.join().unwrap();
    });
}

/// The receiver goes while a value is handed over.
#[test]
fn a_value_handed_to_a_receiver_that_goes_is_dropped() {
    check(|| {
        let (sender, mut receiver) = channel::<RawSpinLock, Arc<()>>(1).unwrap();
        let value = Arc::new(());
        let sent = value.clone();
        let sending = thread::spawn(move || drop(sender.try_send(sent)));
        let _ = receiver.poll_receive(&mut Context::from_waker(Waker::noop()));
        drop(receiver);
        sending.join().unwrap();
        assert_eq!(Arc::strong_count(&value), 1);
    });
}
