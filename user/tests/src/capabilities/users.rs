//! What users and groups may become, and what that makes of capabilities.

use super::{
    ALL, FILES, KEEP, KEEP_CAPS, KEEP_CAPS_LOCKED, NO_ROOT, NO_SETUID_FIXUP, OTHER, SETPCAP, Sets, USER, become_user,
    get, prctl, status, without,
};
use crate::{
    sys::{Sys, in_child},
    syscall,
};

crate::tests! { "capabilities":
    sets_follow_the_user;
    sets_are_kept_on_demand;
    sets_follow_the_file_user;
    secure_bits_lock;
    users_are_changed_by_rule;
    groups_are_sorted_and_counted;
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
