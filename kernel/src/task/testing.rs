//! Processes and threads for the unit tests of this crate. They are in no table and run nowhere by themselves.

use alloc::sync::Arc;

use super::{
    Credentials, Pid, Process, Session, Thread,
    limits::Limits,
    process::{Image, ProcessParts, new_actions},
    signal::action::Actions,
    thread::ThreadParts,
};
use crate::{
    fs::{FdTable, FsContext, boot::mount_root},
    mm::AddressSpace,
};

fn root() -> FsContext {
    static ROOT: std::sync::OnceLock<FsContext> = std::sync::OnceLock::new();
    ROOT.get_or_init(|| mount_root(None).unwrap()).fork()
}

/// A thread alone in its process, with an empty address space and an empty tmpfs as its root.
pub fn thread(pid: Pid) -> Arc<Thread> {
    let process = Arc::new(Process::new(ProcessParts {
        pid,
        mm: AddressSpace::new().unwrap(),
        credentials: Arc::new(Credentials::root()),
        limits: Limits::initial(),
        actions: new_actions(Actions::new()),
        image: Arc::new(Image::default()),
        session: Session::new(pid),
        group: pid,
        parent: 0,
        start_ns: 0,
    }));
    let thread = Arc::new(Thread::new(ThreadParts {
        tid: pid,
        process: process.clone(),
        files: Arc::new(FdTable::new()),
        fs: Arc::new(root()),
        comm: [0; 16],
    }));
    process.shared.lock().threads.push(thread.clone());
    thread
}
