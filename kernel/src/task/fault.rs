//! Faults of user mode: paged in, or turned into the signal that Linux sends.

use alloc::sync::Arc;

use hal::{
    abi::Abi,
    arch::{ABI, UserContext},
    traits::InterruptFrame,
    trap::{Access, ExceptionKind, Fault},
};

use super::{
    fp::{Away, OnCpu},
    signal::{SigInfo, force, info::code::*, set::*},
    thread::Thread,
};
use crate::mm::{AddressSpace, FaultError};

/// Has a fault of the thread's instruction dealt with.
pub(super) async fn serve(thread: &Arc<Thread>, context: &mut UserContext, on_cpu: &mut OnCpu) {
    match context.fault() {
        Fault::Page { address, access } => {
            let mm = on_cpu.mm.clone();
            Away::new(thread, context, on_cpu, page_fault(thread, &mm, address, access)).await;
        }
        Fault::Exception { kind, address } => exception(thread, kind, address),
    }
}

/// Brings the page in, or raises SIGSEGV or SIGBUS.
async fn page_fault(thread: &Arc<Thread>, mm: &Arc<AddressSpace>, address: u64, access: Access) {
    let info = match mm.fault_in(address, access).await {
        Ok(()) => return,
        Err(FaultError::Ending) => return,
        Err(FaultError::Oom) if thread.must_exit() => return,
        // Only init is left: it cannot be served, and the machine cannot go on without it.
        Err(FaultError::Oom) => SigInfo::kernel(SIGBUS),
        Err(FaultError::MapErr) => SigInfo::fault(SIGSEGV, SEGV_MAPERR, address),
        Err(FaultError::AccErr) => SigInfo::fault(SIGSEGV, SEGV_ACCERR, address),
        Err(FaultError::Bus) => SigInfo::fault(SIGBUS, BUS_ADRERR, address),
    };
    force(thread, info);
}

/// Raises the signal of a faulty instruction.
fn exception(thread: &Arc<Thread>, kind: ExceptionKind, address: u64) {
    let info = match kind {
        ExceptionKind::IllegalInstruction => SigInfo::fault(SIGILL, ILL_ILLOPC, address),
        // Linux says of `int3` no more than that it was the kernel (`do_int3_user`).
        ExceptionKind::Breakpoint if ABI == Abi::X86_64 => SigInfo::kernel(SIGTRAP),
        ExceptionKind::Breakpoint => SigInfo::fault(SIGTRAP, TRAP_BRKPT, address),
        ExceptionKind::SteppedOntoBreakpoint(_) => SigInfo::fault(SIGTRAP, TRAP_TRACE, address),
        ExceptionKind::HardwareBreakpoint(_) => SigInfo::fault(SIGTRAP, TRAP_HWBKPT, address),
        ExceptionKind::SingleStep => SigInfo::fault(SIGTRAP, TRAP_TRACE, address),
        ExceptionKind::DivideError => SigInfo::fault(SIGFPE, FPE_INTDIV, address),
        ExceptionKind::FloatingPoint(code) => SigInfo::fault(SIGFPE, code, address),
        ExceptionKind::Alignment => SigInfo::fault(SIGBUS, BUS_ADRALN, address),
        ExceptionKind::Protection => SigInfo::kernel(SIGSEGV),
        ExceptionKind::BusError => SigInfo::fault(SIGBUS, BUS_OBJERR, address),
    };
    force(thread, info);
}
