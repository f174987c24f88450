//! The executor itself: what every CPU shares, spawning, waking, aborting.

use core::{future::Future, marker::PhantomData, panic::Location};

use crate::{
    cpu::{DRIVER_SLOTS, PerCpu},
    join::JoinHandle,
    options::{Class, SpawnError, SpawnOptions, TaskId},
    platform::Platform,
    prim::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        array, const_fn,
    },
    ready::{self, Interrupt},
    slab::Slab,
    state::Wake,
    task::{Cell, Header, NONE},
    waker::Target,
};

/// The most CPUs one executor drives.
pub const MAX_CPUS: usize = if cfg!(loom) { 2 } else { 64 };

/// The executor of all CPUs: a `static`, made at compile time.
///
/// What each function may be called from is said there: *any context* includes interrupt handlers; *task context* is the
/// code of a task, or of a CPU that does not run its loop yet, never an interrupt handler.
pub struct Executor<P: Platform> {
    pub(crate) slab: Slab,
    pub(crate) cpus: [PerCpu<P>; MAX_CPUS],
    /// CPUs that have begun to turn.
    pub(crate) online: AtomicU64,
    /// CPUs that are idle, or are about to be, and that nobody has poked yet.
    pub(crate) idle: AtomicU64,
    platform: PhantomData<fn() -> P>,
}

impl<P: Platform> Executor<P> {
    const_fn! {
        /// An executor with no task.
        pub fn new() -> Self {
            Self {
                slab: Slab::new(),
                cpus: array!(PerCpu::new()),
                online: AtomicU64::new(0),
                idle: AtomicU64::new(0),
                platform: PhantomData,
            }
        }
    }

    /// Spawns a task. One allocation, for the future and its output together; now and then one more, when the slab of
    /// headers grows. Task context.
    ///
    /// The task is first polled by its CPU's executor. Dropping the handle detaches it; aborting drops the future on its
    /// own CPU.
    ///
    /// # Errors
    /// See [`SpawnError`]; the future has been dropped.
    #[track_caller]
    pub fn spawn<F>(&self, options: SpawnOptions<'_>, future: F) -> Result<JoinHandle<F::Output, P>, SpawnError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let location = Location::caller();
        let home = self.choose_cpu(&options).ok_or(SpawnError::NoSuchCpu)?;
        let cell = Cell::new(future).ok_or(SpawnError::OutOfMemory)?;
        let bit = match options.class {
            Class::Driver => Some(self.reserve_driver(home).ok_or(SpawnError::NoDriverSlot)?),
            _ => None,
        };
        let Some((task, generation)) = self.slab.allocate_task(&options, home, cell, location) else {
            if let Some(bit) = bit {
                self.release_driver(home, bit);
            }
            return Err(SpawnError::OutOfMemory);
        };
        if let Some(bit) = bit {
            task.bit.set(bit);
            self.cpus[home as usize].drivers[bit as usize].store(task.slot, Release);
        }
        let handle = JoinHandle::new(TaskId::new(task.slot, generation));
        self.enqueue(task);
        Ok(handle)
    }

    fn choose_cpu(&self, options: &SpawnOptions<'_>) -> Option<u32> {
        let here = (P::cpu() as usize) < MAX_CPUS;
        let chosen = match options.cpu {
            Some(cpu) => cpu,
            None if options.class == Class::User => self.least_loaded(options.affinity)?,
            None if here => P::cpu(),
            None => return None,
        };
        let allowed = options.class != Class::User || options.affinity >> (chosen & 63) & 1 == 1;
        ((chosen as usize) < MAX_CPUS && allowed).then_some(chosen)
    }

    fn reserve_driver(&self, cpu: u32) -> Option<u32> {
        let used = &self.cpus[cpu as usize].drivers_used;
        let mut word = used.load(Relaxed);
        loop {
            let bit = word.trailing_ones();
            if bit as usize >= DRIVER_SLOTS {
                return None;
            }
            match used.compare_exchange(word, word | 1 << bit, AcqRel, Relaxed) {
                Ok(_) => return Some(bit),
                Err(now) => word = now,
            }
        }
    }

    /// Gives a driver's bit back. The bit may still be ready: it then finds no task, or the next one looks once in vain.
    pub(crate) fn release_driver(&self, cpu: u32, bit: u32) {
        let cpu = &self.cpus[cpu as usize];
        cpu.drivers[bit as usize].store(NONE, Release);
        cpu.drivers_used.fetch_and(!(1 << bit), AcqRel);
    }

    /// Queues a task whose link is the caller's, and calls its CPU if that is away.
    pub(crate) fn enqueue(&self, task: &Header) {
        let home = task.home.get();
        match task.class() {
            Class::Driver => self.mark(home, 1 << task.bit.get()),
            class => {
                let cpu = &self.cpus[home as usize];
                if class == Class::User {
                    cpu.runnable.fetch_add(1, Relaxed);
                }
                cpu.ready.push(task);
                self.mark(home, ready::INBOX);
            }
        }
    }

    /// Makes bits of a CPU's word ready and interrupts it if need be. Any context.
    pub(crate) fn mark(&self, cpu: u32, bits: u64) {
        let Some(target) = self.cpus.get(cpu as usize) else {
            return;
        };
        match target.ready.mark(bits) {
            // Away, and yet executing this: an interrupt brought it back already, and it looks at its word before it
            // leaves again.
            Interrupt::Needed if P::cpu() == cpu => target.counts.ipis_saved.increment(),
            Interrupt::Needed => {
                target.counts.ipis_sent.increment();
                P::send_ipi(cpu);
            }
            Interrupt::Underway => target.counts.ipis_saved.increment(),
            Interrupt::NotNeeded => {}
        }
    }

    /// What a waker does. Any context; takes no lock, allocates and frees nothing.
    pub(crate) fn wake(&self, target: Target) {
        match target {
            Target::Driver { cpu, bit } => {
                if bit < ready::DRIVERS_PER_CPU {
                    self.mark(cpu, 1 << bit);
                }
            }
            Target::Task(id) => {
                if let Some(task) = self.slab.get(id.slot()) {
                    self.woken(task, task.state.wake(id.generation()));
                }
            }
        }
    }

    fn woken(&self, task: &Header, wake: Wake) {
        match wake {
            Wake::Enqueue => {
                task.last_waker.set(P::cpu());
                self.enqueue(task);
            }
            // Its CPU may be in user mode on its behalf. On that very CPU the gate will see the wake.
            Wake::Recall if task.class() == Class::User && task.home.get() != P::cpu() => {
                self.mark(task.home.get(), ready::POKE);
            }
            Wake::Recall | Wake::Nothing => {}
        }
    }

    /// Asks for a task to be ended: its CPU drops the future instead of polling it again, and a user task is called back
    /// from user mode. Nothing happens if it has ended already. Any context.
    pub fn abort(&self, id: TaskId) {
        if let Some(task) = self.slab.get(id.slot()) {
            self.woken(task, task.state.abort(id.generation()));
        }
    }

    /// Wakes a task by its identity, as its waker would: a task that runs is polled again, and called back from user mode
    /// for it. Any context.
    pub fn wake_task(&self, id: TaskId) {
        self.wake(Target::Task(id));
    }

    /// The task that the calling CPU polls. Any context.
    pub fn current(&self) -> Option<TaskId> {
        let cpu = self.cpus.get(P::cpu() as usize)?;
        let task = self.slab.get(cpu.current.get())?;
        Some(TaskId::new(task.slot, task.state.generation()))
    }

    /// The calling CPU's one-shot timer has fired, and is disarmed. In interrupt context; one atomic operation.
    pub fn timer_interrupt(&self) {
        if let Some(cpu) = self.cpus.get(P::cpu() as usize) {
            cpu.counts.timer_interrupts.increment();
            self.mark(P::cpu(), ready::TIMER);
        }
    }

    /// Another CPU's [`Platform::send_ipi`] has arrived. In interrupt context. Only counts: having left idle or user mode
    /// is all that the interrupt was for.
    pub fn ipi_interrupt(&self) {
        if let Some(cpu) = self.cpus.get(P::cpu() as usize) {
            cpu.counts.ipis_received.increment();
        }
    }

    /// Sets the CPUs that a user task may run on. If it runs on another one it is called back and moves on; else it moves
    /// when it is to run. False if it is gone, or if the mask names no CPU that runs. Task context.
    pub fn set_affinity(&self, id: TaskId, mask: u64) -> bool {
        if mask & self.online.load(Relaxed) == 0 {
            return false;
        }
        self.with_live(id, |task| {
            task.affinity.set(mask);
            // After it has taken this bit, the gate looks at the mask, and the loop for idle CPUs that it admits.
            self.mark(task.home.get(), ready::POKE);
        })
    }

    /// Sets a user task's share, against [`WEIGHT_ONE`](crate::WEIGHT_ONE). False if it is gone. Task context.
    pub fn set_weight(&self, id: TaskId, weight: u32) -> bool {
        self.with_live(id, |task| task.set_weight(weight))
    }

    /// Renames a task; the first 16 bytes are kept. False if it is gone. Task context.
    pub fn set_name(&self, id: TaskId, name: &str) -> bool {
        self.with_live(id, |task| task.set_name(name))
    }

    fn with_live(&self, id: TaskId, change: impl FnOnce(&Header)) -> bool {
        match self.slab.get(id.slot()) {
            Some(task) if task.state.is(id.generation()) => {
                change(task);
                true
            }
            _ => false,
        }
    }

    /// The CPUs that run their loop: bit n is CPU n.
    pub fn online(&self) -> u64 {
        self.online.load(Acquire)
    }
}

impl<P: Platform> Default for Executor<P> {
    fn default() -> Self {
        Self::new()
    }
}
