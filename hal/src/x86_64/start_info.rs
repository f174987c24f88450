//! What the loader passed: `struct hvm_start_info` (Xen's `public/arch-x86/hvm/start_info.h`), copied out before the
//! memory it lies in is given away.

use arrayvec::ArrayVec;
use core::ffi::CStr;

use super::{boot::CommandLine, constants::DIRECT_MAP};
use crate::{PAGE_SIZE, addr::PhysAddr, boot_info::PhysRange};

/// Runs of memory that are kept apart; a machine with more runs without the last ones.
pub(super) const MAX_RANGES: usize = 64;

const MAGIC: u32 = 0x336e_c578;
/// `XEN_HVM_MEMMAP_TYPE_RAM`, as in BIOS's E820.
const RAM: u32 = 1;

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

/// The start information, in our own words.
#[derive(Debug)]
pub(super) struct StartInfo {
    /// RAM in whole pages, ascending and disjoint.
    pub(super) ram: ArrayVec<PhysRange, MAX_RANGES>,
    /// Bytes of RAM as the map counts them.
    pub(super) total_ram: u64,
    /// The first module.
    pub(super) initramfs: Option<PhysRange>,
    /// The command line.
    pub(super) command_line: CommandLine,
    /// ACPI's root pointer, or 0.
    pub(super) rsdp: u64,
}

impl StartInfo {
    /// Copies it; `None` if it is none, or has no memory map.
    ///
    /// # Safety
    /// `address` is what the loader passed in EBX, and the first 4 GiB are at the direct map's place.
    pub(super) unsafe fn read(address: u64) -> Option<Self> {
        // SAFETY: the caller's promise, here and below for everything the structure points to.
        let info = unsafe { &*((DIRECT_MAP + address) as *const HvmStartInfo) };
        if info.magic != MAGIC || info.version < 1 || info.memory_map == 0 {
            return None;
        }
        let mut start = Self {
            ram: ArrayVec::new(),
            total_ram: 0,
            initramfs: None,
            command_line: CommandLine::new(),
            rsdp: info.rsdp,
        };
        let table = (DIRECT_MAP + info.memory_map) as *const HvmMemory;
        // SAFETY: as above.
        for entry in unsafe { core::slice::from_raw_parts(table, info.memory_map_entries as usize) } {
            if entry.kind == RAM {
                start.total_ram += entry.size;
                start.add(entry.address, entry.address.saturating_add(entry.size));
            }
        }
        if info.module_count > 0 && info.modules != 0 {
            // SAFETY: as above.
            let module = unsafe { &*((DIRECT_MAP + info.modules) as *const HvmModule) };
            let end = module.address.checked_add(module.size)?;
            start.initramfs = Some(PhysRange {
                start: PhysAddr(module.address),
                end: PhysAddr(end),
            });
        }
        if info.command_line != 0 {
            // SAFETY: as above; the protocol terminates it with a zero.
            let line = unsafe { CStr::from_ptr((DIRECT_MAP + info.command_line) as *const _) };
            let line = line.to_str().unwrap_or("");
            let fits = line.floor_char_boundary(start.command_line.capacity());
            start.command_line.push_str(&line[..fits]);
        }
        Some(start)
    }

    /// Adds a run of RAM, in order; parts of pages and overlaps are dropped.
    fn add(&mut self, from: u64, to: u64) {
        let page = PAGE_SIZE as u64;
        let (from, to) = (from.next_multiple_of(page), to / page * page);
        if from >= to {
            return;
        }
        let place = self
            .ram
            .iter()
            .position(|run| run.start.0 > from)
            .unwrap_or(self.ram.len());
        let from = if place > 0 {
            from.max(self.ram[place - 1].end.0)
        } else {
            from
        };
        let to = self.ram.get(place).map_or(to, |next| to.min(next.start.0));
        if from < to {
            // A map of more runs than there is room for loses the last ones, which costs memory and nothing else.
            self.ram
                .try_insert(
                    place,
                    PhysRange {
                        start: PhysAddr(from),
                        end: PhysAddr(to),
                    },
                )
                .unwrap_or(());
        }
    }

    /// The RAM above 1 MiB without the image and the initramfs.
    pub(super) fn usable(&self, image: PhysRange) -> ArrayVec<PhysRange, MAX_RANGES> {
        let low = PhysRange {
            start: PhysAddr(0),
            end: PhysAddr(1 << 20),
        };
        let mut runs = self.ram.clone();
        for hole in [Some(low), Some(image), self.initramfs].into_iter().flatten() {
            let (from, to) = (hole.start.page_floor(), hole.end.page_ceil().unwrap_or(hole.end));
            let mut rest = ArrayVec::new();
            for run in runs {
                let below = PhysRange {
                    start: run.start,
                    end: run.end.min(from),
                };
                let above = PhysRange {
                    start: run.start.max(to),
                    end: run.end,
                };
                for part in [below, above] {
                    if !part.is_empty() {
                        rest.try_push(part).unwrap_or(());
                    }
                }
            }
            runs = rest;
        }
        runs
    }

    /// A page for the trampoline: RAM below 640 KiB, above what BIOS keeps at the bottom.
    pub(super) fn trampoline_page(&self) -> Option<u64> {
        let page = PAGE_SIZE as u64;
        self.ram.iter().find_map(|run| {
            let first = run.start.0.max(0x8000);
            (first + page <= run.end.0.min(0xa_0000)).then_some(first)
        })
    }
}
