//! Parallels' form of a disk: a directory `NAME.hdd` with `DiskDescriptor.xml` and, for a plain one, a single `.hds` file that is the
//! raw image. Its own tool `prl_disk_tool` makes such directories where Parallels is installed; this makes them anywhere, and
//! puts a raw image into either.

use super::SECTOR;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use uuid::Uuid;

const DESCRIPTOR: &str = "DiskDescriptor.xml";
/// Of the only state of a disk without snapshots, the same in all of Parallels' disks.
const SNAPSHOT: &str = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";
const NONE: &str = "{00000000-0000-0000-0000-000000000000}";
const HEADS: u64 = 16;
const SECTORS_PER_TRACK: u64 = 63;

/// The text of a plain disk's `DiskDescriptor.xml`.
///
/// # Errors
/// The name has letters that need an escape in XML or in a path.
pub fn descriptor(name: &str, sectors: u64, identifier: Uuid) -> Result<String> {
    ensure!(
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)),
        "{name:?} is no name for a disk: use letters, digits, '.', '-' and '_'"
    );
    let cylinders = sectors / (HEADS * SECTORS_PER_TRACK);
    let file = data_file(name);
    Ok(format!(
        r#"<?xml version='1.0' encoding='UTF-8'?>
<Parallels_disk_image Version="1.0">
    <Disk_Parameters>
        <Disk_size>{sectors}</Disk_size>
        <Cylinders>{cylinders}</Cylinders>
        <Heads>{HEADS}</Heads>
        <Sectors>{SECTORS_PER_TRACK}</Sectors>
        <Padding>0</Padding>
        <Encryption>
            <Engine>{NONE}</Engine>
            <Data></Data>
        </Encryption>
        <UID>{{{identifier}}}</UID>
        <Name>{name}</Name>
        <Miscellaneous>
            <CompatLevel>level2</CompatLevel>
            <Bootable>1</Bootable>
            <SuspendState>0</SuspendState>
        </Miscellaneous>
    </Disk_Parameters>
    <StorageData>
        <Storage>
            <Start>0</Start>
            <End>{sectors}</End>
            <Blocksize>2048</Blocksize>
            <Image>
                <GUID>{SNAPSHOT}</GUID>
                <Type>Plain</Type>
                <File>{file}</File>
            </Image>
        </Storage>
    </StorageData>
    <Snapshots>
        <Shot>
            <GUID>{SNAPSHOT}</GUID>
            <ParentGUID>{NONE}</ParentGUID>
        </Shot>
    </Snapshots>
</Parallels_disk_image>
"#
    ))
}

fn data_file(name: &str) -> String {
    format!("{name}.hdd.0.{SNAPSHOT}.hds")
}

/// Makes the directory `bundle`, whose name ends in `.hdd`, of a raw image; replaces what is there.
///
/// # Errors
/// The name is no disk's, or a file cannot be read or written.
pub fn create(bundle: &Path, image: &Path, identifier: Uuid) -> Result<()> {
    let name = bundle
        .file_name()
        .and_then(|name| name.to_str()?.strip_suffix(".hdd"))
        .with_context(|| format!("{}: a disk of Parallels' is a directory NAME.hdd", bundle.display()))?;
    let bytes = fs::metadata(image)
        .with_context(|| format!("cannot read {}", image.display()))?
        .len();
    let descriptor = descriptor(name, bytes / SECTOR, identifier)?;
    remove(bundle)?;
    fs::create_dir_all(bundle).with_context(|| format!("cannot make {}", bundle.display()))?;
    fs::write(bundle.join(DESCRIPTOR), descriptor)?;
    fs::copy(image, bundle.join(data_file(name))).with_context(|| format!("cannot fill {}", bundle.display()))?;
    Ok(())
}

/// Removes a disk, if it is there.
///
/// # Errors
/// It is there and stays.
pub fn remove(bundle: &Path) -> Result<()> {
    match fs::remove_dir_all(bundle) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", bundle.display()))
        }
        _ => Ok(()),
    }
}

/// Puts a raw image into a disk that `prl_disk_tool` made: over its single `.hds` file. A disk that it made to grow with its
/// contents becomes a plain one, which is what a raw image is, and one that it made longer becomes as long as the image, at whose end
/// the second GPT lies.
///
/// # Errors
/// There is no single `.hds` file, or a file cannot be read or written.
pub fn fill(bundle: &Path, image: &Path) -> Result<()> {
    let entries = fs::read_dir(bundle).with_context(|| format!("prl_disk_tool left no {}", bundle.display()))?;
    let mut data: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "hds") {
            data.push(path);
        }
    }
    ensure!(
        data.len() == 1,
        "{} has {} .hds files, not one: make it with prl_disk_tool create --size, without --split",
        bundle.display(),
        data.len()
    );
    let path = bundle.join(DESCRIPTOR);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let bytes = fs::metadata(image)
        .with_context(|| format!("cannot read {}", image.display()))?
        .len();
    let adapted = adapted(&text, bytes / SECTOR).with_context(|| format!("{} says no Disk_size", path.display()))?;
    if adapted != text {
        fs::write(&path, adapted)?;
    }
    for file in data {
        fs::copy(image, &file).with_context(|| format!("cannot fill {}", file.display()))?;
    }
    Ok(())
}

/// A descriptor's text for a plain disk of so many sectors; `None` if it tells no size.
fn adapted(text: &str, sectors: u64) -> Option<String> {
    let (_, rest) = text.split_once("<Disk_size>")?;
    let size = rest.split_once("</")?.0;
    let text = text
        .replace("<Type>Compressed</Type>", "<Type>Plain</Type>")
        .replace(&format!("<Disk_size>{size}<"), &format!("<Disk_size>{sectors}<"))
        .replace(&format!("<End>{size}<"), &format!("<End>{sectors}<"));
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::tests::Directory;

    #[test]
    fn a_bundle_holds_the_image_and_says_its_size() {
        let directory = Directory::new("hdd");
        let image = directory.path().join("raw.img");
        fs::write(&image, vec![7; 4096]).unwrap();
        let bundle = directory.path().join("breenix.hdd");
        // What was there before is gone.
        fs::create_dir(&bundle).unwrap();
        fs::write(bundle.join("old.hds"), "old").unwrap();
        create(&bundle, &image, Uuid::nil()).unwrap();
        let data = bundle.join("breenix.hdd.0.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds");
        assert_eq!(fs::read(&data).unwrap(), vec![7; 4096]);
        assert!(!bundle.join("old.hds").exists());
        let text = fs::read_to_string(bundle.join(DESCRIPTOR)).unwrap();
        for part in [
            "<Disk_size>8</Disk_size>",
            "<End>8</End>",
            "<Type>Plain</Type>",
            "<File>breenix.hdd.0.{5fbaabe3",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_disk_of_parallels_own_takes_the_image() {
        let directory = Directory::new("hdd-fill");
        let image = directory.path().join("raw.img");
        fs::write(&image, vec![7; 4096]).unwrap();
        let bundle = directory.path().join("x.hdd");
        fs::create_dir(&bundle).unwrap();
        assert!(fill(&bundle, &image).unwrap_err().to_string().contains("0 .hds files"));
        fs::write(bundle.join("x.hds"), vec![0; 8192]).unwrap();
        let text = descriptor("x", 16, Uuid::nil()).unwrap().replace("Plain", "Compressed");
        fs::write(bundle.join(DESCRIPTOR), text).unwrap();
        fill(&bundle, &image).unwrap();
        assert_eq!(fs::read(bundle.join("x.hds")).unwrap(), vec![7; 4096]);
        let text = fs::read_to_string(bundle.join(DESCRIPTOR)).unwrap();
        assert!(
            text.contains("<Type>Plain<") && text.contains("<Disk_size>8<") && text.contains("<End>8<"),
            "{text}"
        );
        fs::write(bundle.join("y.hds"), "").unwrap();
        assert!(fill(&bundle, &image).unwrap_err().to_string().contains("2 .hds files"));
    }

    #[test]
    fn names_need_no_escape() {
        assert!(descriptor("a<b", 1, Uuid::nil()).is_err());
        assert!(descriptor("", 1, Uuid::nil()).is_err());
        assert!(create(Path::new("/nowhere/disk.img"), Path::new("/nowhere/raw"), Uuid::nil()).is_err());
    }
}
