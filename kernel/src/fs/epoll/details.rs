//! What `/proc/<pid>/fdinfo` shows of an epoll.

use alloc::{string::String, sync::Weak};
use core::fmt::Write;

use arrayvec::ArrayVec;

use super::Core;
use crate::{errno::Result, fs::OpenFile, mm::fallible::TryRoom};

/// Files that are shown at a time.
const AT_ONCE: usize = 16;
/// The most that a file's line takes.
const LINE: usize = 160;

struct Shown {
    fd: i32,
    events: u32,
    data: u64,
    file: Weak<OpenFile>,
}

/// Appends a line for each of some files, from the place `from` on; where it goes on.
pub(super) fn write(core: &Core, from: u64, out: &mut String) -> Result<Option<u64>> {
    let mut some = ArrayVec::<Shown, AT_ONCE>::new();
    let mut next = u32::try_from(from).ok();
    {
        let entries = core.entries.lock();
        while let Some(slot) = next.filter(|_| !some.is_full()) {
            next = entries.next(slot).map(|(slot, entry)| {
                some.push(Shown {
                    fd: entry.fd,
                    events: entry.events,
                    data: entry.data,
                    file: entry.file.clone(),
                });
                slot + 1
            });
        }
    }
    out.try_room(some.len() * LINE)?;
    // The last to hold a file may be this, and its end looks at the entries: so no lock is held.
    for shown in some {
        if let Some(file) = shown.file.upgrade() {
            let attributes = file.attributes();
            // Written into memory: cannot fail.
            let _ = writeln!(
                out,
                "tfd: {:8} events: {:8x} data: {:16x}  pos:{} ino:{:x} sdev:{:x}",
                shown.fd,
                shown.events,
                shown.data,
                file.position(),
                attributes.inode,
                attributes.device.major << 20 | attributes.device.minor,
            );
        }
    }
    Ok(next.map(u64::from))
}
