//! `scripts/bench`: runs suites that measure, and shows what came of them: a table, a JSON file with every sample, a plot.

mod count;
mod guest;
mod linux;
mod plot;
mod report;
mod table;

use crate::arch::Arch;
use crate::project;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use report::Suite;
use std::fs;
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
}

/// Options.
#[derive(Args, Debug)]
pub struct Bench {
    /// What to measure
    #[arg(required = true)]
    suites: Vec<Name>,
    /// Rounds of every measurement; the suite's own number if left out
    #[arg(long)]
    runs: Option<usize>,
    /// The guests' architecture; both if left out
    #[arg(long)]
    arch: Option<Arch>,
    /// Guests run freely on four CPUs, instead of on one whose instructions are counted
    #[arg(long)]
    free: bool,
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
    pub fn main(self) -> Result<ExitCode> {
        let for_executor = self.guest || self.count || self.quick || self.maitake;
        ensure!(
            !for_executor || self.suites == [Name::Executor],
            "--guest, --count, --quick and --maitake are for the suite executor alone"
        );
        ensure!(
            !(self.free || self.arch.is_some()) || !self.suites.contains(&Name::Executor),
            "--free and --arch are for suites against Linux, which executor is not"
        );
        let directory = project::target_dir().join("bench");
        fs::create_dir_all(&directory)?;
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d-%H%M%S").to_string();
        let mut good = true;
        let mut suites = Vec::new();
        for name in &self.suites {
            match name {
                Name::Latency => suites.extend(self.against_linux("latency")?),
                Name::Executor if self.guest => suites.push(guest::executor()?),
                Name::Executor => {
                    let (suite, whole) = self.executor(&directory.join(format!("{date}-samples.json")))?;
                    good &= whole;
                    suites.push(suite);
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
        let path = directory.join(format!("{date}.json"));
        fs::write(&path, serde_json::to_vec_pretty(&suites)?)?;
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

    /// Runs a suite on our kernel and on Linux.
    fn against_linux(&self, suite: &str) -> Result<Vec<Suite>> {
        let mode = if self.free {
            linux::Mode::Free
        } else {
            linux::Mode::Counted
        };
        let runs = self.runs.unwrap_or(if self.free { 5 } else { 1 });
        let archs = self.arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]);
        let run = |arch| linux::run(suite, arch, mode, runs, self.only.as_deref());
        archs.into_iter().map(run).collect()
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
