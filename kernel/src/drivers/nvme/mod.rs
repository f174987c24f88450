//! NVMe: disks on PCI that take commands from queues in memory (NVM Express Base 2.0c).
//!
//! Each CPU has a queue of the controller's for transfers, with an interrupt of its own, so that what a CPU asks for it is told
//! of. Up to 127 commands are under way at once; the controller's namespaces are disks that share them. A controller without an
//! answer is reset as it was brought up, by the same steps ([`Controller::bring_up`]).

mod command;
mod controller;
mod identify;
mod ring;

use alloc::{boxed::Box, format, sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use executor::{Class, SpawnOptions};
use hal::mmio::Registers;

use super::{
    Owned,
    pci::{Device, Function},
};
use crate::{
    block::{self, Disk, Name, Probing, Queue, Reset},
    errno::{Errno, Result},
    mm::{dma::DmaMemory, fallible::TryRoom},
    rt,
};
use command::{Entry, Subject};
use controller::{Controller, MOST_NAMESPACES, MOST_QUEUES};

/// Class, subclass and interface of NVMe controllers.
pub const CLASS: u32 = 0x01_08_02;

/// Starts the driver of one controller, on a machine of so many CPUs.
///
/// # Errors
/// `ENOMEM`, `EAGAIN` as [`rt::spawn`].
pub fn start(function: &'static Function, cpus: u32) -> Result<()> {
    let probing = Probing::begin();
    rt::spawn(SpawnOptions::new(Class::Service, "nvme probe"), async move {
        if let Err(error) = probe(function, cpus as usize).await {
            log::error!("NVMe at {}: {error:?}", function.address);
        }
        drop(probing);
    })
}

/// Brings a controller up, finds its namespaces and serves them.
async fn probe(function: &'static Function, cpus: usize) -> Result<()> {
    static CONTROLLERS: AtomicU32 = AtomicU32::new(0);
    // Outlives the controller's right to write to it.
    let page = DmaMemory::new(4096)?;
    let device = Device::open(function)?;
    device.enable();
    let registers = device.registers(0)?;
    if registers.len() < controller::LEAST_SPAN {
        return Err(Errno::ENXIO);
    }
    // Queue by queue, to the CPU of its number.
    let wanted = cpus.min(MOST_QUEUES).min(device.most_messages());
    let lines = device.messages_to(wanted, |vector| vector as u32)?;
    let mut owned = Owned {
        device,
        hardware: Controller::new(registers, lines.len())?,
    };
    let controller = &mut owned.hardware;
    if controller.span() > registers.len() {
        return Err(Errno::ENXIO);
    }
    loop {
        match controller.bring_up(rt::now()) {
            Reset::Until(when) => rt::sleep_until(when).await,
            Reset::Done => break,
            Reset::Failed => return Err(Errno::EIO),
        }
    }
    let found = find(controller, &page).await?;
    let name = name(format!("nvme{}", CONTROLLERS.fetch_add(1, Relaxed)))?;
    let queue = Queue::new(name, Box::new(owned))?;
    block::serve_sources(&name, &queue, (0..).zip(lines).collect())?;
    for (namespace, geometry) in found {
        let name = self::name(format!("{name}n{namespace}"))?;
        block::register(Disk::on(Arc::clone(&queue), namespace, name, geometry)?)?;
    }
    Ok(())
}

fn name(text: alloc::string::String) -> Result<Name> {
    Name::from(&text).map_err(|_| Errno::ENXIO)
}

/// The namespaces that can be used, with their numbers.
async fn find(controller: &mut Controller<Registers>, page: &DmaMemory) -> Result<Vec<(u32, block::Geometry)>> {
    let mut found = Vec::new();
    admin(controller, &command::identify(Subject::Controller, 0, page.address())).await?;
    let (most_pages, write_cache) = (identify::most_pages(page), identify::has_write_cache(page));
    admin(controller, &command::identify(Subject::Namespaces, 0, page.address())).await?;
    let numbers: arrayvec::ArrayVec<u32, MOST_NAMESPACES> = identify::namespaces(page)
        .filter(|number| *number <= MOST_NAMESPACES as u32)
        .take(MOST_NAMESPACES)
        .collect();
    for number in numbers {
        admin(
            controller,
            &command::identify(Subject::Namespace, number, page.address()),
        )
        .await?;
        match identify::geometry(page, most_pages) {
            Some(geometry) => {
                let geometry = block::Geometry {
                    write_cache,
                    ..geometry
                };
                controller.set_block(number, geometry.block);
                found.try_room(1)?;
                found.push((number, geometry));
            }
            None => log::warn!("NVMe namespace {number} has a format that is not known"),
        }
    }
    Ok(found)
}

/// Has an admin command carried out. They come at the beginning only, so no interrupt is set up for them.
async fn admin(controller: &mut Controller<Registers>, entry: &Entry) -> Result<()> {
    let (look, patience) = controller.admin_times();
    let deadline = rt::now() + patience;
    controller.admin_start(entry);
    loop {
        if let Some(outcome) = controller.admin_outcome() {
            return outcome.map(|_| ());
        }
        if rt::now() > deadline {
            return Err(Errno::EIO);
        }
        rt::sleep_until(rt::now() + look).await;
    }
}
