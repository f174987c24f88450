//! A raw disk image that UEFI boots from anywhere: a GPT, an EFI System Partition (FAT32) with loader, kernel, initramfs and
//! configuration, and if wanted a second partition with a root file system.
//!
//! The same contents give the same bytes: identifiers are derived from the contents, times and serial are fixed.
//! [`plan`] says how large the image is, [`write`] fills a device of that size that holds zeros.

pub mod config;
pub mod entry;
mod fat;
mod gpt;
pub mod hdd;
pub mod read;
#[cfg(test)]
pub mod tests;

use anyhow::{Context, Result, ensure};
use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use uuid::{Uuid, uuid};

/// Bytes of a sector, the unit of partition tables.
pub const SECTOR: u64 = 512;

/// What everything is aligned to, and kept free of partitions at both ends, in bytes.
const ALIGNMENT: u64 = 1 << 20;

/// Of all identifiers; version 5 of RFC 9562 makes them of a name and this.
const NAMESPACE: Uuid = uuid!("b4ee1a8e-3c1c-4a0e-9f0e-6d2f5b6c7a10");

/// Bytes read at once of a root file system.
const CHUNK: usize = 1 << 20;

/// A file of the EFI System Partition.
#[derive(Clone, Debug)]
pub struct EspFile {
    /// From the partition's root on, with `/` between names: `EFI/BOOT/BOOTAA64.EFI`.
    pub path: String,
    /// What it holds.
    pub data: Vec<u8>,
}

/// What an image holds.
pub struct Contents<R> {
    /// The EFI System Partition's files, in the order in which they are written.
    pub files: Vec<EspFile>,
    /// The second partition's bytes, whatever file system they are.
    pub root: Option<R>,
}

/// Where everything lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The image's size in sectors: whole MiB.
    pub sectors: u64,
    /// The EFI System Partition, in sectors.
    pub esp: Range<u64>,
    /// The root file system's partition, in sectors; it may be longer than the root file system by part of a sector.
    pub root: Option<Range<u64>>,
    /// What the disk's and the partitions' identifiers are made of: the same for the same contents.
    identity: Uuid,
    geometry: fat::Geometry,
}

impl Layout {
    /// The image's size in bytes.
    pub fn bytes(&self) -> u64 {
        self.sectors * SECTOR
    }

    /// The disk's identifier, or a part's: that of the name `of`.
    pub fn identifier(&self, of: &str) -> Uuid {
        Uuid::new_v5(&self.identity, of.as_bytes())
    }
}

/// Lays an image out. The root file system is read once.
///
/// # Errors
/// A path is no path of FAT's or stands there twice; the root file system is empty or cannot be read.
pub fn plan<R: Read + Seek>(contents: &mut Contents<R>) -> Result<Layout> {
    check_paths(&contents.files)?;
    let mut identity = NAMESPACE;
    for file in &contents.files {
        identity = Uuid::new_v5(&identity, file.path.as_bytes());
        identity = Uuid::new_v5(&identity, &file.data);
    }
    let geometry = fat::Geometry::holding(&contents.files, ALIGNMENT);
    let esp = sectors(ALIGNMENT)..sectors(ALIGNMENT + geometry.bytes);
    let mut end = esp.end;
    let root = match &mut contents.root {
        None => None,
        Some(root) => {
            root.rewind()?;
            let mut length = 0;
            each_chunk(root, |chunk| {
                length += chunk.len() as u64;
                identity = Uuid::new_v5(&identity, chunk);
                Ok(())
            })?;
            ensure!(length > 0, "the root file system's image is empty");
            let partition = end..end + sectors(length);
            end = partition.end.next_multiple_of(sectors(ALIGNMENT));
            Some(partition)
        }
    };
    Ok(Layout {
        sectors: end + sectors(ALIGNMENT),
        esp,
        root,
        identity,
        geometry,
    })
}

/// Writes an image to a device of `layout`'s size that holds zeros.
///
/// # Errors
/// The device or the root file system fails, or `layout` is not of these contents.
pub fn write<D, R>(device: &mut D, layout: &Layout, contents: &mut Contents<R>) -> Result<()>
where
    D: Read + Write + Seek + std::fmt::Debug,
    R: Read + Seek,
{
    let esp = layout.esp.start * SECTOR..layout.esp.end * SECTOR;
    fat::write(&mut *device, esp, &layout.geometry, &contents.files).context("writing the EFI System Partition")?;
    if let (Some(root), Some(partition)) = (&mut contents.root, &layout.root) {
        root.rewind()?;
        device.seek(SeekFrom::Start(partition.start * SECTOR))?;
        each_chunk(root, |chunk| {
            // What is zero stays a hole in the image's file.
            if chunk.iter().all(|byte| *byte == 0) {
                device.seek(SeekFrom::Current(chunk.len() as i64))?;
                return Ok(());
            }
            device.write_all(chunk)
        })
        .context("copying the root file system")?;
    }
    gpt::write(device, layout).context("writing the partition tables")
}

fn sectors(bytes: u64) -> u64 {
    bytes.div_ceil(SECTOR)
}

fn each_chunk(source: &mut impl Read, mut consume: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        chunk.clear();
        // Full but for the last one, however the source hands out its bytes: identifiers depend on where chunks end.
        source.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(());
        }
        consume(&chunk)?;
    }
}

fn check_paths(files: &[EspFile]) -> Result<()> {
    let mut seen = HashSet::new();
    for EspFile { path, data } in files {
        let name_is_good = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        };
        ensure!(
            path.split('/').all(name_is_good),
            "{path:?} is no path of the EFI System Partition: use letters, digits, '.', '-', '_', and '/' between names"
        );
        ensure!(
            u32::try_from(data.len()).is_ok(),
            "{path} is too large for FAT: 4 GiB is the limit"
        );
        ensure!(
            seen.insert(path.to_ascii_lowercase()),
            "{path} stands there twice: FAT does not tell upper from lower case"
        );
    }
    Ok(())
}
