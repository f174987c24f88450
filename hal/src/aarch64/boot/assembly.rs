//! The code that runs before there is a stack, and the few jumps that Rust cannot express.
//!
//! Everything up to `hal_primary_high` and `hal_secondary_high` runs with the MMU off at physical addresses, so it is
//! position-independent and keeps to the image's first 2 MiB, which the early tables also map where they are.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::sync::atomic::AtomicU64;

use super::super::constants::{
    EXCEPTION_STACK, EXCEPTION_STACK_OFFSET, IMAGE, KERNEL_STACK, KERNEL_STACK_OFFSET, MAIR, SCTLR_OFF, SCTLR_ON,
    STACK_SLOT, STACKS, TCR,
};
use super::super::kernel_map;
use super::super::paging::{self, ENTRIES, index};
use super::super::sysreg::{instruction, write_sysreg};
use super::code_phys;

/// The tables that the boot CPU starts with. The identity part serves each secondary CPU as well.
#[repr(C, align(4096))]
pub(super) struct EarlyTables {
    identity_root: [AtomicU64; ENTRIES],
    identity_1: [AtomicU64; ENTRIES],
    identity_2: [AtomicU64; ENTRIES],
    pub(super) kernel_root: [AtomicU64; ENTRIES],
    image_1: [AtomicU64; ENTRIES],
    image_2: [AtomicU64; ENTRIES],
    pub(super) direct: [AtomicU64; ENTRIES],
    pub(super) direct_low: [AtomicU64; ENTRIES],
    pub(super) direct_high: [AtomicU64; ENTRIES],
}

impl EarlyTables {
    const fn new() -> Self {
        Self {
            identity_root: [const { AtomicU64::new(0) }; ENTRIES],
            identity_1: [const { AtomicU64::new(0) }; ENTRIES],
            identity_2: [const { AtomicU64::new(0) }; ENTRIES],
            kernel_root: [const { AtomicU64::new(0) }; ENTRIES],
            image_1: [const { AtomicU64::new(0) }; ENTRIES],
            image_2: [const { AtomicU64::new(0) }; ENTRIES],
            direct: [const { AtomicU64::new(0) }; ENTRIES],
            direct_low: [const { AtomicU64::new(0) }; ENTRIES],
            direct_high: [const { AtomicU64::new(0) }; ENTRIES],
        }
    }
}

/// Cleared by the assembly, and not with the rest of `.bss`: it is in use by then.
#[unsafe(link_section = ".bss.early")]
pub(super) static EARLY: EarlyTables = EarlyTables::new();

/// The boot CPU's stacks until it has its own: the kernel's, then the one for exceptions.
#[repr(C, align(4096))]
struct BootStacks(UnsafeCell<[[u8; BOOT_STACK]; 2]>);

/// The layout of memory is worked out on it, in arrays.
const BOOT_STACK: usize = 128 << 10;

// SAFETY: nobody but the boot CPU's stack pointers refers to the contents.
unsafe impl Sync for BootStacks {}

#[unsafe(link_section = ".bss.early")]
static BOOT_STACKS: BootStacks = BootStacks(UnsafeCell::new([[0; BOOT_STACK]; 2]));

/// Descriptor bits of an early block: as `PteFlags` has them for kernel code, but writable too.
const EARLY_BLOCK: u64 = 0x701;

global_asm!(
    ".section .head.text, \"ax\"",
    ".global _start",
    "_start:",
    // The Image header.
    "b hal_primary",
    ".long 0",
    ".quad 0", // text_offset
    ".quad __image_size",
    ".quad 0xa", // little-endian, 4 KiB pages, anywhere in RAM
    ".quad 0, 0, 0",
    ".ascii \"ARM\\x64\"",
    ".long 0",
    // Down to EL1 if at EL2, with nothing trapped or virtualised; returns to x30 with the MMU off.
    "hal_drop_to_el1:",
    "msr daifset, #0xf",
    "mrs x9, CurrentEL",
    "cmp x9, #(1 << 2)",
    "b.eq 3f",
    "cmp x9, #(2 << 2)",
    "b.ne 9f",
    "ldr x9, =((1 << 31) | (1 << 40) | (1 << 41))", // HCR_EL2: RW, APK, API
    "msr hcr_el2, x9",
    "isb",
    "mov x9, #3", // CNTHCTL_EL2: EL1 may use the physical counter and timer
    "msr cnthctl_el2, x9",
    "msr cntvoff_el2, xzr",
    "mov x9, #0x33ff", // CPTR_EL2: RES1, FP not trapped
    "msr cptr_el2, x9",
    "msr hstr_el2, xzr",
    "msr vttbr_el2, xzr",
    "mrs x9, midr_el1",
    "msr vpidr_el2, x9",
    "mrs x9, mpidr_el1",
    "msr vmpidr_el2, x9",
    "mrs x9, id_aa64dfr0_el1", // MDCR_EL2.HPMN: all counters for EL1
    "ubfx x9, x9, #8, #4",
    "sub x10, x9, #1",
    "cmp x10, #14",
    "b.hs 1f",
    "mrs x9, pmcr_el0",
    "ubfx x9, x9, #11, #5",
    "msr mdcr_el2, x9",
    "1: mrs x9, id_aa64pfr0_el1", // the GIC's system registers, where there are any
    "ubfx x9, x9, #24, #4",
    "cbz x9, 2f",
    "mrs x9, S3_4_C12_C9_5", // ICC_SRE_EL2
    "mov x10, #9",
    "orr x9, x9, x10",
    "msr S3_4_C12_C9_5, x9",
    "isb",
    "msr S3_4_C12_C11_0, xzr", // ICH_HCR_EL2
    "2: mov x9, #0x3c5",       // EL1h, all masked
    "msr spsr_el2, x9",
    "msr elr_el2, x30",
    "ldr x9, ={sctlr_off}",
    "msr sctlr_el1, x9",
    "eret",
    "3: ldr x9, ={sctlr_off}",
    "msr sctlr_el1, x9",
    "isb",
    "ret",
    "9: wfe", // EL3: firmware's business, not ours
    "b 9b",
    // MMU on with TTBR1 from x0, then to x1. Arm ARM D19.2.64 (ID_AA64MMFR0_EL1) and following for the fields.
    "hal_enable_mmu:",
    "ldr x9, ={mair}",
    "msr mair_el1, x9",
    "ldr x9, ={tcr}",
    "mrs x10, id_aa64mmfr0_el1",
    "and x11, x10, #0xf", // PARange into IPS, at most 48 bits
    "cmp x11, #5",
    "mov x12, #5",
    "csel x11, x11, x12, lo",
    "bfi x9, x11, #32, #3",
    "ubfx x11, x10, #4, #4", // ASIDBits
    "cmp x11, #2",
    "cset x11, eq",
    "bfi x9, x11, #36, #1",
    "mrs x10, S3_0_C0_C7_2", // ID_AA64MMFR2_EL1.E0PD
    "ubfx x11, x10, #60, #4",
    "cmp x11, #0",
    "cset x11, ne",
    "bfi x9, x11, #56, #1",
    "msr tcr_el1, x9",
    "adrp x9, {early}",
    "msr ttbr0_el1, x9",
    "msr ttbr1_el1, x0",
    "isb",
    "tlbi vmalle1",
    "ic iallu",
    "dsb nsh",
    "isb",
    "ldr x9, ={sctlr_on}",
    "mrs x10, id_aa64mmfr1_el1", // PAN
    "ubfx x11, x10, #20, #4",
    "cmp x11, #0",
    "cset x11, eq",
    "bfi x9, x11, #23, #1", // SPAN
    "msr sctlr_el1, x9",
    "isb",
    "br x1",
    // The boot CPU. x21: device tree, x22: the image's physical address.
    "hal_primary:",
    "mov x21, x0",
    "bl hal_drop_to_el1",
    "adrp x22, _start",
    "adrp x2, {early}",
    "mov x3, #{early_bytes}",
    "add x3, x2, x3",
    "mov x4, x2",
    "1: stp xzr, xzr, [x4], #16",
    "cmp x4, x3",
    "b.lo 1b",
    // Identity: one block.
    "mov x8, #{early_block}",
    "add x4, x2, #0x1000",
    "add x5, x2, #0x2000",
    "orr x6, x4, #3",
    "ubfx x7, x22, #39, #9",
    "str x6, [x2, x7, lsl #3]",
    "orr x6, x5, #3",
    "ubfx x7, x22, #30, #9",
    "str x6, [x4, x7, lsl #3]",
    "orr x6, x22, x8",
    "ubfx x7, x22, #21, #9",
    "str x6, [x5, x7, lsl #3]",
    // The image, by 2 MiB blocks.
    "add x4, x2, #0x3000",
    "add x5, x2, #0x4000",
    "add x6, x2, #0x5000",
    "orr x7, x5, #3",
    "str x7, [x4, #{image_0} * 8]",
    "orr x7, x6, #3",
    "str x7, [x5, #{image_1} * 8]",
    "adrp x9, __image_end",
    "mov x10, x22",
    "2: orr x7, x10, x8",
    "str x7, [x6], #8",
    "add x10, x10, #0x200000",
    "cmp x10, x9",
    "b.lo 2b",
    // The walkers must not find stale lines of a cache that firmware left behind.
    "dmb sy",
    "mrs x9, ctr_el0",
    "ubfx x9, x9, #16, #4",
    "mov x10, #4",
    "lsl x9, x10, x9",
    "3: dc ivac, x2",
    "add x2, x2, x9",
    "cmp x2, x3",
    "b.lo 3b",
    "dsb sy",
    "mov x0, x4",
    "ldr x1, =hal_primary_high",
    "b hal_enable_mmu",
    // A secondary CPU. x21: its number.
    "hal_secondary:",
    "mov x21, x0",
    "bl hal_drop_to_el1",
    "adrp x0, {tables}",
    "add x0, x0, :lo12:{tables}",
    "ldr x1, =hal_secondary_high",
    "b hal_enable_mmu",
    // (new root: x0, empty table: x1), run at its physical address: trades TTBR1's tables.
    ".global hal_replace_ttbr1",
    "hal_replace_ttbr1:",
    "msr ttbr1_el1, x1",
    "isb",
    "tlbi vmalle1",
    "dsb nsh",
    "isb",
    "msr ttbr1_el1, x0",
    "isb",
    "ret",
    ".ltorg",
    ".section .text.boot_high, \"ax\"",
    "hal_primary_high:",
    "adrp x9, {stacks}",
    "add x9, x9, :lo12:{stacks}",
    "add x9, x9, #{boot_stack}",
    "add x10, x9, #{boot_stack}",
    "msr spsel, #1",
    "mov sp, x10",
    "msr spsel, #0",
    "mov sp, x9",
    "adrp x9, __bss_start",
    "add x9, x9, :lo12:__bss_start",
    "adrp x10, __bss_end",
    "add x10, x10, :lo12:__bss_end",
    "1: cmp x9, x10",
    "b.hs 2f",
    "stp xzr, xzr, [x9], #16",
    "b 1b",
    "2: mov x29, xzr",
    "mov x30, xzr",
    "mov x0, x21",
    "mov x1, x22",
    "b hal_boot_primary",
    "hal_secondary_high:",
    "ldr x9, ={first_stack}",
    "mov x10, #{slot}",
    "madd x9, x21, x10, x9",
    "ldr x10, ={to_exception}",
    "add x10, x9, x10",
    "msr spsel, #1",
    "mov sp, x10",
    "msr spsel, #0",
    "mov sp, x9",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, x21",
    "b hal_boot_secondary",
    ".ltorg",
    sctlr_off = const SCTLR_OFF,
    sctlr_on = const SCTLR_ON,
    mair = const MAIR,
    tcr = const TCR,
    early = sym EARLY,
    early_bytes = const size_of::<EarlyTables>(),
    early_block = const EARLY_BLOCK,
    image_0 = const index(IMAGE, 0),
    image_1 = const index(IMAGE, 1),
    tables = sym kernel_map::TABLES,
    stacks = sym BOOT_STACKS,
    boot_stack = const BOOT_STACK,
    first_stack = const STACKS + KERNEL_STACK_OFFSET + KERNEL_STACK,
    slot = const STACK_SLOT,
    to_exception = const EXCEPTION_STACK_OFFSET + EXCEPTION_STACK - KERNEL_STACK_OFFSET - KERNEL_STACK,
);

const _: () = assert!(
    index(IMAGE, 2) == 0,
    "the early tables map the image from the start of a table on"
);

unsafe extern "C" {
    fn hal_secondary();
    fn hal_replace_ttbr1();
}

/// Where PSCI starts a secondary CPU, as a physical address.
pub(in super::super) fn secondary_entry() -> u64 {
    code_phys(hal_secondary as *const u8).0
}

/// The top of the exception stack that the boot CPU starts with.
pub(super) fn boot_exception_stack_top() -> u64 {
    (&raw const BOOT_STACKS) as u64 + 2 * BOOT_STACK as u64
}

/// Goes from the early tables to the final ones, and drops everything mapped low.
pub(super) fn use_final_tables() {
    let code = code_phys(hal_replace_ttbr1 as *const u8).0;
    // SAFETY: the identity map is in TTBR0, so the routine runs on while TTBR1 is empty; it touches no memory. The new
    // tables map the image as the old ones do.
    unsafe {
        asm!(
            "blr {code}",
            code = in(reg) code,
            in("x0") kernel_map::root().0,
            in("x1") kernel_map::empty_table().0,
            out("x30") _,
            options(nostack),
        );
    }
    write_sysreg!("ttbr0_el1", paging::empty_root());
    instruction!("isb", "tlbi vmalle1", "dsb nsh", "isb");
}

/// Goes on with `code` on other stacks, and never back.
pub(super) fn run_on(kernel_top: u64, exception_top: u64, code: extern "C" fn() -> !) -> ! {
    // SAFETY: both stacks are mapped, unused and this CPU's own. Nothing on the old ones is needed again.
    unsafe {
        asm!(
            "msr spsel, #1",
            "mov sp, {exception}",
            "msr spsel, #0",
            "mov sp, {kernel}",
            "mov x29, xzr",
            "mov x30, xzr",
            "br {code}",
            exception = in(reg) exception_top,
            kernel = in(reg) kernel_top,
            code = in(reg) code,
            options(noreturn),
        );
    }
}
