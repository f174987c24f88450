//! execve: images good and bad, arguments, scripts; and the shell scripts that test what is not ours.

use std::{ffi::CString, fmt, fs, ops::Deref, os::unix::fs::PermissionsExt, path::PathBuf, process::ExitCode};

use crate::{
    runner,
    sys::{self, fork, wait_exit},
    syscall,
};

crate::tests! { "programs":
    arguments_and_environment_arrive [frees];
    the_auxiliary_vector_is_complete;
    interpreter_scripts;
    too_long_arguments_are_e2big;
    what_is_no_program_is_refused;
    mangled_images_never_hurt_the_kernel (120) [frees];
    descriptors_close_on_exec;
    exec_resets_what_it_must;
    exec_from_a_thread_ends_the_others;
    addresses_are_random_unless_asked_not_to_be;
}

/// This program's path.
pub fn myself() -> String {
    std::env::current_exe().map_or_else(|_| "/bin/tests".into(), |path| path.to_string_lossy().into_owned())
}

fn c_strings(words: &[&str]) -> (Vec<CString>, Vec<*const libc::c_char>) {
    let owned: Vec<CString> = words
        .iter()
        .map(|word| CString::new(*word).expect("no zero in it"))
        .collect();
    let mut pointers: Vec<_> = owned.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    (owned, pointers)
}

/// Becomes another program with the environment of this one; returns 127 if that fails.
pub fn execute(path: &str, arguments: &[&str]) -> i32 {
    let environment: Vec<String> = std::env::vars()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let environment: Vec<&str> = environment.iter().map(String::as_str).collect();
    let error = execve(path, arguments, &environment);
    eprintln!("execve {path}: error {error}");
    127
}

/// Becomes another program; the error number if that fails.
fn execve(path: &str, arguments: &[&str], environment: &[&str]) -> i32 {
    let path = CString::new(path).expect("no zero in it");
    let (_a, arguments) = c_strings(arguments);
    let (_e, environment) = c_strings(environment);
    syscall!(SYS_execve, path.as_ptr(), arguments.as_ptr(), environment.as_ptr()).expect_err("execve came back")
}

/// What execve of a file fails with, tried in a child; `None` if it did not fail.
fn exec_error(path: &str) -> Option<i32> {
    // 100 + error, so that a program that did run (and exits or dies) is told apart.
    let pid = fork(|| 100 + execve(path, &[path], &[]));
    let (_, status) = sys::wait(pid, 0).expect("wait4");
    (libc::WIFEXITED(status) && libc::WEXITSTATUS(status) > 100).then(|| libc::WEXITSTATUS(status) - 100)
}

fn scratch(name: &str) -> String {
    format!("/tmp/tests-{}-{name}", std::process::id())
}

/// A file, removed at the end.
struct Program(String);

impl Deref for Program {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _left = fs::remove_file(&self.0);
    }
}

fn file(name: &str, bytes: &[u8]) -> Program {
    let path = scratch(name);
    // Written anew each time: a program that runs cannot be written to.
    let _absent = fs::remove_file(&path);
    fs::write(&path, bytes).expect("write a file in /tmp");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    Program(path)
}

/// What the tests run of themselves by execve.
pub fn helper(name: &str, rest: &[&str]) -> ExitCode {
    let fine = match name {
        "intervals" => crate::intervals::are_set(),
        "arguments" => {
            let environment: Vec<(String, String)> = std::env::vars().collect();
            rest == ["one", "", "zwei drei", "ü"] && environment == [("KEY".into(), "value=x".into())]
        }
        "script" => {
            // `#!<me> helper script`: one optional argument only, so it comes as one word.
            println!("{rest:?}");
            true
        }
        "closed" => rest.iter().all(|number| {
            let number: i32 = number.parse().unwrap_or(0);
            syscall!(SYS_fcntl, number, libc::F_GETFD, 0) == Err(libc::EBADF)
        }),
        "dispositions" => {
            let disposition = |signo: i32| {
                let mut action = [0u64; 4];
                syscall!(SYS_rt_sigaction, signo, 0, action.as_mut_ptr(), 8).expect("rt_sigaction");
                action[0] as usize
            };
            disposition(libc::SIGUSR1) == libc::SIG_DFL
                && disposition(libc::SIGUSR2) == libc::SIG_IGN
                && sys::mask(libc::SIG_BLOCK, &[]) == sys::set_of(&[libc::SIGHUP])
        }
        "addresses" => {
            println!("{}", addresses());
            true
        }
        "timers-after-exec" => rest.first().is_some_and(|number| crate::timers::after_exec(number)),
        "identity" => rest
            .first()
            .is_some_and(|expected| crate::capabilities::exec::after_exec(expected)),
        "filtered" => crate::seccomp::inheriting::after_exec(),
        "rounding" => crate::arch::rounding() == 0,
        "ok" => true,
        _ => false,
    };
    ExitCode::from(if fine { 0 } else { 1 })
}

/// Where this program's stack, heap and mappings are, and its 16 random bytes.
fn addresses() -> String {
    let on_stack = 0u8;
    let heap = syscall!(SYS_brk, 0).expect("brk");
    let mapping = sys::memory(4096);
    let random = sys::auxiliary(libc::AT_RANDOM);
    let bytes: Vec<u8> = (0..16).map(|at| sys::peek(random + at)).collect();
    // One that is not position-independent has no choice.
    let code = if fs::read("/proc/self/exe").expect("the program")[16] == 3 {
        addresses as *const () as usize
    } else {
        0
    };
    format!(
        "{:x} {heap:x} {mapping:x} {code:x} {bytes:x?}",
        &raw const on_stack as usize
    )
}

fn addresses_are_random_unless_asked_not_to_be() {
    const NO_RANDOMIZE: usize = 0x004_0000;
    let me = myself();
    let run = |personality: usize| -> Vec<String> {
        let (status, said) = runner::limited(20, || {
            syscall!(SYS_personality, personality).expect("personality");
            execute(&me, &["tests", "helper", "addresses"])
        })
        .expect("it runs");
        assert_eq!(status, 0, "{said}");
        said.trim().splitn(5, ' ').map(str::to_owned).collect()
    };
    let runs: Vec<Vec<String>> = (0..3).map(|_| run(0)).collect();
    for part in 0..5 {
        let all_equal = runs.iter().all(|run| run[part] == runs[0][part]);
        assert!(
            !all_equal || runs[0][part] == "0",
            "part {part} never changes: {runs:?}"
        );
    }
    let (first, second) = (run(NO_RANDOMIZE), run(NO_RANDOMIZE));
    assert_eq!(first[..4], second[..4], "not at random");
    assert_ne!(first[4], second[4], "AT_RANDOM is random nevertheless");
}

fn arguments_and_environment_arrive() {
    let me = myself();
    let pid = fork(|| {
        execve(
            &me,
            &["tests", "helper", "arguments", "one", "", "zwei drei", "ü"],
            &["KEY=value=x"],
        )
    });
    assert_eq!(wait_exit(pid), 0, "arguments or environment differ");
}

fn the_auxiliary_vector_is_complete() {
    // SAFETY: getauxval reads what the kernel pushed.
    let value = |kind| unsafe { libc::getauxval(kind) };
    assert_eq!(value(libc::AT_PAGESZ), 4096);
    for (name, kind) in [
        ("AT_PHDR", libc::AT_PHDR),
        ("AT_PHENT", libc::AT_PHENT),
        ("AT_PHNUM", libc::AT_PHNUM),
        ("AT_ENTRY", libc::AT_ENTRY),
        ("AT_RANDOM", libc::AT_RANDOM),
        ("AT_EXECFN", libc::AT_EXECFN),
        ("AT_CLKTCK", libc::AT_CLKTCK),
    ] {
        assert_ne!(value(kind), 0, "{name}");
    }
    assert_eq!(value(libc::AT_SECURE), 0);
    assert_eq!(value(libc::AT_UID), syscall!(SYS_getuid).unwrap_or(1) as u64);
    let random: Vec<u8> = (0..16)
        .map(|i| sys::peek(value(libc::AT_RANDOM) as usize + i))
        .collect();
    assert_ne!(random, [0; 16], "AT_RANDOM is 16 random bytes");
}

fn interpreter_scripts() {
    let me = myself();
    let script = file("script", format!("#! {me} helper\nwhatever\n").as_bytes());
    // The word is "helper"; the script's path follows, which names no helper.
    assert_eq!(
        wait_exit(fork(|| execve(&script, &["ignored"], &[]))),
        1,
        "the interpreter got the script's path"
    );
    let inner = file("inner", b"#!/bin/sh\nexit $(($1 + $#))\n");
    assert_eq!(wait_exit(fork(|| execve(&inner, &["x", "40", "b"], &[]))), 42);
    let looping = scratch("loop");
    let _looping = file("loop", format!("#!{looping}\n").as_bytes());
    assert_eq!(
        exec_error(&looping),
        Some(libc::ELOOP),
        "a script that is its own interpreter"
    );
    assert_eq!(exec_error(&file("none", b"#!\n")), Some(libc::ENOEXEC));
    assert_eq!(
        exec_error(&file("absent", b"#!/no/such/interpreter\n")),
        Some(libc::ENOENT)
    );
}

fn too_long_arguments_are_e2big() {
    let me = myself();
    let long = "x".repeat(131_072);
    assert_eq!(
        wait_exit(fork(|| execve(&me, &["tests", "helper", "ok", &long], &[]))),
        libc::E2BIG,
        "one string"
    );
    let fits = "x".repeat(131_071);
    assert_eq!(
        wait_exit(fork(|| execve(&me, &["tests", "helper", "ok", &fits], &[]))),
        0,
        "just fits"
    );
    let many: Vec<&str> = std::iter::repeat_n(fits.as_str(), 100).collect();
    assert_eq!(wait_exit(fork(|| execve(&me, &many, &[]))), libc::E2BIG, "all together");
}

fn what_is_no_program_is_refused() {
    for (name, bytes, error) in [
        ("empty", &b""[..], libc::ENOEXEC),
        ("text", b"hello\n", libc::ENOEXEC),
        ("magic", b"\x7fELF", libc::ENOEXEC),
        ("zeroes", &[0; 4096], libc::ENOEXEC),
    ] {
        assert_eq!(exec_error(&file(name, bytes)), Some(error), "{name}");
    }
    assert_eq!(exec_error("/tmp"), Some(libc::EACCES), "a directory");
    assert_eq!(exec_error("/no/such/program"), Some(libc::ENOENT));
    let plain = file("plain", b"x");
    assert_eq!(exec_error(&format!("{plain}/x")), Some(libc::ENOTDIR));
    let plain = file("noexec", b"#!/bin/sh\n");
    fs::set_permissions(&*plain, fs::Permissions::from_mode(0o644)).expect("chmod");
    assert_eq!(exec_error(&plain), Some(libc::EACCES), "not executable");
    assert_eq!(exec_error(&"x".repeat(300)), Some(libc::ENAMETOOLONG));
}

/// A small generator (xorshift), so that a failing seed replays.
pub struct Random(pub u64);

impl Random {
    /// The next word.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Images with their headers cut or scribbled over: whatever happens, it happens to the process that runs them.
fn mangled_images_never_hurt_the_kernel() {
    let image = fs::read(myself()).expect("this program's image");
    let head = &image[..image.len().min(64 << 10)];
    let mut random = Random(0x5eed_1234_5678_9abc);
    for round in 0..150 {
        let mut mangled = head.to_vec();
        match round % 3 {
            0 => mangled.truncate(random.below(600)),
            1 => {
                for _ in 0..1 + random.below(8) {
                    let at = random.below(0x200);
                    mangled[at] = random.next() as u8;
                }
            }
            _ => {
                let at = random.below(0x180) & !7;
                let word = [0, u64::MAX, 1 << 47, 1 << 63, 0xfff, random.next()][random.below(6)];
                mangled[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
        let path = file("mangled", &mangled);
        let pid = fork(|| {
            let limit = libc::rlimit {
                rlim_cur: 1,
                rlim_max: 1,
            };
            let _ = syscall!(SYS_prlimit64, 0, libc::RLIMIT_CPU, &raw const limit, 0);
            for descriptor in [1, 2] {
                let _ = syscall!(SYS_close, descriptor);
            }
            execve(&path, &[&path, "helper", "ok"], &[])
        });
        let deadline = sys::now() + 2_000_000_000;
        while sys::wait(pid, libc::WNOHANG) == Ok((0, 0)) {
            if sys::now() > deadline {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
            sys::sleep_ms(1);
        }
    }
}

fn descriptors_close_on_exec() {
    let me = myself();
    let (a, b) = sys::pipe(libc::O_CLOEXEC);
    let kept = syscall!(SYS_dup, a).expect("dup") as i32;
    let number = a.to_string();
    assert_eq!(
        wait_exit(fork(|| execve(
            &me,
            &["tests", "helper", "closed", &number, &b.to_string()],
            &[]
        ))),
        0
    );
    assert_eq!(
        wait_exit(fork(|| execve(
            &me,
            &["tests", "helper", "closed", &kept.to_string()],
            &[]
        ))),
        1,
        "dup clears it"
    );
}

fn exec_resets_what_it_must() {
    extern "C" fn nothing(_: i32, _: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {}
    let me = myself();
    let pid = fork(|| {
        sys::handle(libc::SIGUSR1, 0, &[], nothing);
        sys::disposition(libc::SIGUSR2, libc::SIG_IGN);
        sys::mask(libc::SIG_SETMASK, &[libc::SIGHUP]);
        execve(&me, &["tests", "helper", "dispositions"], &[])
    });
    assert_eq!(
        wait_exit(pid),
        0,
        "handlers go to default, ignored and blocked signals stay"
    );
}

fn exec_from_a_thread_ends_the_others() {
    let me = myself();
    let pid = fork(|| {
        for _ in 0..3 {
            std::thread::spawn(|| sys::sleep_ms(60_000));
        }
        std::thread::spawn(move || execve(&me, &["tests", "helper", "ok"], &[]))
            .join()
            .unwrap_or(1)
    });
    assert_eq!(wait_exit(pid), 0);
}

/// A busybox script and what it must print.
pub struct Script {
    /// `scripts::<file name>`.
    pub name: String,
    path: PathBuf,
}

/// Where the scripts are.
const SCRIPTS: [&str; 2] = ["/tests", "/usr/share/tests"];

/// All scripts, by name.
pub fn scripts() -> Vec<Script> {
    let chosen = std::env::var("TEST_SCRIPTS").ok();
    let directories: Vec<&str> = chosen.as_deref().map_or(SCRIPTS.to_vec(), |directory| vec![directory]);
    let mut scripts: Vec<Script> = directories
        .into_iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sh"))
        .map(|path| {
            let stem = path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default();
            Script {
                name: format!("scripts::{stem}"),
                path,
            }
        })
        .collect();
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    scripts
}

impl Script {
    /// Runs it by `/bin/sh` and compares what it printed with the file `<name>.expected` beside it.
    ///
    /// # Errors
    /// In words.
    pub fn run(&self) -> Result<(), String> {
        let expected = fs::read_to_string(self.path.with_extension("expected")).map_err(|error| format!("{error}"))?;
        let path = self.path.to_string_lossy().into_owned();
        let (status, said) = runner::limited(180, || execute("/bin/sh", &["sh", &path]))?;
        if status != 0 {
            return Err(format!("{}: {}", runner::describe(status), said.trim()));
        }
        if said == expected {
            return Ok(());
        }
        let differs = expected.lines().zip(said.lines()).position(|(a, b)| a != b);
        let at = differs.unwrap_or(expected.lines().count().min(said.lines().count()));
        Err(format!(
            "line {}: expected {:?}, got {:?}",
            at + 1,
            expected.lines().nth(at).unwrap_or("the end"),
            said.lines().nth(at).unwrap_or("the end")
        ))
    }
}
