//! Which CPUs translate by an address space, and how they forget what is no longer true.
//!
//! A CPU keeps an address space active (and alive) in its slot until it activates another: going back to the same process
//! costs nothing.
//!
//! **Shootdown.** On machines whose invalidation reaches every CPU there is nothing to do but to call it. Elsewhere a change takes
//! a new generation ([`Generations`], whose members are the CPUs that have the address space active), invalidates its own TLB,
//! interrupts the other members, and parks the frames that it removed. Each CPU passes [`AddressSpace::activate`] before it goes
//! to user mode, [`AddressSpace::checkpoint_active`] when an interrupt brought it back, and [`AddressSpace::idle_checkpoint`] before it
//! sleeps; there it invalidates if it is behind. Frames parked under a generation are freed when every member has passed it, by
//! whoever passes last. The change itself awaits that: no CPU ever spins for another.
//!
//! Parked frames belong to the address space and not to the future that waits, so that dropping the future frees nothing too
//! early.

use alloc::{boxed::Box, collections::VecDeque, sync::Arc};
use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
    fence,
};

use executor::sync::Generations;
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
    sync::{Rank, RawIrqLock, SpinLock},
    tally,
};

static ACTIVE: [SpinLock<Option<Arc<AddressSpace>>>; MAX_CPUS] =
    [const { SpinLock::new(Rank::PageTable, None) }; MAX_CPUS];

// The `id` of what stands in ACTIVE, to be looked at without the lock; 0 for nothing. Each CPU's own.
static ACTIVE_ID: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The shootdown state of one address space.
pub struct Tlb {
    id: u64,
    generations: Generations<RawIrqLock<{ Rank::WaitQueue as u8 }>>,
    /// Frames that members may still reach, by the generation that they have to pass.
    parked: SpinLock<VecDeque<(u64, Box<Batch>)>>,
    /// Whether there are any; written under their lock.
    has_parked: AtomicBool,
}

impl Tlb {
    /// Nothing active, nothing to forget.
    pub fn new() -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, SeqCst),
            generations: Generations::new(),
            parked: SpinLock::new(Rank::WaitQueue, VecDeque::new()),
            has_parked: AtomicBool::new(false),
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
            return Generation::NONE;
        }
        let (generation, others) = self.generations.advance(PerCpu::cpu_id());
        if others == 0 {
            return Generation::NONE;
        }
        if !batch.is_empty() {
            // One allocation of half a page: the kernel's reserve is there for it.
            let mut parked = self.parked.lock();
            parked.push_back((generation, Box::new(core::mem::take(batch))));
            self.has_parked.store(true, SeqCst);
        }
        for cpu in executor::bits(others) {
            controller().send_ipi(cpu);
        }
        Generation(generation)
    }

    /// Waits until every CPU that translates by this address space has passed `generation`.
    /// Dropping the future in between is safe.
    pub async fn wait(&self, generation: Generation) {
        if !self.generations.have_passed(generation.0) {
            // Boxed, because it is rare and every thread's future has room for every wait.
            Box::pin(self.generations.wait(generation.0)).await;
        }
    }

    /// Waits for every change made so far, whoever made it.
    pub async fn settle(&self) {
        if !PageTable::BROADCAST_INVALIDATE {
            self.wait(Generation(self.generations.current())).await;
        }
    }

    /// The calling CPU has invalidated all that it translated by before `generation`.
    fn pass(&self, cpu: u32, generation: u64) {
        self.generations.pass(cpu, generation);
        self.free_parked();
    }

    /// After this CPU has passed a generation, or left: frees what nobody can reach any more.
    #[inline]
    fn free_parked(&self) {
        if !PageTable::BROADCAST_INVALIDATE && self.has_parked.load(SeqCst) {
            self.free_passed();
        }
    }

    #[cold]
    fn free_passed(&self) {
        loop {
            let passed = |(generation, _): &mut (u64, Box<Batch>)| self.generations.have_passed(*generation);
            // The lock is let go of before the frames are.
            let freed = {
                let mut parked = self.parked.lock();
                let freed = parked.pop_front_if(passed);
                self.has_parked.store(!parked.is_empty(), SeqCst);
                freed
            };
            if freed.is_none() {
                return;
            }
        }
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
    #[inline]
    pub fn activate(self: &Arc<Self>) {
        let cpu = PerCpu::cpu_id();
        if ACTIVE_ID[cpu as usize].load(Relaxed) == self.tlb.id {
            self.catch_up(cpu);
        } else {
            self.activate_anew(cpu);
        }
    }

    #[inline(never)]
    fn activate_anew(self: &Arc<Self>, cpu: u32) {
        let previous = ACTIVE[cpu as usize].lock().replace(self.clone());
        self.tlb.generations.join(cpu);
        self.inner.lock().table.activate();
        // So that a barrier on the CPUs that are seen to be among them (`membarrier`) leaves out none that then reads what is old.
        fence(SeqCst);
        // Who changes something from here on waits for this CPU, and may do so already.
        self.catch_up(cpu);
        ACTIVE_ID[cpu as usize].store(self.tlb.id, SeqCst);
        if let Some(previous) = previous
            && !Arc::ptr_eq(&previous, self)
        {
            previous.left_by(cpu);
            // It may be the last that keeps the tables of a program that has ended.
            if let Some(last) = Arc::into_inner(previous) {
                tally::for_nobody(|| drop(last));
            }
        }
    }

    /// Leaves the calling CPU without a user half, so that it keeps no address space alive. For a CPU about to idle, and
    /// before a program is replaced.
    pub fn deactivate_current() {
        let cpu = PerCpu::cpu_id();
        if ACTIVE_ID[cpu as usize].swap(0, SeqCst) == 0 {
            return;
        }
        PageTable::deactivate();
        let previous = ACTIVE[cpu as usize].lock().take();
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

    /// Forgets what other CPUs have unmapped of this address space, which is active on the calling one. Called where
    /// an interrupt brought the CPU back from user mode, with interrupts masked; before it goes there [`AddressSpace::activate`] does the same.
    #[inline]
    pub fn checkpoint_active(&self) {
        self.catch_up(PerCpu::cpu_id());
    }

    #[inline]
    fn catch_up(&self, cpu: u32) {
        if !PageTable::BROADCAST_INVALIDATE && self.tlb.generations.is_behind(cpu) {
            self.catch_up_late(cpu);
        }
    }

    #[cold]
    fn catch_up_late(&self, cpu: u32) {
        let generation = {
            let inner = self.inner.lock();
            let generation = self.tlb.generations.current();
            inner.table.invalidate(0, PageTable::USER_END);
            generation
        };
        // Frees and wakes, neither of which is for under the lock.
        self.tlb.pass(cpu, generation);
    }

    fn left_by(&self, cpu: u32) {
        self.tlb.generations.leave(cpu);
        if !PageTable::BROADCAST_INVALIDATE && self.tlb.has_parked.load(SeqCst) {
            tally::for_nobody(|| self.tlb.free_passed());
        }
    }

    /// The CPUs that have this address space active, as a bit set.
    pub fn active_cpus(&self) -> u64 {
        self.tlb.generations.members()
    }

    /// Frames that wait for other CPUs to forget them.
    pub fn parked_frames(&self) -> usize {
        let parked = self.tlb.parked.lock();
        parked.iter().map(|(_, batch)| batch.len()).sum()
    }
}
