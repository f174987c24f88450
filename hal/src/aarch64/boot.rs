//! From the loader's jump to `breenix_main`.
//!
//! The image is a Linux `Image` (`Documentation/arch/arm64/booting.rst`): entered at its first byte with the MMU off
//! and the device tree's address in `x0`, at EL1 or EL2, anywhere in RAM on a 2 MiB boundary. The UEFI loader enters at the
//! same place with firmware's tables still in use, which map all memory where it is, and a [`BootInfo`]'s address in `x0`.
//!
//! 1. [`assembly`]: down to EL1, MMU off; build the early tables (the image's first 2 MiB where they are, for the instant
//!    of turning the MMU on; the image where it is linked); MMU on; jump up.
//! 2. `boot_primary`: map what `x0` points to, and make a [`BootInfo`] of it if it is none; build the final tables from its
//!    map of memory, trade the early ones for them; read the device tree or ACPI's tables; set up GIC, timer and UART,
//!    reserve and map every CPU's stacks, move to CPU 0's.
//! 3. `run_primary`: hand over to the kernel.
//!
//! Secondary CPUs take the same path with the final tables at once.

mod assembly;
mod memory;

use boot_info::BootInfo;
use dtoolkit::fdt::Fdt;
use spin::Once;

use super::constants::DIRECT_MAP;
use super::exceptions::hal_vectors;
use super::kernel_map::{self, image_phys, map_device};
use super::percpu::{self, PerCpu};
use super::platform::{self, Description, Platform};
use super::sysreg::{instruction, read_sysreg, write_sysreg};
use super::{acpi, device_tree, features, fp::FpState, gic, paging, serial, timer, user_copy};
use crate::addr::PhysAddr;
use crate::boot_info::{Machine, PhysRange};
use crate::image::build_id;
use crate::memory_layout::MemoryLayout;
use crate::traits::{FpOps, PerCpuOps};
use crate::upcall;

pub(super) use assembly::secondary_entry;
pub(super) use memory::take as take_memory;

static BOOT_INFO: Once<BootInfo> = Once::new();
static LAYOUT: Once<MemoryLayout> = Once::new();
static MACHINE: Once<Machine> = Once::new();

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

/// The boot CPU with the MMU on, on the boot stack, with the early tables. `given` and `image` are physical.
#[unsafe(no_mangle)]
extern "C" fn hal_boot_primary(given: u64, image: u64) -> ! {
    kernel_map::set_image_start(image);
    percpu::install(0, assembly::boot_exception_stack_top());
    init_cpu(0);
    let info = BOOT_INFO.call_once(|| memory::read_given(given));
    assert!(info.is_for(build_id()), "the loader is for another build");
    let mut layout = MemoryLayout::new(&info.memory, &memory::taken(info));
    kernel_map::build(&layout.mapped);
    assembly::use_final_tables();
    let platform = platform::init(info, describe(info, &layout));
    if let Some(uart) = platform.found.uart
        && let Some(registers) = map_device(uart.registers.start, uart.registers.len())
    {
        serial::attach(registers, uart.line);
    }
    timer::init(platform.found.timer_frequency);
    timer::init_cpu();
    gic::init(platform, &mut layout);
    gic::init_cpu(0);
    memory::reserve_stacks(&mut layout, platform.cpus.len() as u32);
    let layout = LAYOUT.call_once(|| layout);
    MACHINE.call_once(|| machine(info, platform, layout));
    let (_, top) = percpu::kernel_stack(0);
    let (_, exception_top) = percpu::exception_stack(0);
    percpu::install(0, exception_top);
    assembly::run_on(top, exception_top, run_primary)
}

/// What firmware says of devices: the device tree where there is one.
fn describe(info: &BootInfo, layout: &MemoryLayout) -> Description {
    let tree = PhysRange::from(info.device_tree);
    if !tree.is_empty() && layout.shows(tree) {
        // SAFETY: whoever filled the block in saw a tree there; the direct map shows it, for ever, and nobody is given it as
        // free memory.
        match unsafe { Fdt::from_raw((DIRECT_MAP + tree.start.0) as *const u8) } {
            Ok(fdt) => return device_tree::describe(&fdt),
            Err(_) if info.rsdp != 0 => {}
            Err(_) => panic!("the loader gave no valid device tree"),
        }
    }
    acpi::describe(info.rsdp, layout)
}

/// Everything the kernel is told.
fn machine(info: &'static BootInfo, platform: &'static Platform, layout: &'static MemoryLayout) -> Machine {
    let mut entropy = info.entropy();
    if let Some(random) = features::random() {
        let bytes = entropy.get_or_insert([0; 32]);
        bytes
            .iter_mut()
            .zip(random.to_le_bytes())
            .for_each(|(byte, more)| *byte ^= more);
    }
    let clock = platform.found.clock.and_then(read_clock);
    Machine {
        usable: &layout.free,
        total_ram: layout.total_ram,
        initramfs: layout.initramfs(info.initramfs.into()),
        command_line: info.command_line(),
        cpus: platform.cpus.len() as u32,
        wall_clock_seconds: clock.unwrap_or(info.wall_clock_seconds),
        entropy,
        name: &platform.found.name,
        faults: &platform.found.faults,
        silent_blocks: gic::silent_blocks(),
        pci: &platform.found.pci,
        ahci: &platform.found.ahci,
        framebuffer: (info.framebuffer.address != 0).then_some(info.framebuffer),
    }
}

/// Whether any of a range is RAM that the kernel has mapped.
pub fn is_ram(range: PhysRange) -> bool {
    LAYOUT.get().is_none_or(|layout| layout.touches(range))
}

/// The PL031's data register: seconds since 1970 (Arm DDI 0224, section 3.3.1).
fn read_clock(range: PhysRange) -> Option<u64> {
    let registers = map_device(range.start, range.len())?;
    // SAFETY: the first register of a mapped PL031.
    Some(unsafe { registers.cast::<u32>().read_volatile() }.into())
}

extern "C" fn run_primary() -> ! {
    match MACHINE.get() {
        Some(machine) => upcall::breenix_main(machine),
        None => unreachable!("the machine was described before the stack was changed"),
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
