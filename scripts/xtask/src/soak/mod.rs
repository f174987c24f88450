//! `scripts/soak`: the distribution's stress-ng, unmodified, in guests of ours or of Linux. Each stressor has to end well by its own
//! verdict, and on ours to leave as much memory as it found.

mod classes;

use self::classes::{CLASSES, Class, KNOWN};
use crate::arch::{Arch, Archs};
use crate::follow;
use crate::initramfs;
use crate::linux;
use crate::machine::{Boot, Machine};
use crate::project::{self, Profile};
use crate::session::{self, Input};
use crate::verdict;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Where the script is in the guest, without the leading slash.
const PLACE: &str = "soak";

/// Options.
#[derive(Args, Debug)]
pub struct Soak {
    /// Classes; all if none is named
    classes: Vec<String>,
    /// Guests of this architecture only
    #[arg(long, default_value = "both")]
    arch: Archs,
    /// How long each class takes, in minutes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Workers of each stressor
    #[arg(long, default_value_t = 4)]
    workers: u32,
    /// These stressors of stress-ng's, separated by commas, instead of a class's
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// On the distribution's kernel
    #[arg(long)]
    linux: bool,
    /// How our kernel is built
    #[arg(long, default_value = "release")]
    profile: Profile,
}

/// Frames, heap objects and processes in use.
type Used = [i64; 3];

/// How much more of each is no leak: slabs and tables of pages that come to be filled otherwise. Stressors do what they do thousands of
/// times.
const SLACK: Used = [64, 64, 0];

/// What became of a stressor.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    name: String,
    status: i32,
    /// What is in use before and after, where the kernel tells.
    used: Option<[Used; 2]>,
    /// What it said.
    said: Vec<String>,
}

impl Ran {
    /// Why it is not good.
    fn fault(&self) -> Option<String> {
        // stress-ng: 0 is success, 3 and 4 that it has nothing to run with here.
        if !matches!(self.status, 0 | 3 | 4) {
            return Some(format!("status {}", self.status));
        }
        let [before, after] = self.used?;
        let more: Vec<i64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        let leaks = more.iter().zip(SLACK).any(|(more, slack)| *more > slack);
        leaks.then(|| {
            format!(
                "left {} frames, {} heap objects and {} processes more",
                more[0], more[1], more[2]
            )
        })
    }

    fn is_skipped(&self) -> bool {
        matches!(self.status, 3 | 4)
    }
}

impl Soak {
    /// Runs the classes, prints what became of each stressor, and whether all was well.
    ///
    /// # Errors
    /// The packages cannot be had, a build failed, a guest did not come to its end.
    pub fn main(self) -> Result<ExitCode> {
        let mut good = true;
        for arch in self.arch.all() {
            let boot = self.boot(arch)?;
            for (name, stressors) in self.chosen()? {
                good &= self.class(&boot, name, &stressors)?;
            }
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn chosen(&self) -> Result<Vec<(&str, Vec<&str>)>> {
        if !self.only.is_empty() {
            return Ok(vec![("chosen", self.only.iter().map(String::as_str).collect())]);
        }
        for name in &self.classes {
            let names: Vec<&str> = CLASSES.iter().map(|class| class.name).collect();
            ensure!(
                names.contains(&name.as_str()),
                "no class {name}: there are {}",
                names.join(", ")
            );
        }
        let wanted = |class: &&Class| self.classes.is_empty() || self.classes.iter().any(|name| name == class.name);
        let chosen = CLASSES.iter().filter(wanted);
        Ok(chosen.map(|class| (class.name, class.stressors.to_vec())).collect())
    }

    fn boot(&self, arch: Arch) -> Result<Boot> {
        let tree = tree(arch)?;
        let script = project::target_dir().join("soak/script");
        fs::create_dir_all(&script)?;
        fs::write(script.join("run"), include_str!("runner.sh"))?;
        let mut boot = Boot::build(arch, self.profile)?;
        boot.initramfs = initramfs::build_of_both(arch, &boot.elf, &tree, (PLACE, &script))?;
        if self.linux {
            boot.image = linux::kernel(arch)?;
        }
        Ok(boot)
    }

    fn class(&self, boot: &Boot, name: &str, stressors: &[&str]) -> Result<bool> {
        let seconds = (self.minutes * 60.0 / stressors.len() as f64).ceil().max(1.0) as u64;
        let mut words = linux::words(boot.arch);
        words.push("quiet".to_owned());
        words.push(format!(
            "run=\"/bin/sh /{PLACE}/run {seconds} {} {}\"",
            self.workers,
            stressors.join(" ")
        ));
        let machine = Machine {
            memory: "2G".to_owned(),
            words,
            ..Machine::default()
        };
        let kernel = if self.linux { "Linux" } else { "ours" };
        let what = format!("{} {kernel} {name}", boot.arch.name());
        let (bar, sink) = follow::bar(&what, "SOAK", "stressors", 1);
        let limit = Duration::from_secs((seconds * 4 + 180) * stressors.len() as u64);
        let outcome = session::run(&machine, boot, Input::None, limit, sink)?;
        bar.finish_and_clear();
        let log = project::target_dir().join(format!("soak/{}-{kernel}-{name}.log", boot.arch.name()));
        let text = outcome.text();
        fs::write(&log, &text)?;
        let ran = read(&text);
        let bad = ran.iter().filter(|ran| !report(&what, ran)).count();
        if let Some(diagnosis) = &outcome.diagnosis {
            eprintln!("{diagnosis}");
        }
        if !self.linux {
            verdict::check_success(&outcome, &boot.build_id)
                .with_context(|| format!("{what}: see {}", log.display()))?;
        }
        ensure!(
            text.contains("SOAK over") && ran.len() == stressors.len(),
            "{what} did not come to its end: see {}",
            log.display()
        );
        Ok(bad == 0)
    }
}

/// Prints what became of one; whether that is as it should be.
fn report(what: &str, ran: &Ran) -> bool {
    let known = KNOWN.iter().find(|(name, _)| *name == ran.name);
    match (ran.fault(), known) {
        (None, _) if ran.is_skipped() => println!("{what}: {:<16} skipped: {}", ran.name, ran.said.join(" ")),
        (None, _) => println!("{what}: {:<16} ok", ran.name),
        (Some(fault), Some((_, why))) => println!("{what}: {:<16} {fault} (known: {why})", ran.name),
        (Some(fault), None) => {
            println!("{what}: {:<16} FAILED: {fault}", ran.name);
            ran.said.iter().for_each(|line| println!("    {line}"));
            return false;
        }
    }
    true
}

/// The tree that `scripts/setup` makes of the packages, which are fetched if they are not there.
fn tree(arch: Arch) -> Result<PathBuf> {
    let path = project::cache_dir().join("soak").join(arch.name());
    if !path.exists() {
        let mut setup = Command::new(project::root().join("scripts/setup"));
        setup.arg("--soak").status().context("cannot start scripts/setup")?;
    }
    if !path.exists() {
        bail!(
            "no stress-ng for {}: scripts/setup --soak says what it needs",
            arch.name()
        );
    }
    Ok(path)
}

/// Takes the console's text apart.
fn read(text: &str) -> Vec<Ran> {
    let mut all = Vec::new();
    let mut said = Vec::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("| ") {
            said.push(line.to_owned());
        } else if let Some(end) = line.strip_prefix("SOAK end ") {
            let mut words = end.split(' ');
            let name = words.next().unwrap_or_default().to_owned();
            let numbers: Vec<i64> = words.filter_map(|word| word.parse().ok()).collect();
            let used = match numbers[..] {
                [_, a, b, c, d, e, f] => Some([[a, b, c], [d, e, f]]),
                _ => None,
            };
            all.push(Ran {
                name,
                status: numbers.first().map_or(-1, |status| *status as i32),
                used,
                said: std::mem::take(&mut said),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_says_is_read() {
        let text = "SOAK stressors 3\nSOAK begin a\n| one\n| two\nSOAK end a 2 10 20 3 10 20 3\nSOAK begin b\n\
                    SOAK end b 0 10 20 3 110 20 3\nSOAK begin c\nSOAK end c 0  \nSOAK end d 0 10 20 3 9 30 3\nSOAK over\n";
        let ran = read(text);
        assert_eq!(ran[0].said, ["one", "two"]);
        assert_eq!(ran[0].fault().as_deref(), Some("status 2"));
        assert_eq!(
            ran[1].fault().as_deref(),
            Some("left 100 frames, 0 heap objects and 0 processes more")
        );
        assert_eq!((ran[2].used, ran[2].fault()), (None, None));
        assert_eq!(ran[3].fault(), None);
    }

    #[test]
    fn classes_have_names_of_their_own() {
        let mut names: Vec<&str> = CLASSES.iter().map(|class| class.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CLASSES.len());
    }
}
