//! Every system call: its name, its numbers, its handler. The dispatcher, the names in traces and `docs/SYSCALLS.md` all
//! come from this one list.
//!
//! A line is `name, x86_64 number, aarch64 number, kind(handler; arguments)`; `-` is a call that the architecture does not
//! have. Kinds:
//! - `now`, a plain function that never waits.
//! - `copies`, a plain function that waits for nothing but pages of its caller's memory: an [`Attempt`] that is repeated once the page
//!   at which it stopped is there, and so does nothing before its last copy can be made.
//! - `call`, an async function.
//! - `ready(handler, attempt; …)`, a `call` before which an [`Attempt`] is made with the same arguments. Where that stops for
//!   anything but an error it has done nothing.
//! - `large`, a `call` whose future is boxed so that it does not size every thread.
//! - `context`, made by [`context`](super::context) because it changes the caller's registers.
//!
//! Numbers: `arch/x86/entry/syscalls/syscall_64.tbl`, `include/uapi/asm-generic/unistd.h`.

use alloc::{boxed::Box, sync::Arc};

use hal::{
    abi::Abi,
    arch::{ABI, UserContext},
    traits::SyscallFrame,
};

use super::{
    Begun, FromRegister, capabilities, fs, futex, identity, ioprio, ipc, kcmp, membarrier, memory, net, pidfd, policy,
    prctl, process, process_vm, ptrace, sched, seccomp, setns, settle, signal, system, time, timers, unshare, uts,
};
use crate::{
    errno::{Errno, Result},
    fs::Stop,
    task::{Thread, rseq},
};

/// The number of `restart_syscall` on this machine.
pub const RESTART_SYSCALL: u64 = match ENTRIES[Call::restart_syscall as usize].number(ABI) {
    Some(number) => number as u64,
    None => panic!("every architecture has it"),
};

/// One past the largest number.
const NUMBERS: usize = 512;

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The call.
    pub call: Call,
    /// Its name.
    pub name: &'static str,
    /// Its number on x86_64.
    pub x86_64: Option<u16>,
    /// Its number on aarch64.
    pub aarch64: Option<u16>,
    /// How many arguments it takes.
    pub arguments: u8,
}

impl Entry {
    /// Its number, where the architecture has it.
    pub const fn number(&self, abi: Abi) -> Option<u16> {
        match abi {
            Abi::X86_64 => self.x86_64,
            Abi::Aarch64 => self.aarch64,
        }
    }
}

macro_rules! number {
    (-) => {
        None
    };
    ($number:literal) => {
        Some($number)
    };
}

/// A plain function, with the arguments it declares.
macro_rules! apply {
    ($handler:path, 0, $t:ident, $a:ident) => {
        $handler($t)
    };
    ($handler:path, 1, $t:ident, $a:ident) => {
        $handler($t, r($a[0]))
    };
    ($handler:path, 2, $t:ident, $a:ident) => {
        $handler($t, r($a[0]), r($a[1]))
    };
    ($handler:path, 3, $t:ident, $a:ident) => {
        $handler($t, r($a[0]), r($a[1]), r($a[2]))
    };
    ($handler:path, 4, $t:ident, $a:ident) => {
        $handler($t, r($a[0]), r($a[1]), r($a[2]), r($a[3]))
    };
    ($handler:path, 5, $t:ident, $a:ident) => {
        $handler($t, r($a[0]), r($a[1]), r($a[2]), r($a[3]), r($a[4]))
    };
    ($handler:path, 6, $t:ident, $a:ident) => {
        $handler($t, r($a[0]), r($a[1]), r($a[2]), r($a[3]), r($a[4]), r($a[5]))
    };
}

/// A call made without a wait, if that can be.
macro_rules! attempt {
    (now, $handler:path, , $count:tt, $t:ident, $a:ident) => {
        apply!($handler, $count, $t, $a).map_err(Stop::Errno)
    };
    (copies, $handler:path, , $count:tt, $t:ident, $a:ident) => {
        apply!($handler, $count, $t, $a)
    };
    (ready, $handler:path, $attempt:path, $count:tt, $t:ident, $a:ident) => {
        apply!($attempt, $count, $t, $a)
    };
    ($kind:ident, $handler:path, , $count:tt, $t:ident, $a:ident) => {
        Err(Stop::WouldBlock)
    };
}

macro_rules! invoke {
    // Never made by this way: `handle` asks `changes_context` first.
    (context, $handler:path, $count:tt, $t:ident, $a:ident) => {
        Err(Errno::ENOSYS)
    };
    (now, $handler:path, $count:tt, $t:ident, $a:ident) => {
        apply!($handler, $count, $t, $a)
    };
    (copies, $handler:path, $count:tt, $t:ident, $a:ident) => {
        fs::user::with_faults($t, || apply!($handler, $count, $t, $a)).await
    };
    (large, $handler:path, $count:tt, $t:ident, $a:ident) => {
        Box::pin(apply!($handler, $count, $t, $a)).await
    };
    ($kind:ident, $handler:path, $count:tt, $t:ident, $a:ident) => {
        apply!($handler, $count, $t, $a).await
    };
}

macro_rules! is_context {
    (context) => {
        true
    };
    ($kind:ident) => {
        false
    };
}

macro_rules! calls {
    ($($name:ident, $x86_64:tt, $aarch64:tt, $kind:ident($handler:path $(, $attempt:path)?; $count:tt);)*) => {
        /// A system call that the kernel has, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(non_camel_case_types, missing_docs, reason = "the names are Linux's")]
        #[repr(u16)]
        pub enum Call { $($name),* }

        /// The whole table.
        pub const ENTRIES: &[Entry] = &[$(Entry {
            call: Call::$name,
            name: stringify!($name),
            x86_64: number!($x86_64),
            aarch64: number!($aarch64),
            arguments: $count,
        }),*];

        impl Call {
            /// Whether [`super::context`] makes the call.
            #[inline]
            pub const fn changes_context(self) -> bool {
                match self { $(Self::$name => is_context!($kind)),* }
            }
        }

        /// Makes a call for which [`Call::changes_context`] does not hold.
        pub(super) async fn dispatch(t: &Arc<Thread>, call: Call, a: [u64; 6]) -> Result<u64> {
            match call { $(Call::$name => invoke!($kind, $handler, $count, t, a)),* }
        }

        /// Makes a call if it need not wait.
        #[inline]
        pub(super) fn at_once(t: &Arc<Thread>, call: Call, context: &mut UserContext) -> Begun {
            let a = context.syscall_arguments();
            match call {
                $(Call::$name => {
                    settle(context, call, attempt!($kind, $handler, $($attempt)?, $count, t, a))
                }),*
            }
        }

        /// Each call's name and the bytes of its future.
        #[cfg(test)]
        fn future_sizes(t: &Arc<Thread>, a: [u64; 6]) -> std::vec::Vec<(&'static str, usize)> {
            std::vec![$((stringify!($name), size_of_val(&async move {
                let made: Result<u64> = invoke!($kind, $handler, $count, t, a);
                made
            }))),*]
        }
    };
}

fn r<T: FromRegister>(register: u64) -> T {
    T::from_register(register)
}

/// The calls by number, for this machine.
static BY_NUMBER: [Option<Call>; NUMBERS] = by_number(ABI);

const fn by_number(abi: Abi) -> [Option<Call>; NUMBERS] {
    let mut table = [None; NUMBERS];
    let mut i = 0;
    while i < ENTRIES.len() {
        if let Some(number) = ENTRIES[i].number(abi) {
            assert!(table[number as usize].is_none(), "two calls have one number");
            table[number as usize] = Some(ENTRIES[i].call);
        }
        i += 1;
    }
    table
}

/// The call with a number on this machine.
pub fn find(number: u64) -> Option<Call> {
    *BY_NUMBER.get(usize::try_from(number).ok()?)?
}

impl Call {
    /// The call's name.
    pub fn name(self) -> &'static str {
        ENTRIES[self as usize].name
    }
}

calls! {
    // Processes.
    clone, 56, 220, context(context; 5);
    clone3, 435, 435, context(context; 2);
    fork, 57, -, context(context; 0);
    vfork, 58, -, context(context; 0);
    execve, 59, 221, context(context; 3);
    execveat, 322, 281, context(context; 5);
    exit, 60, 93, now(process::exit; 1);
    exit_group, 231, 94, now(process::exit_group; 1);
    wait4, 61, 260, call(process::wait4; 4);
    waitid, 247, 95, call(process::waitid; 5);
    getpid, 39, 172, now(process::getpid; 0);
    gettid, 186, 178, now(process::gettid; 0);
    getppid, 110, 173, now(process::getppid; 0);
    setpgid, 109, 154, now(process::setpgid; 2);
    getpgid, 121, 155, now(process::getpgid; 1);
    getpgrp, 111, -, now(process::getpgrp; 0);
    setsid, 112, 157, now(process::setsid; 0);
    getsid, 124, 156, now(process::getsid; 1);
    unshare, 272, 97, now(unshare::unshare; 1);
    setns, 308, 268, large(setns::setns; 2);
    set_tid_address, 218, 96, now(process::set_tid_address; 1);
    pidfd_open, 434, 434, now(pidfd::pidfd_open; 2);
    pidfd_send_signal, 424, 424, call(pidfd::pidfd_send_signal; 4);
    pidfd_getfd, 438, 438, now(pidfd::pidfd_getfd; 3);
    arch_prctl, 158, -, context(context; 2);
    ptrace, 101, 117, large(ptrace::ptrace; 4);
    kcmp, 312, 272, now(kcmp::kcmp; 5);
    // Identity.
    getuid, 102, 174, now(identity::getuid; 0);
    geteuid, 107, 175, now(identity::geteuid; 0);
    getgid, 104, 176, now(identity::getgid; 0);
    getegid, 108, 177, now(identity::getegid; 0);
    getresuid, 118, 148, call(identity::getresuid; 3);
    getresgid, 120, 150, call(identity::getresgid; 3);
    setuid, 105, 146, now(identity::setuid; 1);
    setgid, 106, 144, now(identity::setgid; 1);
    setreuid, 113, 145, now(identity::setreuid; 2);
    setregid, 114, 143, now(identity::setregid; 2);
    setresuid, 117, 147, now(identity::setresuid; 3);
    setresgid, 119, 149, now(identity::setresgid; 3);
    setfsuid, 122, 151, now(identity::setfsuid; 1);
    setfsgid, 123, 152, now(identity::setfsgid; 1);
    getgroups, 115, 158, call(identity::getgroups; 2);
    setgroups, 116, 159, call(identity::setgroups; 2);
    capget, 125, 90, call(capabilities::capget; 2);
    capset, 126, 91, call(capabilities::capset; 2);
    // Signals.
    rt_sigaction, 13, 134, copies(signal::rt_sigaction; 4);
    rt_sigprocmask, 14, 135, copies(signal::rt_sigprocmask; 4);
    rt_sigpending, 127, 136, copies(signal::rt_sigpending; 2);
    rt_sigtimedwait, 128, 137, call(signal::rt_sigtimedwait; 4);
    rt_sigqueueinfo, 129, 138, call(signal::rt_sigqueueinfo; 3);
    rt_tgsigqueueinfo, 297, 240, call(signal::rt_tgsigqueueinfo; 4);
    rt_sigsuspend, 130, 133, call(signal::rt_sigsuspend; 2);
    kill, 62, 129, now(signal::kill; 2);
    tkill, 200, 130, now(signal::tkill; 2);
    tgkill, 234, 131, now(signal::tgkill; 3);
    pause, 34, -, call(signal::pause; 0);
    restart_syscall, 219, 128, large(super::restart_syscall; 0);
    getitimer, 36, 102, copies(signal::getitimer; 2);
    setitimer, 38, 103, copies(signal::setitimer; 3);
    alarm, 37, -, now(signal::alarm; 1);
    rt_sigreturn, 15, 139, context(context; 0);
    sigaltstack, 131, 132, context(context; 2);
    // Time.
    nanosleep, 35, 101, call(time::nanosleep; 2);
    clock_nanosleep, 230, 115, call(time::clock_nanosleep; 4);
    clock_gettime, 228, 113, copies(time::clock_gettime; 2);
    clock_getres, 229, 114, copies(time::clock_getres; 2);
    clock_settime, 227, 112, call(time::clock_settime; 2);
    gettimeofday, 96, 169, copies(time::gettimeofday; 2);
    settimeofday, 164, 170, call(time::settimeofday; 2);
    time, 201, -, copies(time::time; 1);
    times, 100, 153, copies(time::times; 1);
    timer_create, 222, 107, call(timers::timer_create; 3);
    timer_settime, 223, 110, copies(timers::timer_settime; 4);
    timer_gettime, 224, 108, copies(timers::timer_gettime; 2);
    timer_getoverrun, 225, 109, now(timers::timer_getoverrun; 1);
    timer_delete, 226, 111, now(timers::timer_delete; 1);
    // Scheduling and limits.
    sched_yield, 24, 124, call(sched::sched_yield; 0);
    sched_getaffinity, 204, 123, call(sched::sched_getaffinity; 3);
    sched_setaffinity, 203, 122, call(sched::sched_setaffinity; 3);
    sched_getscheduler, 145, 120, now(policy::sched_getscheduler; 1);
    sched_setscheduler, 144, 119, call(policy::sched_setscheduler; 3);
    sched_getparam, 143, 121, call(policy::sched_getparam; 2);
    sched_setparam, 142, 118, call(policy::sched_setparam; 2);
    sched_setattr, 314, 274, call(policy::sched_setattr; 3);
    sched_getattr, 315, 275, call(policy::sched_getattr; 4);
    sched_get_priority_max, 146, 125, now(policy::sched_get_priority_max; 1);
    sched_get_priority_min, 147, 126, now(policy::sched_get_priority_min; 1);
    sched_rr_get_interval, 148, 127, call(policy::sched_rr_get_interval; 2);
    getpriority, 140, 141, now(sched::getpriority; 2);
    setpriority, 141, 140, now(sched::setpriority; 3);
    ioprio_set, 251, 30, now(ioprio::ioprio_set; 3);
    ioprio_get, 252, 31, now(ioprio::ioprio_get; 2);
    getrusage, 98, 165, call(sched::getrusage; 2);
    prlimit64, 302, 261, call(sched::prlimit64; 4);
    getrlimit, 97, 163, call(sched::getrlimit; 2);
    setrlimit, 160, 164, call(sched::setrlimit; 2);
    // Futexes.
    futex, 202, 98, ready(futex::futex, futex::futex_at_once; 6);
    futex_waitv, 449, 449, call(futex::futex_waitv; 5);
    futex_wake, 454, 454, now(futex::futex_wake; 4);
    futex_wait, 455, 455, call(futex::futex_wait; 6);
    futex_requeue, 456, 456, call(futex::futex_requeue; 4);
    rseq, 334, 293, copies(rseq::rseq; 4);
    set_robust_list, 273, 99, now(futex::set_robust_list; 2);
    get_robust_list, 274, 100, call(futex::get_robust_list; 3);
    // System V IPC.
    semget, 64, 190, now(ipc::semget; 3);
    semop, 65, 193, ready(ipc::semop, ipc::semop_at_once; 3);
    semtimedop, 220, 192, ready(ipc::semtimedop, ipc::semtimedop_at_once; 4);
    semctl, 66, 191, large(ipc::semctl; 4);
    shmget, 29, 194, now(ipc::shmget; 3);
    shmat, 30, 196, large(ipc::shmat; 3);
    shmdt, 67, 197, call(ipc::shmdt; 1);
    shmctl, 31, 195, large(ipc::shmctl; 3);
    mq_getsetattr, 245, 185, large(ipc::mq_getsetattr; 3);
    mq_notify, 244, 184, large(ipc::mq_notify; 2);
    mq_open, 240, 180, large(ipc::mq_open; 4);
    mq_timedreceive, 243, 183, large(ipc::mq_timedreceive; 5);
    mq_timedsend, 242, 182, large(ipc::mq_timedsend; 5);
    mq_unlink, 241, 181, large(ipc::mq_unlink; 1);
    msgget, 68, 186, now(ipc::msgget; 2);
    msgsnd, 69, 189, ready(ipc::msgsnd, ipc::msgsnd_at_once; 4);
    msgrcv, 70, 188, ready(ipc::msgrcv, ipc::msgrcv_at_once; 5);
    msgctl, 71, 187, large(ipc::msgctl; 3);
    // Memory.
    mmap, 9, 222, call(memory::mmap; 6);
    munmap, 11, 215, call(memory::munmap; 2);
    mprotect, 10, 226, call(memory::mprotect; 3);
    mremap, 25, 216, call(memory::mremap; 5);
    madvise, 28, 233, call(memory::madvise; 3);
    brk, 12, 214, call(memory::brk; 1);
    msync, 26, 227, now(memory::msync; 3);
    mincore, 27, 232, call(memory::mincore; 3);
    mlock, 149, 228, call(memory::mlock; 2);
    mlock2, 325, 284, call(memory::mlock2; 3);
    munlock, 150, 229, now(memory::munlock; 2);
    mlockall, 151, 230, call(memory::mlockall; 1);
    munlockall, 152, 231, now(memory::munlockall; 0);
    process_vm_readv, 310, 270, large(process_vm::process_vm_readv; 6);
    process_vm_writev, 311, 271, large(process_vm::process_vm_writev; 6);
    membarrier, 324, 283, large(membarrier::membarrier; 3);
    // The system.
    uname, 63, 160, call(uts::uname; 1);
    sethostname, 170, 161, call(uts::sethostname; 2);
    setdomainname, 171, 162, call(uts::setdomainname; 2);
    sysinfo, 99, 179, call(system::sysinfo; 1);
    getrandom, 318, 278, call(system::getrandom; 3);
    syslog, 103, 116, large(system::syslog; 3);
    prctl, 157, 167, call(prctl::prctl; 5);
    seccomp, 317, 277, large(seccomp::seccomp; 3);
    personality, 135, 92, now(prctl::personality; 1);
    getcpu, 309, 168, call(system::getcpu; 2);
    reboot, 169, 142, call(system::reboot; 4);
    // Files.
    chmod, 90, -, call(fs::chmod; 2);
    chown, 92, -, call(fs::chown; 3);
    fallocate, 285, 47, call(fs::fallocate; 4);
    fchmod, 91, 52, now(fs::fchmod; 2);
    fchmodat, 268, 53, call(fs::fchmodat; 3);
    fchmodat2, 452, 452, call(fs::fchmodat2; 4);
    fchown, 93, 55, now(fs::fchown; 3);
    fchownat, 260, 54, call(fs::fchownat; 5);
    fdatasync, 75, 83, ready(fs::fsync, fs::fsync_at_once; 1);
    fsync, 74, 82, ready(fs::fsync, fs::fsync_at_once; 1);
    ftruncate, 77, 46, call(fs::ftruncate; 2);
    futimesat, 261, -, call(fs::futimesat; 3);
    lchown, 94, -, call(fs::lchown; 3);
    sync, 162, 81, large(fs::sync; 0);
    syncfs, 306, 267, now(fs::syncfs; 1);
    truncate, 76, 45, call(fs::truncate; 2);
    utime, 132, -, call(fs::utime; 2);
    utimensat, 280, 88, call(fs::utimensat; 4);
    utimes, 235, -, call(fs::utimes; 2);
    dup, 32, 23, now(fs::dup; 1);
    dup2, 33, -, now(fs::dup2; 2);
    dup3, 292, 24, now(fs::dup3; 3);
    epoll_create, 213, -, now(fs::epoll_create; 1);
    epoll_create1, 291, 20, now(fs::epoll_create1; 1);
    epoll_ctl, 233, 21, copies(fs::epoll_ctl; 4);
    epoll_pwait, 281, 22, ready(fs::epoll_pwait, fs::epoll_pwait_at_once; 6);
    epoll_pwait2, 441, 441, ready(fs::epoll_pwait2, fs::epoll_pwait2_at_once; 6);
    epoll_wait, 232, -, ready(fs::epoll_wait, fs::epoll_wait_at_once; 4);
    eventfd, 284, -, now(fs::eventfd; 1);
    eventfd2, 290, 19, now(fs::eventfd2; 2);
    signalfd, 282, -, copies(fs::signalfd; 3);
    signalfd4, 289, 74, copies(fs::signalfd4; 4);
    timerfd_create, 283, 85, now(fs::timerfd_create; 2);
    timerfd_settime, 286, 86, copies(fs::timerfd_settime; 4);
    timerfd_gettime, 287, 87, copies(fs::timerfd_gettime; 2);
    fcntl, 72, 25, ready(fs::fcntl, fs::fcntl_at_once; 3);
    flock, 73, 32, call(fs::flock; 2);
    ioctl, 16, 29, call(fs::ioctl; 3);
    pipe, 22, -, call(fs::pipe; 1);
    pipe2, 293, 59, call(fs::pipe2; 2);
    mount, 165, 40, large(fs::mount; 5);
    umount2, 166, 39, call(fs::umount2; 2);
    chdir, 80, 49, call(fs::chdir; 1);
    chroot, 161, 51, call(fs::chroot; 1);
    fchdir, 81, 50, now(fs::fchdir; 1);
    getcwd, 79, 17, call(fs::getcwd; 2);
    getdents, 78, -, call(fs::getdents; 3);
    getdents64, 217, 61, call(fs::getdents64; 3);
    link, 86, -, large(fs::link; 2);
    linkat, 265, 37, call(fs::linkat; 5);
    memfd_create, 319, 279, call(fs::memfd_create; 2);
    mkdir, 83, -, call(fs::mkdir; 2);
    mkdirat, 258, 34, call(fs::mkdirat; 3);
    mknod, 133, -, call(fs::mknod; 3);
    mknodat, 259, 33, call(fs::mknodat; 4);
    rename, 82, -, large(fs::rename; 2);
    renameat, 264, 38, large(fs::renameat; 4);
    renameat2, 316, 276, large(fs::renameat2; 5);
    rmdir, 84, -, call(fs::rmdir; 1);
    symlink, 88, -, large(fs::symlink; 2);
    symlinkat, 266, 36, call(fs::symlinkat; 3);
    umask, 95, 166, now(fs::umask; 1);
    unlink, 87, -, call(fs::unlink; 1);
    unlinkat, 263, 35, call(fs::unlinkat; 3);
    close, 3, 57, now(fs::close; 1);
    close_range, 436, 436, now(fs::close_range; 3);
    creat, 85, -, call(fs::creat; 2);
    open, 2, -, ready(fs::open, fs::open_at_once; 3);
    openat, 257, 56, ready(fs::openat, fs::openat_at_once; 4);
    openat2, 437, 437, call(fs::openat2; 4);
    poll, 7, -, ready(fs::poll, fs::poll_at_once; 3);
    ppoll, 271, 73, ready(fs::ppoll, fs::ppoll_at_once; 5);
    pselect6, 270, 72, ready(fs::pselect6, fs::pselect6_at_once; 6);
    select, 23, -, ready(fs::select, fs::select_at_once; 5);
    access, 21, -, copies(fs::access; 2);
    faccessat, 269, 48, copies(fs::faccessat; 3);
    faccessat2, 439, 439, copies(fs::faccessat2; 4);
    fstat, 5, 80, copies(fs::fstat; 2);
    fstatfs, 138, 44, copies(fs::fstatfs; 2);
    lstat, 6, -, copies(fs::lstat; 2);
    newfstatat, 262, 79, copies(fs::newfstatat; 4);
    readlink, 89, -, copies(fs::readlink; 3);
    readlinkat, 267, 78, copies(fs::readlinkat; 4);
    stat, 4, -, copies(fs::stat; 2);
    statfs, 137, 43, copies(fs::statfs; 2);
    statx, 332, 291, copies(fs::statx; 5);
    setxattr, 188, 5, copies(fs::setxattr; 5);
    lsetxattr, 189, 6, copies(fs::lsetxattr; 5);
    fsetxattr, 190, 7, copies(fs::fsetxattr; 5);
    getxattr, 191, 8, copies(fs::getxattr; 4);
    lgetxattr, 192, 9, copies(fs::lgetxattr; 4);
    fgetxattr, 193, 10, copies(fs::fgetxattr; 4);
    listxattr, 194, 11, copies(fs::listxattr; 3);
    llistxattr, 195, 12, copies(fs::llistxattr; 3);
    flistxattr, 196, 13, copies(fs::flistxattr; 3);
    removexattr, 197, 14, copies(fs::removexattr; 2);
    lremovexattr, 198, 15, copies(fs::lremovexattr; 2);
    fremovexattr, 199, 16, copies(fs::fremovexattr; 2);
    copy_file_range, 326, 285, call(fs::copy_file_range; 6);
    lseek, 8, 62, now(fs::lseek; 3);
    pread64, 17, 67, ready(fs::pread64, fs::pread64_at_once; 4);
    preadv, 295, 69, call(fs::preadv; 5);
    preadv2, 327, 286, call(fs::preadv2; 6);
    pwrite64, 18, 68, ready(fs::pwrite64, fs::pwrite64_at_once; 4);
    pwritev, 296, 70, large(fs::pwritev; 5);
    pwritev2, 328, 287, large(fs::pwritev2; 6);
    read, 0, 63, ready(fs::read, fs::read_at_once; 3);
    readv, 19, 65, call(fs::readv; 3);
    sendfile, 40, 71, call(fs::sendfile; 4);
    write, 1, 64, ready(fs::write, fs::write_at_once; 3);
    writev, 20, 66, call(fs::writev; 3);
    // Sockets.
    socket, 41, 198, now(net::socket_call; 3);
    socketpair, 53, 199, copies(net::socketpair; 4);
    bind, 49, 200, large(net::bind; 3);
    listen, 50, 201, now(net::listen; 2);
    accept, 43, 202, large(net::accept; 3);
    accept4, 288, 242, large(net::accept4; 4);
    connect, 42, 203, large(net::connect; 3);
    getsockname, 51, 204, copies(net::getsockname; 3);
    getpeername, 52, 205, copies(net::getpeername; 3);
    sendto, 44, 206, ready(net::sendto, net::sendto_at_once; 6);
    recvfrom, 45, 207, ready(net::recvfrom, net::recvfrom_at_once; 6);
    sendmsg, 46, 211, ready(net::sendmsg, net::sendmsg_at_once; 3);
    recvmsg, 47, 212, ready(net::recvmsg, net::recvmsg_at_once; 3);
    sendmmsg, 307, 269, call(net::sendmmsg; 4);
    recvmmsg, 299, 243, call(net::recvmmsg; 5);
    shutdown, 48, 210, now(net::shutdown; 2);
    setsockopt, 54, 208, copies(net::setsockopt; 5);
    getsockopt, 55, 209, copies(net::getsockopt; 5);
}

#[cfg(test)]
mod tests;
