//! UTS namespaces.

use std::mem::zeroed;

use super::{open, setns, unshare};
use crate::{
    sys::{self, in_child},
    syscall,
};

crate::tests! { "namespaces::uts":
    names_are_apart;
    the_reader_of_proc_sees_its_own;
    names_are_copied;
}

fn names() -> libc::utsname {
    // SAFETY: all zeroes are such a structure.
    let mut names: libc::utsname = unsafe { zeroed() };
    syscall!(SYS_uname, &raw mut names).expect("uname");
    names
}

fn text(field: &[libc::c_char]) -> Vec<u8> {
    field
        .iter()
        .take_while(|byte| **byte != 0)
        .map(|byte| *byte as u8)
        .collect()
}

/// The host name.
pub fn host() -> Vec<u8> {
    text(&names().nodename)
}

fn domain() -> Vec<u8> {
    text(&names().domainname)
}

fn set_host(name: &[u8]) {
    syscall!(SYS_sethostname, name.as_ptr(), name.len()).expect("sethostname");
}

fn set_domain(name: &[u8]) {
    syscall!(SYS_setdomainname, name.as_ptr(), name.len()).expect("setdomainname");
}

fn names_are_apart() {
    let before = (host(), domain());
    let outside = open("self", "uts");
    in_child(|| {
        unshare(libc::CLONE_NEWUTS).expect("unshare");
        set_host(b"inside");
        set_domain(b"within");
        assert_eq!((host(), domain()), (b"inside".to_vec(), b"within".to_vec()));
        setns(outside, libc::CLONE_NEWUTS).expect("setns");
        assert_eq!((host(), domain()), before);
    });
    assert_eq!((host(), domain()), before);
    sys::close(outside);
}

fn the_reader_of_proc_sees_its_own() {
    let read = |name: &str| std::fs::read(format!("/proc/sys/kernel/{name}")).expect("read");
    let before = read("hostname");
    in_child(|| {
        unshare(libc::CLONE_NEWUTS).expect("unshare");
        set_host(b"inside");
        set_domain(b"within");
        assert_eq!(
            (read("hostname"), read("domainname")),
            (b"inside\n".to_vec(), b"within\n".to_vec())
        );
        std::fs::write("/proc/sys/kernel/hostname", "written\n").expect("write");
        assert_eq!(host(), b"written");
    });
    assert_eq!(read("hostname"), before);
}

fn names_are_copied() {
    in_child(|| {
        unshare(libc::CLONE_NEWUTS).expect("unshare");
        set_host(b"first");
        set_domain(b"one");
        unshare(libc::CLONE_NEWUTS).expect("unshare");
        assert_eq!((host(), domain()), (b"first".to_vec(), b"one".to_vec()));
    });
}
