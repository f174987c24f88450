use std::fmt::Write;

use super::*;

/// Bytes of a call's future above which it is boxed: with them, a thread's future and its registers on x86_64 fit the
/// heap's class of 2368 bytes.
const LARGEST: usize = 984;

fn document() -> std::string::String {
    let mut text = std::string::String::from(
        "# System calls\n\nGenerated from `kernel/src/syscall/table/mod.rs`; run `UPDATE_DOCS=1 cargo test -p kernel --lib \
         syscall::table` after changing it.\nEverything else is ENOSYS, and logged once a number.\n\n\
         | call | x86_64 | aarch64 | arguments |\n|---|---|---|---|\n",
    );
    let mut entries = ENTRIES.to_vec();
    entries.sort_by_key(|entry| entry.name);
    for entry in entries {
        let number = |number: Option<u16>| number.map_or("-".into(), |number| std::format!("{number}"));
        let (x86_64, aarch64) = (number(entry.x86_64), number(entry.aarch64));
        writeln!(text, "| {} | {x86_64} | {aarch64} | {} |", entry.name, entry.arguments).unwrap();
    }
    text.push_str(NOTES);
    text
}

/// What the table cannot say.
const NOTES: &str = "
## Block devices

`/dev/nvme0n1`, `/dev/sda`, `/dev/vda` and their partitions, with Linux's numbers (8 and 254 with 16 minors a disk, else 259 in
order), mode 0600; all are in `/proc/partitions`.

- Reads go through the page cache, or past it with `O_DIRECT`. Then offset, lengths and addresses are multiples of the logical
  block's size (`BLKSSZGET`), else EINVAL. `O_NONBLOCK` means nothing. A read waits for the disk until a deadly signal comes.
- Writes go past the cache: without `O_DIRECT` they are EROFS, and a shared mapping that is written raises SIGBUS. A write at the end
  is ENOSPC. What the cache has of what was written is forgotten. `fsync`, `fdatasync` and `sync` flush the disk.
- Opening a disk that is read-only for writing is EACCES.
- `ioctl`: BLKGETSIZE64, BLKGETSIZE, BLKSSZGET, BLKPBSZGET, BLKBSZGET (4096), BLKROGET, BLKFLSBUF; others are ENOTTY.
- `mmap` of a partition that does not begin at a page is ENODEV; of its last page, if another partition has a part of that,
  SIGBUS.
- A page that could not be read is EIO for a second, then it is read anew.

`mount -t cpio -r` mounts a newc archive on a block device; without `MS_RDONLY`, and remounted without, it is EROFS.
";

#[test]
fn the_documentation_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SYSCALLS.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, document()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), document());
}

#[test]
fn no_call_sizes_every_thread() {
    let sizes = future_sizes(&crate::task::testing::thread(9007), [0; 6]);
    let mut large: std::vec::Vec<_> = sizes.into_iter().filter(|(_, size)| *size > LARGEST).collect();
    large.sort_by_key(|(_, size)| *size);
    assert!(large.is_empty(), "to be `large`: {large:?}");
}

#[test]
fn numbers_are_unique_and_found() {
    for abi in [Abi::X86_64, Abi::Aarch64] {
        assert!(by_number(abi).iter().filter(|call| call.is_some()).count() > 100);
    }
    for entry in ENTRIES {
        if let Some(number) = entry.number(ABI) {
            assert_eq!(find(number.into()), Some(entry.call));
        }
    }
    assert_eq!(find(RESTART_SYSCALL), Some(Call::restart_syscall));
    assert_eq!(find(u64::MAX), None);
    assert_eq!(find(511), None);
}
