//! The end of init is the end of the machine.

use hal::{
    arch::Cpu,
    traits::{CpuOps, Shutdown},
};
use spin::Once;

use super::process::WaitStatus;

static HOOK: Once<fn(u8) -> !> = Once::new();

/// Has `leave` called, with the exit status, when init ends; without it the machine is powered off at once. The first
/// call counts.
pub fn set_exit_hook(leave: fn(u8) -> !) {
    HOOK.call_once(|| leave);
}

/// Leaves the machine with init's exit code, or 128 and the signal that killed it.
pub(super) fn on_init_exit(status: WaitStatus) -> ! {
    let code = status.code().unwrap_or(128 + status.signal().unwrap_or(0)) as u8;
    log::info!("init has ended with status {code}");
    match HOOK.get() {
        Some(leave) => leave(code),
        None => Cpu::shutdown(Shutdown::PowerOff(code)),
    }
}
