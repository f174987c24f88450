//! Partition tables: made by another implementation, and broken in every way.

use std::{collections::BTreeMap, io::Cursor};

use ::gpt::{GptConfig, disk::LogicalBlockSize, mbr::ProtectiveMBR, partition::Partition, partition_types::LINUX_FS};
use kernel::fs::block_device::gpt::{Fault, Table, read};
use proptest::prelude::*;

use super::*;

/// Bytes of the disks here.
const SIZE: usize = 2 << 20;

/// A disk with these partitions: label, first and last block.
pub fn with_table(block: u32, size: usize, partitions: &[(&str, u64, u64)]) -> Vec<u8> {
    let mut device = Cursor::new(vec![0; size]);
    let blocks = size as u64 / u64::from(block);
    ProtectiveMBR::with_lb_size((blocks - 1) as u32)
        .overwrite_lba0(&mut device)
        .unwrap();
    let entries: BTreeMap<u32, Partition> = (1..)
        .zip(partitions)
        .map(|(number, &(name, first_lba, last_lba))| {
            let partition = Partition {
                part_type_guid: LINUX_FS,
                part_guid: uuid(name, number),
                first_lba,
                last_lba,
                flags: 0,
                name: name.to_owned(),
            };
            (number, partition)
        })
        .collect();
    let size = if block == 512 {
        LogicalBlockSize::Lb512
    } else {
        LogicalBlockSize::Lb4096
    };
    let mut disk = GptConfig::new()
        .writable(true)
        .logical_block_size(size)
        .create_from_device(&mut device, None)
        .unwrap();
    disk.update_partitions(entries).unwrap();
    disk.write().unwrap();
    device.into_inner()
}

fn uuid(label: &str, number: u32) -> uuid::Uuid {
    let of_label = label.bytes().fold(0x1234, |sum, byte| sum * 31 + u128::from(byte));
    uuid::Uuid::from_u128(of_label << 64 | u128::from(number))
}

/// Reads the table of a disk with these bytes.
fn table(block: u32, bytes: Vec<u8>) -> std::result::Result<Table, Fault> {
    let kind = Kind {
        block,
        ..Kind::default()
    };
    let drive = Drive::new(kind, bytes);
    let cache = PageCache::new(drive.disk().clone()).unwrap();
    drive.wait(read(&whole(&cache), block))
}

const PARTITIONS: [(&str, u64, u64); 3] = [("EFI System", 64, 99), ("root", 100, 299), ("\u{e4}\u{f6}", 300, 300)];

#[test]
fn partitions_are_what_was_written() {
    let _accounting = Accounting::start();
    for block in [512, 4096] {
        let table = table(block, with_table(block, SIZE, &PARTITIONS)).unwrap();
        assert_eq!(table.remarks, Vec::<String>::new());
        let found: Vec<_> = table
            .partitions
            .iter()
            .map(|found| (found.label.as_str(), found.first, found.last))
            .collect();
        assert_eq!(found, PARTITIONS);
        assert_eq!(table.partitions[1].number, 2);
        assert_eq!(table.partitions[1].identifier.to_string(), uuid("root", 2).to_string());
        assert_eq!(
            table.partitions[1].kind.to_string(),
            "0fc63daf-8483-4772-8e79-3d69d8477de4"
        );
    }
}

#[test]
fn the_backup_counts_where_the_primary_is_broken() {
    let _accounting = Accounting::start();
    for block in [512_usize, 4096] {
        let good = with_table(block as u32, SIZE, &PARTITIONS);
        // The signature, the checksum, a checked byte, an entry.
        for at in [block, block + 16, block + 40, 2 * block + 130] {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            let table = table(block as u32, bytes.clone()).unwrap();
            assert_eq!((table.partitions.len(), table.remarks.len()), (3, 1), "byte {at}");
            assert!(table.remarks[0].contains("backup"), "{:?}", table.remarks);
            // And the backup's header as well.
            bytes[SIZE - block + 20] ^= 1;
            assert!(matches!(self::table(block as u32, bytes), Err(Fault::Damaged(_))));
        }
    }
}

#[test]
fn without_a_protective_mbr_there_is_no_table() {
    let _accounting = Accounting::start();
    let mut bytes = with_table(512, SIZE, &PARTITIONS);
    bytes[510] = 0;
    assert_eq!(table(512, bytes), Err(Fault::NoTable));
    assert_eq!(table(512, vec![0; SIZE]), Err(Fault::NoTable));
    assert_eq!(table(512, vec![0; 1024]), Err(Fault::NoTable));
}

#[test]
fn a_disk_that_cannot_be_read_is_an_error() {
    let _accounting = Accounting::start();
    let drive = Drive::new(Kind::default(), with_table(512, SIZE, &PARTITIONS));
    let cache = PageCache::new(drive.disk().clone()).unwrap();
    drive.spoil(0..8);
    assert_eq!(
        drive.wait(read(&whole(&cache), 512)),
        Err(Fault::Errno(kernel::errno::Errno::EIO))
    );
    // The header alone: its backup can be read.
    let bytes = with_table(4096, SIZE, &PARTITIONS);
    let kind = Kind {
        block: 4096,
        ..Kind::default()
    };
    let drive = Drive::new(kind, bytes);
    let cache = PageCache::new(drive.disk().clone()).unwrap();
    drive.spoil(8..16);
    let table = drive.wait(read(&whole(&cache), 4096)).unwrap();
    assert_eq!((table.partitions.len(), table.remarks.len()), (3, 1));
}

/// Computes checksums anew, so that what follows from the contents is tested.
fn mend(bytes: &mut [u8], block: usize) {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let number = |bytes: &[u8], at: usize, size: usize| -> usize {
        bytes[at..at + size]
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    for header in [block, bytes.len() - block] {
        let entries = number(bytes, header + 72, 8).saturating_mul(block);
        let length = number(bytes, header + 80, 4).saturating_mul(number(bytes, header + 84, 4));
        if let Some(array) = entries.checked_add(length).and_then(|end| bytes.get(entries..end)) {
            let sum = crc.checksum(array).to_le_bytes();
            bytes[header + 88..header + 92].copy_from_slice(&sum);
        }
        bytes[header + 16..header + 20].fill(0);
        let size = number(bytes, header + 12, 4).min(block);
        let sum = crc.checksum(&bytes[header..header + size]).to_le_bytes();
        bytes[header + 16..header + 20].copy_from_slice(&sum);
    }
}

/// Where the fields of an entry are, by the specification's table 5.7.
const FIRST: usize = 32;
const LAST: usize = 40;

#[test]
fn what_lies_elsewhere_or_overlaps_is_left_out() {
    let _accounting = Accounting::start();
    let entry = |number: usize, field: usize| 1024 + (number - 1) * 128 + field;
    let cases: [(usize, usize, u64, &str); 5] = [
        (2, FIRST, 99, "overlaps partition 1"),
        (2, LAST, 40_000, "does not lie"),
        (2, FIRST, 3, "does not lie"),
        (2, FIRST, 400, "does not lie"),
        (3, LAST, u64::MAX, "does not lie"),
    ];
    for (number, field, value, reason) in cases {
        let mut bytes = with_table(512, SIZE, &PARTITIONS);
        bytes[entry(number, field)..][..8].copy_from_slice(&value.to_le_bytes());
        mend(&mut bytes, 512);
        let table = table(512, bytes).unwrap();
        assert_eq!(table.partitions.len(), 2, "{number} {value}");
        assert!(table.remarks[0].contains(reason), "{:?}", table.remarks);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever stands on a disk: partitions that are found lie on it, and apart from each other.
    #[test]
    fn no_table_does_harm(
        changes in proptest::collection::vec((0_usize..2, 0_usize..512, any::<u8>()), 1..12),
        entries in proptest::collection::vec((0_usize..4 * 128, any::<u8>()), 0..6),
        mended in any::<bool>(),
        large in any::<bool>(),
    ) {
        let _accounting = Accounting::start();
        let block = if large { 4096 } else { 512 };
        let mut bytes = with_table(block as u32, SIZE, &PARTITIONS);
        for (copy, at, value) in changes {
            let header = [block, SIZE - block][copy];
            bytes[header + at % 92] = value;
        }
        for (at, value) in entries {
            bytes[2 * block + at] = value;
        }
        if mended {
            mend(&mut bytes, block);
        }
        if let Ok(table) = table(block as u32, bytes) {
            let blocks = (SIZE / block) as u64;
            for (index, one) in table.partitions.iter().enumerate() {
                prop_assert!(one.first <= one.last && one.last < blocks);
                for other in &table.partitions[..index] {
                    prop_assert!(one.first > other.last || other.first > one.last);
                }
            }
        }
    }
}
