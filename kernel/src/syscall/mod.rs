//! System calls.
//!
//! A handler is `pub async fn name(t: &Thread, arguments…) -> Result<u64>`; its arguments are integers of any width
//! ([`FromRegister`]), and what it returns is the value of the return register. [`table`] names every call.

pub mod fs;

/// An argument as it stands in a register: the low bits, sign- or zero-extended by the type that the handler declares.
pub trait FromRegister {
    /// The value.
    fn from_register(register: u64) -> Self;
}

macro_rules! from_register {
    ($($type:ty)*) => {
        $(impl FromRegister for $type {
            fn from_register(register: u64) -> Self {
                register as Self
            }
        })*
    };
}

from_register!(u64 i64 u32 i32 usize u16);
