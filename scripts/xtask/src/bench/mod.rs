//! `scripts/bench`: runs suites that measure, and shows what came of them: a table, a JSON file with every sample, a plot.

mod count;
mod entry;
mod flood;
mod guest;
mod lines;
pub mod linux;
mod plot;
mod report;
mod table;

use crate::arch::Archs;
use crate::project;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use report::Suite;
use std::fs::{self, File};
use std::io::{self, Write};
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Shows how many of `steps` are done, and what goes on, which its message says.
fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The executor against its published peers, on the host
    Executor,
    /// Calls, on our kernel and on the distribution's Linux, in the same emulated machine
    Latency,
    /// The same way: bytes, children, faults and messages
    Throughput,
    /// The same way: how late sleepers wake, beside several loads
    Wakeup,
    /// The same way: to the first user instruction and to the shell's prompt
    Boot,
    /// The same way: kernel memory for each object
    Memory,
    /// The same way: reads from NVMe, AHCI and virtio disks, one at a time and 32 at once; always freely
    Disk,
}

impl Name {
    /// Those that compare with Linux.
    const AGAINST_LINUX: [Self; 6] = [
        Self::Latency,
        Self::Throughput,
        Self::Wakeup,
        Self::Boot,
        Self::Memory,
        Self::Disk,
    ];

    /// As `user/bench` calls it.
    fn word(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// Options.
#[derive(Args, Debug)]
pub struct Bench {
    /// What to measure; everything that compares with Linux if left out
    suites: Vec<Name>,
    /// Rounds of every measurement; the suite's own number if left out
    #[arg(long)]
    runs: Option<usize>,
    /// The guests' architecture; both if left out
    #[arg(long)]
    arch: Option<Archs>,
    /// Guests run freely on four CPUs, instead of on one whose instructions are counted
    #[arg(long)]
    free: bool,
    /// Our kernel alone, without Linux
    #[arg(long)]
    guest_only: bool,
    /// Small and short: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// The executor against maitake too, whose git repository must be in reach
    #[arg(long)]
    maitake: bool,
    /// Only rows whose short name contains this
    #[arg(long)]
    only: Option<String>,
    /// Instead: in the kernel, counted in instructions by an emulator, on both architectures
    #[arg(long, conflicts_with_all = ["runs", "quick", "maitake", "only"])]
    guest: bool,
    /// Instead: every operation on one thread counted in instructions, by valgrind
    #[arg(long, conflicts_with_all = ["runs", "quick", "maitake", "guest"])]
    count: bool,
}

impl Bench {
    /// Measures; fails if something could not be measured, not if it is slow.
    ///
    /// # Errors
    /// A build failed, or a suite did not say what it measured.
    pub fn main(mut self) -> Result<ExitCode> {
        if self.suites.is_empty() {
            self.suites = Name::AGAINST_LINUX.to_vec();
        }
        let for_executor = self.guest || self.count || self.quick || self.maitake;
        ensure!(
            !for_executor || self.suites == [Name::Executor],
            "--guest, --count, --quick and --maitake are for the suite executor alone"
        );
        ensure!(
            !(self.free || self.guest_only || self.arch.is_some()) || !self.suites.contains(&Name::Executor),
            "--free, --guest-only and --arch are for suites against Linux, which executor is not"
        );
        let directory = project::target_dir().join("bench");
        fs::create_dir_all(&directory)?;
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d-%H%M%S").to_string();
        let mut good = true;
        let mut suites = Vec::new();
        for name in &self.suites {
            match name {
                Name::Executor if self.guest => suites.push(guest::executor()?),
                Name::Executor => {
                    let (suite, whole) = self.executor(&directory.join(format!("{date}-samples.json")))?;
                    good &= whole;
                    suites.push(suite);
                }
                _ => {
                    let (measured, whole) = self.against_linux(&name.word())?;
                    good &= whole;
                    suites.extend(measured);
                }
            }
        }
        for suite in &suites {
            if self.guest || self.count {
                println!("{}", table::details(suite));
                continue;
            }
            println!("{}", table::verdicts(suite));
            if let Some(mean) = suite.mean() {
                println!("geometric mean of the ratios: {mean:.3}\n");
            }
            println!("{}", table::details(suite));
            let drawing = directory.join(format!("{date}-{}.svg", suite.suite));
            plot::draw(suite, &drawing)?;
            println!("plot: {}", drawing.display());
        }
        let path = write_new(&directory, &date, &serde_json::to_vec_pretty(&suites)?)?;
        println!("samples: {}", path.display());
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Builds the executor's benchmark; where it is.
    fn program(&self) -> Result<PathBuf> {
        let mut build = project::cargo();
        build.args(["build", "--package", "executor-bench", "--profile", "measure"]);
        if self.maitake {
            build.args(["--manifest-path", "executor/bench/maitake/Cargo.toml", "--target-dir"]);
            build.arg(project::target_dir().join("maitake"));
        }
        let programs = project::build(&mut build)?;
        let program = programs.into_iter().find(|program| program.name == "executor-bench");
        Ok(program.context("cargo named no benchmark")?.path)
    }

    /// Runs a suite on our kernel and on Linux; and whether every guest came to its end.
    fn against_linux(&self, suite: &str) -> Result<(Vec<Suite>, bool)> {
        // While a counted CPU waits for a disk its clock leaps: what it shows then is neither time nor work.
        let free = self.free || suite == linux::DISK;
        let mode = if free { linux::Mode::Free } else { linux::Mode::Counted };
        let plan = linux::Plan {
            suite,
            only: self.only.as_deref(),
            mode,
            runs: self.runs.unwrap_or(if free { 5 } else { 1 }),
            alone: self.guest_only,
        };
        let mut suites = Vec::new();
        let mut good = true;
        for arch in self.arch.unwrap_or(Archs::Both).all() {
            let (measured, whole) = linux::run(&plan, arch)?;
            suites.push(measured);
            good &= whole;
        }
        Ok((suites, good))
    }

    /// Runs the executor's benchmark, or counts its instructions; and whether every cell was measured.
    fn executor(&self, samples: &Path) -> Result<(Suite, bool)> {
        let good = self.measure_executor(samples)?;
        let text = fs::read(samples).context("the suite left no samples")?;
        let suite = serde_json::from_slice::<Suite>(&text).context("the suite's samples make no sense")?;
        fs::remove_file(samples)?;
        if self.count {
            return Ok((count::executor(&self.program()?, &suite)?, good));
        }
        Ok((suite, good))
    }

    /// Runs the executor's benchmark; whether every cell was measured.
    fn measure_executor(&self, samples: &Path) -> Result<bool> {
        let mut command = Command::new(self.program()?);
        command.arg("--out").arg(samples);
        if let Some(runs) = self.runs {
            command.arg(format!("--runs={runs}"));
        }
        if self.quick || self.count {
            command.arg("--quick");
        }
        if let Some(only) = &self.only {
            command.arg(format!("--only={only}"));
        }
        let status = command.status().context("cannot start the benchmark")?;
        ensure!(status.success() || samples.exists(), "the benchmark failed: {status}");
        Ok(status.success())
    }
}
/// Writes `<date>.json`, or with a number behind the date if another run began in the same second.
fn write_new(directory: &Path, date: &str, samples: &[u8]) -> Result<PathBuf> {
    for name in iter::once(date.to_owned()).chain((2..).map(|number| format!("{date}-{number}"))) {
        let path = directory.join(format!("{name}.json"));
        match File::create_new(&path) {
            Ok(mut file) => {
                file.write_all(samples)?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
        }
    }
    unreachable!("there are more numbers than files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_second_keep_their_samples_apart() {
        let directory = std::env::temp_dir().join(format!("breenix-bench-names-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let written = [b"1", b"2", b"3"].map(|samples| write_new(&directory, "now", samples).unwrap());
        assert_eq!(
            written.each_ref().map(|path| fs::read(path).unwrap()),
            [b"1", b"2", b"3"]
        );
        fs::remove_dir_all(&directory).unwrap();
    }
}
