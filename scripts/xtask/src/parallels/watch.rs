//! Follows a machine's serial log while its tests run, and judges them as those of QEMU's guests are judged.

use crate::verdict::{self, Counts, END};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long what is waited for may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From the start to the tests' end.
    pub limit: Duration,
    /// Between two looks at the log.
    pub look: Duration,
    /// Between two looks at the machine's state.
    pub state: Duration,
    /// A panic's report is over when nothing has come for so long.
    pub quiet: Duration,
    /// How long a machine may take to stop.
    pub patience: Duration,
}

impl Times {
    /// Those of a real machine, with this limit.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            look: Duration::from_millis(100),
            state: Duration::from_secs(5),
            quiet: Duration::from_secs(1),
            patience: Duration::from_secs(30),
        }
    }
}

/// After so long without a word from the machine it is said that it is still waited for.
const SILENCE: Duration = Duration::from_secs(15);

/// A log that grows.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Log {
    /// Follows this file from its beginning. It need not be there yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            bytes: Vec::new(),
        }
    }

    /// What has come since the last look; all that there is if somebody has emptied the file.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(&mut self) -> Result<&[u8]> {
        let known = self.bytes.len();
        let read = || -> std::io::Result<(bool, Vec<u8>)> {
            let mut file = File::open(&self.path)?;
            let emptied = file.metadata()?.len() < known as u64;
            if !emptied {
                file.seek(SeekFrom::Start(known as u64))?;
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok((emptied, bytes))
        };
        let (emptied, bytes) = match read() {
            Err(error) if error.kind() == ErrorKind::NotFound => (false, Vec::new()),
            read => read.with_context(|| format!("cannot read {}", self.path.display()))?,
        };
        if emptied {
            self.bytes.clear();
        }
        let from = self.bytes.len();
        self.bytes.extend(bytes);
        Ok(&self.bytes[from..])
    }

    /// The whole lines so far.
    pub fn lines(&self) -> String {
        let end = self
            .bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        String::from_utf8_lossy(&self.bytes[..end]).replace('\r', "")
    }

    /// The last lines, the last one finished or not.
    pub fn tail(&self, count: usize) -> String {
        let text = String::from_utf8_lossy(&self.bytes).replace('\r', "");
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// Waits for the tests' end. `show` gets what the machine prints, `state` is asked now and then whether it still runs.
///
/// # Errors
/// The time is up, the kernel panicked, the machine stopped or is another build, or the log contradicts itself.
pub fn tests(
    log: &mut Log,
    build_id: &str,
    times: Times,
    mut show: impl Write,
    state: impl Fn() -> Result<String>,
) -> Result<Counts> {
    let start = Instant::now();
    let mut asked = start;
    let mut heard = start;
    let mut stopped = false;
    loop {
        let new = log.read()?;
        if !new.is_empty() {
            heard = Instant::now();
        } else if heard.elapsed() >= SILENCE {
            heard = Instant::now();
            eprintln!("{} s: nothing new", start.elapsed().as_secs());
        }
        // Whoever reads along may have gone.
        let _ = show.write_all(new).and_then(|()| show.flush());
        let lines = log.lines();
        if verdict::panic_line(&lines).is_some() {
            let line = report(log, times)?;
            bail!("the kernel panicked: {line}");
        }
        if lines.lines().any(|line| line.trim().starts_with(END)) {
            return verdict::check_test_log(&lines, build_id);
        }
        if lines.contains("Breenix ") && lines.contains(" build ") {
            verdict::check_build(&lines, build_id)?;
        }
        ensure!(!stopped, "the machine stopped before its tests had ended");
        ensure!(
            start.elapsed() < times.limit,
            "no line {END} within {} s",
            times.limit.as_secs_f32()
        );
        if asked.elapsed() >= times.state {
            asked = Instant::now();
            // One more look at the log follows. No answer is no reason to give up: the log has the last word.
            stopped = state().is_ok_and(|state| state == "stopped");
        }
        thread::sleep(times.look);
    }
}

/// Takes in a panic's report to its end; returns its first line.
fn report(log: &mut Log, times: Times) -> Result<String> {
    let start = Instant::now();
    let mut last = start;
    while last.elapsed() < times.quiet && start.elapsed() < times.quiet * 10 {
        if !log.read()?.is_empty() {
            last = Instant::now();
        }
        thread::sleep(times.look);
    }
    let lines = log.lines();
    Ok(verdict::panic_line(&lines).unwrap_or_default().to_owned())
}
