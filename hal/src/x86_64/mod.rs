//! x86_64: PC-compatible machines, entered by the PVH protocol in 32-bit mode.
//!
//! [`boot`] brings the boot CPU from 32-bit mode to the kernel's final page tables and calls `breenix_main`; [`smp`]
//! does the same for the others. From then on the way in and out of user mode is one pair of routines in [`entry`]:
//! `enter_user` leaves by `sysretq` or `iretq`, and every way back (`syscall`, interrupt, exception) stores the
//! registers in the thread's [`UserContext`] and returns from that same call. There is one kernel stack per CPU, and no
//! other place where user registers are kept.
//!
//! # Who may touch GS
//!
//! In kernel mode `GS_BASE` is the CPU's [`percpu::CpuData`]; `KERNEL_GS_BASE` holds the user's. Ordinary entries
//! decide by the saved CS. The entries that may come between a `swapgs` and the switch of privilege it belongs to (NMI,
//! double fault, machine check, debug) run on stacks of their own whose last word is the CPU's `CpuData`, so they never
//! ask what GS happens to be.

#![expect(unsafe_code, reason = "this is the machine: registers, page tables, entry points")]

pub mod apic;
pub mod boot;
pub mod clock_chip;
pub mod constants;
pub mod cpu;
pub mod cpuid;
pub mod cpuinfo;
mod debug;
mod device_map;
pub mod entry;
pub mod fp;
pub mod idt;
pub mod interrupt_frame;
pub mod io_apic;
pub mod lock;
pub mod paging;
pub mod percpu;
pub mod platform;
pub mod privilege;
mod ps2;
pub mod reference_clock;
pub mod registers;
pub mod segments;
pub mod serial;
pub mod signal;
pub mod smp;
mod start_info;
pub mod timer;
pub mod traced;
pub mod trap_decode;
pub mod user_copy;

pub use apic::{Controller, controller};
pub use boot::is_ram;
pub use cpu::Cpu;
pub use debug::DebugRegisters;
pub use device_map::{map_device, map_write_combining};
pub use fp::FpState;
pub use interrupt_frame::UserContext;
pub use paging::{PageTable, PteFlags};
pub use percpu::PerCpu;
pub use privilege::Privilege;
pub use ps2::keyboard_controller;
pub use timer::Timer;

/// The system-call ABI of this machine.
pub const ABI: crate::abi::Abi = crate::abi::Abi::X86_64;
