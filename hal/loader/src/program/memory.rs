//! Memory from firmware, and the end of firmware's services.

#![expect(
    unsafe_code,
    reason = "pages are raw memory, and leaving firmware ends what its calls rely on"
)]

use core::{mem::ManuallyDrop, ptr::NonNull};

use boot_info::{BootInfo, MemoryKind, MemoryMap, Range};
use uefi::{
    boot::{self, AllocateType, MemoryType, OpenProtocolAttributes, OpenProtocolParams, PAGE_SIZE, ScopedProtocol},
    mem::memory_map::MemoryMap as _,
    proto::ProtocolPointer,
};

use super::error::Error;

/// One past the highest address that a block for the kernel may have: what the first tables of its entry show.
const LIMIT: u64 = if cfg!(target_arch = "x86_64") { 1 << 32 } else { 1 << 39 };

/// Pages of this program's, given back when dropped.
pub struct Pages {
    start: NonNull<u8>,
    /// Bytes asked for.
    length: usize,
    allocation: NonNull<u8>,
    pages: usize,
}

impl Pages {
    /// Room for `length` bytes.
    ///
    /// # Errors
    /// There is none.
    pub fn allocate(length: usize, kind: MemoryType) -> Result<Self, Error> {
        Self::allocate_aligned(length, PAGE_SIZE as u64, kind)
    }

    /// Room for `length` bytes at an address that is a multiple of `alignment`, a power of two of at least a page.
    ///
    /// # Errors
    /// There is none.
    pub fn allocate_aligned(length: usize, alignment: u64, kind: MemoryType) -> Result<Self, Error> {
        let slack = alignment as usize - PAGE_SIZE;
        let fail = || Error::Memory(length as u64 + slack as u64);
        let pages = length.max(1).checked_add(slack).ok_or_else(fail)?.div_ceil(PAGE_SIZE);
        let allocation = boot::allocate_pages(AllocateType::MaxAddress(LIMIT - 1), kind, pages).map_err(|_| fail())?;
        // What `alignment` skips is less than `slack`.
        let skipped = allocation.align_offset(alignment as usize);
        Ok(Self {
            // SAFETY: within the allocation, see above.
            start: unsafe { allocation.add(skipped) },
            length,
            allocation,
            pages,
        })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: this program's own pages; their first content is firmware's business, but bytes are any.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed once.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// Where the bytes are.
    pub fn range(&self) -> Range {
        Range::new(self.start.as_ptr() as u64, self.length as u64)
    }

    /// Leaves the pages to the kernel.
    pub fn keep(self) -> Range {
        ManuallyDrop::new(self).range()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated above, and nobody else has them. Firmware that will not take them back keeps them.
        let _ = unsafe { boot::free_pages(self.allocation, self.pages) };
    }
}

/// A block about nothing, which the kernel will own.
///
/// # Errors
/// There is no memory for it.
pub fn boot_info() -> Result<&'static mut BootInfo, Error> {
    const { assert!(align_of::<BootInfo>() <= PAGE_SIZE) };
    let place = Pages::allocate(size_of::<BootInfo>(), MemoryType::LOADER_DATA)?
        .keep()
        .start as *mut BootInfo;
    // SAFETY: aligned as a page is, large enough, and nobody else's from now on.
    unsafe {
        place.write(BootInfo::EMPTY);
        Ok(&mut *place)
    }
}

/// What a flattened device tree occupies; `None` if there is none (Devicetree Specification 0.4, section 5.2).
pub fn device_tree_at(address: u64) -> Option<Range> {
    const MAGIC: u32 = 0xd00d_feed;
    let words = address as *const u32;
    // SAFETY: firmware says that a tree is there, whose header is longer than this.
    let [magic, length] = unsafe { [words.read(), words.add(1).read()] }.map(u32::from_be);
    (magic == MAGIC).then(|| Range::new(address, length.into()))
}

/// Opens a protocol without taking it from whoever in firmware uses it.
pub fn open_shared<P: ProtocolPointer + ?Sized>(parameters: OpenProtocolParams) -> Option<ScopedProtocol<P>> {
    // SAFETY: used at once and on this one CPU; firmware's own users run when called only.
    unsafe { boot::open_protocol(parameters, OpenProtocolAttributes::GetProtocol) }.ok()
}

/// Leaves firmware's services, for good, and notes what memory there is.
///
/// Nothing of firmware's may be called afterwards, and nothing of this program's that calls it: no allocation, no message.
pub fn leave_firmware(memory: &mut MemoryMap) {
    // SAFETY: nobody holds a protocol or an allocation that would be given back later.
    let map = ManuallyDrop::new(unsafe { boot::exit_boot_services(Some(MemoryType::LOADER_DATA)) });
    for entry in map.entries() {
        let range = Range::new(entry.phys_start, entry.page_count.saturating_mul(PAGE_SIZE as u64));
        if let Some(kind) = kind(entry.ty) {
            memory.push(range, kind);
        }
    }
}

/// What the kernel may do with memory of one of firmware's types (UEFI 2.10, table 7.6); `None`: it is no RAM.
const fn kind(kind: MemoryType) -> Option<MemoryKind> {
    match kind {
        MemoryType::LOADER_CODE
        | MemoryType::LOADER_DATA
        | MemoryType::BOOT_SERVICES_CODE
        | MemoryType::BOOT_SERVICES_DATA
        | MemoryType::CONVENTIONAL => Some(MemoryKind::Usable),
        MemoryType::ACPI_RECLAIM | MemoryType::ACPI_NON_VOLATILE => Some(MemoryKind::Tables),
        MemoryType::RUNTIME_SERVICES_CODE | MemoryType::RUNTIME_SERVICES_DATA => Some(MemoryKind::Firmware),
        _ => None,
    }
}
