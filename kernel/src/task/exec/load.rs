//! Mapping a checked program into a new address space.

use alloc::{sync::Arc, vec::Vec};

use hal::{PAGE_SIZE, addr::VirtAddr};

use super::elf::{self, Program, Segment};
use crate::{
    errno::{Errno, Result},
    fs::OpenFile,
    mm::{AddressSpace, Map, MapFlags, Pager, Prot, fallible::TryRoomExact},
};

const PAGE: u64 = PAGE_SIZE as u64;

/// Reads and checks a program.
///
/// # Errors
/// `ENOEXEC`, `EINVAL`, `ENOMEM`, `EIO`.
pub(super) async fn read_program(file: &OpenFile) -> Result<Program> {
    let mut start = [0; elf::HEADER_SIZE];
    let length = file.read_kernel(0, &mut start).await?;
    let header = elf::header(&start[..length])?;
    let mut table = Vec::new();
    table.try_room_exact(header.table.1)?;
    table.resize(header.table.1, 0);
    if file.read_kernel(header.table.0, &mut table).await? != table.len() {
        return Err(Errno::ENOEXEC);
    }
    elf::program(header, &table, file.attributes().size)
}

/// Maps a program's segments, `base` added to their addresses.
///
/// # Errors
/// `ENOMEM`, `ENOEXEC`.
pub(super) async fn map(mm: &Arc<AddressSpace>, file: &OpenFile, program: &Program, base: u64) -> Result<()> {
    let pager = file.file().pager().map_err(|_| Errno::ENOEXEC)?;
    for segment in &program.segments {
        map_segment(mm, &pager, segment, base).await?;
    }
    Ok(())
}

async fn map_segment(mm: &Arc<AddressSpace>, pager: &Arc<dyn Pager>, segment: &Segment, base: u64) -> Result<()> {
    let address = base + segment.address;
    let start = VirtAddr(address).page_floor().0;
    let file_end = address + segment.file_size;
    let file_pages_end = if segment.file_size == 0 {
        start
    } else {
        file_end.next_multiple_of(PAGE)
    };
    let end = (address + segment.memory_size).next_multiple_of(PAGE);
    if file_pages_end > start {
        mm.mmap(Map {
            address: start,
            length: file_pages_end - start,
            prot: segment.prot,
            max_prot: Prot::all(),
            flags: MapFlags::PRIVATE | MapFlags::FIXED,
            object: Some((pager.clone(), segment.offset - (address - start))),
            attach: None,
        })
        .await?;
        let tail = file_pages_end.min(end) - file_end;
        if segment.memory_size > segment.file_size && tail > 0 && segment.prot.contains(Prot::WRITE) {
            mm.write_bytes(file_end, &[0; PAGE_SIZE][..tail as usize])
                .await
                .map_err(no_memory)?;
        }
    }
    if end > file_pages_end {
        mm.mmap(Map::anonymous(end - file_pages_end, segment.prot).fixed(file_pages_end))
            .await?;
    }
    Ok(())
}

/// A fault in what has just been mapped: the file shrank, or memory is short.
fn no_memory(error: Errno) -> Errno {
    if error == Errno::ENOMEM { error } else { Errno::ENOEXEC }
}
