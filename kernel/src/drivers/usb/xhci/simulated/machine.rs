//! What the simulated controller stands in.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{LENGTH, Simulated};
use crate::{drivers::usb::xhci::Bus, errno::Result, mm::dma::DmaMemory};

/// Waits by the simulated clock.
pub struct Sleep(Simulated, u64);

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0.state().now >= self.1 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Bus for Simulated {
    type Registers = Self;

    fn registers(&self) -> &Self {
        self
    }

    fn length(&self) -> usize {
        LENGTH
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<DmaMemory>> {
        let memory = Arc::new(DmaMemory::new(bytes)?);
        self.state().memory.push(Arc::clone(&memory));
        Ok(memory)
    }

    fn now(&self) -> u64 {
        self.state().now
    }

    fn sleep_until(&self, deadline: u64) -> impl Future<Output = ()> + Send {
        Sleep(self.clone(), deadline)
    }
}
