//! How tasks are asked for, named and refused.

use core::fmt;

use crate::real_time::RealTime;

/// Who goes first when several tasks are ready: lower classes are served first, each in bounded batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Serves a device. Pinned to its CPU, where it owns one bit of the ready bitmap: at most
    /// [`DRIVERS_PER_CPU`](crate::DRIVERS_PER_CPU), lower numbers first.
    Driver = 0,
    /// Short work that keeps time for others. Pinned to its CPU, first come first served.
    Timer = 1,
    /// The kernel's own longer work. Pinned to its CPU, first come first served.
    Service = 2,
    /// User threads: real-time ones first, see [`RealTime`]; the others fair by weight, sliced, balanced over the CPUs of their
    /// affinity mask.
    User = 3,
}

impl Class {
    pub(crate) const fn from_bits(bits: u32) -> Self {
        match bits {
            0 => Self::Driver,
            1 => Self::Timer,
            2 => Self::Service,
            _ => Self::User,
        }
    }
}

/// The weight of one share: nice 0.
pub const WEIGHT_ONE: u32 = 1024;

/// A task's name: at most 16 bytes of text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name([u8; 16]);

impl Name {
    /// The first 16 bytes of `name`.
    #[must_use]
    pub const fn new(name: &str) -> Self {
        let name = name.as_bytes();
        let mut bytes = [0; 16];
        let mut at = 0;
        while at < name.len() && at < bytes.len() {
            bytes[at] = name[at];
            at += 1;
        }
        Self(bytes)
    }

    /// The name as two words, for who stores it in such: its bytes, the first the lowest, zeroes behind them.
    #[must_use]
    pub const fn words(self) -> [u64; 2] {
        let word = u128::from_le_bytes(self.0);
        [word as u64, (word >> 64) as u64]
    }

    /// The name that [`Name::words`] says.
    #[must_use]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self((words[0] as u128 | (words[1] as u128) << 64).to_le_bytes())
    }

    /// As text, up to the first character that was cut through.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(16);
        match core::str::from_utf8(&self.0[..length]) {
            Ok(name) => name,
            Err(error) => core::str::from_utf8(&self.0[..error.valid_up_to()]).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a task is to be spawned.
#[derive(Clone, Copy, Debug)]
pub struct SpawnOptions {
    /// Its class.
    pub class: Class,
    /// Its name.
    pub name: Name,
    /// The CPU it starts on; `None` is the caller's, or for [`Class::User`] the least loaded one.
    pub cpu: Option<u32>,
    /// The CPUs it may run on, for [`Class::User`]: bit n is CPU n.
    pub affinity: u64,
    /// Its share among fair user tasks, against [`WEIGHT_ONE`].
    pub weight: u32,
    /// What puts it before those, for [`Class::User`].
    pub real_time: RealTime,
}

impl SpawnOptions {
    /// A task of `class` called `name` (the first 16 bytes are kept), anywhere, with one share. Best made in a `const`.
    #[must_use]
    pub const fn new(class: Class, name: &str) -> Self {
        Self {
            class,
            name: Name::new(name),
            cpu: None,
            affinity: u64::MAX,
            weight: WEIGHT_ONE,
            real_time: RealTime::NONE,
        }
    }

    /// On this CPU.
    #[must_use]
    pub const fn cpu(mut self, cpu: u32) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// On these CPUs only.
    #[must_use]
    pub const fn affinity(mut self, mask: u64) -> Self {
        self.affinity = mask;
        self
    }

    /// With this share.
    #[must_use]
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Before all that have a share.
    #[must_use]
    pub const fn real_time(mut self, real_time: RealTime) -> Self {
        self.real_time = real_time;
        self
    }
}

/// Why a task could not be spawned. The future has been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// No memory for the future or for the slab.
    OutOfMemory,
    /// The CPU's driver numbers are all taken.
    NoDriverSlot,
    /// The CPU does not exist, or is not one of the affinity mask.
    NoSuchCpu,
}

impl core::fmt::Display for SpawnError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::OutOfMemory => "no memory for another task",
            Self::NoDriverSlot => "no driver slot left on the CPU",
            Self::NoSuchCpu => "no such CPU",
        })
    }
}

impl core::error::Error for SpawnError {}

/// Why a joined task has no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// It was aborted before it ended by itself.
    Aborted,
}

impl core::fmt::Display for JoinError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the task was aborted")
    }
}

impl core::error::Error for JoinError {}

/// A task's identity: slot and generation. A stale one matches no later task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub(crate) u64);

impl TaskId {
    pub(crate) const fn new(slot: u32, generation: u32) -> Self {
        Self((slot as u64) << 32 | generation as u64)
    }

    pub(crate) const fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) const fn generation(self) -> u32 {
        self.0 as u32
    }

    /// A number for listings, unique over the life of the machine.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}
