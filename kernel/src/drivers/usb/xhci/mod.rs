//! xHCI, the host controllers of USB (eXtensible Host Controller Interface 1.2; numbers in comments are its sections).
//!
//! One task owns the controller: it waits for its interrupt, takes events and hands them on. Each port that has ever had something
//! connected has a task of its own ([`device`]), which makes the device ready and serves it until it leaves; a device that
//! is slow, wrong or silent stops none but its own. Everything that is waited for has a limit but keys.
//!
//! - [`layout`] reads what a controller has, [`port`] what a port says.
//! - [`trb`], [`ring`] and [`context`] are the forms that both sides write and read in memory.
//! - [`controller`] has commands done and takes events.
//!
//! The published crates were looked at: `xhci` has types for all of these forms, but as references into memory that is
//! shared with a device, and events with reserved bits set are none to it; those above it wait in loops.
//!
//! Memory that the controller may write to stays allocated until it has given a device's slot back, or has halted. What does neither
//! keeps its memory for ever.

pub mod context;
pub mod controller;
pub mod device;
pub mod keyboard;
pub mod layout;
pub mod port;
pub mod ring;
pub mod trb;

#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::{future::Future, pin::pin};

use executor::{Class, SpawnOptions};
use futures_util::future::select;
use hal::mmio::Registers;

use self::controller::Controller;
use crate::{
    drivers::{pci, registers::RegisterBlock},
    errno::{Errno, Result},
    mm::dma::DmaMemory,
    rt,
    tty::Tty,
};

/// PCI's class of these controllers (PCI Code and ID Assignment 1.11, 1.13).
pub const CLASS: u32 = 0x0c_03_30;

/// What a controller stands in: its registers, memory that it reaches, and time.
pub trait Bus: Send + Sync + 'static {
    /// How registers are reached.
    type Registers: RegisterBlock;

    /// The controller's registers.
    fn registers(&self) -> &Self::Registers;
    /// How many bytes of them there are.
    fn length(&self) -> usize;
    /// Memory, zeroed.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn allocate(&self, bytes: usize) -> Result<Arc<DmaMemory>>;
    /// The time in ns.
    fn now(&self) -> u64;
    /// Waits until then.
    fn sleep_until(&self, deadline: u64) -> impl Future<Output = ()> + Send;
}

/// The machine.
struct Machine {
    /// Ours for as long as the controller is.
    _device: pci::Device,
    registers: Registers,
}

impl Bus for Machine {
    type Registers = Registers;

    fn registers(&self) -> &Registers {
        &self.registers
    }

    fn length(&self) -> usize {
        self.registers.len()
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<DmaMemory>> {
        DmaMemory::new(bytes).map(Arc::new)
    }

    fn now(&self) -> u64 {
        rt::now()
    }

    fn sleep_until(&self, deadline: u64) -> impl Future<Output = ()> + Send {
        rt::sleep_until(deadline)
    }
}

/// Starts the driver of a controller, whose keyboards type at `tty`.
///
/// # Errors
/// `ENOMEM`, `EAGAIN` as [`rt::spawn`].
pub fn start(function: &'static pci::Function, tty: &Arc<Tty>) -> Result<()> {
    let served = run(function, Arc::clone(tty));
    rt::spawn(SpawnOptions::new(Class::Driver, "xhci"), async {
        if let Err(error) = served.await {
            log::error!("{}: the USB controller is not served: {error:?}", function.address);
        }
    })
}

/// Serves a controller and the keyboards at its ports for as long as it works.
///
/// # Errors
/// As [`pci::Device::open`], [`Controller::start`] and [`Controller::serve`]; `ENXIO` also where the machine has no messages.
async fn run(function: &'static pci::Function, tty: Arc<Tty>) -> Result<()> {
    let device = pci::Device::open(function)?;
    device.enable();
    let registers = device.registers(0)?;
    let mut line = device.messages(1)?.pop().ok_or(Errno::ENXIO)?;
    let controller = Controller::start(Machine {
        _device: device,
        registers,
    })
    .await?;
    let layout = controller.layout();
    let address = function.address;
    log::info!("{address}: USB with {} ports, {} devices", layout.ports, layout.slots);
    let serve_port = |port| {
        let task = device::serve_port(Arc::clone(&controller), port, Arc::clone(&tty));
        if let Err(error) = rt::spawn(SpawnOptions::new(Class::Service, "usb"), task) {
            log::error!("no task for USB port {port}: {error:?}");
            controller.unserved(port);
        }
    };
    controller.look(serve_port);
    loop {
        match controller.serve(serve_port) {
            Ok(true) => rt::yield_now().await,
            Ok(false) => _ = select(pin!(line.wait()), pin!(controller.failed())).await,
            Err(error) => {
                // Its devices' tasks end by themselves; the memory goes with the last of them.
                controller.halted().await;
                return Err(error);
            }
        }
    }
}
