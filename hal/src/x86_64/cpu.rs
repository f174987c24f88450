//! The CPU behind [`CpuOps`].

use core::num::NonZeroU8;
use core::{arch::asm, fmt, sync::atomic::Ordering::Relaxed};

use super::{
    boot,
    constants::{DIRECT_MAP, IST_COUNT, IST_SIZE, MSR_PAT, STACK_SIZE, STACK_SLOT, STACKS, rflags},
    cpuid::FEATURES,
    entry, fp,
    interrupt_frame::UserContext,
    paging::PAT,
    platform,
    registers::{read_cr0, read_cr4, read_rflags, write_cr0, write_cr4, write_msr},
    smp, timer, trap_decode, user_copy,
};
use crate::{
    MAX_CPUS, PAGE_SIZE,
    addr::PhysAddr,
    traits::{CopyFault, CpuOps, Shutdown},
    trap::Trap,
};

/// The calling CPU.
pub struct Cpu;

/// The stacks of one CPU's slot, lowest first, as offsets: the interrupt stacks, then the main one. Between them, and
/// below the first, nothing is mapped.
pub(super) fn stacks() -> impl Iterator<Item = core::ops::Range<u64>> {
    let interrupt = (0..IST_COUNT).map(|n| {
        let start = IST_SIZE * (2 * n + 1);
        start..start + IST_SIZE
    });
    let main = IST_SIZE * (2 * IST_COUNT + 1);
    interrupt.chain(core::iter::once(main..main + STACK_SIZE))
}

/// The first address of a CPU's slot.
pub(super) fn stack_slot(cpu: u32) -> u64 {
    STACKS + u64::from(cpu) * STACK_SLOT
}

/// The end of a CPU's main stack.
pub(super) fn main_stack_top(cpu: u32) -> u64 {
    stack_slot(cpu) + IST_SIZE * (2 * IST_COUNT + 1) + STACK_SIZE
}

/// Whether an address is in a stack slot but in none of its stacks.
pub(super) fn is_guard_page(address: u64) -> bool {
    let slots = STACKS..STACKS + STACK_SLOT * MAX_CPUS as u64;
    slots.contains(&address) && !stacks().any(|stack| stack.contains(&((address - STACKS) % STACK_SLOT)))
}

fn is_stack(address: u64) -> bool {
    let slots = STACKS..STACKS + STACK_SLOT * MAX_CPUS as u64;
    let (slot, offset) = (
        address.wrapping_sub(STACKS) / STACK_SLOT,
        address.wrapping_sub(STACKS) % STACK_SLOT,
    );
    let used = slots.contains(&address) && (slot as usize) < platform::get().cpus.len().max(1);
    used && stacks().any(|stack| stack.contains(&offset)) || boot::is_boot_stack(address)
}

/// Sets the control registers of the calling CPU as the kernel wants them: write protection in ring 0, and the
/// protections that the CPU has.
///
/// # Safety
/// Called at a CPU's start, on the kernel's final tables.
pub(super) unsafe fn harden() {
    const CR0_WP: u64 = 1 << 16;
    const CR4_MCE: u64 = 1 << 6;
    const CR4_PGE: u64 = 1 << 7;
    const CR4_UMIP: u64 = 1 << 11;
    const CR4_FSGSBASE: u64 = 1 << 16;
    const CR4_SMEP: u64 = 1 << 20;
    const CR4_SMAP: u64 = 1 << 21;
    let features = [
        (&FEATURES.machine_check, CR4_MCE),
        (&FEATURES.pge, CR4_PGE),
        (&FEATURES.umip, CR4_UMIP),
        (&FEATURES.fsgsbase, CR4_FSGSBASE),
        (&FEATURES.smep, CR4_SMEP),
        (&FEATURES.smap, CR4_SMAP),
    ];
    let wanted = features
        .iter()
        .filter(|(has, _)| has.load(Relaxed))
        .fold(0, |bits, (_, bit)| bits | bit);
    // SAFETY: each bit only where CPUID has the feature. Every CPU with long mode has the page attribute table, and no page is mapped
    // by the entry that changes yet.
    unsafe {
        write_cr0(read_cr0() | CR0_WP);
        write_cr4(read_cr4() | wanted);
        write_msr(MSR_PAT, PAT);
        fp::enable();
    }
}

/// Whether interrupts were unmasked. Never zero, so that a lock that nobody holds is.
#[derive(Clone, Copy, Debug)]
pub struct InterruptState(NonZeroU8);

impl InterruptState {
    const UNMASKED: u8 = 1 << 1;
}

impl CpuOps for Cpu {
    type UserContext = UserContext;
    type InterruptState = InterruptState;

    const MACHINE: &'static str = "x86_64";

    fn mask_interrupts() -> InterruptState {
        let enabled = Self::interrupts_enabled();
        Self::disable_interrupts();
        InterruptState(NonZeroU8::MIN | if enabled { InterruptState::UNMASKED } else { 0 })
    }

    #[inline]
    fn disable_interrupts() {
        // SAFETY: masking breaks no assumption. No `nomem`: what follows stays behind it.
        unsafe { asm!("cli", options(nostack, preserves_flags)) };
    }

    fn restore_interrupts(state: InterruptState) {
        if state.0.get() & InterruptState::UNMASKED != 0 {
            Self::unmask_interrupts();
        }
    }

    fn unmask_interrupts() {
        // SAFETY: the descriptor table is loaded before anything asks for interrupts.
        unsafe { asm!("sti", options(nostack, preserves_flags)) };
    }

    fn interrupts_enabled() -> bool {
        read_rflags() & rflags::IF != 0
    }

    fn idle() {
        // SAFETY: `sti` takes effect after the next instruction, so an interrupt ends the `hlt` or never lets it begin.
        unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
    }

    fn relax() {
        core::hint::spin_loop();
    }

    fn synchronize_instructions() {
        // A serializing instruction (Intel SDM volume 3, 9.3); its result is of no interest.
        let _identity = core::arch::x86_64::__cpuid(0);
    }

    fn enter_user(context: &mut UserContext) -> Trap {
        let number = entry::enter_user(context);
        trap_decode::decode(context, number)
    }

    #[inline]
    unsafe fn copy_from_user_to(to: *mut u8, from: u64, length: usize) -> Result<(), CopyFault> {
        // SAFETY: the caller's promise.
        unsafe { user_copy::copy_from_user(to, from, length) }
    }

    #[inline]
    unsafe fn copy_to_user_from(to: u64, from: *const u8, length: usize) -> Result<(), CopyFault> {
        // SAFETY: the caller's promise.
        unsafe { user_copy::copy_to_user(to, from, length) }
    }

    fn user_compare_exchange(address: u64, expected: u32, new: u32) -> Result<u32, CopyFault> {
        user_copy::user_compare_exchange(address, expected, new)
    }

    fn user_load(address: u64) -> Result<u32, CopyFault> {
        user_copy::user_load(address)
    }

    fn phys_to_virt(address: PhysAddr) -> *mut u8 {
        (DIRECT_MAP + address.0) as *mut u8
    }

    fn start_cpu(cpu: u32) -> bool {
        smp::start(cpu)
    }

    fn shutdown(how: Shutdown) -> ! {
        Self::mask_interrupts();
        platform::shutdown(how)
    }

    fn random() -> Option<u64> {
        // The manual's advice (SDM volume 1, 7.3.17): ten tries, then the generator counts as exhausted.
        let seeds = FEATURES.rdseed.load(Relaxed);
        let numbers = FEATURES.rdrand.load(Relaxed);
        let tries = || 0..10;
        // SAFETY: only where CPUID has the instruction.
        unsafe {
            tries()
                .filter(|_| seeds)
                .find_map(|_| rdseed())
                .or_else(|| tries().filter(|_| numbers).find_map(|_| rdrand()))
        }
    }

    fn hwcap() -> (u64, u64) {
        // HWCAP2_FSGSBASE (arch/x86/include/uapi/asm/hwcap2.h).
        const FSGSBASE: u64 = 1 << 1;
        let second = if FEATURES.fsgsbase.load(Relaxed) { FSGSBASE } else { 0 };
        (FEATURES.leaf1_edx.load(Relaxed).into(), second)
    }

    fn describe(cpu: u32, out: &mut dyn fmt::Write) -> fmt::Result {
        super::cpuinfo::describe(cpu, timer::tsc_hz(), out)
    }

    fn backtrace(frame_pointer: u64, frame: &mut dyn FnMut(u64)) {
        let mut at = frame_pointer;
        while at.is_multiple_of(8) && is_stack(at) && is_stack(at + 15) {
            // SAFETY: both words are on a mapped stack.
            let (next, return_address) = unsafe { (*(at as *const u64), *((at + 8) as *const u64)) };
            if return_address == 0 {
                break;
            }
            frame(return_address);
            // Frames go up a stack; from an interrupt stack the chain may lead to the main one, which lies above.
            if next <= at {
                break;
            }
            at = next;
        }
    }

    #[inline(always)]
    fn frame_pointer() -> u64 {
        let value: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, rbp", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }
}

macro_rules! generator {
    ($name:ident, $instruction:literal) => {
        #[doc = concat!("`", $instruction, "`, or `None` where it has nothing at the moment.")]
        ///
        /// # Safety
        /// The CPU has the instruction.
        unsafe fn $name() -> Option<u64> {
            let (value, valid): (u64, u8);
            // SAFETY: the caller's promise.
            unsafe {
                asm!(concat!($instruction, " {}"), "setc {}", out(reg) value, out(reg_byte) valid,
                    options(nomem, nostack));
            }
            (valid != 0).then_some(value)
        }
    };
}

generator!(rdseed, "rdseed");
generator!(rdrand, "rdrand");

const _: () = assert!(STACK_SIZE.is_multiple_of(PAGE_SIZE as u64) && IST_SIZE.is_power_of_two());
const _: () = assert!(IST_SIZE * (2 * IST_COUNT + 1) + STACK_SIZE <= STACK_SLOT);
