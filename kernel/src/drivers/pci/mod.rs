//! PCI: which functions there are, what they ask for, and where their registers are.
//!
//! Each host is walked once at boot, from its first bus on through bridges, by way of the configuration space that it shows
//! in memory. Nothing that a device says is believed beyond its own function: a list that runs in circles, a bus that was
//! seen before or a register of a size that cannot be ends what it is part of. Where firmware has left registers without
//! addresses, they get some of the host's windows ([`assign`]).

mod assign;
mod bar;
mod device;
mod function;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use hal::{boot_info::PciHost, pci::BusConfig};
use spin::Once;

pub use bar::{Bar, BarKind};
pub use device::Device;
pub use function::{Address, Capability, Function};

use crate::{
    errno::Result,
    mm::fallible::TryRoom,
    sync::{Rank, SpinLock},
};

/// Configuration space of one bus.
pub trait Config {
    /// Reads a word of a function's. All ones where there is none.
    fn read(&self, device: u8, function: u8, offset: u16) -> u32;
    /// Writes one.
    fn write(&self, device: u8, function: u8, offset: u16, value: u32);
}

impl Config for BusConfig {
    fn read(&self, device: u8, function: u8, offset: u16) -> u32 {
        Self::read(self, device, function, offset)
    }

    fn write(&self, device: u8, function: u8, offset: u16, value: u32) {
        Self::write(self, device, function, offset, value);
    }
}

static FUNCTIONS: Once<Vec<Function>> = Once::new();
static HOSTS: Once<&'static [PciHost]> = Once::new();

/// Walks the machine's hosts. Once, at boot.
///
/// # Errors
/// `ENOMEM`.
pub fn init(hosts: &'static [PciHost]) -> Result<()> {
    HOSTS.call_once(|| hosts);
    let mut all = Vec::new();
    for host in hosts {
        let mut found = scan(host, |bus| config(host, bus))?;
        assign::assign(host, &mut found, |bus| config(host, bus));
        all.try_room(found.len())?;
        all.append(&mut found);
    }
    for function in &all {
        log::info!("{function}");
    }
    FUNCTIONS.call_once(|| all);
    Ok(())
}

/// Configuration space of one bus, mapped once.
fn config(host: &PciHost, bus: u8) -> Option<BusConfig> {
    static MAPPED: SpinLock<Vec<(u16, u8, BusConfig)>> = SpinLock::new(Rank::Device, Vec::new());
    let segment = host.ecam.segment;
    let mut mapped = MAPPED.lock();
    if let Some((_, _, config)) = mapped.iter().find(|known| (known.0, known.1) == (segment, bus)) {
        return Some(*config);
    }
    mapped.try_room(1).ok()?;
    let config = BusConfig::map(host, bus)?;
    mapped.push((segment, bus, config));
    Some(config)
}

fn hosts() -> &'static [PciHost] {
    HOSTS.get().copied().unwrap_or_default()
}

/// Every function found, by host and bus.
pub fn functions() -> &'static [Function] {
    FUNCTIONS.get().map_or(&[], Vec::as_slice)
}

/// The functions of a host's buses.
///
/// # Errors
/// `ENOMEM`.
pub fn scan<C: Config>(host: &PciHost, open: impl Fn(u8) -> Option<C>) -> Result<Vec<Function>> {
    let mut found = Vec::new();
    let mut seen = [false; 256];
    // Buses behind bridges, not yet looked at: each is entered once.
    let mut buses = Vec::new();
    let mut next = Some(host.ecam.first_bus);
    while let Some(bus) = next {
        seen[usize::from(bus)] = true;
        if let Some(config) = open(bus) {
            for device in 0..32 {
                scan_device(host, bus, device, &config, &mut found)?;
            }
        } else {
            log::warn!("PCI bus {bus:02x} cannot be reached");
        }
        for function in found.iter().filter(|function: &&Function| function.address.bus == bus) {
            match function.secondary_bus {
                Some(0) => log::warn!(
                    "{}: a bridge without a bus: what is behind is not seen",
                    function.address
                ),
                Some(behind) if !seen[usize::from(behind)] && behind <= host.ecam.last_bus => {
                    seen[usize::from(behind)] = true;
                    buses.try_room(1)?;
                    buses.push(behind);
                }
                _ => {}
            }
        }
        next = buses.pop();
    }
    found.sort_unstable_by_key(|function| function.address);
    Ok(found)
}

fn scan_device(host: &PciHost, bus: u8, device: u8, config: &impl Config, found: &mut Vec<Function>) -> Result<()> {
    let mut functions = 1;
    let mut number = 0;
    while number < functions {
        let address = Address {
            segment: host.ecam.segment,
            bus,
            device,
            function: number,
        };
        if let Some(function) = Function::read(address, config) {
            if number == 0 && function.has_siblings {
                functions = 8;
            }
            found.try_room(1)?;
            found.push(function);
        }
        number += 1;
    }
    Ok(())
}
