//! `mmap`, as Linux's `mm/mmap.c` promises, error by error, and the mappings that the kernel makes for a program.

use alloc::sync::Arc;

use hal::{
    abi::Abi,
    arch::{ABI, PageTable},
    traits::PageTableOps,
};

use super::{
    AddressSpace, Inner, MAX_AREAS, MIN_ADDRESS, PAGE, Prot, Role, STACK_GAP,
    area::{Area, Attach, Attachment, Content, OnFork, Sharing},
    page_ceil, page_floor,
};
use crate::{
    errno::{Errno, Result},
    mm::{
        frame::{self, Frame},
        pager::{MemoryObject, Pager},
    },
};

bitflags::bitflags! {
    /// `MAP_*` (`asm-generic/mman.h`; the same numbers on both machines). Flags without a name here are ignored, as Linux does.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// `MAP_SHARED`.
        const SHARED = 0x01;
        /// `MAP_PRIVATE`.
        const PRIVATE = 0x02;
        /// `MAP_FIXED`: at that address, replacing what is there.
        const FIXED = 0x10;
        /// `MAP_ANONYMOUS`.
        const ANONYMOUS = 0x20;
        /// `MAP_32BIT` (x86_64 alone: ignored elsewhere): below two gigabytes.
        const LOW = 0x40;
        /// `MAP_GROWSDOWN`.
        const GROWSDOWN = 0x100;
        /// `MAP_NORESERVE`.
        const NORESERVE = 0x4000;
        /// `MAP_POPULATE`.
        const POPULATE = 0x8000;
        /// `MAP_FIXED_NOREPLACE`: at that address or not at all.
        const FIXED_NOREPLACE = 0x10_0000;
        const _ = !0;
    }
}

/// What `mmap` is asked for.
pub struct Map {
    /// `addr`.
    pub address: u64,
    /// `length`, in bytes, not rounded.
    pub length: u64,
    /// `prot`.
    pub prot: Prot,
    /// What `mprotect` may give later: without [`Prot::WRITE`] for a shared mapping of a file not open for writing.
    pub max_prot: Prot,
    /// `flags`.
    pub flags: MapFlags,
    /// The file and the offset in bytes; `None` for anonymous memory.
    pub object: Option<(Arc<dyn Pager>, u64)>,
    /// Who is to know of the area.
    pub attach: Option<Arc<dyn Attach>>,
}

impl Map {
    /// Anonymous private memory, anywhere.
    pub const fn anonymous(length: u64, prot: Prot) -> Self {
        let flags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);
        Self {
            address: 0,
            length,
            prot,
            max_prot: Prot::all(),
            flags,
            object: None,
            attach: None,
        }
    }

    /// The same, at `address`, replacing what is there.
    #[must_use]
    pub const fn fixed(mut self, address: u64) -> Self {
        self.address = address;
        self.flags = self.flags.union(MapFlags::FIXED);
        self
    }

    fn sharing(&self) -> Result<Sharing> {
        const TYPE: u32 = 0xf;
        // 3 is MAP_SHARED_VALIDATE, for files only.
        match self.flags.bits() & TYPE {
            1 => Ok(Sharing::Shared),
            2 => Ok(Sharing::Private),
            3 if self.object.is_some() => Ok(Sharing::Shared),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The area asked for, at address 0.
    fn area(&self) -> Result<Area> {
        if self.length == 0 {
            return Err(Errno::EINVAL);
        }
        let sharing = self.sharing()?;
        let length = page_ceil(self.length)
            .filter(|&length| length <= PageTable::USER_END)
            .ok_or(Errno::ENOMEM)?;
        let content = match &self.object {
            Some((pager, offset)) => {
                if !offset.is_multiple_of(PAGE) {
                    return Err(Errno::EINVAL);
                }
                offset.checked_add(length).ok_or(Errno::EOVERFLOW)?;
                Content::Object {
                    pager: pager.clone(),
                    first: offset / PAGE,
                }
            }
            None if sharing == Sharing::Shared => Content::Object {
                pager: MemoryObject::new(),
                first: 0,
            },
            None => Content::Anonymous,
        };
        if !self.max_prot.contains(self.prot) {
            return Err(Errno::EACCES);
        }
        let role = if self.flags.contains(MapFlags::GROWSDOWN) {
            Role::Stack(8 << 20)
        } else {
            Role::Plain
        };
        let reserves =
            sharing == Sharing::Private && self.prot.contains(Prot::WRITE) && !self.flags.contains(MapFlags::NORESERVE);
        if reserves && length / PAGE > frame::stats().total as u64 {
            // As Linux's heuristic overcommit: refuse what can obviously never be used.
            return Err(Errno::ENOMEM);
        }
        Ok(Area {
            start: 0,
            end: length,
            prot: self.prot,
            max_prot: self.max_prot,
            sharing,
            content,
            role,
            on_fork: OnFork::Copy,
        })
    }
}

/// Where what `MAP_32BIT` asks for ends.
const LOW_END: u64 = 1 << 31;

/// Why an area could not be put where it was to go.
enum Occupied {
    Error(Errno),
    Replace,
}

impl Inner {
    fn place(&self, area: &Area, request: &Map) -> core::result::Result<u64, Occupied> {
        let length = area.len();
        if self.areas.count() >= MAX_AREAS {
            return Err(Occupied::Error(Errno::ENOMEM));
        }
        let fixed = request.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE);
        if fixed {
            let (start, end) = (request.address, request.address.wrapping_add(length));
            return if self.areas.overlapping(start, end).next().is_none() {
                Ok(start)
            } else if request.flags.contains(MapFlags::FIXED_NOREPLACE) {
                Err(Occupied::Error(Errno::EEXIST))
            } else {
                Err(Occupied::Replace)
            };
        }
        let low = ABI == Abi::X86_64 && request.flags.contains(MapFlags::LOW);
        let end = if low { LOW_END } else { PageTable::USER_END };
        let hint = page_floor(request.address);
        let hint = if hint == 0 { 0 } else { hint.max(MIN_ADDRESS) };
        if hint != 0
            && hint.checked_add(length).is_some_and(|hinted| hinted <= end)
            && self.areas.is_free(hint, hint + length)
        {
            return Ok(hint);
        }
        self.areas
            .find_gap(length, self.layout.mmap_top.min(end))
            .filter(|start| end - start >= length)
            .ok_or(Occupied::Error(Errno::ENOMEM))
    }
}

impl AddressSpace {
    /// `mmap`: adds an area and returns its address. No page exists before it is touched, unless `MAP_POPULATE` asks for it (what
    /// cannot be had then is left to later faults).
    ///
    /// # Errors
    /// `EINVAL` (no length, neither or both of shared and private, misaligned address or offset), `ENOMEM` (no room, too many
    /// areas, more than the machine has), `EEXIST` (`MAP_FIXED_NOREPLACE`), `EACCES` (`prot` beyond `max_prot`), `EOVERFLOW`
    /// (the offset's end), `EPERM` (fixed, below [`MIN_ADDRESS`]).
    pub async fn mmap(&self, request: Map) -> Result<u64> {
        let mut area = request.area()?;
        let length = area.len();
        if request.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
            if !request.address.is_multiple_of(PAGE) {
                return Err(Errno::EINVAL);
            }
            if request.address > PageTable::USER_END - length {
                return Err(Errno::ENOMEM);
            }
            if request.address < MIN_ADDRESS {
                return Err(Errno::EPERM);
            }
        }
        self.announce(&area);
        let start = loop {
            let occupied = {
                let mut inner = self.unforked().await;
                match inner.place(&area, &request) {
                    Ok(start) => {
                        (area.start, area.end) = (start, start + length);
                        if let Some(to) = request.attach.clone() {
                            area.role = Role::Attached(Attachment::new(to));
                        }
                        inner.areas.insert(area);
                        break start;
                    }
                    Err(occupied) => occupied,
                }
            };
            match occupied {
                Occupied::Error(errno) => return Err(errno),
                Occupied::Replace => self.remove(request.address, request.address + length).await?,
            }
        };
        if request.flags.contains(MapFlags::POPULATE) {
            self.populate(start, start + length).await;
        }
        Ok(start)
    }

    /// Maps the kernel's page of data for programs, which they read, and its page of code behind it; returns where that is.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn map_vdso(&self, data: Frame, code: Frame) -> Result<u64> {
        let mut inner = self.inner.lock();
        let top = inner.layout.mmap_top;
        let start = inner.areas.find_gap(2 * PAGE, top).ok_or(Errno::ENOMEM)?;
        let mut insert = |start, content, prot, role| {
            inner.areas.insert(Area {
                start,
                end: start + PAGE,
                prot,
                max_prot: prot,
                sharing: Sharing::Private,
                content: Content::Special(content),
                role,
                on_fork: OnFork::Copy,
            });
        };
        insert(start, data, Prot::READ, Role::Vvar);
        insert(start + PAGE, code, Prot::READ | Prot::EXEC, Role::Vdso);
        Ok(start + PAGE)
    }

    /// Maps a stack that ends at `top` (page-aligned), starts with `size` bytes and grows down to at most `limit`
    /// (`RLIMIT_STACK`).
    ///
    /// # Errors
    /// `ENOMEM` if something is there already.
    pub fn map_stack(&self, top: u64, size: u64, limit: u64) -> Result<()> {
        let size = page_ceil(size).ok_or(Errno::ENOMEM)?;
        let start = top
            .checked_sub(size)
            .filter(|_| size > 0 && top <= PageTable::USER_END)
            .ok_or(Errno::ENOMEM)?;
        let mut inner = self.inner.lock();
        if !inner.areas.is_free(start, top) {
            return Err(Errno::ENOMEM);
        }
        let room = page_floor(limit.min(top)) + STACK_GAP;
        inner.layout.mmap_top = inner.layout.mmap_top.min(top.saturating_sub(room));
        inner.areas.insert(Area {
            start,
            end: top,
            prot: Prot::READ | Prot::WRITE,
            max_prot: Prot::all(),
            sharing: Sharing::Private,
            content: Content::Anonymous,
            role: Role::Stack(limit),
            on_fork: OnFork::Copy,
        });
        Ok(())
    }

    /// Moves the place of mappings that are put nowhere in particular down by `bytes` (a multiple of the page size), so that a
    /// program cannot know it.
    pub fn lower_mappings(&self, bytes: u64) {
        debug_assert!(bytes.is_multiple_of(PAGE));
        let mut inner = self.inner.lock();
        inner.layout.mmap_top = inner.layout.mmap_top.saturating_sub(bytes);
    }
}
