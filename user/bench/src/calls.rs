//! Calls that rows of several suites make.

use std::ffi::CStr;

use user_sys::{self as sys, libc, syscall};

/// Success, or why not.
pub fn done(result: sys::Sys) -> Result<(), String> {
    result.map(|_| ()).map_err(why)
}

/// An error number's meaning.
pub fn why(error: i32) -> String {
    std::io::Error::from_raw_os_error(error).to_string()
}

/// Opens a file; one that is made may be read and written by its owner.
pub fn open(path: &CStr, flags: i32) -> Result<i32, String> {
    let file = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o600);
    file.map(|file| file as i32).map_err(why)
}

/// Waits for a child, which must end with status 0.
pub fn ended_well(pid: i32) -> Result<(), String> {
    match sys::wait(pid, 0).map_err(why)? {
        (_, 0) => Ok(()),
        (_, status) => Err(format!("a child's status is {status:#x}")),
    }
}

/// Closes them; one that stands here twice is closed once.
pub fn close_all(descriptors: &[i32]) {
    for (index, descriptor) in descriptors.iter().enumerate() {
        if !descriptors[..index].contains(descriptor) {
            sys::close(*descriptor);
        }
    }
}

/// Lets the process have `count` descriptors besides the few that it has.
pub fn allow_descriptors(count: usize) -> Result<(), String> {
    let mut limit = [0u64; 2];
    done(syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, 0, limit.as_mut_ptr()))?;
    let needed = count as u64 + 64;
    if limit[0] >= needed {
        return Ok(());
    }
    // As root the hard limit may grow too.
    let limit = [needed, limit[1].max(needed)];
    done(syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, limit.as_ptr(), 0))
}

/// Descriptors that are closed in the end.
#[derive(Default)]
pub struct Descriptors(Vec<i32>);

impl Descriptors {
    /// With room for so many, which the process is allowed to have.
    pub fn with_room(count: usize) -> Result<Self, String> {
        allow_descriptors(count)?;
        // Written, so that none of its pages is new later.
        let mut all = vec![-1; count];
        all.clear();
        Ok(Self(all))
    }

    /// Takes charge of some.
    pub fn add(&mut self, descriptors: &[i32]) {
        self.0.extend_from_slice(descriptors);
    }

    /// All of them.
    pub fn all(&self) -> &[i32] {
        &self.0
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        self.0.iter().for_each(|descriptor| sys::close(*descriptor));
    }
}

/// Both ends of a pair of connected sockets.
pub fn socket_pair() -> Result<[i32; 2], String> {
    let mut ends = [0i32; 2];
    let made = syscall!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr());
    done(made).map(|()| ends)
}

/// A new epoll.
pub fn epoll() -> Result<i32, String> {
    syscall!(SYS_epoll_create1, 0).map(|epoll| epoll as i32).map_err(why)
}

/// Has an epoll look at a descriptor.
pub fn watch(epoll: i32, descriptor: i32) -> Result<(), String> {
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: descriptor as u64,
    };
    done(syscall!(
        SYS_epoll_ctl,
        epoll,
        libc::EPOLL_CTL_ADD,
        descriptor,
        &raw mut event
    ))
}
