//! Memory: frames, the heap, address spaces, copies from and to user mode.

pub mod frame;
