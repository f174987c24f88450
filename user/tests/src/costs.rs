//! What calls, interrupts and forks cost in memory: nothing, and it is counted.

use std::{
    ffi::c_void,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use crate::{
    programs, runner,
    sys::{self, Sys},
    syscall,
    usage::{self, Meter, Text},
};

crate::tests! { "costs":
    calls_that_do_not_block_allocate_nothing (60) [breenix "reads what Breenix counts"];
    a_return_from_a_handler_allocates_nothing [breenix "reads what Breenix counts"];
    calls_that_allocate_are_counted [breenix "reads what Breenix counts"];
    interrupts_allocate_free_and_lock_nothing (60) [breenix "reads what Breenix counts"];
    a_shell_that_forks_thousands_loses_no_memory (240) [breenix "reads what Breenix counts"];
}

/// What was allocated and freed on behalf of this thread: heap objects taken and given back, frames taken and given back.
struct OwnAllocations(Text);

impl OwnAllocations {
    fn new() -> Self {
        Self(Text::open("/proc/thread-self/allocations"))
    }

    fn now(&self) -> [u64; 4] {
        let names = ["heap_allocations", "heap_frees", "frame_allocations", "frame_frees"];
        self.0.read(|text| names.map(|name| usage::number(text, name)))
    }

    /// What `body` costs.
    fn of(&self, body: impl FnOnce()) -> [u64; 4] {
        let before = self.now();
        body();
        let after = self.now();
        std::array::from_fn(|kind| after[kind] - before[kind])
    }
}

/// A page of a file of tmpfs.
fn file_of_one_page() -> usize {
    let path = format!("/tmp/tests-costs-{}\0", std::process::id());
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
    let file = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o600).expect("open");
    syscall!(SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0).expect("unlink");
    assert_eq!(sys::write(file as i32, &[7; 4096]), Ok(4096));
    file
}

fn open(path: &std::ffi::CStr) -> usize {
    syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDWR).expect("open")
}

fn calls_that_do_not_block_allocate_nothing() {
    const TIMES: usize = 1000;
    let own = OwnAllocations::new();
    let mut page = [1u8; 4096];
    let buffer = page.as_mut_ptr() as usize;
    let pieces = [[buffer, 100], [buffer + 100, 200]];
    let pieces = pieces.as_ptr() as usize;
    let word = AtomicU32::new(1);
    let word = word.as_ptr() as usize;
    let (reader, writer) = sys::pipe(0);
    let (file, null, zero) = (file_of_one_page(), open(c"/dev/null"), open(c"/dev/zero"));
    let event = syscall!(SYS_eventfd2, 0, libc::EFD_NONBLOCK).expect("eventfd2");
    let copy = syscall!(SYS_dup, null).expect("dup");
    let (pid, tid) = (std::process::id(), syscall!(SYS_gettid).expect("gettid"));
    let mut now = [0u64; 2];
    let now = now.as_mut_ptr() as usize;
    let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let mut polled = [reader, writer, null as i32].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN | libc::POLLOUT,
        revents: 0,
    });
    let polled = polled.as_mut_ptr() as usize;
    let no_signal = [0u64; 1];
    let no_signal = no_signal.as_ptr() as usize;
    let mut no_time = [0u64; 2];
    let no_time = no_time.as_mut_ptr() as usize;
    let sets = [AtomicU64::new(0), AtomicU64::new(0)];
    let both = 1 << writer | 1 << null;
    let masked = [no_signal, 8];
    let masked = masked.as_ptr() as usize;
    let select = |read: u64, write: u64| {
        sets[0].store(read, SeqCst);
        sets[1].store(write, SeqCst);
        syscall!(SYS_pselect6, 64, sets[0].as_ptr(), sets[1].as_ptr(), 0, no_time, masked)
    };
    let other = file_of_one_page();
    let through_pipe = |length: usize| {
        syscall!(SYS_write, writer, buffer, length)?;
        syscall!(SYS_read, reader, buffer, length)
    };
    let calls: &[(&str, &dyn Fn() -> Sys)] = &[
        ("getpid", &|| syscall!(SYS_getpid)),
        ("gettid", &|| syscall!(SYS_gettid)),
        ("getppid", &|| syscall!(SYS_getppid)),
        ("getuid", &|| syscall!(SYS_getuid)),
        ("getpgid", &|| syscall!(SYS_getpgid, 0)),
        ("umask", &|| syscall!(SYS_umask, 0o22)),
        ("uname", &|| syscall!(SYS_uname, buffer)),
        ("getcpu", &|| syscall!(SYS_getcpu, buffer, 0, 0)),
        ("clock_gettime", &|| {
            syscall!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, now)
        }),
        ("clock_gettime realtime", &|| {
            syscall!(SYS_clock_gettime, libc::CLOCK_REALTIME, now)
        }),
        ("gettimeofday", &|| syscall!(SYS_gettimeofday, now, 0)),
        ("getrusage", &|| syscall!(SYS_getrusage, libc::RUSAGE_SELF, buffer)),
        ("times", &|| syscall!(SYS_times, buffer)),
        ("prlimit64", &|| {
            syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, 0, buffer)
        }),
        ("getrandom", &|| syscall!(SYS_getrandom, buffer, 16, 0)),
        ("brk", &|| syscall!(SYS_brk, 0)),
        ("sched_yield", &|| syscall!(SYS_sched_yield)),
        ("sched_getaffinity", &|| syscall!(SYS_sched_getaffinity, 0, 64, buffer)),
        ("rt_sigprocmask", &|| {
            syscall!(SYS_rt_sigprocmask, libc::SIG_BLOCK, no_signal, buffer, 8)
        }),
        ("rt_sigaction", &|| {
            syscall!(SYS_rt_sigaction, libc::SIGUSR1, 0, buffer, 8)
        }),
        ("rt_sigpending", &|| syscall!(SYS_rt_sigpending, buffer, 8)),
        ("sigaltstack", &|| syscall!(SYS_sigaltstack, 0, buffer)),
        ("kill 0", &|| syscall!(SYS_kill, pid, 0)),
        ("tgkill 0", &|| syscall!(SYS_tgkill, pid, tid, 0)),
        ("futex wake", &|| syscall!(SYS_futex, word, wake, 1, 0, 0, 0)),
        ("futex wait", &|| {
            assert_eq!(syscall!(SYS_futex, word, wait, 0, 0, 0, 0), Err(libc::EAGAIN));
            Ok(0)
        }),
        ("set_robust_list", &|| syscall!(SYS_set_robust_list, buffer, 24)),
        ("lseek", &|| syscall!(SYS_lseek, file, 0, libc::SEEK_SET)),
        ("fstat", &|| syscall!(SYS_fstat, file, buffer)),
        ("fcntl F_GETFL", &|| syscall!(SYS_fcntl, file, libc::F_GETFL)),
        ("fcntl F_SETFD", &|| {
            syscall!(SYS_fcntl, file, libc::F_SETFD, libc::FD_CLOEXEC)
        }),
        ("dup3 and close", &|| {
            syscall!(SYS_dup3, null, copy, 0)?;
            syscall!(SYS_close, copy)
        }),
        ("pread64 of tmpfs", &|| syscall!(SYS_pread64, file, buffer, 4096, 0)),
        ("pwrite64 of tmpfs", &|| syscall!(SYS_pwrite64, file, buffer, 4096, 0)),
        ("preadv of tmpfs", &|| syscall!(SYS_preadv, file, pieces, 2, 0, 0)),
        ("read of /dev/zero", &|| syscall!(SYS_read, zero, buffer, 4096)),
        ("read of /dev/null", &|| syscall!(SYS_read, null, buffer, 4096)),
        ("write of /dev/null", &|| syscall!(SYS_write, null, buffer, 4096)),
        ("writev of /dev/null", &|| syscall!(SYS_writev, null, pieces, 2)),
        ("a byte through a pipe", &|| through_pipe(1)),
        ("a page through a pipe", &|| through_pipe(4096)),
        ("ppoll of what is ready", &|| {
            syscall!(SYS_ppoll, polled, 3, no_time, 0, 8).inspect(|ready| assert_eq!(*ready, 2))
        }),
        ("ppoll of what is not", &|| {
            syscall!(SYS_ppoll, polled, 1, no_time, no_signal, 8).inspect(|ready| assert_eq!(*ready, 0))
        }),
        ("pselect6 of what is ready", &|| {
            select(0, both).inspect(|ready| assert_eq!(*ready, 2))
        }),
        ("pselect6 of what is not", &|| {
            select(1 << reader, 0).inspect(|ready| assert_eq!(*ready, 0))
        }),
        ("preadv2 of tmpfs", &|| syscall!(SYS_preadv2, file, pieces, 2, 0, 0, 0)),
        ("sendfile of tmpfs", &|| {
            syscall!(SYS_lseek, file, 0, libc::SEEK_SET)?;
            syscall!(SYS_sendfile, null, file, 0, 4096).inspect(|sent| assert_eq!(*sent, 4096))
        }),
        ("copy_file_range of tmpfs", &|| {
            syscall!(SYS_lseek, file, 0, libc::SEEK_SET)?;
            syscall!(SYS_lseek, other, 0, libc::SEEK_SET)?;
            syscall!(SYS_copy_file_range, file, 0, other, 0, 4096, 0).inspect(|sent| assert_eq!(*sent, 4096))
        }),
        ("FIONREAD of a pipe", &|| {
            syscall!(SYS_ioctl, reader, libc::FIONREAD, buffer)
        }),
        ("a number through an eventfd", &|| {
            syscall!(SYS_write, event, [3u64].as_ptr(), 8)?;
            syscall!(SYS_read, event, buffer, 8)
        }),
    ];
    let mut costly = Vec::new();
    // The first look writes to pages that the parent may not have written to since the fork: then they are copied here.
    let _copied = own.of(|| {});
    for (name, call) in calls {
        // The first time may make what stays: a pipe's page, the stack's.
        call().unwrap_or_else(|error| panic!("{name}: error {error}"));
        let cost = own.of(|| {
            for _ in 0..TIMES {
                let _ = call();
            }
        });
        if cost != [0; 4] {
            costly.push(format!("{name}: {cost:?}"));
        }
    }
    assert!(
        costly.is_empty(),
        "heap objects taken and given back, frames taken and given back in {TIMES} calls: {costly:#?}"
    );
    runner::note(&format!("{} calls, {TIMES} times each", calls.len()));
}

/// What a signal itself costs lies before the handler's look, and what its return costs after it.
fn a_return_from_a_handler_allocates_nothing() {
    static OWN: OnceLock<OwnAllocations> = OnceLock::new();
    static IN_HANDLER: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
    extern "C" fn look(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
        let now = OWN.get().expect("set before the signal").now();
        IN_HANDLER
            .iter()
            .zip(now)
            .for_each(|(kept, now)| kept.store(now, SeqCst));
    }
    let own = OWN.get_or_init(OwnAllocations::new);
    sys::handle(libc::SIGUSR1, 0, &[], look);
    let (pid, tid) = (std::process::id(), syscall!(SYS_gettid).expect("gettid"));
    for round in 0..100 {
        syscall!(SYS_tgkill, pid, tid, libc::SIGUSR1).expect("tgkill");
        let (after, before) = (own.now(), [0, 1, 2, 3].map(|kind: usize| IN_HANDLER[kind].load(SeqCst)));
        // In the first the program's own pages come, such as the one that the handler writes to.
        assert!(
            round == 0 || after == before,
            "round {round}: {before:?}, then {after:?}"
        );
    }
}

fn calls_that_allocate_are_counted() {
    let own = OwnAllocations::new();
    // The table of descriptors may grow for the first.
    let mut pipe = sys::pipe(0);
    sys::close(pipe.0);
    sys::close(pipe.1);
    let [taken, ..] = own.of(|| pipe = sys::pipe(0));
    assert!(taken >= 1, "a pipe is made of nothing");
    let [_, given, ..] = own.of(|| {
        sys::close(pipe.0);
        sys::close(pipe.1);
    });
    assert_eq!(given, taken, "a pipe's objects come back");
    let address = sys::memory(64 * 4096);
    let [_, _, frames, _] = own.of(|| (0..64).for_each(|page| sys::poke(address + page * 4096, 1)));
    assert!(
        (64..80).contains(&frames),
        "{frames} frames for 64 pages and their tables"
    );
    let [_, _, _, frames] = own.of(|| _ = syscall!(SYS_munmap, address, 64 * 4096));
    assert!(frames >= 64, "{frames} frames came back");
}

/// Interrupts since boot by kind, over all CPUs: of the timer, of other CPUs. Those of the console are for a shell's script:
/// it reads from it.
fn interrupts() -> [u64; 2] {
    ["TMR:", "IPI:"].map(|kind| sys::interrupts(kind).iter().sum())
}

/// Two threads on two CPUs that wake each other by futex.
fn ping_pong(cpus: &[usize], times: u32) {
    static BALL: AtomicU32 = AtomicU32::new(0);
    let players: Vec<_> = (0..2u32)
        .map(|own| {
            let cpu = cpus[own as usize % cpus.len()];
            thread::spawn(move || {
                sys::pin(&[cpu]);
                let word = BALL.as_ptr() as usize;
                loop {
                    let at = BALL.load(SeqCst);
                    if at >= times {
                        return;
                    }
                    if at % 2 == own {
                        BALL.store(at + 1, SeqCst);
                        let _ = syscall!(SYS_futex, word, libc::FUTEX_WAKE, 1, 0, 0, 0);
                    } else {
                        let _ = syscall!(SYS_futex, word, libc::FUTEX_WAIT, at, 0, 0, 0);
                    }
                }
            })
        })
        .collect();
    players.into_iter().for_each(|player| player.join().expect("join"));
}

fn interrupts_allocate_free_and_lock_nothing() {
    static DONE: AtomicBool = AtomicBool::new(false);
    let before = interrupts();
    // Something for the interrupts to interrupt: calls of every kind, and memory that comes and goes.
    let busy = thread::spawn(|| {
        while !DONE.load(SeqCst) {
            let (reader, writer) = sys::pipe(0);
            let _ = sys::write(writer, &[0; 64]);
            sys::close(reader);
            sys::close(writer);
            let address = sys::memory(8 * 4096);
            (0..8).for_each(|page| sys::poke(address + page * 4096, 1));
            let _ = syscall!(SYS_munmap, address, 8 * 4096);
        }
    });
    let sleeper = thread::spawn(|| {
        for _ in 0..300 {
            let time = sys::timespec(500_000);
            let _ = syscall!(SYS_nanosleep, &raw const time, 0);
        }
    });
    let cpus = sys::cpus();
    ping_pong(&cpus, 2000);
    sleeper.join().expect("join");
    DONE.store(true, SeqCst);
    busy.join().expect("join");
    let after = interrupts();
    let [timer, ipi]: [u64; 2] = std::array::from_fn(|kind| after[kind] - before[kind]);
    assert!(timer >= 100, "{timer} of the timer");
    assert!(ipi >= 100 || cpus.len() < 2, "{ipi} of other CPUs");
    let text = std::fs::read_to_string("/proc/breenix/interrupt_context").expect("interrupt_context");
    let rows: Vec<&str> = text.lines().skip(1).collect();
    assert!(rows.len() >= cpus.len(), "a row a CPU:\n{text}");
    for row in rows {
        let counts: Vec<&str> = row.split(' ').skip(1).collect();
        assert_eq!(counts, ["0", "0", "0"], "in interrupt context:\n{text}");
    }
    runner::note(&format!("{timer} interrupts of the timer, {ipi} of other CPUs"));
}

/// A shell that forks `2 * loops` times: a program and a subshell each.
fn forking_shell(loops: u32) {
    let script = format!("i=0; while [ $i -lt {loops} ]; do /bin/true; (exit 3); i=$((i + 1)); done; exit 7");
    let pid = sys::fork(|| programs::execute("/bin/sh", &["sh", "-c", &script]));
    assert_eq!(sys::wait_exit(pid), 7);
}

fn a_shell_that_forks_thousands_loses_no_memory() {
    let meter = Meter::new();
    // Tables that grow with the most processes at once, and the executor's slab, are there after it.
    forking_shell(100);
    let before = meter.settled();
    forking_shell(1000);
    if let Err(difference) = meter.check(before) {
        panic!("after 2000 forks: {difference}");
    }
    runner::note(&format!("2000 forks; before and after: {before}"));
}
