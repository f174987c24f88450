//! The task of a disk: completes requests when the device says so, and resets it when it says nothing.

use alloc::sync::Arc;
use core::pin::pin;

use futures_util::future::{Either, select};

use super::Disk;
use crate::{irq::Line, rt};

/// Serves `disk` for ever: `line` is the device's. Run as a driver task on the CPU that takes the interrupt.
pub async fn serve(disk: Arc<Disk>, mut line: Line) {
    loop {
        // Kept over many interrupts: looking for the oldest request is a walk over all.
        let mut overdue = pin!(disk.overdue());
        loop {
            while disk.reap() {
                rt::yield_now().await;
            }
            match select(pin!(line.wait()), &mut overdue).await {
                Either::Left(_) => {}
                Either::Right(_) => break,
            }
        }
        // Its interrupt may be what is missing.
        while disk.reap() {
            rt::yield_now().await;
        }
        if disk.is_overdue() {
            disk.recover().await;
        }
    }
}
