//! Device drivers: each a task that owns its device and loops over its interrupt.

pub mod ahci;
pub mod keyboard;
pub mod nvme;
mod owned;
pub mod pci;
pub mod registers;
pub mod screen;
pub mod uart;
pub mod usb;
pub mod virtio;
pub mod virtio_blk;

pub use owned::Owned;

use alloc::sync::Arc;

use hal::boot_info::Machine;

use crate::tty::Tty;

/// Starts the drivers of what there is on PCI, and beside it; keyboards type at `tty`. They go on by themselves; whoever needs a
/// disk waits for [`block::probed`](crate::block::probed).
pub fn start(machine: &Machine, tty: &Arc<Tty>) {
    for device in machine.ahci {
        if let Err(error) = ahci::start_platform(*device) {
            log::error!("the driver of an AHCI controller does not start: {error:?}");
        }
    }
    if let Some(controller) = hal::arch::keyboard_controller()
        && let Err(error) = keyboard::ps2::start(controller, tty)
    {
        log::error!("the driver of the PS/2 keyboard does not start: {error:?}");
    }
    for function in pci::functions() {
        let outcome = match function.class {
            ahci::CLASS => ahci::start(function),
            nvme::CLASS => nvme::start(function, machine.cpus),
            _ if virtio::pci::is(function, virtio_blk::KIND) => virtio_blk::start(function),
            usb::xhci::CLASS => usb::xhci::start(function, tty),
            _ if virtio::pci::is(function, keyboard::virtio::KIND) => keyboard::virtio::start(function, tty),
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            log::error!("{function}: its driver does not start: {error:?}");
        }
    }
}
