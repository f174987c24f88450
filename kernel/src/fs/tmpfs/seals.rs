//! Seals: what may not be done to a memory file any more (`F_ADD_SEALS`).

use alloc::sync::Arc;

use linux_raw_sys::general as linux;

use crate::{
    errno::{Errno, Result},
    fs::file::SharedMapping,
    mm::space::Attach,
};

/// All that there are (those of Linux 6.1).
const ALL: u32 =
    linux::F_SEAL_SEAL | linux::F_SEAL_SHRINK | linux::F_SEAL_GROW | linux::F_SEAL_WRITE | linux::F_SEAL_FUTURE_WRITE;

/// What is asked of a file that may be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its length becomes this.
    Length(u64),
    /// Contents are written, or a hole is made.
    Contents,
}

/// The seals of a file that can have them.
pub struct Seals {
    bits: u32,
    /// Held once more by each shared mapping that may be written.
    writers: Arc<Writers>,
}

/// See [`Seals`].
struct Writers;

impl Attach for Writers {}

impl Seals {
    /// None yet.
    pub fn new() -> Self {
        Self {
            bits: 0,
            writers: Arc::new(Writers),
        }
    }

    /// `F_SEAL_*`.
    pub const fn bits(&self) -> u32 {
        self.bits
    }

    /// Adds seals.
    ///
    /// # Errors
    /// `EINVAL` for bits that are none; `EPERM` after `F_SEAL_SEAL`; `EBUSY` for `F_SEAL_WRITE` while a shared mapping may be written.
    pub fn add(&mut self, seals: u32) -> Result<()> {
        if seals & !ALL != 0 {
            return Err(Errno::EINVAL);
        }
        if self.bits & linux::F_SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        // Who is about to map it has a share already.
        let forbids = seals & !self.bits & linux::F_SEAL_WRITE != 0;
        if forbids && Arc::strong_count(&self.writers) > 1 {
            return Err(Errno::EBUSY);
        }
        self.bits |= seals;
        Ok(())
    }

    /// Whether a file of `length` bytes may be changed.
    ///
    /// # Errors
    /// `EPERM`.
    pub const fn permit(&self, change: Change, length: u64) -> Result<()> {
        let forbidden_by = match change {
            Change::Length(new) if new > length => linux::F_SEAL_GROW,
            Change::Length(new) if new < length => linux::F_SEAL_SHRINK,
            Change::Length(_) => 0,
            Change::Contents => linux::F_SEAL_WRITE | linux::F_SEAL_FUTURE_WRITE,
        };
        if self.bits & forbidden_by != 0 {
            Err(Errno::EPERM)
        } else {
            Ok(())
        }
    }

    /// Whether a shared mapping by a descriptor that may write may be made; `writes` says that it asks for that at once.
    ///
    /// # Errors
    /// `EPERM`. One that only reads, and that nothing can make writable, may always be made.
    pub fn map(&self, writes: bool) -> Result<SharedMapping> {
        let sealed = self.bits & (linux::F_SEAL_WRITE | linux::F_SEAL_FUTURE_WRITE) != 0;
        if sealed && writes {
            return Err(Errno::EPERM);
        }
        Ok(SharedMapping {
            attach: if sealed { None } else { Some(self.writers.clone()) },
            may_write: !sealed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_that_may_write_keeps_the_seal_away() {
        let mut seals = Seals::new();
        let mapped = seals.map(false).unwrap();
        assert!(mapped.may_write);
        assert_eq!(seals.add(linux::F_SEAL_WRITE), Err(Errno::EBUSY));
        assert_eq!(seals.add(linux::F_SEAL_GROW | linux::F_SEAL_FUTURE_WRITE), Ok(()));
        drop(mapped);
        let reads = seals.map(false).unwrap();
        assert!(!reads.may_write);
        assert!(seals.map(true).is_err());
        assert_eq!(seals.add(linux::F_SEAL_WRITE), Ok(()), "it can never write");
        assert!(!seals.map(false).unwrap().may_write);
        assert!(seals.map(true).is_err());
    }

    #[test]
    fn each_seal_forbids_what_it_says() {
        let permits = |bits| {
            let mut seals = Seals::new();
            seals.add(bits).unwrap();
            [
                Change::Length(1),
                Change::Length(3),
                Change::Length(2),
                Change::Contents,
            ]
            .map(|change| seals.permit(change, 2).is_ok())
        };
        assert_eq!(permits(0), [true, true, true, true]);
        assert_eq!(permits(linux::F_SEAL_SHRINK), [false, true, true, true]);
        assert_eq!(permits(linux::F_SEAL_GROW), [true, false, true, true]);
        assert_eq!(permits(linux::F_SEAL_WRITE), [true, true, true, false]);
        assert_eq!(permits(linux::F_SEAL_FUTURE_WRITE), [true, true, true, false]);
        let mut seals = Seals::new();
        seals.add(linux::F_SEAL_SEAL).unwrap();
        assert_eq!(seals.add(0), Err(Errno::EPERM));
        assert_eq!(Seals::new().add(32), Err(Errno::EINVAL));
    }
}
