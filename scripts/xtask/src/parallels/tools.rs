//! Calls of Parallels' two command-line tools. Each is bounded in time: `prlctl` waits for Parallels' service, which may never answer.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long one call may take. Creating or starting a machine takes seconds.
const LIMIT: Duration = Duration::from_secs(90);
/// How long a program that has ended may keep its output open, by what it started.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// The tools, found in `PATH`.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Where they are looked for; where this program itself looks if there is none.
    search_path: Option<OsString>,
    /// How long one call may take.
    limit: Duration,
}

impl Tools {
    /// Those of this computer.
    pub fn new() -> Self {
        Self {
            search_path: None,
            limit: LIMIT,
        }
    }

    /// Others, which get less time.
    #[cfg(test)]
    pub fn at(search_path: OsString, limit: Duration) -> Self {
        Self {
            search_path: Some(search_path),
            limit,
        }
    }

    /// The same, which get this much time.
    #[cfg(test)]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// Checks that they are there.
    ///
    /// # Errors
    /// They are not, with what to install.
    pub fn check(&self) -> Result<()> {
        self.prlctl(&["--version"]).map(drop)
    }

    /// Calls `prlctl`, which manages virtual machines, and returns what it prints.
    ///
    /// # Errors
    /// It is missing, fails, or does not end in time.
    pub fn prlctl<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        self.call("prlctl", arguments)
    }

    /// Calls `prl_disk_tool`, which makes disks, and returns what it prints.
    ///
    /// # Errors
    /// It is missing, fails, or does not end in time.
    pub fn disk_tool<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        self.call("prl_disk_tool", arguments)
    }

    fn call<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        if let Some(path) = &self.search_path {
            command.env("PATH", path);
        }
        // In a group of its own, so that its children can be ended with it.
        command.stdin(Stdio::null()).process_group(0);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let words = arguments.iter().map(|word| word.as_ref().to_string_lossy());
        let call = [program.into()].into_iter().chain(words).collect::<Vec<_>>().join(" ");
        let mut child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!(
                "{program} is not installed: it comes with Parallels Desktop, Pro or Business edition; install that and put prlctl \
                 and prl_disk_tool into PATH (usually /usr/local/bin)"
            ),
            _ => anyhow::Error::new(error).context(format!("cannot start {program}")),
        })?;
        let out = collect(child.stdout.take());
        let complaints = collect(child.stderr.take());
        let Some(status) = wait(&mut child, self.limit)? else {
            let seconds = self.limit.as_secs_f32();
            bail!("{call}: no answer within {seconds} s; look whether Parallels Desktop runs and asks for something")
        };
        let [out, complaints] = [out, complaints].map(|text| text.recv_timeout(LAST_OUTPUT).unwrap_or_default());
        let why = if complaints.trim().is_empty() {
            &out
        } else {
            &complaints
        };
        ensure!(status.success(), "{call}: {status}: {}", why.trim());
        Ok(out)
    }
}

/// Waits for a program's end; one that takes too long is ended, with all that it started, and yields `None`.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            kill_process_group(Pid::from_child(child), Signal::KILL).context("a program cannot be ended")?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before an error is kept.
            let _ = pipe.read_to_end(&mut bytes);
        }
        // Nobody may wait any more.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
