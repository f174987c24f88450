//! Namespaces as files (`ioctl_ns(2)`): what `/proc/<pid>/ns` leads to. Such a file keeps its namespace.

use alloc::{string::String, sync::Arc};

use linux_raw_sys::general::{O_CLOEXEC, O_RDONLY};

use super::{Kind, Namespace};
use crate::{
    errno::{Errno, Result},
    fs::{
        Attempt, FileKind, OnExec, OpenFile,
        attributes::{Attributes, DeviceNumber},
        file::File,
        inode::{FileSystemStatus, Inode, OpenRequest},
        io::copy_out,
        mount::Location,
        nameless,
    },
    syscall::fs::descriptor_limit,
    task::Thread,
};

/// `NSFS_MAGIC` (`linux/magic.h`).
const MAGIC: u32 = 0x6e73_6673;
const DEVICE: DeviceNumber = DeviceNumber::new(0, 4);

/// Requests of `linux/nsfs.h`.
mod request {
    /// The user namespace that owns it.
    pub const NS_GET_USERNS: u32 = 0xb701;
    /// The one above it.
    pub const NS_GET_PARENT: u32 = 0xb702;
    /// Its kind, as the flag of `clone`.
    pub const NS_GET_NSTYPE: u32 = 0xb703;
    /// As whom a user namespace was made.
    pub const NS_GET_OWNER_UID: u32 = 0xb704;
}

/// A namespace as a file, open or not.
pub struct NamespaceFile(Namespace);

/// The place of a namespace's file.
pub fn place(namespace: Namespace) -> Location {
    nameless::place(Arc::new(NamespaceFile(namespace)))
}

/// The namespace behind an open file, if there is one.
pub fn namespace_of(file: &OpenFile) -> Option<&Namespace> {
    let found = file.file().as_any()?.downcast_ref::<NamespaceFile>()?;
    Some(&found.0)
}

/// Gives the caller a descriptor of a namespace.
fn open(t: &Thread, namespace: Namespace) -> Result<u64> {
    let file = Arc::new(NamespaceFile(namespace.clone()));
    let file = OpenFile::new(file, place(namespace), O_RDONLY | O_CLOEXEC);
    Ok(t.files().insert(Arc::new(file), OnExec::Close, descriptor_limit(t))? as u64)
}

impl Inode for NamespaceFile {
    fn attributes(&self) -> Attributes {
        Attributes::synthetic(DEVICE, self.0.number(), FileKind::Regular, 0o444)
    }

    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn identity(&self) -> (DeviceNumber, u64) {
        (DEVICE, self.0.number())
    }

    fn own_name(&self) -> Option<String> {
        Some(self.0.text())
    }

    fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Ok(self)
    }

    fn status(&self) -> FileSystemStatus {
        FileSystemStatus {
            magic: MAGIC,
            device: DEVICE,
            ..FileSystemStatus::default()
        }
    }
}

impl File for NamespaceFile {
    fn control(&self, caller: &Thread, request: u32, argument: u64) -> Attempt<u64> {
        match request {
            request::NS_GET_USERNS => Ok(open(caller, Namespace::User(self.owner_within(caller)?))?),
            request::NS_GET_PARENT => match self.0.kind() {
                Kind::User => Ok(open(caller, Namespace::User(self.owner_within(caller)?))?),
                // The first has none.
                Kind::Pid => Err(Errno::EPERM.into()),
                _ => Err(Errno::EINVAL.into()),
            },
            request::NS_GET_NSTYPE => Ok(self.0.kind().flag()),
            request::NS_GET_OWNER_UID => {
                let Namespace::User(user) = &self.0 else {
                    return Err(Errno::EINVAL.into());
                };
                copy_out(argument, &user.owner().to_ne_bytes())?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY.into()),
        }
    }

    fn as_any(&self) -> Option<&dyn core::any::Any> {
        Some(self)
    }
}

impl NamespaceFile {
    /// The user namespace that owns it, if the caller's is that or above that.
    fn owner_within(&self, caller: &Thread) -> Result<Arc<super::UserNamespace>> {
        let own = &caller.credentials().user_namespace;
        self.0.owner().filter(|owner| owner.is_within(own)).ok_or(Errno::EPERM)
    }
}
