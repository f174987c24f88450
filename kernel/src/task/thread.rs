//! One user thread, as everybody but its own future sees it.
//!
//! The registers live in the thread's future ([`run`](super::run)) and are nobody else's business. Here is what others may
//! read or change: the number, pending signals and mask, times, name, what `clone` shares.
//!
//! **Attention.** Whoever wants something of a thread (a signal, the end of its process, a stop) sets a bit in
//! [`Thread::attention`] and wakes the thread's task. The task looks at the bits before each entry to user mode, and every
//! [`Thread::interruptible`] wait looks at them after it has been polled. The bit is set before the wake, and the waiter
//! looks after its waker is stored, so neither order of the two loses it. Waking a thread that spins in user mode on
//! another CPU brings it back by the executor's IPI.

mod seldom;

use alloc::{boxed::Box, sync::Arc};
use core::{
    sync::atomic::{AtomicBool, AtomicI8, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering},
    task::Waker,
};

use executor::{Stopwatch, WakerCell};
use hal::{arch::Timer, signal::AltStack, traits::TimerOps};

use seldom::Seldom;

use super::{
    credentials::Credentials,
    interruptible::Restart,
    pid::Pid,
    process::Process,
    ptrace::Tracee,
    rseq::Registration,
    schedule::PolicyCell,
    signal::{SignalSet, pending::Pending},
};
use crate::{
    errno::Errno,
    fs::{FdTable, FsContext, OpenFile},
    mm::AddressSpace,
    namespace::Namespaces,
    rt::{self, Machine},
    sync::{Rank, SpinLock},
    tally::{Account, Operations},
};

/// Bits of [`Thread::attention`].
pub mod attention {
    /// A signal may be deliverable.
    pub const SIGNAL: u32 = 1;
    /// The thread must end.
    pub const EXIT: u32 = 2;
    /// The process stops.
    pub const STOP: u32 = 4;
    /// The thread's calls have to pass a filter.
    pub const FILTER: u32 = 8;
    /// The thread's tracer wants something, or there is one: it goes over to the turns of a traced thread.
    pub const TRACE: u32 = 16;
    /// The thread stands at a call whose filter wants to ask somebody.
    pub const ASK: u32 = 32;
    /// Any of them that ends a wait: a filter and a tracer can wait until the thread comes by.
    pub const ANY: u32 = !(FILTER | TRACE | ASK);
}

/// The signal state of one thread.
#[derive(Default)]
pub(in crate::task) struct ThreadSignals {
    /// The waker of who polls the thread, if it is no task: in tests.
    pub foreign_waker: Option<Box<Waker>>,
    pub pending: Pending,
    pub mask: SignalSet,
    /// The mask to put back after the handler that ends `sigsuspend` and the like.
    pub saved_mask: Option<SignalSet>,
    /// What `sigtimedwait` waits for: wakes the thread although it is blocked.
    pub awaited: SignalSet,
    pub alt_stack: AltStack,
    pub restart: Restart,
    /// What it shares with its tracer, if it has one.
    pub tracee: Option<Arc<Tracee>>,
    /// No signal's, but under this lock to spare one.
    seldom: Option<Box<Seldom>>,
}

/// `comm`: at most 15 bytes and a zero.
pub type Comm = [u8; 16];

/// A thread's name as it stands in memory.
fn comm_words(comm: Comm) -> [u64; 2] {
    let (words, _) = comm.as_chunks();
    [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
}

/// A thread's name as text.
pub(super) fn comm_text(comm: &Comm) -> &str {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    core::str::from_utf8(&comm[..end]).unwrap_or("?")
}

/// What a thread has, and may share with others. Under one lock, to spare two.
struct Belongings {
    files: Arc<FdTable>,
    fs: Arc<FsContext>,
    credentials: Arc<Credentials>,
}

/// A user thread.
pub struct Thread {
    /// Its number, and above it its process's: see [`Thread::numbers`].
    numbers: AtomicU64,
    process: Arc<Process>,
    attention: AtomicU32,
    pub(super) signals: SpinLock<ThreadSignals>,
    /// Its task in the executor.
    task: WakerCell<Machine>,
    /// Where it waits for a futex: see [`super::futex`].
    pub(super) futex_place: AtomicU16,
    belongings: SpinLock<Belongings>,
    /// Its name, in the order of its bytes in memory. Possibly torn for who reads it while it changes.
    comm: [AtomicU64; 2],
    /// Zeroed and futex-woken when the thread ends (`CLONE_CHILD_CLEARTID`).
    pub(crate) clear_child_tid: AtomicU64,
    /// The head of the robust futex list.
    pub(crate) robust_list: AtomicU64,
    pub(super) rseq: Registration,
    /// Runs while the thread is in user mode, in [`TimerOps::ticks`].
    pub(super) user_time: Stopwatch,
    /// Runs while the thread is polled, in user mode and out of it.
    pub(super) cpu_time: Stopwatch,
    pub(crate) affinity: AtomicU64,
    nice: AtomicI8,
    /// As `ioprio_set(2)` has it.
    pub(crate) io_priority: AtomicU16,
    pub(crate) policy: PolicyCell,
    /// The real-time priority of the best who waits for a lock that it has: see [`super::futex::pi`].
    pub(super) inherited: AtomicU8,
    /// Whether the thread sits in wait4, so that a child's end wakes it.
    pub(super) waits_for_child: AtomicBool,
    /// Whether a process-wide stop has parked the thread.
    pub(super) parked: AtomicBool,
    pub(super) exiting: AtomicBool,
    /// Whether it has [`Namespaces`] of its own.
    apart: AtomicBool,
    /// Whether it has a [`Tracee`].
    pub(super) traced: AtomicBool,
    /// Whether the thread is inside a wait rather than running; for `/proc`.
    pub(super) blocked: AtomicBool,
    /// Whether somebody may wait for it to use CPU time: see [`super::cpu_clock`].
    pub(super) clock_watched: AtomicBool,
    pub(super) last_cpu: AtomicU16,
    pub(super) account: Account,
}

const fn numbers(tid: Pid, pid: Pid) -> u64 {
    (pid as u64) << 32 | tid as u32 as u64
}

/// What a new thread starts with.
pub struct ThreadParts {
    /// Its number.
    pub tid: Pid,
    /// Its process.
    pub process: Arc<Process>,
    /// Its descriptors.
    pub files: Arc<FdTable>,
    /// Its root, working directory and umask.
    pub fs: Arc<FsContext>,
    /// Who it acts as.
    pub credentials: Arc<Credentials>,
    /// What it is in; `None` for what was there from the beginning.
    pub namespaces: Option<Arc<Namespaces>>,
    /// Its name.
    pub comm: Comm,
}

impl Thread {
    /// A thread that does not run yet. It is not in its process's list either.
    pub fn new(parts: ThreadParts) -> Self {
        let is_apart = parts.namespaces.is_some();
        let signals = ThreadSignals {
            seldom: parts.namespaces.map(Seldom::with_namespaces),
            ..ThreadSignals::default()
        };
        Self {
            apart: AtomicBool::new(is_apart),
            numbers: AtomicU64::new(numbers(parts.tid, parts.process.pid())),
            process: parts.process,
            attention: AtomicU32::new(0),
            signals: SpinLock::new(Rank::Signals, signals),
            task: WakerCell::new(),
            futex_place: AtomicU16::new(super::futex::NOWHERE),
            belongings: SpinLock::new(
                Rank::Signals,
                Belongings {
                    files: parts.files,
                    fs: parts.fs,
                    credentials: parts.credentials,
                },
            ),
            comm: comm_words(parts.comm).map(AtomicU64::new),
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            rseq: Registration::default(),
            user_time: Stopwatch::new(),
            cpu_time: Stopwatch::new(),
            affinity: AtomicU64::new(!0),
            nice: AtomicI8::new(0),
            io_priority: AtomicU16::new(0),
            policy: PolicyCell::new(),
            inherited: AtomicU8::new(0),
            waits_for_child: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            exiting: AtomicBool::new(false),
            traced: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            clock_watched: AtomicBool::new(false),
            last_cpu: AtomicU16::new(0),
            account: Account::default(),
        }
    }

    /// The thread's number.
    pub fn tid(&self) -> Pid {
        self.numbers() as Pid
    }

    /// Its number in the low half, its process's in the high one.
    #[inline]
    pub(super) fn numbers(&self) -> u64 {
        self.numbers.load(Ordering::Relaxed)
    }

    pub(super) fn set_tid(&self, tid: Pid) {
        let old = self.numbers.swap(numbers(tid, self.process.pid()), Ordering::Relaxed);
        super::current::renamed(self, old);
    }

    /// The process it belongs to.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Its descriptor table.
    pub fn files(&self) -> Arc<FdTable> {
        self.belongings.lock().files.clone()
    }

    /// The open file behind a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn file(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        self.belongings.lock().files.get(fd)
    }

    /// As [`Thread::file`], for what a file opened with `O_PATH` is no good for.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn usable_file(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        self.belongings.lock().files.get_usable(fd)
    }

    /// Replaces its descriptor table (`unshare`, execve); the old one is returned.
    pub fn set_files(&self, files: Arc<FdTable>) -> Arc<FdTable> {
        core::mem::replace(&mut self.belongings.lock().files, files)
    }

    /// Its root, working directory and umask.
    pub fn fs(&self) -> Arc<FsContext> {
        self.belongings.lock().fs.clone()
    }

    /// Replaces root, working directory and umask as a whole; the old ones are returned.
    pub fn set_fs(&self, fs: Arc<FsContext>) -> Arc<FsContext> {
        core::mem::replace(&mut self.belongings.lock().fs, fs)
    }

    /// Its address space.
    pub fn mm(&self) -> Arc<AddressSpace> {
        self.process.mm()
    }

    /// Who it acts as.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.belongings.lock().credentials.clone()
    }

    /// Changes who it acts as; `edit` is called again if others have changed it meanwhile. Who gets more power than others see
    /// hides from them until the next exec: the process can no longer be looked into, nor told of its parent's end.
    ///
    /// # Errors
    /// `edit`'s: nothing is changed then.
    pub fn change_credentials(&self, mut edit: impl FnMut(&mut Credentials) -> Result<(), Errno>) -> Result<(), Errno> {
        loop {
            let old = self.credentials();
            let mut new = Credentials::clone(&old);
            edit(&mut new)?;
            if self.replace_credentials(&old, &Arc::new(new)) {
                return Ok(());
            }
        }
    }

    /// Gives it `new` in place of `old`; false, and nothing is done, if it has others by now.
    pub(super) fn replace_credentials(&self, old: &Arc<Credentials>, new: &Arc<Credentials>) -> bool {
        if new.hide_from(old) {
            self.process.dumpable.store(0, Ordering::Relaxed);
            self.process.parent_death_signal.store(0, Ordering::Relaxed);
        }
        {
            let there = &mut self.belongings.lock().credentials;
            if !Arc::ptr_eq(there, old) {
                return false;
            }
            // The caller has `old`: nothing is freed under the lock.
            *there = new.clone();
        }
        if self.tid() == self.process.pid() {
            loop {
                let now = self.credentials();
                self.process.set_credentials(now.clone());
                if Arc::ptr_eq(&now, &self.credentials()) {
                    break;
                }
            }
        }
        true
    }

    /// Its name, zero-padded.
    pub fn comm(&self) -> Comm {
        let words = self.comm_words().map(u64::to_ne_bytes);
        let mut comm = [0; 16];
        comm.as_chunks_mut().0.copy_from_slice(&words);
        comm
    }

    /// As [`Thread::comm`], as it stands in memory.
    #[inline]
    pub(super) fn comm_words(&self) -> [u64; 2] {
        self.comm.each_ref().map(|word| word.load(Ordering::Relaxed))
    }

    /// Sets its name from the first 15 bytes of `name` up to a zero.
    pub fn set_comm(&self, name: &[u8]) {
        let mut comm = [0; 16];
        for (to, from) in comm[..15].iter_mut().zip(name.iter().take_while(|byte| **byte != 0)) {
            *to = *from;
        }
        for (word, value) in self.comm.iter().zip(comm_words(comm)) {
            word.store(value, Ordering::Relaxed);
        }
        super::current::renamed(self, self.numbers());
        if let Some(id) = self.task_id() {
            rt::executor().set_name(id, comm_text(&comm));
        }
    }

    /// Whether it has ended or is about to: it takes no signal any more.
    pub(super) fn is_over(&self) -> bool {
        self.exiting.load(Ordering::Relaxed)
    }

    /// Its signal mask.
    pub fn signal_mask(&self) -> SignalSet {
        self.signals.lock().mask
    }

    /// The attention bits.
    pub fn attention(&self) -> u32 {
        self.attention.load(Ordering::SeqCst)
    }

    /// Whether an interruptible wait would end at once.
    pub fn is_interrupted(&self) -> bool {
        self.attention() & attention::ANY != 0
    }

    /// Whether the thread has been told to end, so that even a repeat of the call makes no sense.
    pub fn must_exit(&self) -> bool {
        self.attention() & attention::EXIT != 0
    }

    /// Sets attention bits and wakes the thread.
    pub(crate) fn kick(&self, bits: u32) {
        self.attention.fetch_or(bits, Ordering::SeqCst);
        // Its own poll looks at them before user mode, and as the last thing before it waits for anything but them to go.
        if bits != attention::SIGNAL || super::current::tid() != Some(self.tid()) {
            self.wake();
        }
    }

    pub(super) fn clear_attention(&self, bits: u32) {
        self.attention.fetch_and(!bits, Ordering::SeqCst);
    }

    /// Wakes the thread's task, so that whatever it waits for looks again.
    pub fn wake(&self) {
        if !self.task.wake() {
            let foreign = self.signals.lock().foreign_waker.clone();
            if let Some(waker) = foreign {
                waker.wake_by_ref();
            }
        }
    }

    /// Makes [`Thread::wake`] wake the polling task.
    pub(crate) fn store_waker(&self, waker: &Waker) {
        if self.task.register(waker) {
            return;
        }
        let mut signals = self.signals.lock();
        if !signals
            .foreign_waker
            .as_ref()
            .is_some_and(|stored| stored.will_wake(waker))
        {
            signals.foreign_waker = Some(Box::new(waker.clone()));
        }
    }

    /// Its task in the executor; `None` before it has been started.
    pub fn task_id(&self) -> Option<executor::TaskId> {
        self.task.task()
    }

    pub(super) fn set_task_id(&self, id: executor::TaskId) {
        self.task.register_task(id);
    }

    /// What was allocated and freed on its behalf: exact for the calling thread itself, of another one what it had done when
    /// it last waited.
    pub fn allocations(&self) -> Operations {
        if super::current::tid() == Some(self.tid()) {
            self.account.book();
        }
        self.account.get()
    }

    /// Its alternate signal stack; size 0 where there is none.
    pub fn alt_stack(&self) -> AltStack {
        self.signals.lock().alt_stack
    }

    /// Replaces its alternate signal stack.
    pub fn set_alt_stack(&self, stack: AltStack) {
        self.signals.lock().alt_stack = stack;
    }

    /// How `restart_syscall` is to go on.
    pub fn set_restart(&self, restart: Restart) {
        self.signals.lock().restart = restart;
    }

    /// Takes what [`Thread::set_restart`] stored.
    pub fn take_restart(&self) -> Restart {
        core::mem::take(&mut self.signals.lock().restart)
    }

    /// Its nice value: from -20 to 19.
    pub fn nice(&self) -> i32 {
        self.nice.load(Ordering::Relaxed).into()
    }

    /// Changes that; values beyond are cut.
    pub fn set_nice(&self, nice: i32) {
        self.nice.store(nice.clamp(-20, 19) as i8, Ordering::Relaxed);
    }

    /// The CPU it last ran on.
    pub fn last_cpu(&self) -> u32 {
        u32::from(self.last_cpu.load(Ordering::Relaxed))
    }

    /// User and system time used, in nanoseconds.
    pub fn times(&self) -> (u64, u64) {
        // The part first, so that it is no more than the whole.
        let user = Timer::nanoseconds(self.user_time.elapsed(Timer::ticks));
        let all = self.cpu_time.elapsed(rt::now);
        (user, all.saturating_sub(user))
    }
}

impl core::fmt::Debug for Thread {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Thread({})", self.tid())
    }
}
