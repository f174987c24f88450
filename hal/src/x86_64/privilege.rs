//! Rings.

use crate::traits::PrivilegeLevel;

/// A ring, as the low two bits of CS name it. Rings 1 and 2 are not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// The kernel.
    Ring0,
    /// Programs.
    Ring3,
}

impl PrivilegeLevel for Privilege {
    const KERNEL: Self = Self::Ring0;
    const USER: Self = Self::Ring3;
}
