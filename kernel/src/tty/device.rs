//! Which terminal a device node means.

use alloc::{sync::Arc, vec::Vec};

use hal::abi::Abi;
use linux_raw_sys::general as raw;
use spin::Once;

use super::{Tty, TtyFile, termios::Termios};
use crate::{
    command_line,
    errno::{Errno, Result},
    fs::DeviceNumber,
    rt,
    task::Thread,
};

/// The caller's controlling terminal, `/dev/tty`.
pub const CONTROLLING: DeviceNumber = DeviceNumber::new(5, 0);
/// The machine's console, `/dev/console`.
pub const CONSOLE: DeviceNumber = DeviceNumber::new(5, 1);

static MACHINE_CONSOLE: Once<Arc<Tty>> = Once::new();

/// The first UART's name and number, as Linux gives them on this machine.
const fn uart() -> (&'static str, DeviceNumber) {
    match hal::arch::ABI {
        Abi::X86_64 => ("ttyS0", DeviceNumber::new(4, 64)),
        Abi::Aarch64 => ("ttyAMA0", DeviceNumber::new(204, 64)),
    }
}

/// Every terminal's device node: its name in `/dev`, and its number. All are character devices of mode 0o620 but `tty`, 0o666.
pub fn nodes() -> Vec<(&'static str, DeviceNumber)> {
    let (name, number) = uart();
    alloc::vec![("tty", CONTROLLING), ("console", CONSOLE), (name, number)]
}

/// The number of a terminal's own device node.
pub fn number_of(tty: &Tty) -> DeviceNumber {
    let (name, number) = uart();
    if tty.name() == name { number } else { CONSOLE }
}

/// Opens the terminal that a device number means, for `caller`, with the flags of `open(2)`. Without `O_NOCTTY` a session
/// leader that has no terminal gets this one as its controlling one, unless it is opened as the console.
///
/// # Errors
/// `ENXIO` if there is none: for `/dev/tty`, the caller's session has no terminal.
pub fn open(number: DeviceNumber, flags: u32, caller: &Thread) -> Result<TtyFile> {
    let tty = if number == CONTROLLING {
        caller.process().session().tty().ok_or(Errno::ENXIO)?
    } else if number == CONSOLE || number == uart().1 {
        Arc::clone(MACHINE_CONSOLE.get().ok_or(Errno::ENXIO)?)
    } else {
        return Err(Errno::ENXIO);
    };
    if flags & raw::O_NOCTTY == 0 && number == uart().1 {
        tty.adopt(caller.process());
    }
    Ok(TtyFile::new(tty))
}

impl Tty {
    /// The machine's console: the terminal on the first UART, made at the first call. Without echo where the command line says
    /// `script`, so that nothing is echoed before init has made its settings.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn console() -> Result<Arc<Self>> {
        if let Some(tty) = MACHINE_CONSOLE.get() {
            return Ok(Arc::clone(tty));
        }
        let mut termios = Termios::default();
        if command_line::has("script") {
            termios.lflag &= !(raw::ECHO | raw::ISIG);
        }
        let tty = Arc::clone(MACHINE_CONSOLE.call_once(|| Self::new(uart().0, termios)));
        let options = executor::SpawnOptions::new(executor::Class::Service, "tty timer");
        rt::spawn(options, Arc::clone(&tty).run_timer())?;
        Ok(tty)
    }
}
