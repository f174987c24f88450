//! Which CPUs translate by an address space, and how they forget what is no longer true.
//!
//! A CPU keeps an address space active (and alive) in its slot until it activates another: going back to the same process
//! costs nothing. `cpus` has a bit for each such CPU.
//!
//! **Shootdown.** On machines whose invalidation reaches every CPU there is nothing to do but to call it. Elsewhere a change takes
//! a new *generation*, invalidates its own TLB, interrupts the other CPUs in `cpus`, and parks the frames that it removed. Each
//! CPU passes [`AddressSpace::activate`] before it goes to user mode, [`AddressSpace::checkpoint_active`] whenever it returns from
//! it, and [`AddressSpace::idle_checkpoint`] before it sleeps; there it invalidates if it is behind and says which generation it has `seen`. Frames parked under a generation are freed when
//! every CPU in `cpus` has seen it, by whoever sees it last. The change itself awaits that: no CPU ever spins for
//! another.
//!
//! The order that makes it safe: the changer writes the table, then the generation, then reads `cpus`; a CPU that
//! activates sets its bit, then reads the generation. One of them sees the other. Parked frames belong to the
//! address space and not to the future that waits, so that dropping the future frees nothing too early.

use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};
use core::{
    future::poll_fn,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    task::{Poll, Waker},
};

use hal::{
    MAX_CPUS,
    arch::{PageTable, PerCpu, controller},
    traits::{InterruptController, PageTableOps, PerCpuOps},
};

use super::{
    AddressSpace,
    table::{Batch, Table},
};
use crate::{
    sync::{Rank, SpinLock},
    tally,
};

static ACTIVE: [SpinLock<Option<Arc<AddressSpace>>>; MAX_CPUS] =
    [const { SpinLock::new(Rank::PageTable, None) }; MAX_CPUS];

// The `id` of what stands in ACTIVE, to be looked at without the lock; 0 for nothing.
static ACTIVE_ID: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The shootdown state of one address space.
pub struct Tlb {
    id: u64,
    generation: AtomicU64,
    cpus: AtomicU64,
    seen: [AtomicU64; MAX_CPUS],
    waiting: SpinLock<Waiting>,
}

struct Waiting {
    parked: VecDeque<(u64, Box<Batch>)>,
    wakers: Vec<Waker>,
}

impl Tlb {
    /// Nothing active, nothing to forget.
    pub fn new() -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, SeqCst),
            generation: AtomicU64::new(0),
            cpus: AtomicU64::new(0),
            seen: [const { AtomicU64::new(0) }; MAX_CPUS],
            waiting: SpinLock::new(
                Rank::WaitQueue,
                Waiting {
                    parked: VecDeque::new(),
                    wakers: Vec::new(),
                },
            ),
        }
    }

    /// The address space's number: no other has it or has had it.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Makes every CPU forget `start..end` of `table`. The frames of `batch` stay in it where that has happened by itself, to be
    /// dropped outside the lock; otherwise they are parked until it has. Called with the lock around the table held, which
    /// orders generations.
    pub fn forget(&self, table: &Table, start: u64, end: u64, batch: &mut Batch) -> Generation {
        table.invalidate(start, end);
        if PageTable::BROADCAST_INVALIDATE {
            return Generation(0);
        }
        let generation = self.generation.fetch_add(1, SeqCst) + 1;
        let own = PerCpu::cpu_id() as usize;
        let active = self.cpus.load(SeqCst);
        if active & 1 << own != 0 {
            if self.seen[own].load(SeqCst) + 1 < generation {
                table.invalidate(0, PageTable::USER_END);
            }
            self.seen[own].store(generation, SeqCst);
        }
        let others = active & !(1 << own);
        if others == 0 {
            return Generation(0);
        }
        if !batch.is_empty() {
            // One allocation of half a page: the kernel's reserve is there for it.
            self.waiting
                .lock()
                .parked
                .push_back((generation, Box::new(core::mem::take(batch))));
        }
        for cpu in cpus_in(others) {
            controller().send_ipi(cpu);
        }
        Generation(generation)
    }

    fn complete(&self, generation: u64) -> bool {
        cpus_in(self.cpus.load(SeqCst)).all(|cpu| self.seen[cpu as usize].load(SeqCst) >= generation)
    }

    /// Waits until every CPU that translates by this address space has seen `generation`.
    /// Dropping the future in between is safe.
    pub async fn wait(&self, generation: Generation) {
        let Generation(generation) = generation;
        poll_fn(|cx| {
            if generation == 0 || self.complete(generation) {
                return Poll::Ready(());
            }
            {
                let mut waiting = self.waiting.lock();
                if !waiting.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.wakers.push(cx.waker().clone());
                }
            }
            // Registered first, then looked again: whoever completes it after this sees the waker.
            if self.complete(generation) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Waits for every change made so far, whoever made it.
    pub async fn settle(&self) {
        if !PageTable::BROADCAST_INVALIDATE {
            self.wait(Generation(self.generation.load(SeqCst))).await;
        }
    }

    /// After this CPU has seen more, or left: frees what nobody can reach any more, and wakes who waits for it.
    fn progress(&self) {
        let (mut free, mut wakers) = (Vec::new(), Vec::new());
        {
            let mut waiting = self.waiting.lock();
            while waiting
                .parked
                .front()
                .is_some_and(|(generation, _)| self.complete(*generation))
            {
                free.extend(waiting.parked.pop_front());
            }
            core::mem::swap(&mut wakers, &mut waiting.wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
        drop(free);
    }
}

/// A change that other CPUs may still have to see; 0 where they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "the change is complete only once it has been waited for"]
pub struct Generation(u64);

impl Generation {
    /// Nothing to wait for.
    pub const NONE: Self = Self(0);
}

impl AddressSpace {
    /// Makes the calling CPU translate by this address space. Cheap where it already does.
    pub fn activate(self: &Arc<Self>) {
        let cpu = PerCpu::cpu_id() as usize;
        if ACTIVE_ID[cpu].load(SeqCst) == self.tlb.id {
            self.catch_up(cpu);
            return;
        }
        let previous = ACTIVE[cpu].lock().replace(self.clone());
        self.tlb.cpus.fetch_or(1 << cpu, SeqCst);
        {
            let inner = self.inner.lock();
            inner.table.activate();
            let generation = self.tlb.generation.load(SeqCst);
            if self.tlb.seen[cpu].swap(generation, SeqCst) < generation {
                inner.table.invalidate(0, PageTable::USER_END);
            }
        }
        ACTIVE_ID[cpu].store(self.tlb.id, SeqCst);
        if let Some(previous) = previous
            && !Arc::ptr_eq(&previous, self)
        {
            // It may be the last that keeps the tables of a program that has ended.
            tally::for_nobody(|| {
                previous.left_by(cpu);
                drop(previous);
            });
        }
    }

    /// Leaves the calling CPU without a user half, so that it keeps no address space alive. For a CPU about to idle, and
    /// before a program is replaced.
    pub fn deactivate_current() {
        let cpu = PerCpu::cpu_id() as usize;
        if ACTIVE_ID[cpu].swap(0, SeqCst) == 0 {
            return;
        }
        PageTable::deactivate();
        let previous = ACTIVE[cpu].lock().take();
        if let Some(previous) = previous {
            previous.left_by(cpu);
        }
    }

    /// The checkpoint of a CPU about to idle: forgets what other CPUs have unmapped, and lets go of an address space that no
    /// process uses any more. Called with interrupts masked, before the last look for work: the interrupt of a later
    /// shootdown then ends the sleep, and the CPU comes here again.
    pub fn idle_checkpoint() {
        let cpu = PerCpu::cpu_id() as usize;
        if ACTIVE_ID[cpu].load(SeqCst) == 0 {
            return;
        }
        let unused = ACTIVE[cpu].lock().as_ref().is_some_and(|active| active.users() == 0);
        if unused {
            Self::deactivate_current();
        } else if !PageTable::BROADCAST_INVALIDATE
            && let Some(active) = Self::active_here()
        {
            active.checkpoint_active();
        }
    }

    /// The address space that the calling CPU has active.
    fn active_here() -> Option<Arc<Self>> {
        ACTIVE[PerCpu::cpu_id() as usize].lock().clone()
    }

    /// Calls the CPUs that sleep and keep the tables of an address space which no process uses any more. On its way back to
    /// sleep each of them passes [`AddressSpace::idle_checkpoint`] and lets go.
    pub fn release_unused() {
        for (cpu, active) in (0..).zip(&ACTIVE) {
            let unused = active.lock().as_ref().is_some_and(|active| active.users() == 0);
            if unused {
                controller().send_ipi(cpu);
            }
        }
    }

    /// Forgets what other CPUs have unmapped of this address space, which is active on the calling one. Called by every CPU after
    /// it left user mode, with interrupts masked; before it goes there [`AddressSpace::activate`] does the same.
    #[inline]
    pub fn checkpoint_active(&self) {
        if !PageTable::BROADCAST_INVALIDATE {
            self.catch_up(PerCpu::cpu_id() as usize);
        }
    }

    #[inline]
    fn catch_up(&self, cpu: usize) {
        if self.tlb.seen[cpu].load(SeqCst) < self.tlb.generation.load(SeqCst) {
            self.catch_up_late(cpu);
        }
    }

    #[cold]
    fn catch_up_late(&self, cpu: usize) {
        {
            let inner = self.inner.lock();
            let generation = self.tlb.generation.load(SeqCst);
            inner.table.invalidate(0, PageTable::USER_END);
            self.tlb.seen[cpu].store(generation, SeqCst);
        }
        self.tlb.progress();
    }

    fn left_by(&self, cpu: usize) {
        self.tlb.cpus.fetch_and(!(1 << cpu), SeqCst);
        self.tlb.progress();
    }

    /// The CPUs that have this address space active, as a bit set.
    pub fn active_cpus(&self) -> u64 {
        self.tlb.cpus.load(SeqCst)
    }

    /// Frames that wait for other CPUs to forget them.
    pub fn parked_frames(&self) -> usize {
        let waiting = self.tlb.waiting.lock();
        waiting.parked.iter().map(|(_, batch)| batch.len()).sum()
    }
}

fn cpus_in(mut set: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let cpu = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (cpu < 64).then_some(cpu)
    })
}
