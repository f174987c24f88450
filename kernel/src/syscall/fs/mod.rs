//! Calls on files.
//!
//! Each handler is an async function over the objects of [`crate::fs`], or an attempt that waits for nothing but pages. It holds
//! what the thread brings along (credentials, descriptors, memory) and is the only place that waits; between waits it holds no
//! lock. Structures are laid out by the
//! types of `linux-raw-sys`, so one text serves every architecture.

pub(in crate::syscall) mod at;
mod attr;
mod copy;
mod descriptors;
mod direct;
mod epoll;
mod events;
mod mounts;
mod names;
mod open;
mod open_how;
mod poll;
mod select;
mod stat;
mod transfer;
pub mod user;
mod xattr;

pub use attr::{
    chmod, chown, fallocate, fchmod, fchmodat, fchmodat2, fchown, fchownat, fsync, fsync_at_once, ftruncate, futimesat,
    lchown, sync, syncfs, truncate, utime, utimensat, utimes,
};
pub use copy::{copy_file_range, sendfile};
pub use descriptors::{dup, dup2, dup3, eventfd, eventfd2, fcntl, fcntl_at_once, flock, ioctl, pipe, pipe2};
pub use epoll::{
    epoll_create, epoll_create1, epoll_ctl, epoll_pwait, epoll_pwait_at_once, epoll_pwait2, epoll_pwait2_at_once,
    epoll_wait, epoll_wait_at_once,
};
pub use events::{signalfd, signalfd4, timerfd_create, timerfd_gettime, timerfd_settime};
pub use mounts::{mount, umount2};
pub use names::{
    chdir, chroot, fchdir, getcwd, getdents, getdents64, link, linkat, memfd_create, mkdir, mkdirat, mknod, mknodat,
    rename, renameat, renameat2, rmdir, symlink, symlinkat, umask, unlink, unlinkat,
};
pub(crate) use open::descriptor_limit;
pub(in crate::syscall) use open::on_exec;
pub use open::{close, close_range, creat, open, open_at_once, open_executable, openat, openat_at_once};
pub use open_how::openat2;
pub use poll::{poll, poll_at_once, ppoll, ppoll_at_once, restart_poll};
pub use select::{pselect6, pselect6_at_once, select, select_at_once};
pub use stat::{
    access, faccessat, faccessat2, fstat, fstatfs, lstat, newfstatat, readlink, readlinkat, stat, statfs, statx,
};
pub(in crate::syscall) use transfer::broken_pipe;
pub use transfer::{
    lseek, pread64, pread64_at_once, preadv, preadv2, pwrite64, pwrite64_at_once, pwritev, pwritev2, read,
    read_at_once, read_into, readv, splice, write, write_at_once, write_from, writev,
};
pub use xattr::{
    fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, lgetxattr, listxattr, llistxattr, lremovexattr,
    lsetxattr, removexattr, setxattr,
};
