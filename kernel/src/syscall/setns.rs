//! `setns(2)`.

use alloc::{sync::Arc, vec::Vec};

use crate::{
    errno::{Errno, Result},
    fs::{OpenFile, pidfd::PidFile},
    ipc::semaphore::undo,
    namespace::{self, Kind, Namespace, Namespaces, Whose, change, file::namespace_of},
    task::{Thread, exec::vdso, ptrace::link::may_trace},
};

/// Moves the caller into the namespace behind a descriptor, which is of the kind that `kinds` names, or of any if that is 0; or, by a
/// descriptor of a process, into that process's namespaces of the kinds that `kinds` names: into all of them or none.
///
/// # Errors
/// `EBADF`; `EINVAL` for what is no such file, another kind, and where no thread may move; `EUSERS` for a time
/// namespace if others have the caller's memory; `EPERM`, `ESRCH`.
pub async fn setns(t: &Arc<Thread>, fd: i32, kinds: u32) -> Result<u64> {
    let file = t.files().get_usable(fd)?;
    let to = targets(t, fd, &file, kinds.into())?;
    let credentials = t.credentials();
    let enters_time = to.iter().any(|namespace| namespace.kind() == Kind::Time);
    if enters_time && (t.process().thread_count() > 1 || t.mm().users() > 1) {
        return Err(Errno::EUSERS);
    }
    let mut new = Namespaces::clone(&t.namespaces());
    for namespace in &to {
        change::enter(&mut new, &credentials, namespace)?;
    }
    if enters_time {
        vdso::enter_time(&t.mm(), &new.time).await?;
    }
    if to.iter().any(|namespace| namespace.kind() == Kind::Ipc) {
        // What the sets of the namespace that it leaves get back they get now.
        undo::end(t);
    }
    drop(t.set_namespaces(Arc::new(new)));
    Ok(0)
}

/// Where the caller is to go.
fn targets(t: &Thread, fd: i32, file: &OpenFile, kinds: u64) -> Result<Vec<Namespace>> {
    if let Some(namespace) = namespace_of(file) {
        if kinds != 0 && kinds != namespace.kind().flag() {
            return Err(Errno::EINVAL);
        }
        return Ok([namespace.clone()].into());
    }
    let (process, _) = PidFile::find(t, fd).map_err(|_| Errno::EINVAL)?;
    if kinds == 0 || kinds & !change::ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let thread = process.first_thread().ok_or(Errno::ESRCH)?;
    if !may_trace(t, &process) {
        return Err(Errno::EPERM);
    }
    let named = Kind::ALL.into_iter().filter(|kind| kinds & kind.flag() != 0);
    Ok(named.map(|kind| namespace::of(&thread, kind, Whose::Own)).collect())
}
