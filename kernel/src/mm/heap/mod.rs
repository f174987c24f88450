//! The kernel's heap.

/// Gives memory that the heap holds but does not need back to the frame allocator.
pub fn trim() {}
