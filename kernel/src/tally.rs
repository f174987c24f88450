//! What each CPU asks of the allocators and of the locks, counted, so that promises about them can be tested.
//!
//! - *A call that does not block allocates nothing.* Each thread has an [`Account`]; the CPU that polls a thread books what
//!   it counted meanwhile to it. `/proc/<tid>/allocations` shows it.
//! - *A wake from an interrupt allocates, frees and locks nothing* (invariant I1). Debug builds panic where that happens;
//!   every build counts it. `/proc/breenix/interrupt_context` shows that.
//! - *What is taken comes back.* [`Heap`] says exactly what of the heap is in use. `/proc/breenix/memory` shows it.
//!
//! A counter is written by its own CPU alone, which neither preempts nor moves what it polls: a load and a store do, and no
//! CPU touches another's cache line. Reading them all gives a sum that is exact once nobody counts any more.

use core::{
    array, fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use hal::{MAX_CPUS, arch::PerCpu, traits::PerCpuOps};

use crate::cpu;

/// What is counted of the allocators, with the name under which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Operation {
    /// A heap object or block was handed out.
    HeapAllocation,
    /// One came back.
    HeapFree,
    /// A frame was taken for anything but the heap.
    FrameAllocation,
    /// Such a frame came back.
    FrameFree,
}

/// How many kinds of [`Operation`] there are.
pub const OPERATIONS: usize = 4;

/// Their names, in order.
pub const OPERATION_NAMES: [&str; OPERATIONS] = ["heap_allocations", "heap_frees", "frame_allocations", "frame_frees"];

/// One number for each [`Operation`].
pub type Operations = [u64; OPERATIONS];

struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// By the owner. Wraps, as a sum over CPUs may be of increments here and decrements there.
    fn add(&self, change: u64) {
        self.set(self.get().wrapping_add(change));
    }
}

#[repr(align(64))]
struct PerCpuTally {
    operations: [Counter; OPERATIONS],
    /// `operations` when they were last booked to a thread, or left unbooked.
    booked: [Counter; OPERATIONS],
    heap_bytes: Counter,
    in_interrupt: [Counter; 3],
}

static TALLIES: [PerCpuTally; MAX_CPUS] = [const {
    PerCpuTally {
        operations: [const { Counter::new() }; OPERATIONS],
        booked: [const { Counter::new() }; OPERATIONS],
        heap_bytes: Counter::new(),
        in_interrupt: [const { Counter::new() }; 3],
    }
}; MAX_CPUS];

fn own() -> &'static PerCpuTally {
    &TALLIES[PerCpu::cpu_id() as usize]
}

/// What must not happen in interrupt context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Trespass {
    Allocation,
    Free,
    Lock,
}

impl Trespass {
    #[inline]
    fn check(self) {
        if PerCpu::in_interrupt() {
            self.found();
        }
    }

    #[cold]
    fn found(self) {
        own().in_interrupt[self as usize].add(1);
        if cfg!(debug_assertions) {
            panic!("{self:?} in interrupt context");
        }
    }
}

/// Called before anything is allocated.
///
/// # Panics
/// In debug builds, in interrupt context.
#[inline]
pub fn allocating() {
    Trespass::Allocation.check();
}

/// Called before anything is freed.
///
/// # Panics
/// In debug builds, in interrupt context.
#[inline]
pub fn freeing() {
    Trespass::Free.check();
}

/// Called before a lock of the kernel is taken.
///
/// # Panics
/// In debug builds, in interrupt context.
#[inline]
pub fn locking() {
    Trespass::Lock.check();
}

/// Counts a heap allocation that succeeded, of `bytes` with what rounding added.
pub fn heap_allocated(bytes: usize) {
    let own = own();
    own.operations[Operation::HeapAllocation as usize].add(1);
    own.heap_bytes.add(bytes as u64);
}

/// Counts what came back to the heap, `bytes` as in [`heap_allocated`].
pub fn heap_freed(bytes: usize) {
    let own = own();
    own.operations[Operation::HeapFree as usize].add(1);
    own.heap_bytes.add((bytes as u64).wrapping_neg());
}

/// Counts a frame that was taken for something else than the heap.
pub fn frames_taken() {
    own().operations[Operation::FrameAllocation as usize].add(1);
}

/// Counts such a frame that came back.
pub fn frames_given() {
    own().operations[Operation::FrameFree as usize].add(1);
}

/// What of the heap is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// Objects and blocks.
    pub objects: u64,
    /// Their bytes, with what rounding to the sizes of objects and blocks added.
    pub bytes: u64,
}

/// What of the heap is in use, over all CPUs.
pub fn heap() -> Heap {
    let mut heap = Heap::default();
    for cpu in &TALLIES {
        let taken = cpu.operations[Operation::HeapAllocation as usize].get();
        let given = cpu.operations[Operation::HeapFree as usize].get();
        heap.objects = heap.objects.wrapping_add(taken).wrapping_sub(given);
        heap.bytes = heap.bytes.wrapping_add(cpu.heap_bytes.get());
    }
    heap
}

/// Writes what each CPU did in interrupt context, a line a CPU.
pub fn write_interrupt_context(out: &mut dyn fmt::Write) -> fmt::Result {
    writeln!(out, "cpu allocations frees locks")?;
    cpu::online_cpus().try_for_each(|cpu| {
        let [allocations, frees, locks] = &TALLIES[cpu as usize].in_interrupt;
        writeln!(out, "{cpu} {} {} {}", allocations.get(), frees.get(), locks.get())
    })
}

/// What was done for one thread since it started, as far as it has been booked.
#[derive(Debug)]
pub struct Account([AtomicU64; OPERATIONS]);

impl Default for Account {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Account {
    /// What is booked.
    pub fn get(&self) -> Operations {
        array::from_fn(|kind| self.0[kind].load(Relaxed))
    }

    /// Books to this account what the calling CPU has counted since the last booking. By the thread's own poll.
    pub fn book(&self) {
        let own = own();
        for (kind, sum) in self.0.iter().enumerate() {
            let (now, before) = (own.operations[kind].get(), own.booked[kind].get());
            if now != before {
                own.booked[kind].set(now);
                sum.fetch_add(now.wrapping_sub(before), Relaxed);
            }
        }
    }
}

/// Leaves what the calling CPU has counted since the last booking to nobody: before a thread is polled.
pub fn book_to_nobody() {
    let own = own();
    for (booked, now) in own.booked.iter().zip(&own.operations) {
        booked.set(now.get());
    }
}

/// Runs what the calling CPU does on nobody's behalf, in whosever poll it happens: giving back what others have left to it.
pub fn for_nobody<T>(work: impl FnOnce() -> T) -> T {
    let own = own();
    let before: Operations = array::from_fn(|kind| own.operations[kind].get());
    let result = work();
    for (kind, before) in before.into_iter().enumerate() {
        let now = own.operations[kind].get();
        // Mostly there was nothing to do.
        if now != before {
            own.booked[kind].add(now.wrapping_sub(before));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_pays_for_what_its_own_polls_did() {
        // A CPU that no other test is.
        hal::host::machine().attach(63);
        let (first, second) = (Account::default(), Account::default());
        heap_allocated(16);
        book_to_nobody();
        heap_allocated(32);
        frames_taken();
        first.book();
        first.book();
        assert_eq!(first.get(), [1, 0, 1, 0]);
        heap_freed(32);
        for_nobody(|| heap_freed(16));
        second.book();
        assert_eq!((first.get(), second.get()), ([1, 0, 1, 0], [0, 1, 0, 0]));
    }

    #[test]
    #[should_panic(expected = "Lock in interrupt context")]
    fn a_lock_in_interrupt_context_is_found() {
        PerCpu::set_in_interrupt(true);
        drop(crate::sync::SpinLock::new(crate::sync::Rank::Log, ()).lock());
    }
}
