//! Typing at a program that reads lines: echo, erasing, the end of file, the keys that signal, flow control.

use super::{Shell, Test};
use anyhow::{Result, ensure};

pub const TESTS: &[Test] = &[
    ("what_is_typed_is_echoed_and_erased", what_is_typed_is_echoed_and_erased),
    ("control_d_ends_input", control_d_ends_input),
    ("control_c_interrupts", control_c_interrupts),
    ("control_backslash_quits", control_backslash_quits),
    ("control_s_holds_output", control_s_holds_output),
];

fn what_is_typed_is_echoed_and_erased(shell: &mut Shell) -> Result<()> {
    shell.output("clear")?;
    shell.start("cat")?;
    for (keys, line) in [
        ("abc\x7fd", "abd"),
        ("one two\x17three", "one three"),
        ("rubbish\x15clean", "clean"),
        ("a\ttab\x7f\x7f\x7f\x7fb", "ab"),
        ("\x16\x03\x7fx", "x"),
        ("\x7f\x7fy", "y"),
    ] {
        shell.keys(keys)?;
        shell.screen(line, |screen| {
            let (row, column) = screen.cursor();
            screen.row(row) == line && usize::from(column) == line.len()
        })?;
        shell.keys("\n")?;
        // What cat has read is what stood on the screen.
        shell.screen("the line again", |screen| {
            let (row, column) = screen.cursor();
            column == 0 && row >= 2 && screen.rows_are(row - 2, &[line, line, ""])
        })?;
    }
    shell.keys("\x04")?;
    shell.prompt()?;
    ensure!(shell.status()? == 0);
    Ok(())
}

fn control_d_ends_input(shell: &mut Shell) -> Result<()> {
    shell.start("cat")?;
    // Within a line it only sends off what is there.
    shell.keys("half\x04")?;
    shell.console.expect("halfhalf")?;
    shell.keys("\x04")?;
    shell.prompt()?;
    ensure!(shell.status()? == 0);
    Ok(())
}

fn control_c_interrupts(shell: &mut Shell) -> Result<()> {
    for program in ["sleep 1000", "cat", "yes > /dev/null"] {
        shell.start(program)?;
        shell.keys("\x03")?;
        shell.console.expect("^C")?;
        shell.prompt()?;
        let status = shell.status()?;
        ensure!(status == 130, "{program}: status {status}");
    }
    // The shell itself only begins a new line.
    shell.keys("half a command\x03")?;
    shell.prompt()?;
    ensure!(shell.output("echo alive")? == "alive\n");
    Ok(())
}

fn control_backslash_quits(shell: &mut Shell) -> Result<()> {
    // A shell ignores this signal until it has become its command, which shows that it has by reading.
    shell.start("cat")?;
    shell.keys("here\n")?;
    shell.console.expect("here\nhere\n")?;
    shell.keys("\x1c")?;
    shell.console.expect("Quit")?;
    shell.prompt()?;
    let status = shell.status()?;
    ensure!(status == 131, "status {status}");
    Ok(())
}

/// The kernel's own messages go past what is held: they show that the program has written.
fn control_s_holds_output(shell: &mut Shell) -> Result<()> {
    shell.script(
        "/tmp/flow",
        &["read line; echo \"got \"$line; echo past \"it\" > /dev/kmsg"],
    )?;
    shell.start("sh /tmp/flow")?;
    shell.keys("\x13go\n")?;
    let before = shell.console.expect("past it\n")?;
    ensure!(!before.contains("go"), "shown while output was held: {before}");
    shell.keys("\x11")?;
    shell.console.expect("go\ngot go\n")?;
    shell.prompt()
}
