//! What is mounted, as a process sees it from its root (`proc_pid_mounts(5)`, `proc_pid_mountinfo(5)`).

use alloc::{format, string::String, sync::Arc, vec::Vec};

use linux_raw_sys::general as linux;

use crate::{
    errno::{Errno, Result},
    fs::{
        mount::{self, Location, Mount},
        path,
    },
    task::Process,
};

/// A mount's own options, in Linux's words and order.
fn options(mount: &Mount) -> String {
    let mut options = String::from(access(mount));
    for (flag, word) in [
        (linux::MS_NOSUID, ",nosuid"),
        (linux::MS_NODEV, ",nodev"),
        (linux::MS_NOEXEC, ",noexec"),
        (linux::MS_NOATIME, ",noatime"),
        (linux::MS_NODIRATIME, ",nodiratime"),
        (linux::MS_RELATIME, ",relatime"),
    ] {
        if mount.flags() & flag != 0 {
            options.push_str(word);
        }
    }
    options
}

fn access(mount: &Mount) -> &'static str {
    if mount.writable().is_ok() { "rw" } else { "ro" }
}

/// Blanks and what would look like an escape are escaped.
fn escaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => out.extend(format!("\\{byte:03o}").into_bytes()),
            _ => out.push(*byte),
        }
    }
    out
}

fn place(mount: &Mount, root: &Location) -> Vec<u8> {
    match mount.covers() {
        Some(covered) => escaped(&path::path_of(covered, root).display()),
        None => b"/".to_vec(),
    }
}

fn root(process: &Arc<Process>) -> Result<Location> {
    Ok(process.fs().ok_or(Errno::ESRCH)?.root())
}

/// `/proc/<pid>/mounts`.
pub(super) fn mounts(process: &Arc<Process>) -> Result<Vec<u8>> {
    let root = root(process)?;
    let mut out = Vec::new();
    for mount in mount::mounts() {
        out.extend(escaped(mount.source().as_bytes()));
        out.push(b' ');
        out.extend(place(&mount, &root));
        out.extend(format!(" {} {} 0 0\n", mount.kind(), options(&mount)).into_bytes());
    }
    Ok(out)
}

/// `/proc/<pid>/mountinfo`. There is no propagation, so the optional fields are absent; a mount shows a whole file system.
pub(super) fn mount_info(process: &Arc<Process>) -> Result<Vec<u8>> {
    let root = root(process)?;
    let mut out = Vec::new();
    for mount in mount::mounts() {
        // The first of all is its own parent, as it is on Linux.
        let parent = mount.covers().map_or(mount.id(), |covered| covered.mount.id());
        let device = mount.root().inode.identity().0;
        out.extend(format!("{} {parent} {}:{} / ", mount.id(), device.major, device.minor).into_bytes());
        out.extend(place(&mount, &root));
        out.extend(format!(" {} - {} ", options(&mount), mount.kind()).into_bytes());
        out.extend(escaped(mount.source().as_bytes()));
        out.extend(format!(" {}\n", access(&mount)).into_bytes());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_line_is_escaped() {
        assert_eq!(escaped(b"/a b"), b"/a\\040b");
        assert_eq!(escaped(b"tab\tline\nback\\"), b"tab\\011line\\012back\\134");
        assert_eq!(escaped(b"/plain"), b"/plain");
    }
}
