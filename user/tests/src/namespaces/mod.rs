//! Namespaces: one file a kind, and [`common`] for what holds for all.

pub mod common;
pub mod ipc;
pub mod net;
pub mod time;
pub mod uts;

use std::{ffi::CString, fs};

use crate::{
    sys::{self, Sys, fork},
    syscall,
};

/// What `/proc/<who>/ns/<kind>` says.
fn link(who: &str, kind: &str) -> String {
    let target = fs::read_link(format!("/proc/{who}/ns/{kind}")).expect("readlink");
    target.to_str().expect("a text").to_owned()
}

/// What `/proc/thread-self/ns/<kind>` says.
fn own(kind: &str) -> String {
    link("thread-self", kind)
}

/// Opens `/proc/<who>/ns/<kind>`.
fn open(who: &str, kind: &str) -> i32 {
    let path = CString::new(format!("/proc/{who}/ns/{kind}")).expect("a path");
    let opened = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY, 0);
    opened.expect("open") as i32
}

fn unshare(flags: i32) -> Sys {
    syscall!(SYS_unshare, flags)
}

fn setns(file: i32, kinds: i32) -> Sys {
    syscall!(SYS_setns, file, kinds)
}

/// A child that has run `body` and then waits to be told to end; dropped, it ends, and must have done so well.
struct Waiting {
    pid: i32,
    end: i32,
}

impl Waiting {
    fn new(body: impl FnOnce()) -> Self {
        let (ready, say_ready) = sys::pipe(0);
        let (told, end) = sys::pipe(0);
        let pid = fork(|| {
            sys::close(end);
            body();
            sys::write(say_ready, b"!").expect("write");
            let _end = sys::read(told, &mut [0]);
            0
        });
        sys::close(say_ready);
        sys::close(told);
        assert_eq!(sys::read(ready, &mut [0]), Ok(1), "the child is ready");
        sys::close(ready);
        Self { pid, end }
    }

    fn name(&self) -> String {
        self.pid.to_string()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        sys::close(self.end);
        assert_eq!(sys::wait_exit(self.pid), 0);
    }
}
