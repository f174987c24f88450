//! Simulated machines, and which CPU of which machine the calling thread is.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    context::{FP_WORDS, Program},
    controller::Lines,
    paging::{Tables, Tlb},
};
use crate::{MAX_CPUS, trap::InterruptToken};

/// What belongs to one CPU.
pub(super) struct CpuState {
    pub masked: bool,
    pub in_interrupt: bool,
    pub ipi: bool,
    pub deadline: Option<u64>,
    pub fp: [u64; FP_WORDS],
    pub active: Option<Arc<Tables>>,
    pub tlb: Tlb,
}

/// One simulated machine.
pub struct Machine {
    clock: AtomicU64,
    random: AtomicU64,
    threads: AtomicUsize,
    cpus: [Mutex<CpuState>; MAX_CPUS],
    pub(super) lines: Mutex<Lines>,
    pub(super) programs: Mutex<BTreeMap<u64, Program>>,
    handler: Mutex<Option<fn(InterruptToken)>>,
    // Counts everything that may end an idle CPU's sleep.
    events: Mutex<u64>,
    event: Condvar,
}

struct Seat {
    machine: Arc<Machine>,
    cpu: u32,
}

impl Seat {
    fn take(machine: Arc<Machine>, cpu: u32) -> Self {
        machine.threads.fetch_add(1, Ordering::SeqCst);
        Self { machine, cpu }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.machine.threads.fetch_sub(1, Ordering::SeqCst);
        self.machine.notify();
    }
}

std::thread_local!(static SEAT: RefCell<Option<Seat>> = const { RefCell::new(None) });

/// A lock that a panicking test leaves behind still guards consistent plain data.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with_seat<R>(f: impl FnOnce(&mut Seat) -> R) -> R {
    SEAT.with(|seat| {
        f(seat
            .borrow_mut()
            .get_or_insert_with(|| Seat::take(Arc::new(Machine::new()), 0)))
    })
}

/// The machine that the calling thread belongs to.
pub fn machine() -> Arc<Machine> {
    with_seat(|seat| seat.machine.clone())
}

pub(super) fn with_machine<R>(f: impl FnOnce(&Machine) -> R) -> R {
    f(&machine())
}

/// The number of the CPU that the calling thread is. Also answers while the thread's own storage is being torn down.
pub(super) fn cpu_id() -> u32 {
    SEAT.try_with(|seat| seat.borrow().as_ref().map_or(0, |seat| seat.cpu))
        .unwrap_or(0)
}

/// Makes the calling thread CPU `cpu` of its machine.
///
/// # Panics
/// If the machine has no such CPU.
pub fn set_cpu_id(cpu: u32) {
    assert!((cpu as usize) < MAX_CPUS, "no CPU {cpu}");
    with_seat(|seat| seat.cpu = cpu);
}

pub(super) fn with_cpu<R>(f: impl FnOnce(&mut CpuState) -> R) -> R {
    let (machine, cpu) = with_seat(|seat| (seat.machine.clone(), seat.cpu));
    machine.with_cpu(cpu, f)
}

/// Claims an interrupt for the calling CPU, to be dispatched by the caller, if one is pending and interrupts are
/// unmasked.
pub fn take_interrupt() -> Option<InterruptToken> {
    let (machine, cpu) = with_seat(|seat| (seat.machine.clone(), seat.cpu));
    let masked = machine.with_cpu(cpu, |state| state.masked);
    (!masked && machine.interrupt_pending(cpu)).then_some(InterruptToken(0))
}

impl Machine {
    /// A machine at rest, its clock at zero.
    #[expect(
        clippy::new_without_default,
        reason = "a default machine would suggest that there is one for everybody"
    )]
    pub fn new() -> Self {
        Self {
            clock: AtomicU64::new(0),
            random: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
            threads: AtomicUsize::new(0),
            cpus: [const { Mutex::new(CpuState::new()) }; MAX_CPUS],
            lines: Mutex::new(Lines::default()),
            programs: Mutex::new(BTreeMap::new()),
            handler: Mutex::new(None),
            events: Mutex::new(0),
            event: Condvar::new(),
        }
    }

    /// Makes the calling thread CPU `cpu` of this machine, in place of what it was.
    pub fn attach(self: &Arc<Self>, cpu: u32) {
        assert!((cpu as usize) < MAX_CPUS, "no CPU {cpu}");
        let seat = Seat::take(self.clone(), cpu);
        SEAT.with(|slot| *slot.borrow_mut() = Some(seat));
    }

    /// Nanoseconds since the machine was made.
    pub fn clock(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// Sets the clock forward to `now`; a time already passed changes nothing. Timers that are due become pending.
    pub fn set_clock(&self, now: u64) {
        self.clock.fetch_max(now, Ordering::SeqCst);
        self.notify();
    }

    /// Moves the clock on.
    pub fn advance_clock(&self, nanoseconds: u64) {
        self.clock.fetch_add(nanoseconds, Ordering::SeqCst);
        self.notify();
    }

    /// The function that takes interrupts of CPUs that unmask them while running the kernel, with interrupts masked,
    /// like [`breenix_interrupt`](crate::upcall::breenix_interrupt).
    pub fn set_interrupt_handler(&self, handler: Option<fn(InterruptToken)>) {
        *lock(&self.handler) = handler;
    }

    /// Sets a device line's level; a rising edge also pends an edge-triggered line.
    pub fn raise_line(&self, line: u32, on: bool) {
        lock(&self.lines).raise(line, on);
        self.notify();
    }

    /// Lets contexts made for the entry point `entry` run `program`.
    pub fn register_program(&self, entry: u64, program: Program) {
        lock(&self.programs).insert(entry, program);
    }

    /// Whether an interrupt is waiting for CPU `cpu`, masked or not.
    pub fn interrupt_pending(&self, cpu: u32) -> bool {
        let now = self.clock();
        self.with_cpu(cpu, |state| {
            state.ipi || state.deadline.is_some_and(|deadline| deadline <= now)
        }) || lock(&self.lines).pending(cpu).is_some()
    }

    pub(super) fn with_cpu<R>(&self, cpu: u32, f: impl FnOnce(&mut CpuState) -> R) -> R {
        f(&mut lock(&self.cpus[cpu as usize]))
    }

    pub(super) fn next_random(&self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn notify(&self) {
        *lock(&self.events) += 1;
        self.event.notify_all();
    }

    /// Runs the interrupt handler for as long as the CPU has something pending and interrupts unmasked.
    pub(super) fn deliver(&self, cpu: u32) {
        let Some(handler) = *lock(&self.handler) else { return };
        while self.interrupt_pending(cpu) && !self.with_cpu(cpu, |state| std::mem::replace(&mut state.masked, true)) {
            handler(InterruptToken(0));
            self.with_cpu(cpu, |state| state.masked = false);
        }
    }

    /// Sleeps until CPU `cpu` has an interrupt pending. Where every other thread of the machine is gone, time jumps to
    /// the next deadline.
    ///
    /// # Panics
    /// If nothing can end the sleep any more.
    pub(super) fn idle(&self, cpu: u32) {
        let mut seen = *lock(&self.events);
        while !self.interrupt_pending(cpu) {
            if self.threads.load(Ordering::SeqCst) <= 1 {
                let next = self.cpus.iter().filter_map(|state| lock(state).deadline).min();
                match next {
                    Some(deadline) => self.set_clock(deadline),
                    None => panic!("CPU {cpu} idles and nothing is left that could wake it"),
                }
                if !self.interrupt_pending(cpu) {
                    // Another CPU, stepped by this same thread, is due.
                    return;
                }
                continue;
            }
            let mut events = lock(&self.events);
            while *events == seen {
                events = self.event.wait(events).unwrap_or_else(PoisonError::into_inner);
            }
            seen = *events;
        }
    }
}

impl CpuState {
    const fn new() -> Self {
        Self {
            masked: false,
            in_interrupt: false,
            ipi: false,
            deadline: None,
            fp: [0; FP_WORDS],
            active: None,
            tlb: Tlb::new(),
        }
    }
}
