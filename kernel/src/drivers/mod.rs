//! Device drivers: each a task that owns its device and loops over its interrupt.

mod mmio;
pub mod nvme;
pub mod pci;
pub mod screen;
pub mod uart;

pub use mmio::Mmio;

/// Starts the drivers of what there is on PCI. They go on by themselves; whoever needs a disk waits for
/// [`block::probed`](crate::block::probed).
pub fn start() {
    for function in pci::functions() {
        let outcome = match function.class {
            nvme::CLASS => nvme::start(function),
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            log::error!("{function}: its driver does not start: {error:?}");
        }
    }
}
