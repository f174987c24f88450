//! More files about the machine (`proc_vmstat(5)`, `proc_tty(5)`, `proc_sys(5)`).

use alloc::string::String;
use core::fmt::{Result, Write};

use crate::{
    fs::{fd_table, pipe},
    mm, namespace,
    syscall::identity,
    task::capabilities,
    tty,
};

/// `/proc/vmstat`: what is counted. There is nowhere to swap to.
pub(super) fn memory_counters(out: &mut String) -> Result {
    let stats = mm::frame::stats();
    let rows = [
        ("nr_free_pages", stats.free),
        ("nr_file_pages", mm::reclaim::cached_pages()),
        ("nr_slab_unreclaimable", mm::heap::slab_frames()),
        ("nr_page_table_pages", mm::frame::page_tables()),
        ("pswpin", 0),
        ("pswpout", 0),
    ];
    rows.iter()
        .try_for_each(|(name, value)| writeln!(out, "{name} {value}"))
}

/// `/proc/tty/drivers`: name, path without the number, major and minor numbers, kind.
pub(super) fn tty_drivers(out: &mut String) -> Result {
    for (name, number) in tty::device::nodes() {
        let (driver, kind) = match name {
            "tty" => ("/dev/tty", "system:/dev/tty"),
            "console" => ("/dev/console", "system:console"),
            _ => ("serial", "serial"),
        };
        let path = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        writeln!(
            out,
            "{driver:<20} /dev/{path:<8} {:3} {:7} {kind}",
            number.major, number.minor
        )?;
    }
    Ok(())
}

pub(super) fn descriptors_limit(out: &mut String) -> Result {
    writeln!(out, "{}", fd_table::MAX_DESCRIPTORS)
}

pub(super) fn pipe_limit(out: &mut String) -> Result {
    writeln!(out, "{}", pipe::MAX_CAPACITY)
}

pub(super) fn socket_buffer_limit(out: &mut String) -> Result {
    writeln!(out, "{}", crate::syscall::net::MOST_BUFFER)
}

pub(super) fn backlog_limit(out: &mut String) -> Result {
    writeln!(out, "{}", crate::net::unix::MOST_CONNECTIONS)
}

pub(super) fn last_capability(out: &mut String) -> Result {
    writeln!(out, "{}", capabilities::LAST as u32)
}

pub(super) fn groups_limit(out: &mut String) -> Result {
    writeln!(out, "{}", identity::MOST_GROUPS)
}

pub(super) fn domain_name(out: &mut String) -> Result {
    writeln!(out, "{}", String::from_utf8_lossy(&namespace::current().uts.domain()))
}
