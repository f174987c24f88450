//! Users, groups and capabilities: what changes them, what they allow, what an exec makes of them.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    thread,
};

use crate::{
    programs::{execute, myself},
    sys::{self, Sys, fork, in_child, wait_exit},
    syscall,
};

crate::tests! { "capabilities":
    root_has_them_all;
    versions_are_told_apart;
    of_whom_is_checked;
    sets_are_only_given_up;
    sets_follow_the_user;
    sets_are_kept_on_demand;
    sets_follow_the_file_user;
    secure_bits_lock;
    the_bounding_set_shrinks;
    ambient_is_permitted_and_inheritable;
    prctl_is_checked;
    an_exec_transforms_the_sets;
    set_id_programs_gain;
    nothing_new_is_gained_once_renounced;
    a_mount_may_forbid_set_id_programs;
    gained_power_hides;
    user_zero_alone_allows_nothing;
    files_of_others_need_a_capability;
    set_group_id_needs_a_capability;
    access_goes_by_the_real_user;
    a_capability_alone_suffices;
    each_thread_has_its_own;
    users_are_changed_by_rule;
    groups_are_sorted_and_counted;
    limits_of_others_need_the_same_user;
    processes_of_a_user_are_counted;
}

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

fn root_has_them_all() {
    let sets = Sets {
        effective: ALL,
        permitted: ALL,
        inheritable: 0,
    };
    assert_eq!(get(), sets);
    assert_eq!([shown("CapInh"), shown("CapPrm"), shown("CapEff")], [0, ALL, ALL]);
    assert_eq!([shown("CapBnd"), shown("CapAmb")], [ALL, 0]);
    assert_eq!(status("self", "NoNewPrivs"), "\t0");
    assert_eq!(status("self", "Uid"), "\t0\t0\t0\t0");
    for capability in 0..=40 {
        assert_eq!(prctl(libc::PR_CAPBSET_READ, capability, 0), Ok(1), "{capability}");
    }
    assert_eq!(prctl(libc::PR_CAPBSET_READ, 41, 0), Err(libc::EINVAL));
    assert_eq!(prctl(libc::PR_CAPBSET_READ, u64::MAX, 0), Err(libc::EINVAL));
}

fn versions_are_told_apart() {
    let mut data = [[7; 3]; 2];
    assert_eq!(raw_get(V1, 0, &mut data), (Ok(0), V1));
    assert_eq!(data, [[u32::MAX, u32::MAX, 0], [7; 3]], "one word of each set");
    for version in [V2, V3] {
        let mut data = [[7; 3]; 2];
        assert_eq!(raw_get(version, 0, &mut data), (Ok(0), version));
        assert_eq!(data, [[u32::MAX, u32::MAX, 0], [0x1ff, 0x1ff, 0]]);
    }
    for version in [0, 1, u32::MAX] {
        assert_eq!(raw_get(version, 0, &mut data), (Err(libc::EINVAL), V3), "{version:#x}");
        // Who asks for nothing is told the version.
        let mut header = [version, 0];
        assert_eq!(syscall!(SYS_capget, header.as_mut_ptr(), 0), Ok(0));
        assert_eq!(header, [V3, 0]);
        let mut header = [version, 0];
        assert_eq!(
            syscall!(SYS_capset, header.as_mut_ptr(), data.as_ptr()),
            Err(libc::EINVAL)
        );
        assert_eq!(header, [V3, 0]);
    }
    in_child(|| {
        let header = [V1, 0];
        let data = [u32::MAX, u32::MAX, 0];
        assert_eq!(syscall!(SYS_capset, header.as_ptr(), data.as_ptr()), Ok(0));
        assert_eq!(
            get().permitted,
            0xffff_ffff,
            "what the first version cannot name is gone"
        );
    });
}

fn of_whom_is_checked() {
    let header = |pid: i32| [V3, pid.cast_unsigned()];
    let data = [[0u32; 3]; 2];
    assert_eq!(get_of(-1), Err(libc::EINVAL));
    assert_eq!(get_of(i32::MAX), Err(libc::ESRCH));
    assert_eq!(get_of(1).map(|sets| sets.permitted), Ok(ALL));
    let own = std::process::id() as i32;
    let set_of = |pid: i32| syscall!(SYS_capset, header(pid).as_ptr(), data.as_ptr());
    for pid in [1, -1, i32::MAX] {
        assert_eq!(set_of(pid), Err(libc::EPERM), "{pid}");
    }
    in_child(move || {
        assert_eq!(get_of(own), Ok(get()));
        assert_eq!(set_of(own), Err(libc::EPERM), "the parent's");
        assert_eq!(set_of(std::process::id() as i32), Ok(0));
        assert_eq!(get(), Sets::default());
    });
    let mut good = header(0);
    assert_eq!(syscall!(SYS_capget, 8, good.as_mut_ptr()), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_capget, good.as_mut_ptr(), 8), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_capset, good.as_mut_ptr(), 8), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_capset, good.as_mut_ptr(), 0), Err(libc::EFAULT));
}

fn sets_are_only_given_up() {
    in_child(|| {
        let bit = 1 << KILL;
        let refused = Sets {
            effective: ALL,
            permitted: ALL & !bit,
            inheritable: 0,
        };
        assert_eq!(set(refused), Err(libc::EPERM), "effective, not permitted");
        let less = Sets {
            effective: 0,
            permitted: ALL & !bit,
            inheritable: bit,
        };
        // CAP_SETPCAP was effective: inheritable may be what is of the bounding set.
        assert_eq!(set(less), Ok(0));
        assert_eq!(get(), less);
        assert_eq!(set(Sets { permitted: ALL, ..less }), Err(libc::EPERM));
        // Bits beyond the last are nobody's.
        assert_eq!(
            set(Sets {
                permitted: less.permitted | 1 << 63,
                ..less
            }),
            Ok(0)
        );
        assert_eq!(get(), less);
        let none = Sets {
            permitted: 0,
            inheritable: 0,
            effective: 0,
        };
        assert_eq!(set(none), Ok(0));
        assert_eq!(
            set(Sets {
                inheritable: 1 << CHOWN,
                ..none
            }),
            Err(libc::EPERM)
        );
    });
}

fn sets_follow_the_user() {
    in_child(|| {
        syscall!(SYS_setresuid, KEEP, USER, KEEP).expect("setresuid");
        assert_eq!((get().effective, get().permitted), (0, ALL), "effective follows");
        syscall!(SYS_setresuid, KEEP, 0, KEEP).expect("setresuid");
        assert_eq!((get().effective, get().permitted), (ALL, ALL));
        become_user(USER);
        assert_eq!(get(), Sets::default());
        assert_eq!(status("self", "Uid"), format!("\t{USER}\t{USER}\t{USER}\t{USER}"));
        assert_eq!(status("self", "Gid"), format!("\t{USER}\t{USER}\t{USER}\t{USER}"));
    });
    in_child(|| {
        // A saved 0 is enough to keep what is permitted.
        syscall!(SYS_setresuid, USER, USER, 0).expect("setresuid");
        assert_eq!((get().effective, get().permitted), (0, ALL));
        syscall!(SYS_setuid, 0).expect("setuid");
        assert_eq!(get().effective, ALL);
    });
}

fn sets_are_kept_on_demand() {
    in_child(|| {
        assert_eq!(prctl(libc::PR_GET_KEEPCAPS, 0, 0), Ok(0));
        assert_eq!(prctl(libc::PR_SET_KEEPCAPS, 2, 0), Err(libc::EINVAL));
        prctl(libc::PR_SET_KEEPCAPS, 1, 0).expect("PR_SET_KEEPCAPS");
        assert_eq!(prctl(libc::PR_GET_KEEPCAPS, 0, 0), Ok(1));
        assert_eq!(prctl(libc::PR_GET_SECUREBITS, 0, 0), Ok(KEEP_CAPS as usize));
        become_user(USER);
        assert_eq!((get().effective, get().permitted), (0, ALL));
    });
    in_child(|| {
        prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP.into(), 0).expect("PR_SET_SECUREBITS");
        become_user(USER);
        assert_eq!((get().effective, get().permitted), (ALL, ALL));
    });
}

fn sets_follow_the_file_user() {
    in_child(|| {
        assert_eq!(syscall!(SYS_setfsuid, USER), Ok(0));
        assert_eq!(get().effective, ALL & !FILES);
        assert_eq!(syscall!(SYS_setfsuid, u32::MAX), Ok(USER as usize), "no user");
        assert_eq!(syscall!(SYS_setfsuid, 0), Ok(USER as usize));
        assert_eq!(get().effective, ALL);
        syscall!(SYS_setfsgid, USER).expect("setfsgid");
        assert_eq!(get().effective, ALL);
        become_user(USER);
        assert_eq!(syscall!(SYS_setfsuid, OTHER), Ok(USER as usize));
        assert_eq!(syscall!(SYS_setfsuid, u32::MAX), Ok(USER as usize), "it stayed");
    });
}

fn secure_bits_lock() {
    in_child(|| {
        let put = |bits: u32| prctl(libc::PR_SET_SECUREBITS, bits.into(), 0);
        assert_eq!(put(0x100), Err(libc::EPERM), "no such bit");
        assert_eq!(put(KEEP_CAPS_LOCKED), Ok(0));
        assert_eq!(put(KEEP_CAPS_LOCKED | KEEP_CAPS), Err(libc::EPERM));
        assert_eq!(put(0), Err(libc::EPERM));
        assert_eq!(prctl(libc::PR_SET_KEEPCAPS, 1, 0), Err(libc::EPERM));
        assert_eq!(put(KEEP_CAPS_LOCKED | NO_ROOT), Ok(0));
        without(&[SETPCAP]);
        assert_eq!(put(KEEP_CAPS_LOCKED), Err(libc::EPERM));
        assert_eq!(
            prctl(libc::PR_GET_SECUREBITS, 0, 0),
            Ok((KEEP_CAPS_LOCKED | NO_ROOT) as usize)
        );
    });
}

fn the_bounding_set_shrinks() {
    in_child(|| {
        prctl(libc::PR_CAPBSET_DROP, KILL.into(), 0).expect("PR_CAPBSET_DROP");
        assert_eq!(prctl(libc::PR_CAPBSET_READ, KILL.into(), 0), Ok(0));
        assert_eq!(shown("CapBnd"), ALL & !(1 << KILL));
        assert_eq!(prctl(libc::PR_CAPBSET_DROP, 41, 0), Err(libc::EINVAL));
        assert_eq!(get().permitted, ALL, "what is had stays");
        assert_eq!(
            set(Sets {
                inheritable: 1 << KILL,
                ..get()
            }),
            Err(libc::EPERM)
        );
        without(&[SETPCAP]);
        assert_eq!(prctl(libc::PR_CAPBSET_DROP, CHOWN.into(), 0), Err(libc::EPERM));
        assert_eq!(prctl(libc::PR_CAPBSET_DROP, 41, 0), Err(libc::EPERM));
    });
}

fn ambient_is_permitted_and_inheritable() {
    in_child(|| {
        assert_eq!(ambient(RAISE, KILL), Err(libc::EPERM), "not inheritable");
        let both = Sets {
            inheritable: 1 << KILL | 1 << CHOWN,
            ..get()
        };
        set(both).expect("capset");
        assert_eq!(ambient(IS_SET, KILL), Ok(0));
        assert_eq!(ambient(RAISE, KILL), Ok(0));
        assert_eq!(ambient(RAISE, CHOWN), Ok(0));
        assert_eq!(ambient(IS_SET, KILL), Ok(1));
        assert_eq!(shown("CapAmb"), 1 << KILL | 1 << CHOWN);
        assert_eq!(ambient(LOWER, CHOWN), Ok(0));
        assert_eq!(shown("CapAmb"), 1 << KILL);
        set(Sets { inheritable: 0, ..both }).expect("capset");
        assert_eq!(ambient(IS_SET, KILL), Ok(0), "no longer inheritable");
        set(both).expect("capset");
        assert_eq!(ambient(RAISE, KILL), Ok(0));
        assert_eq!(ambient(CLEAR_ALL, 1), Err(libc::EINVAL));
        assert_eq!(ambient(CLEAR_ALL, 0), Ok(0));
        assert_eq!(shown("CapAmb"), 0);
        for operation in [RAISE, LOWER, IS_SET] {
            assert_eq!(ambient(operation, 41), Err(libc::EINVAL));
        }
        assert_eq!(ambient(0, KILL), Err(libc::EINVAL));
        assert_eq!(ambient(5, KILL), Err(libc::EINVAL));
        assert_eq!(
            syscall!(SYS_prctl, PR_CAP_AMBIENT, RAISE, KILL, 1, 0),
            Err(libc::EINVAL)
        );
        prctl(libc::PR_SET_SECUREBITS, NO_AMBIENT_RAISE.into(), 0).expect("PR_SET_SECUREBITS");
        assert_eq!(ambient(RAISE, KILL), Err(libc::EPERM));
        // It goes with user 0, even where the rest is kept.
        prctl(libc::PR_SET_SECUREBITS, KEEP_CAPS.into(), 0).expect("PR_SET_SECUREBITS");
        assert_eq!(ambient(RAISE, KILL), Ok(0));
        become_user(USER);
        assert_eq!((get().permitted, shown("CapAmb")), (ALL, 0));
    });
}

fn prctl_is_checked() {
    in_child(|| {
        assert_eq!(prctl(libc::PR_SET_NO_NEW_PRIVS, 0, 0), Err(libc::EINVAL));
        assert_eq!(prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 1), Err(libc::EINVAL));
        assert_eq!(prctl(libc::PR_GET_NO_NEW_PRIVS, 1, 0), Err(libc::EINVAL));
        assert_eq!(prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0), Ok(0));
        assert_eq!(prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0), Ok(0));
        assert_eq!(prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0), Ok(1));
        assert_eq!(status("self", "NoNewPrivs"), "\t1");
        for value in [2, 3, u64::MAX] {
            assert_eq!(prctl(libc::PR_SET_DUMPABLE, value, 0), Err(libc::EINVAL));
        }
        assert_eq!(prctl(libc::PR_GET_DUMPABLE, 0, 0), Ok(1));
        assert_eq!(prctl(libc::PR_SET_DUMPABLE, 0, 0), Ok(0));
        assert_eq!(prctl(libc::PR_GET_DUMPABLE, 0, 0), Ok(0));
        in_child(|| {
            assert_eq!(prctl(libc::PR_GET_DUMPABLE, 0, 0), Ok(0), "a child's is the parent's");
            assert_eq!(prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0), Ok(1));
        });
    });
}

/// What an exec decides on, in words.
pub fn describe() -> String {
    let words = |call: fn(*mut u32, *mut u32, *mut u32) -> Sys| {
        let mut ids = [0u32; 3];
        let [a, b, c] = &mut ids;
        call(a, b, c).expect("getres");
        format!("{} {} {}", ids[0], ids[1], ids[2])
    };
    let sets = get();
    format!(
        "{}|{}|{:x} {:x} {:x} {:x}|{} {} {}|{:x}",
        words(|a, b, c| syscall!(SYS_getresuid, a, b, c)),
        words(|a, b, c| syscall!(SYS_getresgid, a, b, c)),
        sets.permitted,
        sets.effective,
        sets.inheritable,
        shown("CapAmb"),
        sys::auxiliary(libc::AT_SECURE),
        prctl(libc::PR_GET_DUMPABLE, 0, 0).expect("PR_GET_DUMPABLE"),
        prctl(libc::PR_GET_SECUREBITS, 0, 0).expect("PR_GET_SECUREBITS"),
        syscall!(SYS_personality, u32::MAX).expect("personality"),
    )
}

/// The other side of [`becomes`].
pub fn after_exec(expected: &str) -> bool {
    let found = describe();
    if found != expected {
        eprintln!("after exec: {found}, not {expected}");
    }
    found == expected
}

/// What `program` finds itself to be, started after `before`.
#[track_caller]
fn becomes(program: &str, before: impl FnOnce(), expected: &str) {
    let status = wait_exit(fork(|| {
        before();
        execute(program, &["tests", "helper", "identity", expected])
    }));
    assert_eq!(status, 0, "{expected}");
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

fn an_exec_transforms_the_sets() {
    let copy = Copy::new("/tmp", "plain", 0, 0, 0o755);
    let program = copy.0.as_str();
    let a = format!("{ALL:x}");
    let plain = |uid: u32, sets: &str, rest: &str| format!("{uid} {uid} {uid}|{uid} {uid} {uid}|{sets}|{rest}|0");
    becomes(program, || (), &plain(0, &format!("{a} {a} 0 0"), "0 1 0"));
    becomes(program, || become_user(USER), &plain(USER, "0 0 0 0", "0 1 0"));
    // Kept until the exec only, and so is the bit.
    becomes(
        program,
        || {
            prctl(libc::PR_SET_KEEPCAPS, 1, 0).expect("PR_SET_KEEPCAPS");
            become_user(USER);
        },
        &plain(USER, "0 0 0 0", "0 1 0"),
    );
    let raise = || {
        set(Sets {
            inheritable: 1 << KILL | 1 << CHOWN,
            ..get()
        })
        .expect("capset");
    };
    // What is ambient is kept, what is inheritable stays so.
    becomes(
        program,
        || {
            raise();
            prctl(libc::PR_SET_KEEPCAPS, 1, 0).expect("PR_SET_KEEPCAPS");
            become_user(USER);
            ambient(RAISE, KILL).expect("PR_CAP_AMBIENT_RAISE");
        },
        &plain(USER, "20 20 21 20", "0 1 0"),
    );
    // Root gets the bounding set, and what is inheritable beside it.
    let less = format!("{:x}", ALL & !(1 << CHOWN));
    becomes(
        program,
        || {
            prctl(libc::PR_CAPBSET_DROP, CHOWN.into(), 0).expect("PR_CAPBSET_DROP");
        },
        &plain(0, &format!("{less} {less} 0 0"), "0 1 0"),
    );
    becomes(
        program,
        || {
            raise();
            prctl(libc::PR_CAPBSET_DROP, CHOWN.into(), 0).expect("PR_CAPBSET_DROP");
        },
        &plain(0, &format!("{a} {a} 21 0"), "0 1 0"),
    );
    // Given up by root, back by the exec; not where user 0 is nobody special.
    becomes(
        program,
        || set(Sets::default()).map(drop).expect("capset"),
        &plain(0, &format!("{a} {a} 0 0"), "0 0 0"),
    );
    becomes(
        program,
        || {
            prctl(libc::PR_SET_SECUREBITS, NO_ROOT.into(), 0).expect("PR_SET_SECUREBITS");
        },
        &plain(0, "0 0 0 0", "0 1 1"),
    );
    // Only the real user is 0: permitted, not effective.
    becomes(
        program,
        || {
            syscall!(SYS_setresuid, KEEP, USER, KEEP).expect("setresuid");
        },
        &format!("0 {USER} {USER}|0 0 0|{a} 0 0 0|1 0 0|0"),
    );
    // Only the effective one is.
    becomes(
        program,
        || {
            syscall!(SYS_setresuid, USER, 0, 0).expect("setresuid");
        },
        &format!("{USER} 0 0|0 0 0|{a} {a} 0 0|1 0 0|0"),
    );
}

fn set_id_programs_gain() {
    let a = format!("{ALL:x}");
    let mount = Mount::new("allows", 0);
    let place = mount.0.as_str();
    let root = Copy::new(place, "root", 0, 0, 0o4755);
    let own_group = |rest: &str| format!("{USER} {rest}");
    becomes(
        &root.0,
        || become_user(USER),
        &own_group(&format!("0 0|{USER} {USER} {USER}|{a} {a} 0 0|1 0 0|0")),
    );
    // Dangerous parts of the personality go, others stay.
    becomes(
        &root.0,
        || {
            syscall!(SYS_personality, 0x0004_0000 | 0x0800_0000).expect("personality");
            become_user(USER);
        },
        &own_group(&format!("0 0|{USER} {USER} {USER}|{a} {a} 0 0|1 0 0|8000000")),
    );
    let other = Copy::new(place, "other", OTHER, OTHER, 0o6755);
    becomes(
        &other.0,
        || become_user(USER),
        &own_group(&format!("{OTHER} {OTHER}|{USER} {OTHER} {OTHER}|0 0 0 0|1 0 0|0")),
    );
    // Root that becomes another keeps what the real user is entitled to, but not effective.
    becomes(
        &other.0,
        || (),
        &format!("0 {OTHER} {OTHER}|0 {OTHER} {OTHER}|{a} 0 0 0|1 0 0|0"),
    );
    // Without the right to execute for the group the bit means something else.
    let mandatory = Copy::new(place, "mandatory", OTHER, OTHER, 0o2745);
    becomes(
        &mandatory.0,
        || become_user(USER),
        &own_group(&format!("{USER} {USER}|{USER} {USER} {USER}|0 0 0 0|0 1 0|0")),
    );
    // What is ambient does not outlive a change of user.
    becomes(
        &other.0,
        || {
            set(Sets {
                inheritable: 1 << KILL,
                ..get()
            })
            .expect("capset");
            prctl(libc::PR_SET_KEEPCAPS, 1, 0).expect("PR_SET_KEEPCAPS");
            become_user(USER);
            ambient(RAISE, KILL).expect("PR_CAP_AMBIENT_RAISE");
        },
        &own_group(&format!("{OTHER} {OTHER}|{USER} {OTHER} {OTHER}|0 0 20 0|1 0 0|0")),
    );
}

fn nothing_new_is_gained_once_renounced() {
    let mount = Mount::new("renounced", 0);
    let root = Copy::new(&mount.0, "renounced", 0, 0, 0o4755);
    let renounce = || {
        prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).expect("PR_SET_NO_NEW_PRIVS");
    };
    becomes(
        &root.0,
        || {
            renounce();
            become_user(USER);
        },
        &format!("{USER} {USER} {USER}|{USER} {USER} {USER}|0 0 0 0|0 1 0|0"),
    );
    // Root that has given up a capability does not get it back.
    let less = format!("{:x}", ALL & !(1 << KILL));
    becomes(
        &root.0,
        || {
            renounce();
            set(Sets {
                effective: 0,
                permitted: ALL & !(1 << KILL),
                inheritable: 0,
            })
            .expect("capset");
        },
        &format!("0 0 0|0 0 0|{less} {less} 0 0|0 1 0|0"),
    );
}

fn a_mount_may_forbid_set_id_programs() {
    let mount = Mount::new("forbids", libc::MS_NOSUID);
    let root = Copy::new(&mount.0, "root", 0, 0, 0o6755);
    becomes(
        &root.0,
        || become_user(USER),
        &format!("{USER} {USER} {USER}|{USER} {USER} {USER}|0 0 0 0|0 1 0|0"),
    );
}

fn gained_power_hides() {
    in_child(|| {
        let dumpable = || prctl(libc::PR_GET_DUMPABLE, 0, 0);
        prctl(libc::PR_SET_PDEATHSIG, 10, 0).expect("PR_SET_PDEATHSIG");
        let death = || {
            let mut signo = -1i32;
            syscall!(SYS_prctl, libc::PR_GET_PDEATHSIG, &raw mut signo, 0, 0, 0).expect("PR_GET_PDEATHSIG");
            signo
        };
        syscall!(SYS_setresuid, USER, KEEP, KEEP).expect("setresuid");
        assert_eq!((dumpable(), death()), (Ok(1), 10), "the real user is nobody's business");
        assert_eq!(fs::metadata("/proc/self/status").expect("stat").uid(), 0);
        syscall!(SYS_setresuid, KEEP, USER, KEEP).expect("setresuid");
        assert_eq!((dumpable(), death()), (Ok(0), 0));
        assert_eq!(fs::metadata("/proc/self/status").expect("stat").uid(), 0, "root's");
        assert_eq!(fs::metadata("/proc/self").expect("stat").uid(), USER);
        prctl(libc::PR_SET_DUMPABLE, 1, 0).expect("PR_SET_DUMPABLE");
        assert_eq!(fs::metadata("/proc/self/status").expect("stat").uid(), USER);
        // Less is no reason.
        set(Sets::default()).expect("capset");
        assert_eq!(dumpable(), Ok(1));
        // Nor is what was so before.
        syscall!(SYS_setresuid, USER, USER, USER).expect("setresuid");
        assert_eq!(dumpable(), Ok(1));
    });
}

/// What each capability is asked for, tried by user 0 without it.
fn user_zero_alone_allows_nothing() {
    let file = format!("/tmp/caps-{}-file", std::process::id());
    fs::write(&file, b"x").expect("write");
    chown(&file, Some(OTHER), Some(OTHER)).expect("chown");
    let path = std::ffi::CString::new(file.as_str()).expect("no zero in it");
    let node = std::ffi::CString::new(format!("{file}-node")).expect("no zero in it");
    let victim = fork(|| {
        become_user(OTHER);
        loop {
            sys::sleep_ms(1000);
        }
    });
    while status(&victim.to_string(), "Uid") != format!("\t{OTHER}\t{OTHER}\t{OTHER}\t{OTHER}") {
        sys::sleep_ms(1);
    }
    let refused = |capability: u32, call: &dyn Fn() -> Sys, errno: i32| {
        in_child(|| {
            without(&[capability]);
            assert_eq!(call(), Err(errno), "without {capability}");
        });
    };
    refused(
        CHOWN,
        &|| syscall!(SYS_fchownat, libc::AT_FDCWD, path.as_ptr(), 1, 1, 0),
        libc::EPERM,
    );
    refused(
        FOWNER,
        &|| syscall!(SYS_fchmodat, libc::AT_FDCWD, path.as_ptr(), 0o600),
        libc::EPERM,
    );
    refused(KILL, &|| syscall!(SYS_kill, victim, 0), libc::EPERM);
    refused(
        KILL,
        &|| syscall!(SYS_tgkill, victim, victim, libc::SIGUSR1),
        libc::EPERM,
    );
    refused(SETUID, &|| syscall!(SYS_setresuid, 1, 1, 1), libc::EPERM);
    refused(SETUID, &|| syscall!(SYS_setuid, 1), libc::EPERM);
    refused(SETGID, &|| syscall!(SYS_setresgid, 1, 1, 1), libc::EPERM);
    refused(SETGID, &|| syscall!(SYS_setgroups, 0, 0), libc::EPERM);
    refused(SYS_CHROOT, &|| syscall!(SYS_chroot, c"/".as_ptr()), libc::EPERM);
    refused(SYS_ADMIN, &|| syscall!(SYS_sethostname, c"x".as_ptr(), 1), libc::EPERM);
    refused(SYS_ADMIN, &|| syscall!(SYS_umount2, c"/".as_ptr(), 0), libc::EPERM);
    refused(SYS_BOOT, &|| syscall!(SYS_reboot, 1, 2, 3, 0), libc::EPERM);
    refused(SYS_NICE, &|| syscall!(SYS_setpriority, 0, victim, 5), libc::EPERM);
    refused(SYS_NICE, &|| syscall!(SYS_setpriority, 0, 0, KEEP), libc::EACCES);
    let priority = 1u32;
    refused(
        SYS_NICE,
        &|| syscall!(SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &raw const priority),
        libc::EPERM,
    );
    let time = sys::timespec(1_000_000_000);
    refused(
        SYS_TIME,
        &|| syscall!(SYS_clock_settime, libc::CLOCK_REALTIME, &raw const time),
        libc::EPERM,
    );
    refused(
        MKNOD,
        &|| syscall!(SYS_mknodat, libc::AT_FDCWD, node.as_ptr(), libc::S_IFCHR | 0o600, 0x103),
        libc::EPERM,
    );
    let high = [u64::MAX - 1, u64::MAX - 1];
    in_child(|| {
        let low = [1u64 << 20, 1 << 20];
        let limit = |of: i32, new: *const u64| syscall!(SYS_prlimit64, of, libc::RLIMIT_FSIZE, new, 0);
        assert_eq!(limit(0, low.as_ptr()), Ok(0));
        without(&[SYS_RESOURCE]);
        assert_eq!(limit(0, high.as_ptr()), Err(libc::EPERM));
        assert_eq!(limit(victim, low.as_ptr()), Err(libc::EPERM));
    });
    sys::kill(victim, libc::SIGKILL).expect("kill");
    sys::wait_killed(victim);
    fs::remove_file(&file).expect("unlink");
}

fn files_of_others_need_a_capability() {
    let place = format!("/tmp/caps-{}-dir", std::process::id());
    let file = format!("{place}/file");
    fs::create_dir(&place).expect("mkdir");
    fs::write(&file, b"x").expect("write");
    for path in [&file, &place] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o0)).expect("chmod");
        chown(path, Some(OTHER), Some(OTHER)).expect("chown");
    }
    let errno = |result: std::io::Result<()>| result.err().map(|error| error.raw_os_error());
    let read = |path: &str| errno(fs::read(path).map(drop));
    let append = |path: &str| errno(fs::OpenOptions::new().append(true).open(path).map(drop));
    let denied = Some(Some(libc::EACCES));
    in_child(|| {
        without(&[DAC_OVERRIDE]);
        assert_eq!(read(&file), None, "to search and to read is enough");
        assert_eq!(append(&file), denied);
        assert_eq!(errno(fs::read_dir(&place).map(drop)), None);
        assert_eq!(errno(fs::remove_file(&file)), denied);
        assert_eq!(execute_error(&file), libc::EACCES);
    });
    in_child(|| {
        without(&[DAC_READ_SEARCH]);
        assert_eq!((read(&file), append(&file)), (None, None));
        assert_eq!(execute_error(&file), libc::EACCES, "executable for nobody");
    });
    in_child(|| {
        without(&[DAC_OVERRIDE, DAC_READ_SEARCH]);
        assert_eq!((read(&file), append(&file)), (denied, denied));
        assert_eq!(errno(fs::read_dir(&place).map(drop)), denied);
    });
    in_child(|| {
        // The owner's rights count for the file-system user.
        fs::set_permissions(&place, fs::Permissions::from_mode(0o1777)).expect("chmod");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
        syscall!(SYS_setfsuid, USER).expect("setfsuid");
        assert_eq!(read(&file), denied);
        assert_eq!(errno(fs::remove_file(&file)), Some(Some(libc::EPERM)), "sticky");
        syscall!(SYS_setfsuid, OTHER).expect("setfsuid");
        assert_eq!(read(&file), None);
        assert_eq!(errno(fs::remove_file(&file)), None);
    });
    fs::remove_dir(&place).expect("rmdir");
}

/// What execve fails with.
fn execute_error(path: &str) -> i32 {
    let path = std::ffi::CString::new(path).expect("no zero in it");
    let none = [std::ptr::null::<libc::c_char>(); 1];
    syscall!(SYS_execve, path.as_ptr(), none.as_ptr(), none.as_ptr()).expect_err("execve came back")
}

fn set_group_id_needs_a_capability() {
    let file = format!("/tmp/caps-{}-group", std::process::id());
    fs::write(&file, b"x").expect("write");
    let mode = || fs::metadata(&file).expect("stat").mode() & 0o7777;
    let change = |to: u32| fs::set_permissions(&file, fs::Permissions::from_mode(to)).expect("chmod");
    chown(&file, None, Some(OTHER)).expect("chown");
    in_child(|| {
        change(0o2755);
        assert_eq!(mode(), 0o2755);
        without(&[FSETID]);
        change(0o2755);
        assert_eq!(mode(), 0o755, "not of the group");
    });
    in_child(|| {
        change(0o6755);
        chown(&file, None, Some(OTHER)).expect("chown");
        assert_eq!(mode(), 0o755, "whoever it is");
        change(0o644);
    });
    in_child(|| {
        // Nothing is asked of who asks for nothing.
        become_user(USER);
        assert!(chown(&file, None, None).is_ok());
        assert!(chown(&file, Some(0), None).is_err(), "not even what it is");
    });
    fs::remove_file(&file).expect("unlink");
}

fn access_goes_by_the_real_user() {
    let file = format!("/tmp/caps-{}-access", std::process::id());
    fs::write(&file, b"x").expect("write");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
    let path = std::ffi::CString::new(file.as_str()).expect("no zero in it");
    let real = || syscall!(SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::R_OK);
    let effective = || {
        syscall!(
            SYS_faccessat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::R_OK,
            libc::AT_EACCESS
        )
    };
    in_child(|| {
        syscall!(SYS_setresuid, USER, 0, 0).expect("setresuid");
        assert_eq!((real(), effective()), (Err(libc::EACCES), Ok(0)));
    });
    in_child(|| {
        chown(&file, Some(OTHER), None).expect("chown");
        without(&[DAC_OVERRIDE, DAC_READ_SEARCH]);
        // The real user is root: what is permitted counts.
        assert_eq!((real(), effective()), (Ok(0), Err(libc::EACCES)));
        syscall!(SYS_setresuid, KEEP, USER, KEEP).expect("setresuid");
        assert_eq!((real(), effective()), (Ok(0), Err(libc::EACCES)));
    });
    fs::remove_file(&file).expect("unlink");
}

fn a_capability_alone_suffices() {
    let victim = fork(|| {
        loop {
            sys::sleep_ms(1000);
        }
    });
    in_child(|| {
        prctl(libc::PR_SET_KEEPCAPS, 1, 0).expect("PR_SET_KEEPCAPS");
        become_user(USER);
        assert_eq!(sys::kill(victim, 0), Err(libc::EPERM));
        let only = |capability: u32| {
            set(Sets {
                effective: 1 << capability,
                permitted: ALL,
                inheritable: 0,
            })
            .expect("capset");
        };
        only(KILL);
        assert_eq!(sys::kill(victim, 0), Ok(0));
        only(SYS_NICE);
        assert_eq!(syscall!(SYS_setpriority, 0, victim, 3), Ok(0));
        assert_eq!(sys::kill(victim, 0), Err(libc::EPERM));
        only(SYS_CHROOT);
        assert_eq!(syscall!(SYS_chroot, c"/".as_ptr()), Ok(0));
        only(SETGID);
        assert_eq!(syscall!(SYS_setgroups, 1, [OTHER].as_ptr()), Ok(0));
        only(SETUID);
        assert_eq!(syscall!(SYS_setresuid, OTHER, OTHER, OTHER), Ok(0));
        assert_eq!(
            (get().effective, get().permitted),
            (1 << SETUID, ALL),
            "no user 0 was left"
        );
        assert_eq!(syscall!(SYS_setresuid, 0, 0, 0), Ok(0));
        assert_eq!(get().effective, ALL);
    });
    sys::kill(victim, libc::SIGKILL).expect("kill");
    sys::wait_killed(victim);
}

fn each_thread_has_its_own() {
    in_child(|| {
        let pid = std::process::id();
        thread::spawn(move || {
            syscall!(SYS_setresuid, USER, USER, USER).expect("setresuid");
            assert_eq!(get(), Sets::default());
            let tid = syscall!(SYS_gettid).expect("gettid");
            assert_eq!(
                status(&format!("{pid}/task/{tid}"), "Uid"),
                format!("\t{USER}\t{USER}\t{USER}\t{USER}")
            );
            assert_eq!(status(&format!("{pid}/task/{tid}"), "Pid"), format!("\t{tid}"));
            assert_eq!(status(&format!("{pid}/task/{tid}"), "Tgid"), format!("\t{pid}"));
            assert_eq!(status(&pid.to_string(), "Uid"), "\t0\t0\t0\t0");
            assert_eq!(syscall!(SYS_chroot, c"/".as_ptr()), Err(libc::EPERM));
            assert_eq!(get_of(pid as i32).map(|sets| sets.permitted), Ok(ALL));
            // What it starts is as it is.
            in_child(|| assert_eq!(syscall!(SYS_getuid), Ok(USER as usize)));
            let started = thread::spawn(|| syscall!(SYS_getuid));
            assert_eq!(started.join().expect("the thread"), Ok(USER as usize));
        })
        .join()
        .expect("the thread");
        assert_eq!(syscall!(SYS_getuid), Ok(0));
        assert_eq!(get().effective, ALL);
    });
    // Who execs is who the program is of.
    let copy = Copy::new("/tmp", "thread", 0, 0, 0o755);
    let path = copy.0.clone();
    let expected = format!("{USER} {USER} {USER}|{USER} {USER} {USER}|0 0 0 0|0 1 0|0");
    let status = wait_exit(fork(|| {
        let (path, expected) = (path.clone(), expected.clone());
        thread::spawn(move || {
            become_user(USER);
            execute(&path, &["tests", "helper", "identity", &expected])
        })
        .join()
        .expect("the thread")
    }));
    assert_eq!(status, 0);
}

fn ids(call: impl Fn(*mut u32, *mut u32, *mut u32) -> Sys) -> [u32; 3] {
    let mut ids = [0u32; 3];
    let [a, b, c] = &mut ids;
    call(a, b, c).expect("getres");
    ids
}

fn users_are_changed_by_rule() {
    let users = || ids(|a, b, c| syscall!(SYS_getresuid, a, b, c));
    let groups = || ids(|a, b, c| syscall!(SYS_getresgid, a, b, c));
    assert_eq!(syscall!(SYS_setuid, KEEP), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_setgid, KEEP), Err(libc::EINVAL));
    in_child(|| {
        syscall!(SYS_setresgid, 1, 2, 3).expect("setresgid");
        syscall!(SYS_setresuid, 1, 2, 3).expect("setresuid");
        assert_eq!((users(), groups()), ([1, 2, 3], [1, 2, 3]));
        // The saved one may become effective, never real.
        assert_eq!(syscall!(SYS_setreuid, 3, KEEP), Err(libc::EPERM));
        assert_eq!(syscall!(SYS_setregid, 3, KEEP), Err(libc::EPERM));
        assert_eq!(syscall!(SYS_setreuid, KEEP, 3), Ok(0));
        assert_eq!(users(), [1, 3, 3], "and is saved, since it is not the real one");
        assert_eq!(syscall!(SYS_setreuid, KEEP, 1), Ok(0));
        assert_eq!(users(), [1, 1, 3]);
        assert_eq!(syscall!(SYS_setresuid, 1, 4, 1), Err(libc::EPERM));
        assert_eq!(users(), [1, 1, 3], "nothing of it");
        assert_eq!(syscall!(SYS_setuid, 3), Ok(0));
        assert_eq!(users(), [1, 3, 3], "without the right only the effective one");
        assert_eq!(syscall!(SYS_setuid, 2), Err(libc::EPERM), "neither real nor saved");
        assert_eq!(syscall!(SYS_setregid, 2, 1), Ok(0));
        assert_eq!(groups(), [2, 1, 1]);
        assert_eq!(syscall!(SYS_setgid, 3), Err(libc::EPERM));
        assert_eq!(syscall!(SYS_setgid, 2), Ok(0));
        assert_eq!(groups(), [2, 2, 1]);
    });
}

fn groups_are_sorted_and_counted() {
    in_child(|| {
        let groups = [30u32, 10, 20, 10];
        syscall!(SYS_setgroups, 4, groups.as_ptr()).expect("setgroups");
        let mut out = [0u32; 5];
        assert_eq!(syscall!(SYS_getgroups, 0, 0), Ok(4));
        assert_eq!(syscall!(SYS_getgroups, 3, out.as_mut_ptr()), Err(libc::EINVAL));
        assert_eq!(syscall!(SYS_getgroups, i32::MIN, out.as_mut_ptr()), Err(libc::EINVAL));
        assert_eq!(syscall!(SYS_getgroups, 4, 8), Err(libc::EFAULT));
        assert_eq!(syscall!(SYS_getgroups, 5, out.as_mut_ptr()), Ok(4));
        assert_eq!(out, [10, 10, 20, 30, 0]);
        assert_eq!(status("self", "Groups"), "\t10 10 20 30 ");
        assert_eq!(syscall!(SYS_setgroups, 65537, groups.as_ptr()), Err(libc::EINVAL));
        assert_eq!(syscall!(SYS_setgroups, 4, 8), Err(libc::EFAULT));
        let bad = [1, u32::MAX];
        assert_eq!(syscall!(SYS_setgroups, 2, bad.as_ptr()), Err(libc::EINVAL));
        assert_eq!(syscall!(SYS_getgroups, 0, 0), Ok(4), "nothing of it");
        let many: Vec<u32> = (0..65536).collect();
        assert_eq!(syscall!(SYS_setgroups, many.len(), many.as_ptr()), Ok(0));
        assert_eq!(syscall!(SYS_getgroups, 0, 0), Ok(65536));
        in_child(|| assert_eq!(syscall!(SYS_getgroups, 0, 0), Ok(65536)));
        assert_eq!(syscall!(SYS_setgroups, 0, 0), Ok(0));
        assert_eq!(syscall!(SYS_getgroups, 0, 0), Ok(0));
    });
}

fn limits_of_others_need_the_same_user() {
    let victim = fork(|| {
        become_user(OTHER);
        loop {
            sys::sleep_ms(1000);
        }
    });
    while status(&victim.to_string(), "Uid") != format!("\t{OTHER}\t{OTHER}\t{OTHER}\t{OTHER}") {
        sys::sleep_ms(1);
    }
    let mut old = [0u64; 2];
    let mut look = |of: i32| syscall!(SYS_prlimit64, of, libc::RLIMIT_NOFILE, 0, old.as_mut_ptr());
    assert_eq!(look(victim), Ok(0));
    assert_eq!(look(i32::MAX), Err(libc::ESRCH));
    in_child(|| {
        syscall!(SYS_setresuid, OTHER, OTHER, OTHER).expect("setresuid");
        assert_eq!(look(victim), Err(libc::EPERM), "another group");
        assert_eq!(
            syscall!(SYS_setpriority, 0, victim, 1),
            Ok(0),
            "which does not matter here"
        );
        assert_eq!(syscall!(SYS_setpriority, 0, victim, 0), Err(libc::EACCES));
    });
    in_child(|| {
        become_user(OTHER);
        assert_eq!(look(victim), Ok(0));
        assert_eq!(look(1), Err(libc::EPERM));
        assert_eq!(sys::kill(victim, 0), Ok(0));
        // Some of all: what may not be changed does not spare the rest.
        assert_eq!(syscall!(SYS_setpriority, libc::PRIO_USER, OTHER, 4), Ok(0));
        assert_eq!(syscall!(SYS_getpriority, 0, victim), Ok(16));
    });
    sys::kill(victim, libc::SIGKILL).expect("kill");
    sys::wait_killed(victim);
}

fn processes_of_a_user_are_counted() {
    in_child(|| {
        let limit = [2u64, 2];
        syscall!(SYS_prlimit64, 0, libc::RLIMIT_NPROC, limit.as_ptr(), 0).expect("prlimit64");
        // Root's own are not counted against it.
        assert_eq!(wait_exit(fork(|| 3)), 3);
        become_user(OTHER + 1);
        let held = sys::try_fork(|| {
            // The second of this user.
            assert_eq!(sys::try_fork(|| 0), Err(libc::EAGAIN));
            4
        });
        assert_eq!(wait_exit(held.expect("the second")), 4);
    });
}
