//! The tasks of a device: one completes requests when the device says so, one resets it when it
//! stops or says nothing.

use alloc::{sync::Arc, vec::Vec};

use executor::{Class, SpawnOptions};

use super::Queue;
use crate::{errno::Result, irq::Line, rt};

/// Serves the queues whose devices share `line`, for ever, on the calling CPU, and watches over each.
///
/// # Errors
/// `ENOMEM`, `EAGAIN` as [`rt::spawn`]: nothing is served then.
pub fn serve(name: &str, queues: Vec<Arc<Queue>>, mut line: Line) -> Result<()> {
    for queue in &queues {
        rt::spawn(
            SpawnOptions::new(Class::Service, "disk watch"),
            watch(Arc::clone(queue)),
        )?;
    }
    rt::spawn(SpawnOptions::new(Class::Driver, name), async move {
        loop {
            for queue in &queues {
                while queue.reap() {
                    rt::yield_now().await;
                }
            }
            line.wait().await;
        }
    })
}

/// Resets the device of `queue` whenever it has stopped, or a request gets no answer.
async fn watch(queue: Arc<Queue>) {
    loop {
        queue.failure().await;
        // Its interrupt may be what is missing.
        while queue.reap() {
            rt::yield_now().await;
        }
        if queue.needs_recovery() {
            queue.recover().await;
        }
    }
}
