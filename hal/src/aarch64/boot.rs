//! From the loader's jump to `breenix_main`.
//!
//! The image is a Linux `Image` (`Documentation/arch/arm64/booting.rst`): entered at its first byte with the MMU off
//! and the device tree's address in `x0`, at EL1 or EL2, anywhere in RAM on a 2 MiB boundary.
//!
//! 1. [`assembly`]: down to EL1; build the early tables (the image's first 2 MiB where they are, for the instant of
//!    turning the MMU on; the image where it is linked); MMU on; jump up.
//! 2. `boot_primary`: map and read the device tree, build the final tables, trade the early ones for them, set up GIC,
//!    timer and UART, reserve and map every CPU's stacks, move to CPU 0's.
//! 3. `run_primary`: hand over to the kernel.
//!
//! Secondary CPUs take the same path with the final tables at once.

mod assembly;
mod memory;

use dtoolkit::fdt::Fdt;
use spin::Once;

use super::constants::DIRECT_MAP;
use super::exceptions::hal_vectors;
use super::kernel_map::{self, image_phys, map_device};
use super::percpu::{self, PerCpu};
use super::platform::{self, Platform};
use super::sysreg::{instruction, read_sysreg, write_sysreg};
use super::{features, fp::FpState, gic, paging, serial, timer, user_copy};
use crate::addr::PhysAddr;
use crate::boot_info::{BootInfo, PhysRange};
use crate::traits::{FpOps, PerCpuOps};
use crate::upcall;

pub(super) use assembly::secondary_entry;

static BOOT_INFO: Once<BootInfo> = Once::new();

/// Sets up what each CPU has for itself: vectors, FP, user access, debug registers.
fn init_cpu(cpu: u32) {
    write_sysreg!("vbar_el1", (&raw const hal_vectors) as u64);
    // CPACR_EL1: FP and SIMD for all levels, SVE and SME for none.
    write_sysreg!("cpacr_el1", 3 << 20);
    write_sysreg!("mdscr_el1", 0);
    write_sysreg!("tpidr_el0", 0);
    write_sysreg!("tpidrro_el0", 0);
    let performance_monitor = read_sysreg!("id_aa64dfr0_el1") >> 8 & 0xf;
    if performance_monitor != 0 && performance_monitor != 0xf {
        write_sysreg!("pmuserenr_el0", 0);
    }
    instruction!("isb");
    user_copy::init_cpu();
    FpState::INITIAL.restore();
    percpu::current()
        .midr
        .store(read_sysreg!("midr_el1") as u32, core::sync::atomic::Ordering::Relaxed);
    debug_assert_eq!(PerCpu::cpu_id(), cpu);
    instruction!("msr daifclr, #4"); // SErrors are reported
}

/// The boot CPU with the MMU on, on the boot stack, with the early tables. `tree` and `image` are physical.
#[unsafe(no_mangle)]
extern "C" fn hal_boot_primary(tree: u64, image: u64) -> ! {
    kernel_map::set_image_start(image);
    percpu::install(0, assembly::boot_exception_stack_top());
    init_cpu(0);
    let tree_range = memory::map_tree_early(tree);
    // SAFETY: the loader put a device tree there, and the early tables map it, in the direct map where it stays.
    let fdt = unsafe { Fdt::from_raw((DIRECT_MAP + tree) as *const u8) };
    let Ok(fdt) = fdt else {
        panic!("the loader gave no valid device tree")
    };
    let platform = platform::discover(fdt);
    let layout = memory::Layout::new(platform, tree_range);
    kernel_map::build(&layout.ram);
    assembly::use_final_tables();
    if let Some(uart) = platform.uart
        && let Some(registers) = map_device(uart.registers.start, uart.registers.len())
    {
        serial::attach(registers, uart.line);
    }
    timer::init(platform.timer_frequency);
    timer::init_cpu();
    gic::init(platform);
    gic::init_cpu(0);
    let total_ram = layout.total_ram;
    let usable = layout.reserve_stacks(platform.cpus.len() as u32);
    BOOT_INFO.call_once(|| boot_info(platform, total_ram, usable));
    let (_, top) = percpu::kernel_stack(0);
    let (_, exception_top) = percpu::exception_stack(0);
    percpu::install(0, exception_top);
    assembly::run_on(top, exception_top, run_primary)
}

/// Everything the kernel is told.
fn boot_info(platform: &'static Platform, total_ram: u64, usable: &'static [PhysRange]) -> BootInfo {
    let initramfs = platform.initramfs.map(|range| {
        // SAFETY: the loader put these bytes into RAM, which the direct map shows, and nobody is given them as free
        // memory.
        unsafe { core::slice::from_raw_parts((DIRECT_MAP + range.start.0) as *const u8, range.len() as usize) }
    });
    let mut entropy = platform.entropy;
    if let Some(random) = features::random() {
        let bytes = entropy.get_or_insert([0; 32]);
        bytes
            .iter_mut()
            .zip(random.to_le_bytes())
            .for_each(|(byte, more)| *byte ^= more);
    }
    BootInfo {
        usable,
        total_ram,
        initramfs,
        command_line: &platform.command_line,
        cpus: platform.cpus.len() as u32,
        wall_clock_seconds: platform.clock.and_then(read_clock).unwrap_or(0),
        entropy,
        machine: &platform.machine,
    }
}

/// The PL031's data register: seconds since 1970 (Arm DDI 0224, section 3.3.1).
fn read_clock(range: PhysRange) -> Option<u64> {
    let registers = map_device(range.start, range.len())?;
    // SAFETY: the first register of a mapped PL031.
    Some(unsafe { registers.cast::<u32>().read_volatile() }.into())
}

extern "C" fn run_primary() -> ! {
    match BOOT_INFO.get() {
        Some(info) => upcall::breenix_main(info),
        None => unreachable!("the boot information was made before the stack was changed"),
    }
}

/// A secondary CPU with the MMU on, on its own stacks, with the final tables.
#[unsafe(no_mangle)]
extern "C" fn hal_boot_secondary(cpu: u32) -> ! {
    let (_, exception_top) = percpu::exception_stack(cpu);
    percpu::install(cpu, exception_top);
    init_cpu(cpu);
    write_sysreg!("ttbr0_el1", paging::empty_root());
    instruction!("isb", "tlbi vmalle1", "dsb nsh", "isb");
    timer::init_cpu();
    gic::init_cpu(cpu);
    upcall::breenix_secondary(cpu)
}

/// The physical address of a function of the boot code.
fn code_phys(code: *const u8) -> PhysAddr {
    image_phys(code)
}
