//! The symbols through which `hal` calls the kernel. The kernel's binary defines them; the host build has no need to.

#![expect(unsafe_code, reason = "declares the symbols that the kernel binary defines")]

use crate::{boot_info::Machine, trap::InterruptToken, trap::KernelFault};

unsafe extern "Rust" {
    /// The boot CPU's entry: on its own guarded stack, with the kernel's final page tables, interrupts masked, and
    /// `arch` ready for use. Secondary CPUs have not been started.
    pub safe fn breenix_main(machine: &'static Machine) -> !;

    /// A secondary CPU's entry, in the same state as [`breenix_main`].
    pub safe fn breenix_secondary(cpu: u32) -> !;

    /// An interrupt taken while the kernel ran; interrupts are masked, and the kernel's registers are saved. An
    /// interrupt taken in user mode does not come here but out of `enter_user`.
    pub safe fn breenix_interrupt(token: InterruptToken);

    /// A fault of the kernel itself that no fix-up explains.
    pub safe fn breenix_kernel_fault(fault: &KernelFault) -> !;
}
