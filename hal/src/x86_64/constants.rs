//! Numbers that assembly, linker script and Rust share: the address-space layout, selectors, vectors, MSRs.
//!
//! ```text
//! 0000_0000_0000_0000  user half, up to USER_END
//! ffff_8000_0000_0000  DIRECT_MAP: all RAM, and mapped devices at the same offset, uncached
//! ffff_fe80_0000_0000  DEVICE_WINDOW: devices mapped once the machine is up
//! ffff_ff00_0000_0000  STACKS: one slot per CPU, every stack above an unmapped page
//! ffff_ffff_8000_0000  the kernel image, linked at KERNEL_BASE + 2 MiB
//! ```
//!
//! "SDM" is Intel's Software Developer's Manual.

/// Where physical address 0 stands in the direct map.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// The first byte of the window for devices, 512 GiB long.
pub const DEVICE_WINDOW: u64 = 0xffff_fe80_0000_0000;
/// The first byte of the per-CPU stack slots.
pub const STACKS: u64 = 0xffff_ff00_0000_0000;
/// Image addresses are this much above the physical ones that the image is linked for; `kernel.ld` says the same.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
/// One past the last user address: Linux's `TASK_SIZE_MAX` with four-level tables. The last canonical page is left out,
/// so that no `syscall` instruction can stand where its return address is not canonical.
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// Linux's `__KERNEL_CS`; `STAR` needs the data segment behind it.
pub const KERNEL_CS: u16 = 0x10;
/// Linux's `__KERNEL_DS`.
pub const KERNEL_DS: u16 = 0x18;
/// Linux's `__USER32_CS`, the base from which `sysretq` computes the two below.
pub const USER32_CS: u16 = 0x23;
/// Linux's `__USER_DS`.
pub const USER_DS: u16 = 0x2b;
/// Linux's `__USER_CS`.
pub const USER_CS: u16 = 0x33;
/// The task-state segment's descriptor, two entries long.
pub const TSS_SELECTOR: u16 = 0x40;

/// The vector of global system interrupt 0; the others follow.
pub const LINE_VECTOR: u32 = 0x30;
/// How many global system interrupts have a vector.
pub const LINES: u32 = 0xa0;
/// The local timer's vector.
pub const TIMER_VECTOR: u32 = 0xf0;
/// The vector of [`send_ipi`](crate::traits::InterruptController::send_ipi).
pub const IPI_VECTOR: u32 = 0xf1;
/// The local APIC's spurious vector (SDM volume 3, 11.9).
pub const SPURIOUS_VECTOR: u32 = 0xff;

/// `IA32_APIC_BASE` (SDM volume 4, table 2-2, like all below).
pub const MSR_APIC_BASE: u32 = 0x1b;
/// `IA32_PAT`.
pub const MSR_PAT: u32 = 0x277;
/// `IA32_TSC_DEADLINE`.
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;
/// The first x2APIC register; the register at xAPIC offset `o` is MSR `0x800 + (o >> 4)`.
pub const MSR_X2APIC: u32 = 0x800;
/// `IA32_EFER`.
pub const MSR_EFER: u32 = 0xc000_0080;
/// `IA32_STAR`.
pub const MSR_STAR: u32 = 0xc000_0081;
/// `IA32_LSTAR`.
pub const MSR_LSTAR: u32 = 0xc000_0082;
/// `IA32_CSTAR`, read by AMD's CPUs for `syscall` in compatibility mode.
pub const MSR_CSTAR: u32 = 0xc000_0083;
/// `IA32_FMASK`.
pub const MSR_FMASK: u32 = 0xc000_0084;
/// `IA32_FS_BASE`.
pub const MSR_FS_BASE: u32 = 0xc000_0100;
/// `IA32_GS_BASE`.
pub const MSR_GS_BASE: u32 = 0xc000_0101;
/// `IA32_KERNEL_GS_BASE`.
pub const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// `EFER`: `syscall` enabled, long mode enabled, no-execute enabled.
pub const EFER_BITS: u64 = 1 << 0 | 1 << 8 | 1 << 11;

/// RFLAGS bits (SDM volume 1, 3.4.3).
pub mod rflags {
    /// Bit 1, always one.
    pub const FIXED: u64 = 1 << 1;
    /// Trap: single step.
    pub const TF: u64 = 1 << 8;
    /// Interrupts enabled.
    pub const IF: u64 = 1 << 9;
    /// Direction.
    pub const DF: u64 = 1 << 10;
    /// I/O privilege level.
    pub const IOPL: u64 = 3 << 12;
    /// Nested task.
    pub const NT: u64 = 1 << 14;
    /// Resume.
    pub const RF: u64 = 1 << 16;
    /// Alignment check, and SMAP's override.
    pub const AC: u64 = 1 << 18;
    /// What a program may set for itself (Linux's `FIX_EFLAGS`): CF PF AF ZF SF TF DF OF RF AC.
    pub const USER: u64 = 0x5_0dd5 | RF | AC;
}

/// Bytes of a CPU's main stack.
pub const STACK_SIZE: u64 = 128 << 10;
/// Bytes of each interrupt-stack-table stack, which is aligned to its size.
pub const IST_SIZE: u64 = 32 << 10;
/// Interrupt-stack-table stacks per CPU.
pub const IST_COUNT: u64 = 4;
/// IST index (1-based, as gates count) of the double fault.
pub const IST_DOUBLE_FAULT: u8 = 1;
/// IST index of the NMI.
pub const IST_NMI: u8 = 2;
/// IST index of the machine check.
pub const IST_MACHINE_CHECK: u8 = 3;
/// IST index of the debug exception.
pub const IST_DEBUG: u8 = 4;
/// Address space from one CPU's stacks to the next one's.
pub const STACK_SLOT: u64 = 1 << 20;
