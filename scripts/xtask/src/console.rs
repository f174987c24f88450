//! A guest at a terminal: QEMU on a pseudo-terminal, as `scripts/run` gives it to a person, and an emulator in the person's
//! place that knows every cell of the screen.
//!
//! Everything waits for what it expects to see. A wait that takes longer than [`LIMIT`] fails with the screen, and the
//! machine is asked what its CPUs do.

use crate::arch::GuestExit;
use crate::hang;
use crate::machine::{Boot, Console as Wiring, Machine};
use crate::monitor::Monitor;
use crate::session::{Guest, MonitorPath};
use anyhow::{Context, Result, bail, ensure};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use vt100::{Callbacks, Parser, Screen};

/// How long anything expected may take. Far more than it does on a loaded machine: a test waits that long only to fail.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a terminal answers by itself.
#[derive(Default)]
struct Replies(Vec<u8>);

impl Callbacks for Replies {
    fn unhandled_csi(
        &mut self,
        screen: &mut Screen,
        _: Option<u8>,
        _: Option<u8>,
        parameters: &[&[u16]],
        command: char,
    ) {
        // The cursor's position, which line editors ask for (ECMA-48, DSR 6 and CPR).
        if command == 'n' && parameters == [[6]] {
            let (row, column) = screen.cursor_position();
            self.0.extend(format!("\x1b[{};{}R", row + 1, column + 1).into_bytes());
        }
    }
}

/// A running guest and its terminal.
pub struct Console {
    guest: Guest,
    boot: Boot,
    monitor: MonitorPath,
    keyboard: File,
    output: Receiver<Vec<u8>>,
    terminal: Parser<Replies>,
    /// All that was printed, without `\r`.
    log: Vec<u8>,
    /// How much of the log [`Console::expect`] has gone past.
    seen: usize,
    limit: Duration,
}

impl Console {
    /// Boots `boot` on `machine` with a terminal of the emulator's usual size, 24 rows of 80 columns.
    ///
    /// # Errors
    /// There is no pseudo-terminal, or QEMU cannot be started.
    pub fn boot(machine: &Machine, boot: &Boot) -> Result<Self> {
        let monitor = MonitorPath::new();
        let mut machine = Machine {
            console: Wiring::Terminal,
            monitor: Some(monitor.path().to_owned()),
            ..machine.clone()
        };
        let (rows, columns) = (Parser::DEFAULT_ROWS.get(), Parser::DEFAULT_COLS.get());
        machine.set_window(rows, columns);
        let command = machine.command(boot);
        Self::start(command, boot, monitor, LIMIT)
    }

    fn start(mut command: Command, boot: &Boot, monitor: MonitorPath, limit: Duration) -> Result<Self> {
        let (keyboard, line) = open_pair().context("no pseudo-terminal")?;
        command.stdin(line.try_clone()?).stdout(line.try_clone()?).stderr(line);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {program}: run scripts/setup"))?;
        // The command holds the line's descriptors: with them open its end would not be seen.
        drop(command);
        let (sender, output) = channel();
        let screen = keyboard.try_clone()?;
        thread::spawn(move || listen(screen, &sender));
        Ok(Self {
            guest: Guest::new(child),
            boot: boot.clone(),
            monitor,
            keyboard,
            output,
            terminal: Parser::new_with_callbacks(Parser::DEFAULT_ROWS, Parser::DEFAULT_COLS, 0, Replies::default()),
            log: Vec::new(),
            seen: 0,
            limit,
        })
    }

    /// Types. `\n` is the Enter key, which sends a carriage return.
    ///
    /// # Errors
    /// The guest has gone.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        self.keyboard
            .write_all(keys.replace('\n', "\r").as_bytes())
            .context("the guest has gone")
    }

    /// Waits for `text` in what is printed after all that was expected before; returns what came in between.
    ///
    /// # Errors
    /// The time is up or the guest has ended.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        let deadline = Instant::now() + self.limit;
        loop {
            let rest = &self.log[self.seen..];
            if let Some(at) = rest.windows(text.len()).position(|window| window == text.as_bytes()) {
                let before = String::from_utf8_lossy(&rest[..at]).into_owned();
                self.seen += at + text.len();
                return Ok(before);
            }
            self.receive(deadline)
                .with_context(|| format!("waiting for {text:?} in the output"))?;
        }
    }

    /// Waits until `text` is in what has ever been printed: it may have come before what was expected before.
    ///
    /// # Errors
    /// The time is up or the guest has ended.
    pub fn expect_ever(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + self.limit;
        while !self.log.windows(text.len()).any(|window| window == text.as_bytes()) {
            self.receive(deadline)
                .with_context(|| format!("waiting for {text:?} in all output"))?;
        }
        Ok(())
    }

    /// Waits until the screen is as `condition` wants it.
    ///
    /// # Errors
    /// The time is up or the guest has ended.
    pub fn expect_screen(&mut self, what: &str, condition: impl Fn(&View<'_>) -> bool) -> Result<()> {
        let deadline = Instant::now() + self.limit;
        loop {
            if condition(&View(self.terminal.screen())) {
                // What is on the screen has been seen.
                self.seen = self.log.len();
                return Ok(());
            }
            self.receive(deadline)
                .with_context(|| format!("waiting for {what} on the screen"))?;
        }
    }

    /// Waits for the guest's end.
    ///
    /// # Errors
    /// The time is up.
    pub fn expect_end(&mut self) -> Result<GuestExit> {
        let deadline = Instant::now() + self.limit;
        loop {
            match self.receive(deadline) {
                Ok(()) => {}
                Err(Ended::Gone) => return self.guest.exit(&self.boot),
                Err(Ended::Late) => bail!("the guest does not end"),
            }
        }
    }

    /// Takes in what the guest prints next.
    fn receive(&mut self, deadline: Instant) -> Result<(), Ended> {
        let left = deadline.saturating_duration_since(Instant::now());
        let bytes = self.output.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => Ended::Late,
            RecvTimeoutError::Disconnected => Ended::Gone,
        })?;
        // Two terminals turn `\n` into `\r\n`, the guest's and QEMU's own: of no interest to the order of what is printed.
        self.log.extend(bytes.iter().filter(|byte| **byte != b'\r'));
        self.terminal.process(&bytes);
        let replies = std::mem::take(&mut self.terminal.callbacks_mut().0);
        // A guest that has gone is noticed by the next look at its output.
        let _ = self.keyboard.write_all(&replies);
        Ok(())
    }

    /// Writes what the guest's screen shows to a file, as a PPM.
    ///
    /// # Errors
    /// The guest has no screen, or has gone.
    pub fn screendump(&self, path: &Path) -> Result<()> {
        // What was there before is not to be taken for the answer.
        let _ = std::fs::remove_file(path);
        let said = self.monitor()?.command(&format!("screendump {}", path.display()))?;
        ensure!(said.trim().is_empty(), "no picture of the screen: {said}");
        Ok(())
    }

    /// A connection to the monitor, whose keys are those of the guest's keyboard.
    ///
    /// # Errors
    /// The guest has gone.
    pub fn monitor(&self) -> Result<Monitor> {
        Monitor::connect(self.monitor.path())
    }

    /// The build id that the guest must print.
    pub fn build_id(&self) -> &str {
        &self.boot.build_id
    }

    /// Everything the guest has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log).into_owned()
    }

    /// Everything there is to say about a guest that did not do what was expected. Stops it.
    pub fn autopsy(&mut self) -> String {
        let screen = self.terminal.screen();
        let (row, column) = screen.cursor_position();
        let mut text = format!(
            "serial log:\n{}\nscreen, cursor at row {row}, column {column}:\n",
            self.log()
        );
        for row in screen.rows(0, screen.size().1.get()) {
            let _ = writeln!(text, "|{row:<80}|");
        }
        text.push_str(&hang::diagnose(&self.boot, self.monitor.path()));
        text
    }
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Late,
    Gone,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Late => "the time is up",
            Self::Gone => "the guest has ended",
        })
    }
}

impl std::error::Error for Ended {}

/// What is on a screen.
pub struct View<'a>(&'a Screen);

impl View<'_> {
    /// One row, from 0, without blanks at its end.
    pub fn row(&self, row: u16) -> String {
        let width = self.0.size().1.get();
        let text = self.0.rows(0, width).nth(row.into()).unwrap_or_default();
        text.trim_end().to_owned()
    }

    /// Whether these rows, from `first` on, hold exactly these texts.
    pub fn rows_are(&self, first: u16, texts: &[&str]) -> bool {
        (first..).zip(texts).all(|(row, text)| self.row(row) == *text)
    }

    /// Whether some row contains `text`.
    pub fn contains(&self, text: &str) -> bool {
        let width = self.0.size().1.get();
        self.0.rows(0, width).any(|row| row.contains(text))
    }

    /// Row and column of the cursor, from 0.
    pub fn cursor(&self) -> (u16, u16) {
        self.0.cursor_position()
    }
}

/// The two ends of a new pseudo-terminal: the person's and the program's.
fn open_pair() -> Result<(File, OwnedFd)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let line = OpenOptions::new().read(true).write(true).open(name.to_str()?)?;
    let size = Winsize {
        ws_row: Parser::DEFAULT_ROWS.get(),
        ws_col: Parser::DEFAULT_COLS.get(),
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&master, size)?;
    Ok((master.into(), line.into()))
}

/// Until the last holder of the line has closed it, which Linux reports as an error.
fn listen(mut screen: File, output: &Sender<Vec<u8>>) {
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = screen.read(&mut chunk) {
        if output.send(chunk[..length].to_vec()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::boot;

    /// A shell script in QEMU's place, on a real pseudo-terminal.
    fn fake(script: &str, limit: Duration) -> Console {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Console::start(command, &boot(), MonitorPath::new(), limit).unwrap()
    }

    const SECONDS: Duration = Duration::from_secs(20);

    #[test]
    fn what_is_printed_is_seen_in_order() {
        let mut console = fake("echo one two; echo three; exit 7", SECONDS);
        assert_eq!(console.expect("two").unwrap(), "one ");
        assert_eq!(console.expect("three").unwrap(), "\n");
        assert_eq!(console.expect_end().unwrap(), GuestExit::Status(3));
        assert!(console.expect("one").is_err());
    }

    #[test]
    fn the_screen_is_exact_to_the_cell() {
        let mut console = fake(r"printf '\033[2J\033[5;10Hhello\033[1;1H\033[K'; read x", SECONDS);
        console
            .expect_screen("hello", |screen| {
                screen.row(4) == "         hello" && screen.cursor() == (0, 0)
            })
            .unwrap();
        assert!(View(console.terminal.screen()).rows_are(3, &["", "         hello", ""]));
    }

    #[test]
    fn a_question_for_the_cursor_is_answered() {
        let script = r"stty raw -echo; printf '\033[3;7H\033[6n'; dd bs=1 count=6 2>/dev/null | od -An -c; exit 1";
        let mut console = fake(script, SECONDS);
        console.expect("033   [   3   ;   7   R").unwrap();
    }

    #[test]
    fn what_is_typed_is_no_output_of_the_program() {
        let mut console = fake("read line; eval \"$line\"; read line", SECONDS);
        console.send("echo \"a\"\"b\"\n").unwrap();
        console.expect("ab").unwrap();
    }

    #[test]
    fn a_wait_that_is_too_long_shows_the_screen() {
        let mut console = fake("echo here I am; read x", Duration::from_millis(300));
        let error = console.expect("there").unwrap_err();
        assert!(format!("{error:#}").contains("waiting for \"there\""), "{error:#}");
        assert!(console.autopsy().contains("|here I am"), "{}", console.autopsy());
    }
}
