//! Processes and threads for the unit tests of this crate. They are in no table and run nowhere by themselves.

use alloc::sync::Arc;

use super::{Pid, Thread, boot::parentless};
use crate::fs::{FsContext, boot::mount_root};

fn root() -> FsContext {
    static ROOT: std::sync::OnceLock<FsContext> = std::sync::OnceLock::new();
    ROOT.get_or_init(|| mount_root(None).unwrap()).fork()
}

/// A thread alone in its process, with an empty address space and an empty tmpfs as its root.
pub fn thread(pid: Pid) -> Arc<Thread> {
    let thread = parentless(pid, root()).unwrap();
    thread.process().shared.lock().threads.push(thread.clone());
    thread
}
