//! The end of init is the end of the machine.

use executor::{Class, SpawnOptions};
use hal::{
    arch::Cpu,
    traits::{CpuOps, Shutdown},
};

use super::process::WaitStatus;
use crate::{drivers::uart, klog, rt, tty::Tty};

/// Leaves the machine with init's exit code, or 128 and the signal that killed it, once the console has sent what was
/// written to it.
pub(super) fn on_init_exit(status: WaitStatus) {
    let code = status.code().unwrap_or(128 + status.signal().unwrap_or(0)) as u8;
    log::info!("init has ended with status {code}");
    if rt::spawn(
        SpawnOptions::new(Class::Service, "shutdown"),
        leave(Shutdown::PowerOff(code)),
    )
    .is_err()
    {
        klog::flush();
        Cpu::shutdown(Shutdown::PowerOff(code));
    }
}

/// Leaves the machine once the console has sent what had been written to it at the time of the call. Dropping it leaves
/// the machine running.
pub async fn leave(how: Shutdown) -> ! {
    if let Ok(tty) = Tty::console() {
        uart::drained(&tty).await;
    }
    Cpu::shutdown(how)
}
