//! The host: a machine of simulated CPUs, memory and interrupts, on which the kernel's library runs under `cargo test`.
//!
//! A [`Machine`] is a clock, an interrupt controller and [`MAX_CPUS`](crate::MAX_CPUS) CPUs. A host thread *is* one of
//! its CPUs at any moment: by default CPU 0 of a machine of its own, so that tests running side by side share no clock
//! and no interrupt. [`set_cpu_id`] turns the thread into another CPU (one thread can step several CPUs in an order of
//! its choice); [`Machine::attach`] makes a further thread a CPU of the same machine, for real concurrency. Everything
//! that belongs to a CPU (mask flag, in-interrupt flag, active page table, TLB, FP registers, timer) lives in the
//! machine, not in the thread.
//!
//! Physical memory is one lazily committed allocation shared by all machines of the process ([`ram`]).
//!
//! **Translation is honest.** A page table is a map from page to frame and flags, costs table frames like a real one,
//! and is cached by a TLB per CPU which nothing but [`PageTable::invalidate`](crate::traits::PageTableOps::invalidate)
//! and a change of table empties. Code that forgets a shootdown reads stale memory here as it would on a machine.
//!
//! **Interrupts** are raised by [`Machine::raise_line`], IPIs and the clock. They are delivered to the function given
//! to [`Machine::set_interrupt_handler`] where a CPU unmasks them, come out of `enter_user`, or are collected by
//! [`take_interrupt`].
//!
//! **User mode** is a Rust closure ([`Program`]) that is handed the registers, touches memory by [`load`], [`store`]
//! and [`fetch`], and returns the trap that it runs into.

mod context;
mod controller;
mod cpu;
mod machine;
mod paging;
mod percpu;
mod privilege;
mod ram;
pub mod serial;
mod signal;
mod timer;
mod traced;

pub use context::{FpState, Program, Registers, UserContext, program};
pub use controller::{Controller, controller};
pub use cpu::{Cpu, fetch, load, store};
pub use machine::{Machine, machine, set_cpu_id, take_interrupt};
pub use paging::{PageTable, PteFlags};
pub use percpu::PerCpu;
pub use privilege::Privilege;
pub use ram::{RAM_BYTES, RAM_START, ram};
pub use timer::Timer;
pub use traced::DebugRegisters;

use crate::abi::Abi;

/// Whether any of a range is simulated RAM.
pub fn is_ram(range: crate::boot_info::PhysRange) -> bool {
    ram().iter().any(|run| run.start < range.end && range.start < run.end)
}

/// Maps a device's registers: the simulated bus has none, so there is nothing to map.
pub fn map_device(_physical: crate::addr::PhysAddr, _length: u64) -> Option<*mut u8> {
    None
}

/// As [`map_device`].
pub fn map_write_combining(_physical: crate::addr::PhysAddr, _length: u64) -> Option<*mut u8> {
    None
}

/// The host speaks the x86_64 system-call ABI, whatever it runs on.
pub const ABI: Abi = Abi::X86_64;

/// There is no PC's keyboard controller.
pub fn keyboard_controller() -> Option<&'static dyn crate::ps2::KeyboardController> {
    None
}
