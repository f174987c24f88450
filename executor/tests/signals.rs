//! Wakes from interrupts, with the signals of the host in their place: a handler runs between any two instructions of the
//! executor, on the thread that it interrupted, and must neither allocate, free nor lock.
//!
//! Each CPU is a thread. Masking interrupts is blocking signals, idling is `sigsuspend`, an inter-processor interrupt is
//! `pthread_kill`; `setitimer` is the timer. The allocator and the executor's lock count what is asked of them while a
//! handler runs, or anything else that is to be as modest.
#![cfg(all(unix, not(loom)))]
#![expect(unsafe_code, reason = "a global allocator, a raw lock and signal handlers")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    future::{Future, poll_fn},
    mem::zeroed,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Poll, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use executor::{Class, Executor, Platform, RawSpinLock, SpawnOptions, sleep_until, sync::IrqCell, yield_now};
use lock_api::RawMutex;

const CPUS: usize = 2;
/// Device interrupts that each CPU takes at least.
const INTERRUPTS: u64 = 2000;
/// Microseconds between two interrupts of the timer.
const TICK: libc::suseconds_t = 200;

// What must not happen in an interrupt, counted.

#[derive(Clone, Copy)]
enum Trespass {
    Allocation,
    Free,
    Lock,
}

static TRESPASSES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Anything.
    Anywhere,
    /// What an interrupt may do, but called like any function.
    AsInterrupt,
    /// A signal handler. What it must not do may well hang it, so its first trespass ends the process.
    InHandler,
}

thread_local!(static WHERE: Cell<Where> = const { Cell::new(Where::Anywhere) });

fn count(trespass: Trespass) {
    let at = WHERE.get();
    if at == Where::Anywhere {
        return;
    }
    TRESPASSES[trespass as usize].fetch_add(1, SeqCst);
    if at == Where::InHandler {
        let what: &[u8] = match trespass {
            Trespass::Allocation => b"allocation in a signal handler\n",
            Trespass::Free => b"free in a signal handler\n",
            Trespass::Lock => b"lock in a signal handler\n",
        };
        // SAFETY: both are safe in a handler, and the bytes are there.
        unsafe {
            libc::write(2, what.as_ptr().cast(), what.len());
            libc::abort()
        }
    }
}

fn trespasses() -> [u64; 3] {
    std::array::from_fn(|kind| TRESPASSES[kind].load(SeqCst))
}

fn at(place: Where, body: impl FnOnce()) {
    let before = WHERE.replace(place);
    body();
    WHERE.set(before);
}

/// Runs `body` with what an interrupt may do.
fn as_interrupt(body: impl FnOnce()) {
    at(Where::AsInterrupt, body);
}

struct Counting;

// SAFETY: the system's allocator behind a counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(Trespass::Allocation);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(Trespass::Free);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct CountingLock(RawSpinLock);

// SAFETY: the plain lock behind a counter.
unsafe impl RawMutex for CountingLock {
    const INIT: Self = Self(RawSpinLock::INIT);
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        count(Trespass::Lock);
        self.0.lock();
    }

    fn try_lock(&self) -> bool {
        count(Trespass::Lock);
        self.0.try_lock()
    }

    unsafe fn unlock(&self) {
        // SAFETY: the caller holds it.
        unsafe { self.0.unlock() }
    }
}

// The machine.

struct Signals;

static EXECUTOR: Executor<Signals> = Executor::new();
/// The CPUs' threads, once they run.
static THREADS: [AtomicUsize; CPUS] = [const { AtomicUsize::new(0) }; CPUS];
static POWER_OFF: AtomicBool = AtomicBool::new(false);

thread_local!(static CPU: Cell<u32> = const { Cell::new(u32::MAX) });

const DEVICE: i32 = libc::SIGUSR1;
const IPI: i32 = libc::SIGUSR2;
const TIMER: i32 = libc::SIGALRM;

fn interrupts() -> libc::sigset_t {
    // SAFETY: a zeroed set is valid, and is made anew by the first call.
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&mut set);
        for signal in [DEVICE, IPI, TIMER] {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// Blocks or unblocks the interrupts for the calling thread; what was blocked before.
fn set_mask(how: i32) -> libc::sigset_t {
    // SAFETY: both sets are valid.
    unsafe {
        let mut before = zeroed();
        libc::pthread_sigmask(how, &interrupts(), &mut before);
        before
    }
}

fn send(cpu: usize, signal: i32) {
    let thread = THREADS[cpu].load(SeqCst);
    // SAFETY: a CPU's thread is entered there while it runs, and is joined only after the last signal.
    unsafe { libc::pthread_kill(thread as libc::pthread_t, signal) };
}

impl Platform for Signals {
    type RawLock = CountingLock;

    fn executor() -> &'static Executor<Self> {
        &EXECUTOR
    }

    fn cpu() -> u32 {
        CPU.get()
    }

    fn in_interrupt() -> bool {
        WHERE.get() != Where::Anywhere
    }

    fn now() -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the time is written to a local; safe in a signal handler.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    fn arm_timer(_: Option<u64>) {
        // It ticks: it may fire when nothing is due.
    }

    fn send_ipi(cpu: u32) {
        send(cpu as usize, IPI);
    }

    fn idle(check: impl FnOnce() -> bool) {
        let before = set_mask(libc::SIG_BLOCK);
        if check() && !POWER_OFF.load(SeqCst) {
            // SAFETY: the mask is that of a thread that takes interrupts; it is put back on return.
            unsafe { libc::sigsuspend(&before) };
        }
        // SAFETY: as above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
    }
}

// The interrupt handlers.

const WAKERS: usize = 24;
static WOKEN_BY_INTERRUPTS: [OnceLock<Waker>; WAKERS] = [const { OnceLock::new() }; WAKERS];
static CELL: IrqCell = IrqCell::new();
/// Device interrupts by CPU; threads that are no CPU are the last.
static TAKEN: [AtomicU64; CPUS + 1] = [const { AtomicU64::new(0) }; CPUS + 1];
static EVENTS: AtomicU64 = AtomicU64::new(0);

/// Something happened, and everybody is told: by reference, and by a copy that is used up.
fn event() {
    EVENTS.fetch_add(1, SeqCst);
    for waker in WOKEN_BY_INTERRUPTS.iter().filter_map(OnceLock::get) {
        waker.wake_by_ref();
        let copy = waker.clone();
        drop(waker.clone());
        copy.wake();
    }
    CELL.signal();
}

extern "C" fn handler(signal: i32) {
    at(Where::InHandler, || match signal {
        TIMER => {
            EXECUTOR.timer_interrupt();
            event();
        }
        IPI => EXECUTOR.ipi_interrupt(),
        _ => {
            TAKEN[(CPU.get() as usize).min(CPUS)].fetch_add(1, SeqCst);
            event();
        }
    });
}

fn install_handlers() {
    for signal in [DEVICE, IPI, TIMER] {
        // SAFETY: a zeroed action is valid; the handler does only what is safe in one, which is what is tested.
        unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = handler as extern "C" fn(i32) as usize;
            action.sa_mask = interrupts();
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
        }
    }
}

fn tick(microseconds: libc::suseconds_t) {
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: microseconds,
    };
    let timer = libc::itimerval {
        it_interval: time,
        it_value: time,
    };
    // SAFETY: the timer is valid, its signal handled.
    let result = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
    assert_eq!(result, 0);
}

fn run_cpu(cpu: usize) {
    CPU.set(cpu as u32);
    // SAFETY: always sound.
    THREADS[cpu].store(unsafe { libc::pthread_self() } as usize, SeqCst);
    announce();
    set_mask(libc::SIG_UNBLOCK);
    while !POWER_OFF.load(SeqCst) {
        if !EXECUTOR.turn() {
            Signals::idle(|| EXECUTOR.enter_idle());
            EXECUTOR.exit_idle();
        }
    }
    set_mask(libc::SIG_BLOCK);
}

// The tasks.

const CLASSES: [Class; 4] = [Class::Driver, Class::Timer, Class::Service, Class::User];

/// What a task saw last of [`EVENTS`].
static SEEN: [AtomicU64; WAKERS] = [const { AtomicU64::new(0) }; WAKERS];
static CELL_COUNT: AtomicU64 = AtomicU64::new(0);
static SLEEPS: AtomicU64 = AtomicU64::new(0);

/// Leaves its waker with the handlers.
fn register(index: usize) -> impl Future<Output = ()> {
    poll_fn(move |context| {
        WOKEN_BY_INTERRUPTS[index].get_or_init(|| context.waker().clone());
        announce();
        Poll::Ready(())
    })
}

/// Looks at every event, for ever. Every other one's polls are long, so that wakes find it running.
async fn watch(index: usize) {
    register(index).await;
    poll_fn(|_| {
        SEEN[index].store(EVENTS.load(SeqCst), SeqCst);
        announce();
        if index % 2 == 1 {
            // Waits for nothing: it is what the poll takes.
            for _ in 0..2000 {
                std::hint::spin_loop();
            }
        }
        Poll::<()>::Pending
    })
    .await;
}

fn spawn<F: Future<Output = ()> + Send + 'static>(class: Class, cpu: usize, future: F) -> executor::TaskId {
    let options = SpawnOptions::new(class, "signals").cpu(cpu as u32);
    let handle = EXECUTOR.spawn(options, future).unwrap();
    let id = handle.id();
    handle.detach();
    id
}

/// Watchers of every class on every CPU, and tasks whose wakers outlive them. How many watchers.
fn spawn_tasks() -> usize {
    let mut index = 0;
    for cpu in 0..CPUS {
        for class in CLASSES.into_iter().chain([Class::Service, Class::User]) {
            spawn(class, cpu, watch(index));
            index += 1;
        }
    }
    let watchers = index;
    for (cpu, class) in (0..CPUS).flat_map(|cpu| CLASSES.map(|class| (cpu, class))) {
        let at = index;
        spawn(class, cpu, async move {
            register(at).await;
            yield_now().await;
        });
        index += 1;
    }
    assert!(index <= WAKERS);
    spawn(Class::Driver, 0, async {
        loop {
            CELL_COUNT.fetch_add(u64::from(CELL.wait().await), SeqCst);
            announce();
        }
    });
    spawn(Class::Service, 1, async {
        loop {
            sleep_until::<Signals>(Signals::now() + 300_000).await;
            SLEEPS.fetch_add(1, SeqCst);
            announce();
        }
    });
    // Wakes from where tasks are polled.
    spawn(Class::Service, 0, async {
        loop {
            as_interrupt(event);
            for _ in 0..50 {
                yield_now().await;
            }
            sleep_until::<Signals>(Signals::now() + 1_000_000).await;
        }
    });
    watchers
}

/// The test's own thread, which is no CPU.
static TEST: OnceLock<Thread> = OnceLock::new();

/// Has the test look again at what it waits for. By CPUs, outside of interrupts.
fn announce() {
    if let Some(thread) = TEST.get() {
        thread.unpark();
    }
}

/// Waits for something that comes, and is announced then, unless a wake was lost.
fn wait_for(what: &str, mut come: impl FnMut() -> bool) {
    const LIMIT: Duration = Duration::from_secs(60);
    let start = Instant::now();
    while !come() {
        let left = LIMIT.checked_sub(start.elapsed());
        thread::park_timeout(left.unwrap_or_else(|| panic!("{what} never came")));
    }
}

fn the_counters_count() {
    let lock = lock_api::Mutex::<CountingLock, ()>::new(());
    as_interrupt(|| {
        drop(std::hint::black_box(Box::new(7)));
        drop(lock.lock());
    });
    assert_eq!(trespasses(), [1, 1, 1]);
    TRESPASSES.iter().for_each(|count| count.store(0, SeqCst));
    drop((std::hint::black_box(Box::new(7)), lock.lock()));
    assert_eq!(trespasses(), [0; 3], "outside of interrupts everything is allowed");
}

#[test]
fn a_wake_from_an_interrupt_allocates_frees_and_locks_nothing() {
    the_counters_count();
    set_mask(libc::SIG_BLOCK);
    install_handlers();
    TEST.get_or_init(thread::current);
    let watchers = spawn_tasks();
    let cpus: Vec<_> = (0..CPUS).map(|cpu| thread::spawn(move || run_cpu(cpu))).collect();
    wait_for("the CPUs", || THREADS.iter().all(|thread| thread.load(SeqCst) != 0));
    wait_for("the watchers", || {
        WOKEN_BY_INTERRUPTS[..watchers]
            .iter()
            .all(|waker| waker.get().is_some())
    });
    tick(TICK);
    // Devices interrupt, and now and then a thread that is no CPU wakes too.
    while TAKEN[..CPUS].iter().any(|taken| taken.load(SeqCst) < INTERRUPTS) {
        (0..CPUS).for_each(|cpu| send(cpu, DEVICE));
        as_interrupt(event);
        // A signal that is pending already is lost: gives those that take them the processor, should they share it.
        thread::yield_now();
    }
    wait_for("sleepers", || SLEEPS.load(SeqCst) >= 100);
    tick(0);
    // Whatever happened last, everybody gets to know of it.
    wait_for("the last event", || {
        let last = EVENTS.load(SeqCst);
        SEEN[..watchers].iter().all(|seen| seen.load(SeqCst) == last) && CELL_COUNT.load(SeqCst) == last
    });
    POWER_OFF.store(true, SeqCst);
    (0..CPUS).for_each(|cpu| send(cpu, IPI));
    cpus.into_iter().for_each(|cpu| cpu.join().unwrap());
    assert_eq!(
        trespasses(),
        [0; 3],
        "allocations, frees and locks in {} events",
        EVENTS.load(SeqCst)
    );
}
