//! `/proc/<pid>/maps`, `smaps` and `smaps_rollup` (`proc_pid_maps(5)`, `proc_pid_smaps(5)`), in steps.

use alloc::{string::String, sync::Arc};
use core::fmt::Write;

use super::Walk;
use crate::{
    errno::Result,
    mm::{
        AddressSpace, MapEntry, Prot,
        fallible::TryRoom,
        space::{PageUse, Residence},
    },
    task::Process,
};

/// Lines of `maps` that are made in a step.
const LINES: usize = 32;

/// The most that the text of an area takes without the file's name.
const MOST: usize = 1024;

/// See the module.
pub(super) struct Areas {
    /// Of the process, while it has one.
    space: Option<Arc<AddressSpace>>,
    walk: Walk,
    /// Where the next area is looked for.
    next: u64,
    /// The area whose pages are being looked at, how far that is, and what has been found.
    current: Option<(MapEntry, u64, Residence)>,
    /// All areas: the first's start, and what has been found.
    start: Option<u64>,
    total: Residence,
}

impl Areas {
    pub(super) fn new(process: &Arc<Process>, walk: Walk) -> Self {
        Self {
            space: process.first_thread().is_some().then(|| process.mm()),
            walk,
            next: 0,
            current: None,
            start: None,
            total: Residence::default(),
        }
    }

    /// Makes a little more; whether there is more to come.
    pub(super) fn step(&mut self, out: &mut String) -> Result<bool> {
        let Some(space) = self.space.clone().filter(|space| space.users() > 0) else {
            return Ok(false);
        };
        match self.walk {
            Walk::Areas => self.list(&space, out),
            _ => self.look(&space, out),
        }
    }

    fn list(&mut self, space: &AddressSpace, out: &mut String) -> Result<bool> {
        for _ in 0..LINES {
            let Some(entry) = space.map_at_or_above(self.next) else {
                return Ok(false);
            };
            self.next = entry.end;
            line(&entry, out)?;
        }
        Ok(true)
    }

    fn look(&mut self, space: &AddressSpace, out: &mut String) -> Result<bool> {
        let (entry, from, mut found) = match self.current.take() {
            Some(current) => current,
            None => match space.map_at_or_above(self.next) {
                Some(entry) => {
                    self.start.get_or_insert(entry.start);
                    let start = entry.start;
                    (entry, start, Residence::default())
                }
                None => {
                    if let (Walk::AreasTogether, Some(start)) = (self.walk, self.start) {
                        out.try_room(MOST)?;
                        together(start, self.next, &self.total, out);
                    }
                    return Ok(false);
                }
            },
        };
        let done = space.residence(from, entry.end, &mut found);
        if done < entry.end {
            self.current = Some((entry, done, found));
            return Ok(true);
        }
        self.next = entry.end;
        if self.walk == Walk::AreasTogether {
            self.total.add(&found);
        } else {
            line(&entry, out)?;
            out.try_room(MOST)?;
            in_detail(&entry, &found, out);
        }
        Ok(true)
    }
}

fn line(entry: &MapEntry, out: &mut String) -> Result<()> {
    let name = entry.backing.as_ref().map_or(0, |backing| backing.path.len());
    out.try_room(MOST + name)?;
    // Written into memory: cannot fail.
    let _ = writeln!(out, "{entry}");
    Ok(())
}

/// Rows of names and bytes, as kibibytes.
fn rows(rows: &[(&str, u64)], out: &mut String) {
    for (name, bytes) in rows {
        // Written into memory: cannot fail.
        let _ = writeln!(out, "{:<16}{:>8} kB", alloc::format!("{name}:"), bytes / 1024);
    }
}

/// What both texts say of pages. Nothing is swapped out or huge.
fn pages(found: &Residence, out: &mut String) {
    let of = |page_use: PageUse| found.bytes(page_use);
    rows(
        &[
            ("Shared_Clean", of(PageUse::SharedClean)),
            ("Shared_Dirty", of(PageUse::SharedDirty)),
            ("Private_Clean", of(PageUse::PrivateClean)),
            ("Private_Dirty", of(PageUse::PrivateDirty)),
            ("Referenced", found.resident()),
            ("Anonymous", found.anonymous()),
            ("LazyFree", 0),
            ("AnonHugePages", 0),
            ("ShmemPmdMapped", 0),
            ("FilePmdMapped", 0),
            ("Shared_Hugetlb", 0),
            ("Private_Hugetlb", 0),
            ("Swap", 0),
            ("SwapPss", 0),
            ("Locked", 0),
        ],
        out,
    );
}

fn in_detail(entry: &MapEntry, found: &Residence, out: &mut String) {
    const PAGE: u64 = hal::PAGE_SIZE as u64;
    rows(
        &[
            ("Size", entry.end - entry.start),
            ("KernelPageSize", PAGE),
            ("MMUPageSize", PAGE),
            ("Rss", found.resident()),
            ("Pss", found.proportional()),
            ("Pss_Dirty", found.proportional_dirty()),
        ],
        out,
    );
    pages(found, out);
    let _ = write!(out, "THPeligible:    0\nVmFlags:");
    let has = |prot| entry.prot.contains(prot);
    for (word, holds) in [
        ("rd", has(Prot::READ)),
        ("wr", has(Prot::WRITE)),
        ("ex", has(Prot::EXEC)),
        ("sh", entry.shared),
        ("mr", true),
        ("mw", true),
        ("me", true),
        ("gd", entry.name == "[stack]"),
    ] {
        if holds {
            let _ = write!(out, " {word}");
        }
    }
    out.push_str(" \n");
}

fn together(start: u64, end: u64, total: &Residence, out: &mut String) {
    let _ = writeln!(
        out,
        "{:<72} [rollup]",
        alloc::format!("{start:08x}-{end:08x} ---p 00000000 00:00 0")
    );
    rows(
        &[
            ("Rss", total.resident()),
            ("Pss", total.proportional()),
            ("Pss_Dirty", total.proportional_dirty()),
            ("Pss_Anon", total.proportional_anonymous()),
            ("Pss_File", total.proportional() - total.proportional_anonymous()),
            ("Pss_Shmem", 0),
        ],
        out,
    );
    pages(total, out);
}
