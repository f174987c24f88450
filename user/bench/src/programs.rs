//! Running the distribution's programs.

use std::{
    io::Read,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use user_sys::{self as sys, libc};

/// How long one may take, of the guest's time.
const LIMIT: Duration = Duration::from_secs(30);
/// What is kept of what one says: some say the same thing for ever when they fail.
const MOST: u64 = 1 << 20;

/// Runs a program to its end; what it said, its messages at the end.
pub fn run(name: &str, words: &[&str]) -> Result<String, String> {
    run_with(name, words, &[])
}

/// The same with variables of the environment.
pub fn run_with(name: &str, words: &[&str], environment: &[(&str, &str)]) -> Result<String, String> {
    let mut child = Command::new(name)
        .args(words)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    let group = -(child.id() as i32);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let messages = thread::spawn(move || heard(stderr));
    let (done, is_done) = channel();
    let speech = thread::spawn(move || {
        let text = heard(stdout);
        // The receiver lives until this ends.
        let _ = done.send(());
        text
    });
    let in_time = is_done.recv_timeout(LIMIT).is_ok();
    // What it started goes with it; mostly nobody is left.
    if !in_time {
        let _killed = sys::kill(group, libc::SIGKILL);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let _killed = sys::kill(group, libc::SIGKILL);
    let (speech, messages) = (speech.join(), messages.join());
    let (Ok(speech), Ok(messages)) = (speech, messages) else {
        return Err("a thread panicked".into());
    };
    let text = speech + &messages;
    if !in_time {
        return Err(format!("no end after {} s", LIMIT.as_secs()));
    }
    if status.success() {
        return Ok(text);
    }
    Err(format!("{status}: {}", last_line(&text)))
}

/// What comes out of a pipe until its end.
fn heard(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What cannot be read is missing from what is made of it.
        let _ = pipe.by_ref().take(MOST).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last line that says something.
pub fn last_line(text: &str) -> &str {
    text.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_comes_back() {
        assert_eq!(
            run_with("sh", &["-c", "echo $A; echo two >&2"], &[("A", "one")]).unwrap(),
            "one\ntwo\n"
        );
        assert_eq!(
            run("sh", &["-c", "echo why >&2; echo; exit 3"]).unwrap_err(),
            "exit status: 3: why"
        );
        assert!(run("/nonexistent", &[]).unwrap_err().starts_with("/nonexistent: "));
    }

    #[test]
    fn a_child_left_behind_holds_nobody_up() {
        // It does not hold the pipes, which are what is waited for.
        assert_eq!(
            run("sh", &["-c", "sleep 60 >/dev/null 2>&1 & echo gone"]).unwrap(),
            "gone\n"
        );
    }
}
