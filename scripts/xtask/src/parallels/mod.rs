//! `scripts/parallels`: the kernel on Parallels Desktop, on a Mac with Apple silicon, by Parallels' own command-line tools.
//!
//! Machines have names that are never used twice, since one can stick in the state "stopping". `target/parallels/current` holds
//! the name of the one that subcommands mean.

mod machine;
mod place;
#[cfg(test)]
mod tests;
mod tools;
mod watch;

use crate::arch::Arch;
use crate::disk::{entry, read};
use crate::verdict::Counts;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use machine::{Machine, Size, Stop};
use place::Place;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use tools::Tools;
use watch::{Log, Times};

/// Lines of a failed run's log that are shown.
const SHOWN: usize = 25;

/// `parallels`.
#[derive(Args, Debug)]
pub struct Parallels {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Make a machine, in the place of the one before
    Create(SizeOptions),
    /// Make the image, and give the machine a disk of it; make the machine first if there is none
    Deploy(Source),
    /// Start the machine, from the beginning if it runs
    Run,
    /// Make the image and a machine, run the kernel's tests there, judge them, and delete the machine
    Test(TestOptions),
    /// Print what the machine has written to its serial port
    Serial {
        /// Go on until ^C
        #[arg(long, short)]
        follow: bool,
    },
    /// Write a picture of the machine's screen
    Screenshot {
        /// The PNG file; screenshot.png beside the serial log if left out
        file: Option<PathBuf>,
    },
    /// Stop and delete the machine
    Destroy,
}

#[derive(Args, Clone, Copy, Debug)]
struct SizeOptions {
    /// Number of CPUs
    #[arg(long, default_value_t = Size::default().cpus)]
    cpus: u32,
    /// Memory in MiB
    #[arg(long, default_value_t = Size::default().memory)]
    memory: u32,
}

impl From<SizeOptions> for Size {
    fn from(options: SizeOptions) -> Self {
        Self {
            cpus: options.cpus,
            memory: options.memory,
        }
    }
}

#[derive(Args, Debug)]
struct Source {
    /// An image that is made already
    #[arg(long, value_name = "FILE", conflicts_with_all = ["debug", "root", "loader", "words"])]
    image: Option<PathBuf>,
    #[command(flatten)]
    options: entry::Options,
}

impl Source {
    /// The image: the one that was named, or a new one.
    fn image(self) -> Result<PathBuf> {
        if let Some(image) = self.image {
            return Ok(image);
        }
        let out = entry::default_path(Arch::Aarch64, self.options.debug);
        Ok(entry::make(Arch::Aarch64, &self.options, &out)?.path)
    }
}

#[derive(Args, Debug)]
struct TestOptions {
    /// Seconds from the machine's start to the tests' end
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,
    /// Leave the machine as it is
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    size: SizeOptions,
    #[command(flatten)]
    source: Source,
}

/// What subcommands work on.
struct Host {
    tools: Tools,
    place: Place,
    times: Times,
}

impl Parallels {
    /// Does what the subcommand says.
    ///
    /// # Errors
    /// Parallels is missing or a step failed.
    pub fn main(self) -> Result<ExitCode> {
        let host = Host {
            tools: Tools::new(),
            place: Place::new(),
            times: Times::new(Duration::from_secs(match &self.task {
                Task::Test(options) => options.timeout,
                _ => 0,
            })),
        };
        // Before anything is built. What a machine has printed can be read without Parallels.
        if !matches!(self.task, Task::Serial { .. }) {
            host.tools.check()?;
        }
        match self.task {
            Task::Create(size) => println!("{}", host.create(size.into())?.name),
            Task::Deploy(source) => _ = host.deploy(&source.image()?)?,
            Task::Run => host.run()?,
            Task::Test(options) => return host.test_main(options),
            Task::Serial { follow } => host.serial(follow)?,
            Task::Screenshot { file } => {
                let machine = host.current()?;
                let file = file.unwrap_or_else(|| machine.log().with_file_name("screenshot.png"));
                machine.screenshot(&std::path::absolute(file.clone())?)?;
                println!("{}", file.display());
            }
            Task::Destroy => {
                let machine = host.current()?;
                // Whether it goes or not: it is meant no more.
                host.place.remember(None)?;
                machine.destroy()?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Host {
    fn known(&self, name: &str) -> Machine {
        Machine::known(&self.tools, &self.place, name, self.times.patience)
    }

    fn current(&self) -> Result<Machine> {
        let name = self
            .place
            .current()
            .context("there is no machine: scripts/parallels deploy makes one")?;
        Ok(self.known(&name))
    }

    fn create(&self, size: Size) -> Result<Machine> {
        let machine = Machine::create(&self.tools, &self.place, size, self.times.patience)?;
        if let Some(former) = self.place.current()
            && let Err(error) = self.known(&former).destroy()
        {
            eprintln!("the former machine: {error:#}");
        }
        self.place.remember(Some(&machine.name))?;
        Ok(machine)
    }

    /// The current machine, stopped; a new one in the place of one that is stuck.
    fn stopped(&self) -> Result<Machine> {
        let machine = self.current()?;
        match machine.stop()? {
            Stop::Stopped => Ok(machine),
            Stop::Stuck => {
                eprintln!("{} is stuck in \"stopping\": making another", machine.name);
                self.create(Size::default())
            }
        }
    }

    fn deploy(&self, image: &Path) -> Result<Machine> {
        let machine = match self.place.current() {
            None => self.create(Size::default())?,
            Some(_) => self.stopped()?,
        };
        machine.deploy(image)?;
        eprintln!("{} has {}", machine.name, image.display());
        Ok(machine)
    }

    fn run(&self) -> Result<()> {
        let former = self.current()?;
        let image = former
            .image()
            .context("the machine has no disk: scripts/parallels deploy")?;
        let machine = self.stopped()?;
        if machine.name != former.name {
            machine.deploy(&image)?;
        }
        machine.start()?;
        println!("{} runs; scripts/parallels serial --follow", machine.name);
        Ok(())
    }

    fn serial(&self, follow: bool) -> Result<()> {
        let mut log = Log::new(&self.current()?.log());
        let mut out = stdout().lock();
        loop {
            out.write_all(log.read()?)?;
            out.flush()?;
            if !follow {
                return Ok(());
            }
            thread::sleep(self.times.look);
        }
    }

    fn test_main(&self, mut options: TestOptions) -> Result<ExitCode> {
        let words = &mut options.source.options.words;
        if !words.iter().any(|word| word.starts_with("run=")) {
            words.insert(0, "run=tests".to_owned());
        }
        let image = options.source.image()?;
        let counts = self.test(&image, options.size.into(), options.keep, stdout())?;
        println!("{} passed, {} failed", counts.passed, counts.failed);
        Ok(if counts.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Runs the tests of an image's kernel on a machine of their own.
    ///
    /// # Errors
    /// A step failed, or the log is not that of a complete test run of this build; the log's end is shown and its path told.
    fn test(&self, image: &Path, size: Size, keep: bool, show: impl Write) -> Result<Counts> {
        let build_id = read::build_id(image)?;
        eprintln!("build {build_id}: making a machine");
        let machine = Machine::create(&self.tools, &self.place, size, self.times.patience)?;
        // So that another terminal can watch, and `destroy` finds it should this one be interrupted.
        let former = self.place.current();
        self.place.remember(Some(&machine.name))?;
        let mut log = Log::new(&machine.log());
        let result = self.boot(&machine, image, &mut log, &build_id, show);
        if !keep {
            if let Err(error) = machine.destroy() {
                eprintln!("{error:#}");
            }
            self.place.remember(former.as_deref())?;
        }
        if matches!(&result, Ok(counts) if counts.failed > 0) {
            eprintln!("serial log: {}", machine.log().display());
        }
        result.with_context(|| {
            let tail = log.tail(SHOWN);
            let last = if tail.is_empty() { "(it is empty)" } else { &tail };
            format!(
                "serial log {}, its last lines:\n{last}\n{}",
                machine.log().display(),
                machine.name
            )
        })
    }

    fn boot(&self, machine: &Machine, image: &Path, log: &mut Log, build_id: &str, show: impl Write) -> Result<Counts> {
        eprintln!("{}: making its disk", machine.name);
        machine.deploy(image)?;
        eprintln!("{}: starting, {} s at most", machine.name, self.times.limit.as_secs());
        machine.start()?;
        watch::tests(log, build_id, self.times, show, || machine.state())
    }
}
