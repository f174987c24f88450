//! What firmware knows of the machine.

use boot_info::{BootInfo, Framebuffer, Range, seconds_since_1970};
use uefi::{
    Guid,
    boot::{self, OpenProtocolParams, ScopedProtocol},
    guid,
    proto::{
        ProtocolPointer,
        console::gop::{GraphicsOutput, PixelFormat},
        rng::Rng,
    },
    runtime, system,
    table::cfg::ConfigTableEntry,
};

use super::memory;

/// A flattened device tree (Arm's Base Boot Requirements 2.0, section 2.4.3).
const DEVICE_TREE: Guid = guid!("b1b621d5-f19c-41a5-830b-d9152c69aae0");

/// Notes firmware's tables, clock, random numbers and screen.
pub fn describe(info: &mut BootInfo) {
    info.rsdp = table(ConfigTableEntry::ACPI2_GUID)
        .or_else(|| table(ConfigTableEntry::ACPI_GUID))
        .unwrap_or(0);
    if let Some(tree) = table(DEVICE_TREE) {
        info.device_tree = memory::device_tree_at(tree).unwrap_or(Range::EMPTY);
    }
    info.wall_clock_seconds = clock().unwrap_or(0);
    if let Some(seed) = random() {
        info.mix_entropy(&seed);
    }
    info.framebuffer = screen().unwrap_or_default();
}

/// The address of a table of firmware's.
fn table(kind: Guid) -> Option<u64> {
    system::with_config_table(|tables| {
        let found = tables.iter().find(|table| table.guid == kind)?;
        Some(found.address as u64).filter(|address| *address != 0)
    })
}

/// Seconds since 1970. A clock without a time zone is taken to run on UTC.
fn clock() -> Option<u64> {
    let now = runtime::get_time().ok()?;
    let time = [now.hour(), now.minute(), now.second()].map(u64::from);
    let local = seconds_since_1970(now.year().into(), now.month().into(), now.day().into(), time)?;
    // Minutes that UTC is ahead of the clock (UEFI 2.10, 8.3.1: Localtime = UTC - TimeZone).
    let offset = i64::from(now.time_zone().unwrap_or(0)) * 60;
    local.checked_add_signed(offset)
}

/// A protocol of the first device that has it, shared with firmware's own users of it.
fn protocol<P: ProtocolPointer + ?Sized>() -> Option<ScopedProtocol<P>> {
    let handle = boot::get_handle_for_protocol::<P>().ok()?;
    let parameters = OpenProtocolParams {
        handle,
        agent: boot::image_handle(),
        controller: None,
    };
    memory::open_shared(parameters)
}

fn random() -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    protocol::<Rng>()?.get_rng(None, &mut seed).ok()?;
    Some(seed)
}

/// The screen as firmware has set it up; a mode that only firmware can draw in is none.
fn screen() -> Option<Framebuffer> {
    let mut output = protocol::<GraphicsOutput>()?;
    let mode = output.current_mode_info();
    let format = match mode.pixel_format() {
        PixelFormat::Rgb => Framebuffer::RGB,
        PixelFormat::Bgr => Framebuffer::BGR,
        PixelFormat::Bitmask | PixelFormat::BltOnly => return None,
    };
    let (width, height) = mode.resolution();
    let mut buffer = output.frame_buffer();
    Some(Framebuffer {
        address: buffer.as_mut_ptr() as u64,
        length: buffer.size() as u64,
        width: u32::try_from(width).ok()?,
        height: u32::try_from(height).ok()?,
        stride: u32::try_from(mode.stride()).ok()?,
        format,
    })
}
