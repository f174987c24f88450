//! Files: what has a name, and what has a descriptor.
//!
//! Three layers, each knowing only the next:
//!
//! - The calls (`syscall::fs`) are async functions. They hold the thread, wait, bring pages in, and check who may do
//!   what.
//! - The objects: an [`FdTable`] maps numbers to [`OpenFile`]s, each of which has a position, flags, and a [`File`]
//!   that does the work in attempts that never wait. [`path`] turns paths into [`Location`]s by way of [`mount`]s.
//! - The file systems: [`tmpfs`] (the root, and `/dev` with its device nodes) and [`procfs`]. Pipes, event
//!   counters and the like have inodes without a name ([`nameless`]).

pub mod archive;
pub mod attributes;
pub mod block_device;
pub mod boot;
pub mod context;
pub mod devfs;
pub mod epoll;
pub mod eventfd;
pub mod fd_table;
pub mod file;
pub mod initramfs;
pub mod inode;
pub mod io;
pub mod locks;
pub mod mount;
pub mod nameless;
pub mod open_file;
pub mod page_cache;
pub mod page_map;
pub mod path;
pub mod pidfd;
pub mod pipe;
pub mod poll_queue;
pub mod procfs;
pub mod signalfd;
pub mod timerfd;
pub mod tmpfs;

pub use attributes::{Attributes, DeviceNumber, FileKind, Permission, Timestamp};
pub use context::FsContext;
pub use fd_table::{FdTable, OnExec};
pub use file::{Attempt, Direction, File, Positioning, Readiness, Stop, Transfer, Whence};
pub use inode::Inode;
pub use io::{Sink, Source, UserSlice};
pub use mount::{Location, Mount};
pub use open_file::OpenFile;

#[cfg(test)]
mod tests;
