//! Who may do what with an object.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::registry::sequence;
use crate::task::{Capability, Credentials};

/// The read bits of a mode (`S_IRUGO`).
pub const READ: u32 = 0o444;
/// The write bits; what semaphores call to alter (`S_IWUGO`).
pub const WRITE: u32 = 0o222;
/// The execute bits (`S_IXUGO`).
pub const EXECUTE: u32 = 0o111;

/// An object's name, owner, creator and mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Its key; `IPC_PRIVATE` for none.
    pub key: i32,
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// The creator.
    pub cuid: u32,
    /// The creator's group.
    pub cgid: u32,
    /// Permission bits, and what a kind of object shows beside them.
    pub mode: u32,
}

impl Permission {
    /// Of an object that `credentials` make, with the low bits of a call's flags as its mode.
    pub const fn new(key: i32, flags: i32, credentials: &Credentials) -> Self {
        Self {
            key,
            uid: credentials.euid,
            gid: credentials.egid,
            cuid: credentials.euid,
            cgid: credentials.egid,
            mode: flags as u32 & 0o777,
        }
    }

    /// Whether all that is wanted is granted. `wanted` may name its bits at any of the three places of a mode.
    pub fn allows(&self, credentials: &Credentials, wanted: u32) -> bool {
        let wanted = (wanted >> 6 | wanted >> 3 | wanted) & 0o7;
        let granted = if credentials.euid == self.cuid || credentials.euid == self.uid {
            self.mode >> 6
        } else if credentials.in_group(self.cgid) || credentials.in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        wanted & !granted == 0 || credentials.can(Capability::IpcOwner)
    }

    /// Whether they may change or remove the object.
    pub const fn is_controlled_by(&self, credentials: &Credentials) -> bool {
        self.is_owned_by(credentials) || credentials.can(Capability::SysAdmin)
    }

    /// Whether they are the owner's or the creator's.
    pub const fn is_owned_by(&self, credentials: &Credentials) -> bool {
        credentials.euid == self.cuid || credentials.euid == self.uid
    }

    /// What `IPC_SET` changes.
    pub const fn set(&mut self, from: &IpcPerm) {
        self.uid = from.uid;
        self.gid = from.gid;
        self.mode = self.mode & !0o777 | from.mode & 0o777;
    }
}

/// `struct ipc64_perm` (`asm-generic/ipcbuf.h`), of both machines.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct IpcPerm {
    key: i32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    mode: u32,
    sequence: u16,
    pad: [u16; 3],
    unused: [u64; 2],
}

impl IpcPerm {
    /// The permission of the object of this identifier.
    pub const fn new(permission: &Permission, id: i32) -> Self {
        Self {
            key: permission.key,
            uid: permission.uid,
            gid: permission.gid,
            cuid: permission.cuid,
            cgid: permission.cgid,
            mode: permission.mode,
            sequence: sequence(id),
            pad: [0; 3],
            unused: [0; 2],
        }
    }

    /// Whether `IPC_SET` can take it: -1 is nobody.
    pub const fn is_valid(&self) -> bool {
        self.uid != u32::MAX && self.gid != u32::MAX
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn user(id: u32, groups: &[u32]) -> Credentials {
        Credentials {
            euid: id,
            egid: id,
            fsgid: id,
            groups: alloc::sync::Arc::new(groups.to_vec()),
            ..Credentials::default()
        }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let mut permission = Permission::new(1, 0o1460, &user(5, &[]));
        assert_eq!(permission.mode, 0o460);
        let allows = |permission: &Permission, who: &Credentials, wanted| permission.allows(who, wanted);
        assert!(allows(&permission, &user(5, &[]), READ));
        assert!(
            !allows(&permission, &user(5, &[]), WRITE),
            "the owner is not asked as a group"
        );
        assert!(allows(&permission, &user(6, &[5]), READ | WRITE));
        assert!(!allows(&permission, &user(6, &[]), READ));
        assert!(allows(&permission, &Credentials::root(), READ | WRITE | EXECUTE));
        assert!(allows(&permission, &user(6, &[]), 0), "nothing is always granted");
        let mut new = IpcPerm::new(&permission, 3 << 15 | 1);
        (new.uid, new.gid, new.mode) = (7, 8, 0o7_7604);
        assert_eq!(new.sequence, 3);
        permission.set(&new);
        assert_eq!((permission.uid, permission.cuid, permission.mode), (7, 5, 0o604));
        assert!(allows(&permission, &user(5, &[]), WRITE), "the creator stays one");
        assert!(permission.is_controlled_by(&user(7, &[])) && !permission.is_controlled_by(&user(8, &[5, 7])));
    }
}
