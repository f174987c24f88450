//! The kernel's page in every program: the signal trampoline, where the C library brings none.

use core::sync::atomic::Ordering;

use hal::{arch::UserContext, signal::SignalFrames};
use spin::Once;

use crate::{
    errno::Result,
    mm::{
        AddressSpace, Prot,
        frame::{self, Frame},
    },
    task::process::Process,
};

static PAGE: Once<Frame> = Once::new();

/// Maps the trampoline; its address, or 0 on machines that need none.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn map(mm: &AddressSpace) -> Result<u64> {
    if UserContext::TRAMPOLINE.is_empty() {
        return Ok(0);
    }
    let page = PAGE.try_call_once(|| -> Result<Frame> {
        let page = frame::allocate_zeroed()?;
        page.write(0, UserContext::TRAMPOLINE);
        Ok(page)
    })?;
    mm.map_special(page.clone(), Prot::READ | Prot::EXEC)
}

/// Where the trampoline is in a process.
pub fn trampoline(process: &Process) -> u64 {
    process.trampoline.load(Ordering::Relaxed)
}
