//! `scripts/run` and the runner of `cargo run`: boots one guest for a person at a terminal, or for a pipe.
//!
//! At a terminal QEMU talks to it directly. In a pipe, standard input is what the guest's shell reads, standard output is
//! what its programs print, and the exit status is the guest's; the word `script` on the kernel's command line tells
//! `/init` so. What comes before [`READY`] is the boot's log: it is shown with `--verbose`, or when the boot failed.

use crate::accelerator::Accelerator;
use crate::arch::Arch;
use crate::linux;
use crate::machine::{Boot, Console, Debugger, Machine, Messages, Root};
use crate::project::{self, Profile};
use crate::session::{self, Input, READY};
use crate::uefi::{Controller, UefiDisk};
use crate::verdict;
use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::termios::tcgetwinsize;
use std::io::{IsTerminal, Write, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Options of every way to boot one guest.
#[derive(Args, Debug)]
pub struct Options {
    /// Number of CPUs
    #[arg(long, default_value_t = 4)]
    smp: u32,
    /// Memory, as QEMU takes it; 1G if left out, and with --root what the tree takes besides
    #[arg(long)]
    memory: Option<String>,
    /// Have the tree in this directory as the root file system, packed into the initramfs (or, with --disk-root, on the disk)
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<PathBuf>,
    /// Boot the distribution's Linux with the same tree instead: to compare
    #[arg(long, requires = "root", conflicts_with_all = ["uefi", "gdb"])]
    linux: bool,
    /// Wait for gdb on TCP port 1234
    #[arg(long)]
    gdb: bool,
    /// Emulate even where a hypervisor works
    #[arg(long)]
    emulate: bool,
    /// Emulate, with a nanosecond of the guest's time for every instruction, the CPUs taking turns
    #[arg(long)]
    counted: bool,
    /// Let UEFI firmware boot a disk with loader, kernel and initramfs
    #[arg(long)]
    uefi: bool,
    /// The version of aarch64's interrupt controller: 2 or 3
    #[arg(long, value_name = "VERSION", default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=3))]
    gic: u32,
    /// What that disk is connected to
    #[arg(long, value_name = "CONTROLLER", default_value = "virtio", requires = "uefi")]
    disk: Controller,
    /// More arguments for QEMU, as one word: --qemu '-device qemu-xhci -device usb-kbd'
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    qemu: Vec<String>,
    /// Have the root file system on that disk's second partition, and not in memory
    #[arg(long, requires = "uefi")]
    disk_root: bool,
    /// Without a terminal: show the boot's log as well
    #[arg(long, short)]
    verbose: bool,
    /// Without a terminal: give up after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
    /// Words for the kernel's command line
    #[arg(last = true)]
    words: Vec<String>,
}

/// `run`: builds, then boots.
#[derive(Args, Debug)]
pub struct Run {
    /// Architecture; the host's if left out
    arch: Option<Arch>,
    /// Build optimised (the default)
    #[arg(long, conflicts_with = "debug")]
    release: bool,
    /// Build with assertions
    #[arg(long)]
    debug: bool,
    #[command(flatten)]
    options: Options,
}

/// `qemu`: boots a kernel that cargo built.
#[derive(Args, Debug)]
pub struct Qemu {
    /// Architecture
    arch: Arch,
    /// The kernel's ELF file
    kernel: PathBuf,
    #[command(flatten)]
    options: Options,
}

impl Run {
    /// Builds and boots; the exit code is the guest's status.
    ///
    /// # Errors
    /// The build failed or QEMU cannot be started.
    pub fn main(self) -> Result<ExitCode> {
        let profile = if self.debug { Profile::Debug } else { Profile::Release };
        boot(
            Boot::build(self.arch.unwrap_or_else(Arch::host), profile)?,
            self.options,
        )
    }
}

impl Qemu {
    /// Boots; the exit code is the guest's status.
    ///
    /// # Errors
    /// The file is no kernel or QEMU cannot be started.
    pub fn main(self) -> Result<ExitCode> {
        let kernel = std::path::absolute(&self.kernel)?;
        boot(Boot::from_elf(self.arch, &kernel)?, self.options)
    }
}

/// What is booted: ours or Linux, with the tree that is asked for.
fn with_options(mut boot: Boot, options: &Options) -> Result<Boot> {
    if let Some(directory) = &options.root {
        boot = boot.with_tree(&std::path::absolute(directory)?)?;
    }
    if options.linux {
        boot.image = linux::kernel(boot.arch)?;
    }
    Ok(boot)
}

/// Memory for a machine that has what is unpacked from the initramfs, whose own memory becomes free meanwhile, and a GiB besides.
/// Linux lets a file system in memory have half of it.
fn memory_for(boot: &Boot, linux: bool) -> Result<String> {
    if boot.tree.is_none() {
        return Ok("1G".to_owned());
    }
    let archive = std::fs::metadata(&boot.initramfs).context("no initramfs")?.len();
    let trees = if linux { 3 } else { 1 };
    Ok(format!("{}M", (archive * trees).div_ceil(1 << 20) + 1024))
}

fn boot(boot: Boot, options: Options) -> Result<ExitCode> {
    let boot = &with_options(boot, &options)?;
    let at_terminal = stdin().is_terminal();
    let accelerator = if options.emulate || options.gdb || options.counted {
        Accelerator::Tcg
    } else {
        Accelerator::choose(boot)
    };
    let mut words = options.words;
    if options.linux {
        words.extend(linux::words(boot.arch));
    }
    let machine = Machine {
        cpus: options.smp,
        memory: options.memory.map_or_else(|| memory_for(boot, options.linux), Ok)?,
        accelerator,
        counted: options.counted,
        words,
        console: if at_terminal { Console::Terminal } else { Console::Pipe },
        monitor: None,
        log: None,
        debugger: if options.gdb { Debugger::Gdb } else { Debugger::None },
        messages: Messages::Shown,
        gic: options.gic,
        processor: None,
        screen: false,
        devices: options
            .qemu
            .iter()
            .flat_map(|words| words.split_whitespace().map(str::to_owned))
            .collect(),
        uefi: None,
    };
    let root = if options.disk_root {
        Root::Partition
    } else {
        Root::Initramfs
    };
    let uefi = options.uefi.then_some((options.disk, root));
    if options.gdb {
        eprintln!("waiting for: gdb {} -ex 'target remote :1234'", boot.elf.display());
    }
    let limit = Duration::from_secs(options.timeout);
    if at_terminal {
        interactive(machine, boot, uefi)
    } else {
        piped(machine, boot, uefi, options.verbose, limit)
    }
}

/// Makes the disk for a machine whose command line is complete.
fn insert_disk(machine: &mut Machine, boot: &Boot, disk: Option<(Controller, Root)>) -> Result<()> {
    if let Some((controller, root)) = disk {
        let image = project::target_dir()
            .join("image")
            .join(format!("{}-run.img", boot.arch.name()));
        let line = machine.command_line(boot.arch);
        machine.uefi = Some(UefiDisk::make(boot, &line, root, controller, image)?);
    }
    Ok(())
}

fn interactive(mut machine: Machine, boot: &Boot, uefi: Option<(Controller, Root)>) -> Result<ExitCode> {
    // A serial line carries no size. Before the caller's words, which so have the last say.
    if let Ok(size) = tcgetwinsize(stdin())
        && size.ws_row != 0
        && size.ws_col != 0
    {
        machine.set_window(size.ws_row, size.ws_col);
    }
    insert_disk(&mut machine, boot, uefi)?;
    let mut qemu = machine.command(boot);
    let status = qemu
        .status()
        .with_context(|| format!("cannot start {}: run scripts/setup", boot.arch.qemu()))?;
    let code = status.code().context("QEMU was killed by a signal")?;
    use crate::arch::GuestExit;
    match boot.arch.guest_exit(code) {
        GuestExit::Status(status) => Ok(exit_code(status)),
        // `ctrl-a x`, or a guest that was told to power off some other way.
        GuestExit::WithoutStatus => Ok(ExitCode::SUCCESS),
        GuestExit::Emulator(code) => bail!("QEMU failed with {code}"),
    }
}

fn piped(
    mut machine: Machine,
    boot: &Boot,
    uefi: Option<(Controller, Root)>,
    verbose: bool,
    limit: Duration,
) -> Result<ExitCode> {
    machine.words.push("script".to_owned());
    if !verbose {
        machine.words.push("quiet".to_owned());
    }
    insert_disk(&mut machine, boot, uefi)?;
    let mut filter = Filter {
        verbose,
        held: Some(Vec::new()),
    };
    let sink = move |bytes: &[u8]| {
        let mut out = stdout().lock();
        // A reader that has gone away (`| head`) is not the guest's concern.
        let _ = out.write_all(&filter.pass(bytes)).and_then(|()| out.flush());
    };
    let outcome = session::run(&machine, boot, Input::Stdin, limit, sink)?;
    let text = outcome.text();
    let shell_ran = text.contains(READY);
    let result = verdict::status(&outcome).and_then(|status| {
        if text.contains("Breenix ") && text.contains(" build ") {
            verdict::check_build(&text, &boot.build_id)?;
        }
        anyhow::ensure!(shell_ran || status != 0, "the guest ended before its shell started");
        Ok(status)
    });
    let failed = !matches!(result, Ok(status) if status != verdict::PANIC && shell_ran);
    if failed && !verbose {
        // What came after that line has been shown.
        eprint!(
            "{}",
            text.split_once(READY).map_or(text.as_str(), |(held_back, _)| held_back)
        );
    }
    if let Some(diagnosis) = outcome.diagnosis {
        eprint!("{diagnosis}");
    }
    Ok(exit_code(result?))
}

fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}

/// Holds the console's text back until the line with [`READY`] is complete.
struct Filter {
    verbose: bool,
    held: Option<Vec<u8>>,
}

impl Filter {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.verbose {
            return bytes.to_vec();
        }
        let Some(held) = &mut self.held else {
            return bytes.to_vec();
        };
        held.extend_from_slice(bytes);
        let marker = held.windows(READY.len()).position(|window| window == READY.as_bytes());
        let end = marker.and_then(|at| {
            held[at..]
                .iter()
                .position(|byte| *byte == b'\n')
                .map(|length| at + length + 1)
        });
        match end {
            Some(end) => self.held.take().unwrap_or_default().split_off(end),
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_log_is_held_back() {
        let mut filter = Filter {
            verbose: false,
            held: Some(Vec::new()),
        };
        assert_eq!(filter.pass(b"Breenix 0.1.0\nBREENIX_CONS"), b"");
        assert_eq!(filter.pass(b"OLE_READY\r"), b"");
        assert_eq!(filter.pass(b"\n12\n"), b"12\n");
        assert_eq!(filter.pass(b"BREENIX_CONSOLE_READY\n"), b"BREENIX_CONSOLE_READY\n");
    }

    #[test]
    fn verbose_holds_nothing() {
        let mut filter = Filter {
            verbose: true,
            held: Some(Vec::new()),
        };
        assert_eq!(filter.pass(b"Breenix"), b"Breenix");
    }
}
