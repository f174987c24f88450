//! Block devices as files: disks and their partitions, with names and numbers, behind nodes in `/dev`.
//!
//! Everything of a disk is read through one [page cache](super::page_cache), so a partition and the disk that it is on
//! show the same bytes. [`scan`] makes the devices, once the drivers have their disks.

mod direct;
mod file;
pub mod gpt;
mod volume;

use alloc::{format, string::String, sync::Arc, vec::Vec};
use core::fmt::Write;

use arrayvec::ArrayString;
use gpt_disk_types::Guid;

pub use direct::Flight;
pub use file::BlockFile;
pub use volume::{Extent, Volume};

use self::gpt::Partition;
use super::{
    attributes::DeviceNumber,
    devfs,
    file::{File, Whence},
    inode::OpenRequest,
    page_cache::PageCache,
};
use crate::{
    block::{self, Disk, SECTOR},
    errno::{Errno, Result},
    mm::fallible::TryRoom,
    sync::{Rank, SpinLock},
};

/// A device's name.
pub type Name = ArrayString<24>;

/// `SCSI_DISK0_MAJOR` of `linux/major.h`.
const SCSI_MAJOR: u32 = 8;
/// What Linux's `virtio_blk` mostly gets; it takes any that is free.
const VIRTIO_MAJOR: u32 = 254;
/// `BLOCK_EXT_MAJOR` of `linux/major.h`: numbers are given out in order.
const EXTENDED_MAJOR: u32 = 259;
/// Minor numbers of a disk of the first two: itself and 15 partitions.
const MINORS: u32 = 16;
/// Disks that the first two have numbers for.
const LETTERED: u32 = 16;

/// A disk or a partition.
pub struct BlockDevice {
    name: Name,
    number: DeviceNumber,
    volume: Arc<Volume>,
    /// What the partition table says; `None` for a disk.
    partition: Option<Partition>,
}

static DEVICES: SpinLock<Vec<Arc<BlockDevice>>> = SpinLock::new(Rank::Device, Vec::new());

impl BlockDevice {
    /// Its name in `/dev`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the disk that it is, or is on.
    pub fn disk_name(&self) -> &str {
        self.volume.extent().cache().disk().name()
    }

    /// Its number.
    pub const fn number(&self) -> DeviceNumber {
        self.number
    }

    /// Its bytes.
    pub const fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// What the partition table says of it; `None` for a disk.
    pub const fn partition(&self) -> Option<&Partition> {
        self.partition.as_ref()
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.volume.extent().length()
    }

    /// Bytes of a logical block, which transfers past the cache begin and end at.
    pub fn block_size(&self) -> u64 {
        u64::from(self.volume.extent().cache().disk().geometry().block)
    }

    /// Whether it cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.volume.extent().cache().disk().geometry().read_only
    }
}

/// The number of partition `partition` (0: the whole) of the disk called `disk`; `None` where the next of
/// [`EXTENDED_MAJOR`] is to be taken.
fn fixed_number(disk: &str, partition: u32) -> Option<DeviceNumber> {
    let (major, letters) = match disk.split_at_checked(2)? {
        ("sd", letters) => (SCSI_MAJOR, letters),
        ("vd", letters) => (VIRTIO_MAJOR, letters),
        _ => return None,
    };
    let &[letter] = letters.as_bytes() else {
        return None;
    };
    let index = u32::from(letter.checked_sub(b'a')?);
    (index < LETTERED && partition < MINORS).then(|| DeviceNumber::new(major, index * MINORS + partition))
}

/// What partition `number` of `disk` is called: with a `p` between, where the disk's name ends in a digit.
fn partition_name(disk: &str, number: u32) -> Name {
    let between = if disk.ends_with(|last: char| last.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    let mut name = Name::new();
    // There is room: 16 bytes for the disk, and 11 bits of number.
    _ = write!(name, "{disk}{between}{number}");
    name
}

fn add(disk: &str, extent: Extent, partition: Option<Partition>) -> Result<()> {
    let index = partition.as_ref().map_or(0, |partition| partition.number);
    let name = match &partition {
        None => Name::from(disk).map_err(|_| Errno::ENAMETOOLONG)?,
        Some(partition) => partition_name(disk, partition.number),
    };
    let number = {
        let mut devices = DEVICES.lock();
        devices.try_room(1)?;
        let number = fixed_number(disk, index).unwrap_or_else(|| {
            let taken = devices
                .iter()
                .filter(|device| device.number.major == EXTENDED_MAJOR)
                .count();
            DeviceNumber::new(EXTENDED_MAJOR, taken as u32)
        });
        devices.push(Arc::new(BlockDevice {
            name,
            number,
            volume: Arc::new(Volume::new(extent)),
            partition,
        }));
        number
    };
    devfs::add_block(name.as_bytes(), number)
}

/// Waits until the drivers know their disks, and makes devices of these and their partitions, and nodes in `/dev`. Disks that
/// have devices already are left alone. What goes wrong with one is logged.
pub async fn scan() {
    block::probed().await;
    for disk in block::disks() {
        if by_name(disk.name()).is_some() {
            continue;
        }
        let name = block::Name::from(disk.name()).unwrap_or_default();
        if let Err(errno) = scan_disk(disk).await {
            log::error!("{name}: {errno:?} while it was looked at");
        }
    }
}

async fn scan_disk(disk: Arc<Disk>) -> Result<()> {
    let geometry = *disk.geometry();
    let block = u64::from(geometry.block);
    let cache = PageCache::new(disk.clone())?;
    let whole = Extent::new(cache, 0..geometry.sectors * SECTOR)?;
    add(disk.name(), whole.clone(), None)?;
    let table = match gpt::read(&whole, geometry.block).await {
        Ok(table) => table,
        Err(gpt::Fault::NoTable) => return Ok(()),
        Err(gpt::Fault::Errno(errno)) => return Err(errno),
        Err(gpt::Fault::Damaged(reason)) => {
            log::error!("{}: no partitions: {reason}", disk.name());
            return Ok(());
        }
    };
    for remark in &table.remarks {
        log::warn!("{}: {remark}", disk.name());
    }
    for partition in table.partitions {
        let bytes = partition.first * block..(partition.last + 1) * block;
        log::info!("{}: {partition}", partition_name(disk.name(), partition.number));
        add(disk.name(), whole.part(bytes)?, Some(partition))?;
    }
    Ok(())
}

/// All devices, in the order in which they were found.
pub fn all() -> Vec<Arc<BlockDevice>> {
    DEVICES.lock().clone()
}

fn find(is_it: impl Fn(&BlockDevice) -> bool) -> Option<Arc<BlockDevice>> {
    DEVICES.lock().iter().find(|device| is_it(device)).cloned()
}

/// The device of this name.
pub fn by_name(name: &str) -> Option<Arc<BlockDevice>> {
    find(|device| device.name() == name)
}

/// The device that `root=` names: `/dev/NAME`, `PARTUUID=…`, or `PARTLABEL=…`.
///
/// # Errors
/// `ENXIO` if there is none; `EINVAL` for what is none of these.
pub fn by_description(description: &str) -> Result<Arc<BlockDevice>> {
    let of_partition = |is_it: &dyn Fn(&Partition) -> bool| find(|device| device.partition().is_some_and(is_it));
    let found = if let Some(name) = description.strip_prefix("/dev/") {
        by_name(name)
    } else if let Some(identifier) = description.strip_prefix("PARTUUID=") {
        let wanted: Guid = identifier.parse().map_err(|_| Errno::EINVAL)?;
        of_partition(&|partition| partition.identifier == wanted)
    } else if let Some(label) = description.strip_prefix("PARTLABEL=") {
        of_partition(&|partition| partition.label == label)
    } else {
        return Err(Errno::EINVAL);
    };
    found.ok_or(Errno::ENXIO)
}

/// The device of this number.
pub fn by_number(number: DeviceNumber) -> Option<Arc<BlockDevice>> {
    find(|device| device.number == number)
}

/// Opens the device `number`.
///
/// # Errors
/// `ENXIO` if there is none; `EACCES` for writing to one that cannot be written.
pub fn open(number: DeviceNumber, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
    let device = by_number(number).ok_or(Errno::ENXIO)?;
    let file: Arc<dyn File> = BlockFile::open(device, request)?;
    Ok(file)
}

/// `/proc/partitions`.
///
/// # Errors
/// Of `out`.
pub fn list(out: &mut String) -> core::fmt::Result {
    writeln!(out, "major minor  #blocks  name\n")?;
    for device in all() {
        let DeviceNumber { major, minor } = device.number;
        writeln!(out, "{major:4}  {minor:7} {:10} {}", device.size() / 1024, device.name)?;
    }
    Ok(())
}

/// All names, for who looked for one in vain.
pub fn names() -> String {
    let mut names = String::new();
    for device in all() {
        let label = device
            .partition()
            .map_or_else(String::new, |partition| format!(" ({})", partition.label));
        names += &format!(" {}{label}", device.name);
    }
    names
}

/// Where a seek in something of `size` bytes without holes leads.
///
/// # Errors
/// `EINVAL` for a position that is none; `ENXIO` for data or holes past the end.
pub fn seek_in(size: u64, position: u64, offset: i64, whence: Whence) -> Result<u64> {
    let base = match whence {
        Whence::Set => 0,
        Whence::Current => position,
        Whence::End => size,
        Whence::Data | Whence::Hole => {
            let offset = u64::try_from(offset).ok().filter(|&offset| offset < size);
            let offset = offset.ok_or(Errno::ENXIO)?;
            return Ok(if whence == Whence::Data { offset } else { size });
        }
    };
    let target = base.checked_add_signed(offset).ok_or(Errno::EINVAL)?;
    if target > i64::MAX as u64 {
        Err(Errno::EINVAL)
    } else {
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_linuxs() {
        assert_eq!(partition_name("nvme0n1", 2).as_str(), "nvme0n1p2");
        assert_eq!(partition_name("sda", 12).as_str(), "sda12");
        assert_eq!(partition_name("vdb", 1).as_str(), "vdb1");
        assert_eq!(fixed_number("sda", 0), Some(DeviceNumber::new(8, 0)));
        assert_eq!(fixed_number("sdc", 3), Some(DeviceNumber::new(8, 35)));
        assert_eq!(fixed_number("vdb", 1), Some(DeviceNumber::new(254, 17)));
        for (disk, partition) in [
            ("sda", 16),
            ("sdq", 0),
            ("sdaa", 1),
            ("nvme0n1", 1),
            ("s", 0),
            ("sd", 0),
        ] {
            assert_eq!(fixed_number(disk, partition), None, "{disk} {partition}");
        }
    }

    #[test]
    fn seeks_stay_within_offsets() {
        assert_eq!(seek_in(100, 10, -5, Whence::Current), Ok(5));
        assert_eq!(seek_in(100, 10, -5, Whence::End), Ok(95));
        assert_eq!(seek_in(100, 10, 5, Whence::Data), Ok(5));
        assert_eq!(seek_in(100, 10, 5, Whence::Hole), Ok(100));
        assert_eq!(seek_in(100, 10, 100, Whence::Data), Err(Errno::ENXIO));
        assert_eq!(seek_in(100, 10, -1, Whence::Set), Err(Errno::EINVAL));
        assert_eq!(seek_in(100, 10, i64::MAX, Whence::Current), Err(Errno::EINVAL));
    }
}
