//! The CPU: interrupts, user mode, copies, power.

use core::arch::asm;

use super::constants::DIRECT_MAP;
use super::exception_frame::UserContext;
use super::exceptions::{self, hal_enter_user};
use super::sysreg::{instruction, read_sysreg};
use super::{features, percpu, platform, smp, trap_decode, user_copy};
use crate::addr::PhysAddr;
use crate::traits::{CopyFault, CpuOps, PerCpuOps, Shutdown};
use crate::trap::{ExceptionKind, Fault, InterruptToken, Trap};

/// This machine's CPU.
pub struct Cpu;

/// `DAIF` as it was.
#[derive(Clone, Copy, Debug)]
pub struct InterruptState(u64);

/// The I bit in `DAIF`. F goes with it: FIQs are not used.
const DAIF_I: u64 = 1 << 7;

/// The way to user mode. With `STEP` what is emulated counts as an instruction after which the thread comes back.
#[inline]
pub(super) fn enter<const STEP: bool>(context: &mut UserContext) -> Trap {
    loop {
        debug_assert!(!Cpu::interrupts_enabled());
        debug_assert!(context.pstate & 0xf == 0, "a user context must be for EL0");
        // SAFETY: the context is exclusively ours until the call returns, which it does with the kernel's registers
        // and stack as they were; its PSTATE is EL0's. User mode changes only what the program may.
        let what = unsafe { hal_enter_user(context) };
        // SErrors are masked by the exception; interrupts stay so.
        instruction!("msr daifclr, #4");
        match what {
            exceptions::SYNCHRONOUS => {
                if let Some(trap) = trap_decode::synchronous(context) {
                    return trap;
                }
                if STEP {
                    return exception(context, ExceptionKind::SingleStep);
                }
            }
            exceptions::IRQ => return Trap::Interrupt(InterruptToken(0)),
            exceptions::SERROR => return exception(context, ExceptionKind::BusError),
            // FIQs come from no controller set up here, and 32-bit code is never entered.
            _ => return exception(context, ExceptionKind::IllegalInstruction),
        }
    }
}

/// A fault at the next instruction.
#[cold]
fn exception(context: &mut UserContext, kind: ExceptionKind) -> Trap {
    let address = context.pc;
    context.fault = Fault::Exception { kind, address };
    Trap::Fault
}

impl CpuOps for Cpu {
    type UserContext = UserContext;
    type InterruptState = InterruptState;
    const MACHINE: &'static str = "aarch64";

    #[inline]
    fn mask_interrupts() -> InterruptState {
        let state = read_sysreg!("daif");
        Self::disable_interrupts();
        InterruptState(state)
    }

    #[inline]
    fn disable_interrupts() {
        instruction!("msr daifset, #3");
    }

    #[inline]
    fn restore_interrupts(state: InterruptState) {
        if state.0 & DAIF_I == 0 {
            instruction!("msr daifclr, #3");
        }
    }

    #[inline]
    fn unmask_interrupts() {
        instruction!("msr daifclr, #3");
    }

    #[inline]
    fn interrupts_enabled() -> bool {
        read_sysreg!("daif") & DAIF_I == 0
    }

    #[inline]
    fn idle() {
        // A pending interrupt ends `wfi` whether masked or not, so there is no window.
        instruction!("dsb sy", "wfi");
    }

    #[inline]
    fn relax() {
        instruction!("yield");
    }

    fn synchronize_instructions() {
        instruction!("isb");
    }

    #[inline]
    fn enter_user(context: &mut UserContext) -> Trap {
        enter::<false>(context)
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
        user_copy::compare_exchange(address, expected, new)
    }

    fn user_load(address: u64) -> Result<u32, CopyFault> {
        user_copy::load(address)
    }

    #[inline]
    fn phys_to_virt(address: PhysAddr) -> *mut u8 {
        (DIRECT_MAP + address.0) as *mut u8
    }

    fn start_cpu(cpu: u32) -> bool {
        smp::start(cpu)
    }

    fn shutdown(how: Shutdown) -> ! {
        let _ = Self::mask_interrupts();
        platform::shutdown(how);
        loop {
            instruction!("wfi");
        }
    }

    fn random() -> Option<u64> {
        features::random()
    }

    fn hwcap() -> (u64, u64) {
        features::hwcap()
    }

    fn describe(cpu: u32, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        features::describe(cpu, out)
    }

    fn backtrace(frame_pointer: u64, frame: &mut dyn FnMut(u64)) {
        let cpu = percpu::PerCpu::cpu_id();
        let stacks = [percpu::kernel_stack(cpu), percpu::exception_stack(cpu)];
        let mut at = frame_pointer;
        loop {
            let inside = |&(bottom, top): &(u64, u64)| at >= bottom && at <= top - 16;
            if !stacks.iter().any(inside) || !at.is_multiple_of(8) {
                return;
            }
            // SAFETY: the 16 bytes are inside a mapped stack of this CPU, and aligned.
            let [next, address] = unsafe { (at as *const [u64; 2]).read_volatile() };
            if address == 0 {
                return;
            }
            frame(address);
            // Callers are further up, but for the one step from the exception stack down to the kernel's.
            let leaves_exception_stack = at >= stacks[1].0 && next < stacks[1].0;
            if next <= at && !leaves_exception_stack {
                return;
            }
            at = next;
        }
    }

    #[inline(always)]
    fn frame_pointer() -> u64 {
        let address;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, x29", out(reg) address, options(nomem, nostack, preserves_flags)) };
        address
    }
}
