//! Models of the channel's races that its lock does not settle, explored as those in `loom` are.
//!
//! `CARGO_TARGET_DIR=target/loom CARGO_PROFILE_RELEASE_LTO=off RUSTFLAGS="--cfg loom" cargo test -p executor --release --test
//! loom_channel`
#![cfg(loom)]

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use executor::{RawSpinLock, sync::channel};
use loom::{sync::Notify, thread};

struct Parked(Notify);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

/// Polls when woken, and only then: a wake that is lost is a deadlock, which loom reports.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let parked = Arc::new(Parked(Notify::new()));
    let waker = Waker::from(parked.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        parked.0.wait();
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

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
