//! A writer of `newc` cpio archives, the format of an initramfs (Linux: Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The same tree gives the same bytes: entries are sorted by path, inode numbers count up, owner and times are zero. Where it is to
//! be read from a disk, the contents of files that have a page or more begin at a page: zeroes behind their names see to that.

use std::collections::BTreeMap;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

struct Entry {
    mode: u32,
    data: Vec<u8>,
}

/// Bytes of a page.
const PAGE: usize = 4096;
/// Bytes of a header.
const HEADER: usize = 110;

/// Where contents begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alignment {
    /// At the format's next multiple of four.
    Format,
    /// At a page, where there is a page of them or more.
    Pages,
}

/// An archive in the making. Paths are relative to the root, without a leading `/`.
#[derive(Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// Adds a directory with these permissions; its parents come of themselves.
    pub fn directory(&mut self, path: &str, permissions: u32) {
        self.parents(path);
        self.entries.insert(
            path.to_owned(),
            Entry {
                mode: DIRECTORY | permissions,
                data: Vec::new(),
            },
        );
    }

    /// Adds a regular file.
    pub fn file(&mut self, path: &str, permissions: u32, data: impl Into<Vec<u8>>) {
        self.parents(path);
        self.entries.insert(
            path.to_owned(),
            Entry {
                mode: REGULAR | permissions,
                data: data.into(),
            },
        );
    }

    /// Adds a symbolic link that reads `target`.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entries.insert(
            path.to_owned(),
            Entry {
                mode: SYMLINK | 0o777,
                data: target.into(),
            },
        );
    }

    /// Whether something of this path was added.
    pub fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    fn parents(&mut self, path: &str) {
        let mut end = 0;
        while let Some(slash) = path[end..].find('/') {
            end += slash;
            let parent = path[..end].to_owned();
            self.entries.entry(parent).or_insert_with(|| Entry {
                mode: DIRECTORY | 0o755,
                data: Vec::new(),
            });
            end += 1;
        }
    }

    /// The archive's bytes, trailer included, padded to 512.
    pub fn into_bytes(self) -> Vec<u8> {
        self.write(Alignment::Format)
    }

    /// The same for a disk, from a page's beginning on.
    pub fn into_disk_bytes(self) -> Vec<u8> {
        self.write(Alignment::Pages)
    }

    fn write(self, alignment: Alignment) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, (path, entry)) in self.entries.iter().enumerate() {
            write_entry(&mut out, index + 1, path, entry, alignment);
        }
        write_entry(
            &mut out,
            0,
            "TRAILER!!!",
            &Entry {
                mode: 0,
                data: Vec::new(),
            },
            Alignment::Format,
        );
        pad(&mut out, 512);
        out
    }
}

fn write_entry(out: &mut Vec<u8>, inode: usize, path: &str, entry: &Entry, alignment: Alignment) {
    let mut name_size = path.len() + 1;
    if alignment == Alignment::Pages && entry.mode & REGULAR == REGULAR && entry.data.len() >= PAGE {
        let name_at = out.len() + HEADER;
        name_size = (name_at + name_size).next_multiple_of(PAGE) - name_at;
    }
    let links = if entry.mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
    // Magic, then 13 fields of 8 hexadecimal digits.
    out.extend_from_slice(b"070701");
    let fields = [
        inode,
        entry.mode as usize,
        0,
        0,
        links,
        0,
        entry.data.len(),
        0,
        0,
        0,
        0,
        name_size,
        0,
    ];
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.resize(out.len() + name_size - path.len(), 0);
    pad(out, 4);
    out.extend_from_slice(&entry.data);
    pad(out, 4);
}

fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.file("tests/one", 0o755, *b"hello");
        archive.symlink("bin/sh", "busybox");
        archive.directory("tmp", 0o1777);
        archive.into_bytes()
    }

    #[test]
    fn parents_come_first_and_bytes_repeat() {
        let bytes = sample();
        assert_eq!(bytes, sample());
        assert_eq!(bytes.len() % 512, 0);
        let at = |name: &[u8]| bytes.windows(name.len()).position(|w| w == name);
        assert!(at(b"bin\0") < at(b"bin/sh\0"));
        assert!(at(b"tests\0") < at(b"tests/one\0"));
        assert!(at(b"tmp\0") < at(b"TRAILER!!!\0"));
    }

    #[test]
    fn large_contents_begin_at_pages_of_a_disk() {
        let tree = || {
            let mut archive = Archive::default();
            archive.file("small", 0o644, [1; 4095]);
            archive.file("large", 0o644, [2; 5000]);
            archive.file("larger", 0o644, [3; 8192]);
            archive
        };
        let bytes = tree().into_disk_bytes();
        for (value, length) in [(2, 5000), (3, 8192)] {
            let at = bytes.iter().position(|byte| *byte == value).unwrap();
            assert_eq!(at % PAGE, 0);
            assert!(bytes[at..at + length].iter().all(|byte| *byte == value));
        }
        let plain = tree().into_bytes();
        assert!(plain.len() < bytes.len() && bytes.len() < plain.len() + 3 * PAGE);
        assert_eq!(bytes, tree().into_disk_bytes());
        system_cpio(&bytes, "larger");
    }

    #[test]
    fn header_has_the_documented_layout() {
        let bytes = sample();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000041ed"); // c_mode of "bin": directory, 0755
        assert_eq!(&bytes[94..102], b"00000004"); // c_namesize, the NUL included
        assert_eq!(&bytes[110..114], b"bin\0");
    }

    #[test]
    fn the_system_s_cpio_reads_it() {
        system_cpio(&sample(), "bin/sh -> busybox");
        system_cpio(&sample(), "drwxrwxrwt");
    }

    /// Has the system's `cpio` list an archive, if there is one; the layout is checked without it, too.
    fn system_cpio(archive: &[u8], expected: &str) {
        let mut command = Command::new("cpio");
        command.arg("-itv").stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Ok(mut cpio) = command.spawn() {
            cpio.stdin.take().unwrap().write_all(archive).unwrap();
            let listing = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
            assert!(listing.contains(expected), "{listing}");
        }
    }
}
