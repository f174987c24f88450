//! One session: a terminal and the program that leads it.

use std::{
    env,
    fs::OpenOptions,
    io,
    os::{
        fd::AsFd,
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    process::{Command, ExitCode},
};

use rustix::{
    fs::OFlags,
    termios::{ControlModes, InputModes, LocalModes, OptionalActions, OutputModes},
};

/// Stands for the session's terminal among a program's arguments.
pub const TERMINAL: &str = "{}";

/// Said on a script's terminal once it is set and its next byte goes to the shell: whoever feeds it waits for this line.
const READY: &str = "BREENIX_CONSOLE_READY";

/// How the terminal is to be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By a person: a login shell.
    Login,
    /// By a program that needs no keyboard.
    Program,
    /// By a script that comes in as bytes and wants its output back as bytes.
    Script,
}

impl Mode {
    /// The mode as a word of the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Program => "program",
            Self::Script => "script",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Login, Self::Program, Self::Script]
            .into_iter()
            .find(|mode| mode.word() == word)
    }
}

/// Becomes the leader of a session: `<terminal> <mode> <program> <argument>…`. Returns only to report a failure.
pub fn enter(arguments: &[String]) -> ExitCode {
    let [terminal, mode, program, rest @ ..] = arguments else {
        eprintln!("usage: init session <terminal> <mode> <program> <argument>…");
        return ExitCode::from(2);
    };
    let Some(mode) = Mode::from_word(mode) else {
        eprintln!("init: unknown mode {mode}");
        return ExitCode::from(2);
    };
    if let Err(error) = take_terminal(terminal, mode) {
        eprintln!("init: {terminal}: {error}");
    }
    let home = env::var_os("HOME").unwrap_or_else(|| "/".into());
    let _stay_at_root = env::set_current_dir(home);
    let mut command = Command::new(program);
    if mode == Mode::Login {
        let name = program.rsplit('/').next().unwrap_or(program);
        command.arg0(format!("-{name}"));
    }
    let arguments = rest
        .iter()
        .map(|argument| if argument == TERMINAL { terminal } else { argument });
    let error = command
        .args(arguments)
        .env_remove("LINES")
        .env_remove("COLUMNS")
        .env_remove("run")
        .exec();
    eprintln!("init: {program}: {error}");
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    })
}

/// Makes `terminal` the controlling terminal and the standard streams.
fn take_terminal(terminal: &str, mode: Mode) -> io::Result<()> {
    // A session cannot be made twice; that is the only way this fails.
    let _already_leader = rustix::process::setsid();
    let tty = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NOCTTY.bits().cast_signed())
        .open(terminal)?;
    rustix::stdio::dup2_stdin(&tty)?;
    rustix::stdio::dup2_stdout(&tty)?;
    rustix::stdio::dup2_stderr(&tty)?;
    drop(tty);
    let stdin = io::stdin();
    rustix::process::ioctl_tiocsctty(stdin.as_fd())?;
    set_window(&stdin)?;
    settings(&stdin, mode)?;
    if mode == Mode::Script {
        println!("{READY}");
    }
    Ok(())
}

/// Gives the terminal the size that the command line named.
fn set_window(tty: impl AsFd) -> io::Result<()> {
    let number = |name| env::var(name).ok().and_then(|value| value.parse::<u16>().ok());
    if let (Some(rows), Some(columns)) = (number("LINES"), number("COLUMNS")) {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(tty, size)?;
    }
    Ok(())
}

fn settings(tty: impl AsFd, mode: Mode) -> io::Result<()> {
    let mut termios = rustix::termios::tcgetattr(&tty)?;
    match mode {
        Mode::Login => {
            termios.input_modes |= InputModes::ICRNL | InputModes::IXON | InputModes::IUTF8;
            termios.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
            termios.control_modes |= ControlModes::CREAD;
            termios.local_modes |= LocalModes::ICANON | LocalModes::ISIG | LocalModes::ECHO | LocalModes::IEXTEN;
        }
        Mode::Program => {}
        Mode::Script => {
            // Lines, so that each program of the script takes no more input than it reads, and `VEOF` ends it; else bytes.
            termios.input_modes = InputModes::empty();
            termios.output_modes = OutputModes::empty();
            termios.local_modes = LocalModes::ICANON;
        }
    }
    rustix::termios::tcsetattr(&tty, OptionalActions::Now, &termios)?;
    Ok(())
}
