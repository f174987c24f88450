//! The same program on our kernel and on the distribution's Linux, in the same machine, in turns.

use super::entry;
use super::flood::{self, Valve};
use super::lines;
use super::report::{OURS, Suite};
use crate::arch::Arch;
use crate::initramfs;
use crate::linux;
use crate::machine::{Boot, Debugger, Machine};
use crate::project::Profile;
use crate::session::{self, Input, MonitorPath, Outcome};
use crate::verdict;
use anyhow::{Context, Result, anyhow, bail, ensure};
use indicatif::ProgressBar;
use std::thread;
use std::time::Duration;

const LINUX: &str = "linux";
/// Of the slowest suite on the slowest host.
const LIMIT: Duration = Duration::from_secs(3600);
/// The suite whose machine has disks, and how large each is.
pub const DISK: &str = "disk";
const DISK_BYTES: u64 = 1 << 30;
/// The machine's memory.
const MEBIBYTES: u32 = 1024;

/// How guests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On one CPU, on which a nanosecond passes for every instruction: figures repeat.
    Counted,
    /// On four CPUs, as fast as they can: figures are the host's as well.
    Free,
}

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// A suite of `user/bench`.
    pub suite: &'a str,
    /// Only the row of this name.
    pub only: Option<&'a str>,
    /// How guests run.
    pub mode: Mode,
    /// How often each kernel is booted.
    pub runs: usize,
    /// Ours alone, without Linux.
    pub alone: bool,
}

/// Runs a suite on one architecture, and whether every guest came to its end.
///
/// # Errors
/// A build failed, a guest is not the build that was meant, or what it said makes no sense.
pub fn run(plan: &Plan, arch: Arch) -> Result<(Suite, bool)> {
    let linux = if plan.alone { None } else { Some(linux::kernel(arch)?) };
    let ours = ours(arch, plan.suite)?;
    let mut contenders = vec![(OURS, ours.clone())];
    if let Some(image) = linux {
        contenders.push((LINUX, Boot { image, ..ours }));
    }
    let peers: Vec<&str> = contenders.iter().map(|(peer, _)| *peer).collect();
    let machine = machine(plan, arch);
    let bar = super::progress(contenders.len() * plan.runs);
    let mut rows = Vec::new();
    let mut whole = true;
    for _ in 0..plan.runs {
        for (peer, boot) in &contenders {
            let what = format!("{}, {}, {peer}", plan.suite, arch.name());
            let (flood, valve) = flood::new();
            let follow = |valve| follow(bar.clone(), what.clone(), valve);
            let outcome = session::run(&machine, boot, Input::AtOnce(Box::new(flood)), LIMIT, follow(valve))?;
            let mut text = outcome.text();
            if *peer == OURS {
                verdict::check_build(&text, &boot.build_id)?;
            }
            if plan.suite == "boot" && plan.mode == Mode::Counted {
                text.push_str(&from_entry_on(&machine, boot, follow(flood::new().1))?);
            }
            if !lines::add(&mut rows, &peers, peer, &text).context(what.clone())? {
                whole = false;
                bar.suspend(|| complain(&what, &outcome));
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if let Some(only) = plan.only {
        let is_of = |id: &str, only: &str| {
            id.strip_prefix(only)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        rows.retain(|row| only.split(',').any(|only| is_of(&row.id, only)));
    }
    ensure!(!rows.is_empty(), "nothing was measured");
    lines::complete(&mut rows);
    let (mode, label) = match plan.mode {
        Mode::Counted => ("icount", "one CPU, -icount shift=0: a nanosecond is an instruction"),
        Mode::Free => ("free", "four CPUs, running freely"),
    };
    let suite = Suite {
        suite: format!("{}-{}-{mode}", plan.suite, arch.name()),
        mode: label.to_owned(),
        cpus: machine.cpus as usize,
        rounds: plan.runs,
        rows,
    };
    Ok((suite, whole))
}

/// The line of the way from the kernel's first instruction to the first process's, from a boot for that alone: to stop a machine moves
/// its clock.
fn from_entry_on(machine: &Machine, boot: &Boot, follow: impl FnMut(&[u8]) + Send + 'static) -> Result<String> {
    let socket = MonitorPath::new();
    let machine = Machine {
        debugger: Debugger::At(socket.path().to_owned()),
        ..machine.clone()
    };
    let (path, arch, image) = (socket.path().to_owned(), boot.arch, boot.image.clone());
    let debugger = thread::spawn(move || entry::time(&path, arch, &image));
    let outcome = session::run(&machine, boot, Input::None, LIMIT, follow)?;
    let entry = debugger.join().unwrap_or_else(|_| Err(anyhow!("it panicked")));
    Ok(from_entry(&outcome.text(), entry))
}

/// The line of the time from the kernel's first instruction to the first process's, by when the guest says the latter was.
fn from_entry(text: &str, entry: Result<u64>) -> String {
    const ROW: &str = "kernel-to-first-instruction";
    let nanoseconds = || -> Result<u64> {
        let said = text.lines().filter_map(lines::split);
        let figures = said.into_iter().find(|(name, _)| *name == "first-instruction");
        let words: Vec<&str> = figures
            .map(|(_, figures)| figures.split(' ').collect())
            .unwrap_or_default();
        let ["1000", nanoseconds, "us"] = words[..] else {
            bail!("the guest does not say when its first process ran")
        };
        let first: u64 = nanoseconds.parse()?;
        first.checked_sub(entry?).context("the kernel began too late")
    };
    match nanoseconds() {
        Ok(nanoseconds) => format!("\n{}{ROW} 1000 {nanoseconds} us\n", lines::MARK),
        Err(why) => format!("\n{}{ROW} failed {why:#}\n", lines::MARK),
    }
}

/// Our guest for a suite, with the distribution's programs where the suite runs some and they can be had.
///
/// # Errors
/// A build failed.
pub fn ours(arch: Arch, suite: &str) -> Result<Boot> {
    let mut boot = Boot::build(arch, Profile::Release)?;
    if suite == DISK
        && let Some(modules) = linux::cached(arch, "modules", true)?
    {
        // Linux's drivers; ours takes no notice of them.
        boot.initramfs = initramfs::build_with(arch, &boot.elf, &modules)?;
    }
    if ["latency", "throughput", "wakeup"].contains(&suite)
        && let Some(programs) = linux::cached(arch, "programs", true)?
    {
        boot.initramfs = initramfs::build_with(arch, &boot.elf, &programs)?;
    }
    Ok(boot)
}

/// Shows which row the guest has come to, and floods its console when it asks for it.
fn follow(bar: ProgressBar, what: String, valve: Valve) -> impl FnMut(&[u8]) + Send + 'static {
    bar.set_message(what.clone());
    let mut line = Vec::new();
    move |bytes| {
        for byte in bytes {
            if *byte != b'\n' {
                line.push(*byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            valve.heard(&text);
            if let Some((name, _)) = lines::split(&text) {
                bar.set_message(format!("{what}, after {name}"));
            }
            line.clear();
        }
    }
}

/// Says why a guest did not come to the end.
fn complain(what: &str, outcome: &Outcome) {
    eprintln!("{}", outcome.text());
    if let Some(diagnosis) = &outcome.diagnosis {
        eprintln!("{diagnosis}");
    }
    eprintln!(
        "{what}: the suite has no end, the guest ended with {:?}; what it said is above",
        outcome.exit
    );
}

fn machine(plan: &Plan, arch: Arch) -> Machine {
    let mut words = linux::words(arch);
    if plan.suite == "boot" {
        // The one word is for us, the other for Linux; what neither knows goes to the first process. See user/bench/src/boot.rs.
        words.extend(
            [
                "init=/bin/bench",
                "rdinit=/bin/bench",
                "first-process",
                "ENV=/etc/bench",
            ]
            .map(str::to_owned),
        );
        words.push(format!("BENCH_MEMORY={}", MEBIBYTES * 1024));
    } else {
        let only = plan
            .only
            .map(|only| format!(" {}", only.replace(',', " ")))
            .unwrap_or_default();
        words.push(format!("run=\"/bin/bench {}{only}\"", plan.suite));
    }
    Machine {
        cpus: if plan.mode == Mode::Counted { 1 } else { 4 },
        memory: format!("{MEBIBYTES}M"),
        counted: plan.mode == Mode::Counted,
        words,
        devices: if plan.suite == DISK { disks() } else { Vec::new() },
        ..Machine::default()
    }
}

/// A disk of each kind, of which every read brings zeroes, at once.
fn disks() -> Vec<String> {
    let disk = |name: &str, devices: &[&str]| {
        let backend = format!("driver=null-co,node-name={name},size={DISK_BYTES},read-zeroes=on");
        let devices = devices
            .iter()
            .flat_map(|device| ["-device".to_owned(), (*device).to_owned()]);
        let backend = ["-blockdev".to_owned(), backend];
        backend.into_iter().chain(devices).collect::<Vec<_>>()
    };
    [
        disk("nvme", &["nvme,drive=nvme,serial=bench"]),
        disk("sata", &["ahci,id=ahci", "ide-hd,bus=ahci.0,drive=sata"]),
        disk("virtio", &["virtio-blk-pci,drive=virtio"]),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        suite: "latency",
        only: None,
        mode: Mode::Counted,
        runs: 1,
        alone: false,
    };

    #[test]
    fn the_suite_and_its_row_stand_on_the_command_line() {
        let words = |plan: &Plan| machine(plan, Arch::X86_64).words.join(" ");
        assert!(words(&PLAN).ends_with("run=\"/bin/bench latency\""));
        let one = Plan {
            only: Some("pipe"),
            ..PLAN
        };
        assert!(words(&one).ends_with("run=\"/bin/bench latency pipe\""));
        let boot = words(&Plan { suite: "boot", ..PLAN });
        assert!(boot.contains("rdinit=/bin/bench first-process") && !boot.contains("run="));
        assert!(boot.ends_with("BENCH_MEMORY=1048576"));
    }

    #[test]
    fn the_way_from_the_entry_is_the_difference() {
        let said = "BENCH first-instruction 1000 5000 us\n";
        assert_eq!(
            from_entry(said, Ok(2000)),
            "\nBENCH kernel-to-first-instruction 1000 3000 us\n"
        );
        assert!(from_entry(said, Err(anyhow!("why"))).contains("failed why"));
        assert!(from_entry("", Ok(1)).contains("failed the guest does not say"));
    }

    #[test]
    fn disks_are_there_where_they_are_measured() {
        let devices = |suite| machine(&Plan { suite, ..PLAN }, Arch::X86_64).devices.join(" ");
        let all = devices(DISK);
        assert!(all.contains("-blockdev driver=null-co,node-name=sata,size=1073741824,read-zeroes=on -device ahci"));
        assert!(all.contains("-device nvme,drive=nvme,") && all.contains("-device virtio-blk-pci,drive=virtio"));
        assert_eq!(devices("latency"), "");
    }

    #[test]
    fn the_mode_says_how_many_cpus() {
        let free = Plan {
            mode: Mode::Free,
            ..PLAN
        };
        let machines = [PLAN, free].map(|plan| machine(&plan, Arch::Aarch64));
        assert_eq!(machines.each_ref().map(|machine| machine.cpus), [1, 4]);
        assert_eq!(machines.map(|machine| machine.counted), [true, false]);
    }
}
