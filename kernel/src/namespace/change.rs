//! Coming into other namespaces: new ones by `clone` and `unshare`, those of others by `setns`.

use alloc::sync::Arc;

use super::{IpcNamespace, Kind, Namespace, Namespaces, NetNamespace};
use crate::{
    errno::{Errno, Result},
    task::{Capability, Credentials, Thread, clone::flags::CLONE_VM},
};

/// The flags of the kinds of which there can be another.
pub const MADE: u64 = Kind::Uts.flag() | Kind::Ipc.flag() | Kind::Net.flag() | Kind::Time.flag();

/// The flags of all kinds.
pub const ALL: u64 = {
    let mut flags = 0;
    let mut i = 0;
    while i < Kind::ALL.len() {
        flags |= Kind::ALL[i].flag();
        i += 1;
    }
    flags
};

/// What a thread that acts as `credentials` is in once it has new namespaces of the kinds that `flags` name; `None` if that is what
/// `old` is in. Other flags mean nothing here.
///
/// # Errors
/// `EINVAL` for a kind of which there can be no other, `EPERM` without `CAP_SYS_ADMIN`.
pub fn with_new(old: &Arc<Namespaces>, credentials: &Credentials, flags: u64) -> Result<Option<Arc<Namespaces>>> {
    if flags & ALL == 0 {
        return Ok(None);
    }
    if flags & ALL & !MADE != 0 {
        return Err(Errno::EINVAL);
    }
    let owner = &credentials.user_namespace;
    if !credentials.can_in(Capability::SysAdmin, owner) {
        return Err(Errno::EPERM);
    }
    let mut new = Namespaces::clone(old);
    if flags & Kind::Uts.flag() != 0 {
        new.uts = old.uts.copy(owner.clone());
    }
    if flags & Kind::Ipc.flag() != 0 {
        new.ipc = IpcNamespace::new(owner.clone());
    }
    if flags & Kind::Net.flag() != 0 {
        new.net = NetNamespace::new(owner.clone());
    }
    if flags & Kind::Time.flag() != 0 {
        new.time_for_children = old.time_for_children.copy(owner.clone());
    }
    Ok(Some(Arc::new(new)))
}

/// What a new thread is in that is cloned with `flags`; `None` if it was all there from the beginning.
///
/// # Errors
/// As [`with_new`].
pub fn of_child(thread: &Thread, flags: u64) -> Result<Option<Arc<Namespaces>>> {
    if flags & ALL == 0 && !thread.is_apart() {
        return Ok(None);
    }
    let own = thread.namespaces();
    let new = with_new(&own, &thread.credentials(), flags)?.unwrap_or(own);
    // Who has the parent's memory has its clocks, which are read there.
    Ok(Some(if flags & CLONE_VM == 0 { in_time(new) } else { new }))
}

/// The same, once its thread is in the time namespace of its children.
fn in_time(namespaces: Arc<Namespaces>) -> Arc<Namespaces> {
    if Arc::ptr_eq(&namespaces.time, &namespaces.time_for_children) {
        return namespaces;
    }
    let mut new = Namespaces::clone(&namespaces);
    new.time = new.time_for_children.clone();
    new.time.entered();
    Arc::new(new)
}

/// Has a thread that becomes another program go into the time namespace of its children.
pub fn executes(thread: &Thread) {
    if thread.is_apart() {
        drop(thread.set_namespaces(in_time(thread.namespaces())));
    }
}

/// Has `new`, which a thread that acts as `credentials` is to be in, enter the namespace `to`.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` in both its owner and the thread's user namespace; `EINVAL` where no thread may, or this one is.
pub fn enter(new: &mut Namespaces, credentials: &Credentials, to: &Namespace) -> Result<()> {
    if matches!(to.kind(), Kind::User | Kind::Mount) {
        return Err(Errno::EINVAL);
    }
    let owner = to.owner().ok_or(Errno::EINVAL)?;
    let may = |namespace| credentials.can_in(Capability::SysAdmin, namespace);
    if !may(&owner) || !may(&credentials.user_namespace) {
        return Err(Errno::EPERM);
    }
    match to {
        Namespace::Uts(uts) => new.uts = uts.clone(),
        Namespace::Ipc(ipc) => new.ipc = ipc.clone(),
        Namespace::Net(net) => new.net = net.clone(),
        Namespace::Time(time) => {
            time.entered();
            (new.time, new.time_for_children) = (time.clone(), time.clone());
        }
        // Whoever asks is in it.
        Namespace::User(_) | Namespace::Only(_) => {}
    }
    Ok(())
}
