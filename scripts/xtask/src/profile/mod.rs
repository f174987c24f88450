//! `scripts/profile`: where the instructions of a benchmark's row go, in our kernel.
//!
//! The guest runs the row for ever, on one CPU whose instructions are counted. For a while QEMU logs each block it runs; what it
//! translates it logs from the start, so that each block's instructions are known. Nothing is sampled, and the guest does not
//! notice.

mod fold;
mod log;
mod stacks;

use crate::arch::Arch;
use crate::bench::linux;
use crate::machine::{Boot, Machine};
use crate::monitor::Monitor;
use crate::project;
use crate::session::{Guest, MonitorPath};
use crate::symbols;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::ProgressBar;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// What the guest says when the row has been run once.
const WARM: &str = "BENCH forever";
/// How long a guest may take to come so far, and to fill the log.
const LIMIT: Duration = Duration::from_secs(120);
/// Functions in the table.
const LINES: usize = 40;

/// Options.
#[derive(Args, Debug)]
pub struct Options {
    /// A row of `scripts/bench`
    row: String,
    /// The suite that the row is of
    #[arg(long, default_value = "latency")]
    suite: String,
    /// Rows to be run before, separated by commas: what they leave behind may be what is looked for
    #[arg(long, value_delimiter = ',')]
    after: Vec<String>,
    /// Architecture; both if left out
    #[arg(long)]
    arch: Option<Arch>,
    /// Print who calls whom, too
    #[arg(long)]
    tree: bool,
    /// Size of the log, from which the profile is made, in MiB; a run block takes about 100 bytes
    #[arg(long, default_value_t = 64)]
    log: u64,
    /// Begin so many seconds after the row has, for programs that prepare for long (lmbench's)
    #[arg(long, default_value_t = 0)]
    later: u64,
}

impl Options {
    /// Profiles, prints a table, and writes a flame graph.
    ///
    /// # Errors
    /// A build failed, or the guest did not come to run the row.
    pub fn main(self) -> Result<ExitCode> {
        let directory = project::target_dir().join("profile");
        fs::create_dir_all(&directory)?;
        for arch in crate::chosen(self.arch) {
            let boot = linux::ours(arch, &self.suite)?;
            let path = directory.join(format!("{}-{}", arch.name(), self.row));
            let recording = Recording(path.with_extension("log"));
            record(
                &boot,
                &[self.suite.as_str(), &self.row]
                    .into_iter()
                    .chain(self.after.iter().map(String::as_str))
                    .collect::<Vec<_>>()
                    .join(" "),
                (Duration::from_secs(self.later), self.log << 20),
                &recording.0,
            )?;
            let progress = ProgressBar::new_spinner().with_message("reading the log");
            progress.enable_steady_tick(Duration::from_millis(200));
            let log = log::Log::read(BufReader::new(File::open(&recording.0)?))?;
            let functions = symbols::functions(&fs::read(&boot.elf)?)?;
            let profile = fold::Profile::new(&log, &functions, &boot.elf)?;
            progress.finish_and_clear();
            ensure!(profile.entries > 0, "no call in the log: try a larger --log");
            println!("{}, {}", self.row, arch.name());
            print_table(&profile);
            if self.tree {
                print_tree(&profile);
            }
            let drawing = path.with_extension("svg");
            draw(
                &profile,
                &format!("{}, {}: instructions", self.row, arch.name()),
                &drawing,
            )?;
            println!("flame graph: {}\n", drawing.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A file that is removed when it has been read.
struct Recording(PathBuf);

impl Drop for Recording {
    fn drop(&mut self) {
        // It is not there if QEMU never came so far.
        let _ = fs::remove_file(&self.0);
    }
}

/// Has the guest run the row (its suite stands before it), first for a while and then until its log is as large as asked for.
fn record(boot: &Boot, row: &str, (later, size): (Duration, u64), log: &Path) -> Result<()> {
    let socket = MonitorPath::new();
    let machine = Machine {
        cpus: 1,
        counted: true,
        words: vec![format!("run=\"/bin/bench forever {row}\"")],
        monitor: Some(socket.path().to_owned()),
        log: Some(log.to_owned()),
        ..Machine::default()
    };
    let progress = ProgressBar::new_spinner().with_message(format!("booting {}", boot.arch.name()));
    progress.enable_steady_tick(Duration::from_millis(200));
    let _guest = start(&mut machine.command(boot))?;
    let mut monitor = Monitor::connect(socket.path())?;
    thread::sleep(later);
    progress.set_message(format!("recording {row}"));
    let before = fs::metadata(log)?.len();
    monitor.command("log in_asm,exec,nochain")?;
    let began = Instant::now();
    while fs::metadata(log)?.len() < before + size {
        ensure!(began.elapsed() < LIMIT, "the guest has stopped running");
        thread::sleep(Duration::from_millis(10));
    }
    monitor.command("log none")?;
    progress.finish_and_clear();
    Ok(())
}

/// Starts QEMU and waits until the guest is warm.
fn start(command: &mut Command) -> Result<Guest> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}: run scripts/setup"))?;
    let console = child.stdout.take().context("no pipe from QEMU")?;
    let guest = Guest::new(child);
    let (said, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(console).lines().map_while(Result::ok) {
            // Nobody listens once the guest is warm; what it says is read all the same, or it would wait for that.
            let _ = said.send(line);
        }
    });
    let began = Instant::now();
    while let Ok(line) = lines.recv_timeout(LIMIT.saturating_sub(began.elapsed())) {
        if line.contains(WARM) {
            return Ok(guest);
        }
        eprintln!("{line}");
    }
    bail!("the guest does not run that row: its suite, if it is not latency, goes with --suite");
}

fn print_table(profile: &fold::Profile) {
    let entries = profile.entries as f64;
    println!(
        "{} entries into the kernel; for each {:.1} instructions in it, {:.1} outside",
        profile.entries,
        profile.kernel() as f64 / entries,
        profile.user() as f64 / entries
    );
    println!("{:>9} {:>9} {:>6}  function", "own", "with all", "own %");
    for share in profile.shares().into_iter().take(LINES) {
        println!(
            "{:>9.1} {:>9.1} {:>6.1}  {}",
            share.own as f64 / entries,
            share.total as f64 / entries,
            100.0 * share.own as f64 / profile.kernel() as f64,
            share.name
        );
    }
}

/// The call tree, without what is less than an instruction for each entry or a 200th of all.
fn print_tree(profile: &fold::Profile) {
    let least = profile.entries.max(profile.kernel() / 200);
    for (depth, name, total) in profile.tree(least) {
        println!("{:>9.1}  {:depth$}{name}", total as f64 / profile.entries as f64, "");
    }
}

fn draw(profile: &fold::Profile, title: &str, path: &Path) -> Result<()> {
    let mut options = inferno::flamegraph::Options::default();
    title.clone_into(&mut options.title);
    "instructions".clone_into(&mut options.count_name);
    let lines = profile.folded();
    let file = BufWriter::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?);
    inferno::flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), file)?;
    Ok(())
}
