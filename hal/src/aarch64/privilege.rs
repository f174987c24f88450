//! EL1 and EL0.

use crate::traits::PrivilegeLevel;

/// The exception level a context ran at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// EL1.
    Kernel,
    /// EL0.
    User,
}

impl PrivilegeLevel for Privilege {
    const KERNEL: Self = Self::Kernel;
    const USER: Self = Self::User;
}

impl Privilege {
    /// The level in a saved `PSTATE`: its `M[3:2]` (Arm ARM C5.2.19, `SPSR_EL1`).
    pub(super) const fn of_pstate(pstate: u64) -> Self {
        if pstate & 0xc == 0 { Self::User } else { Self::Kernel }
    }
}
