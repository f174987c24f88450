//! What `/proc` shows of an address space.

use alloc::{sync::Arc, vec::Vec};

use super::{
    AddressSpace, PAGE, Prot, Role,
    area::{Area, Sharing},
};
use crate::{
    errno::{Errno, Result},
    mm::{
        fallible::{TryRoom, TryRoomExact},
        pager::Backing,
    },
};

/// One line of `/proc/<pid>/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// The first address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// What the program may do.
    pub prot: Prot,
    /// `s` instead of `p`.
    pub shared: bool,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The file, if there is one with a name.
    pub backing: Option<Backing>,
    /// `[heap]`, `[stack]`, `[vdso]`, `[vvar]`, or nothing.
    pub name: &'static str,
}

impl AddressSpace {
    /// The identity of the shared object mapped at `address` and the byte in it: what a shared futex is named by. `None`
    /// where the mapping is private. The identity is unique while the mapping stands.
    ///
    /// # Errors
    /// `EFAULT` where nothing is mapped.
    pub fn shared_object(&self, address: u64) -> Result<Option<(usize, u64)>> {
        let inner = self.inner.lock();
        let area = inner.areas.find(address).ok_or(Errno::EFAULT)?;
        if area.sharing != Sharing::Shared {
            return Ok(None);
        }
        let object = area.object_page(address);
        Ok(object.map(|(pager, page)| (Arc::as_ptr(pager).addr(), page * PAGE + address % PAGE)))
    }

    /// The area that `address` is in, or the next above it.
    pub fn map_at_or_above(&self, address: u64) -> Option<MapEntry> {
        let area = {
            let inner = self.inner.lock();
            inner
                .areas
                .find(address)
                .or_else(|| inner.areas.at_or_above(address))
                .map(Area::glance)
        };
        area.as_ref().map(entry)
    }

    /// The areas, ascending.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn maps(&self) -> Result<Vec<MapEntry>> {
        let areas = {
            let mut areas = Vec::new();
            loop {
                let count = self.inner.lock().areas.count();
                areas.try_room(count)?;
                let inner = self.inner.lock();
                if inner.areas.count() <= areas.capacity() {
                    areas.extend(inner.areas.iter().map(Area::glance));
                    break areas;
                }
            }
        };
        let mut entries = Vec::new();
        entries.try_room_exact(areas.len())?;
        entries.extend(areas.iter().map(entry));
        Ok(entries)
    }
}

impl core::fmt::Display for MapEntry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let flag = |prot, letter| if self.prot.contains(prot) { letter } else { '-' };
        let (read, write, exec) = (flag(Prot::READ, 'r'), flag(Prot::WRITE, 'w'), flag(Prot::EXEC, 'x'));
        let sharing = if self.shared { 's' } else { 'p' };
        write!(
            f,
            "{:08x}-{:08x} {read}{write}{exec}{sharing} {:08x} ",
            self.start, self.end, self.offset
        )?;
        match &self.backing {
            Some(Backing {
                device: (major, minor),
                inode,
                path,
            }) => {
                write!(f, "{major:02x}:{minor:02x} {inode} {path}")
            }
            None => write!(f, "00:00 0 {}", self.name),
        }
    }
}

fn entry(area: &Area) -> MapEntry {
    let object = area.object_page(area.start);
    MapEntry {
        start: area.start,
        end: area.end,
        prot: area.prot,
        shared: area.sharing == Sharing::Shared,
        offset: object.map_or(0, |(_, first)| first * PAGE),
        backing: object.and_then(|(pager, _)| pager.describe()),
        name: match area.role {
            Role::Plain | Role::Attached(_) => "",
            Role::Heap => "[heap]",
            Role::Stack(_) => "[stack]",
            Role::Vdso => "[vdso]",
            Role::Vvar => "[vvar]",
        },
    }
}
