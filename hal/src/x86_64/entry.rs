//! The way into the kernel and out of it.
//!
//! `enter_user_registers` saves what the C calling convention asks for on the kernel stack, notes the stack pointer in
//! the CPU's data and in the task state's `RSP0`, and leaves for user mode. Every trap from user mode stores the
//! registers in the noted [`UserContext`], takes the noted stack pointer and returns from that call with the trap's
//! number. So the words that the CPU itself pushes at an interrupt lie just below the frames of `enter_user`'s caller
//! and are dead as soon as they have been copied.
//!
//! A trap from kernel mode saves what the handler may change and comes back by `iretq`.
//!
//! Every stub pushes an error code where the CPU did not, then its vector, which gives all traps one stack layout:
//! `vector, error, rip, cs, rflags, rsp, ss`. `AC`, SMAP's override, is not cleared by an interrupt: each entry does
//! that.

use core::{
    arch::{asm, global_asm, naked_asm},
    mem::offset_of,
    sync::atomic::Ordering::Relaxed,
};

use super::{
    constants::{
        EFER_BITS, IST_SIZE, KERNEL_CS, MSR_CSTAR, MSR_EFER, MSR_FMASK, MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
        MSR_LSTAR, MSR_STAR, USER_CS, USER_DS, USER_END, USER32_CS, rflags,
    },
    cpu::Cpu,
    cpuid::FEATURES,
    interrupt_frame::UserContext,
    percpu::CpuData,
    registers::write_msr,
    segments::TASK_STATE_RSP0,
};
use crate::traits::CpuOps;

/// What `enter_user_registers` returns for a system call; no vector is that high.
pub const SYSCALL: u64 = 256;
/// What it returns where it cannot go: `iretq` and `sysretq` fault in ring 0 on an instruction pointer that is not canonical.
pub const NOT_CANONICAL: u64 = 257;

/// The registers of an interrupted kernel context, as the stubs leave them on the stack.
#[derive(Debug)]
#[expect(missing_docs, reason = "registers by their names")]
#[repr(C)]
pub struct KernelFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Pushed by the stub.
    pub vector: u64,
    /// Pushed by the CPU, or zero.
    pub error: u64,
    /// Pushed by the CPU, as all that follows.
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

unsafe extern "C" {
    /// 256 stubs of [`STUB_SIZE`] bytes.
    static x86_vector_stubs: u8;
}

/// Bytes from one stub to the next.
const STUB_SIZE: u64 = 16;

/// The address of a vector's stub.
pub fn stub(vector: u8) -> u64 {
    &raw const x86_vector_stubs as u64 + u64::from(vector) * STUB_SIZE
}

global_asm!(
    r#"
.pushsection .text.entry, "ax", @progbits

// Vectors on which the CPU pushes an error code: 8 10 11 12 13 14 17 21 29 30.
// Vectors that may come between a swapgs and its switch of privilege: 1 (debug), 2 (NMI), 8 (double fault), 18 (machine
// check).
.macro go vector, target
    push \vector
    jmp \target
.endm
.macro stub vector, target
    .balign 16
    push 0
    go \vector, \target
.endm
.macro stub_with_error vector, target
    .balign 16
    go \vector, \target
.endm

.balign 16
.global x86_vector_stubs
x86_vector_stubs:
    stub 0, x86_trap
    stub 1, x86_debug_trap
    stub 2, x86_paranoid_trap
    stub 3, x86_trap
    stub 4, x86_trap
    stub 5, x86_trap
    stub 6, x86_trap
    stub 7, x86_trap
    stub_with_error 8, x86_paranoid_trap
    stub 9, x86_trap
    stub_with_error 10, x86_trap
    stub_with_error 11, x86_trap
    stub_with_error 12, x86_trap
    stub_with_error 13, x86_trap
    stub_with_error 14, x86_trap
    stub 15, x86_trap
    stub 16, x86_trap
    stub_with_error 17, x86_trap
    stub 18, x86_paranoid_trap
    stub 19, x86_trap
    stub 20, x86_trap
    stub_with_error 21, x86_trap
    .irp vector, 22, 23, 24, 25, 26, 27, 28
    stub \vector, x86_trap
    .endr
    stub_with_error 29, x86_trap
    stub_with_error 30, x86_trap
    stub 31, x86_trap
    .irp high, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    .irp low, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    stub (\high*16+\low), x86_trap
    .endr
    .endr
.balign 16

.macro clear_ac
    cmp byte ptr [rip + X86_SMAP], 0
    je 77f
    clac
77:
.endm

// What a C function may change.
.macro push_volatile
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
.endm

// The way back of every trap from kernel mode, past the vector and the error code.
.macro pop_volatile_and_return
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
    add rsp, 16
    iretq
.endm

.macro push_registers
    push_volatile
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    cld
    clear_ac
.endm

.macro pop_registers_and_return
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop_volatile_and_return
.endm

// rax is the context; the user's rax is in CpuData::scratch.
.macro save_context
    mov [rax + {c_r15}], r15
    mov [rax + {c_r14}], r14
    mov [rax + {c_r13}], r13
    mov [rax + {c_r12}], r12
    mov [rax + {c_rbp}], rbp
    mov [rax + {c_rbx}], rbx
    mov [rax + {c_r11}], r11
    mov [rax + {c_r10}], r10
    mov [rax + {c_r9}], r9
    mov [rax + {c_r8}], r8
    mov [rax + {c_rcx}], rcx
    mov [rax + {c_rdx}], rdx
    mov [rax + {c_rsi}], rsi
    mov [rax + {c_rdi}], rdi
    mov rcx, gs:[{scratch}]
    mov [rax + {c_rax}], rcx
.endm

.macro return_from_enter_user
    mov rsp, gs:[{kernel_stack}]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
.endm

x86_debug_trap:
    test byte ptr [rsp + 24], 3
    jz x86_paranoid_trap

x86_trap:
    test byte ptr [rsp + 24], 3
    jz x86_kernel_trap
    swapgs
    mov gs:[{scratch}], rax
    mov rax, gs:[{context}]
    save_context
    cld
    clear_ac
    mov rdx, [rsp + 16]
    mov [rax + {c_rip}], rdx
    mov rdx, [rsp + 32]
    mov [rax + {c_rflags}], rdx
    mov rdx, [rsp + 40]
    mov [rax + {c_rsp}], rdx
    mov rdx, [rsp + 8]
    mov gs:[{error}], rdx
    mov qword ptr [rax + {c_orig_rax}], -1
    mov rax, [rsp]
    return_from_enter_user

// FMASK has cleared IF, DF, AC and TF. The user's stack pointer is still in rsp, but nothing uses the stack before it
// is replaced: what can interrupt this runs on stacks of the interrupt stack table.
.global x86_syscall_entry
x86_syscall_entry:
    swapgs
    mov gs:[{scratch}], rax
    mov rax, gs:[{context}]
    mov [rax + {c_rip}], rcx
    mov [rax + {c_rflags}], r11
    mov [rax + {c_rsp}], rsp
    save_context
    mov [rax + {c_orig_rax}], rcx
    mov eax, {syscall}
    return_from_enter_user

x86_kernel_trap:
    cmp qword ptr [rsp], 32
    jae x86_kernel_interrupt
    push_registers
    mov rdi, rsp
    call {exception}
    pop_registers_and_return

// Saves what a C function may change, and makes a frame through which a backtrace finds the interrupted function.
x86_kernel_interrupt:
    push_volatile
    push qword ptr [rsp + 88]
    push rbp
    mov rbp, rsp
    cld
    clear_ac
    mov edi, [rsp + 88]
    call {interrupt}
    pop rbp
    add rsp, 8
    pop_volatile_and_return

// Whatever GS_BASE is, it is put back; meanwhile it is the word at the stack's top.
x86_paranoid_trap:
    push_registers
    mov rax, rsp
    or rax, {ist_size} - 1
    mov rbx, [rax - 7]
    mov ecx, {msr_gs_base}
    rdmsr
    shl rdx, 32
    or rdx, rax
    mov r12, rdx
    mov eax, ebx
    mov rdx, rbx
    shr rdx, 32
    wrmsr
    mov rdi, rsp
    call {paranoid}
    mov ecx, {msr_gs_base}
    mov eax, r12d
    mov rdx, r12
    shr rdx, 32
    wrmsr
    pop_registers_and_return

.popsection
"#,
    c_r15 = const offset_of!(UserContext, r15),
    c_r14 = const offset_of!(UserContext, r14),
    c_r13 = const offset_of!(UserContext, r13),
    c_r12 = const offset_of!(UserContext, r12),
    c_rbp = const offset_of!(UserContext, rbp),
    c_rbx = const offset_of!(UserContext, rbx),
    c_r11 = const offset_of!(UserContext, r11),
    c_r10 = const offset_of!(UserContext, r10),
    c_r9 = const offset_of!(UserContext, r9),
    c_r8 = const offset_of!(UserContext, r8),
    c_rax = const offset_of!(UserContext, rax),
    c_rcx = const offset_of!(UserContext, rcx),
    c_rdx = const offset_of!(UserContext, rdx),
    c_rsi = const offset_of!(UserContext, rsi),
    c_rdi = const offset_of!(UserContext, rdi),
    c_orig_rax = const offset_of!(UserContext, orig_rax),
    c_rip = const offset_of!(UserContext, rip),
    c_rflags = const offset_of!(UserContext, rflags),
    c_rsp = const offset_of!(UserContext, rsp),
    error = const offset_of!(CpuData, error),
    context = const offset_of!(CpuData, context),
    kernel_stack = const offset_of!(CpuData, kernel_stack),
    scratch = const offset_of!(CpuData, scratch),
    syscall = const SYSCALL,
    ist_size = const IST_SIZE,
    msr_gs_base = const MSR_GS_BASE,
    exception = sym super::idt::kernel_exception,
    interrupt = sym super::idt::kernel_interrupt,
    paranoid = sym super::idt::paranoid_exception,
);

/// Goes to user mode with all general registers of `context` and returns the vector of the next trap, or [`SYSCALL`].
///
/// `sysretq` loads only RCX and R11 into RIP and RFLAGS, and an unsuitable RIP faults in ring 0 on some CPUs with the
/// user's stack already loaded: it is used where the context already has those registers alike, as after a system call,
/// and where RIP is below [`USER_END`]. All else goes by `iretq`.
///
/// # Safety
/// Interrupts are masked, `context` is valid until the return and its flags are sane.
#[unsafe(naked)]
unsafe extern "C" fn enter_user_registers(context: *mut UserContext) -> u64 {
    naked_asm!(
        r#"
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov gs:[{kernel_stack}], rsp
    mov gs:[{rsp0}], rsp
    mov gs:[{context}], rdi

    mov rcx, [rdi + {c_rip}]
    mov r11, [rdi + {c_rflags}]
    cmp rcx, [rdi + {c_rcx}]
    jne 3f
    cmp r11, [rdi + {c_r11}]
    jne 3f
    mov rax, {user_end}
    cmp rcx, rax
    jae 3f
    test r11d, {not_by_sysret}
    jnz 3f

    swapgs
    mov r15, [rdi + {c_r15}]
    mov r14, [rdi + {c_r14}]
    mov r13, [rdi + {c_r13}]
    mov r12, [rdi + {c_r12}]
    mov rbp, [rdi + {c_rbp}]
    mov rbx, [rdi + {c_rbx}]
    mov r10, [rdi + {c_r10}]
    mov r9, [rdi + {c_r9}]
    mov r8, [rdi + {c_r8}]
    mov rax, [rdi + {c_rax}]
    mov rdx, [rdi + {c_rdx}]
    mov rsi, [rdi + {c_rsi}]
    mov rsp, [rdi + {c_rsp}]
    mov rdi, [rdi + {c_rdi}]
    sysretq

3:
    mov rax, rcx
    shl rax, 16
    sar rax, 16
    cmp rax, rcx
    jne 4f
    push {user_ds}
    push qword ptr [rdi + {c_rsp}]
    push qword ptr [rdi + {c_rflags}]
    push {user_cs}
    push qword ptr [rdi + {c_rip}]
    swapgs
    mov r15, [rdi + {c_r15}]
    mov r14, [rdi + {c_r14}]
    mov r13, [rdi + {c_r13}]
    mov r12, [rdi + {c_r12}]
    mov rbp, [rdi + {c_rbp}]
    mov rbx, [rdi + {c_rbx}]
    mov r11, [rdi + {c_r11}]
    mov r10, [rdi + {c_r10}]
    mov r9, [rdi + {c_r9}]
    mov r8, [rdi + {c_r8}]
    mov rax, [rdi + {c_rax}]
    mov rcx, [rdi + {c_rcx}]
    mov rdx, [rdi + {c_rdx}]
    mov rsi, [rdi + {c_rsi}]
    mov rdi, [rdi + {c_rdi}]
    iretq

4:
    mov eax, {not_canonical}
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
"#,
        not_canonical = const NOT_CANONICAL,
        c_r15 = const offset_of!(UserContext, r15),
        c_r14 = const offset_of!(UserContext, r14),
        c_r13 = const offset_of!(UserContext, r13),
        c_r12 = const offset_of!(UserContext, r12),
        c_rbp = const offset_of!(UserContext, rbp),
        c_rbx = const offset_of!(UserContext, rbx),
        c_r11 = const offset_of!(UserContext, r11),
        c_r10 = const offset_of!(UserContext, r10),
        c_r9 = const offset_of!(UserContext, r9),
        c_r8 = const offset_of!(UserContext, r8),
        c_rax = const offset_of!(UserContext, rax),
        c_rcx = const offset_of!(UserContext, rcx),
        c_rdx = const offset_of!(UserContext, rdx),
        c_rsi = const offset_of!(UserContext, rsi),
        c_rdi = const offset_of!(UserContext, rdi),
        c_rip = const offset_of!(UserContext, rip),
        c_rflags = const offset_of!(UserContext, rflags),
        c_rsp = const offset_of!(UserContext, rsp),
        context = const offset_of!(CpuData, context),
        kernel_stack = const offset_of!(CpuData, kernel_stack),
        rsp0 = const offset_of!(CpuData, task_state) + TASK_STATE_RSP0,
        user_end = const USER_END,
        not_by_sysret = const (rflags::TF | rflags::RF),
        user_cs = const USER_CS,
        user_ds = const USER_DS,
    );
}

/// Goes to user mode with the registers of `context` and the bases and FP/SIMD registers that the CPU holds. Returns the vector,
/// [`SYSCALL`] or [`NOT_CANONICAL`].
pub(super) fn enter_user(context: &mut UserContext) -> u64 {
    // SAFETY: the trait's contract has interrupts masked. RFLAGS come from user mode itself, from `new_user` or from a sanitised
    // frame.
    unsafe { enter_user_registers(context) }
}

/// Loads the user's two bases. Interrupts are masked.
pub(super) fn load_bases(context: &UserContext) {
    // SAFETY: nothing sees the exchanged GS between the two `swapgs` but the entries that do not rely on it. Bases are user
    // values.
    unsafe {
        if FEATURES.fsgsbase.load(Relaxed) {
            asm!("wrfsbase {}", "swapgs", "wrgsbase {}", "swapgs", in(reg) context.fs_base, in(reg) context.gs_base,
                options(nostack, preserves_flags));
        } else {
            write_msr(MSR_FS_BASE, context.fs_base);
            write_msr(MSR_KERNEL_GS_BASE, context.gs_base);
        }
    }
}

/// Saves the user's two bases, which a program may change behind the kernel's back where the CPU has `wrfsbase`, and which only
/// the kernel changes elsewhere.
pub(super) fn save_bases(context: &mut UserContext) {
    if !FEATURES.fsgsbase.load(Relaxed) {
        return;
    }
    let interrupts = Cpu::mask_interrupts();
    // SAFETY: masked, so that nothing sees the exchanged GS between the two `swapgs` but the entries that do not rely on it.
    unsafe {
        asm!("rdfsbase {}", "swapgs", "rdgsbase {}", "swapgs", out(reg) context.fs_base, out(reg) context.gs_base,
            options(nostack, preserves_flags));
    }
    Cpu::restore_interrupts(interrupts);
}

unsafe extern "C" {
    fn x86_syscall_entry();
}

/// Enables `syscall` on the calling CPU.
///
/// # Safety
/// Called at a CPU's start, with its descriptor table loaded.
pub unsafe fn enable_syscall() {
    let masked = rflags::IF | rflags::TF | rflags::DF | rflags::AC | rflags::NT | rflags::IOPL | rflags::RF;
    // SAFETY: selectors and entry points are the ones this crate sets up.
    unsafe {
        write_msr(MSR_EFER, EFER_BITS);
        write_msr(MSR_STAR, u64::from(USER32_CS) << 48 | u64::from(KERNEL_CS) << 32);
        write_msr(MSR_LSTAR, x86_syscall_entry as *const () as u64);
        // Never taken: compatibility mode has no code segment to be entered by.
        write_msr(MSR_CSTAR, x86_syscall_entry as *const () as u64);
        write_msr(MSR_FMASK, masked);
    }
}
