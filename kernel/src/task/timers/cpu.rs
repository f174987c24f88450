//! Waiting for a timer's expiry by a clock that counts CPU time.

use core::{future::poll_fn, pin::pin, task::Poll};

use super::AT_ONCE;
use crate::{rt, task::cpu_clock::CpuClock};

/// The task of a timer that counts CPU time: has it expire when `clock` shows what `expiry` says; while that is nothing it waits. It is
/// woken when the timer is set or goes on.
pub(super) async fn follow(clock: CpuClock, expiry: impl Fn() -> Option<u64>, expire: impl Fn()) {
    let mut turns = 0;
    loop {
        let waits_for = expiry();
        let mut reached = pin!(async {
            match waits_for {
                Some(time) => clock.reached(time).await,
                None => core::future::pending().await,
            }
        });
        poll_fn(|cx| {
            if expiry() != waits_for {
                return Poll::Ready(());
            }
            reached.as_mut().poll(cx)
        })
        .await;
        expire();
        turns += 1;
        if turns % AT_ONCE == 0 {
            rt::yield_now().await;
        }
    }
}
