//! `scripts/boot-many`: the same boot again and again, several at once, because what goes wrong once in a hundred boots is a
//! lost wake or a race, and one boot does not show it.

use crate::arch::Arch;
use crate::machine::{Boot, Machine};
use crate::project::{self, Profile};
use crate::session::{self, Input, Outcome};
use crate::verdict;
use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// What each guest's shell runs: forks, a pipeline, a file, and a word that only a shell that came to its end prints.
const SCRIPT: &str = "i=0\nwhile [ $i -lt 10 ]; do i=$((i+1)); /bin/true || exit 9; done\n\
    ls /bin | sort | wc -l >/tmp/count\n[ \"$(cat /tmp/count)\" -gt 100 ] || exit 8\necho BOOT_$((40+2))_DONE\nexit 0\n";
const DONE: &str = "BOOT_42_DONE";

/// Options.
#[derive(Args, Debug)]
pub struct BootMany {
    /// How often
    count: u32,
    /// Architecture; the host's if left out
    arch: Option<Arch>,
    /// Guests at once; half the host's CPUs if left out
    #[arg(long)]
    jobs: Option<usize>,
    /// Build with assertions
    #[arg(long)]
    debug: bool,
    /// CPUs of each guest
    #[arg(long, default_value_t = 4)]
    smp: u32,
    /// Seconds that one boot may take
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// Words for the kernel's command line
    #[arg(last = true)]
    words: Vec<String>,
}

/// Seconds from QEMU's start.
struct Times {
    prompt: f64,
    end: f64,
}

struct Results {
    times: Vec<Times>,
    failures: Vec<String>,
}

impl BootMany {
    /// Boots; fails if one boot failed.
    ///
    /// # Errors
    /// A build failed.
    pub fn main(self) -> Result<ExitCode> {
        let arch = self.arch.unwrap_or_else(Arch::host);
        let boot = Boot::build(arch, if self.debug { Profile::Debug } else { Profile::Release })?;
        let logs = project::target_dir().join("boot-many").join(arch.name());
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).context("no place for logs")?;

        let jobs = self
            .jobs
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, |cpus| cpus.get().div_ceil(2)));
        let bar = ProgressBar::new(self.count.into())
            .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {elapsed}")?);
        let next = AtomicU32::new(0);
        let results = Mutex::new(Results {
            times: Vec::new(),
            failures: Vec::new(),
        });
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.count {
                            return;
                        }
                        let result = self.one(&boot, number, &logs);
                        // Nothing panics while it is held.
                        let Ok(mut results) = results.lock() else { return };
                        match result {
                            Ok(times) => results.times.push(times),
                            Err(error) => {
                                bar.suspend(|| println!("boot {number}: {error:#}"));
                                results.failures.push(format!("boot {number}: {error:#}"));
                            }
                        }
                        bar.set_message(format!("{} failed", results.failures.len()));
                        bar.inc(1);
                    }
                });
            }
        });
        bar.finish_and_clear();
        let results = results
            .into_inner()
            .map_err(|_| anyhow::anyhow!("a boot's thread panicked"))?;
        println!("{}", summary(arch, &boot.build_id, &results));
        if !results.failures.is_empty() {
            println!("logs: {}", logs.display());
        }
        Ok(if results.failures.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn one(&self, boot: &Boot, number: u32, logs: &Path) -> Result<Times> {
        let mut words = vec!["script".to_owned()];
        words.extend(self.words.iter().cloned());
        let machine = Machine {
            cpus: self.smp,
            memory: "512M".to_owned(),
            words,
            ..Machine::default()
        };
        let limit = Duration::from_secs(self.timeout);
        let outcome = session::run(&machine, boot, Input::Bytes(SCRIPT.into()), limit, |_| {})?;
        let result = check(&outcome, &boot.build_id).map(|()| Times {
            // There was a shell, so there was a prompt.
            prompt: outcome.ready.unwrap_or(outcome.elapsed).as_secs_f64(),
            end: outcome.elapsed.as_secs_f64(),
        });
        if result.is_err() {
            let log = format!("{}{}", outcome.text(), outcome.diagnosis.as_deref().unwrap_or_default());
            fs::write(logs.join(format!("{number}.log")), log)?;
        }
        result
    }
}

fn check(outcome: &Outcome, build_id: &str) -> Result<()> {
    verdict::check_success(outcome, build_id)?;
    ensure!(
        outcome.text().lines().any(|line| line == DONE),
        "the shell did not come to its end"
    );
    Ok(())
}

fn summary(arch: Arch, build_id: &str, results: &Results) -> String {
    let row = |name: &str, pick: fn(&Times) -> f64| {
        let mut seconds: Vec<f64> = results.times.iter().map(pick).collect();
        seconds.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (seconds.len().max(1) - 1) as f64 * share;
            seconds.get(index.round() as usize).copied().unwrap_or(0.0)
        };
        format!(
            "seconds to the {name}: least {:.2}, median {:.2}, 95 % {:.2}, most {:.2}",
            at(0.0),
            at(0.5),
            at(0.95),
            at(1.0)
        )
    };
    format!(
        "{} build {build_id}: {} booted, {} failed\n{}\n{}",
        arch.name(),
        results.times.len(),
        results.failures.len(),
        row("prompt", |times| times.prompt),
        row("end", |times| times.end)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::fake;

    #[test]
    fn statistics_are_of_what_booted() {
        let times = [(0.5, 3.0), (0.7, 1.0), (0.25, 2.0)].map(|(prompt, end)| Times { prompt, end });
        let results = Results {
            times: times.into(),
            failures: vec!["x".into()],
        };
        let text = summary(Arch::X86_64, "ab", &results);
        assert_eq!(
            text,
            "x86_64 build ab: 3 booted, 1 failed\n\
             seconds to the prompt: least 0.25, median 0.50, 95 % 0.70, most 0.70\n\
             seconds to the end: least 1.00, median 2.00, 95 % 3.00, most 3.00"
        );
        let none = Results {
            times: Vec::new(),
            failures: Vec::new(),
        };
        assert!(summary(Arch::X86_64, "ab", &none).contains("0 booted"));
    }

    #[test]
    fn a_shell_that_stops_early_is_a_failure() {
        let limit = Duration::from_secs(20);
        let boots = "echo 'Breenix 0.1.0 build abcd on q35';";
        assert!(
            check(
                &fake(&format!("{boots} echo {DONE}; exit 1"), Input::None, limit),
                "abcd"
            )
            .is_ok()
        );
        assert!(check(&fake(&format!("{boots} exit 1"), Input::None, limit), "abcd").is_err());
    }
}
