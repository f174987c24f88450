//! NVMe: disks on PCI that take commands from queues in memory (NVM Express Base 2.0c).
//!
//! Each controller has one queue for transfers, of up to 255 commands at once. Its namespaces are disks that share it. A
//! controller without an answer is reset as it was brought up, by the same steps ([`Controller::bring_up`]).

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
use controller::{Controller, MOST_NAMESPACES};

/// Class, subclass and interface of NVMe controllers.
pub const CLASS: u32 = 0x01_08_02;

/// Starts the driver of one controller.
///
/// # Errors
/// `ENOMEM`, `EAGAIN` as [`rt::spawn`].
pub fn start(function: &'static Function) -> Result<()> {
    let probing = Probing::begin();
    rt::spawn(SpawnOptions::new(Class::Service, "nvme probe"), async move {
        if let Err(error) = probe(function).await {
            log::error!("NVMe at {}: {error:?}", function.address);
        }
        drop(probing);
    })
}

/// Brings a controller up, finds its namespaces and serves them.
async fn probe(function: &'static Function) -> Result<()> {
    static CONTROLLERS: AtomicU32 = AtomicU32::new(0);
    // Outlives the controller's right to write to it.
    let page = DmaMemory::new(4096)?;
    let device = Device::open(function)?;
    device.enable();
    let registers = device.registers(0)?;
    if registers.len() < controller::LEAST_SPAN {
        return Err(Errno::ENXIO);
    }
    let mut owned = Owned {
        device,
        hardware: Controller::new(registers)?,
    };
    let controller = &mut owned.hardware;
    if controller.span() > registers.len() {
        return Err(Errno::ENXIO);
    }
    let line = owned.device.messages(1)?.pop().ok_or(Errno::ENXIO)?;
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
    let mut queues = Vec::new();
    queues.try_room(1)?;
    queues.push(Arc::clone(&queue));
    block::serve(&name, queues, line)?;
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
            return outcome;
        }
        if rt::now() > deadline {
            return Err(Errno::EIO);
        }
        rt::sleep_until(rt::now() + look).await;
    }
}
