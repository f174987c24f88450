//! Capabilities of files: `security.capability`.

use std::{
    ffi::CString,
    fs,
    os::unix::fs::{PermissionsExt, chown},
};

use super::{
    ALL, Copy, KILL, Mount, RAISE, SETUID, Sets, USER, ambient, become_user, exec::becomes, get,
    permits::execute_error, prctl, set, without,
};
use crate::{
    programs::execute,
    sys::{self, Sys, fork, in_child, wait_exit},
    syscall,
};

crate::tests! { "capabilities":
    attributes_of_files_are_checked;
    who_may_give_files_capabilities;
    who_may_take_files_capabilities [breenix "a Linux with BPF among its security modules does not look"];
    changes_take_them_from_files;
    files_give_programs_capabilities;
    files_need_all_that_counts_at_once;
    files_and_user_zero;
    who_may_not_gain_gets_nothing_of_files;
}

const SETFCAP: u32 = 31;
const NET_RAW: u32 = 13;
/// Versions, and the flag that what is permitted is effective.
const VERSION_2: u32 = 0x0200_0000;
const VERSION_3: u32 = 0x0300_0000;
const EFFECTIVE: u32 = 1;

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn give(path: &str, words: &[u32]) -> Sys {
    let (path, value) = (CString::new(path).expect("a path"), bytes(words));
    let name = c"security.capability";
    syscall!(
        SYS_setxattr,
        path.as_ptr(),
        name.as_ptr(),
        value.as_ptr(),
        value.len(),
        0
    )
}

fn take(path: &str) -> Sys {
    let path = CString::new(path).expect("a path");
    syscall!(SYS_removexattr, path.as_ptr(), c"security.capability".as_ptr())
}

fn given(path: &str) -> Result<Vec<u8>, i32> {
    let path = CString::new(path).expect("a path");
    let mut value = [0u8; 64];
    let name = c"security.capability";
    let got = syscall!(
        SYS_getxattr,
        path.as_ptr(),
        name.as_ptr(),
        value.as_mut_ptr(),
        value.len()
    )?;
    assert_eq!(syscall!(SYS_getxattr, path.as_ptr(), name.as_ptr(), 0, 0), Ok(got));
    Ok(value[..got].to_vec())
}

/// A file of a file system that allows all there is.
fn scratch(mount: &Mount) -> String {
    let path = format!("{}/file", mount.0);
    fs::write(&path, "text").expect("a file");
    path
}

fn attributes_of_files_are_checked() {
    let mount = Mount::new("values", 0);
    let path = scratch(&mount);
    assert_eq!(given(&path), Err(libc::ENODATA));
    for bad in [
        &[VERSION_2][..],
        &[VERSION_2, 1, 0, 0],
        &[VERSION_2 | 2, 1, 0, 0, 0],
        &[VERSION_2, 1, 0, 0, 0, 0],
        &[VERSION_3, 1, 0, 0, 0],
        &[VERSION_3, 1, 0, 0, 0, u32::MAX],
        &[0x0100_0000, 1, 0],
        &[0x0400_0000, 1, 0, 0, 0],
    ] {
        assert_eq!(give(&path, bad), Err(libc::EINVAL), "{bad:x?}");
    }
    let plain = [VERSION_2 | EFFECTIVE, 1, 2, 3, 4];
    assert_eq!(give(&path, &plain), Ok(0));
    assert_eq!(given(&path), Ok(bytes(&plain)));
    // What is for user 0 says no more than the older version.
    assert_eq!(give(&path, &[VERSION_3 | EFFECTIVE, 1, 2, 3, 4, 0]), Ok(0));
    assert_eq!(given(&path), Ok(bytes(&plain)));
    let of_another = [VERSION_3, 1, 2, 3, 4, USER];
    assert_eq!(give(&path, &of_another), Ok(0));
    assert_eq!(given(&path), Ok(bytes(&of_another)));
    assert_eq!(take(&path), Ok(0));
    assert_eq!(take(&path), Err(libc::ENODATA));
}

fn who_may_give_files_capabilities() {
    let mount = Mount::new("who", 0);
    let path = scratch(&mount);
    let plain = [VERSION_2, 1, 0, 0, 0];
    chown(&path, Some(USER), None).expect("chown");
    in_child(|| {
        become_user(USER);
        assert_eq!(give(&path, &plain), Err(libc::EPERM), "although it is the owner's");
        assert_eq!(give(&path, &[1]), Err(libc::EINVAL), "which is looked at first");
    });
    in_child(|| {
        without(&[SETFCAP]);
        assert_eq!(give(&path, &plain), Err(libc::EPERM));
    });
    assert_eq!(give(&path, &plain), Ok(0));
    in_child(|| {
        become_user(USER);
        assert_eq!(given(&path), Ok(bytes(&plain)), "anybody may read it");
    });
    in_child(|| {
        let only = 1 << SETFCAP;
        let sets = Sets {
            effective: only,
            permitted: only,
            inheritable: 0,
        };
        set(sets).expect("capset");
        assert_eq!(take(&path), Ok(0));
        assert_eq!(give(&path, &plain), Ok(0));
    });
}

fn who_may_take_files_capabilities() {
    let mount = Mount::new("takes", 0);
    let path = scratch(&mount);
    assert_eq!(give(&path, &[VERSION_2, 1, 0, 0, 0]), Ok(0));
    in_child(|| {
        without(&[SETFCAP]);
        assert_eq!(take(&path), Err(libc::EPERM));
    });
    assert_eq!(take(&path), Ok(0));
}

fn changes_take_them_from_files() {
    let mount = Mount::new("changes", 0);
    let path = scratch(&mount);
    let plain = [VERSION_2, 1, 0, 0, 0];
    let keeps = |what: &str, kept: bool, change: &dyn Fn()| {
        assert_eq!(give(&path, &plain), Ok(0));
        change();
        let expected = if kept { Ok(bytes(&plain)) } else { Err(libc::ENODATA) };
        assert_eq!(given(&path), expected, "{what}");
    };
    let open = || fs::OpenOptions::new().write(true).open(&path).expect("open");
    keeps("a write", false, &|| {
        std::io::Write::write_all(&mut open(), b"x").expect("write");
    });
    keeps("a cut", false, &|| open().set_len(2).expect("ftruncate"));
    keeps("an owner", false, &|| chown(&path, Some(USER), None).expect("chown"));
    keeps("the same owner", false, &|| chown(&path, None, None).expect("chown"));
    keeps("a mode", true, &|| {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    });
    keeps("being opened", true, &|| drop(open()));
    keeps("a name", true, &|| {
        let other = format!("{path}-moved");
        fs::rename(&path, &other).expect("rename");
        fs::rename(&other, &path).expect("rename back");
    });
}

/// What [`super::exec::describe`] says of a user with these sets.
fn user(sets: &str, rest: &str) -> String {
    format!("{USER} {USER} {USER}|{USER} {USER} {USER}|{sets}|{rest}|0")
}

fn inherit(capabilities: u64) {
    let sets = Sets {
        inheritable: capabilities,
        ..get()
    };
    set(sets).expect("capset");
}

fn files_give_programs_capabilities() {
    let mount = Mount::new("gives", 0);
    let copy = Copy::new(&mount.0, "program", 0, 0, 0o755);
    let program = copy.0.as_str();
    give(program, &[VERSION_2 | EFFECTIVE, 1 << NET_RAW, 0, 0, 0]).expect("setxattr");
    becomes(program, || become_user(USER), &user("2000 2000 0 0", "1 0 0"));
    give(program, &[VERSION_2, 1 << NET_RAW, 0, 0, 0]).expect("setxattr");
    becomes(program, || become_user(USER), &user("2000 0 0 0", "1 0 0"));
    // Of what is inheritable, what the file allows, too.
    let inherits = || {
        inherit(1 << KILL | 1 << SETUID);
        become_user(USER);
    };
    give(program, &[VERSION_3, 0, 1 << KILL, 0, 0, 0]).expect("setxattr");
    becomes(program, inherits, &user("20 0 a0 0", "1 0 0"));
    // Ambient capabilities are for files without any.
    let is_ambient = || {
        inherit(1 << KILL);
        prctl(libc::PR_SET_KEEPCAPS, 1, 0).expect("PR_SET_KEEPCAPS");
        become_user(USER);
        ambient(RAISE, KILL).expect("PR_CAP_AMBIENT_RAISE");
    };
    give(program, &[VERSION_2, 0, 0, 0, 0]).expect("setxattr");
    becomes(program, is_ambient, &user("0 0 20 0", "0 1 0"));
    // What is for others is for nobody here.
    give(program, &[VERSION_3 | EFFECTIVE, 1 << NET_RAW, 0, 0, 0, USER]).expect("setxattr");
    becomes(program, is_ambient, &user("20 20 20 20", "0 1 0"));
}

fn files_need_all_that_counts_at_once() {
    let mount = Mount::new("needs", 0);
    let copy = Copy::new(&mount.0, "program", 0, 0, 0o755);
    let program = copy.0.as_str();
    let bounded = || {
        prctl(libc::PR_CAPBSET_DROP, NET_RAW.into(), 0).expect("PR_CAPBSET_DROP");
        become_user(USER);
    };
    give(program, &[VERSION_2 | EFFECTIVE, 1 << NET_RAW | 1 << KILL, 0, 0, 0]).expect("setxattr");
    in_child(|| {
        bounded();
        assert_eq!(execute_error(program), libc::EPERM);
    });
    give(program, &[VERSION_2, 1 << NET_RAW | 1 << KILL, 0, 0, 0]).expect("setxattr");
    becomes(program, bounded, &user("20 0 0 0", "1 0 0"));
    // What is inheritable instead helps.
    give(program, &[VERSION_2 | EFFECTIVE, 1 << NET_RAW, 1 << NET_RAW, 0, 0]).expect("setxattr");
    becomes(
        program,
        || {
            inherit(1 << NET_RAW);
            bounded();
        },
        &user("2000 2000 2000 0", "1 0 0"),
    );
}

fn files_and_user_zero() {
    let mount = Mount::new("root", 0);
    let copy = Copy::new(&mount.0, "program", 0, 0, 0o4755);
    let program = copy.0.as_str();
    give(program, &[VERSION_2 | EFFECTIVE, 1 << NET_RAW, 0, 0, 0]).expect("setxattr");
    let all = format!("0 0 0|0 0 0|{ALL:x} {ALL:x} 0 0|0 1 0|0");
    becomes(program, || (), &all);
    // The file says what a set-user-ID program gets.
    let group = format!("{USER} {USER} {USER}");
    let some = format!("{USER} 0 0|{group}|2000 2000 0 0|1 0 0|0");
    becomes(program, || become_user(USER), &some);
    take(program).expect("removexattr");
    let whole = format!("{USER} 0 0|{group}|{ALL:x} {ALL:x} 0 0|1 0 0|0");
    becomes(program, || become_user(USER), &whole);
}

fn who_may_not_gain_gets_nothing_of_files() {
    let mount = Mount::new("gains", 0);
    let copy = Copy::new(&mount.0, "program", 0, 0, 0o755);
    let program = copy.0.as_str();
    give(program, &[VERSION_2 | EFFECTIVE, 1 << NET_RAW, 0, 0, 0]).expect("setxattr");
    let nothing = user("0 0 0 0", "1 1 0");
    becomes(
        program,
        || {
            become_user(USER);
            prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).expect("PR_SET_NO_NEW_PRIVS");
        },
        &nothing,
    );
    // Who is traced, by somebody who may not trace everybody.
    let traced = fork(|| {
        become_user(USER);
        syscall!(SYS_ptrace, 0, 0, 0, 0).expect("PTRACE_TRACEME");
        execute(program, &["tests", "helper", "identity", &nothing])
    });
    let (_, status) = sys::wait(traced, 0).expect("wait4");
    assert!(libc::WIFSTOPPED(status), "{status:#x}");
    syscall!(SYS_ptrace, 7, traced, 0, 0).expect("PTRACE_CONT");
    assert_eq!(wait_exit(traced), 0);
    let forbidding = Mount::new("forbids", libc::MS_NOSUID);
    let copy = Copy::new(&forbidding.0, "program", 0, 0, 0o755);
    give(&copy.0, &[VERSION_2 | EFFECTIVE, 1 << NET_RAW, 0, 0, 0]).expect("setxattr");
    becomes(&copy.0, || become_user(USER), &user("0 0 0 0", "0 1 0"));
}
