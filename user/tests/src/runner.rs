//! Runs the tests and is the one that says how they went: it saw every one of them end.

use std::{fs, process::ExitCode, time::Instant};

use crate::{Leaves, Test, all, programs, sys, syscall, usage::Meter};

/// How a line of a test's output begins that belongs into its report.
const NOTE: &str = "NOTE ";

/// Adds something that was measured to the running test's report, should it succeed.
pub fn note(text: &str) {
    println!("{NOTE}{text}");
}

/// Whether the kernel below is Breenix, and its build.
pub fn breenix_build() -> Option<String> {
    let version = fs::read_to_string("/proc/version").unwrap_or_default() + &uname_version();
    version.contains("Breenix").then(|| {
        let mut words = version.split([' ', '\n']);
        words.find(|word| *word == "build");
        words.next().unwrap_or("unknown").to_string()
    })
}

fn uname_version() -> String {
    // SAFETY: all-zero is a valid utsname.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    if syscall!(SYS_uname, &raw mut name).is_err() {
        return String::new();
    }
    let text = |field: &[libc::c_char]| -> String {
        field
            .iter()
            .take_while(|c| **c != 0)
            .map(|c| char::from(*c as u8))
            .collect()
    };
    format!("{} {}", text(&name.sysname), text(&name.version))
}

/// Runs the tests whose names contain one of `filters` (all, without any), then the scripts. Elsewhere than on Breenix, what makes no
/// sense there is skipped; on Breenix nothing is.
pub fn run(filters: &[&str]) -> ExitCode {
    let build = breenix_build();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let tests: Vec<Test> = all().filter(|test| wanted(test.name)).collect();
    let scripts: Vec<_> = programs::scripts()
        .into_iter()
        .filter(|script| wanted(&script.name))
        .collect();
    println!("TESTS {}", tests.len() + scripts.len());
    let mut report = |name: &str, started: Instant, result: Result<String, String>| match result {
        Ok(notes) => {
            passed += 1;
            println!("TEST {name} ok ({} ms{notes})", started.elapsed().as_millis());
        }
        Err(why) => {
            failed += 1;
            println!("TEST {name} FAILED: {why}");
        }
    };
    for test in tests {
        if let (None, Some(why)) = (&build, test.left_out()) {
            skipped += 1;
            println!("TEST {} skipped: {why}", test.name);
            continue;
        }
        let started = Instant::now();
        report(test.name, started, run_one(&test, build.is_some()));
    }
    for script in scripts {
        let started = Instant::now();
        report(&script.name, started, script.run().map(|()| String::new()));
    }
    println!(
        "KERNEL_POST_TESTS_COMPLETE build={} passed={passed} failed={failed} skipped={skipped}",
        build.as_deref().unwrap_or("linux")
    );
    // Where this is all that runs its end is the machine's, which takes what the console has not sent yet with it.
    let _ = syscall!(SYS_ioctl, 1, libc::TCSBRK, 1);
    ExitCode::from(u8::from(failed > 0))
}

/// Runs a test; what it noted, each note after a semicolon.
fn run_one(test: &Test, breenix: bool) -> Result<String, String> {
    if !breenix || test.leaves == Leaves::Unchecked {
        return one_process(test);
    }
    let meter = Meter::new();
    // Once for what is made the first time and stays.
    one_process(test)?;
    // Some of that is made on each CPU, which a run may be the first to come to. What leaks does so every time.
    let mut difference = String::new();
    for _ in 0..=sys::cpus().len() {
        let before = meter.settled();
        let notes = one_process(test)?;
        match meter.check(before) {
            Ok(()) => return Ok(notes),
            Err(seen) => difference = seen,
        }
    }
    Err(difference)
}

fn one_process(test: &Test) -> Result<String, String> {
    match limited(test.limit, || {
        let me = programs::myself();
        programs::execute(&me, &[&me, test.name])
    })? {
        (0, said) => Ok(said
            .lines()
            .filter_map(|line| line.strip_prefix(NOTE))
            .flat_map(|note| ["; ", note])
            .collect()),
        (status, said) => Err(format!("{}: {}", describe(status), said.trim())),
    }
}

/// Runs `child` in a process group of its own, its output caught, for at most `seconds`. Its wait status and last output.
pub fn limited(seconds: u64, child: impl FnOnce() -> i32) -> Result<(i32, String), String> {
    let (reader, writer) = sys::pipe(libc::O_CLOEXEC);
    let pid = sys::try_fork(|| {
        let _ = syscall!(SYS_setpgid, 0, 0);
        // std ignores it, and execve would hand that down.
        sys::disposition(libc::SIGPIPE, libc::SIG_DFL);
        for descriptor in [1, 2] {
            let _ = syscall!(SYS_dup3, writer, descriptor, 0);
        }
        if let Ok(null) = syscall!(SYS_openat, libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_RDWR) {
            let _ = syscall!(SYS_dup3, null, 0, 0);
        }
        child()
    })
    .map_err(|error| format!("fork: error {error}"))?;
    sys::close(writer);
    let _ = syscall!(SYS_setpgid, pid, pid);
    let deadline = sys::now() + seconds * 1_000_000_000;
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    let mut hung = false;
    // The end of output is the end of all that hold it; who leaves a process behind has hung.
    loop {
        let left = deadline.saturating_sub(sys::now()) / 1_000_000;
        if left == 0 {
            hung = true;
            break;
        }
        if sys::poll(reader, libc::POLLIN, left) == 0 {
            continue;
        }
        match sys::read(reader, &mut piece) {
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&piece[..count]),
            Err(libc::EINTR) => {}
            Err(error) => return Err(format!("reading its output: error {error}")),
        }
    }
    sys::close(reader);
    if hung {
        let _ = sys::kill(-pid, libc::SIGKILL);
    }
    let (_, status) = sys::wait(pid, 0).map_err(|error| format!("wait4: error {error}"))?;
    let said = String::from_utf8_lossy(&said).into_owned();
    if hung {
        Err(format!("no end within {seconds} s; said: {}", said.trim()))
    } else {
        Ok((status, said))
    }
}

/// A wait status in words.
pub fn describe(status: i32) -> String {
    if libc::WIFEXITED(status) {
        format!("exit code {}", libc::WEXITSTATUS(status))
    } else {
        format!("killed by signal {}", libc::WTERMSIG(status))
    }
}
