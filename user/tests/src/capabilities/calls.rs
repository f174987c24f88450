//! `capget`, `capset` and what `prctl` has of capabilities.

use std::thread;

use super::{
    ALL, CHOWN, CLEAR_ALL, Copy, IS_SET, KEEP_CAPS, KILL, LOWER, NO_AMBIENT_RAISE, PR_CAP_AMBIENT, RAISE, SETPCAP,
    Sets, USER, V1, V2, V3, ambient, become_user, get, get_of, prctl, raw_get, set, shown, status, without,
};
use crate::{
    programs::execute,
    sys::{fork, in_child, wait_exit},
    syscall,
};

crate::tests! { "capabilities":
    root_has_them_all;
    versions_are_told_apart;
    of_whom_is_checked;
    sets_are_only_given_up;
    the_bounding_set_shrinks;
    ambient_is_permitted_and_inheritable;
    prctl_is_checked;
    each_thread_has_its_own;
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
