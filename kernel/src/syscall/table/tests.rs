use std::{
    collections::BTreeMap,
    fmt::Write,
    string::{String, ToString},
    vec::Vec,
};

use options::{ABSENT, Arch, Choice, FAMILIES, Group, Others, Standing, Trial};

use super::*;

/// Bytes of a call's future above which it is boxed: with them, a thread's future and its registers on x86_64 fit the
/// heap's class of 2368 bytes.
const LARGEST: usize = 984;

fn document() -> String {
    let mut text = String::from(
        "# System calls\n\nGenerated from `kernel/src/syscall/table/mod.rs` and `kernel/options`; run `UPDATE_DOCS=1 cargo test -p \
         kernel --lib syscall::table` after changing them.\nEverything else is ENOSYS, and logged once a number. Flags and options \
         stand [below](#flags-and-options).\n\n\
         | call | x86_64 | aarch64 | arguments |\n|---|---|---|---|\n",
    );
    let mut entries = ENTRIES.to_vec();
    entries.sort_by_key(|entry| entry.name);
    for entry in entries {
        let number = |number: Option<u16>| number.map_or("-".into(), |number| std::format!("{number}"));
        let (x86_64, aarch64) = (number(entry.x86_64), number(entry.aarch64));
        writeln!(text, "| {} | {x86_64} | {aarch64} | {} |", entry.name, entry.arguments).unwrap();
    }
    text.push_str(OPTIONS);
    for family in FAMILIES {
        writeln!(text, "\n### {}\n", family.name).unwrap();
        family.groups.iter().for_each(|group| text.push_str(&described(group)));
    }
    text.push_str("\n### absent\n\n");
    for (on_linux, what) in [(true, "Linux 6.1 has them"), (false, "as on Linux")] {
        let absent = ABSENT.iter().filter(|absent| absent.on_linux == on_linux);
        let names: Vec<&str> = absent.map(|absent| absent.name).collect();
        writeln!(text, "- ENOSYS, {what}: {}.", names.join(", ")).unwrap();
    }
    text.push_str(NOTES);
    text
}

/// What is said of all choices.
const OPTIONS: &str = "
## Flags and options

`tests run options` tries each of them, and what is in no list (\"others\": bits, commands, names), on both architectures; and on the
distribution's Linux 6.1 as far as that has them. *Supported* does what it does there; *ignored* is taken, and nothing comes of it;
*refused* is so there, too; *missing* is there, and here has the answer that is named. Calls without a line have no such choices, or
they have those of a call beside them (`fchmod`, `lstat`, `recv`), or nothing is known of them.
";

/// A line for a group of choices.
fn described(group: &Group) -> String {
    let mut by_standing: BTreeMap<(u8, &str), Vec<String>> = BTreeMap::new();
    for choice in group.choices {
        let mark = match choice.standing {
            Standing::Supported => (0, ""),
            Standing::Ignored => (1, "ignored"),
            Standing::Refused(errno) => (2, errno.name),
            Standing::Missing(errno) => (3, errno.name),
        };
        by_standing.entry(mark).or_default().push(named(choice));
    }
    let mut parts: Vec<String> = by_standing
        .into_iter()
        .map(|((standing, errno), choices)| {
            let choices = choices.join(", ");
            match standing {
                0 => std::format!("*supported* {choices}"),
                1 => std::format!("*ignored* {choices}"),
                2 => std::format!("*refused* ({errno}) {choices}"),
                _ => std::format!("*missing* ({errno}) {choices}"),
            }
        })
        .collect();
    parts.push(match group.others {
        Others::Refused(errno) => std::format!("others {}", errno.name),
        Others::Ignored => "others are ignored".to_string(),
        Others::Untried(why) => std::format!("others are not tried: {why}"),
    });
    std::format!("- **{}**, {}: {}.\n", group.call, group.what, parts.join("; "))
}

/// A choice, with what there is to say of it.
fn named(choice: &Choice) -> String {
    let machine = match (choice.value.x86_64, choice.value.aarch64) {
        (Some(_), None) => Some("x86_64"),
        (None, Some(_)) => Some("aarch64"),
        _ => None,
    };
    let trial = match choice.trial {
        Trial::Both => None,
        Trial::Since(version) => Some(std::format!("Linux {version}")),
        Trial::Ours(depends) => Some(std::format!("on Linux depends on {depends}")),
        Trial::Never(why) => Some(std::format!("not tried: {why}")),
    };
    let note = Some(choice.note).filter(|note| !note.is_empty());
    let remarks = [machine.map(String::from), note.map(String::from), trial];
    let remarks: Vec<String> = remarks.into_iter().flatten().collect();
    if remarks.is_empty() {
        choice.name.into()
    } else {
        std::format!("{} ({})", choice.name, remarks.join("; "))
    }
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
fn options_are_of_calls_in_the_table() {
    for group in FAMILIES.iter().flat_map(|family| family.groups) {
        let entry = ENTRIES.iter().find(|entry| entry.name == group.call);
        let entry = entry.unwrap_or_else(|| panic!("no call {}", group.call));
        assert_eq!(
            (group.number.x86_64, group.number.aarch64),
            (entry.x86_64, entry.aarch64),
            "{}",
            group.call
        );
        let argument = match group.place {
            options::Place::Argument(argument) | options::Place::Field { argument, .. } => argument,
        };
        assert!(
            argument < entry.arguments.into(),
            "{} has no argument {argument}",
            group.call
        );
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let mut values: Vec<u64> = group
                .choices
                .iter()
                .filter_map(|choice| choice.value.on(arch))
                .collect();
            let all = values.len();
            values.sort_unstable();
            values.dedup();
            let named = matches!(group.kind, options::Kind::Names);
            assert!(
                named || values.len() == all,
                "{} {}: a value twice",
                group.call,
                group.what
            );
        }
    }
}

#[test]
fn every_number_of_linux_is_in_the_table_or_absent() {
    /// The last of Linux 6.1.
    const LAST: u16 = 450;
    let of = |abi: Abi| {
        let absent = ABSENT.iter().filter_map(move |absent| match abi {
            Abi::X86_64 => absent.number.x86_64,
            Abi::Aarch64 => absent.number.aarch64,
        });
        ENTRIES.iter().filter_map(move |entry| entry.number(abi)).chain(absent)
    };
    // Nobody's: between the old numbers and those that are the same everywhere; aarch64's for a machine's own.
    let is_free = |abi: Abi, number: u16| match abi {
        Abi::X86_64 => (335..424).contains(&number),
        Abi::Aarch64 => (295..424).contains(&number) || (244..260).contains(&number),
    };
    for abi in [Abi::X86_64, Abi::Aarch64] {
        for number in 0..=LAST {
            let times = of(abi).filter(|other| *other == number).count();
            assert_eq!(times, usize::from(!is_free(abi, number)), "{abi:?} {number}");
        }
    }
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
