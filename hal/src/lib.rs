//! What differs between machines, and nothing else.
//!
//! `hal` is the only crate with assembly and the only one that asks for the target architecture. It knows no kernel: it
//! offers the nine traits of [`traits`], implemented three times by modules of the same names (`aarch64`, `x86_64`,
//! [`host`]), and calls back through the few symbols of [`upcall`]. The machine the crate is built for is [`arch`].
//!
//! [`host`] is a real implementation, not a mock: simulated CPUs, physical memory and page tables on which the kernel's
//! library runs under `cargo test`.

#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod abi;
pub mod addr;
pub mod boot_info;
pub mod dma;
pub mod firmware;
pub mod framebuffer;
pub mod image;
#[cfg(any(target_os = "none", test))]
mod memory_layout;
pub mod mmio;
pub mod pci;
mod prefetch;
pub mod ps2;
pub mod serial;
pub mod signal;
#[cfg(any(target_os = "none", test))]
mod table_walk;
pub mod traced;
pub mod traits;
pub mod trap;
pub mod upcall;

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
pub mod aarch64;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
pub use aarch64 as arch;

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
pub mod x86_64;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
pub use self::x86_64 as arch;

#[cfg(not(target_os = "none"))]
pub mod host;
#[cfg(not(target_os = "none"))]
pub use host as arch;

pub use prefetch::prefetch;
pub use vdso;

/// The most CPUs one kernel image drives; a machine with more runs on the first this many. One `u64` holds a set of
/// them.
pub const MAX_CPUS: usize = 64;

/// Bytes in a page and in a frame on every supported machine.
pub const PAGE_SIZE: usize = 4096;
