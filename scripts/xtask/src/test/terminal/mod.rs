//! The suite of a guest at a terminal: what a person at `scripts/run` types and sees, on a real pseudo-terminal.
//!
//! The tests share one boot. One that fails leaves the guest in an unknown state, so the next gets a new one. What is
//! expected is never in what was typed: commands mark their output in words that only come to be when the shell has read
//! them (`"<""up>"`).

mod edit;
mod jobs;
mod leave;
mod screens;

use super::Tally;
use crate::arch::Arch;
use crate::console::{Console, View};
use crate::machine::{Boot, Machine};
use crate::project::{self, Profile};
use crate::verdict;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::time::Instant;

/// What the login shell prints when it wants a command.
const PROMPT: &str = "~ # ";

/// Whoever lets a line be edited, the shell at its prompt above all, asks where the cursor is. What is typed before the answer
/// is sent would go ahead of it, and a program that is started so soon would read the answer.
const QUESTION: &str = "\x1b[6n";

/// A test in a shell that other tests go on to use: leaves it at its prompt.
type Test = (&'static str, fn(&mut Shell) -> Result<()>);

const TESTS: &[&[Test]] = &[
    &[("the_prompt_comes", the_prompt_comes)],
    edit::TESTS,
    jobs::TESTS,
    screens::TESTS,
];

/// A guest whose login shell is at its prompt.
pub struct Shell {
    console: Console,
    commands: u32,
}

impl Shell {
    /// Boots to the prompt.
    fn boot(boot: &Boot) -> Result<Self, Failure> {
        let console = Console::boot(&Machine::default(), boot).map_err(Failure::without_guest)?;
        let mut shell = Self { console, commands: 0 };
        match shell.prompt() {
            Ok(()) => Ok(shell),
            Err(error) => Err(shell.failure(error)),
        }
    }

    /// Waits for the prompt that is to come next.
    fn prompt(&mut self) -> Result<()> {
        self.console.expect(PROMPT)?;
        self.console.expect(QUESTION).map(drop)
    }

    /// Types.
    fn keys(&mut self, keys: &str) -> Result<()> {
        self.console.send(keys)
    }

    /// Runs a command to its end; what it printed (lines ended by `\n`) and its status. At a prompt before and after.
    fn run(&mut self, command: &str) -> Result<(String, i32)> {
        self.commands += 1;
        let mark = self.commands;
        self.keys(&format!("echo \"<\"\"{mark}>\"; {command}; echo \"<{mark}:$?\"\">\"\n"))?;
        self.console.expect(&format!("<{mark}>\n"))?;
        let output = self.console.expect(&format!("<{mark}:"))?;
        let status = self.console.expect(">")?.parse().context("no status")?;
        self.prompt()?;
        Ok((output, status))
    }

    /// Runs a command that has to succeed; what it printed.
    fn output(&mut self, command: &str) -> Result<String> {
        let (output, status) = self.run(command)?;
        ensure!(status == 0, "`{command}` ended with {status}: {output}");
        Ok(output)
    }

    /// The status of the command before, which ended at the prompt that has come.
    fn status(&mut self) -> Result<i32> {
        self.keys("echo \"<\"\"status:$?\"\">\"\n")?;
        self.console.expect("<status:")?;
        let status = self.console.expect(">")?.parse().context("no status")?;
        self.prompt()?;
        Ok(status)
    }

    /// Starts a foreground job and waits until it is one. `command` has no single quotes.
    fn start(&mut self, command: &str) -> Result<()> {
        self.keys(&format!("sh -c 'echo \"<\"\"up>\"; exec {command}'\n"))?;
        self.console.expect("<up>\n").map(drop)
    }

    /// Stops the foreground job by its key; back at the prompt.
    fn stop(&mut self) -> Result<()> {
        self.keys("\x1a")?;
        self.console.expect("Stopped")?;
        self.prompt()
    }

    /// Writes a script for the guest's shell.
    fn script(&mut self, path: &str, lines: &[&str]) -> Result<()> {
        self.output(&format!("rm -f {path}"))?;
        for line in lines {
            self.output(&format!("echo '{line}' >> {path}"))?;
        }
        Ok(())
    }

    /// Waits until the screen is as `condition` wants it.
    fn screen(&mut self, what: &str, condition: impl Fn(&View<'_>) -> bool) -> Result<()> {
        self.console.expect_screen(what, condition)
    }

    fn failure(&mut self, error: anyhow::Error) -> Failure {
        Failure {
            autopsy: self.console.autopsy(),
            error,
        }
    }
}

/// What went wrong, and what the guest looked like then.
struct Failure {
    error: anyhow::Error,
    autopsy: String,
}

impl Failure {
    fn without_guest(error: anyhow::Error) -> Self {
        Self {
            error,
            autopsy: String::new(),
        }
    }
}

/// Every test, on the debug build.
pub fn all(arch: Arch) -> Result<Tally> {
    let boot = Boot::build(arch, Profile::Debug)?;
    let mut tally = Tally::default();
    let mut report = |name: &str, started: Instant, result: Result<(), Failure>| -> Result<()> {
        tally.add(&Tally::of(result.is_ok()));
        match result {
            Ok(()) => println!("{name}: ok ({} ms)", started.elapsed().as_millis()),
            Err(failure) => keep(arch, name, &failure)?,
        }
        Ok(())
    };
    let mut shell = None;
    for (name, test) in TESTS.iter().copied().flatten() {
        let started = Instant::now();
        let mut running = match shell.take() {
            Some(shell) => shell,
            None => match Shell::boot(&boot) {
                Ok(shell) => shell,
                Err(failure) => {
                    // Nor would the others get their shell.
                    report(name, started, Err(failure))?;
                    return Ok(tally);
                }
            },
        };
        let result = test(&mut running).map_err(|error| running.failure(error));
        if result.is_ok() {
            shell = Some(running);
        }
        report(name, started, result)?;
    }
    drop(shell);
    for (name, test) in leave::TESTS {
        let started = Instant::now();
        report(name, started, test(&boot))?;
    }
    Ok(tally)
}

/// Shows what a failed test left behind, and keeps it.
fn keep(arch: Arch, name: &str, failure: &Failure) -> Result<()> {
    let directory = project::target_dir().join("test");
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{}-terminal-{name}.log", arch.name()));
    fs::write(&path, &failure.autopsy)?;
    println!(
        "---- {name}\n{}\n---- {name}: FAILED: {:#} (log: {})",
        failure.autopsy,
        failure.error,
        path.display()
    );
    Ok(())
}

fn the_prompt_comes(shell: &mut Shell) -> Result<()> {
    let boot = shell.console.build_id().to_owned();
    verdict::check_build(&shell.console.log(), &boot)?;
    shell.screen("the prompt, and the cursor behind it", |screen| {
        let (row, column) = screen.cursor();
        screen.row(row) == PROMPT.trim_end() && usize::from(column) == PROMPT.len()
    })?;
    ensure!(shell.run("echo hello; false")? == ("hello\n".to_owned(), 1));
    Ok(())
}
