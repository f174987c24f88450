//! What an exec makes of users and capabilities.

use std::{fs, os::unix::fs::MetadataExt};

use super::{
    ALL, CHOWN, Copy, KEEP, KILL, Mount, NO_ROOT, OTHER, RAISE, Sets, USER, ambient, become_user, get, prctl, set,
    shown,
};
use crate::{
    programs::execute,
    sys::{self, Sys, fork, in_child, wait_exit},
    syscall,
};

crate::tests! { "capabilities":
    an_exec_transforms_the_sets;
    set_id_programs_gain;
    nothing_new_is_gained_once_renounced;
    a_mount_may_forbid_set_id_programs;
    gained_power_hides;
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
pub(super) fn becomes(program: &str, before: impl FnOnce(), expected: &str) {
    let status = wait_exit(fork(|| {
        before();
        execute(program, &["tests", "helper", "identity", expected])
    }));
    assert_eq!(status, 0, "{expected}");
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
