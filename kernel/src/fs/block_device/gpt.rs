//! Partitions: the GPT of a disk (UEFI specification 2.10, section 5.3).
//!
//! What stands on a disk is believed only as far as it has been checked: signature, CRCs, places. The primary table counts;
//! where it is damaged the backup at the disk's end does. Entries that do not fit the disk, or overlap one in front of them,
//! are left out, with a remark. Work and memory are bounded by [`MOST_BYTES`].

use alloc::{format, string::String, vec::Vec};
use core::{
    fmt::{Display, Formatter},
    mem::{offset_of, size_of},
};

use gpt_disk_types::{GptHeader, GptHeaderRevision, GptPartitionEntry, GptPartitionEntrySize, Guid, MasterBootRecord};

use super::Extent;
use crate::{
    errno::Errno,
    fs::page_cache::ReadAhead,
    mm::fallible::{TryRoom, TryRoomExact},
};

/// Most bytes of an array of entries: 32 times what is usual.
const MOST_BYTES: u64 = 512 << 10;
/// Most partitions that are taken from it.
const MOST_PARTITIONS: usize = 256;
/// The type of the protective MBR's entry (section 5.2.3).
const PROTECTIVE: u8 = 0xee;
const CRC32: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// A partition, as its entry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1 on: where its entry stands.
    pub number: u32,
    /// Its first block.
    pub first: u64,
    /// Its last block.
    pub last: u64,
    /// What it is for.
    pub kind: Guid,
    /// Its own identifier (`PARTUUID=`).
    pub identifier: Guid,
    /// Its label (`PARTLABEL=`).
    pub label: String,
}

impl Display for Partition {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        let blocks = self.last - self.first + 1;
        write!(
            f,
            "\"{}\", {blocks} blocks from {} on",
            self.label.escape_debug(),
            self.first
        )
    }
}

/// A table that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The partitions.
    pub partitions: Vec<Partition>,
    /// What was found wrong and passed over.
    pub remarks: Vec<String>,
}

/// Why there are no partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no GPT.
    NoTable,
    /// There is one, and neither copy can be used.
    Damaged(String),
    /// The disk cannot be read, or memory is short.
    Errno(Errno),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// Reads the table of a whole disk whose blocks have `block` bytes.
///
/// # Errors
/// [`Fault`].
pub async fn read(disk: &Extent, block: u32) -> Result<Table, Fault> {
    let blocks = disk.length() / u64::from(block);
    if blocks < 3 || !has_protective_mbr(disk).await? {
        return Err(Fault::NoTable);
    }
    let primary = match read_copy(disk, block, 1).await {
        Ok(table) => return Ok(table),
        Err(Fault::Errno(errno @ (Errno::ENOMEM | Errno::EINTR))) => return Err(errno.into()),
        Err(fault) => fault,
    };
    let reason = |fault: Fault| match fault {
        Fault::NoTable => String::from("it has no signature"),
        Fault::Damaged(reason) => reason,
        Fault::Errno(errno) => format!("{errno:?}"),
    };
    let primary_reason = reason(primary);
    match read_copy(disk, block, blocks - 1).await {
        Ok(mut table) => {
            table.remarks.insert(
                0,
                format!("the backup partition table is used, the primary not: {primary_reason}"),
            );
            Ok(table)
        }
        Err(Fault::Errno(errno @ (Errno::ENOMEM | Errno::EINTR))) => Err(errno.into()),
        Err(backup) => Err(Fault::Damaged(format!(
            "primary partition table: {primary_reason}; backup: {}",
            reason(backup)
        ))),
    }
}

async fn has_protective_mbr(disk: &Extent) -> Result<bool, Errno> {
    let mut bytes = [0; size_of::<MasterBootRecord>()];
    disk.read_all(&ReadAhead::default(), 0, &mut bytes).await?;
    let record: MasterBootRecord = bytemuck::pod_read_unaligned(&bytes);
    let partitions = record.partitions;
    Ok(record.signature == [0x55, 0xaa] && partitions.iter().any(|entry| entry.os_indicator == PROTECTIVE))
}

/// Reads the copy whose header is block `at`.
async fn read_copy(disk: &Extent, block: u32, at: u64) -> Result<Table, Fault> {
    let size = u64::from(block);
    let mut bytes = Vec::new();
    bytes.try_room_exact(block as usize)?;
    bytes.resize(block as usize, 0);
    disk.read_all(&ReadAhead::default(), at * size, &mut bytes).await?;
    let header = check_header(&mut bytes, at, disk.length() / size)?;
    let entry = header.size_of_partition_entry.to_u32() as usize;
    let count = header.number_of_partition_entries.to_u32() as usize;
    bytes.clear();
    bytes.try_room_exact(entry * count)?;
    bytes.resize(entry * count, 0);
    let ahead = ReadAhead::default();
    disk.read_all(&ahead, header.partition_entry_lba.to_u64() * size, &mut bytes)
        .await?;
    if CRC32.checksum(&bytes) != header.partition_entry_array_crc32.0.to_u32() {
        return Err(damaged("the entries' checksum is wrong"));
    }
    Ok(take_entries(&header, &bytes)?)
}

fn damaged(reason: &str) -> Fault {
    Fault::Damaged(String::from(reason))
}

/// Checks a block that may be a header, of a disk of so many blocks; clears its checksum.
fn check_header(bytes: &mut [u8], at: u64, blocks: u64) -> Result<GptHeader, Fault> {
    // A block has at least 512 bytes.
    let header: GptHeader = bytemuck::pod_read_unaligned(&bytes[..size_of::<GptHeader>()]);
    if !header.is_signature_valid() {
        return Err(Fault::NoTable);
    }
    let size = header.header_size.to_u32() as usize;
    if header.revision != GptHeaderRevision::VERSION_1_0 || !(size_of::<GptHeader>()..=bytes.len()).contains(&size) {
        return Err(damaged("its revision or size is unknown"));
    }
    bytes[offset_of!(GptHeader, header_crc32)..][..4].fill(0);
    if CRC32.checksum(&bytes[..size]) != header.header_crc32.0.to_u32() {
        return Err(damaged("its checksum is wrong"));
    }
    let (first, last) = (header.first_usable_lba.to_u64(), header.last_usable_lba.to_u64());
    if header.my_lba.to_u64() != at || first > last || last >= blocks {
        return Err(damaged("it is not this disk's"));
    }
    let entry = header.size_of_partition_entry.to_u32();
    let bytes_of_entries = u64::from(entry) * u64::from(header.number_of_partition_entries.to_u32());
    if GptPartitionEntrySize::new(entry).is_err() || bytes_of_entries > MOST_BYTES {
        return Err(damaged("its entries are too many or too large"));
    }
    let block = bytes.len() as u64;
    let end = header
        .partition_entry_lba
        .to_u64()
        .checked_add(bytes_of_entries.div_ceil(block));
    if header.partition_entry_lba.to_u64() < 2 || end.is_none_or(|end| end > blocks) {
        return Err(damaged("its entries are not on the disk"));
    }
    Ok(header)
}

fn take_entries(header: &GptHeader, bytes: &[u8]) -> Result<Table, Errno> {
    let usable = header.first_usable_lba.to_u64()..=header.last_usable_lba.to_u64();
    let mut table = Table::default();
    let entries = bytes.chunks_exact(header.size_of_partition_entry.to_u32() as usize);
    for (number, bytes) in (1..).zip(entries) {
        let entry: GptPartitionEntry = bytemuck::pod_read_unaligned(&bytes[..size_of::<GptPartitionEntry>()]);
        if !entry.is_used() {
            continue;
        }
        let (first, last) = (entry.starting_lba.to_u64(), entry.ending_lba.to_u64());
        let meets = |other: &Partition| first <= other.last && other.first <= last;
        let reason = if first > last || !usable.contains(&first) || !usable.contains(&last) {
            Some(String::from("it does not lie where partitions may"))
        } else if let Some(other) = table.partitions.iter().find(|other| meets(other)) {
            Some(format!("it overlaps partition {}", other.number))
        } else if table.partitions.len() == MOST_PARTITIONS {
            Some(String::from("there are too many"))
        } else {
            None
        };
        if let Some(reason) = reason {
            if table.remarks.len() < MOST_PARTITIONS {
                table.remarks.try_room(1)?;
                table.remarks.push(format!("partition {number} is left out: {reason}"));
            }
            continue;
        }
        let name = entry.name;
        table.partitions.try_room(1)?;
        table.partitions.push(Partition {
            number,
            first,
            last,
            kind: entry.partition_type_guid.0,
            identifier: entry.unique_partition_guid,
            label: name.chars().collect(),
        });
    }
    Ok(table)
}
