//! The simulated CPU.

#![expect(unsafe_code, reason = "copies to and from simulated physical memory")]

use std::sync::atomic::{AtomicU32, Ordering};

use super::{context::UserContext, machine, paging, ram};
use crate::{
    PAGE_SIZE,
    addr::PhysAddr,
    traits::{CopyFault, CpuOps, Shutdown},
    trap::{Access, Fault, InterruptToken, Trap},
};

/// The CPU that the calling thread is.
pub struct Cpu;

/// One piece of a user access that stays within a page: where it is in memory, and which part of the buffer it is.
fn pieces(address: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = address.wrapping_add(done as u64);
        let piece = (length - done).min(PAGE_SIZE - (at as usize & (PAGE_SIZE - 1)));
        let range = done..done + piece;
        done += piece;
        (piece > 0).then_some((at, range))
    })
}

fn locate(address: u64, access: Access) -> Option<*mut u8> {
    let offset = address & (PAGE_SIZE as u64 - 1);
    paging::translate(address - offset, access).map(|frame| ram::pointer(PhysAddr(frame.0 + offset)))
}

fn word(address: u64, access: Access) -> Result<&'static AtomicU32, CopyFault> {
    assert!(address.is_multiple_of(4), "a user word at {address:#x} is not aligned");
    let pointer = locate(address, access).ok_or(CopyFault { copied: 0 })?;
    // SAFETY: simulated RAM is never freed, the pointer is aligned, and words are only accessed atomically or by user
    // copies, which stand for another CPU's plain accesses.
    Ok(unsafe { AtomicU32::from_ptr(pointer.cast()) })
}

fn page_fault(fault: CopyFault, address: u64, access: Access) -> Fault {
    Fault::Page {
        address: address.wrapping_add(fault.copied as u64),
        access,
    }
}

/// A program's load.
///
/// # Errors
/// The fault that the program then returns.
pub fn load(address: u64, to: &mut [u8]) -> Result<(), Fault> {
    Cpu::copy_from_user(to, address).map_err(|fault| page_fault(fault, address, Access::Read))
}

/// A program's store.
///
/// # Errors
/// The fault that the program then returns.
pub fn store(address: u64, from: &[u8]) -> Result<(), Fault> {
    Cpu::copy_to_user(address, from).map_err(|fault| page_fault(fault, address, Access::Write))
}

/// A program's instruction fetch.
///
/// # Errors
/// The fault that the program then returns.
pub fn fetch(address: u64) -> Result<(), Fault> {
    match locate(address, Access::Execute) {
        Some(_) => Ok(()),
        None => Err(Fault::Page {
            address,
            access: Access::Execute,
        }),
    }
}

impl CpuOps for Cpu {
    type UserContext = UserContext;
    type InterruptState = bool;

    fn mask_interrupts() -> bool {
        machine::with_cpu(|cpu| std::mem::replace(&mut cpu.masked, true))
    }

    fn disable_interrupts() {
        machine::with_cpu(|cpu| cpu.masked = true);
    }

    fn restore_interrupts(masked: bool) {
        if masked {
            machine::with_cpu(|cpu| cpu.masked = true);
        } else {
            Self::unmask_interrupts();
        }
    }

    fn unmask_interrupts() {
        machine::with_cpu(|cpu| cpu.masked = false);
        machine::with_machine(|machine| machine.deliver(machine::cpu_id()));
    }

    fn interrupts_enabled() -> bool {
        machine::with_cpu(|cpu| !cpu.masked)
    }

    fn idle() {
        debug_assert!(!Self::interrupts_enabled(), "idle with interrupts unmasked");
        machine::with_machine(|machine| machine.idle(machine::cpu_id()));
    }

    fn relax() {
        std::hint::spin_loop();
    }

    fn synchronize_instructions() {}

    fn enter_user(context: &mut UserContext) -> Trap {
        debug_assert!(
            !Self::interrupts_enabled(),
            "user mode entered with interrupts unmasked"
        );
        if machine::with_machine(|machine| machine.interrupt_pending(machine::cpu_id())) {
            return Trap::Interrupt(InterruptToken(0));
        }
        context.run()
    }

    unsafe fn copy_from_user_to(to: *mut u8, from: u64, length: usize) -> Result<(), CopyFault> {
        for (address, range) in pieces(from, length) {
            let source = locate(address, Access::Read).ok_or(CopyFault { copied: range.start })?;
            // SAFETY: the piece stays within the frame that `source` points into; `to` is the caller's promise.
            unsafe { std::ptr::copy(source, to.add(range.start), range.len()) };
        }
        Ok(())
    }

    unsafe fn copy_to_user_from(to: u64, from: *const u8, length: usize) -> Result<(), CopyFault> {
        for (address, range) in pieces(to, length) {
            let target = locate(address, Access::Write).ok_or(CopyFault { copied: range.start })?;
            // SAFETY: the piece stays within the frame that `target` points into, which user mode may write; `from` is
            // the caller's promise.
            unsafe { std::ptr::copy(from.add(range.start), target, range.len()) };
        }
        Ok(())
    }

    fn user_compare_exchange(address: u64, expected: u32, new: u32) -> Result<u32, CopyFault> {
        let word = word(address, Access::Write)?;
        Ok(
            match word.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(old) | Err(old) => old,
            },
        )
    }

    fn user_load(address: u64) -> Result<u32, CopyFault> {
        Ok(word(address, Access::Read)?.load(Ordering::SeqCst))
    }

    fn phys_to_virt(address: PhysAddr) -> *mut u8 {
        ram::pointer(address)
    }

    fn start_cpu(_: u32) -> bool {
        // Threads become CPUs by `Machine::attach`; no firmware starts them.
        false
    }

    fn shutdown(how: Shutdown) -> ! {
        panic!("the simulated machine shuts down: {how:?}");
    }

    fn random() -> Option<u64> {
        Some(machine::with_machine(|machine| machine.next_random()))
    }

    fn hwcap() -> (u64, u64) {
        (0, 0)
    }

    const MACHINE: &'static str = "x86_64";

    fn describe(cpu: u32, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        write!(out, "processor\t: {cpu}\nmodel name\t: simulated\n\n")
    }

    fn backtrace(_: u64, _: &mut dyn FnMut(u64)) {}

    fn frame_pointer() -> u64 {
        0
    }
}
