//! The partition tables: the protective MBR and both copies of the GPT, by the crate `gpt`.

use super::{Layout, SECTOR};
use anyhow::Result;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::partition_types::{EFI, LINUX_FS, Type};
use gpt::{DiskDevice, GptConfig};
use std::collections::BTreeMap;
use std::ops::Range;

/// Attribute of a partition that is not to be written (bit 60, read-only, of those that a type defines for itself: systemd's
/// Discoverable Partitions Specification has it for this type).
const READ_ONLY: u64 = 1 << 60;

/// What the root file system's partition is called: the kernel finds it by `root=PARTLABEL=root`.
pub const ROOT_LABEL: &str = "root";

/// Writes the tables to a device of `layout`'s size.
///
/// # Errors
/// The device fails.
pub fn write<D: DiskDevice>(device: &mut D, layout: &Layout) -> Result<()> {
    let protected = u32::try_from(layout.sectors - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(protected).overwrite_lba0(device)?;
    let mut partitions = BTreeMap::from([(1, partition(layout, EFI, "EFI System", &layout.esp, 0))]);
    if let Some(root) = &layout.root {
        partitions.insert(2, partition(layout, LINUX_FS, ROOT_LABEL, root, READ_ONLY));
    }
    const { assert!(SECTOR == 512) };
    let mut disk = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(device, Some(layout.identifier("disk")))?;
    disk.update_partitions(partitions)?;
    disk.write()?;
    Ok(())
}

fn partition(layout: &Layout, kind: Type, name: &str, sectors: &Range<u64>, flags: u64) -> Partition {
    Partition {
        part_type_guid: kind,
        part_guid: layout.identifier(name),
        first_lba: sectors.start,
        last_lba: sectors.end - 1,
        flags,
        name: name.to_owned(),
    }
}
