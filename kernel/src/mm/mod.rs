//! Memory: frames, the heap, address spaces, copies from and to user mode.
//!
//! - [`fallible`]: growing that can be refused.
//! - [`frame`]: physical frames, counted.
//! - [`heap`]: the kernel's own small and large allocations, on frames.
//! - [`space`]: what a process sees; page faults, mapping calls, fork, TLB shootdown.
//! - [`pager`]: where pages of files and shared memory come from.
//! - [`reclaim`]: caches, which give back frames when they run short.
//! - [`shortage`]: waiting for frames where there are none.
//! - [`user`]: attempts to copy from and to the active address space.

pub mod dma;
pub mod fallible;
pub mod frame;
pub mod heap;
pub mod pager;
pub mod reclaim;
pub mod shortage;
pub mod space;
pub mod user;

pub use frame::Frame;
pub use pager::{Backing, MemoryObject, Pager};
pub use space::{AddressSpace, FaultError, Map, MapEntry, MapFlags, Prot, STACK_TOP};
pub use user::UserFault;
