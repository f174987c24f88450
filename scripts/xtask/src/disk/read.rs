//! Reads an image back.

use super::{SECTOR, config};
use anyhow::{Context, Result};
use fatfs::{FileSystem, FsOptions};
use fscommon::{BufStream, StreamSlice};
use gpt::partition_types::EFI;
use gpt::{DiskDevice, GptConfig};
use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;

/// A file of an image's EFI System Partition.
///
/// # Errors
/// This is no such image, or has no such file.
pub fn esp_file<D: DiskDevice>(device: D, path: &str) -> Result<Vec<u8>> {
    let disk = GptConfig::new()
        .only_valid_headers(true)
        .open_from_device(device)
        .context("no good GPT")?;
    let partition = disk
        .partitions()
        .values()
        .find(|partition| partition.part_type_guid == EFI);
    let partition = partition.context("no EFI System Partition")?.clone();
    let (start, end) = (partition.first_lba * SECTOR, (partition.last_lba + 1) * SECTOR);
    let slice = StreamSlice::new(disk.take_device(), start, end)?;
    let system = FileSystem::new(BufStream::new(slice), FsOptions::new()).context("no good FAT")?;
    let mut data = Vec::new();
    let mut file = system
        .root_dir()
        .open_file(path)
        .with_context(|| format!("no {path}"))?;
    file.read_to_end(&mut data)?;
    Ok(data)
}

/// The build id of the kernel in an image's file.
///
/// # Errors
/// As [`esp_file`], or its configuration names no build.
pub fn build_id(image: &Path) -> Result<String> {
    let read = || -> Result<String> {
        // fatfs may be asked to write, so it wants a device that can.
        let file = OpenOptions::new().read(true).write(true).open(image)?;
        let text = String::from_utf8(esp_file(file, config::PATH)?)?;
        let build = config::value(&text, "build").context("its configuration names no build")?;
        Ok(build.to_owned())
    };
    read().with_context(|| {
        format!(
            "{} is no image of Breenix: make one with scripts/image",
            image.display()
        )
    })
}
