//! Reading a directory of this machine into an archive, as it is: permissions, times, links by several names, device nodes.
//!
//! Owners are kept where this runs as root, who can have made them on purpose. Where somebody else unpacked the tree, the files
//! are that person's for want of the right to give them away, and root's in the guest.

use crate::cpio::{Archive, Entry};
use anyhow::{Context, Result, bail};
use rustix::fs::{major, minor};
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Adds all that is below `directory`, at the same paths; what the archive has already stays. Sockets are left out: nobody listens at them.
///
/// # Errors
/// Something cannot be read, has a name that is not UTF-8 or is larger than the format can say; the message names it.
pub fn add(archive: &mut Archive, directory: &Path) -> Result<()> {
    add_at(archive, directory, "")
}

/// The same below `place`, which is empty or ends in `/`.
///
/// # Errors
/// As [`add`].
pub fn add_at(archive: &mut Archive, directory: &Path, place: &str) -> Result<()> {
    let keeps_owners = rustix::process::geteuid().is_root();
    add_below(archive, directory, place, keeps_owners)
}

fn add_below(archive: &mut Archive, directory: &Path, place: &str, owners: bool) -> Result<()> {
    let failed = || format!("cannot read {}", directory.display());
    for found in fs::read_dir(directory).with_context(failed)? {
        let found = found.with_context(failed)?;
        let from = found.path();
        let Some(name) = found.file_name().to_str().map(str::to_owned) else {
            bail!(
                "{}: the name is not UTF-8, which an initramfs must be here",
                from.display()
            );
        };
        let path = format!("{place}{name}");
        let metadata = fs::symlink_metadata(&from).with_context(|| format!("cannot read {}", from.display()))?;
        let taken = archive.contains(&path);
        if !taken && !metadata.file_type().is_socket() {
            archive.entry(&path, entry(&from, &metadata, owners)?);
        }
        if metadata.is_dir() {
            add_below(archive, &from, &format!("{path}/"), owners)?;
        }
    }
    Ok(())
}

fn entry(from: &Path, metadata: &Metadata, owners: bool) -> Result<Entry> {
    let kind = metadata.file_type();
    let data = if kind.is_file() {
        fs::read(from).with_context(|| format!("cannot read {}", from.display()))?
    } else if kind.is_symlink() {
        let target = fs::read_link(from).with_context(|| format!("cannot read {}", from.display()))?;
        target.into_os_string().into_encoded_bytes()
    } else {
        Vec::new()
    };
    if u32::try_from(data.len()).is_err() {
        bail!(
            "{} has 4 GiB or more, and an initramfs has no room for that",
            from.display()
        );
    }
    let is_device = kind.is_char_device() || kind.is_block_device();
    Ok(Entry {
        mode: metadata.mode(),
        uid: if owners { metadata.uid() } else { 0 },
        gid: if owners { metadata.gid() } else { 0 },
        modified: u32::try_from(metadata.mtime()).unwrap_or(0),
        device: if is_device {
            (major(metadata.rdev()), minor(metadata.rdev()))
        } else {
            (0, 0)
        },
        data,
        same: (kind.is_file() && metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let directory = env::temp_dir().join(format!("breenix-tree-{name}-{}", std::process::id()));
            fs::create_dir_all(&directory).unwrap();
            Self(directory)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_directory_is_laid_over_what_is_there() {
        let scratch = Scratch::new("over");
        fs::create_dir_all(scratch.0.join("lib/sub")).unwrap();
        fs::write(scratch.0.join("lib/sub/new"), "new").unwrap();
        fs::write(scratch.0.join("lib/old"), "theirs").unwrap();
        symlink("sub/new", scratch.0.join("lib/link")).unwrap();
        let mut archive = Archive::default();
        archive.file("lib/old", 0o644, *b"ours");
        add(&mut archive, &scratch.0).unwrap();
        assert!(archive.contains("lib/sub/new") && archive.contains("lib/link"));
        let text = String::from_utf8_lossy(&archive.into_bytes()).into_owned();
        assert!(text.contains("ours") && !text.contains("theirs"));
    }

    #[test]
    fn what_is_known_of_a_file_is_kept() {
        let scratch = Scratch::new("modes");
        let path = scratch.0.join("su");
        fs::write(&path, "program").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4711)).unwrap();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kept = entry(&path, &metadata, true).unwrap();
        assert_eq!((kept.mode & 0o7777, kept.uid), (0o4711, metadata.uid()));
        assert_eq!(i64::from(kept.modified), metadata.mtime());
        assert_eq!(entry(&path, &metadata, false).unwrap().uid, 0);
    }

    #[test]
    fn a_file_by_two_names_is_written_once() {
        let scratch = Scratch::new("links");
        fs::write(scratch.0.join("b"), "contents").unwrap();
        fs::hard_link(scratch.0.join("b"), scratch.0.join("a")).unwrap();
        let mut archive = Archive::default();
        add(&mut archive, &scratch.0).unwrap();
        let bytes = archive.into_bytes();
        let headers: Vec<&[u8]> = bytes
            .windows(110)
            .filter(|header| header.starts_with(b"070701"))
            .collect();
        let field = |header: &[u8], index: usize| {
            let digits = std::str::from_utf8(&header[6 + 8 * index..14 + 8 * index]).unwrap();
            usize::from_str_radix(digits, 16).unwrap()
        };
        let links: Vec<_> = headers[..2]
            .iter()
            .map(|header| (field(header, 0), field(header, 4), field(header, 6)))
            .collect();
        assert_eq!(links, [(1, 2, 8), (1, 2, 0)]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = add(&mut Archive::default(), Path::new("/nonexistent-tree")).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent-tree"), "{error:#}");
    }
}
