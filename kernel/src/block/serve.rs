//! The tasks of a device: some complete requests when the device says so, one resets it when it stops or says nothing.

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
                while queue.reap_all() {
                    rt::yield_now().await;
                }
            }
            line.wait().await;
        }
    })
}

/// Serves a queue whose device has interrupts of its own, as many as [`Hardware::sources`](super::Hardware::sources), each where
/// its line says, and watches over it.
///
/// # Errors
/// As [`serve`]; what has been spawned by then goes on.
pub fn serve_sources(name: &str, queue: &Arc<Queue>, lines: Vec<(u32, Line)>) -> Result<()> {
    rt::spawn(
        SpawnOptions::new(Class::Service, "disk watch"),
        watch(Arc::clone(queue)),
    )?;
    for (source, (cpu, mut line)) in lines.into_iter().enumerate() {
        let queue = Arc::clone(queue);
        rt::spawn(SpawnOptions::new(Class::Driver, name).cpu(cpu), async move {
            loop {
                while queue.reap(source) {
                    rt::yield_now().await;
                }
                line.wait().await;
            }
        })?;
    }
    Ok(())
}

/// Resets the device of `queue` whenever it has stopped, or a request gets no answer.
async fn watch(queue: Arc<Queue>) {
    loop {
        queue.failure().await;
        // Its interrupt may be what is missing.
        while queue.reap_all() {
            rt::yield_now().await;
        }
        if queue.needs_recovery() {
            queue.recover().await;
        }
    }
}
