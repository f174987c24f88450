//! A process: what its threads have in common.
//!
//! Its place in the family (parent, children, group, session, exit status) is kept by [`table`](super::table) under one
//! lock; here stands what belongs to the process alone.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::{
    cpu_clock::ClockWatch,
    credentials::Credentials,
    limits::Limits,
    pid::Pid,
    signal::{
        Signo,
        action::{ActionTable, Actions, SigAction},
        pending::Pending,
    },
    table::Session,
    thread::Thread,
    thread_list::ThreadList,
};
use crate::{
    errno::Result,
    fs::{FdTable, FsContext, poll_queue::PollQueue},
    mm::{AddressSpace, fallible::TryRoomExact},
    sync::{Rank, SpinLock},
};

/// How a process ended, as wait4 reports it: the exit code's low byte in bits 8 to 15, or the signal in bits 0 to 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitStatus(pub i32);

impl WaitStatus {
    /// Ended by `exit(code)`.
    pub const fn exited(code: i32) -> Self {
        Self((code & 0xff) << 8)
    }

    /// Ended by a signal.
    pub const fn killed(signo: Signo) -> Self {
        Self(signo)
    }

    /// The exit code, if it ended by exit.
    pub const fn code(self) -> Option<i32> {
        if self.0 & 0x7f == 0 {
            Some(self.0 >> 8 & 0xff)
        } else {
            None
        }
    }

    /// The signal, if it ended by one.
    pub const fn signal(self) -> Option<Signo> {
        if self.0 & 0x7f != 0 { Some(self.0 & 0x7f) } else { None }
    }
}

/// What is running: for `/proc/<pid>/exe`, `cmdline` and the like.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The program's absolute path as it was resolved.
    pub path: Vec<u8>,
    /// The arguments at execve, each ended by a zero.
    pub arguments: Vec<u8>,
    /// The environment at execve, each entry ended by a zero.
    pub environment: Vec<u8>,
    /// The auxiliary vector as pushed.
    pub auxv: Vec<u64>,
}

/// What signal delivery, stop and exit have to see together.
pub(super) struct Shared {
    pub threads: ThreadList,
    pub pending: Pending,
    /// The status with which every thread is to end.
    pub group_exit: Option<WaitStatus>,
    /// The thread that execs and waits for the others to be gone.
    pub exec: Option<Pid>,
    /// The signal that stopped the process, while it is stopped or stopping.
    pub stop: Option<Signo>,
}

/// How many processes are what their descendants' orphans go to.
static SUBREAPERS: AtomicUsize = AtomicUsize::new(0);

/// A process.
pub struct Process {
    pid: Pid,
    mm: SpinLock<Arc<AddressSpace>>,
    /// Its first thread's, for when that has ended.
    credentials: SpinLock<Arc<Credentials>>,
    limits: SpinLock<Limits>,
    actions: SpinLock<ActionTable>,
    image: SpinLock<Arc<Image>>,
    session: SpinLock<Arc<Session>>,
    pub(super) shared: SpinLock<Shared>,
    // Kept by the table, under its lock; read without it.
    pub(super) parent: AtomicI32,
    pub(super) group: AtomicI32,
    /// The thread that made it, while its parent is the parent that made it.
    pub(super) creator: AtomicI32,
    /// Whether execve has run since fork: then setpgid by the parent is EACCES.
    pub(super) has_execed: AtomicBool,
    /// Whether a parent in vfork still waits.
    pub(super) vfork: SpinLock<Option<Arc<Thread>>>,
    pub(super) start_ns: u64,
    /// Times of threads that have ended.
    pub(super) dead_user_ns: AtomicU64,
    pub(super) dead_system_ns: AtomicU64,
    /// Times of children that were reaped, and theirs.
    pub(super) children_user_ns: AtomicU64,
    pub(super) children_system_ns: AtomicU64,
    /// The largest resident set of a reaped child, in KiB.
    pub(super) children_max_rss: AtomicU64,
    pub(super) max_rss: AtomicU64,
    /// The signal to send when the parent ends (`PR_SET_PDEATHSIG`); 0 for none.
    pub(crate) parent_death_signal: AtomicI32,
    pub(crate) dumpable: AtomicI32,
    subreaper: AtomicBool,
    /// The status of the first thread's own `exit`, used if no group exit says otherwise.
    pub(super) leader_status: AtomicI32,
    /// Whether every thread is gone, so that only the status is left; and who waits for that by a descriptor.
    pub(super) exited: AtomicBool,
    pub(super) exits: PollQueue,
    /// Whether the process's end has begun.
    pub(super) ended: AtomicBool,
    /// Where the vDSO has handlers return to; 0 for nowhere.
    pub(super) signal_return: AtomicU64,
    /// For init: a fault of its own may end it.
    pub(super) killable: AtomicBool,
    pub(crate) personality: AtomicU32,
    /// What is added to its pages where a process is chosen to be killed for memory, in thousandths of all memory.
    pub(crate) oom_adjustment: AtomicI32,
    /// How low that may be set without a capability.
    pub(crate) oom_least: AtomicI32,
    pub(super) timers: SpinLock<super::timers::Timers>,
    pub(super) clock_watch: ClockWatch,
}

/// What a new process starts with.
pub struct ProcessParts {
    /// Its number.
    pub pid: Pid,
    /// Its address space.
    pub mm: Arc<AddressSpace>,
    /// Who its first thread acts as.
    pub credentials: Arc<Credentials>,
    /// Its limits.
    pub limits: Limits,
    /// Its signal actions, shared or a copy.
    pub actions: ActionTable,
    /// Its program.
    pub image: Arc<Image>,
    /// Its session.
    pub session: Arc<Session>,
    /// Its group.
    pub group: Pid,
    /// Its parent.
    pub parent: Pid,
    /// Its start, in nanoseconds since boot.
    pub start_ns: u64,
}

impl Process {
    /// A process without threads.
    pub fn new(parts: ProcessParts) -> Self {
        Self {
            pid: parts.pid,
            mm: SpinLock::new(Rank::Signals, parts.mm),
            credentials: SpinLock::new(Rank::Signals, parts.credentials),
            limits: SpinLock::new(Rank::Signals, parts.limits),
            actions: SpinLock::new(Rank::Signals, parts.actions),
            image: SpinLock::new(Rank::Signals, parts.image),
            session: SpinLock::new(Rank::Signals, parts.session),
            shared: SpinLock::new(
                Rank::Process,
                Shared {
                    threads: ThreadList::new(),
                    pending: Pending::default(),
                    group_exit: None,
                    exec: None,
                    stop: None,
                },
            ),
            parent: AtomicI32::new(parts.parent),
            group: AtomicI32::new(parts.group),
            creator: AtomicI32::new(0),
            has_execed: AtomicBool::new(false),
            vfork: SpinLock::new(Rank::Signals, None),
            start_ns: parts.start_ns,
            dead_user_ns: AtomicU64::new(0),
            dead_system_ns: AtomicU64::new(0),
            children_user_ns: AtomicU64::new(0),
            children_system_ns: AtomicU64::new(0),
            children_max_rss: AtomicU64::new(0),
            max_rss: AtomicU64::new(0),
            parent_death_signal: AtomicI32::new(0),
            dumpable: AtomicI32::new(1),
            subreaper: AtomicBool::new(false),
            killable: AtomicBool::new(false),
            signal_return: AtomicU64::new(0),
            leader_status: AtomicI32::new(0),
            exited: AtomicBool::new(false),
            exits: PollQueue::new(),
            ended: AtomicBool::new(false),
            personality: AtomicU32::new(0),
            oom_adjustment: AtomicI32::new(0),
            oom_least: AtomicI32::new(0),
            timers: SpinLock::new(Rank::Timers, super::timers::Timers::default()),
            clock_watch: ClockWatch::default(),
        }
    }

    /// Its number, and its first thread's.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its address space; an ended process has its last.
    pub fn mm(&self) -> Arc<AddressSpace> {
        self.mm.lock().clone()
    }

    pub(super) fn set_mm(&self, mm: Arc<AddressSpace>) -> Arc<AddressSpace> {
        core::mem::replace(&mut *self.mm.lock(), mm)
    }

    /// The descriptor table of its first living thread; `None` once it has ended.
    pub fn files(&self) -> Option<Arc<FdTable>> {
        self.first_thread().map(|thread| thread.files())
    }

    /// Root, working directory and umask of its first living thread; `None` once it has ended.
    pub fn fs(&self) -> Option<Arc<FsContext>> {
        self.first_thread().map(|thread| thread.fs())
    }

    /// Who its first thread acts as, or acted.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone()
    }

    /// After its first thread has got others.
    pub(super) fn set_credentials(&self, new: Arc<Credentials>) {
        let _old = core::mem::replace(&mut *self.credentials.lock(), new);
    }

    /// A copy of its limits.
    pub fn limits(&self) -> Limits {
        self.limits.lock().clone()
    }

    /// One soft limit.
    pub fn limit(&self, resource: super::limits::Resource) -> u64 {
        self.limits.lock().get(resource).soft
    }

    /// Changes its limits.
    pub fn with_limits<T>(&self, change: impl FnOnce(&mut Limits) -> T) -> T {
        change(&mut self.limits.lock())
    }

    /// Lends its signal actions, under their lock.
    #[inline]
    pub(crate) fn with_actions<T>(&self, look: impl FnOnce(&mut Actions) -> T) -> T {
        self.actions.lock().with(look)
    }

    /// Where its signal actions are: the same for processes that have them in common.
    pub(crate) fn actions_address(&self) -> usize {
        self.actions.lock().address()
    }

    /// Its signal actions, for another process to have in common (`CLONE_SIGHAND`).
    pub(super) fn share_actions(&self) -> ActionTable {
        self.actions.lock().share()
    }

    /// What execve leaves of its signal actions.
    pub(super) fn reset_actions(&self) {
        self.actions.lock().reset_for_exec();
    }

    /// Its action for a signal.
    pub fn action(&self, signo: Signo) -> SigAction {
        self.with_actions(|actions| *actions.get(signo))
    }

    /// Its program.
    pub fn image(&self) -> Arc<Image> {
        self.image.lock().clone()
    }

    pub(super) fn set_image(&self, image: Arc<Image>) {
        let _old = core::mem::replace(&mut *self.image.lock(), image);
    }

    /// Its session.
    pub fn session(&self) -> Arc<Session> {
        self.session.lock().clone()
    }

    pub(super) fn set_session(&self, session: Arc<Session>) {
        let _old = core::mem::replace(&mut *self.session.lock(), session);
    }

    /// Its process group.
    pub fn group(&self) -> Pid {
        self.group.load(Ordering::Relaxed)
    }

    /// Its parent's number; 0 for init.
    pub fn parent(&self) -> Pid {
        self.parent.load(Ordering::Relaxed)
    }

    /// Its living threads, by number.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn threads(&self) -> Result<Vec<Arc<Thread>>> {
        let mut threads = Vec::new();
        loop {
            threads.try_room_exact(self.thread_count())?;
            let shared = self.shared.lock();
            if shared.threads.len() <= threads.capacity() {
                threads.extend(shared.threads.iter().cloned());
                return Ok(threads);
            }
        }
    }

    /// Whether one of its living threads is such. `is_such` runs under the process's lock.
    pub fn has_thread(&self, is_such: impl Fn(&Thread) -> bool) -> bool {
        self.shared.lock().threads.iter().any(|thread| is_such(thread))
    }

    /// How many threads live.
    pub fn thread_count(&self) -> usize {
        self.shared.lock().threads.len()
    }

    /// Whether all its threads have been told to end.
    pub fn is_ending(&self) -> bool {
        self.shared.lock().group_exit.is_some()
    }

    /// Whether what its descendants leave behind becomes its own (`PR_SET_CHILD_SUBREAPER`).
    pub fn is_subreaper(&self) -> bool {
        self.subreaper.load(Ordering::Relaxed)
    }

    /// Makes it one, or none any more.
    pub fn set_subreaper(&self, is_one: bool) {
        match (self.subreaper.swap(is_one, Ordering::Relaxed), is_one) {
            (false, true) => SUBREAPERS.fetch_add(1, Ordering::Relaxed),
            (true, false) => SUBREAPERS.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Whether there is one anywhere.
    pub fn there_are_subreapers() -> bool {
        SUBREAPERS.load(Ordering::Relaxed) > 0
    }

    /// Whether it has ended, so that its parent may wait for it, or has.
    pub fn has_exited(&self) -> bool {
        self.exited.load(Ordering::SeqCst)
    }

    /// Woken once [`Process::has_exited`].
    pub const fn exits(&self) -> &PollQueue {
        &self.exits
    }

    /// Whether a signal has stopped it.
    pub fn is_stopped(&self) -> bool {
        self.shared.lock().stop.is_some()
    }

    /// Its oldest living thread; `None` once it has ended.
    pub fn first_thread(&self) -> Option<Arc<Thread>> {
        self.shared.lock().threads.first().cloned()
    }

    /// When it started, in nanoseconds since boot.
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// User and system time of all its threads, living and ended, in nanoseconds.
    pub fn times(&self) -> (u64, u64) {
        let shared = self.shared.lock();
        let dead = (
            self.dead_user_ns.load(Ordering::Relaxed),
            self.dead_system_ns.load(Ordering::Relaxed),
        );
        shared
            .threads
            .iter()
            .map(|thread| thread.times())
            .fold(dead, |(u, s), (user, system)| (u + user, s + system))
    }

    /// User and system time of reaped children and theirs, in nanoseconds.
    pub fn children_times(&self) -> (u64, u64) {
        (
            self.children_user_ns.load(Ordering::Relaxed),
            self.children_system_ns.load(Ordering::Relaxed),
        )
    }
}

impl core::fmt::Debug for Process {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Process({})", self.pid)
    }
}
