//! AHCI: controllers of SATA disks, on PCI or at an address that firmware's tables name (Serial ATA AHCI 1.3.1).
//!
//! Each port with a disk is a queue of up to 32 commands, which the disk orders itself where it can (NCQ). The ports of a
//! controller share its interrupt.

mod command;
mod identity;
mod port;

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use executor::{Class, SpawnOptions};
use hal::{boot_info::PlatformDevice, mmio::Registers, traits::Trigger};

use super::{
    Owned,
    pci::{Device, Function},
};
use crate::{
    block::{self, Disk, Probing, Queue, Reset, letters},
    errno::{Errno, Result},
    irq::Line,
    mm::{fallible::TryRoom, frame},
    rt,
};
use port::Port;

/// Class, subclass and interface of AHCI controllers.
pub const CLASS: u32 = 0x01_06_01;
/// The base address register of a controller on PCI (2.1.11).
const BAR: usize = 5;

/// Registers of the controller (3.1).
mod register {
    pub const CAPABILITIES: usize = 0x00;
    pub const CONTROL: usize = 0x04;
    pub const PORTS: usize = 0x0c;
    pub const MORE_CAPABILITIES: usize = 0x24;
    pub const HANDOFF: usize = 0x28;
    pub const END: usize = 0x100;
}
/// Capabilities: addresses of 64 bits, queued commands; handing over by firmware.
const WIDE: u32 = 1 << 31;
const QUEUED: u32 = 1 << 30;
const CAN_HAND_OVER: u32 = 1 << 0;
/// Control: AHCI and not IDE, interrupts, reset.
const AHCI: u32 = 1 << 31;
const INTERRUPTS: u32 = 1 << 1;
const RESET: u32 = 1 << 0;
/// Handing over (3.1.11): firmware owns it, we want it, firmware is busy.
const FIRMWARE_S: u32 = 1 << 0;
const OURS: u32 = 1 << 1;

/// Times (ns): for firmware to let go, for the controller to be reset (10.4.3); how often is looked.
const HAND_OVER: u64 = 2_000_000_000;
const RESET_TIME: u64 = 1_000_000_000;
const LOOK: u64 = 1_000_000;

/// Starts the driver of a controller on PCI.
///
/// # Errors
/// `ENOMEM`, `EAGAIN` as [`rt::spawn`].
pub fn start(function: &'static Function) -> Result<()> {
    let probing = Probing::begin();
    rt::spawn(SpawnOptions::new(Class::Service, "ahci probe"), async move {
        if let Err(error) = probe_function(function).await {
            log::error!("AHCI at {}: {error:?}", function.address);
        }
        drop(probing);
    })
}

/// Starts the driver of a controller that is on no bus.
///
/// # Errors
/// As [`start`].
pub fn start_platform(device: PlatformDevice) -> Result<()> {
    let probing = Probing::begin();
    rt::spawn(SpawnOptions::new(Class::Service, "ahci probe"), async move {
        let outcome = async {
            let registers = Registers::map(device.registers).ok_or(Errno::ENXIO)?;
            let claim = || Line::claim(device.line, Trigger::Level);
            // Nothing says that it looks into caches.
            probe(registers, None, claim, false).await
        };
        if let Err(error) = outcome.await {
            log::error!("AHCI at {:#x}: {error:?}", device.registers.start.0);
        }
        drop(probing);
    })
}

async fn probe_function(function: &'static Function) -> Result<()> {
    let device = Arc::new(Device::open(function)?);
    device.enable();
    let registers = device.registers(BAR)?;
    let messages = Arc::clone(&device);
    let claim = move || messages.messages(1)?.pop().ok_or(Errno::ENXIO);
    probe(registers, Some(device), claim, true).await
}

/// Takes a controller over, finds its disks and serves them.
async fn probe(
    registers: Registers,
    device: Option<Arc<Device>>,
    claim: impl FnOnce() -> Result<Line>,
    coherent: bool,
) -> Result<()> {
    if registers.len() < register::END {
        return Err(Errno::ENXIO);
    }
    take_over(&registers).await?;
    let capabilities = registers.read_u32(register::CAPABILITIES);
    if capabilities & WIDE == 0 && frame::end().0 > 1 << 32 {
        log::warn!("the AHCI controller does not reach memory above 4 GiB: it is left alone");
        return Err(Errno::ENXIO);
    }
    let (slots, queued) = ((capabilities >> 8 & 0x1f) as u16 + 1, capabilities & QUEUED != 0);
    let implemented = registers.read_u32(register::PORTS);
    let mut ports = Vec::new();
    for number in (0..32).filter(|number| implemented >> number & 1 != 0) {
        if Port::<Registers>::span(number) <= registers.len() {
            ports.try_room(1)?;
            let port = Port::new(registers, number, slots, coherent)?;
            ports.push(Owned {
                device: device.clone(),
                hardware: port,
            });
        }
    }
    bring_up(&mut ports).await;
    let line = claim()?;
    let mut queues = Vec::new();
    let mut disks = Vec::new();
    for mut owned in ports.into_iter().filter(|owned| owned.hardware.is_up()) {
        let Some(identity) = identity::read(|word| owned.hardware.identity(word)) else {
            log::warn!("a disk of AHCI's is of a kind that is not known");
            continue;
        };
        let queue = if queued { identity.queue } else { 0 };
        owned.hardware.set_kind(identity.geometry.block, queue);
        let name = letters("sd", DISKS.fetch_add(1, Relaxed));
        let queue = Queue::new(name, Box::new(owned))?;
        queues.try_room(1)?;
        disks.try_room(1)?;
        queues.push(Arc::clone(&queue));
        disks.push(Disk::on(queue, 0, name, identity.geometry)?);
    }
    registers.write_u32(register::CONTROL, AHCI | INTERRUPTS);
    block::serve("ahci", queues, line)?;
    disks.into_iter().try_for_each(block::register)
}

/// Disks that have got a letter.
static DISKS: AtomicU32 = AtomicU32::new(0);

/// Has firmware let go of the controller, and resets it.
async fn take_over(registers: &Registers) -> Result<()> {
    if registers.read_u32(register::MORE_CAPABILITIES) & CAN_HAND_OVER != 0 {
        registers.write_u32(register::HANDOFF, registers.read_u32(register::HANDOFF) | OURS);
        let gone = || registers.read_u32(register::HANDOFF) & FIRMWARE_S == 0;
        if !wait(HAND_OVER, gone).await {
            log::warn!("firmware does not let go of the AHCI controller: it is taken");
        }
    }
    registers.write_u32(register::CONTROL, AHCI);
    registers.write_u32(register::CONTROL, AHCI | RESET);
    let done = || registers.read_u32(register::CONTROL) & RESET == 0;
    if !wait(RESET_TIME, done).await {
        return Err(Errno::EIO);
    }
    registers.write_u32(register::CONTROL, AHCI);
    Ok(())
}

/// Waits until a register says so, for some time (ns); whether it did.
async fn wait(time: u64, is_so: impl Fn() -> bool) -> bool {
    let deadline = rt::now() + time;
    while !is_so() {
        if rt::now() >= deadline {
            return false;
        }
        rt::sleep_until(rt::now() + LOOK).await;
    }
    true
}

/// Brings the devices of all ports up, at the same time.
async fn bring_up(ports: &mut [Owned<Option<Arc<Device>>, Port<Registers>>]) {
    let mut pending = u32::MAX;
    loop {
        let (now, mut next) = (rt::now(), None);
        for (index, owned) in ports.iter_mut().enumerate() {
            if pending >> index & 1 == 0 {
                continue;
            }
            match owned.hardware.bring_up(now) {
                Reset::Until(when) => next = Some(next.unwrap_or(when).min(when)),
                Reset::Done => pending &= !(1 << index),
                Reset::Failed => {
                    pending &= !(1 << index);
                    if !owned.hardware.is_empty() {
                        log::warn!("AHCI's port {}: its device does not get ready", owned.hardware.number());
                    }
                }
            }
        }
        match next {
            Some(when) => rt::sleep_until(when).await,
            None => return,
        }
    }
}
