//! One boot of a guest whose console is a pipe: feeds it, listens to it, ends it when its time is up.
//!
//! Three threads: one copies the guest's console into the log and the caller's sink, one feeds input once the guest says
//! that somebody reads it, and the caller's own waits for the end. No input is lost on the way: QEMU takes a byte from
//! its standard input only when the guest's UART has room, and the guest's console driver leaves bytes in the UART while its
//! line buffer is full.

use crate::arch::GuestExit;
use crate::hang;
use crate::machine::{Boot, Machine};
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What `/init` prints on a line of its own when the command line has the word `script`: the console is set (no echo, no
/// output processing) and the next byte received goes to the shell.
pub const READY: &str = "BREENIX_CONSOLE_READY";

/// `VEOF`, as often as it is written at once.
const END_OF_FILE: [u8; 64] = [4; 64];

/// What a guest's shell gets to read.
pub enum Input {
    /// Nothing, not even an end.
    None,
    /// These bytes, then end of file.
    Bytes(Vec<u8>),
    /// What this program's standard input holds, then end of file.
    Stdin,
    /// What comes out of this, at once and whoever reads it, until its end.
    AtOnce(Box<dyn Read + Send>),
}

/// How a boot ended.
#[derive(Debug)]
pub struct Outcome {
    /// `None`: the time was up.
    pub exit: Option<GuestExit>,
    /// Everything the guest wrote to its console.
    pub log: Vec<u8>,
    /// Of a hang: where every CPU was.
    pub diagnosis: Option<String>,
    /// From QEMU's start to the line with [`READY`], if there was one: to the shell's prompt.
    pub ready: Option<Duration>,
    /// From QEMU's start to its end.
    pub elapsed: Duration,
}

impl Outcome {
    /// The console's text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.log).replace('\r', "")
    }
}

/// Boots and waits for the end, at most for `limit`. `sink` gets the console's bytes as they come.
///
/// # Errors
/// QEMU cannot be started.
pub fn run(
    machine: &Machine,
    boot: &Boot,
    input: Input,
    limit: Duration,
    sink: impl FnMut(&[u8]) + Send + 'static,
) -> Result<Outcome> {
    let mut machine = machine.clone();
    let monitor = MonitorPath::new();
    machine.monitor = Some(monitor.path().to_owned());
    run_command(&mut machine.command(boot), boot, input, limit, sink, monitor.path())
}

/// Where one guest's monitor listens; the socket is removed with this.
pub struct MonitorPath(PathBuf);

impl MonitorPath {
    /// A path that no other guest has, and a short one: a Unix socket's name has 108 bytes at most.
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("breenix-{}-{number}.qmp", std::process::id())))
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for MonitorPath {
    fn drop(&mut self) {
        // It is not there if QEMU never came so far.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn run_command(
    command: &mut Command,
    boot: &Boot,
    input: Input,
    limit: Duration,
    sink: impl FnMut(&[u8]) + Send + 'static,
    monitor: &Path,
) -> Result<Outcome> {
    let start = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {program}: run scripts/setup"))?;
    let mut guest = Guest::new(child);
    let stdin = guest.0.stdin.take().context("no pipe to QEMU")?;
    let stdout = guest.0.stdout.take().context("no pipe from QEMU")?;

    let (ready, is_ready) = channel();
    thread::spawn(move || feed(stdin, input, is_ready));
    let (done, finished) = channel();
    thread::spawn(move || {
        let heard = listen(stdout, sink, ready, start);
        // The receiver is gone only if the caller gave up.
        let _ = done.send(heard);
    });

    // The end of the console is the end of QEMU, or the time is up.
    let mut diagnosis = None;
    let (exit, heard) = match finished.recv_timeout(limit).ok() {
        Some(heard) => (Some(guest.exit(boot)?), heard),
        None => {
            diagnosis = Some(hang::diagnose(boot, monitor));
            guest.kill();
            (None, finished.recv_timeout(Duration::from_secs(10)).unwrap_or_default())
        }
    };
    Ok(Outcome {
        exit,
        log: heard.log,
        ready: heard.ready,
        diagnosis,
        elapsed: start.elapsed(),
    })
}

/// QEMU's process; it does not outlive this.
pub struct Guest(Child);

impl Guest {
    /// Takes charge of a process.
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Waiting is not possible.
    pub fn exit(&mut self, boot: &Boot) -> Result<GuestExit> {
        let status = self.0.wait()?;
        Ok(status
            .code()
            .map_or(GuestExit::Emulator(-1), |code| boot.arch.guest_exit(code)))
    }

    fn kill(&mut self) {
        // Fails only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What came over the console.
#[derive(Default)]
struct Heard {
    log: Vec<u8>,
    ready: Option<Duration>,
}

fn listen(mut console: impl Read, mut sink: impl FnMut(&[u8]), ready: Sender<()>, start: Instant) -> Heard {
    let Heard {
        mut log,
        ready: mut ready_after,
    } = Heard::default();
    let mut ready = Some(ready);
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = console.read(&mut chunk) {
        let from = log.len().saturating_sub(READY.len());
        log.extend_from_slice(&chunk[..length]);
        sink(&chunk[..length]);
        if ready.is_some()
            && log[from..]
                .windows(READY.len())
                .any(|window| window == READY.as_bytes())
        {
            ready_after = Some(start.elapsed());
            // The feeder may have ended.
            let _ = ready.take().map(|ready| ready.send(()));
        }
    }
    Heard {
        log,
        ready: ready_after,
    }
}

/// Feeds the guest's shell, to QEMU's end: closing the pipe would not reach the guest.
fn feed(mut guest: ChildStdin, input: Input, is_ready: Receiver<()>) {
    let mut source: Box<dyn Read> = match input {
        Input::None => Box::new(std::io::empty()),
        Input::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes)),
        Input::Stdin => Box::new(std::io::stdin()),
        Input::AtOnce(mut source) => {
            // The guest ends when it likes, and this with it.
            let _ = std::io::copy(&mut source, &mut guest);
            return;
        }
    };
    if is_ready.recv().is_err() {
        return;
    }
    let mut chunk = [0; 4096];
    let mut last = b'\n';
    while let Ok(length @ 1..) = source.read(&mut chunk) {
        last = chunk[length - 1];
        if guest.write_all(&chunk[..length]).is_err() {
            return;
        }
        let _ = guest.flush();
    }
    // On a terminal ^D is the end of file only at the start of a line, and for one read: whoever reads next would wait. So
    // it is sent for as long as there is a guest. The guest takes no more than its buffers hold, the pipe makes this wait.
    if last != b'\n' && guest.write_all(b"\n").is_err() {
        return;
    }
    while guest.write_all(&END_OF_FILE).and_then(|()| guest.flush()).is_ok() {}
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::arch::Arch;

    pub fn boot() -> Boot {
        Boot {
            arch: Arch::X86_64,
            elf: "".into(),
            image: "".into(),
            initramfs: "".into(),
            tree: None,
            build_id: "abcd".into(),
        }
    }

    /// Runs a shell script in QEMU's place.
    pub fn fake(script: &str, input: Input, limit: Duration) -> Outcome {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run_command(&mut command, &boot(), input, limit, |_| {}, Path::new("/nonexistent")).unwrap()
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn the_status_comes_out() {
        let outcome = fake("echo hello; exit 7", Input::None, LIMIT);
        assert_eq!(outcome.exit, Some(GuestExit::Status(3)));
        assert_eq!(outcome.ready, None);
        assert_eq!(outcome.text(), "hello\n");
        assert_eq!(fake("exit 0", Input::None, LIMIT).exit, Some(GuestExit::WithoutStatus));
        assert_eq!(
            fake("kill -9 $$", Input::None, LIMIT).exit,
            Some(GuestExit::Emulator(-1))
        );
    }

    #[test]
    fn input_waits_for_the_guest_and_ends_with_eof() {
        // A real pipe has no line discipline: the guest sees the ^D itself.
        let script = format!("sleep 0.2; echo {READY}; head -c 4 | od -An -c; exit 1");
        let outcome = fake(&script, Input::Bytes(b"hi".to_vec()), LIMIT);
        let ready = outcome.ready.unwrap();
        assert!(Duration::from_millis(200) <= ready && ready <= outcome.elapsed);
        assert!(outcome.text().contains("h   i  \\n 004"), "{}", outcome.text());
    }

    #[test]
    fn every_reader_finds_an_end() {
        let script = format!("echo {READY}; head -c 1000 | tr -dc '\\004' | wc -c; exit 1");
        let outcome = fake(&script, Input::Bytes(b"hi\n".to_vec()), LIMIT);
        assert!(outcome.text().contains("997"), "{}", outcome.text());
    }

    #[test]
    fn nothing_is_fed_to_a_guest_that_is_not_ready() {
        let script = "head -c 1 | od -An -c; exit 1";
        let outcome = fake(script, Input::Bytes(b"x".to_vec()), Duration::from_millis(300));
        assert!(!outcome.text().contains('x'), "{}", outcome.text());
    }

    #[test]
    fn a_hang_ends_in_time() {
        let outcome = fake("echo started; exec sleep 60", Input::None, Duration::from_millis(300));
        assert_eq!(outcome.exit, None);
        assert!(outcome.text().contains("started"));
        assert!(outcome.diagnosis.is_some());
        assert!(outcome.elapsed < LIMIT);
    }
}
