//! Memory: frames, the heap, address spaces, copies from and to user mode.

pub mod frame;
pub mod heap;
pub mod pager;
pub mod user;

pub use pager::{Backing, MemoryObject, Pager};
pub use user::UserFault;

/// Stands in for the address space.
#[derive(Debug)]
pub struct AddressSpace;
