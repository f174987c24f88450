//! Starting the other CPUs (SDM volume 3, 9.4.4).
//!
//! A CPU wakes in real mode at a page below 1 MiB. The trampoline copied there takes it to long mode on tables that are
//! the kernel's plus this one page at its own address, then to [`x86_secondary`] on the CPU's own stack and the
//! kernel's own tables.

use core::{
    arch::global_asm,
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

use super::{
    apic, boot,
    constants::{DIRECT_MAP, EFER_BITS, MSR_EFER},
    cpu::{self, Cpu},
    entry, idt,
    paging::kernel_root,
    percpu::CpuData,
    platform,
    registers::{halt_for_ever, read_tsc, write_cr3},
    segments, timer,
};
use crate::{
    PAGE_SIZE,
    traits::{CpuOps, TimerOps},
    upcall::breenix_secondary,
};

global_asm!(
    r#"
.pushsection .rodata.trampoline, "a", @progbits
.balign 16
.code16
.global x86_trampoline
x86_trampoline:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    xorl %ebx, %ebx
    movw %ax, %bx
    shll $4, %ebx
    # The page's address, into the pointers that need it.
    leal (11f - x86_trampoline)(%ebx), %eax
    movl %eax, (12f - x86_trampoline + 2)
    leal (13f - x86_trampoline)(%ebx), %eax
    movl %eax, (14f - x86_trampoline)
    leal (15f - x86_trampoline)(%ebx), %eax
    movl %eax, (16f - x86_trampoline)
    lgdtl (12f - x86_trampoline)
    movl $0x11, %eax
    movl %eax, %cr0
    ljmpl *(14f - x86_trampoline)

.code32
13:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x20, %eax
    movl %eax, %cr4
    movl (x86_trampoline_root - x86_trampoline)(%ebx), %eax
    movl %eax, %cr3
    movl ${efer}, %ecx
    movl ${efer_bits}, %eax
    xorl %edx, %edx
    wrmsr
    # PG, WP, NE, ET, PE; caches on.
    movl $0x80010031, %eax
    movl %eax, %cr0
    ljmpl *(16f - x86_trampoline)(%ebx)

.code64
15:
    movl %ebx, %ebx
    movq (x86_trampoline_stack - x86_trampoline)(%rbx), %rsp
    movq (x86_trampoline_data - x86_trampoline)(%rbx), %rdi
    movq (x86_trampoline_entry - x86_trampoline)(%rbx), %rax
    xorl %ebp, %ebp
    call *%rax
    ud2

.balign 8
11: .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00af9b000000ffff
12: .word 31
    .long 0
.balign 8
14: .long 0
    .word 0x08
.balign 8
16: .long 0
    .word 0x18
.balign 8
.global x86_trampoline_root
x86_trampoline_root: .quad 0
.global x86_trampoline_stack
x86_trampoline_stack: .quad 0
.global x86_trampoline_data
x86_trampoline_data: .quad 0
.global x86_trampoline_entry
x86_trampoline_entry: .quad 0
.global x86_trampoline_end
x86_trampoline_end:
.popsection
"#,
    efer = const MSR_EFER,
    efer_bits = const EFER_BITS,
    options(att_syntax)
);

unsafe extern "C" {
    static x86_trampoline: u8;
    static x86_trampoline_root: u8;
    static x86_trampoline_stack: u8;
    static x86_trampoline_data: u8;
    static x86_trampoline_entry: u8;
    static x86_trampoline_end: u8;
}

/// The trampoline's page; zero where boot found none.
static PAGE: AtomicU64 = AtomicU64::new(0);
/// The root that the trampoline uses: the kernel half, and the page at its own address.
static ROOT: AtomicU64 = AtomicU64::new(0);

/// How long a CPU may take from its start to kernel code. An emulator on a loaded machine is slow.
const START_NANOS: u64 = 10_000_000_000;

/// Copies the trampoline. `page` is a frame below 1 MiB that nothing else uses, `root` tables that map it where it is.
pub(super) fn init(page: u64, root: u64) {
    let start = &raw const x86_trampoline;
    let len = &raw const x86_trampoline_end as usize - start as usize;
    debug_assert!(len <= PAGE_SIZE, "the trampoline fits its page");
    // SAFETY: the page is reserved for this and mapped writable in the direct map.
    unsafe { core::ptr::copy_nonoverlapping(start, (DIRECT_MAP + page) as *mut u8, len) };
    ROOT.store(root, Relaxed);
    PAGE.store(page, Relaxed);
}

fn set_word(symbol: *const u8, value: u64) {
    let offset = symbol as u64 - &raw const x86_trampoline as u64;
    // SAFETY: a word of the trampoline's copy.
    unsafe { ((DIRECT_MAP + PAGE.load(Relaxed) + offset) as *mut u64).write_volatile(value) };
}

/// Starts a CPU and waits until it runs kernel code. Called on the boot CPU, for one CPU after the other.
pub(super) fn start(number: u32) -> bool {
    let page = PAGE.load(Relaxed);
    let Some(data) = CpuData::of(number) else { return false };
    if number == 0 || page == 0 || data.started.load(Acquire) {
        return false;
    }
    set_word(&raw const x86_trampoline_root, ROOT.load(Relaxed));
    set_word(&raw const x86_trampoline_stack, cpu::main_stack_top(number));
    set_word(&raw const x86_trampoline_data, core::ptr::from_ref(data) as u64);
    set_word(&raw const x86_trampoline_entry, x86_secondary as *const () as u64);

    let apic_id = data.apic_id.load(Relaxed);
    SYNC.begin();
    apic::send_command(apic_id, apic::COMMAND_INIT);
    timer::spin(10_000_000);
    let deadline = timer::Timer::now() + START_NANOS;
    // The second startup command is for CPUs that missed the first; one that runs ignores it.
    for _ in 0..2 {
        apic::send_command(apic_id, apic::COMMAND_STARTUP | (page >> 12) as u32);
        let patience = timer::Timer::now() + 200_000_000;
        while !data.started.load(Acquire) && timer::Timer::now() < patience {
            Cpu::relax();
        }
        if data.started.load(Acquire) {
            break;
        }
    }
    while !data.started.load(Acquire) {
        if timer::Timer::now() > deadline {
            return false;
        }
        Cpu::relax();
    }
    if SYNC.compare() {
        timer::distrust_tsc();
    }
    SYNC.finished.store(true, Release);
    true
}

/// A secondary CPU's first Rust code: on its own stack, on the trampoline's tables, interrupts masked.
extern "C" fn x86_secondary(data: &'static CpuData) -> ! {
    let number = data.id.load(Relaxed);
    // SAFETY: the kernel half is the same; this stack, code and data are in it. The rest is this CPU's start.
    unsafe {
        write_cr3(kernel_root());
        segments::load(data, boot::interrupt_stacks(number, data));
        data.install();
        idt::load();
        cpu::harden();
        entry::enable_syscall();
    }
    apic::init_this_cpu();
    if apic::this_id() != platform::get().cpus[number as usize] {
        // Not the CPU that was called; it must not run on the other's stack.
        halt_for_ever();
    }
    timer::init_this_cpu();
    data.started.store(true, Release);
    SYNC.compare();
    while !SYNC.finished.load(Acquire) {
        Cpu::relax();
    }
    breenix_secondary(number)
}

/// Whether two CPUs' TSCs agree: both read theirs in turn, and no reading may be below the one before it.
struct TscComparison {
    parties: AtomicU32,
    done: AtomicU32,
    last: spin::Mutex<u64>,
    warped: AtomicBool,
    finished: AtomicBool,
}

static SYNC: TscComparison = TscComparison {
    parties: AtomicU32::new(0),
    done: AtomicU32::new(0),
    last: spin::Mutex::new(0),
    warped: AtomicBool::new(false),
    finished: AtomicBool::new(false),
};

impl TscComparison {
    fn begin(&self) {
        self.parties.store(0, Relaxed);
        self.done.store(0, Relaxed);
        *self.last.lock() = 0;
        self.warped.store(false, Relaxed);
        self.finished.store(false, Release);
    }

    /// One party's part; returns whether a reading was below the one before it. Returns when both are through.
    fn compare(&self) -> bool {
        const READINGS: u32 = 2_000;
        self.parties.fetch_add(1, AcqRel);
        while self.parties.load(Acquire) < 2 {
            Cpu::relax();
        }
        for _ in 0..READINGS {
            let mut last = self.last.lock();
            let now = read_tsc();
            if now < *last {
                self.warped.store(true, Relaxed);
            }
            *last = now;
        }
        self.done.fetch_add(1, AcqRel);
        while self.done.load(Acquire) < 2 {
            Cpu::relax();
        }
        self.warped.load(Relaxed)
    }
}
