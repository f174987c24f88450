//! What capabilities and users permit.

use std::{fs, os::unix::fs::MetadataExt, os::unix::fs::PermissionsExt, os::unix::fs::chown};

use super::{
    ALL, CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, KEEP, KILL, MKNOD, OTHER, SETGID, SETUID, SYS_ADMIN,
    SYS_BOOT, SYS_CHROOT, SYS_NICE, SYS_RESOURCE, SYS_TIME, Sets, USER, become_user, get, prctl, set, status, without,
};
use crate::{
    sys::{self, Sys, fork, in_child, wait_exit},
    syscall,
};

crate::tests! { "capabilities":
    user_zero_alone_allows_nothing;
    files_of_others_need_a_capability;
    set_group_id_needs_a_capability;
    access_goes_by_the_real_user;
    a_capability_alone_suffices;
    limits_of_others_need_the_same_user;
    processes_of_a_user_are_counted;
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
pub(super) fn execute_error(path: &str) -> i32 {
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
