//! Memory: frames, the heap, address spaces, copies from and to user mode.

pub mod frame;

/// Stands in for the address space.
#[derive(Debug)]
pub struct AddressSpace;
