//! From the loader to `breenix_main`.
//!
//! There are two ways in. By the PVH protocol (Xen's `docs/misc/pvh.pandoc`; an
//! ELF note names the entry) QEMU enters in 32-bit protected mode without paging, EBX pointing to a `struct
//! hvm_start_info`, the image where it is linked. The UEFI loader enters at the ELF header's entry in long mode on
//! firmware's tables, RDI pointing to a [`BootInfo`], the image anywhere below 4 GiB at a multiple of 2 MiB; from there
//! the code goes down to where PVH begins, which also leaves five-level paging, and both go on as one.
//!
//! Two sets of tables follow each other. The first, filled in by the 32-bit code, maps the first 4 GiB twice (where they
//! are, and at the direct map's place) and the image at its own, all writable and executable; it lasts until the start
//! information and ACPI have been read. The second is final: the image by what its parts are for, the direct map never
//! executable and not writable where it shows the image's text and constants, devices uncached, and each CPU's stacks
//! above unmapped pages.

use boot_info::{BootInfo, Range};
use core::{
    arch::{asm, global_asm},
    cell::Cell,
    sync::atomic::{
        AtomicU64,
        Ordering::{Relaxed, Release},
    },
};

use super::{
    apic, clock_chip,
    constants::{
        DIRECT_MAP, EFER_BITS, IST_COUNT, IST_DEBUG, IST_DOUBLE_FAULT, IST_MACHINE_CHECK, IST_NMI, KERNEL_BASE,
        MSR_EFER,
    },
    cpu::{self, Cpu},
    cpuid::{self, FEATURES},
    device_map, entry, fp, idt, io_apic,
    paging::{KernelTables, PteFlags},
    percpu::CpuData,
    platform,
    registers::{halt_for_ever, write_cr3},
    segments, serial, smp, start_info, timer,
};
use crate::{
    PAGE_SIZE,
    addr::PhysAddr,
    boot_info::{Machine, PhysRange},
    image::build_id,
    memory_layout::MemoryLayout,
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
x86_boot_image_directory: .skip 4096
.global x86_boot_stack
x86_boot_stack: .skip 131072
.global x86_boot_stack_top
x86_boot_stack_top:
.popsection

.pushsection .text.boot, "ax", @progbits
# From UEFI's loader. EBX: the block, EBP: how far above its link address the image is, from here on.
.code64
.global x86_uefi_entry
x86_uefi_entry:
    cli
    cld
    movl %edi, %ebx
    leaq x86_image_start(%rip), %rbp
    subq ${link}, %rbp
    leaq x86_boot_gdt(%rip), %rax
    movq %rax, x86_boot_gdt_pointer + 2(%rip)
    lgdtq x86_boot_gdt_pointer(%rip)
    leaq 1f(%rip), %rax
    pushq $0x10
    pushq %rax
    lretq

.code32
1:  movl $0x18, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    # Without paging, long mode is left.
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl ${efer}, %ecx
    rdmsr
    andl $~0x100, %eax
    wrmsr
    jmp 2f

.global x86_pvh_entry
x86_pvh_entry:
    cli
    cld
    xorl %ebp, %ebp
2:  leal (x86_bss_start - {base})(%ebp), %edi
    movl $(x86_bss_end - {base}), %ecx
    subl $(x86_bss_start - {base}), %ecx
    shrl $2, %ecx
    xorl %eax, %eax
    rep stosl

    # 2048 large pages: the first 4 GiB.
    leal (x86_boot_directories - {base})(%ebp), %edi
    movl $0x83, %eax
    xorl %edx, %edx
    movl $2048, %ecx
3:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $0x200000, %eax
    adcl $0, %edx
    addl $8, %edi
    loop 3b

    # 512 more: the GiB from which the image is linked on, where the image is.
    leal (x86_boot_image_directory - {base})(%ebp), %edi
    leal 0x83(%ebp), %eax
    xorl %edx, %edx
    movl $512, %ecx
4:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $0x200000, %eax
    adcl $0, %edx
    addl $8, %edi
    loop 4b

    leal (x86_boot_image_directory - {base} + 3)(%ebp), %eax
    movl %eax, 510 * 8 + (x86_boot_pdpt_high - {base})(%ebp)
    leal (x86_boot_directories - {base} + 3)(%ebp), %eax
    leal (x86_boot_pdpt_low - {base})(%ebp), %edi
    movl $4, %ecx
5:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 5b

    leal (x86_boot_pdpt_low - {base} + 3)(%ebp), %eax
    movl %eax, (x86_boot_pml4 - {base})(%ebp)
    movl %eax, 256 * 8 + (x86_boot_pml4 - {base})(%ebp)
    leal (x86_boot_pdpt_high - {base} + 3)(%ebp), %eax
    movl %eax, 511 * 8 + (x86_boot_pml4 - {base})(%ebp)

    movl $0x20, %eax
    movl %eax, %cr4
    leal (x86_boot_pml4 - {base})(%ebp), %eax
    movl %eax, %cr3
    movl ${efer}, %ecx
    movl ${efer_bits}, %eax
    xorl %edx, %edx
    wrmsr
    # PG, WP, NE, ET, PE.
    movl $0x80010031, %eax
    movl %eax, %cr0
    leal (x86_boot_gdt - {base})(%ebp), %eax
    movl %eax, (x86_boot_gdt_pointer - {base} + 2)(%ebp)
    lgdtl (x86_boot_gdt_pointer - {base})(%ebp)
    leal (x86_boot_stack_top - {base})(%ebp), %esp
    pushl $0x08
    leal (6f - {base})(%ebp), %eax
    pushl %eax
    lretl

.code64
6:  movabsq $7f, %rax
    jmp *%rax
7:  movabsq $x86_boot_stack_top, %rsp
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl %ebx, %edi
    movl %ebp, %esi
    xorl %ebp, %ebp
    call {boot}
    ud2

.balign 8
x86_boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
x86_boot_gdt_pointer:
    .word 31
    .quad 0
.popsection
"#,
    base = const KERNEL_BASE,
    link = const LINK_ADDRESS,
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

/// The physical address for which the image is linked; `kernel.ld` says the same.
const LINK_ADDRESS: u64 = 2 << 20;

/// How far above that the image is.
static LOAD_OFFSET: AtomicU64 = AtomicU64::new(0);

/// The physical address of something in the image, as one of the linker script's symbols.
pub(super) fn image_phys(symbol: *const u8) -> u64 {
    symbol as u64 - KERNEL_BASE + LOAD_OFFSET.load(Relaxed)
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

static BOOT_INFO: spin::Once<BootInfo> = spin::Once::new();
static LAYOUT: spin::Once<MemoryLayout> = spin::Once::new();
static MACHINE: spin::Once<Machine> = spin::Once::new();

/// The first Rust code: on the first tables and the boot stack.
extern "C" fn boot(start_info: u64, load_offset: u64) -> ! {
    LOAD_OFFSET.store(load_offset, Relaxed);
    serial::init();
    // SAFETY: the address that the loader passed, mapped by the first tables.
    let Some(info) = (unsafe { start_info::read(start_info) }) else {
        die("the loader passed neither PVH start information nor a block of this version")
    };
    let info = BOOT_INFO.call_once(|| info);
    if !info.is_for(build_id()) {
        die("the loader is for another build")
    }
    cpuid::detect();
    platform::discover(info.rsdp, cpuid::initial_apic_id());
    platform::set_exit_device(
        info.command_line()
            .split_whitespace()
            .any(|word| word == "exit=isa-debug-exit"),
    );

    let mut layout = MemoryLayout::new(&info.memory, &taken(info));
    // The largest run that both sets of tables map and that a 32-bit CR3 reaches.
    let Some(best) = layout
        .free
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
    let Ok(trampoline) = build_tables(&layout.mapped, &frames) else {
        die("too little memory for page tables")
    };
    best.start = PhysAddr(frames.next.get());
    LAYOUT.call_once(|| layout);

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

/// What of the memory is somebody's: the first MiB, which is firmware's and the trampoline's, the image and the initramfs.
fn taken(info: &BootInfo) -> [PhysRange; 3] {
    let low = Range::new(0, 1 << 20);
    let image = Range {
        start: image_phys(&raw const x86_image_start),
        end: image_phys(&raw const x86_image_end),
    };
    [low, image, info.initramfs].map(PhysRange::from)
}

/// A page for the trampoline: RAM below 640 KiB, above what BIOS keeps at the bottom.
fn trampoline_page(ram: &[PhysRange]) -> Option<u64> {
    ram.iter().find_map(|run| {
        let first = run.start.0.max(0x8000);
        (first + PAGE_SIZE as u64 <= run.end.0.min(0xa_0000)).then_some(first)
    })
}

/// Builds the final tables and every CPU's data; returns the trampoline's page and tables where there is room for it.
fn build_tables(ram: &[PhysRange], frames: &BootFrames) -> Result<Option<(u64, u64)>, OutOfFrames> {
    let gigabyte_pages = FEATURES.gigabyte_pages.load(Relaxed);
    let tables = KernelTables::new(frames, gigabyte_pages)?;
    let read = PteFlags::READ;
    let write = read.with_write(true);

    let text = image_phys(&raw const x86_image_start);
    let constants = image_phys(&raw const x86_text_end);
    let data = image_phys(&raw const x86_rodata_end);
    let end = image_phys(&raw const x86_image_end);
    let image_map = KERNEL_BASE - LOAD_OFFSET.load(Relaxed);
    for (from, to, flags) in [
        (text, constants, read.with_execute(true)),
        (constants, data, read),
        (data, end, write),
    ] {
        tables.map(image_map + from, from, to - from, flags)?;
    }

    for run in ram {
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
    device_map::reserve(&tables)?;
    tables.publish();

    let Some(page) = trampoline_page(ram) else {
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

    let (Some(info), Some(layout)) = (BOOT_INFO.get(), LAYOUT.get()) else {
        die("boot ran out of order")
    };
    let clock = clock_chip::wall_clock_seconds(machine.century_register);
    breenix_main(MACHINE.call_once(|| Machine {
        usable: &layout.free,
        total_ram: layout.total_ram,
        initramfs: layout.initramfs(info.initramfs.into()),
        command_line: info.command_line(),
        cpus: machine.cpus.len() as u32,
        wall_clock_seconds: if clock == 0 { info.wall_clock_seconds } else { clock },
        entropy: entropy().or(info.entropy()),
        name: &machine.name,
        faults: &machine.faults,
        silent_blocks: 0,
        pci: &machine.pci,
        ahci: &machine.ahci,
        framebuffer: (info.framebuffer.address != 0).then_some(info.framebuffer),
    }))
}

/// Whether any of a range is RAM that the kernel has mapped.
pub fn is_ram(range: PhysRange) -> bool {
    LAYOUT.get().is_none_or(|layout| layout.touches(range))
}

fn entropy() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&Cpu::random()?.to_le_bytes());
    }
    Some(bytes)
}
