//! The host tool behind `scripts/`: builds what a guest needs, boots guests, and judges what they did.

mod accelerator;
mod arch;
mod bench;
mod boot_many;
mod busybox;
mod check;
mod conform;
mod console;
mod cpio;
mod disk;
mod firmware;
mod follow;
mod hang;
mod image;
mod initramfs;
mod linux;
mod machine;
mod monitor;
mod own_target;
mod parallels;
mod profile;
mod project;
mod run;
mod session;
mod sizes;
mod soak;
mod symbols;
mod test;
mod trace;
mod tree;
mod uefi;
mod verdict;

use crate::arch::Arch;
use crate::machine::Boot;
use crate::project::Profile;
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Builds, boots and tests Breenix", version)]
struct CommandLine {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build kernel and initramfs, boot them in QEMU
    Run(run::Run),
    /// Boot a kernel that is built already (the runner of `cargo run`)
    Qemu(run::Qemu),
    /// Make a disk image that UEFI boots: loader, kernel, initramfs
    Image(disk::entry::Image),
    /// Boot and test on Parallels Desktop
    Parallels(parallels::Parallels),
    /// Run every test there is
    Test(test::Test),
    /// Boot many times, several guests at once
    BootMany(boot_many::BootMany),
    /// Run Linux's own tests of its interface on our kernel and on Linux
    Conform(conform::Conform),
    /// Run the distribution's stress-ng, by class
    Soak(soak::Soak),
    /// Measure, against others where there are others
    Bench(bench::Bench),
    /// Show where the instructions of a benchmark's row go
    Profile(profile::Options),
    /// Trace a command: what every CPU does, for Perfetto and as a drawing
    Trace(trace::Trace),
    /// Check the source's structure
    Check,
    /// Build kernel and initramfs; print what was made
    Build {
        /// Architecture; both if left out
        arch: Option<Arch>,
        /// Profile
        #[arg(long, default_value = "release")]
        profile: Profile,
    },
    /// Build kernel and initramfs; print the sizes of images and sections
    Sizes {
        /// Architecture; both if left out
        arch: Option<Arch>,
        /// Profile
        #[arg(long, default_value = "release")]
        profile: Profile,
    },
    /// Write the initramfs for a kernel that is built already, beside it
    Initramfs {
        /// Architecture
        arch: Arch,
        /// The kernel's ELF file
        kernel: PathBuf,
    },
    /// Print a kernel's functions by address
    Symbols {
        /// The ELF file
        kernel: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(CommandLine::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Run(run) => return run.main(),
        Task::Qemu(qemu) => return qemu.main(),
        Task::Image(image) => return image.main(),
        Task::Parallels(parallels) => return parallels.main(),
        Task::Test(test) => return test.main(),
        Task::BootMany(boots) => return boots.main(),
        Task::Conform(conform) => return conform.main(),
        Task::Soak(soak) => return soak.main(),
        Task::Bench(bench) => return bench.main(),
        Task::Profile(options) => return options.main(),
        Task::Trace(trace) => return trace.main(),
        Task::Check => {
            let problems: Vec<_> = check::run()?.into_iter().flat_map(|finding| finding.problems).collect();
            problems.iter().for_each(|problem| println!("{problem}"));
            anyhow::ensure!(problems.is_empty(), "{} problems", problems.len());
        }
        Task::Build { arch, profile } => {
            for arch in chosen(arch) {
                let boot = Boot::build(arch, profile)?;
                println!(
                    "{} {}\n{}\n{}",
                    arch.name(),
                    boot.build_id,
                    boot.image.display(),
                    boot.initramfs.display()
                );
            }
        }
        Task::Sizes { arch, profile } => {
            for arch in chosen(arch) {
                println!("{}", sizes::of(arch, profile)?);
            }
        }
        Task::Initramfs { arch, kernel } => {
            println!("{}", initramfs::build(arch, &std::path::absolute(kernel)?)?.display());
        }
        Task::Symbols { kernel } => {
            for (address, name) in symbols::functions(&std::fs::read(kernel)?)? {
                println!("{address:#018x} {name}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The architecture that was named, or both.
fn chosen(arch: Option<Arch>) -> Vec<Arch> {
    arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch])
}
