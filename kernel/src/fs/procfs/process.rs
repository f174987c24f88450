//! Files about one process, in Linux's formats (`proc(5)`).

use alloc::{format, string::String, sync::Arc, vec::Vec};
use core::fmt::Write;

use executor::Activity;
use hal::PAGE_SIZE;
use linux_raw_sys::general::CLOCK_BOOTTIME;

use crate::{
    errno::{Errno, Result},
    fs::{inode::Target, mount::Location, path},
    mm::fallible::TryRoom,
    namespace, rt,
    task::{self, Pid, Process, Thread, limits::INFINITY, schedule},
};

const NANOS_PER_TICK: u64 = 10_000_000;

/// Links of a process to places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Program,
    Root,
    WorkingDirectory,
}

/// The process, or the process of that thread.
pub(super) fn find(pid: Pid) -> Result<Arc<Process>> {
    task::process(pid)
        .or_else(|| Some(Arc::clone(task::thread(pid)?.process())))
        .ok_or(Errno::ENOENT)
}

/// The letter of `ps`.
fn state(process: &Arc<Process>) -> char {
    if process.first_thread().is_none() {
        return 'Z';
    }
    if process.first_thread().is_some_and(|thread| thread.is_trace_stopped()) {
        return 't';
    }
    if process.is_stopped() {
        return 'T';
    }
    let runs = |thread: &Thread| {
        let info = thread.task_id().and_then(|id| rt::executor().task(id));
        info.is_some_and(|info| info.activity != Activity::Waiting)
    };
    if process.has_thread(runs) { 'R' } else { 'S' }
}

fn state_name(letter: char) -> &'static str {
    match letter {
        'R' => "R (running)",
        'T' => "T (stopped)",
        't' => "t (tracing stop)",
        'Z' => "Z (zombie)",
        _ => "S (sleeping)",
    }
}

fn comm(process: &Arc<Process>) -> String {
    let name = match process.first_thread() {
        Some(thread) => thread.comm().to_vec(),
        None => process
            .image()
            .path
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or(&[])
            .to_vec(),
    };
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len()).min(15);
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// Bytes mapped and pages resident; nothing once the process has ended.
fn sizes(process: &Arc<Process>) -> (u64, u64) {
    if process.first_thread().is_none() {
        return (0, 0);
    }
    let mm = process.mm();
    (mm.size(), mm.resident_pages())
}

pub(super) fn stat(process: &Arc<Process>) -> Result<Vec<u8>> {
    let (user, system) = process.times();
    let (children_user, children_system) = process.children_times();
    let (size, resident) = sizes(process);
    let thread = process.first_thread();
    let nice = thread.as_ref().map_or(0, |thread| thread.nice());
    let policy = thread
        .as_ref()
        .map_or_else(Default::default, |thread| thread.policy.get());
    // By which it goes, be it inherited; the policy's own is in another field.
    let priority = match thread.as_ref().map_or(0, |thread| schedule::priority(thread)) {
        0 => 20 + i64::from(nice),
        priority => -1 - i64::from(priority),
    };
    let session = process.session();
    let (tty, foreground) = match session.tty() {
        Some(tty) => (
            crate::tty::device::number_of(&tty).encode(),
            tty.foreground_group().unwrap_or(-1),
        ),
        None => (0, -1),
    };
    let mut out = String::new();
    // Written into memory: cannot fail. Fields 1 to 24 of proc(5), then those that top and ps read.
    let _ = write!(
        out,
        "{} ({}) {} {} {} {} {tty} {foreground} 0 0 0 0 0 {} {} {} {} {} {nice} {} 0 {} {size} {resident} {}",
        process.pid(),
        comm(process),
        state(process),
        process.parent(),
        process.group(),
        session.id(),
        user / NANOS_PER_TICK,
        system / NANOS_PER_TICK,
        children_user / NANOS_PER_TICK,
        children_system / NANOS_PER_TICK,
        priority,
        process.thread_count(),
        namespace::current().time.shown(CLOCK_BOOTTIME, process.start_ns()) / NANOS_PER_TICK,
        u64::MAX,
    );
    let last_cpu = thread.as_ref().map_or(0, |thread| thread.last_cpu());
    // startcode to cnswap, exit_signal, processor, rt_priority, policy, then what is not kept.
    let _ = writeln!(
        out,
        " 0 0 0 0 0 0 0 0 0 0 0 0 17 {last_cpu} {} {} 0 0 0 0 0 0 0 0 0 0 0",
        policy.priority, policy.number
    );
    Ok(out.into_bytes())
}

/// Of the thread of this number, or the process.
pub(super) fn status(pid: Pid) -> Result<Vec<u8>> {
    let process = &find(pid).map_err(|_| Errno::ESRCH)?;
    let credentials = task::thread(pid).map_or_else(|| process.credentials(), |thread| thread.credentials());
    let (size, resident) = sizes(process);
    let kib = |bytes: u64| bytes / 1024;
    let mut groups = String::new();
    groups.try_room(credentials.groups.len() * 11)?;
    for group in credentials.groups.iter() {
        // Written into memory: cannot fail.
        let _ = write!(groups, "{group} ");
    }
    let mut text = format!(
        "Name:\t{}\nUmask:\t{:04o}\nState:\t{}\nTgid:\t{}\nPid:\t{pid}\nPPid:\t{}\nTracerPid:\t{}\n\
         Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nFDSize:\t{}\nGroups:\t{groups}\n\
         VmSize:\t{:8} kB\nVmRSS:\t{:8} kB\nThreads:\t{}\n",
        comm(process),
        process.fs().map_or(0, |fs| fs.umask()),
        state_name(state(process)),
        process.pid(),
        process.parent(),
        process.first_thread().and_then(|thread| thread.tracer()).unwrap_or(0),
        credentials.uid,
        credentials.euid,
        credentials.suid,
        credentials.fsuid,
        credentials.gid,
        credentials.egid,
        credentials.sgid,
        credentials.fsgid,
        process.files().map_or(0, |files| files.size()),
        kib(size),
        kib(resident * PAGE_SIZE as u64),
        process.thread_count(),
    );
    let sets = &credentials.capabilities;
    for (name, set) in [
        ("Inh", sets.inheritable),
        ("Prm", sets.permitted),
        ("Eff", sets.effective),
        ("Bnd", sets.bounding),
        ("Amb", sets.ambient),
    ] {
        let _ = writeln!(text, "Cap{name}:\t{:016x}", set.bits());
    }
    let _ = writeln!(text, "NoNewPrivs:\t{}", u8::from(credentials.no_new_privileges));
    let filter = credentials.filter.as_ref();
    let _ = writeln!(
        text,
        "Seccomp:\t{}\nSeccomp_filters:\t{}",
        filter.map_or(0, |filter| filter.mode()),
        filter.map_or(0, |filter| filter.count())
    );
    Ok(text.into_bytes())
}

pub(super) fn memory(process: &Arc<Process>) -> Result<Vec<u8>> {
    let (size, resident) = sizes(process);
    Ok(format!("{} {resident} 0 0 0 0 0\n", size / PAGE_SIZE as u64).into_bytes())
}

pub(super) fn name(process: &Arc<Process>) -> Result<Vec<u8>> {
    Ok(format!("{}\n", comm(process)).into_bytes())
}

/// As it was at execve; what a program writes over its arguments later does not show.
pub(super) fn command_line(process: &Arc<Process>) -> Result<Vec<u8>> {
    Ok(if process.first_thread().is_some() {
        process.image().arguments.clone()
    } else {
        Vec::new()
    })
}

pub(super) fn environment(process: &Arc<Process>) -> Result<Vec<u8>> {
    Ok(process.image().environment.clone())
}

pub(super) fn auxiliary_vector(process: &Arc<Process>) -> Result<Vec<u8>> {
    Ok(process
        .image()
        .auxv
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect())
}

pub(super) fn limits(process: &Arc<Process>) -> Result<Vec<u8>> {
    const NAMES: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let show = |value: u64| {
        if value == INFINITY {
            String::from("unlimited")
        } else {
            format!("{value}")
        }
    };
    let limits = process.limits();
    let mut out = format!(
        "{:<25} {:<20} {:<20} {:<10}\n",
        "Limit", "Soft Limit", "Hard Limit", "Units"
    );
    for (number, (name, unit)) in (0..).zip(NAMES) {
        let limit = limits.by_number(number)?;
        // Written into memory: cannot fail.
        let _ = writeln!(
            out,
            "{name:<25} {:<20} {:<20} {unit:<10}",
            show(limit.soft),
            show(limit.hard)
        );
    }
    Ok(out.into_bytes())
}

/// Where a process waits is a future and no function of the kernel: there is no name, and `ps` shows none.
pub(super) fn wait_channel(_: &Arc<Process>) -> Result<Vec<u8>> {
    Ok(b"0".to_vec())
}

fn location(pid: Pid, place: Place) -> Result<Location> {
    let fs = find(pid)?.fs().ok_or(Errno::ENOENT)?;
    match place {
        Place::Root => Ok(fs.root()),
        Place::WorkingDirectory => Ok(fs.working_directory()),
        Place::Program => Err(Errno::ENOENT),
    }
}

pub(super) fn describe_place(pid: Pid, place: Place) -> Result<Vec<u8>> {
    let process = find(pid)?;
    if place == Place::Program {
        let path = process.image().path.clone();
        return if path.is_empty() { Err(Errno::ENOENT) } else { Ok(path) };
    }
    let root = process.fs().ok_or(Errno::ENOENT)?.root();
    Ok(path::path_of(&location(pid, place)?, &root).display())
}

/// The program is followed by its path; root and working directory by themselves.
pub(super) fn follow_place(pid: Pid, place: Place) -> Option<Result<Target>> {
    match place {
        Place::Program => None,
        Place::Root | Place::WorkingDirectory => Some(location(pid, place).map(Target::Location)),
    }
}

pub(super) fn describe_descriptor(pid: Pid, fd: i32) -> Result<Vec<u8>> {
    let process = find(pid)?;
    let file = process
        .files()
        .ok_or(Errno::ENOENT)?
        .get(fd)
        .map_err(|_| Errno::ENOENT)?;
    let root = process.fs().ok_or(Errno::ENOENT)?.root();
    Ok(path::path_of(file.location(), &root).display())
}

pub(super) fn follow_descriptor(pid: Pid, fd: i32) -> Option<Result<Target>> {
    let file = find(pid).ok()?.files()?.get(fd).ok()?;
    Some(Ok(Target::Location(file.location().clone())))
}
