//! What differs between the two architectures: vector registers and signal frames. The only module that does.

#[cfg(target_arch = "x86_64")]
mod imp {
    use std::arch::{asm, global_asm, is_x86_feature_detected};

    use super::FP;

    /// Bytes of vector registers that [`hammer`] fills.
    pub fn vector_bytes() -> usize {
        if is_x86_feature_detected!("avx") {
            16 * 32
        } else {
            16 * 16
        }
    }

    // fn(pattern, seen, spins): loads every register, spins, stores every register.
    macro_rules! hammer {
        ($name:literal, $move:literal, $register:literal, $size:literal) => {
            global_asm!(
                concat!(".globl ", $name),
                concat!($name, ":"),
                ".set i, 0",
                concat!(
                    ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n ",
                    $move,
                    " ",
                    $register,
                    "\\r, [rdi + ",
                    $size,
                    " * \\r]\n .endr"
                ),
                "2: dec rdx",
                "jnz 2b",
                concat!(
                    ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n ",
                    $move,
                    " [rsi + ",
                    $size,
                    " * \\r], ",
                    $register,
                    "\\r\n .endr"
                ),
                "ret",
            );
        };
    }
    hammer!("tests_hammer_sse", "movups", "xmm", "16");
    hammer!("tests_hammer_avx", "vmovups", "ymm", "32");

    unsafe extern "C" {
        fn tests_hammer_sse(pattern: *const u8, seen: *mut u8, spins: u64);
        fn tests_hammer_avx(pattern: *const u8, seen: *mut u8, spins: u64);
    }

    /// Fills every vector register from `pattern`, spins, and says what the registers hold then.
    pub fn hammer(pattern: &[u8], seen: &mut [u8], spins: u64) {
        assert!(pattern.len() >= vector_bytes() && seen.len() >= vector_bytes());
        let spins = spins.max(1);
        // SAFETY: both buffers are large enough; every vector register is the caller's to lose in the C ABI.
        unsafe {
            if is_x86_feature_detected!("avx") {
                tests_hammer_avx(pattern.as_ptr(), seen.as_mut_ptr(), spins);
            } else {
                tests_hammer_sse(pattern.as_ptr(), seen.as_mut_ptr(), spins);
            }
        }
    }

    /// Sets the rounding mode (0 to 3).
    pub fn set_rounding(mode: u32) {
        let control = 0x1f80 | mode << 13;
        // SAFETY: a valid MXCSR with all exceptions masked; nothing computes in between.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &control) };
    }

    /// The rounding mode.
    pub fn rounding() -> u32 {
        let mut control = 0u32;
        // SAFETY: stores the register.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut control) };
        control >> 13 & 3
    }

    // struct ucontext: gregs from byte 40, the pointer to the FP state behind them (arch/x86/include/uapi/asm/ucontext.h).
    const GREGS: usize = 40;
    const RAX: usize = GREGS + 13 * 8;
    const RSP: usize = GREGS + 15 * 8;
    const RIP: usize = GREGS + 16 * 8;
    const FLAGS: usize = GREGS + 17 * 8;
    const SEGMENTS: usize = GREGS + 18 * 8;
    const FPSTATE: usize = GREGS + 23 * 8;

    /// Where the call's result stands in a frame.
    pub const RESULT: usize = RAX;

    /// What the signal of [`sigreturn_from_nowhere`] says: `si_code` (`SI_KERNEL`) and `si_addr`.
    pub const NOWHERE: (i32, usize) = (0x80, 0);

    const MXCSR: usize = FP + 24;
    const XFEATURES: usize = FP + 472;
    const XSTATE_SIZE: usize = FP + 480;
    const XSTATE_BV: usize = FP + 512;
    const XCOMP_BV: usize = FP + 520;

    /// Ways to spoil a frame, for [`mangle`](super::mangle).
    pub const WAYS: [(usize, u64); 20] = [
        (MXCSR, u64::MAX),
        (XFEATURES, 0),
        (XSTATE_SIZE, 1),
        (XSTATE_BV, 0),
        (XSTATE_BV, u64::MAX),
        (XCOMP_BV, 1 << 63),
        (XCOMP_BV, u64::MAX),
        (XCOMP_BV + 8, u64::MAX),
        (RIP, 1 << 63),
        (RIP, 0xffff_ffff_8000_0000),
        (RIP, 0x0000_8000_0000_0000),
        (RSP, 0x10),
        (RSP, 1 << 63),
        (SEGMENTS, u64::MAX),
        (SEGMENTS, 0x10),
        (FLAGS, u64::MAX),
        (FPSTATE, 1),
        (FPSTATE, 0xffff_8000_0000_0000),
        (0, u64::MAX),
        (0, 0x8000_0000_0000_0001),
    ];

    /// Where the FP state of a frame stands, and how many bytes of it to spoil.
    pub fn fp_state(context: usize) -> (usize, usize) {
        (
            usize::from_ne_bytes(std::array::from_fn(|i| crate::sys::peek(context + FPSTATE + i))),
            832,
        )
    }

    /// sigreturn with a stack pointer to nowhere.
    pub fn sigreturn_from_nowhere() -> ! {
        // SAFETY: the process is meant to die of it.
        unsafe { asm!("mov rsp, 0x1000", "mov eax, 15", "syscall", "ud2", options(noreturn)) }
    }

    // fn(flags, stack, body): clone(2); the new thread calls `body` and ends.
    global_asm!(
        "tests_bare_thread:",
        "mov r9, rdx",
        "xor edx, edx",
        "xor r10d, r10d",
        "xor r8d, r8d",
        "mov eax, 56",
        "syscall",
        "test rax, rax",
        "jnz 2f",
        "call r9",
        "mov edi, eax",
        "mov eax, 60",
        "syscall",
        "2: ret",
    );

    // fn(note, section, turns): a restartable sequence that turns in a circle.
    global_asm!(
        "tests_sequence:",
        "mov [rdi], rsi",
        "tests_sequence_start:",
        "dec rdx",
        "jnz tests_sequence_start",
        "tests_sequence_end:",
        "xor eax, eax",
        "ret",
        ".long {signature}",
        "tests_sequence_abort:",
        "mov eax, 1",
        "ret",
        signature = const super::SIGNATURE,
    );
}

#[cfg(target_arch = "aarch64")]
mod imp {
    use std::arch::{asm, global_asm};

    /// Bytes of vector registers that [`hammer`] fills.
    pub fn vector_bytes() -> usize {
        32 * 16
    }

    // fn(pattern, seen, spins): loads every register, spins, stores every register. d8 to d15 are the caller's: kept.
    global_asm!(
        ".globl tests_hammer",
        "tests_hammer:",
        "stp d8, d9, [sp, #-64]!",
        "stp d10, d11, [sp, #16]",
        "stp d12, d13, [sp, #32]",
        "stp d14, d15, [sp, #48]",
        ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n ldr q\\r, [x0, #16 * \\r]\n .endr",
        "2: subs x2, x2, #1",
        "b.ne 2b",
        ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n str q\\r, [x1, #16 * \\r]\n .endr",
        "ldp d10, d11, [sp, #16]",
        "ldp d12, d13, [sp, #32]",
        "ldp d14, d15, [sp, #48]",
        "ldp d8, d9, [sp], #64",
        "ret",
    );

    unsafe extern "C" {
        fn tests_hammer(pattern: *const u8, seen: *mut u8, spins: u64);
    }

    /// Fills every vector register from `pattern`, spins, and says what the registers hold then.
    pub fn hammer(pattern: &[u8], seen: &mut [u8], spins: u64) {
        assert!(pattern.len() >= vector_bytes() && seen.len() >= vector_bytes());
        // SAFETY: both buffers are large enough; what the C ABI wants kept is kept.
        unsafe { tests_hammer(pattern.as_ptr(), seen.as_mut_ptr(), spins.max(1)) };
    }

    /// Sets the rounding mode (0 to 3).
    pub fn set_rounding(mode: u32) {
        let control = u64::from(mode) << 22;
        // SAFETY: FPCR with a rounding mode only.
        unsafe { asm!("msr fpcr, {}", in(reg) control) };
    }

    /// The rounding mode.
    pub fn rounding() -> u32 {
        let control: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mrs {}, fpcr", out(reg) control) };
        (control >> 22) as u32 & 3
    }

    // struct ucontext: the 128-byte mask, then sigcontext from byte 176 (arch/arm64/include/uapi/asm/ucontext.h).
    const MACHINE: usize = 176;
    const SP: usize = MACHINE + 256;
    const PC: usize = MACHINE + 264;
    const PSTATE: usize = MACHINE + 272;
    const RESERVED: usize = MACHINE + 288;

    /// Where the call's result stands in a frame.
    pub const RESULT: usize = MACHINE + 8;

    /// What the signal of [`sigreturn_from_nowhere`] says: `si_code` (`SEGV_ACCERR`) and `si_addr`.
    pub const NOWHERE: (i32, usize) = (2, 0x1000);

    /// Ways to spoil a frame, for [`mangle`](super::mangle).
    pub const WAYS: [(usize, u64); 12] = [
        (PC, 1 << 63),
        (PC, 0xffff_ff80_8000_0000),
        (PC, 3),
        (SP, 0x10),
        (SP, 1 << 63),
        (PSTATE, u64::MAX),
        (PSTATE, 0x3c5),
        (PSTATE, 0x10),
        (RESERVED, u64::MAX),
        (RESERVED, 0),
        (RESERVED + 4, 0x7fff_ffff),
        (0, u64::MAX),
    ];

    /// Where the FP state of a frame stands, and how many bytes of it to spoil.
    pub fn fp_state(context: usize) -> (usize, usize) {
        (context + RESERVED, 1024)
    }

    /// sigreturn with a stack pointer to nowhere.
    pub fn sigreturn_from_nowhere() -> ! {
        // SAFETY: the process is meant to die of it.
        unsafe {
            asm!(
                "mov x9, #0x1000",
                "mov sp, x9",
                "mov x8, #139",
                "svc #0",
                "udf #0",
                options(noreturn)
            )
        }
    }

    // fn(flags, stack, body): clone(2); the new thread calls `body` and ends.
    global_asm!(
        "tests_bare_thread:",
        "mov x9, x2",
        "mov x2, xzr",
        "mov x3, xzr",
        "mov x4, xzr",
        "mov x8, #220",
        "svc #0",
        "cbnz x0, 2f",
        "blr x9",
        "mov x8, #93",
        "svc #0",
        "2: ret",
    );

    // fn(note, section, turns): a restartable sequence that turns in a circle.
    global_asm!(
        "tests_sequence:",
        "str x1, [x0]",
        "tests_sequence_start:",
        "subs x2, x2, #1",
        "b.ne tests_sequence_start",
        "tests_sequence_end:",
        "mov w0, #0",
        "ret",
        ".long {signature}",
        "tests_sequence_abort:",
        "mov w0, #1",
        "ret",
        signature = const super::SIGNATURE,
    );
}

/// What stands before the abort handler of [`sequence`].
pub const SIGNATURE: u32 = 0x5305_3053;

unsafe extern "C" {
    fn tests_sequence(note: *mut u64, section: *const Section, turns: u64) -> u32;
    fn tests_sequence_start();
    fn tests_sequence_end();
    fn tests_sequence_abort();
    fn tests_bare_thread(flags: u64, stack: usize, body: extern "C" fn() -> i32) -> i64;
}

/// `struct rseq_cs` (`linux/rseq.h`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Section {
    /// 0.
    pub version: u32,
    /// 0.
    pub flags: u32,
    /// Its first instruction.
    pub start: u64,
    /// Its bytes.
    pub length: u64,
    /// Where it goes on when it was broken off.
    pub abort: u64,
}

/// Where [`sequence`] stands.
pub fn section() -> Section {
    let start = tests_sequence_start as *const () as u64;
    Section {
        version: 0,
        flags: 0,
        start,
        length: tests_sequence_end as *const () as u64 - start,
        abort: tests_sequence_abort as *const () as u64,
    }
}

/// Turns `turns` times in a restartable sequence that is noted in `note`; whether it was broken off.
pub fn sequence(note: *mut u64, section: &Section, turns: u64) -> bool {
    // SAFETY: `note` is the caller's; nothing else is touched.
    unsafe { tests_sequence(note, section, turns) != 0 }
}

/// Starts a thread without anything of its own but a stack of the caller's, which ends at `top`, for a body that does no more than make
/// calls that succeed: it has its maker's thread-local storage. Its number.
pub fn bare_thread(top: usize, body: extern "C" fn() -> i32) -> Result<i32, i32> {
    let flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    // SAFETY: the stack is the caller's promise, and that the body touches no thread-local storage.
    match unsafe { tests_bare_thread(flags as u64, top, body) } {
        error @ ..0 => Err(-error as i32),
        tid => Ok(tid as i32),
    }
}

pub use imp::{NOWHERE, hammer, rounding, set_rounding, sigreturn_from_nowhere, vector_bytes};

/// How many ways [`mangle`] knows.
pub const MANGLINGS: usize = imp::WAYS.len();

/// From here on an offset into a signal frame is one into its FP state.
const FP: usize = 1 << 16;

/// Spoils a signal frame: each way is an offset and the word to be put there; an offset of 0 spoils all the FP state.
pub fn mangle(context: *mut std::ffi::c_void, way: usize) {
    let context = context as usize;
    let (state, length) = imp::fp_state(context);
    match imp::WAYS[way] {
        (0, value) => {
            for at in 0..length {
                crate::sys::poke(state + at, value.to_ne_bytes()[at % 8]);
            }
        }
        (offset @ FP.., value) => put(state + offset - FP, value),
        (offset, value) => put(context + offset, value),
    }
}

/// Sets the result of the call that a signal interrupted.
pub fn set_result(context: *mut std::ffi::c_void, value: u64) {
    put(context as usize + imp::RESULT, value);
}

fn put(address: usize, value: u64) {
    for (at, byte) in value.to_ne_bytes().into_iter().enumerate() {
        crate::sys::poke(address + at, byte);
    }
}
