//! Where things stand in the kernel's half, and the register values that boot code and Rust share.

/// RAM's direct map: the address of physical address 0. It reaches 64 TiB.
pub const DIRECT_MAP: u64 = 0xffff_0000_0000_0000;
/// Device registers: the address of physical address 0, mapped page by page as they are asked for.
pub const DEVICE_WINDOW: u64 = 0xffff_4000_0000_0000;
/// How far both windows reach.
pub const WINDOW_BYTES: u64 = 1 << 46;
/// The stacks of CPU 0, then of CPU 1 and so on, [`STACK_SLOT`] apart.
pub const STACKS: u64 = 0xffff_8000_0000_0000;
/// The image's link address; the same in `kernel.ld`.
pub const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// Bytes of address space for one CPU's stacks: guard page, kernel stack, guard page, exception stack. The next slot's
/// guard page ends the exception stack.
pub const STACK_SLOT: u64 = 512 << 10;
/// Bytes of a CPU's kernel stack, on which everything is polled.
pub const KERNEL_STACK: u64 = 256 << 10;
/// Bytes of a CPU's exception stack: interrupt dispatch and fault reports.
pub const EXCEPTION_STACK: u64 = 32 << 10;
/// Offset of the kernel stack's first byte in its slot.
pub const KERNEL_STACK_OFFSET: u64 = 4096;
/// Offset of the exception stack's first byte in its slot.
pub const EXCEPTION_STACK_OFFSET: u64 = KERNEL_STACK_OFFSET + KERNEL_STACK + 4096;

/// `MAIR_EL1` (Arm ARM D19.2.97): index 0 normal write-back, 1 device nGnRE, 2 normal non-cacheable.
pub const MAIR: u64 = 0x44_04_ff;
/// MAIR index of normal memory.
pub const ATTR_NORMAL: u64 = 0;
/// MAIR index of device memory.
pub const ATTR_DEVICE: u64 = 1;
/// MAIR index of normal memory that is not cached.
pub const ATTR_UNCACHED: u64 = 2;

/// `TCR_EL1` without what depends on the CPU (IPS, AS, E0PD1): 48-bit halves, 4 KiB granules, walks inner-shareable and
/// write-back (D19.2.139).
pub const TCR: u64 = 16 // T0SZ
    | 1 << 8 | 1 << 10 | 3 << 12 // IRGN0, ORGN0, SH0
    | 16 << 16 // T1SZ
    | 1 << 24 | 1 << 26 | 3 << 28 // IRGN1, ORGN1, SH1
    | 2 << 30; // TG1 = 4 KiB

/// `SCTLR_EL1` with the MMU off: the bits that are RES1 in Armv8.0 (D19.2.118).
pub const SCTLR_OFF: u64 = 1 << 11 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 28 | 1 << 29;
/// `SCTLR_EL1` as the kernel runs: MMU and caches on, stack alignment checked, EL0 allowed `DC ZVA`, cache maintenance,
/// `CTR_EL0`, `WFI` and `WFE`. SPAN (bit 23) is set by the boot code where the CPU has no PAN.
pub const SCTLR_ON: u64 = 1 // M
    | 1 << 2 // C
    | 1 << 3 | 1 << 4 // SA, SA0
    | 1 << 7 | 1 << 8 // ITD, SED
    | 1 << 11 // EOS
    | 1 << 12 // I
    | 1 << 14 | 1 << 15 // DZE, UCT
    | 1 << 16 | 1 << 18 // nTWI, nTWE
    | 1 << 20 | 1 << 22 // TSCXT, EIS
    | 1 << 26 // UCI
    | 1 << 28 | 1 << 29; // nTLSMD, LSMAOE
