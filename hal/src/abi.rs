//! Which of Linux's system-call ABIs the machine speaks.

/// The ABIs a system-call table has columns for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// `arch/x86/entry/syscalls/syscall_64.tbl`.
    X86_64,
    /// `include/uapi/asm-generic/unistd.h`, little-endian.
    Aarch64,
}
