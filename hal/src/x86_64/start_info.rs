//! What a PVH loader passes: `struct hvm_start_info` (Xen's `public/arch-x86/hvm/start_info.h`), made a [`BootInfo`].

use boot_info::{BootInfo, MemoryKind, Range};
use core::ffi::CStr;

use super::constants::DIRECT_MAP;

const MAGIC: u32 = 0x336e_c578;

#[repr(C)]
struct HvmStartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    /// From version 1 on.
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct HvmModule {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

#[repr(C)]
struct HvmMemory {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// What the loader left at `address`: a [`BootInfo`], or a PVH start information, which is made one. `None` if it is
/// neither, or a version that nobody here knows.
///
/// # Safety
/// `address` is what the loader passed, and the first 4 GiB are at the direct map's place.
pub(super) unsafe fn read(address: u64) -> Option<BootInfo> {
    let place = DIRECT_MAP + address;
    // SAFETY: the caller's promise: one of the two is there, and both begin with their magic.
    if unsafe { (place as *const u64).read() } == BootInfo::MAGIC {
        // SAFETY: as above; any bytes are a block, which its check then judges.
        let info = unsafe { (place as *const BootInfo).read() };
        return info.check().is_ok().then_some(info);
    }
    // SAFETY: as above.
    unsafe { read_pvh(&*(place as *const HvmStartInfo)) }
}

/// # Safety
/// A loader passed this structure, and the first 4 GiB are at the direct map's place.
unsafe fn read_pvh(start: &HvmStartInfo) -> Option<BootInfo> {
    if start.magic != MAGIC || start.version < 1 || start.memory_map == 0 {
        return None;
    }
    let mut info = BootInfo::EMPTY;
    info.rsdp = start.rsdp;
    let table = (DIRECT_MAP + start.memory_map) as *const HvmMemory;
    // SAFETY: the caller's promise, here and below for everything the structure points to.
    for entry in unsafe { core::slice::from_raw_parts(table, start.memory_map_entries as usize) } {
        if let Some(kind) = kind(entry.kind) {
            info.memory.push(Range::new(entry.address, entry.size), kind);
        }
    }
    if start.module_count > 0 && start.modules != 0 {
        // SAFETY: as above.
        let module = unsafe { &*((DIRECT_MAP + start.modules) as *const HvmModule) };
        info.initramfs = Range::new(module.address, module.size);
    }
    if start.command_line != 0 {
        // SAFETY: as above; the protocol terminates it with a zero.
        let line = unsafe { CStr::from_ptr((DIRECT_MAP + start.command_line) as *const _) };
        info.set_command_line(line.to_str().unwrap_or(""));
    }
    Some(info)
}

/// Kinds of memory as BIOS's E820 counts them (ACPI 6.5, table 15.4).
const fn kind(number: u32) -> Option<MemoryKind> {
    match number {
        1 => Some(MemoryKind::Usable),
        3 => Some(MemoryKind::Tables),
        _ => None,
    }
}
