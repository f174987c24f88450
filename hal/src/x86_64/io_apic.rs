//! The I/O APICs (Intel 82093AA data sheet): from a device's line to a CPU's vector.
//!
//! Lines are ACPI's global system interrupts. An ISA interrupt is the global one of the same number unless the MADT
//! overrides it; [`isa_line`] says which.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use super::{
    constants::{DIRECT_MAP, LINE_VECTOR, LINES},
    lock::DeviceLock,
    percpu::CpuData,
    platform::{self, IoApic},
};
use crate::traits::Trigger;

/// Redirection-entry bits (82093AA, 3.2.4).
const ACTIVE_LOW: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

const VERSION: u32 = 1;
const FIRST_ENTRY: u32 = 0x10;

/// Guards every I/O APIC's index register.
static REGISTERS: DeviceLock<()> = DeviceLock::new(());

/// Per line: 0 not configured, 1 edge, 2 level. Those of messages are configured when they are taken.
static TRIGGERS: [AtomicU8; LINES as usize] = [const { AtomicU8::new(0) }; LINES as usize];

fn window(apic: &IoApic) -> *mut u32 {
    (DIRECT_MAP + apic.address) as *mut u32
}

/// Reads a register; the caller holds [`REGISTERS`].
fn read(apic: &IoApic, index: u32) -> u32 {
    // SAFETY: boot maps each I/O APIC's page, uncached. IOREGSEL is at 0, IOWIN at 0x10.
    unsafe {
        window(apic).write_volatile(index);
        window(apic).add(4).read_volatile()
    }
}

/// Writes a register; the caller holds [`REGISTERS`].
fn write(apic: &IoApic, index: u32, value: u32) {
    // SAFETY: as in `read`.
    unsafe {
        window(apic).write_volatile(index);
        window(apic).add(4).write_volatile(value);
    }
}

/// The first line that is no I/O APIC's, thus free for messages.
static FIRST_MESSAGE: AtomicU32 = AtomicU32::new(LINES);

/// Masks every entry of every I/O APIC.
pub(super) fn init() {
    REGISTERS.with(|()| {
        // ISA's interrupts have lines whether an I/O APIC is described or not.
        let mut lines = 16;
        for apic in &platform::get().io_apics {
            let last = read(apic, VERSION) >> 16 & 0xff;
            for entry in 0..=last {
                write(apic, FIRST_ENTRY + 2 * entry, MASKED);
            }
            lines = lines.max(apic.first_line.saturating_add(last + 1));
        }
        FIRST_MESSAGE.store(lines, Relaxed);
    });
}

/// Takes a line that no I/O APIC has, edge-triggered; `None` where all are taken.
pub(super) fn take_message_line() -> Option<u32> {
    let first = FIRST_MESSAGE.load(Relaxed);
    (first..LINES).find(|line| {
        let state = &TRIGGERS[*line as usize];
        state.compare_exchange(0, 1, Relaxed, Relaxed).is_ok()
    })
}

/// Gives one back.
pub(super) fn free_message_line(line: u32) {
    if (FIRST_MESSAGE.load(Relaxed)..LINES).contains(&line) {
        TRIGGERS[line as usize].store(0, Relaxed);
    }
}

/// The I/O APIC of a line and its register for the entry's low word; the caller holds [`REGISTERS`].
fn find(line: u32) -> Option<(&'static IoApic, u32)> {
    let apics = platform::get().io_apics.iter();
    let apic = apics
        .filter(|apic| apic.first_line <= line)
        .max_by_key(|apic| apic.first_line)?;
    let entry = line - apic.first_line;
    (entry <= read(apic, VERSION) >> 16 & 0xff).then_some((apic, FIRST_ENTRY + 2 * entry))
}

/// The global system interrupt of an ISA interrupt.
pub(super) fn isa_line(irq: u8) -> u32 {
    let overrides = &platform::get().overrides;
    overrides
        .iter()
        .find(|o| o.irq == irq)
        .map_or(u32::from(irq), |o| o.line)
}

/// How a line was configured; `None` if it was not.
pub(super) fn trigger(line: u32) -> Option<Trigger> {
    match TRIGGERS.get(line as usize)?.load(Relaxed) {
        1 => Some(Trigger::Edge),
        2 => Some(Trigger::Level),
        _ => None,
    }
}

/// Routes a line to a CPU, masked. A line or CPU that does not exist is left alone.
pub(super) fn configure(line: u32, trigger: Trigger, cpu: u32) {
    let (Some(kind), Some(data)) = (TRIGGERS.get(line as usize), CpuData::of(cpu)) else {
        return;
    };
    // Polarity: as the MADT says; else ISA lines are active high and PCI's, which are level lines, active low.
    let stated = platform::get()
        .overrides
        .iter()
        .find(|o| o.line == line)
        .and_then(|o| o.active_low);
    let active_low = stated.unwrap_or(line >= 16 && trigger == Trigger::Level);
    let mut entry = (LINE_VECTOR + line) | MASKED;
    if trigger == Trigger::Level {
        entry |= LEVEL;
    }
    if active_low {
        entry |= ACTIVE_LOW;
    }
    kind.store(if trigger == Trigger::Level { 2 } else { 1 }, Relaxed);
    REGISTERS.with(|()| {
        if let Some((apic, register)) = find(line) {
            write(apic, register, entry);
            write(apic, register + 1, data.apic_id.load(Relaxed) << 24);
        }
    });
}

/// Masks or unmasks a line.
pub(super) fn set_masked(line: u32, masked: bool) {
    REGISTERS.with(|()| {
        if let Some((apic, register)) = find(line) {
            let entry = read(apic, register);
            write(apic, register, if masked { entry | MASKED } else { entry & !MASKED });
        }
    });
}
