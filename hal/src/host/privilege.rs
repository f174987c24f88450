//! The two privileges of the simulated CPU.

use crate::traits::PrivilegeLevel;

/// The level a context runs at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// The kernel.
    Kernel,
    /// A program.
    User,
}

impl PrivilegeLevel for Privilege {
    const KERNEL: Self = Self::Kernel;
    const USER: Self = Self::User;
}
