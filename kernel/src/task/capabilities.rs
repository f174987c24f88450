//! Capabilities (`capabilities(7)`): root's power in parts, and the rules by which the sets change.
//!
//! Numbers are `linux/capability.h`'s, bits of `securebits` `linux/securebits.h`'s. What a program's file says is
//! [`file_capabilities`](super::file_capabilities)'.

use core::ops::{BitAnd, BitOr};

use super::file_capabilities::FileCapabilities;
use crate::errno::{Errno, Result};

/// One capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are Linux's")]
pub enum Capability {
    Chown,
    DacOverride,
    DacReadSearch,
    Fowner,
    Fsetid,
    Kill,
    Setgid,
    Setuid,
    Setpcap,
    LinuxImmutable,
    NetBindService,
    NetBroadcast,
    NetAdmin,
    NetRaw,
    IpcLock,
    IpcOwner,
    SysModule,
    SysRawio,
    SysChroot,
    SysPtrace,
    SysPacct,
    SysAdmin,
    SysBoot,
    SysNice,
    SysResource,
    SysTime,
    SysTtyConfig,
    Mknod,
    Lease,
    AuditWrite,
    AuditControl,
    Setfcap,
    MacOverride,
    MacAdmin,
    Syslog,
    WakeAlarm,
    BlockSuspend,
    AuditRead,
    Perfmon,
    Bpf,
    CheckpointRestore,
}

/// The last of them (`CAP_LAST_CAP`).
pub const LAST: Capability = Capability::CheckpointRestore;

/// Some capabilities: bit `n` is number `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// All there are.
    pub const ALL: Self = Self((1 << (LAST as u8 + 1)) - 1);
    /// Those about files, which follow the file-system user (`CAP_FS_SET`).
    pub const FILES: Self = Self::of(&[
        Capability::Chown,
        Capability::DacOverride,
        Capability::DacReadSearch,
        Capability::Fowner,
        Capability::Fsetid,
        Capability::LinuxImmutable,
        Capability::Mknod,
        Capability::MacOverride,
    ]);

    /// These.
    pub const fn of(capabilities: &[Capability]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < capabilities.len() {
            bits |= 1 << capabilities[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    /// Those of the bits that mean any.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// As bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The one of this number; `None` if there is none such.
    pub fn of_number(number: u64) -> Option<Self> {
        (number <= LAST as u64).then(|| Self(1 << number))
    }

    /// Whether it is among them.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 >> capability as u8 & 1 != 0
    }

    /// Whether the two have any in common.
    pub const fn has_any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    /// Whether all of these are among `others`.
    pub const fn is_within(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    /// Those that are not among `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

impl BitOr for CapabilitySet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for CapabilitySet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

bitflags::bitflags! {
    /// How user 0 and capabilities go together. Each bit's neighbour locks it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SecureBits: u8 {
        /// User 0 gets no capabilities by an exec.
        const NO_ROOT = 1 << 0;
        /// Changes of user leave the sets alone.
        const NO_SETUID_FIXUP = 1 << 2;
        /// What is permitted outlives the change from user 0, until an exec.
        const KEEP_CAPS = 1 << 4;
        /// It is locked.
        const KEEP_CAPS_LOCKED = 1 << 5;
        /// The ambient set takes no more.
        const NO_AMBIENT_RAISE = 1 << 6;
        /// The locks of all four.
        const LOCKS = 0xaa;
    }
}

impl SecureBits {
    /// Whether this may become `new`: nothing that is locked changes, nor is unlocked.
    pub const fn may_become(self, new: Self) -> bool {
        let locks = self.bits() & Self::LOCKS.bits();
        locks >> 1 & (self.bits() ^ new.bits()) == 0 && locks & !new.bits() == 0
    }
}

/// The sets of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What may be made effective.
    pub permitted: CapabilitySet,
    /// What counts.
    pub effective: CapabilitySet,
    /// What an exec may keep, together with the file's.
    pub inheritable: CapabilitySet,
    /// What an exec can give at most.
    pub bounding: CapabilitySet,
    /// What an exec of an ordinary program keeps: always both permitted and inheritable.
    pub ambient: CapabilitySet,
    /// How they go together with user 0.
    pub secure_bits: SecureBits,
}

/// The users that matter to the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Users {
    /// The real one.
    pub real: u32,
    /// The effective one.
    pub effective: u32,
    /// The saved one.
    pub saved: u32,
}

impl Users {
    const fn any_is_root(self) -> bool {
        self.real == 0 || self.effective == 0 || self.saved == 0
    }
}

/// What an exec knows of the credentials to be, besides the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The new real user, the same as the old.
    pub real_user: u32,
    /// The new effective user.
    pub effective_user: u32,
    /// Whether the effective user or group becomes another than the real one was.
    pub changes_id: bool,
    /// What the program's file has.
    pub file: Option<FileCapabilities>,
}

/// What an exec grants, before anything is taken back or ambient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// What is permitted.
    pub permitted: CapabilitySet,
    /// Whether that counts at once.
    pub effective: bool,
}

impl Capabilities {
    /// What the first process has: everything that an exec can give and nothing that it keeps.
    pub const fn root() -> Self {
        Self {
            permitted: CapabilitySet::ALL,
            effective: CapabilitySet::ALL,
            inheritable: CapabilitySet::EMPTY,
            bounding: CapabilitySet::ALL,
            ambient: CapabilitySet::EMPTY,
            secure_bits: SecureBits::empty(),
        }
    }

    /// After a change of real, effective and saved user.
    pub fn users_changed(&mut self, old: Users, new: Users) {
        if self.secure_bits.contains(SecureBits::NO_SETUID_FIXUP) {
            return;
        }
        if old.any_is_root() && !new.any_is_root() {
            if !self.secure_bits.contains(SecureBits::KEEP_CAPS) {
                self.permitted = CapabilitySet::EMPTY;
                self.effective = CapabilitySet::EMPTY;
            }
            self.ambient = CapabilitySet::EMPTY;
        }
        if old.effective == 0 && new.effective != 0 {
            self.effective = CapabilitySet::EMPTY;
        }
        if old.effective != 0 && new.effective == 0 {
            self.effective = self.permitted;
        }
    }

    /// After a change of the file-system user alone.
    pub fn file_user_changed(&mut self, old: u32, new: u32) {
        if self.secure_bits.contains(SecureBits::NO_SETUID_FIXUP) {
            return;
        }
        if old == 0 && new != 0 {
            self.effective = self.effective.without(CapabilitySet::FILES);
        }
        if old != 0 && new == 0 {
            self.effective = self.effective | self.permitted & CapabilitySet::FILES;
        }
    }

    /// `capset(2)`: whether the three sets may be replaced so, and the doing.
    pub fn set(&mut self, effective: CapabilitySet, permitted: CapabilitySet, inheritable: CapabilitySet) -> bool {
        let capped = !self.effective.has(Capability::Setpcap);
        if capped && !inheritable.is_within(self.inheritable | self.permitted)
            || !inheritable.is_within(self.inheritable | self.bounding)
            || !permitted.is_within(self.permitted)
            || !effective.is_within(permitted)
        {
            return false;
        }
        (self.effective, self.permitted, self.inheritable) = (effective, permitted, inheritable);
        self.ambient = self.ambient & permitted & inheritable;
        true
    }

    /// What an exec grants: what the file does, and everything for user 0. A file that says what it is to have is not given everything
    /// because its owner is user 0.
    ///
    /// # Errors
    /// `EPERM` for a file whose capabilities are to count at once, and which cannot have all of them.
    pub fn granted_by_exec(&self, exec: Exec) -> Result<Granted> {
        let mut granted = Granted::default();
        if let Some(file) = exec.file {
            granted.permitted = self.bounding & file.permitted | self.inheritable & file.inheritable;
            granted.effective = file.effective;
            if file.effective && !file.permitted.is_within(granted.permitted) {
                return Err(Errno::EPERM);
            }
        }
        let becomes_root = exec.effective_user == 0 && exec.real_user != 0;
        if self.secure_bits.contains(SecureBits::NO_ROOT) || exec.file.is_some() && becomes_root {
            return Ok(granted);
        }
        if exec.real_user == 0 || exec.effective_user == 0 {
            granted.permitted = self.bounding | self.inheritable;
        }
        granted.effective |= exec.effective_user == 0;
        Ok(granted)
    }

    /// The sets after an exec that grants `granted`, and whether the program is to be told that it has more power than who
    /// started it (`AT_SECURE`).
    pub fn after_exec(&self, exec: Exec, granted: Granted) -> (Self, bool) {
        let ambient = if exec.changes_id || exec.file.is_some() {
            CapabilitySet::EMPTY
        } else {
            self.ambient
        };
        let permitted = granted.permitted | ambient;
        let new = Self {
            permitted,
            effective: if granted.effective { permitted } else { ambient },
            ambient,
            secure_bits: self.secure_bits.difference(SecureBits::KEEP_CAPS),
            ..*self
        };
        let secure = exec.changes_id || exec.real_user != 0 && (granted.effective || !permitted.is_within(ambient));
        (new, secure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `xorshift64*`.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        fn set(&mut self) -> CapabilitySet {
            CapabilitySet::from_bits(self.next() >> 8)
        }

        fn capabilities(&mut self) -> Capabilities {
            let (permitted, inheritable) = (self.set(), self.set());
            Capabilities {
                permitted,
                effective: permitted & self.set(),
                inheritable,
                bounding: self.set(),
                ambient: permitted & inheritable & self.set(),
                secure_bits: SecureBits::from_bits_truncate((self.next() >> 32) as u8),
            }
        }

        fn user(&mut self) -> u32 {
            (self.next() >> 40) as u32 % 3
        }
    }

    fn is_sound(sets: &Capabilities) -> bool {
        sets.effective.is_within(sets.permitted) && sets.ambient.is_within(sets.permitted & sets.inheritable)
    }

    #[test]
    fn an_exec_goes_by_the_formulas_of_the_manual() {
        let mut random = Random(7);
        let (mut differed, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let old = random.capabilities();
            let exec = Exec {
                real_user: random.user(),
                effective_user: random.user(),
                changes_id: random.next() >> 63 != 0,
                file: (random.next() >> 62 == 0).then(|| FileCapabilities {
                    permitted: random.set() & random.set(),
                    inheritable: random.set(),
                    effective: random.next() >> 63 != 0,
                }),
            };
            // capabilities(7): "Transformation of capabilities during execve()" and "Capabilities and execution of programs by root".
            // "Set-user-ID-root programs that have file capabilities": user 0 is nothing special then.
            let by_root = !old.secure_bits.contains(SecureBits::NO_ROOT)
                && (exec.file.is_none() || exec.real_user == 0 || exec.effective_user != 0);
            let its = exec.file.unwrap_or_default();
            let (file, file_inheritable) = if by_root && (exec.real_user == 0 || exec.effective_user == 0) {
                (CapabilitySet::ALL, CapabilitySet::ALL)
            } else {
                (its.permitted, its.inheritable)
            };
            let file_effective = its.effective || by_root && exec.effective_user == 0;
            // "Safety checking for capability-dumb binaries".
            let by_file = old.inheritable & its.inheritable | its.permitted & old.bounding;
            if its.effective && !its.permitted.is_within(by_file) {
                assert_eq!(old.granted_by_exec(exec), Err(Errno::EPERM));
                refused += 1;
                continue;
            }
            let ambient = if exec.changes_id || exec.file.is_some() {
                CapabilitySet::EMPTY
            } else {
                old.ambient
            };
            let permitted = old.inheritable & file_inheritable | file & old.bounding | ambient;
            let effective = if file_effective { permitted } else { ambient };

            let (new, _) = old.after_exec(exec, old.granted_by_exec(exec).unwrap());
            assert_eq!(
                (new.permitted, new.effective, new.ambient),
                (permitted, effective, ambient),
                "{old:?} {exec:?}"
            );
            assert_eq!((new.inheritable, new.bounding), (old.inheritable, old.bounding));
            assert!(!new.secure_bits.contains(SecureBits::KEEP_CAPS));
            assert!(is_sound(&new), "{old:?} {exec:?} {new:?}");
            differed += u32::from(new.permitted != old.permitted);
        }
        assert!(differed > 1000 && refused > 100);
    }

    #[test]
    fn no_change_leaves_more_effective_than_is_permitted() {
        let mut random = Random(11);
        for _ in 0..20_000 {
            let mut sets = random.capabilities();
            let old = sets;
            match random.next() >> 62 {
                0 => {
                    let mut users = || Users {
                        real: random.user(),
                        effective: random.user(),
                        saved: random.user(),
                    };
                    let (before, after) = (users(), users());
                    sets.users_changed(before, after);
                }
                1 => {
                    let (before, after) = (random.user(), random.user());
                    sets.file_user_changed(before, after);
                }
                _ => {
                    let (effective, permitted, inheritable) = (random.set(), random.set(), random.set());
                    let (effective, permitted) = (effective & old.effective, permitted & old.permitted);
                    sets.set(effective & permitted, permitted, inheritable & old.permitted);
                }
            }
            assert!(is_sound(&sets), "{old:?} {sets:?}");
            assert!(sets.permitted.is_within(old.permitted), "{old:?} {sets:?}");
        }
    }

    #[test]
    fn sets_are_only_given_up() {
        let (chown, kill) = (
            CapabilitySet::of(&[Capability::Chown]),
            CapabilitySet::of(&[Capability::Kill]),
        );
        let mut sets = Capabilities {
            permitted: chown,
            bounding: chown,
            ..Capabilities::default()
        };
        assert!(!sets.set(kill, chown, CapabilitySet::EMPTY), "effective, not permitted");
        assert!(!sets.set(CapabilitySet::EMPTY, chown | kill, CapabilitySet::EMPTY));
        assert!(!sets.set(CapabilitySet::EMPTY, chown, kill), "not of the bounding set");
        assert!(sets.set(chown, chown, chown));
        sets.ambient = chown;
        assert!(sets.set(CapabilitySet::EMPTY, chown, CapabilitySet::EMPTY));
        assert_eq!(sets.ambient, CapabilitySet::EMPTY, "ambient is inheritable as well");
    }

    #[test]
    fn locked_bits_stay() {
        let locked = SecureBits::KEEP_CAPS_LOCKED;
        assert!(locked.may_become(locked));
        assert!(!locked.may_become(locked | SecureBits::KEEP_CAPS));
        assert!(!locked.may_become(SecureBits::empty()));
        assert!(locked.may_become(locked | SecureBits::NO_ROOT));
        assert!(SecureBits::NO_ROOT.may_become(SecureBits::empty()));
    }

    #[test]
    fn they_are_numbered_as_on_linux() {
        assert_eq!(CapabilitySet::ALL.bits(), 0x1ff_ffff_ffff);
        assert_eq!(LAST as u8, 40);
        assert_eq!((Capability::SysAdmin as u8, Capability::Syslog as u8), (21, 34));
        assert_eq!(CapabilitySet::of_number(41), None);
        assert_eq!(CapabilitySet::FILES.bits(), 0x1_0800_021f);
    }
}
