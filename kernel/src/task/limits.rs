//! Resource limits (`getrlimit(2)`). A limit is stored here and enforced by whoever owns the resource.

use crate::errno::{Errno, Result};

/// No limit.
pub const INFINITY: u64 = u64::MAX;

/// What can be limited; the values are `asm-generic/resource.h`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[expect(missing_docs, reason = "the names are Linux's")]
pub enum Resource {
    Cpu,
    FileSize,
    Data,
    Stack,
    Core,
    Rss,
    Processes,
    OpenFiles,
    LockedMemory,
    AddressSpace,
    Locks,
    PendingSignals,
    MessageQueues,
    Nice,
    RealtimePriority,
    RealtimeTime,
}

/// How many resources there are.
pub const RESOURCES: usize = 16;

/// A soft and a hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is enforced.
    pub soft: u64,
    /// How far an unprivileged process may raise `soft`.
    pub hard: u64,
}

/// All limits of a process.
#[derive(Clone, Debug)]
pub struct Limits([Limit; RESOURCES]);

impl Limits {
    /// What the first process starts with (`INIT_RLIMITS`).
    pub const fn initial() -> Self {
        const fn both(soft: u64, hard: u64) -> Limit {
            Limit { soft, hard }
        }
        let mut limits = [both(INFINITY, INFINITY); RESOURCES];
        limits[Resource::Stack as usize] = both(8 << 20, INFINITY);
        limits[Resource::Core as usize] = both(0, INFINITY);
        limits[Resource::Processes as usize] = both(30000, 30000);
        limits[Resource::OpenFiles as usize] = both(1024, 4096);
        limits[Resource::LockedMemory as usize] = both(8 << 20, 8 << 20);
        limits[Resource::PendingSignals as usize] = both(30000, 30000);
        limits[Resource::MessageQueues as usize] = both(819_200, 819_200);
        limits[Resource::Nice as usize] = both(0, 0);
        limits[Resource::RealtimePriority as usize] = both(0, 0);
        Self(limits)
    }

    /// The limit of a resource.
    pub const fn get(&self, resource: Resource) -> Limit {
        self.0[resource as usize]
    }

    /// Lowers a soft limit to `most`, where it is above.
    pub fn lower(&mut self, resource: Resource, most: u64) {
        let soft = &mut self.0[resource as usize].soft;
        *soft = most.min(*soft);
    }

    /// The limit by Linux's number.
    ///
    /// # Errors
    /// `EINVAL` if there is no such resource.
    pub fn by_number(&self, number: u32) -> Result<Limit> {
        self.0.get(number as usize).copied().ok_or(Errno::EINVAL)
    }

    /// Replaces a limit by Linux's number.
    ///
    /// # Errors
    /// `EINVAL` for an unknown resource or a soft limit above the hard one, `EPERM` for a raised hard limit without
    /// `privileged`.
    pub fn set_by_number(&mut self, number: u32, limit: Limit, privileged: bool) -> Result<()> {
        let old = self.by_number(number)?;
        if limit.soft > limit.hard {
            return Err(Errno::EINVAL);
        }
        if limit.hard > old.hard && !privileged {
            return Err(Errno::EPERM);
        }
        self.0[number as usize] = limit;
        Ok(())
    }
}
