//! What stands before any session: mounts, the environment, the machine's name. And its undoing.

use std::{
    env, fs,
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    path::Path,
    thread::sleep,
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::MountFlags,
    process::{Signal, WaitOptions},
};

/// Makes this machine one that programs can live in. What fails is reported and left.
pub fn prepare() {
    let secure = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    mount("devtmpfs", "/dev", MountFlags::NOSUID);
    ensure_standard_streams();
    mount("proc", "/proc", secure);
    mount("sysfs", "/sys", secure);
    mount("tmpfs", "/tmp", MountFlags::NOSUID | MountFlags::NODEV);
    if is_read_only("/") {
        mount("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV);
    }
    mount("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC);
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let _already_there = std::os::unix::fs::symlink(target, Path::new("/dev").join(link));
    }
    if let Err(error) = rustix::system::sethostname(b"breenix") {
        eprintln!("init: hostname: {error}");
    }
    environment();
}

/// The standard streams on the console, where the kernel could not open it for us.
fn ensure_standard_streams() {
    while let Ok(descriptor) = rustix::fs::open("/dev/console", OFlags::RDWR | OFlags::NOCTTY, Mode::empty()) {
        if std::os::fd::AsRawFd::as_raw_fd(&descriptor) > 2 {
            return;
        }
        std::mem::forget::<OwnedFd>(descriptor);
    }
}

/// Mounts a file system. No such file system, no such directory (the mount point is made where it can be) and a place that is
/// taken already are no errors worth a word.
fn mount(kind: &str, at: &str, flags: MountFlags) {
    if !Path::new(at).is_dir() && fs::create_dir_all(at).is_err() {
        return;
    }
    if is_mount_point(at) {
        return;
    }
    match rustix::mount::mount(kind, at, kind, flags, None) {
        Ok(()) | Err(Errno::BUSY | Errno::NODEV | Errno::NOENT) => {}
        Err(error) => eprintln!("init: cannot mount {kind} on {at}: {error}"),
    }
}

fn is_read_only(path: &str) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|status| status.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

fn is_mount_point(path: &str) -> bool {
    fs::read_to_string("/proc/mounts")
        .is_ok_and(|mounts| mounts.lines().any(|line| line.split(' ').nth(1) == Some(path)))
}

/// Completes the environment that sessions inherit.
#[expect(
    unsafe_code,
    reason = "the environment may only be changed while there is one thread, as there is here"
)]
fn environment() {
    let home = if Path::new("/root").is_dir() { "/root" } else { "/" };
    for (name, value) in [
        ("PATH", "/sbin:/usr/sbin:/bin:/usr/bin"),
        ("HOME", home),
        ("TERM", "vt220"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", "/bin/sh"),
    ] {
        // The kernel itself says `HOME=/`.
        if env::var_os(name).is_none() || name == "HOME" {
            // SAFETY: this process has one thread.
            unsafe { env::set_var(name, value) };
        }
    }
}

/// The consoles to start a session on: those the kernel lists, else the one it has.
pub fn consoles() -> Vec<String> {
    let listed: Vec<String> = fs::read_to_string("/proc/consoles")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(|name| format!("/dev/{name}"))
        .filter(|path| Path::new(path).exists())
        .collect();
    if listed.is_empty() {
        vec!["/dev/console".into()]
    } else {
        listed
    }
}

/// The path of a program by its name, as the shell would find it.
pub fn find(program: &str) -> String {
    env::var("PATH")
        .unwrap_or_default()
        .split(':')
        .map(|directory| format!("{directory}/{program}"))
        .find(|path| Path::new(path).exists())
        .unwrap_or_else(|| format!("/bin/{program}"))
}

/// Ends every other process, first by asking.
pub fn shut_down() {
    let everyone = |signal| rustix::process::kill_process_group(rustix::process::Pid::INIT, signal);
    let _ = everyone(Signal::TERM);
    if !gone(Duration::from_millis(500)) {
        let _ = everyone(Signal::KILL);
        gone(Duration::from_millis(500));
    }
    rustix::fs::sync();
}

/// Reaps until there is no child left; false when `patience` ran out first.
fn gone(patience: Duration) -> bool {
    let step = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG).map_err(|error| io::Error::from(error).kind()) {
            Ok(Some(_)) | Err(ErrorKind::Interrupted) => {}
            Ok(None) if waited < patience => {
                sleep(step);
                waited += step;
            }
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}
