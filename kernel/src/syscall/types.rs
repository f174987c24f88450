//! Structures that calls exchange with user mode, in Linux's layout, and how times become nanoseconds.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};

const NANOS: i64 = 1_000_000_000;

/// `struct __kernel_timespec` (`linux/time_types.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, below one thousand million.
    pub nanoseconds: i64,
}

impl Timespec {
    /// The time as nanoseconds, capped at what 64 bits hold (292 years).
    ///
    /// # Errors
    /// `EINVAL` if it is negative or the nanoseconds are out of range.
    pub fn to_nanoseconds(self) -> Result<u64> {
        if self.seconds < 0 || !(0..NANOS).contains(&self.nanoseconds) {
            return Err(Errno::EINVAL);
        }
        Ok(self.seconds.saturating_mul(NANOS).saturating_add(self.nanoseconds) as u64)
    }

    /// Nanoseconds as a time.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self {
            seconds: (nanoseconds / NANOS as u64) as i64,
            nanoseconds: (nanoseconds % NANOS as u64) as i64,
        }
    }
}

/// `struct __kernel_old_timeval` (`linux/time_types.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Timeval {
    /// Seconds.
    pub seconds: i64,
    /// Microseconds, below a million.
    pub microseconds: i64,
}

impl Timeval {
    /// The time as nanoseconds, capped at what 64 bits hold.
    ///
    /// # Errors
    /// `EINVAL` if it is negative or the microseconds are out of range.
    pub fn to_nanoseconds(self) -> Result<u64> {
        if !(0..1_000_000).contains(&self.microseconds) {
            return Err(Errno::EINVAL);
        }
        Timespec {
            seconds: self.seconds,
            nanoseconds: self.microseconds * 1000,
        }
        .to_nanoseconds()
    }

    /// Nanoseconds as a time, rounded down.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        let time = Timespec::from_nanoseconds(nanoseconds);
        Self {
            seconds: time.seconds,
            microseconds: time.nanoseconds / 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_convert_both_ways_and_refuse_nonsense() {
        let time = Timespec {
            seconds: 3,
            nanoseconds: 999_999_999,
        };
        assert_eq!(time.to_nanoseconds(), Ok(3_999_999_999));
        assert_eq!(Timespec::from_nanoseconds(3_999_999_999), time);
        assert_eq!(
            Timespec {
                seconds: i64::MAX,
                nanoseconds: 0
            }
            .to_nanoseconds(),
            Ok(i64::MAX as u64)
        );
        assert_eq!(
            Timespec {
                seconds: -1,
                nanoseconds: 0
            }
            .to_nanoseconds(),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            Timespec {
                seconds: 0,
                nanoseconds: NANOS
            }
            .to_nanoseconds(),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            Timeval {
                seconds: 0,
                microseconds: 1_000_000
            }
            .to_nanoseconds(),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            Timeval {
                seconds: 1,
                microseconds: 5
            }
            .to_nanoseconds(),
            Ok(1_000_005_000)
        );
    }
}
