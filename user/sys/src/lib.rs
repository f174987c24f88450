//! System calls, raw: what a program hands over is what the kernel gets, and what it answers is what the program sees. For tests
//! and measurements of the calls themselves.
//!
//! The wrappers are safe in name only where a test asks for the impossible on purpose; a test that does so runs in a process of
//! its own.

#![expect(unsafe_code, reason = "raw system calls are what it is for")]
#![expect(clippy::not_unsafe_ptr_arg_deref, reason = "safe in name only, see above")]

pub use libc;

use std::{
    ffi::c_void,
    mem::{size_of, zeroed},
    ptr,
};

/// What a call gives: its value, or the positive error number.
pub type Sys = Result<usize, i32>;

/// Makes a call by number.
pub fn call(number: i64, arguments: &[usize]) -> Sys {
    let mut a = [0usize; 6];
    a[..arguments.len()].copy_from_slice(arguments);
    // SAFETY: the kernel checks every argument; memory that it changes is the test's own business.
    let value = unsafe { libc::syscall(number as libc::c_long, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if value == -1 { Err(errno()) } else { Ok(value as usize) }
}

/// Makes a call by libc's name for its number.
#[macro_export]
macro_rules! syscall {
    ($name:ident $(, $argument:expr)* $(,)?) => {
        $crate::call($crate::libc::$name, &[$($argument as usize),*])
    };
}

/// The last call's error number.
pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Forks; the child runs `child` and exits with what it gives. Returns the child's number.
pub fn fork(child: impl FnOnce() -> i32) -> i32 {
    try_fork(child).unwrap_or_else(|error| panic!("fork: error {error}"))
}

/// As [`fork`], where the fork itself may fail.
pub fn try_fork(child: impl FnOnce() -> i32) -> Result<i32, i32> {
    // SAFETY: the tests fork while they have one thread.
    match unsafe { libc::fork() } {
        -1 => Err(errno()),
        0 => exit(child()),
        pid => Ok(pid),
    }
}

/// Ends the process at once.
pub fn exit(status: i32) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(status) }
}

/// Waits for a child; its number and status.
pub fn wait(pid: i32, flags: i32) -> Result<(i32, i32), i32> {
    let mut status = 0i32;
    syscall!(SYS_wait4, pid, &raw mut status, flags, 0).map(|pid| (pid as i32, status))
}

/// Waits for a child to exit; its exit code.
///
/// # Panics
/// If it was killed.
pub fn wait_exit(pid: i32) -> i32 {
    let (_, status) = wait(pid, 0).expect("wait4");
    assert!(
        libc::WIFEXITED(status),
        "process {pid} ended by signal {}",
        status & 0x7f
    );
    libc::WEXITSTATUS(status)
}

/// Waits for a child to be killed; the signal's number.
///
/// # Panics
/// If it exited.
pub fn wait_killed(pid: i32) -> i32 {
    let (_, status) = wait(pid, 0).expect("wait4");
    assert!(
        libc::WIFSIGNALED(status),
        "process {pid} exited with {}",
        libc::WEXITSTATUS(status)
    );
    libc::WTERMSIG(status)
}

/// Runs `body` in a child that must exit with 0.
pub fn in_child(body: impl FnOnce()) {
    let pid = fork(|| {
        body();
        0
    });
    assert_eq!(wait_exit(pid), 0, "the child failed");
}

/// Sends a signal.
pub fn kill(pid: i32, signo: i32) -> Sys {
    syscall!(SYS_kill, pid, signo)
}

/// Maps memory; its address.
pub fn mmap(address: usize, length: usize, protection: i32, flags: i32) -> Sys {
    syscall!(SYS_mmap, address, length, protection, flags, -1i32, 0)
}

/// Private anonymous memory, readable and writable.
pub fn memory(length: usize) -> usize {
    mmap(
        0,
        length,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    )
    .expect("mmap")
}

/// Anonymous memory that children share.
pub fn shared(length: usize) -> usize {
    mmap(
        0,
        length,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
    )
    .expect("mmap shared")
}

/// Anonymous shared memory as atomic counters, all 0.
pub fn shared_counters(count: usize) -> &'static [std::sync::atomic::AtomicU64] {
    let address = shared(count * 8);
    // SAFETY: fresh, zeroed, aligned memory that is never unmapped.
    unsafe { std::slice::from_raw_parts(address as *const _, count) }
}

/// Reads a byte of memory.
pub fn peek(address: usize) -> u8 {
    // SAFETY: a test that reads what is not mapped wants the signal.
    unsafe { ptr::read_volatile(address as *const u8) }
}

/// Writes a byte of memory.
pub fn poke(address: usize, value: u8) {
    // SAFETY: the test's own mapping, or it wants the signal.
    unsafe { ptr::write_volatile(address as *mut u8, value) }
}

/// Calls code at an address.
pub fn jump(address: usize) {
    // SAFETY: the test wants the signal.
    let function = unsafe { std::mem::transmute::<usize, extern "C" fn()>(address) };
    function();
}

/// A thread that is to be joined.
pub struct Joinable(libc::pthread_t);

/// Starts a thread on a stack of the caller's, which stays mapped until the thread is joined.
pub fn thread_on(
    stack: usize,
    length: usize,
    body: extern "C" fn(*mut c_void) -> *mut c_void,
) -> Result<Joinable, i32> {
    let ok = |error| if error == 0 { Ok(()) } else { Err(error) };
    // SAFETY: attributes are initialised before use; the stack is the caller's promise.
    unsafe {
        let mut attributes: libc::pthread_attr_t = zeroed();
        let mut thread: libc::pthread_t = zeroed();
        ok(libc::pthread_attr_init(&mut attributes))?;
        ok(libc::pthread_attr_setstack(
            &mut attributes,
            stack as *mut c_void,
            length,
        ))?;
        ok(libc::pthread_create(&mut thread, &attributes, body, ptr::null_mut()))?;
        Ok(Joinable(thread))
    }
}

/// Waits for a thread to end.
pub fn join(thread: Joinable) -> Result<(), i32> {
    // SAFETY: it is joined once, its value is nobody's.
    match unsafe { libc::pthread_join(thread.0, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(error),
    }
}

/// Starts a process on a stack of the caller's, with what `flags` say in common (`CLONE_*` and a signal); its number. By
/// `CLONE_VFORK`, since the two would otherwise use the same thread-local storage at once.
pub fn clone_on(stack: usize, length: usize, flags: i32, body: extern "C" fn(*mut c_void) -> i32) -> Result<i32, i32> {
    let top = (stack + length) as *mut c_void;
    // SAFETY: the stack is the caller's promise; the caller waits until the child is gone.
    match unsafe { libc::clone(body, top, flags | libc::CLONE_VFORK, ptr::null_mut()) } {
        -1 => Err(errno()),
        pid => Ok(pid),
    }
}

/// A signal handler of the `SA_SIGINFO` form.
pub type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void);

/// Installs a handler, with other signals to be blocked meanwhile.
pub fn handle(signo: i32, flags: i32, mask: &[i32], handler: Handler) {
    // SAFETY: a zeroed sigaction is valid; the handlers of the tests do only what is safe in one.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags | libc::SA_SIGINFO;
        libc::sigemptyset(&mut action.sa_mask);
        for &signal in mask {
            libc::sigaddset(&mut action.sa_mask, signal);
        }
        assert_eq!(
            libc::sigaction(signo, &action, ptr::null_mut()),
            0,
            "sigaction {signo}: error {}",
            errno()
        );
    }
}

/// Sets a signal to `SIG_DFL` or `SIG_IGN`.
pub fn disposition(signo: i32, disposition: usize) {
    // SAFETY: no handler is involved.
    unsafe { libc::signal(signo, disposition) };
}

/// A signal's action as the kernel has it: handler, flags, restorer, mask.
pub type RawAction = [u64; 4];

/// Sets a signal's action, or looks at it, as it is: what it was.
pub fn exchange_action(signo: i32, new: Option<RawAction>) -> Result<RawAction, i32> {
    let mut old = [0; 4];
    let new = new.as_ref().map_or(ptr::null(), ptr::from_ref);
    syscall!(SYS_rt_sigaction, signo, new, old.as_mut_ptr(), 8)?;
    Ok(old)
}

/// Blocks or unblocks signals (`SIG_BLOCK`, `SIG_UNBLOCK`, `SIG_SETMASK`); the mask before as a word.
pub fn mask(how: i32, signals: &[i32]) -> u64 {
    let set = set_of(signals);
    let mut old = 0u64;
    syscall!(SYS_rt_sigprocmask, how, &raw const set, &raw mut old, 8).expect("rt_sigprocmask");
    old
}

/// Signals as the kernel's mask word.
pub fn set_of(signals: &[i32]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

/// What a handler was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The signal.
    pub signo: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub address: usize,
    /// `si_pid`.
    pub pid: i32,
    /// `si_value` as an integer.
    pub value: i32,
    /// `si_status`.
    pub status: i32,
}

/// Takes a handler's argument apart.
pub fn info(info: *mut libc::siginfo_t) -> Info {
    // SAFETY: called with what the kernel handed to a handler or filled in.
    unsafe {
        Info {
            signo: (*info).si_signo,
            code: (*info).si_code,
            address: (*info).si_addr() as usize,
            pid: (*info).si_pid(),
            value: (*info).si_value().sival_ptr as usize as i32,
            status: (*info).si_status(),
        }
    }
}

/// An empty `siginfo_t`.
pub fn empty_info() -> libc::siginfo_t {
    // SAFETY: all-zero is a valid siginfo_t.
    unsafe { zeroed() }
}

/// What a timer does that tells nobody.
pub fn silent_event() -> libc::sigevent {
    // SAFETY: all-zero is a valid sigevent.
    let mut event: libc::sigevent = unsafe { zeroed() };
    event.sigev_notify = libc::SIGEV_NONE;
    event
}

/// The machine's own counter, which every kernel leaves to programs: x86-64's time stamp, aarch64's virtual count. Its pace is the
/// machine's affair.
pub fn counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: always sound.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let count: u64;
        // SAFETY: reads a register.
        unsafe { std::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack)) };
        count
    }
}

/// This thread's thread pointer.
pub fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads a register, and on x86_64 the word of thread-local storage that holds it.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov {}, fs:[0]", out(reg) pointer, options(nostack, readonly));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nomem, nostack));
    }
    pointer
}

/// Makes a call by which a process or thread comes to be, which ends at once: it uses no memory, so that it may have any in common with
/// its maker.
pub fn make_and_exit(number: i64, arguments: [usize; 6]) -> Sys {
    let value: isize;
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the child, for which the call gives 0, runs nothing but these instructions.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, 60",
            "xor edi, edi",
            "syscall",
            "ud2",
            "2:",
            inlateout("rax") number as isize => value,
            inlateout("rdi") a => _,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
        );
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x8, 93",
            "svc 0",
            "brk 1",
            "2:",
            inlateout("x0") a as isize => value,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            inlateout("x8") number => _,
        );
    }
    usize::try_from(value).map_err(|_| -value as i32)
}

/// Nanoseconds of a clock.
pub fn clock(id: i32) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    syscall!(SYS_clock_gettime, id, &raw mut time).expect("clock_gettime");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Monotonic nanoseconds.
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// A duration as the kernel takes it.
pub fn timespec(nanoseconds: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (nanoseconds / 1_000_000_000) as i64,
        tv_nsec: (nanoseconds % 1_000_000_000) as i64,
    }
}

/// Sleeps, over any signal.
pub fn sleep_ms(milliseconds: u64) {
    let end = now() + milliseconds * 1_000_000;
    let time = timespec(end);
    while syscall!(
        SYS_clock_nanosleep,
        libc::CLOCK_MONOTONIC,
        libc::TIMER_ABSTIME,
        &raw const time,
        0
    )
    .is_err()
    {}
}

/// A pipe: the reading and the writing end.
pub fn pipe(flags: i32) -> (i32, i32) {
    let mut ends = [0i32; 2];
    syscall!(SYS_pipe2, ends.as_mut_ptr(), flags).expect("pipe2");
    (ends[0], ends[1])
}

/// Reads once.
pub fn read(descriptor: i32, buffer: &mut [u8]) -> Sys {
    syscall!(SYS_read, descriptor, buffer.as_mut_ptr(), buffer.len())
}

/// Writes once.
pub fn write(descriptor: i32, bytes: &[u8]) -> Sys {
    syscall!(SYS_write, descriptor, bytes.as_ptr(), bytes.len())
}

/// Closes.
pub fn close(descriptor: i32) {
    syscall!(SYS_close, descriptor).expect("close");
}

/// Polls one descriptor; what came, 0 on time-out.
pub fn poll(descriptor: i32, events: i16, milliseconds: u64) -> i16 {
    let mut entry = libc::pollfd {
        fd: descriptor,
        events,
        revents: 0,
    };
    let time = timespec(milliseconds * 1_000_000);
    syscall!(SYS_ppoll, &raw mut entry, 1, &raw const time, 0, 8).expect("ppoll");
    entry.revents
}

/// A terminal's settings.
pub fn terminal(descriptor: i32) -> Result<libc::termios, i32> {
    // SAFETY: all-zero is a valid termios.
    let mut settings: libc::termios = unsafe { zeroed() };
    syscall!(SYS_ioctl, descriptor, libc::TCGETS, &raw mut settings)?;
    Ok(settings)
}

/// Free memory in bytes, as the kernel says.
pub fn free_memory() -> u64 {
    // SAFETY: all-zero is a valid sysinfo.
    let mut info: libc::sysinfo = unsafe { zeroed() };
    syscall!(SYS_sysinfo, &raw mut info).expect("sysinfo");
    info.freeram * u64::from(info.mem_unit.max(1))
}

/// Bytes of page tables of programs, from `/proc/meminfo`.
pub fn page_tables() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("PageTables:"))
        .expect("PageTables");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Interrupts of a kind that each CPU has taken since boot, by `/proc/interrupts`.
///
/// # Panics
/// If there is no line of that kind.
pub fn interrupts(kind: &str) -> Vec<u64> {
    let text = std::fs::read_to_string("/proc/interrupts").expect("/proc/interrupts");
    let line = text.lines().find_map(|line| line.trim().strip_prefix(kind));
    let counts = line.unwrap_or_else(|| panic!("no {kind} in {text}"));
    let counts = counts.split_whitespace().map_while(|word| word.parse().ok());
    counts.collect()
}

/// A value of this program's auxiliary vector.
pub fn auxiliary(key: libc::c_ulong) -> usize {
    // SAFETY: always sound.
    unsafe { libc::getauxval(key) as usize }
}

/// How many CPUs this process may use.
pub fn cpus() -> Vec<usize> {
    let mut words = [0u64; 16];
    let bytes =
        syscall!(SYS_sched_getaffinity, 0, size_of::<[u64; 16]>(), words.as_mut_ptr()).expect("sched_getaffinity");
    (0..bytes * 8)
        .filter(|&cpu| words[cpu / 64] >> (cpu % 64) & 1 == 1)
        .collect()
}

/// Pins this thread to the CPUs given.
pub fn pin(cpus: &[usize]) {
    let mut words = [0u64; 16];
    for cpu in cpus {
        words[cpu / 64] |= 1 << (cpu % 64);
    }
    syscall!(SYS_sched_setaffinity, 0, size_of::<[u64; 16]>(), words.as_ptr()).expect("sched_setaffinity");
}

/// The CPU this thread is on.
pub fn cpu() -> usize {
    let mut cpu = 0u32;
    syscall!(SYS_getcpu, &raw mut cpu, 0, 0).expect("getcpu");
    cpu as usize
}
