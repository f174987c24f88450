//! The end of a session, and of the machine. Each test has a boot of its own.

use super::{Failure, Shell};
use crate::arch::GuestExit;
use crate::console::Console;
use crate::machine::{Boot, Machine};
use anyhow::{Result, ensure};

/// A test with a boot of its own.
type Test = (&'static str, fn(&Boot) -> Result<(), Failure>);

pub const TESTS: &[Test] = &[
    ("exit_powers_off_with_the_status", exit_powers_off_with_the_status),
    ("poweroff_sends_what_was_written", poweroff_sends_what_was_written),
    (
        "quotes_on_the_command_line_hold_together",
        quotes_on_the_command_line_hold_together,
    ),
];

fn exit_powers_off_with_the_status(boot: &Boot) -> Result<(), Failure> {
    let mut shell = Shell::boot(boot)?;
    let mut steps = || {
        shell.keys("exit 7\n")?;
        let exit = shell.console.expect_end()?;
        ensure!(exit == GuestExit::Status(7), "{exit:?}");
        Ok(())
    };
    steps().map_err(|error| shell.failure(error))
}

/// More than the terminal's buffer and the device hold is on its way when `reboot(2)` is called.
fn poweroff_sends_what_was_written(boot: &Boot) -> Result<(), Failure> {
    let mut shell = Shell::boot(boot)?;
    let mut steps = || {
        shell.output("seq 1 800 > /tmp/numbers")?;
        shell.keys("clear; cat /tmp/numbers; poweroff -f\n")?;
        let exit = shell.console.expect_end()?;
        let log = shell.console.log();
        ensure!(log.ends_with("799\n800\n"), "the end is missing");
        ensure!(exit == GuestExit::Status(0), "{exit:?}");
        Ok(())
    };
    steps().map_err(|error| shell.failure(error))
}

fn quotes_on_the_command_line_hold_together(boot: &Boot) -> Result<(), Failure> {
    let machine = Machine {
        words: vec![r#"run="/bin/expr 40 + 2""#.to_owned(), "quiet".to_owned()],
        ..Machine::default()
    };
    let console = Console::boot(&machine, boot).map_err(Failure::without_guest)?;
    let mut shell = Shell { console, commands: 0 };
    let mut steps = || {
        shell.console.expect("42\n")?;
        let exit = shell.console.expect_end()?;
        ensure!(exit == GuestExit::Status(0), "{exit:?}");
        Ok(())
    };
    steps().map_err(|error| shell.failure(error))
}
