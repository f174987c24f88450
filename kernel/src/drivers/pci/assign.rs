//! Addresses for registers that firmware has left without.
//!
//! They come from the windows that the host passes on to its first bus. What is behind bridges is left alone: firmware that
//! has numbered buses has also given out addresses.

use hal::boot_info::{PciHost, PciWindow};

use super::{BarKind, Config, Function, function::register};

/// Gives addresses to the registers in memory of the functions on the host's first bus that have none, the largest first.
/// One that finds no room stays without.
pub(super) fn assign<C: Config>(host: &PciHost, functions: &mut [Function], open: impl Fn(u8) -> Option<C>) {
    let first = host.ecam.first_bus;
    let Some(config) = open(first).filter(|_| !host.windows.is_empty()) else {
        return;
    };
    while let Some((index, slot)) = largest_without(functions, first) {
        let address = functions[index].address;
        let Some(mut bar) = functions[index].bars[slot] else {
            return;
        };
        match find_room(host, functions, bar.size, bar.kind == BarKind::Memory64) {
            Some(place) => {
                bar.address = place;
                let offset = register::BAR + 4 * slot as u16;
                config.write(address.device, address.function, offset, place as u32);
                if bar.kind == BarKind::Memory64 {
                    config.write(address.device, address.function, offset + 4, (place >> 32) as u32);
                }
                functions[index].bars[slot] = Some(bar);
            }
            None => {
                log::warn!("{address}: no room for {} bytes of registers", bar.size);
                // Not asked for again.
                functions[index].bars[slot] = None;
            }
        }
    }
}

/// The largest register without an address, by function and slot. Ports and ROMs are not for us.
fn largest_without(functions: &[Function], bus: u8) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize, u64)> = None;
    for (index, function) in functions
        .iter()
        .enumerate()
        .filter(|(_, function)| function.address.bus == bus)
    {
        for (slot, bar) in function.bars.iter().enumerate() {
            let Some(bar) = bar else { continue };
            let wants = bar.address == 0 && matches!(bar.kind, BarKind::Memory32 | BarKind::Memory64);
            if wants && best.is_none_or(|(_, _, size)| size < bar.size) {
                best = Some((index, slot, bar.size));
            }
        }
    }
    best.map(|(index, slot, _)| (index, slot))
}

/// The lowest free place of this size, aligned to it, as the bus counts. A wide register takes a wide window where there is
/// room.
fn find_room(host: &PciHost, functions: &[Function], size: u64, wide: bool) -> Option<u64> {
    let in_windows = |wanted: bool| {
        let windows = host.windows.iter().filter(move |window| window.wide == wanted);
        windows.clone().find_map(|window| room_in(window, functions, size))
    };
    if wide {
        in_windows(true).or_else(|| in_windows(false))
    } else {
        in_windows(false)
    }
}

fn room_in(window: &PciWindow, functions: &[Function], size: u64) -> Option<u64> {
    let end = window.bus.checked_add(window.cpu.len())?;
    // Address 0 says that there is none.
    let mut place = window.bus.max(1).checked_next_multiple_of(size)?;
    loop {
        let after = place.checked_add(size).filter(|after| *after <= end)?;
        let taken = functions
            .iter()
            .flat_map(|function| function.bars.iter().flatten())
            .filter(|bar| bar.kind != BarKind::Io && bar.address != 0)
            .find(|bar| bar.address < after && place < bar.address.saturating_add(bar.size));
        let Some(other) = taken else { return Some(place) };
        // Beyond the other one, which is further on each time.
        place = other
            .address
            .saturating_add(other.size)
            .checked_next_multiple_of(size)?;
    }
}
