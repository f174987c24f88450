//! Users, groups and capabilities: what changes them, what they allow, what an exec makes of them.

pub mod calls;
pub mod exec;
pub mod files;
pub mod permits;
pub mod users;

use std::{fs, os::unix::fs::PermissionsExt, os::unix::fs::chown};

use crate::{programs::myself, sys::Sys, syscall};

const ALL: u64 = (1 << 41) - 1;
const V1: u32 = 0x1998_0330;
const V2: u32 = 0x2007_1026;
const V3: u32 = 0x2008_0522;
/// What leaves a user or group as it is.
const KEEP: u32 = u32::MAX;
/// The user that the tests become, and another.
const USER: u32 = 1000;
const OTHER: u32 = 2000;

const CHOWN: u32 = 0;
const DAC_OVERRIDE: u32 = 1;
const DAC_READ_SEARCH: u32 = 2;
const FOWNER: u32 = 3;
const FSETID: u32 = 4;
const KILL: u32 = 5;
const SETGID: u32 = 6;
const SETUID: u32 = 7;
const SETPCAP: u32 = 8;
const SYS_CHROOT: u32 = 18;
const SYS_ADMIN: u32 = 21;
const SYS_BOOT: u32 = 22;
const SYS_NICE: u32 = 23;
const SYS_RESOURCE: u32 = 24;
const SYS_TIME: u32 = 25;
const MKNOD: u32 = 27;
const FILES: u64 = 0x1_0800_021f;

const PR_CAP_AMBIENT: i32 = 47;
const IS_SET: i32 = 1;
const RAISE: i32 = 2;
const LOWER: i32 = 3;
const CLEAR_ALL: i32 = 4;

const NO_ROOT: u32 = 1;
const NO_SETUID_FIXUP: u32 = 4;
const KEEP_CAPS: u32 = 0x10;
const KEEP_CAPS_LOCKED: u32 = 0x20;
const NO_AMBIENT_RAISE: u32 = 0x40;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

fn raw_get(version: u32, pid: i32, data: &mut [[u32; 3]; 2]) -> (Sys, u32) {
    let mut header = [version, pid.cast_unsigned()];
    let result = syscall!(SYS_capget, header.as_mut_ptr(), data.as_mut_ptr());
    (result, header[0])
}

fn get_of(pid: i32) -> Result<Sets, i32> {
    let mut data = [[0; 3]; 2];
    raw_get(V3, pid, &mut data).0?;
    let set = |i: usize| u64::from(data[1][i]) << 32 | u64::from(data[0][i]);
    Ok(Sets {
        effective: set(0),
        permitted: set(1),
        inheritable: set(2),
    })
}

fn get() -> Sets {
    get_of(0).expect("capget")
}

fn set(sets: Sets) -> Sys {
    let header = [V3, 0];
    let words = [sets.effective, sets.permitted, sets.inheritable];
    let data = [words.map(|set| set as u32), words.map(|set| (set >> 32) as u32)];
    syscall!(SYS_capset, header.as_ptr(), data.as_ptr())
}

fn prctl(operation: i32, a: u64, b: u64) -> Sys {
    syscall!(SYS_prctl, operation, a, b, 0, 0)
}

fn ambient(operation: i32, capability: u32) -> Sys {
    syscall!(SYS_prctl, PR_CAP_AMBIENT, operation, capability, 0, 0)
}

fn become_user(user: u32) {
    syscall!(SYS_setresgid, user, user, user).expect("setresgid");
    syscall!(SYS_setresuid, user, user, user).expect("setresuid");
}

/// One of the lines of a `status` file.
fn status(of: &str, line: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{of}/status")).expect("its status");
    let found = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {line} in {text}")).to_string()
}

fn shown(line: &str) -> u64 {
    u64::from_str_radix(status("self", line).trim(), 16).expect("a set")
}

fn without(capabilities: &[u32]) {
    let kept = capabilities
        .iter()
        .fold(ALL, |set, capability| set & !(1 << capability));
    set(Sets {
        effective: kept,
        permitted: ALL,
        inheritable: 0,
    })
    .expect("capset");
}

/// A copy of this program with an owner and a mode.
struct Copy(String);

impl Copy {
    fn new(place: &str, name: &str, uid: u32, gid: u32, mode: u32) -> Self {
        let path = format!("{place}/caps-{}-{name}", std::process::id());
        fs::copy(myself(), &path).expect("copy the program");
        chown(&path, Some(uid), Some(gid)).expect("chown");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        Self(path)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _left = fs::remove_file(&self.0);
    }
}

/// A file system of its own: `/tmp` may be one that forbids set-user-ID programs.
struct Mount(String);

impl Mount {
    fn new(name: &str, flags: libc::c_ulong) -> Self {
        let place = format!("/tmp/caps-{}-{name}", std::process::id());
        fs::create_dir(&place).expect("mkdir");
        let path = std::ffi::CString::new(place.as_str()).expect("no zero in it");
        syscall!(SYS_mount, c"none".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), flags, 0).expect("mount");
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).expect("chmod");
        Self(place)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let path = std::ffi::CString::new(self.0.as_str()).expect("no zero in it");
        let _left = syscall!(SYS_umount2, path.as_ptr(), libc::MNT_DETACH);
        let _left = fs::remove_dir(&self.0);
    }
}
