//! The 64-bit Arm machine: EL1 kernel, EL0 programs, device tree, GIC, generic timer, PL011, PSCI.
//!
//! Three decisions shape everything below:
//!
//! * **The kernel runs on `SP_EL0`, exceptions arrive on `SP_EL1`.** A fault of the kernel's stack is then an ordinary
//!   fault on a good stack: an overflow is reported, not suffered. Interrupts get their own small stack by the same
//!   stroke. While a program runs, `SP_EL1` points at its [`UserContext`], so the vector saves registers without any
//!   scratch.
//! * **The higher half is fixed** ([`constants`]): a direct map of RAM, a window of device memory, the guarded stacks
//!   and the image. It hangs off TTBR1 and never changes after boot but for added devices; TTBR0 belongs to programs.
//! * **User memory is touched with `LDTR`/`STTR`** ([`user_copy`]), which carry EL0's permissions, so PAN stays set
//!   wherever the CPU has it.

#![expect(
    unsafe_code,
    reason = "system registers, page tables, device registers and the paths between exception levels"
)]

mod acpi;
pub mod boot;
pub mod constants;
pub mod cpu;
mod debug;
mod device_tree;
pub mod exception_frame;
mod exceptions;
pub mod features;
pub mod fp;
pub mod gic;
mod kernel_map;
mod memory;
pub mod paging;
pub mod percpu;
pub mod platform;
pub mod privilege;
mod probe;
pub mod serial;
pub mod signal;
pub mod smp;
mod sysreg;
pub mod timer;
pub mod traced;
mod trap_decode;
pub mod user_copy;

use crate::abi::Abi;

pub use boot::is_ram;
pub use cpu::Cpu;
pub use debug::DebugRegisters;
pub use exception_frame::UserContext;
pub use fp::FpState;
pub use gic::{Controller, controller};
pub use kernel_map::{map_device, map_write_combining};
pub use paging::{PageTable, PteFlags};
pub use percpu::PerCpu;
pub use privilege::Privilege;
pub use timer::Timer;

/// The system-call ABI of this machine.
pub const ABI: Abi = Abi::Aarch64;

/// There is no PC's keyboard controller.
pub fn keyboard_controller() -> Option<&'static dyn crate::ps2::KeyboardController> {
    None
}
