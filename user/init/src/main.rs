//! The first process.
//!
//! It mounts what programs expect to find, starts one session per console and reaps whatever loses its parent. A session is
//! this same program again, called as `init session <terminal> <program> …`: as the leader of a new session it takes the
//! terminal as its controlling one, makes it standard input, output and error, and becomes the program. When the last session
//! has ended the machine is done, with that session's status as its own: the kernel powers off when this process exits.
//!
//! Words of the kernel's command line reach this program as Linux passes them on: `name=value` in the environment, anything
//! else as an argument. It knows
//!
//! - `script`: nobody sits at the console. The shell reads commands from it without prompt, echo or any change to the bytes.
//! - `run=tests`: run the test programs instead of a shell; `run=<path> …` (in double quotes): run that program.
//! - `LINES=`, `COLUMNS=`: the size of the console's window.

mod session;
mod setup;

use std::{
    env,
    process::{Child, Command, ExitCode, exit},
};

use rustix::{
    io::Errno,
    process::{WaitOptions, WaitStatus},
};

/// What runs on each console.
struct Job {
    mode: session::Mode,
    command: Vec<String>,
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let words: Vec<String> = arguments.by_ref().collect();
    if let Some(("session", rest)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return session::enter(rest);
    }
    setup::prepare();
    let job = job(&words, env::var("run").ok());
    let consoles = setup::consoles();
    let mut sessions: Vec<Child> = Vec::new();
    for console in &consoles {
        match start(console, &job) {
            Ok(child) => sessions.push(child),
            Err(error) => eprintln!("init: no session on {console}: {error}"),
        }
    }
    let status = reap(&mut sessions);
    if rustix::process::getpid() == rustix::process::Pid::INIT {
        setup::shut_down();
    }
    exit(status)
}

/// Decides what to run from the command line's words and its `run=`.
fn job(words: &[String], run: Option<String>) -> Job {
    let script = words.iter().any(|word| word == "script");
    let unattended = if script {
        session::Mode::Script
    } else {
        session::Mode::Program
    };
    match run.as_deref() {
        Some("tests") => Job {
            mode: unattended,
            command: vec![setup::find("tests"), "run".into()],
        },
        Some(line) if !line.trim().is_empty() => Job {
            mode: unattended,
            command: line.split_whitespace().map(String::from).collect(),
        },
        // The terminal as a file of commands: on standard input the shell would take it for a person.
        _ if script => Job {
            mode: session::Mode::Script,
            command: vec!["/bin/sh".into(), session::TERMINAL.into()],
        },
        _ => Job {
            mode: session::Mode::Login,
            command: vec!["/bin/sh".into()],
        },
    }
}

fn start(console: &str, job: &Job) -> std::io::Result<Child> {
    let me = env::current_exe().unwrap_or_else(|_| "/init".into());
    Command::new(me)
        .arg("session")
        .arg(console)
        .arg(job.mode.word())
        .args(&job.command)
        .spawn()
}

/// Reaps every child until the last session has ended; that one's status.
fn reap(sessions: &mut Vec<Child>) -> i32 {
    let mut last = 1;
    while !sessions.is_empty() {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                let before = sessions.len();
                sessions.retain(|session| session.id().cast_signed() != pid.as_raw_nonzero().get());
                if sessions.len() < before {
                    last = exit_status(status);
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => {
                eprintln!("init: wait: {error}");
                break;
            }
        }
    }
    last
}

/// The status as a shell would give it: the exit code, or 128 and the signal's number.
fn exit_status(status: WaitStatus) -> i32 {
    status
        .exit_status()
        .or(status.terminating_signal().map(|signal| 128 + signal))
        .unwrap_or(1)
}
