//! Images are made, and taken apart again by other code than made them.

use super::*;
use fatfs::{FatType, FileSystem, FsOptions};
use fscommon::StreamSlice;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// A directory of a test's own, removed with this.
pub struct Directory(PathBuf);

impl Directory {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("breenix-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Files as an image has them, with bytes that stand in for the real ones.
pub fn stand_ins(build: &str) -> Vec<EspFile> {
    let file = |path: &str, data: Vec<u8>| EspFile {
        path: path.to_owned(),
        data,
    };
    let config = config::Config {
        build: build.to_owned(),
        cmdline: "run=tests".to_owned(),
    };
    vec![
        file("EFI/BOOT/BOOTAA64.EFI", vec![0x4d; 70_001]),
        file(config::PATH, config.text().unwrap().into_bytes()),
        file(config::KERNEL, (0..3_000_000_u32).map(|at| (at / 7) as u8).collect()),
        file(config::INITRAMFS, vec![0x30; 512 * 1000]),
    ]
}

fn image(files: Vec<EspFile>, root: Option<&[u8]>) -> (Vec<u8>, Layout) {
    let mut contents = Contents {
        files,
        root: root.map(Cursor::new),
    };
    let layout = plan(&mut contents).unwrap();
    let mut device = Cursor::new(vec![0; layout.bytes() as usize]);
    write(&mut device, &layout, &mut contents).unwrap();
    (device.into_inner(), layout)
}

/// CRC-32 as UEFI 2.10, section 5.3.2, wants it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

fn le(bytes: &[u8], at: usize, length: usize) -> u64 {
    let mut value = [0; 8];
    value[..length].copy_from_slice(&bytes[at..at + length]);
    u64::from_le_bytes(value)
}

/// One copy of the GPT, read by the offsets of UEFI 2.10, tables 5-5 and 5-6; returns the partition entries.
fn check_gpt(image: &[u8], at: u64, other: u64) -> Vec<u8> {
    let sector = |number: u64| &image[(number * SECTOR) as usize..];
    let header = &sector(at)[..92];
    assert_eq!(&header[..8], b"EFI PART");
    assert_eq!(le(header, 8, 4), 0x1_0000, "revision");
    assert_eq!(le(header, 12, 4), 92, "size");
    let mut blank = header.to_vec();
    blank[16..20].fill(0);
    assert_eq!(le(header, 16, 4), u64::from(crc32(&blank)), "the header's CRC");
    assert_eq!(le(header, 24, 8), at, "its own place");
    assert_eq!(le(header, 32, 8), other, "the other's place");
    let (number, size) = (le(header, 80, 4), le(header, 84, 4));
    assert_eq!((number, size), (128, 128));
    let entries = &sector(le(header, 72, 8))[..(number * size) as usize];
    assert_eq!(le(header, 88, 4), u64::from(crc32(entries)), "the entries' CRC");
    entries.to_vec()
}

#[test]
fn both_partition_tables_are_right() {
    let root = vec![0xe5; 5 << 20];
    let (image, layout) = image(stand_ins("abcd"), Some(&root));
    let last = image.len() as u64 / SECTOR - 1;
    let entries = check_gpt(&image, 1, last);
    assert_eq!(check_gpt(&image, last, 1), entries);
    // C12A7328-F81F-11D2-BA4B-00A0C93EC93B: the first three fields little-endian.
    let esp = [
        0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
    ];
    assert_eq!(entries[..16], esp);
    assert_eq!(le(&entries, 32, 8)..le(&entries, 40, 8) + 1, layout.esp);
    // 0FC63DAF-8483-4772-8E79-3D69D8477DE4.
    let linux = [
        0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
    ];
    assert_eq!(entries[128..144], linux);
    let partition = le(&entries, 128 + 32, 8)..le(&entries, 128 + 40, 8) + 1;
    assert_eq!(Some(&partition), layout.root.as_ref());
    assert_eq!(partition.start % 8, 0, "its pages are the disk's");
    let bytes = (partition.start * SECTOR) as usize..(partition.end * SECTOR) as usize;
    assert!(image[bytes] == root[..]);
    assert!(entries[256..].iter().all(|byte| *byte == 0));
    // The protective MBR: one partition of type EE from sector 1 to the end.
    assert_eq!(&image[510..512], [0x55, 0xaa]);
    assert_eq!(image[446 + 4], 0xee);
    assert_eq!((le(&image, 446 + 8, 4), le(&image, 446 + 12, 4)), (1, last));
}

#[test]
fn identifiers_differ_and_follow_the_contents() {
    let identifiers = |build: &str, root: Option<&[u8]>| {
        let mut contents = Contents {
            files: stand_ins(build),
            root: root.map(Cursor::new),
        };
        let layout = plan(&mut contents).unwrap();
        ["disk", "EFI System", "root"].map(|of| layout.identifier(of))
    };
    let one = identifiers("abcd", None);
    assert_eq!(one, identifiers("abcd", None));
    let more = [
        one,
        identifiers("abce", None),
        identifiers("abcd", Some(b"x")),
        identifiers("abcd", Some(b"y")),
    ];
    let all: HashSet<_> = more.iter().flatten().collect();
    assert_eq!(all.len(), 12);
}

#[test]
fn the_same_contents_give_the_same_bytes() {
    let root = vec![1; 100_001];
    let (one, layout) = image(stand_ins("abcd"), Some(&root));
    let (two, _) = image(stand_ins("abcd"), Some(&root));
    assert!(one == two);
    assert_eq!(layout.root.unwrap().count(), 196);
}

#[test]
fn the_file_system_is_fat32_and_holds_the_files() {
    let files = stand_ins("abcd");
    let (image, layout) = image(files.clone(), None);
    assert_eq!(image.len(), 64 << 20);
    let disk = ::gpt::GptConfig::new()
        .only_valid_headers(true)
        .open_from_device(Cursor::new(image.clone()))
        .unwrap();
    assert_eq!(disk.partitions().len(), 1);
    assert_eq!(disk.partitions()[&1].part_type_guid, ::gpt::partition_types::EFI);
    let (start, end) = (layout.esp.start * SECTOR, layout.esp.end * SECTOR);
    let slice = StreamSlice::new(Cursor::new(image.clone()), start, end).unwrap();
    let system = FileSystem::new(slice, FsOptions::new()).unwrap();
    assert_eq!(system.fat_type(), FatType::Fat32);
    assert!(system.stats().unwrap().total_clusters() >= 65_525);
    for file in files {
        let mut data = Vec::new();
        system
            .root_dir()
            .open_file(&file.path)
            .unwrap()
            .read_to_end(&mut data)
            .unwrap();
        assert!(data == file.data, "{}", file.path);
        assert_eq!(read::esp_file(Cursor::new(image.clone()), &file.path).unwrap(), data);
    }
    let first = system.root_dir().iter().next().unwrap().unwrap();
    assert_eq!((first.created().date.year, first.modified().date.day), (1980, 1));
}

/// What `fsck.fat` looks at, by the offsets of Microsoft's specification.
#[test]
fn the_file_system_is_consistent() {
    let (image, layout) = image(stand_ins("abcd"), None);
    let esp = &image[(layout.esp.start * SECTOR) as usize..(layout.esp.end * SECTOR) as usize];
    assert_eq!(le(esp, 28, 4), layout.esp.start, "hidden sectors");
    assert_eq!(le(esp, 32, 4), layout.esp.end - layout.esp.start, "sectors");
    // Copies: boot sector and free clusters at sector 6 on, the second FAT after the first.
    assert!(esp[..1024] == esp[6 * 512..8 * 512]);
    let (reserved, fat, cluster) = (
        le(esp, 14, 2) as usize * 512,
        le(esp, 36, 4) as usize * 512,
        esp[13] as usize * 512,
    );
    let table = &esp[reserved..reserved + fat];
    assert!(*table == esp[reserved + fat..reserved + 2 * fat]);
    let entry = |cluster: u64| le(table, cluster as usize * 4, 4) & 0x0fff_ffff;
    let data = reserved + 2 * fat;
    let clusters = ((esp.len() - data) / cluster) as u64;
    let free = (2..clusters + 2).filter(|at| entry(*at) == 0).count() as u64;
    assert_eq!(le(esp, 512 + 488, 4), free, "free clusters");
    // Clean, and without an error when last used.
    assert_eq!(entry(1) & 0x0c00_0000, 0x0c00_0000);
    assert_eq!(esp[0x41] & 3, 0, "not dirty");

    // Every directory: `.` is itself, `..` the one above, and the root is cluster 0 there.
    let mut directories = vec![(le(esp, 44, 4), None)];
    let mut used = 0;
    while let Some((start, above)) = directories.pop() {
        let mut at = start;
        let mut bytes = Vec::new();
        while at < 0x0fff_fff8 {
            used += 1;
            bytes.extend(&esp[data + (at as usize - 2) * cluster..][..cluster]);
            at = entry(at);
        }
        if above.is_some() {
            assert_eq!(
                (&bytes[..11], &bytes[32..43]),
                (&b".          "[..], &b"..         "[..])
            );
        }
        for record in bytes.chunks(32).take_while(|record| record[0] != 0) {
            let first = le(record, 20, 2) << 16 | le(record, 26, 2);
            match (record[11], &record[..11]) {
                (0x0f | 0x08, _) | (_, [0xe5, ..]) => {}
                (0x10, b".          ") => assert_eq!(first, start),
                (0x10, b"..         ") => assert_eq!(Some(first), above),
                (0x10, _) => directories.push((first, Some(if above.is_none() { 0 } else { start }))),
                (_, name) => {
                    let mut length = 0;
                    let mut at = first;
                    while at < 0x0fff_fff8 {
                        length += 1;
                        at = entry(at);
                    }
                    used += length;
                    assert_eq!(length, le(record, 28, 4).div_ceil(cluster as u64), "{name:?}");
                }
            }
        }
    }
    assert_eq!(used + free, clusters, "no cluster is lost");
}

#[test]
fn large_contents_get_a_larger_image() {
    let mut files = stand_ins("abcd");
    files[3].data = vec![1; 150 << 20];
    let mut contents = Contents {
        files,
        root: None::<Cursor<Vec<u8>>>,
    };
    let layout = plan(&mut contents).unwrap();
    assert!((155 << 20..175 << 20).contains(&layout.bytes()), "{}", layout.bytes());
    let (image, _) = image(contents.files, None);
    assert_eq!(
        read::esp_file(Cursor::new(image), config::INITRAMFS).unwrap().len(),
        150 << 20
    );
}

#[test]
fn bad_paths_are_refused() {
    let refuse = |paths: &[&str]| {
        let file = |path: &&str| EspFile {
            path: (*path).to_owned(),
            data: vec![1],
        };
        let files = paths.iter().map(file).collect();
        let root = None::<Cursor<Vec<u8>>>;
        plan(&mut Contents { files, root }).unwrap_err().to_string()
    };
    for path in ["", "/a", "a//b", "../a", "a/", "a:b", "ä"] {
        assert!(refuse(&[path]).contains("no path"), "{path}");
    }
    assert!(refuse(&["a/b", "A/B"]).contains("twice"));
    let mut contents = Contents {
        files: Vec::new(),
        root: Some(Cursor::new(Vec::new())),
    };
    assert!(plan(&mut contents).unwrap_err().to_string().contains("empty"));
}

#[test]
fn an_image_s_file_is_written_whole_or_not_at_all() {
    let directory = Directory::new("image");
    let out = directory.path().join("sub/breenix.img");
    entry::write(stand_ins("abcd"), None, &out).unwrap();
    assert_eq!(read::build_id(&out).unwrap(), "abcd");
    let missing = directory.path().join("missing");
    assert!(entry::write(stand_ins("beef"), Some(&missing), &out).is_err());
    assert_eq!(read::build_id(&out).unwrap(), "abcd");
    assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 1);
    fs::write(&missing, "no image").unwrap();
    assert!(format!("{:#}", read::build_id(&missing).unwrap_err()).contains("scripts/image"));
}
