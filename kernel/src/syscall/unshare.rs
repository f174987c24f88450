//! `unshare(2)`.

use alloc::sync::Arc;

use crate::{
    errno::{Errno, Result},
    ipc::semaphore::undo,
    namespace::{Kind, change},
    task::{Thread, clone::flags::*},
};

/// Has the caller keep for itself what it has in common with others, and gives it namespaces of its own.
///
/// # Errors
/// `EINVAL` for namespaces of which there can be no other, for what is not known, and for what threads have in common, unless the caller
/// is alone; `EPERM` for namespaces without `CAP_SYS_ADMIN`; `ENOMEM`.
pub fn unshare(t: &Arc<Thread>, flags: u64) -> Result<u64> {
    const OF_THREADS: u64 = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
    if flags & !(OF_THREADS | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | change::MADE) != 0 {
        return Err(Errno::EINVAL);
    }
    let process = t.process();
    if flags & OF_THREADS != 0 {
        let shares_memory = flags & CLONE_VM != 0 && process.mm().users() > 1;
        if process.thread_count() > 1 || shares_memory {
            return Err(Errno::EINVAL);
        }
    }
    let files = match flags & CLONE_FILES {
        0 => None,
        _ => Some(Arc::new(t.files().fork()?)),
    };
    let namespaces = change::with_new(&t.namespaces(), &t.credentials(), flags)?;
    if flags & (CLONE_SYSVSEM | Kind::Ipc.flag()) != 0 {
        // As at the thread's end: the next adjustment begins a list of its own. Sets of another namespace are in no list.

        undo::end(t);
    }
    if flags & CLONE_FS != 0 {
        drop(t.set_fs(Arc::new(t.fs().fork())));
    }
    if let Some(files) = files {
        drop(t.set_files(files));
    }
    if let Some(namespaces) = namespaces {
        drop(t.set_namespaces(namespaces));
    }
    Ok(0)
}
