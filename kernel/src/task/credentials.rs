//! Who a thread acts as.
//!
//! Every thread has credentials of its own, as on Linux: a C library has all threads of a process change theirs. They are
//! never changed in place but replaced, so that threads share them for as long as they are the same.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;

use super::{
    capabilities::{Capabilities, Capability, CapabilitySet, SecureBits, Users},
    process::Process,
    seccomp::Filter,
};
use crate::namespace::UserNamespace;

/// Users, groups and capabilities of a thread, and what keeps it from more.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Real user.
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
    /// Supplementary groups, in ascending order.
    pub groups: Arc<Vec<u32>>,
    /// What it may do beyond what its users and groups may.
    pub capabilities: Capabilities,
    /// Where they count.
    pub user_namespace: Arc<UserNamespace>,
    /// Whether no exec may give it more (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
    /// What its calls have to pass, if anything.
    pub filter: Option<Arc<Filter>>,
}

impl Default for Credentials {
    /// User and group 0 throughout, and no capability.
    fn default() -> Self {
        Self {
            uid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            gid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            groups: Arc::default(),
            capabilities: Capabilities::default(),
            user_namespace: UserNamespace::first().clone(),
            no_new_privileges: false,
            filter: None,
        }
    }
}

impl Credentials {
    /// User and group 0 throughout, and every capability.
    pub fn root() -> Self {
        Self {
            capabilities: Capabilities::root(),
            ..Self::default()
        }
    }

    /// Whether a capability is effective.
    pub const fn can(&self, capability: Capability) -> bool {
        self.capabilities.effective.has(capability)
    }

    /// Whether any of these capabilities is effective.
    pub const fn can_any(&self, capabilities: CapabilitySet) -> bool {
        self.capabilities.effective.has_any(capabilities)
    }

    /// Whether a capability is effective for what `namespace` owns: by what counts in that or above it, and for whom it was made by, who
    /// is directly above.
    pub fn can_in(&self, capability: Capability, namespace: &Arc<UserNamespace>) -> bool {
        let mut at = namespace;
        loop {
            if Arc::ptr_eq(at, &self.user_namespace) {
                return self.capabilities.effective.has(capability);
            }
            if at.level() <= self.user_namespace.level() {
                return false;
            }
            let Some(parent) = at.parent() else { return false };
            if Arc::ptr_eq(parent, &self.user_namespace) && at.owner() == self.euid {
                return true;
            }
            at = parent;
        }
    }

    /// Whether the thread belongs to group `gid` where files are concerned.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.binary_search(&gid).is_ok()
    }

    /// Its real, effective and saved user.
    pub const fn users(&self) -> Users {
        Users {
            real: self.uid,
            effective: self.euid,
            saved: self.suid,
        }
    }

    /// As which `access(2)` looks: the real user and group, with what root has exactly where that is the real user.
    #[must_use]
    pub fn as_real(&self) -> Self {
        let mut real = self.clone();
        (real.fsuid, real.fsgid) = (real.uid, real.gid);
        let sets = &mut real.capabilities;
        if !sets.secure_bits.contains(SecureBits::NO_SETUID_FIXUP) {
            sets.effective = if real.uid == 0 {
                sets.permitted
            } else {
                CapabilitySet::EMPTY
            };
        }
        real
    }

    /// Whether a process that takes these instead of `old` is none that another user may look into any more.
    pub fn hide_from(&self, old: &Self) -> bool {
        (self.euid, self.egid, self.fsuid, self.fsgid) != (old.euid, old.egid, old.fsuid, old.fsgid)
            || !self.capabilities.permitted.is_within(old.capabilities.permitted)
    }

    /// Whether they allow to look into `process`, and to change it (`PTRACE_MODE_ATTACH_REALCREDS` of `ptrace(2)`). Who is of
    /// the process itself need not ask.
    pub fn may_attach(&self, process: &Process) -> bool {
        if self.can(Capability::SysPtrace) {
            return true;
        }
        let theirs = process.credentials();
        [theirs.uid, theirs.euid, theirs.suid]
            .iter()
            .all(|uid| *uid == self.uid)
            && [theirs.gid, theirs.egid, theirs.sgid]
                .iter()
                .all(|gid| *gid == self.gid)
            && process.dumpable.load(Ordering::Relaxed) == 1
            && theirs.capabilities.permitted.is_within(self.capabilities.permitted)
    }
}
