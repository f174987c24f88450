//! Who a program acts as.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use crate::{
    errno::{Errno, Result},
    fs::{
        OpenFile,
        attributes::{Permission, S_ISGID, S_ISUID, permit},
    },
    task::{
        Capability, Credentials,
        capabilities::Exec,
        file_capabilities::{self, FileCapabilities},
        limits::Resource,
        thread::Thread,
    },
};

/// `ADDR_NO_RANDOMIZE` of `personality(2)`.
pub(super) const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;
/// What a program with more power than its caller does not take over (`PER_CLEAR_ON_SETID`): `READ_IMPLIES_EXEC`,
/// `ADDR_NO_RANDOMIZE`, `ADDR_COMPAT_LAYOUT`, `MMAP_PAGE_ZERO`.
const UNSAFE_PERSONALITY: u32 = 0x0040_0000 | ADDR_NO_RANDOMIZE | 0x0020_0000 | 0x0010_0000;
/// The stack that such a program gets at most (`_STK_LIM`), in bytes.
const SECURE_STACK: u64 = 8 << 20;

/// What an exec makes of the thread's credentials and of what depends on them.
#[derive(Debug)]
pub(super) struct Becoming {
    old: Arc<Credentials>,
    pub credentials: Arc<Credentials>,
    /// Whether the program has more power than its caller (`AT_SECURE`).
    pub is_secure: bool,
    pub personality: u32,
    /// Whether the program may be looked into, as far as its file goes: who may not read that shall not read it from memory.
    is_readable: bool,
}

/// The capabilities of a program's file, if it has any.
fn capabilities_of(file: &OpenFile) -> Result<Option<FileCapabilities>> {
    match file.inode().extended(file_capabilities::NAME) {
        Ok(value) => FileCapabilities::parse(&value),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

impl Becoming {
    /// The program in `file`, started by `thread`. Set-user-ID and set-group-ID bits count unless it has renounced new
    /// privileges or the file system is mounted without (`MS_NOSUID`), which has no capabilities of files either. Who has renounced, or
    /// is traced by somebody who may not trace everybody, gets no more than it has.
    ///
    /// # Errors
    /// `EPERM` for a file that is to have capabilities and cannot, `EINVAL` for one whose attribute is wrong; `ENOMEM`.
    pub fn new(thread: &Thread, file: &OpenFile) -> Result<Self> {
        let old = thread.credentials();
        let mut new = Credentials::clone(&old);
        let attributes = file.attributes();
        let mode = attributes.permissions;
        let mut personality = thread.process().personality.load(Ordering::Relaxed);
        let may_gain = file.location().mount.honours_set_id();
        let counts = may_gain && !old.no_new_privileges;
        if counts && mode & S_ISUID != 0 {
            personality &= !UNSAFE_PERSONALITY;
            new.euid = attributes.uid;
        }
        if counts && mode & (S_ISGID | 0o010) == S_ISGID | 0o010 {
            personality &= !UNSAFE_PERSONALITY;
            new.egid = attributes.gid;
        }
        let exec = Exec {
            real_user: new.uid,
            effective_user: new.euid,
            changes_id: new.euid != old.uid || new.egid != old.gid,
            file: if may_gain { capabilities_of(file)? } else { None },
        };
        let mut granted = old.capabilities.granted_by_exec(exec)?;
        let gains = !granted.permitted.is_within(old.capabilities.permitted);
        if gains {
            personality &= !UNSAFE_PERSONALITY;
        }
        let is_watched = thread.tracee().is_some_and(|tracee| tracee.is_by_the_weak());
        if (old.no_new_privileges || is_watched) && (exec.changes_id || gains) {
            if old.no_new_privileges || !old.can(Capability::Setuid) {
                (new.euid, new.egid) = (new.uid, new.gid);
            }
            granted.permitted = granted.permitted & old.capabilities.permitted;
        }
        (new.suid, new.fsuid) = (new.euid, new.euid);
        (new.sgid, new.fsgid) = (new.egid, new.egid);
        let (capabilities, is_secure) = old.capabilities.after_exec(exec, granted);
        new.capabilities = capabilities;
        Ok(Self {
            is_readable: permit(&attributes, &old, Permission::READ).is_ok(),
            old,
            credentials: Arc::new(new),
            is_secure,
            personality,
        })
    }

    /// How large the stack may grow, in bytes.
    pub fn stack_limit(&self, thread: &Thread) -> u64 {
        let limit = thread.process().limit(Resource::Stack);
        if self.is_secure { limit.min(SECURE_STACK) } else { limit }
    }

    /// Whether the thread still is who it was: another may have given it a filter.
    pub fn is_current(&self, thread: &Thread) -> bool {
        Arc::ptr_eq(&self.old, &thread.credentials())
    }

    /// Past the point of no return.
    pub fn take_effect(&self, thread: &Thread) {
        let process = thread.process();
        let old = &self.old;
        let is_plain = self.is_readable && old.euid == old.uid && old.egid == old.gid;
        process.dumpable.store(i32::from(is_plain), Ordering::Relaxed);
        process.personality.store(self.personality, Ordering::Relaxed);
        if self.is_secure {
            process.with_limits(|limits| limits.lower(Resource::Stack, SECURE_STACK));
            process.parent_death_signal.store(0, Ordering::Relaxed);
        }
        // May reset them once more. There is nobody else any more to change them.
        thread.replace_credentials(old, &self.credentials);
    }
}
