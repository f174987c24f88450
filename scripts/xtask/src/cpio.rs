//! A writer of `newc` cpio archives, the format of an initramfs (Linux: Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The same tree gives the same bytes: entries are sorted by path, inode numbers count up, and what is made here has no owner but
//! root and no time. Where it is to be read from a disk, the contents of files that have a page or more begin at a page: zeroes
//! behind their names see to that.

use std::collections::{BTreeMap, HashMap};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
/// The type's bits of a mode.
const TYPE: u32 = 0o170_000;

/// What is in an archive under one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// The owner's user.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// Seconds since 1970 of the last change.
    pub modified: u32,
    /// A device node's numbers: major, minor.
    pub device: (u32, u32),
    /// What a file holds, or what a symbolic link says.
    pub data: Vec<u8>,
    /// Files with the same are one, by several names: each has the contents, which are written once.
    pub same: Option<(u64, u64)>,
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
        self.insert(path, DIRECTORY | permissions, Vec::new());
    }

    /// Adds a regular file.
    pub fn file(&mut self, path: &str, permissions: u32, data: impl Into<Vec<u8>>) {
        self.insert(path, REGULAR | permissions, data.into());
    }

    /// Adds a symbolic link that reads `target`.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.insert(path, SYMLINK | 0o777, target.into());
    }

    /// Adds something with all that is known of it.
    pub fn entry(&mut self, path: &str, entry: Entry) {
        self.parents(path);
        self.entries.insert(path.to_owned(), entry);
    }

    fn insert(&mut self, path: &str, mode: u32, data: Vec<u8>) {
        let entry = Entry {
            mode,
            data,
            ..Entry::default()
        };
        self.entry(path, entry);
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
                ..Entry::default()
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
        let mut names = HashMap::<_, usize>::new();
        for same in self.entries.values().filter_map(|entry| entry.same) {
            *names.entry(same).or_default() += 1;
        }
        let mut first = HashMap::new();
        let mut out = Vec::new();
        for (index, (path, entry)) in self.entries.iter().enumerate() {
            let number = index + 1;
            let mut numbers = Numbers {
                inode: number,
                links: 1,
            };
            let mut data = entry.data.as_slice();
            if entry.mode & TYPE == DIRECTORY {
                numbers.links = 2;
            }
            if let Some(same) = entry.same {
                numbers.inode = *first.entry(same).or_insert(number);
                numbers.links = names[&same];
                if numbers.inode != number {
                    data = &[];
                }
            }
            write_entry(&mut out, numbers, path, entry, data, alignment);
        }
        let end = Numbers { inode: 0, links: 1 };
        write_entry(&mut out, end, "TRAILER!!!", &Entry::default(), &[], Alignment::Format);
        pad(&mut out, 512);
        out
    }
}

/// What an entry is called by other entries, and how many there are.
struct Numbers {
    inode: usize,
    links: usize,
}

fn write_entry(out: &mut Vec<u8>, numbers: Numbers, path: &str, entry: &Entry, data: &[u8], alignment: Alignment) {
    let mut name_size = path.len() + 1;
    if alignment == Alignment::Pages && entry.mode & TYPE == REGULAR && data.len() >= PAGE {
        let name_at = out.len() + HEADER;
        name_size = (name_at + name_size).next_multiple_of(PAGE) - name_at;
    }
    // Magic, then 13 fields of 8 hexadecimal digits.
    out.extend_from_slice(b"070701");
    let fields = [
        numbers.inode,
        entry.mode as usize,
        entry.uid as usize,
        entry.gid as usize,
        numbers.links,
        entry.modified as usize,
        data.len(),
        0,
        0,
        entry.device.0 as usize,
        entry.device.1 as usize,
        name_size,
        0,
    ];
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.resize(out.len() + name_size - path.len(), 0);
    pad(out, 4);
    out.extend_from_slice(data);
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
