//! Who a process acts as.
//!
//! Linux keeps credentials per thread and lets the C library copy a change to all threads by signals; here they belong
//! to the process, which gives the same result once the library is done. Capabilities are all or nothing: effective user
//! 0 has them all.

use alloc::vec::Vec;

/// User and group numbers of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Real, effective, saved and file-system user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Saved user.
    pub suid: u32,
    /// The user file permissions are checked against.
    pub fsuid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub egid: u32,
    /// Saved group.
    pub sgid: u32,
    /// The group file permissions are checked against.
    pub fsgid: u32,
    /// Supplementary groups, in the order they were set.
    pub groups: Vec<u32>,
}

impl Credentials {
    /// User and group 0 throughout.
    pub fn root() -> Self {
        Self::default()
    }

    /// Whether every capability is held.
    pub const fn is_privileged(&self) -> bool {
        self.euid == 0
    }

    /// Whether the process belongs to group `gid` where files are concerned.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
