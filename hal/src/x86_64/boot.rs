//! From the loader to `breenix_main`.
//!
//! The loader enters by the PVH protocol (Xen's `docs/misc/pvh.pandoc`): 32-bit protected mode, no paging, EBX points
//! to a `struct hvm_start_info` with the memory map, the command line, the modules and ACPI's root pointer. An ELF note
//! names the entry.
//!
//! Two sets of tables follow each other. The first, filled in by the 32-bit code, maps the first 4 GiB three times
//! (where they are, at the direct map's place, and the first GiB at the image's), all writable and executable; it lasts
//! until the start information and ACPI have been read. The second is final: the image by what its parts are for, the
//! direct map never executable and not writable where it shows the image's text and constants, devices uncached, and
//! each CPU's stacks above unmapped pages.

use arrayvec::{ArrayString, ArrayVec};
use core::{
    arch::{asm, global_asm},
    cell::Cell,
    sync::atomic::Ordering::{Relaxed, Release},
};

use super::{
    apic, clock_chip,
    constants::{
        DIRECT_MAP, EFER_BITS, IST_COUNT, IST_DEBUG, IST_DOUBLE_FAULT, IST_MACHINE_CHECK, IST_NMI, KERNEL_BASE,
        MSR_EFER,
    },
    cpu::{self, Cpu},
    cpuid::{self, FEATURES},
    entry, fp, idt, io_apic,
    paging::{KernelTables, PteFlags},
    percpu::CpuData,
    platform,
    registers::{halt_for_ever, write_cr3},
    segments, serial, smp,
    start_info::StartInfo,
    timer,
};
use crate::{
    PAGE_SIZE,
    addr::PhysAddr,
    boot_info::{BootInfo, PhysRange},
    serial::SerialPort,
    traits::{CpuOps, FrameSource, OutOfFrames, PageFlags},
    upcall::breenix_main,
};

global_asm!(
    r#"
# The ELF note XEN_ELFNOTE_PHYS32_ENTRY (18).
.pushsection .note.pvh, "a", @note
.balign 4
    .long 4
    .long 8
    .long 18
    .asciz "Xen"
    .quad x86_pvh_entry - {base}
.popsection

.pushsection .bss.boot, "aw", @nobits
.balign 4096
x86_boot_pml4: .skip 4096
x86_boot_pdpt_low: .skip 4096
x86_boot_pdpt_high: .skip 4096
x86_boot_directories: .skip 4 * 4096
.global x86_boot_stack
x86_boot_stack: .skip 65536
.global x86_boot_stack_top
x86_boot_stack_top:
.popsection

.pushsection .text.boot, "ax", @progbits
.code32
.global x86_pvh_entry
x86_pvh_entry:
    cli
    cld
    movl %ebx, %esi
    movl $(x86_bss_start - {base}), %edi
    movl $(x86_bss_end - {base}), %ecx
    subl %edi, %ecx
    shrl $2, %ecx
    xorl %eax, %eax
    rep stosl

    # 2048 large pages: the first 4 GiB.
    movl $(x86_boot_directories - {base}), %edi
    movl $0x83, %eax
    xorl %edx, %edx
    movl $2048, %ecx
1:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $0x200000, %eax
    adcl $0, %edx
    addl $8, %edi
    loop 1b

    movl $(x86_boot_directories - {base} + 3), %eax
    movl $(x86_boot_pdpt_low - {base}), %edi
    movl %eax, 510 * 8 + (x86_boot_pdpt_high - {base})
    movl $4, %ecx
2:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 2b

    movl $(x86_boot_pdpt_low - {base} + 3), %eax
    movl %eax, x86_boot_pml4 - {base}
    movl %eax, 256 * 8 + (x86_boot_pml4 - {base})
    movl $(x86_boot_pdpt_high - {base} + 3), %eax
    movl %eax, 511 * 8 + (x86_boot_pml4 - {base})

    movl $0x20, %eax
    movl %eax, %cr4
    movl $(x86_boot_pml4 - {base}), %eax
    movl %eax, %cr3
    movl ${efer}, %ecx
    movl ${efer_bits}, %eax
    xorl %edx, %edx
    wrmsr
    # PG, WP, NE, ET, PE.
    movl $0x80010031, %eax
    movl %eax, %cr0
    lgdtl x86_boot_gdt_pointer - {base}
    ljmpl $0x08, $(3f - {base})

.code64
3:  movabsq $4f, %rax
    jmp *%rax
4:  movabsq $x86_boot_stack_top, %rsp
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    xorl %ebp, %ebp
    movl %esi, %edi
    call {boot}
    ud2

.balign 8
x86_boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
x86_boot_gdt_pointer:
    .word 15
    .long x86_boot_gdt - {base}
.popsection
"#,
    base = const KERNEL_BASE,
    efer = const MSR_EFER,
    efer_bits = const EFER_BITS,
    boot = sym boot,
    options(att_syntax)
);

unsafe extern "C" {
    static x86_boot_stack: u8;
    static x86_boot_stack_top: u8;
    static x86_image_start: u8;
    static x86_text_end: u8;
    static x86_rodata_end: u8;
    static x86_image_end: u8;
}

/// The physical address of one of the linker script's symbols.
fn image_phys(symbol: *const u8) -> u64 {
    symbol as u64 - KERNEL_BASE
}

/// Whether an address is on the stack of the first steps.
pub(super) fn is_boot_stack(address: u64) -> bool {
    (&raw const x86_boot_stack as u64..&raw const x86_boot_stack_top as u64).contains(&address)
}

/// Frames from one run of memory, upward, for what boot never gives back.
struct BootFrames {
    next: Cell<u64>,
    end: u64,
}

impl FrameSource for BootFrames {
    fn allocate_table(&self) -> Option<PhysAddr> {
        let frame = self.next.get();
        if self.end - frame < PAGE_SIZE as u64 {
            return None;
        }
        self.next.set(frame + PAGE_SIZE as u64);
        // SAFETY: the frame is RAM below 4 GiB that nothing else uses, so both sets of tables map it.
        unsafe { ((DIRECT_MAP + frame) as *mut u8).write_bytes(0, PAGE_SIZE) };
        Some(PhysAddr(frame))
    }

    fn free_table(&self, _frame: PhysAddr) {}
}

/// Stops with a line on the serial port: there is no kernel yet to panic.
fn die(why: &str) -> ! {
    for byte in "breenix: cannot boot: ".bytes().chain(why.bytes()).chain(*b"\r\n") {
        while !serial::port().write_byte(byte) {
            Cpu::relax();
        }
    }
    halt_for_ever()
}

static START: spin::Once<StartInfo> = spin::Once::new();
static USABLE: spin::Once<ArrayVec<PhysRange, { super::start_info::MAX_RANGES }>> = spin::Once::new();
static BOOT_INFO: spin::Once<BootInfo> = spin::Once::new();

/// The first Rust code: on the first tables and the boot stack.
extern "C" fn boot(start_info: u64) -> ! {
    serial::init();
    // SAFETY: the address that the loader passed, mapped by the first tables.
    let Some(start) = (unsafe { StartInfo::read(start_info) }) else {
        die("no PVH start information")
    };
    let start = START.call_once(|| start);
    cpuid::detect();
    platform::discover(start.rsdp, cpuid::initial_apic_id());
    platform::set_exit_device(
        start
            .command_line
            .split_whitespace()
            .any(|word| word == "exit=isa-debug-exit"),
    );

    let image = PhysRange {
        start: PhysAddr(image_phys(&raw const x86_image_start)),
        end: PhysAddr(image_phys(&raw const x86_image_end)),
    };
    let mut usable = start.usable(image);
    // The largest run that both sets of tables map and that a 32-bit CR3 reaches.
    let Some(best) = usable
        .iter_mut()
        .filter(|run| run.end.0 <= 1 << 32)
        .max_by_key(|run| run.len())
    else {
        die("no memory below 4 GiB")
    };
    let frames = BootFrames {
        next: Cell::new(best.start.0),
        end: best.end.0,
    };
    let Ok(trampoline) = build_tables(start, &frames) else {
        die("too little memory for page tables")
    };
    best.start = PhysAddr(frames.next.get());
    USABLE.call_once(|| usable);

    // SAFETY: the final tables map this code, this stack and all data in use; CPU 0's data and stacks were just made.
    unsafe {
        write_cr3(super::paging::kernel_root());
        let Some(data) = CpuData::of(0) else {
            die("no data for the boot CPU")
        };
        segments::load(data, interrupt_stacks(0, data));
        data.install();
        data.started.store(true, Release);
        idt::fill();
        idt::load();
        cpu::harden();
        entry::enable_syscall();
        FEATURES.mxcsr_mask.store(fp::mxcsr_mask(), Relaxed);
        if let Some((page, root)) = trampoline {
            smp::init(page, root);
        }
        asm!(
            "mov rsp, {stack}",
            "xor ebp, ebp",
            "call {next}",
            stack = in(reg) cpu::main_stack_top(0),
            next = sym boot_on_own_stack,
            options(noreturn)
        );
    }
}

/// Builds the final tables and every CPU's data; returns the trampoline's page and tables where there is room for it.
fn build_tables(start: &StartInfo, frames: &BootFrames) -> Result<Option<(u64, u64)>, OutOfFrames> {
    let gigabyte_pages = FEATURES.gigabyte_pages.load(Relaxed);
    let tables = KernelTables::new(frames, gigabyte_pages)?;
    let read = PteFlags::READ;
    let write = read.with_write(true);

    let text = image_phys(&raw const x86_image_start);
    let constants = image_phys(&raw const x86_text_end);
    let data = image_phys(&raw const x86_rodata_end);
    let end = image_phys(&raw const x86_image_end);
    for (from, to, flags) in [
        (text, constants, read.with_execute(true)),
        (constants, data, read),
        (data, end, write),
    ] {
        tables.map(KERNEL_BASE + from, from, to - from, flags)?;
    }

    for run in &start.ram {
        // The image's text and constants are not writable here either.
        let (from, to) = (text.clamp(run.start.0, run.end.0), data.clamp(run.start.0, run.end.0));
        for (from, to, flags) in [(run.start.0, from, write), (from, to, read), (to, run.end.0, write)] {
            tables.map(DIRECT_MAP + from, from, to - from, flags)?;
        }
    }

    let machine = platform::get();
    let registers = write.with_device(true);
    let io_apics = machine.io_apics.iter().map(|apic| apic.address);
    for address in io_apics.chain([machine.local_apic]).chain(machine.hpet) {
        let page = PhysAddr(address).page_floor().0;
        tables.map(DIRECT_MAP + page, page, PAGE_SIZE as u64, registers)?;
    }

    for (number, &apic_id) in (0..).zip(&machine.cpus) {
        for stack in cpu::stacks() {
            for page in stack.step_by(PAGE_SIZE) {
                let frame = frames.allocate_table().ok_or(OutOfFrames)?.0;
                tables.map(cpu::stack_slot(number) + page, frame, PAGE_SIZE as u64, write)?;
            }
        }
        let page = frames.allocate_table().ok_or(OutOfFrames)?.0;
        // SAFETY: a fresh zeroed frame, mapped by both sets of tables at this address.
        unsafe { CpuData::publish((DIRECT_MAP + page) as *mut CpuData, number, apic_id) };
    }
    tables.publish();

    let Some(page) = start.trampoline_page() else {
        return Ok(None);
    };
    let trampoline = KernelTables::sharing_kernel_half(frames)?;
    trampoline.map(page, page, PAGE_SIZE as u64, read.with_execute(true))?;
    Ok(Some((page, trampoline.root())))
}

/// Puts a CPU's data where the entry code of its interrupt stacks looks for it, and returns the tops in the order of
/// the table's indexes. The stacks are mapped on the current tables.
pub(super) fn interrupt_stacks(number: u32, data: &'static CpuData) -> [u64; IST_COUNT as usize] {
    let mut tops = [0; IST_COUNT as usize];
    let order = [IST_DOUBLE_FAULT, IST_NMI, IST_MACHINE_CHECK, IST_DEBUG];
    for (index, stack) in order.into_iter().zip(cpu::stacks()) {
        let top = cpu::stack_slot(number) + stack.end;
        // SAFETY: the last word of a stack that nothing uses yet.
        unsafe { ((top - 8) as *mut u64).write(core::ptr::from_ref(data) as u64) };
        tops[usize::from(index) - 1] = top - 16;
    }
    tops
}

/// The boot CPU on its own stack and on the final tables: the devices, then the kernel.
extern "C" fn boot_on_own_stack() -> ! {
    let machine = platform::get();
    apic::init(machine.local_apic);
    apic::init_this_cpu();
    io_apic::init();
    timer::init();

    let (Some(start), Some(usable)) = (START.get(), USABLE.get()) else {
        die("boot ran out of order")
    };
    let info = BOOT_INFO.call_once(|| BootInfo {
        usable,
        total_ram: start.total_ram,
        initramfs: start.initramfs.map(|run| {
            // SAFETY: the module is RAM, in the direct map, and left out of `usable`.
            unsafe { core::slice::from_raw_parts((DIRECT_MAP + run.start.0) as *const u8, run.len() as usize) }
        }),
        command_line: &start.command_line,
        cpus: machine.cpus.len() as u32,
        wall_clock_seconds: clock_chip::wall_clock_seconds(machine.century_register),
        entropy: entropy(),
        machine: &machine.name,
    });
    breenix_main(info)
}

fn entropy() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&Cpu::random()?.to_le_bytes());
    }
    Some(bytes)
}

/// What a command line may be long.
pub(super) type CommandLine = ArrayString<2048>;
