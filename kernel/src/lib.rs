//! Breenix's kernel as a library: everything but the entry point, so that it also builds and is tested on the host, where
//! `hal::host` gives it simulated CPUs and memory.
//!
//! `docs/ARCHITECTURE.md` shows how the modules stand to each other and the flow through them.

#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod block;
pub mod boot;
pub mod build_id;
pub mod clock;
pub mod command_line;
pub mod cpu;
pub mod crash;
pub mod drivers;
pub mod errno;
pub mod fs;
pub mod ipc;
pub mod irq;
pub mod klog;
pub mod mm;
pub mod namespace;
pub mod net;
pub mod panic;
pub mod random;
pub mod rt;
pub mod symbols;
pub mod sync;
pub mod syscall;
pub mod tally;
pub mod task;
pub mod trace;
pub mod tty;
pub mod wakeups;
