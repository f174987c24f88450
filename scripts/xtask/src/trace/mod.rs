//! `scripts/trace`: boots, has a command traced, and writes what every CPU did meanwhile as a file for Perfetto, and as a
//! drawing.
//!
//! The guest's shell switches the trace on, runs the command, switches it off and prints `/proc/breenix/trace`.

pub mod chrome;
mod dump;
mod svg;
pub mod timeline;

use self::dump::{Dump, HEAD};
use self::svg::Window;
use self::timeline::Timeline;
use crate::arch::Arch;
use crate::machine::{Boot, Machine};
use crate::project::{self, Profile};
use crate::session::{self, Input, Outcome, READY};
use crate::verdict;
use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Options.
#[derive(Args, Debug)]
pub struct Trace {
    /// Architecture; the host's if left out
    arch: Option<Arch>,
    /// Where the trace goes; target/trace/<date>.json if left out
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Draw the trace, or its window, to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// What is drawn: milliseconds since the trace began, either may be left out
    #[arg(long, value_name = "FROM..TO", requires = "svg")]
    window: Option<Window>,
    /// Records that each CPU keeps, the newest
    #[arg(long, default_value_t = 32768)]
    records: u32,
    /// Build with assertions
    #[arg(long)]
    debug: bool,
    /// Number of CPUs
    #[arg(long, default_value_t = 4)]
    smp: u32,
    /// A nanosecond of the guest's time for every instruction, the CPUs taking turns
    #[arg(long)]
    counted: bool,
    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// What is traced: a program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// What came of a command.
pub struct Traced {
    /// What the CPUs did.
    pub timeline: Timeline,
    /// What the command printed.
    pub output: String,
    /// Its exit status.
    pub status: i32,
}

impl Trace {
    /// Traces; the exit code is the command's.
    ///
    /// # Errors
    /// The build failed, QEMU cannot be started, or the guest gave no whole trace.
    pub fn main(self) -> Result<ExitCode> {
        let arch = self.arch.unwrap_or_else(Arch::host);
        let boot = Boot::build(arch, if self.debug { Profile::Debug } else { Profile::Release })?;
        let machine = Machine {
            cpus: self.smp,
            counted: self.counted,
            ..Machine::default()
        };
        let traced = run(
            &boot,
            machine,
            &self.command,
            self.records,
            Duration::from_secs(self.timeout),
        )?;
        print!("{}", traced.output);
        let title = format!("Breenix, {}: {}", arch.name(), self.command.join(" "));
        let path = match self.out {
            Some(path) => path,
            None => {
                let directory = project::target_dir().join("trace");
                fs::create_dir_all(&directory)?;
                let date = jiff::Timestamp::now().strftime("%Y-%m-%d-%H%M%S");
                directory.join(format!("{date}.json"))
            }
        };
        let timeline = &traced.timeline;
        fs::write(&path, chrome::json(timeline, &title)).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!(
            "{:.3} ms on {} CPUs: {} slices, {} wakes",
            timeline.length as f64 / 1e6,
            timeline.cpus.len(),
            timeline.slices.len(),
            timeline.wakes.len()
        );
        if timeline.lost > 0 {
            let lost = timeline.lost;
            eprintln!(
                "{lost} records were overwritten: --records {} keeps more",
                self.records * 2
            );
        }
        eprintln!("trace: {} (open it at https://ui.perfetto.dev)", path.display());
        if let Some(path) = self.svg {
            svg::draw(timeline, self.window, &title, &path).with_context(|| format!("{}", path.display()))?;
            eprintln!("drawing: {}", path.display());
        }
        Ok(ExitCode::from(u8::try_from(traced.status).unwrap_or(u8::MAX)))
    }
}

/// Boots `machine`, and traces a command on it. Shows how far it is.
///
/// # Errors
/// QEMU cannot be started, or the guest gave no whole trace.
pub fn run(boot: &Boot, machine: Machine, command: &[String], records: u32, limit: Duration) -> Result<Traced> {
    let mut machine = machine;
    machine.words.extend(["script", "quiet"].map(str::to_owned));
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.set_message("booting");
    let (shown, mut heard) = (bar.clone(), 0);
    let sink = move |bytes: &[u8]| {
        heard += bytes.len();
        shown.set_message(format!("tracing; {} KiB over the serial line", heard / 1024));
    };
    let input = Input::Bytes(script(command, records).into_bytes());
    let outcome = session::run(&machine, boot, input, limit, sink);
    bar.finish_and_clear();
    let outcome = outcome?;
    read(&outcome, &boot.build_id).inspect_err(|_| {
        let text = outcome.text();
        // Not what can be a megabyte of records.
        let said = text.split_once(HEAD).map_or(text.as_str(), |(said, _)| said);
        eprint!("{said}{}", outcome.diagnosis.as_deref().unwrap_or_default());
    })
}

/// What the guest's shell is told: one command in braces, so that it is read to its end before anything of it runs. The line
/// it came over has come to rest when the trace begins.
fn script(command: &[String], records: u32) -> String {
    let quoted: Vec<_> = command.iter().map(|word| quote(word)).collect();
    let file = "/proc/breenix/trace";
    format!(
        "{{ sleep 0.3; echo on {records} >{file} || exit {NO_TRACE}; {}; status=$?; echo off >{file}; cat {file}; \
         exit $status; }}\n",
        quoted.join(" ")
    )
}

/// The guest's status where it does not trace: the reason stands above.
const NO_TRACE: i32 = 125;

/// A word as it stands in a shell's script.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn read(outcome: &Outcome, build_id: &str) -> Result<Traced> {
    let text = outcome.text();
    let status = verdict::status(outcome)?;
    ensure!(
        status != verdict::PANIC,
        "the kernel panicked: its last words are above"
    );
    verdict::check_build(&text, build_id)?;
    ensure!(
        status != NO_TRACE || text.contains(HEAD),
        "the guest does not trace: see above; --records takes 64 to 1048576"
    );
    let dump = Dump::parse(&text)?;
    let (_, said) = text.split_once(READY).context("the shell never started")?;
    let output = said.split_once(HEAD).map_or(said, |(said, _)| said);
    Ok(Traced {
        timeline: Timeline::new(&dump),
        output: output.strip_prefix('\n').unwrap_or(output).to_owned(),
        status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::fake;

    #[test]
    fn words_reach_the_command_as_they_are() {
        let text = script(&["/bin/sh".into(), "-c".into(), "echo 'a b' | cat".into()], 64);
        assert!(
            text.contains(r"echo on 64 >/proc/breenix/trace || exit 125; '/bin/sh' '-c' 'echo '\''a b'\'' | cat';")
        );
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn a_guest_without_a_whole_trace_is_an_error() {
        let said = |text: &str, status: u8| {
            let script = format!("printf 'Breenix 1 build abcd\\n{READY}\\n{text}'; exit {status}");
            read(&fake(&script, Input::None, Duration::from_secs(20)), "abcd")
        };
        let whole = "out\\nBREENIX-TRACE 1 cpus 0 calls 0\\nBREENIX-TRACE-END 0\\n";
        // isa-debug-exit: 1 is status 0.
        let traced = said(whole, 1).unwrap();
        assert_eq!((traced.output.as_str(), traced.status), ("out\n", 0));
        assert_eq!(said(whole, 7).unwrap().status, 3);
        let error = |text: &str, status| said(text, status).err().unwrap().to_string();
        assert!(error("out\\n", 1).contains("no trace"));
        assert!(error("BREENIX-TRACE 1 cpus 0 calls 0\\n", 1).contains("cut off"));
        assert!(error("sh: nothing\\n", 251).contains("--records"));
    }
}
