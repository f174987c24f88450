//! Signals that are read: `signalfd`.

use std::{
    ffi::c_void,
    sync::atomic::{AtomicI32, Ordering::SeqCst},
    thread,
};

use crate::{
    sys::{self, Sys, fork, kill, mask, set_of, wait_exit},
    syscall,
    timers::{MS, event},
};

crate::tests! { "signalfds":
    arguments_are_checked;
    a_signal_is_read_with_all_that_is_known;
    a_childs_end_is_read;
    a_timers_expiry_is_read;
    as_many_are_read_as_there_is_room_for;
    polls_and_reads_are_woken;
    a_thread_reads_its_own_and_its_processes;
    a_child_reads_its_own;
    another_mask_takes_effect_at_once;
    a_handler_interrupts_a_read;
    each_signal_is_taken_once (60);
}

const ONE: i32 = libc::SIGUSR1;
const TWO: i32 = libc::SIGUSR2;
const RECORD: usize = 128;
const NOTHING: Result<Vec<Record>, i32> = Err(libc::EAGAIN);

/// What was read of a signal, by the fields of `struct signalfd_siginfo`.
type Record = [u8; RECORD];

fn own() -> i32 {
    std::process::id() as i32
}

fn field(record: &Record, at: usize) -> i32 {
    i32::from_ne_bytes(record[at..at + 4].try_into().expect("four bytes"))
}

fn wide(record: &Record, at: usize) -> u64 {
    u64::from_ne_bytes(record[at..at + 8].try_into().expect("eight bytes"))
}

/// Makes a file, or changes its mask.
fn signalfd(file: i32, signals: &[i32], flags: i32) -> Sys {
    let set = set_of(signals);
    syscall!(SYS_signalfd4, file, &raw const set, 8, flags)
}

/// Blocks the signals and makes a file for them.
fn blocked(signals: &[i32], flags: i32) -> i32 {
    mask(libc::SIG_BLOCK, signals);
    signalfd(-1, signals, flags).expect("signalfd4") as i32
}

fn read(file: i32, most: usize) -> Result<Vec<Record>, i32> {
    let mut bytes = vec![0xee; most * RECORD + 5];
    let count = sys::read(file, &mut bytes)?;
    assert_eq!(count % RECORD, 0);
    Ok(bytes[..count]
        .chunks(RECORD)
        .map(|record| record.try_into().expect("a record"))
        .collect())
}

fn numbers(read: Result<Vec<Record>, i32>) -> Result<Vec<i32>, i32> {
    Ok(read?.iter().map(|record| field(record, 0)).collect())
}

fn queue(signo: i32, value: u64) {
    let mut words = [0u64; 16];
    words[0] = signo as u64;
    words[1] = libc::SI_QUEUE as u32 as u64;
    words[2] = own() as u64 | 5 << 32;
    words[3] = value;
    syscall!(SYS_rt_sigqueueinfo, own(), signo, words.as_ptr()).expect("rt_sigqueueinfo");
}

fn arguments_are_checked() {
    let set = set_of(&[ONE]);
    let make = |file: i32, mask: usize, size: usize, flags: i32| syscall!(SYS_signalfd4, file, mask, size, flags);
    let good = &raw const set as usize;
    for size in [0, 4, 16, 128] {
        assert_eq!(make(-1, good, size, 0), Err(libc::EINVAL));
    }
    assert_eq!(make(-1, 8, 8, 0), Err(libc::EFAULT));
    assert_eq!(make(-1, good, 8, 1), Err(libc::EINVAL));
    assert_eq!(make(-2, good, 8, 0), Err(libc::EBADF));
    assert_eq!(make(99, good, 8, 0), Err(libc::EBADF));
    let (from, _) = sys::pipe(0);
    assert_eq!(make(from, good, 8, 0), Err(libc::EINVAL), "no signal file");
    let file = make(-1, good, 8, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).expect("signalfd4") as i32;
    assert_eq!(syscall!(SYS_fcntl, file, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
    assert_eq!(
        syscall!(SYS_fcntl, file, libc::F_GETFL),
        Ok((libc::O_RDWR | libc::O_NONBLOCK) as usize)
    );
    let link = std::fs::read_link(format!("/proc/self/fd/{file}")).expect("its link");
    assert_eq!(link.to_str(), Some("anon_inode:[signalfd]"));
    assert_eq!(make(file, good, 8, 0), Ok(file as usize), "the same one");
    assert_eq!(sys::read(file, &mut [0; RECORD - 1]), Err(libc::EINVAL));
    assert_eq!(sys::read(file, &mut [0; RECORD]), Err(libc::EAGAIN));
    assert_eq!(sys::write(file, &[0; RECORD]), Err(libc::EINVAL));
    assert_eq!(sys::poll(file, libc::POLLIN | libc::POLLOUT, 0), 0);
    #[cfg(target_arch = "x86_64")]
    {
        let plain = syscall!(SYS_signalfd, -1i32, good, 8).expect("signalfd");
        assert_eq!(syscall!(SYS_fcntl, plain, libc::F_GETFD), Ok(0));
    }
    // Nobody can have these.
    let file = signalfd(-1, &[libc::SIGKILL, libc::SIGSTOP], 0);
    assert!(file.is_ok());
}

fn a_signal_is_read_with_all_that_is_known() {
    let file = blocked(&[ONE, 40, libc::SIGSEGV], libc::SFD_NONBLOCK);
    kill(own(), ONE).expect("kill");
    let record = read(file, 1).expect("a signal")[0];
    let mut expected = [0; RECORD];
    let put = |record: &mut Record, at: usize, value: i32| record[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    put(&mut expected, 0, ONE);
    put(&mut expected, 12, own());
    // SAFETY: always sound.
    put(&mut expected, 16, unsafe { libc::getuid() } as i32);
    assert_eq!(record, expected, "and nothing else");
    assert_eq!(read(file, 1), NOTHING);
    queue(40, 7 << 32 | 6);
    let record = read(file, 1).expect("a signal")[0];
    put(&mut expected, 0, 40);
    put(&mut expected, 8, libc::SI_QUEUE);
    put(&mut expected, 16, 5);
    put(&mut expected, 44, 6);
    expected[48..56].copy_from_slice(&(7_u64 << 32 | 6).to_ne_bytes());
    assert_eq!(record, expected);
    syscall!(SYS_tgkill, own(), own(), libc::SIGSEGV).expect("tgkill");
    let record = read(file, 1).expect("a signal")[0];
    assert_eq!(
        [0, 8, 12].map(|at| field(&record, at)),
        [libc::SIGSEGV, libc::SI_TKILL, own()]
    );
    assert_eq!(wide(&record, 72), 0, "no address: it was no fault");
    // A page that is not there takes nothing away.
    kill(own(), ONE).expect("kill");
    assert_eq!(syscall!(SYS_read, file, sys::memory(4096), RECORD), Ok(RECORD));
}

fn a_childs_end_is_read() {
    let file = blocked(&[libc::SIGCHLD], 0);
    let child = fork(|| 41);
    let record = read(file, 1).expect("a signal")[0];
    // SAFETY: always sound.
    let uid = unsafe { libc::getuid() } as i32;
    assert_eq!(
        [0, 8, 12, 16, 40].map(|at| field(&record, at)),
        [libc::SIGCHLD, libc::CLD_EXITED, child, uid, 41]
    );
    assert_eq!(wait_exit(child), 41);
}

fn a_timers_expiry_is_read() {
    let file = blocked(&[ONE], 0);
    let told = event(libc::SIGEV_SIGNAL, ONE, 0x1_0000_0007);
    let (mut first, mut number) = (0i32, 0i32);
    for number in [&raw mut first, &raw mut number] {
        syscall!(SYS_timer_create, libc::CLOCK_MONOTONIC, &raw const told, number).expect("timer_create");
    }
    let setting = [sys::timespec(10 * MS), sys::timespec(10 * MS)];
    syscall!(SYS_timer_settime, number, 0, setting.as_ptr(), 0).expect("timer_settime");
    sys::sleep_ms(55);
    for least in [4, 0] {
        let record = read(file, 1).expect("a signal")[0];
        assert_eq!([0, 8, 24].map(|at| field(&record, at)), [ONE, libc::SI_TIMER, number]);
        assert_eq!((field(&record, 44), wide(&record, 48)), (7, 0x1_0000_0007));
        let overruns = field(&record, 32);
        assert!(overruns >= least, "{overruns}");
        assert_eq!(syscall!(SYS_timer_getoverrun, number), Ok(overruns as usize));
    }
}

fn as_many_are_read_as_there_is_room_for() {
    let file = blocked(&[ONE, TWO, 40, 41], libc::SFD_NONBLOCK);
    for (signo, value) in [(41, 1), (40, 2), (40, 3), (TWO, 4), (TWO, 5), (ONE, 6)] {
        queue(signo, value);
    }
    assert_eq!(numbers(read(file, 2)), Ok(vec![ONE, TWO]), "the lowest first");
    assert_eq!(sys::poll(file, libc::POLLIN, 0), libc::POLLIN);
    let rest = read(file, 10).expect("the rest");
    let seen: Vec<_> = rest.iter().map(|record| (field(record, 0), wide(record, 48))).collect();
    assert_eq!(seen, [(40, 2), (40, 3), (41, 1)], "a standard signal is there once");
    assert_eq!(read(file, 1), NOTHING);
    // What the mask leaves out stays pending.
    mask(libc::SIG_BLOCK, &[42]);
    queue(42, 0);
    assert_eq!(read(file, 1), NOTHING);
    let mut pending = 0u64;
    syscall!(SYS_rt_sigpending, &raw mut pending, 8).expect("rt_sigpending");
    assert_eq!(pending, set_of(&[42]));
}

fn polls_and_reads_are_woken() {
    let file = blocked(&[ONE, TWO], 0);
    assert_eq!(sys::poll(file, libc::POLLIN, 1), 0);
    for _ in 0..50 {
        let parent = own();
        let child = fork(|| {
            let _ = kill(parent, ONE);
            0
        });
        assert_eq!(
            sys::poll(file, libc::POLLIN | libc::POLLRDNORM | libc::POLLOUT, 5000),
            libc::POLLIN
        );
        assert_eq!(numbers(read(file, 1)), Ok(vec![ONE]));
        assert_eq!(wait_exit(child), 0);
        let child = fork(|| {
            let _ = kill(parent, TWO);
            0
        });
        assert_eq!(numbers(read(file, 1)), Ok(vec![TWO]));
        assert_eq!(wait_exit(child), 0);
    }
}

fn a_thread_reads_its_own_and_its_processes() {
    static TID: AtomicI32 = AtomicI32::new(0);
    let file = blocked(&[ONE, TWO], libc::SFD_NONBLOCK);
    let other = thread::spawn(move || {
        TID.store(syscall!(SYS_gettid).expect("gettid") as i32, SeqCst);
        // Sent to this thread: another does not see it.
        assert_eq!(sys::poll(file, libc::POLLIN, 10_000), libc::POLLIN);
        assert_eq!(numbers(read(file, 1)), Ok(vec![ONE]));
        TID.store(0, SeqCst);
        // Sent to the process: who comes first has it.
        assert_eq!(sys::poll(file, libc::POLLIN, 10_000), libc::POLLIN);
        numbers(read(file, 1))
    });
    while TID.load(SeqCst) == 0 {
        sys::sleep_ms(1);
    }
    sys::sleep_ms(20);
    syscall!(SYS_tgkill, own(), TID.load(SeqCst), ONE).expect("tgkill");
    assert_eq!(sys::poll(file, libc::POLLIN, 0), 0);
    assert_eq!(read(file, 1), NOTHING);
    while TID.load(SeqCst) != 0 {
        sys::sleep_ms(1);
    }
    kill(own(), TWO).expect("kill");
    assert_eq!(other.join().expect("the thread"), Ok(vec![TWO]));
    assert_eq!(read(file, 1), NOTHING);
}

fn a_child_reads_its_own() {
    let file = blocked(&[ONE], 0);
    kill(own(), ONE).expect("kill");
    let (ready, tell) = sys::pipe(0);
    let child = fork(|| {
        let none = sys::poll(file, libc::POLLIN, 0);
        let _ = sys::write(tell, b"x");
        let woken = sys::poll(file, libc::POLLIN, 10_000);
        i32::from(none != 0 || woken != libc::POLLIN || numbers(read(file, 1)) != Ok(vec![ONE]))
    });
    assert_eq!(sys::read(ready, &mut [0]), Ok(1));
    sys::sleep_ms(20);
    kill(child, ONE).expect("kill");
    assert_eq!(wait_exit(child), 0);
    assert_eq!(numbers(read(file, 1)), Ok(vec![ONE]), "the parent's is there");
}

fn another_mask_takes_effect_at_once() {
    let file = blocked(&[ONE, TWO], 0);
    signalfd(file, &[ONE], 0).expect("signalfd4");
    kill(own(), TWO).expect("kill");
    assert_eq!(sys::poll(file, libc::POLLIN, 0), 0);
    let poller = thread::spawn(move || sys::poll(file, libc::POLLIN, 10_000));
    let reader = thread::spawn(move || numbers(read(file, 1)));
    sys::sleep_ms(20);
    signalfd(file, &[TWO], 0).expect("signalfd4");
    assert_eq!(reader.join().expect("the reader"), Ok(vec![TWO]));
    // The reader may have been faster.
    kill(own(), TWO).expect("kill");
    assert_eq!(poller.join().expect("the poller"), libc::POLLIN);
}

static COUNT: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    COUNT.fetch_add(1, SeqCst);
}

fn a_handler_interrupts_a_read() {
    let file = blocked(&[ONE], 0);
    for (flags, expected) in [(0, Err(libc::EINTR)), (libc::SA_RESTART, Ok(vec![ONE]))] {
        sys::handle(TWO, flags, &[], count);
        let parent = own();
        let child = fork(|| {
            sys::sleep_ms(30);
            let _ = kill(parent, TWO);
            sys::sleep_ms(30);
            let _ = kill(parent, ONE);
            0
        });
        assert_eq!(numbers(read(file, 1)), expected, "flags {flags:#x}");
        while sys::wait(child, 0) == Err(libc::EINTR) {}
    }
    assert_eq!(COUNT.load(SeqCst), 2);
}

fn each_signal_is_taken_once() {
    const SIGNALS: i32 = 2000;
    const READERS: usize = 3;
    let file = blocked(&[40, 41], 0);
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            thread::spawn(move || {
                let mut taken = 0;
                loop {
                    for signo in numbers(read(file, 4)).expect("signals") {
                        if signo == 41 {
                            return taken;
                        }
                        taken += 1;
                    }
                }
            })
        })
        .collect();
    for value in 0..SIGNALS {
        queue(40, value as u64);
    }
    // Readers that have gone leave the rest to the others, and a batch may hold several ends.
    let mut taken = 0;
    let mut readers: Vec<_> = readers.into_iter().map(Some).collect();
    while readers.iter().any(Option::is_some) {
        queue(41, 0);
        sys::sleep_ms(5);
        for reader in &mut readers {
            if reader.as_ref().is_some_and(|reader| reader.is_finished()) {
                taken += reader.take().expect("a reader").join().expect("a reader");
            }
        }
    }
    syscall!(SYS_fcntl, file, libc::F_SETFL, libc::O_NONBLOCK).expect("fcntl");
    while let Ok(rest) = numbers(read(file, 16)) {
        taken += rest.iter().filter(|signo| **signo == 40).count() as i32;
    }
    assert_eq!(taken, SIGNALS);
}
