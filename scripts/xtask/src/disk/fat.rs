//! The EFI System Partition's file system: FAT32, by the crate `fatfs`, with fixed times and serial.

use super::EspFile;
use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use fscommon::{BufStream, StreamSlice};
use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

/// With fewer clusters it is FAT16 to everybody who reads it (Microsoft's FAT specification, "Determination of FAT type"), who also
/// recommends to keep 16 away from the limit.
const MIN_CLUSTERS: u64 = 65_525 + 16;
/// The smallest partition in bytes: with a MiB before and after it, an image of 64 MiB.
const MIN_BYTES: u64 = 62 << 20;
/// The largest cluster in bytes that is used.
const MAX_CLUSTER: u32 = 4096;
const SECTOR: u64 = super::SECTOR;
/// Sectors before the first FAT, at most: `fatfs` sets 8 aside, others 32.
const RESERVED: u64 = 32;
/// Bytes of a directory's entry. A long name takes one more for every 13 letters.
const ENTRY: u64 = 32;
/// Attributes of a directory's entry that is a directory.
const DIRECTORY: u8 = 0x10;
/// From here on a number in the FAT is no next cluster.
const END_OF_CHAIN: u64 = 0x0fff_fff7;
const LABEL: [u8; 11] = *b"BREENIX    ";
const SERIAL: u32 = 0x4252_4e58;

/// Size and cluster size of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The partition's bytes.
    pub bytes: u64,
    /// A cluster's bytes.
    cluster: u32,
}

impl Geometry {
    /// A file system that has room for `files`, and a multiple of `alignment` bytes long.
    pub fn holding(files: &[EspFile], alignment: u64) -> Self {
        let cluster = u64::from(MAX_CLUSTER);
        let content: u64 = files
            .iter()
            .map(|file| (file.data.len() as u64).next_multiple_of(cluster))
            .sum();
        // A directory grows with its entries; here each has as many as there are files and directories.
        let entries = (files.len() + directories(files).len() + 4) as u64;
        let longest = files.iter().map(|file| file.path.len()).max().unwrap_or(0) as u64;
        let directory = (entries * (longest / 13 + 2) * ENTRY).next_multiple_of(cluster);
        let content = content + directory * (directories(files).len() as u64 + 1);
        // The two FATs take 8 bytes for every cluster, 1.6 % of the smallest ones.
        let bytes = content + content / 60 + alignment;
        let bytes = bytes.max(MIN_BYTES).next_multiple_of(alignment);
        let mut cluster = MAX_CLUSTER;
        while u64::from(cluster) > SECTOR && clusters(bytes, cluster) < MIN_CLUSTERS {
            cluster /= 2;
        }
        Self { bytes, cluster }
    }
}

/// At least so many clusters of `cluster` bytes are in a file system of `bytes`.
fn clusters(bytes: u64, cluster: u32) -> u64 {
    let cluster = u64::from(cluster);
    let fat = ((bytes / cluster + 2) * 4).next_multiple_of(SECTOR);
    bytes.saturating_sub(RESERVED * SECTOR + 2 * fat) / cluster
}

/// The directories above `files`, those that hold others first.
fn directories(files: &[EspFile]) -> BTreeSet<&str> {
    let above = |file: &'_ EspFile| -> Vec<usize> { file.path.match_indices('/').map(|(at, _)| at).collect() };
    files
        .iter()
        .flat_map(|file| above(file).into_iter().map(|at| &file.path[..at]))
        .collect()
}

/// The first moment that FAT knows, whenever the image is made.
#[derive(Debug)]
struct Epoch;

const EPOCH: Date = Date {
    year: 1980,
    month: 1,
    day: 1,
};

impl TimeProvider for Epoch {
    fn get_current_date(&self) -> Date {
        EPOCH
    }

    fn get_current_date_time(&self) -> DateTime {
        let time = Time {
            hour: 0,
            min: 0,
            sec: 0,
            millis: 0,
        };
        DateTime { date: EPOCH, time }
    }
}

/// Makes the file system in a part of a device, given in bytes, which holds zeros.
///
/// # Errors
/// The device fails, or the files do not fit into `geometry`.
pub fn write<D: Read + Write + Seek>(
    mut device: D,
    part: Range<u64>,
    geometry: &Geometry,
    files: &[EspFile],
) -> io::Result<()> {
    let hidden_sectors = part.start / SECTOR;
    let mut stream = BufStream::new(StreamSlice::new(&mut device, part.start, part.end)?);
    let format = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(geometry.cluster)
        .volume_id(SERIAL)
        .volume_label(LABEL);
    fatfs::format_volume(&mut stream, format)?;
    let options = FsOptions::new().time_provider(&Epoch);
    let system = FileSystem::new(stream, options)?;
    // Counted now, the free clusters are written down at the end.
    system.stats()?;
    {
        let root = system.root_dir();
        for directory in directories(files) {
            root.create_dir(directory)?;
        }
        for file in files {
            let mut out = root.create_file(&file.path)?;
            out.write_all(&file.data)?;
            out.flush()?;
        }
    }
    system.unmount()?;
    finish(&mut device, part.start, hidden_sectors)
}

/// Corrects what `fatfs` leaves out: the sectors before the partition, which BIOS parameter blocks tell; the second copy of the
/// sector with the free clusters; and how directories begin.
fn finish<D: Read + Write + Seek>(device: &mut D, start: u64, hidden_sectors: u64) -> io::Result<()> {
    const HIDDEN_SECTORS: u64 = 28;
    const BACKUP: u64 = 6 * SECTOR;
    let mut boot = [0; SECTOR as usize];
    read_at(device, start, &mut boot)?;
    let mut free = [0; SECTOR as usize];
    read_at(device, start + SECTOR, &mut free)?;
    write_at(device, start + BACKUP + SECTOR, &free)?;
    for copy in [0, BACKUP] {
        write_at(
            device,
            start + copy + HIDDEN_SECTORS,
            &(hidden_sectors as u32).to_le_bytes(),
        )?;
    }

    let table = start + number(&boot[14..16]) * SECTOR;
    let cluster_size = u64::from(boot[13]) * SECTOR;
    let data = table + u64::from(boot[16]) * number(&boot[36..40]) * SECTOR;
    let place = |cluster: u64| data + (cluster - 2) * cluster_size;
    // Clusters of directories, and what they are as those above others: the root is 0 there, whatever its own number.
    let mut directories = vec![(number(&boot[44..48]), 0)];
    while let Some((mut cluster, above)) = directories.pop() {
        while (2..END_OF_CHAIN).contains(&cluster) {
            let mut records = vec![0; cluster_size as usize];
            read_at(device, place(cluster), &mut records)?;
            let is_below = |record: &&[u8]| record[11] == DIRECTORY && record[0] != b'.';
            for record in records.chunks(ENTRY as usize).filter(is_below) {
                let directory = number(&record[20..22]) << 16 | number(&record[26..28]);
                begin_directory(device, place(directory), above)?;
                directories.push((directory, directory));
            }
            let mut next = [0; 4];
            read_at(device, table + cluster * 4, &mut next)?;
            cluster = number(&next) & 0x0fff_ffff;
        }
    }
    device.flush()
}

/// Lets a directory begin with `.` and `..`, as it must. `fatfs` puts a long name before either; their places are marked free.
fn begin_directory<D: Read + Write + Seek>(device: &mut D, at: u64, above: u64) -> io::Result<()> {
    const FREE: u8 = 0xe5;
    let mut records = [[0; ENTRY as usize]; 4];
    for (at, record) in (at..).step_by(ENTRY as usize).zip(&mut records) {
        read_at(device, at, record)?;
    }
    let [_, itself, _, mut parent] = records;
    if itself[..2] != *b". " || parent[..3] != *b".. " {
        return Err(io::Error::other("a directory does not begin as fatfs lets it begin"));
    }
    let [low0, low1, high0, high1, ..] = above.to_le_bytes();
    parent[20..22].copy_from_slice(&[high0, high1]);
    parent[26..28].copy_from_slice(&[low0, low1]);
    let mut free = [0; ENTRY as usize];
    free[0] = FREE;
    write_at(device, at, &[itself, parent, free, free].concat())
}

fn read_at<D: Read + Seek>(device: &mut D, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    device.seek(SeekFrom::Start(at))?;
    device.read_exact(bytes)
}

fn write_at<D: Write + Seek>(device: &mut D, at: u64, bytes: &[u8]) -> io::Result<()> {
    device.seek(SeekFrom::Start(at))?;
    device.write_all(bytes)
}

/// A little-endian number.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
