//! The executor itself: what every CPU shares, spawning, waking, aborting.

use core::{future::Future, marker::PhantomData, panic::Location};

use crate::{
    block::Block,
    cpu::PerCpu,
    entry::Entry,
    event::Event,
    join::JoinHandle,
    options::{Class, Name, SpawnError, SpawnOptions, TaskId},
    platform::Platform,
    prim::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, SeqCst},
        OwnedU32, array, const_fn, fence,
    },
    ready::{self, DIRECT, Interrupt},
    slab::{Cache, Slab},
    state::Wake,
    task::{Head, Task},
    waker::Target,
};

/// The most CPUs one executor drives.
pub const MAX_CPUS: usize = if cfg!(loom) { 2 } else { 64 };

/// In [`Executor::watched`]: polls and wakes are timed.
pub(crate) const TIMED: u32 = 1 << 0;
/// In [`Executor::watched`]: the platform is told of them. They are timed as well, so that only what is timed looks for this.
const TRACED: u32 = 1 << 1;

/// The executor of all CPUs: a `static`, made at compile time.
///
/// What each function may be called from is said there: *any context* includes interrupt handlers; *task context* is the
/// code of a task, or of a CPU that does not run its loop yet, never an interrupt handler.
pub struct Executor<P: Platform> {
    pub(crate) slab: Slab<Head>,
    pub(crate) entries: Slab<Entry>,
    pub(crate) blocks: Slab<Block>,
    pub(crate) cpus: [PerCpu<P>; MAX_CPUS],
    /// CPUs that have begun to turn.
    pub(crate) online: AtomicU64,
    /// CPUs that are idle, or are about to be, and that nobody has poked yet.
    pub(crate) idle: AtomicU64,
    /// CPUs that have left or are to leave.
    pub(crate) leaving: AtomicU64,
    /// [`TIMED`] and [`TRACED`]: what goes beyond the polls themselves. One word, so that whoever does neither looks once.
    watched: OwnedU32,
    platform: PhantomData<fn() -> P>,
}

impl<P: Platform> Executor<P> {
    const_fn! {
        /// An executor with no task.
        pub fn new() -> Self {
            Self {
                slab: Slab::new(),
                entries: Slab::new(),
                blocks: Slab::new(),
                cpus: array!(PerCpu::new()),
                online: AtomicU64::new(0),
                idle: AtomicU64::new(0),
                leaving: AtomicU64::new(0),
                watched: OwnedU32::new(0),
                platform: PhantomData,
            }
        }
    }

    /// Spawns a task. At most one allocation, for a future that does not fit [`INLINE_BYTES`](crate::INLINE_BYTES); now and
    /// then one more, when the slab of tasks grows. Task context.
    ///
    /// The task is first polled by its CPU's executor. Dropping the handle detaches it; aborting drops the future on its
    /// own CPU.
    ///
    /// # Errors
    /// See [`SpawnError`]; the future has been dropped.
    #[track_caller]
    #[inline]
    pub fn spawn<F>(&self, options: SpawnOptions, future: F) -> Result<JoinHandle<F::Output, P>, SpawnError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let id = self.spawn_at(&options, future, true, Location::caller())?;
        Ok(JoinHandle::new(id))
    }

    /// Spawns a task that nobody joins; which. As [`Executor::spawn`], and cheaper than detaching its handle.
    ///
    /// # Errors
    /// See [`SpawnError`]; the future has been dropped.
    #[track_caller]
    #[inline]
    pub fn spawn_detached<F>(&self, options: SpawnOptions, future: F) -> Result<TaskId, SpawnError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_at(&options, future, false, Location::caller())
    }

    #[inline]
    fn spawn_at<F>(
        &self,
        options: &SpawnOptions,
        future: F,
        handle: bool,
        location: &'static Location<'static>,
    ) -> Result<TaskId, SpawnError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let home = self.choose_cpu(options).ok_or(SpawnError::NoSuchCpu)?;
        let me = self.task_cpu();
        let task = Task::allocate(&self.slab, me.map(|(_, cpu)| &cpu.tasks), future);
        let task = task.ok_or(SpawnError::OutOfMemory)?;
        task.prepare(options, home, location);
        let id = TaskId::new(task.slot, task.state().generation());
        if options.class == Class::Driver {
            return self.start_driver(task, id, home, handle);
        }
        let fifo = me
            .filter(|(number, _)| *number == home)
            .and_then(|(_, cpu)| Some((cpu, cpu.fifo(options.class)?)));
        task.state().init(fifo.is_none(), handle);
        match fifo {
            Some((cpu, fifo)) => {
                task.set_queued(true);
                fifo.push(&self.slab, task);
                cpu.stir();
            }
            None => self.send_home(task, home),
        }
        Ok(id)
    }

    fn start_driver(&self, task: Task<'_>, id: TaskId, home: u32, handle: bool) -> Result<TaskId, SpawnError> {
        let cpu = &self.cpus[home as usize];
        let Some(driver) = cpu.reserve_driver() else {
            self.free(task, self.task_cache());
            return Err(SpawnError::NoDriverSlot);
        };
        task.set_driver(driver);
        task.state().init(false, handle);
        cpu.set_driver(driver, task.slot);
        self.mark_driver(home, driver);
        Ok(id)
    }

    #[inline(always)]
    fn choose_cpu(&self, options: &SpawnOptions) -> Option<u32> {
        let chosen = match options.cpu {
            Some(cpu) => cpu,
            None if options.class == Class::User => self.least_loaded(options.affinity)?,
            None => P::cpu(),
        };
        let allowed = options.class != Class::User || options.affinity >> (chosen & 63) & 1 == 1;
        ((chosen as usize) < MAX_CPUS && allowed && !self.has_left(chosen)).then_some(chosen)
    }

    /// The calling CPU, if the caller is a CPU in task context: then what is the CPU's own may be touched.
    #[inline]
    pub(crate) fn task_cpu(&self) -> Option<(u32, &PerCpu<P>)> {
        let here = if P::in_interrupt() { None } else { self.here() };
        debug_assert!(
            here.is_none_or(|(_, cpu)| !cpu.ready.is_away()),
            "a CPU that says that it leaves does no more in task context: nothing would bring it back for that"
        );
        here
    }

    /// The calling CPU's cache of free slots.
    pub(crate) fn task_cache(&self) -> Option<&Cache> {
        self.task_cpu().map(|(_, cpu)| &cpu.tasks)
    }

    /// Puts a task, whose link is the caller's, into its CPU's inbox, and calls the CPU if it is away.
    fn send_home(&self, task: Task<'_>, home: u32) {
        let Some(cpu) = self.cpus.get(home as usize) else {
            return;
        };
        if task.class() == Class::User {
            cpu.runnable.fetch_add(1, Relaxed);
        }
        P::checkpoint();
        cpu.ready.push(task);
        P::checkpoint();
        self.mark(home, ready::INBOX);
    }

    /// Makes bits of a CPU's word ready and interrupts it if need be. Any context.
    #[inline]
    pub(crate) fn mark(&self, cpu: u32, bits: u64) {
        let Some(target) = self.cpus.get(cpu as usize) else {
            return;
        };
        match target.ready.mark(bits) {
            Interrupt::NotNeeded => {}
            // Away, and yet executing this: an interrupt brought it back already, and it looks at its word before it
            // leaves again.
            Interrupt::Needed if P::cpu() == cpu => target.counts.ipis_saved.increment(),
            Interrupt::Needed => {
                target.counts.ipis_sent.increment();
                P::send_ipi(cpu);
            }
            Interrupt::Underway => target.counts.ipis_saved.increment(),
            Interrupt::Gone => self.mark(self.heir(cpu), ready::POKE),
        }
    }

    /// Makes a driver ready, from anywhere.
    fn mark_driver(&self, cpu: u32, driver: u32) {
        if let Some(target) = self.cpus.get(cpu as usize) {
            let bits = target.mark_driver(driver);
            if bits != 0 {
                self.mark(cpu, bits);
            }
        }
    }

    /// What a waker does. Any context; takes no lock, allocates and frees nothing.
    #[inline]
    pub(crate) fn wake(&self, target: Target) {
        self.wake_at(target, P::now);
    }

    /// As [`Executor::wake`], with the time, which is asked for where it is needed.
    #[inline]
    pub(crate) fn wake_at(&self, target: Target, now: impl FnOnce() -> u64) {
        match target {
            Target::Driver { cpu, driver } => self.wake_driver(cpu, driver),
            Target::Task(id) => self.wake_queued(id, now),
        }
    }

    #[inline]
    fn wake_driver(&self, cpu: u32, driver: u32) {
        let here = self.task_cpu().filter(|(me, _)| *me == cpu && driver < DIRECT);
        match here {
            Some((_, here)) if !self.is_timed() => here.wake_driver(driver),
            here => self.wake_driver_slowly(here.map(|(_, here)| here), cpu, driver),
        }
    }

    /// As [`Executor::wake_driver`], from elsewhere or timed. Apart, so that the other is short.
    #[inline(never)]
    fn wake_driver_slowly(&self, here: Option<&PerCpu<P>>, cpu: u32, driver: u32) {
        if self.is_timed() {
            self.note_driver_wake(cpu, driver);
        }
        match here {
            Some(here) => here.wake_driver(driver),
            None => self.mark_driver(cpu, driver),
        }
    }

    #[inline]
    fn wake_queued(&self, id: TaskId, now: impl FnOnce() -> u64) {
        let Some(task) = self.slab.get(id.slot()) else { return };
        let here = self.task_cpu().filter(|(me, _)| *me == task.home());
        let Some((me, cpu)) = here else {
            if task.state().wake(id.generation()) == Wake::Link {
                self.link(task);
            }
            return;
        };
        match cpu.fifo(task.class()) {
            // At home and in task context: what follows is the CPU's own. The task cannot end meanwhile.
            Some(fifo) => {
                if !task.is_queued() && task.state().is_wakeable(id.generation()) {
                    self.note_wake(task);
                    task.set_queued(true);
                    P::checkpoint();
                    fifo.push(&self.slab, task);
                    cpu.stir();
                }
            }
            None => {
                if task.state().wake(id.generation()) == Wake::Link {
                    self.link_user(me, cpu, task, now);
                }
            }
        }
    }

    /// The caller made `LINKED` appear.
    fn link(&self, task: Task<'_>) {
        self.note_wake(task);
        self.send_home(task, task.home());
    }

    /// As [`Executor::link`], for a user task at home in task context: into its queue, without the inbox.
    fn link_user(&self, me: u32, cpu: &PerCpu<P>, task: Task<'_>, now: impl FnOnce() -> u64) {
        if cpu.current.get() == task.slot {
            // Since when it waits is known when its poll is over.
            task.set_last_waker(me);
            if self.watched() & TRACED != 0 {
                Self::trace_wake(task);
            }
            return Self::woken_in_poll(cpu);
        }
        let now = now();
        self.note_wake_at(task, || now);
        cpu.runnable.fetch_add(1, Relaxed);
        P::checkpoint();
        self.receive_user(me, cpu, task, now);
        self.poke_idle(me, cpu);
        cpu.stir();
    }

    #[inline]
    fn note_wake(&self, task: Task<'_>) {
        self.note_wake_at(task, P::now);
    }

    #[inline]
    fn note_wake_at(&self, task: Task<'_>, now: impl FnOnce() -> u64) {
        task.set_last_waker(P::cpu());
        let watched = self.watched();
        if watched != 0 {
            Self::time_wake(task, watched, now());
        }
    }

    #[inline]
    fn time_wake(task: Task<'_>, watched: u32, now: u64) {
        task.woken_at.set(now);
        if watched & TRACED != 0 {
            Self::trace_wake(task);
        }
    }

    #[cold]
    #[inline(never)]
    fn trace_wake(task: Task<'_>) {
        P::trace(Event::Woken { task: task.id() });
    }

    #[cold]
    fn note_driver_wake(&self, cpu: u32, driver: u32) {
        let Some(target) = self.cpus.get(cpu as usize) else {
            return;
        };
        if let Some(task) = target.any_driver(&self.slab, driver) {
            task.set_last_waker(P::cpu());
            if task.woken_at.get() == 0 {
                Self::time_wake(task, self.watched(), P::now());
            }
        }
    }

    /// Asks for a task to be ended: its CPU drops the future instead of polling it again, and a user task is called back
    /// from user mode. A task that holds aborts off ([`HoldAbort`](crate::HoldAbort)) is polled instead, and can see the
    /// request ([`Executor::is_aborted`]). Nothing happens if it has ended already. Any context.
    pub fn abort(&self, id: TaskId) {
        let Some(task) = self.slab.get(id.slot()) else { return };
        if task.class() == Class::Driver {
            if task.state().abort_driver(id.generation()) {
                self.mark_driver(task.home(), task.driver());
            }
        } else if task.state().abort(id.generation()) == Wake::Link {
            self.link(task);
        }
    }

    /// Wakes a task by its identity, as its waker would: a task that runs is polled again, and called back from user mode
    /// for it. Any context.
    pub fn wake_task(&self, id: TaskId) {
        if let Some(task) = self.slab.get(id.slot())
            && task.state().is(id.generation())
        {
            self.wake(Target::of(task.number(id.generation())));
        }
    }

    /// The task that the calling CPU polls. Any context.
    pub fn current(&self) -> Option<TaskId> {
        let task = self.current_task()?;
        Some(TaskId::new(task.slot, task.state().generation()))
    }

    pub(crate) fn current_task(&self) -> Option<Task<'_>> {
        let cpu = self.cpus.get(P::cpu() as usize)?;
        self.slab.get(cpu.current.get())
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
            if task.affinity.get() == mask {
                return;
            }
            task.affinity.set(mask);
            // The mask first, then where the task is; whoever moves it writes where first, and looks at the mask second.
            fence(SeqCst);
            // After it has taken this bit, the gate looks at the mask, and the loop for idle CPUs that it admits.
            self.mark(task.home(), ready::POKE);
        })
    }

    /// Renames a task; the first 16 bytes are kept. False if it is gone. Task context.
    pub fn set_name(&self, id: TaskId, name: &str) -> bool {
        self.with_live(id, |task| task.set_name(Name::new(name)))
    }

    pub(crate) fn with_live(&self, id: TaskId, change: impl FnOnce(Task<'_>)) -> bool {
        match self.slab.get(id.slot()) {
            Some(task) if task.state().is(id.generation()) => {
                change(task);
                true
            }
            _ => false,
        }
    }

    /// Has the polls of kernel tasks timed, and the wait from each wake to its poll: what [`TaskInfo`](crate::TaskInfo)
    /// says of run times and latencies. Costs two readings of the clock per poll, and one per wake. User tasks' run time is
    /// always kept. Off at first. Any context.
    pub fn set_timing(&self, on: bool) {
        self.watched.set_bits(TIMED, on);
    }

    /// Whether polls are timed.
    #[inline]
    pub fn is_timed(&self) -> bool {
        self.watched.get() != 0
    }

    /// Has the platform told of every poll and every wake, by [`Platform::trace`]; they are timed as well while this is on.
    /// While it is off it costs nothing where nothing is timed, else one look at a word for each poll and each wake. Off at
    /// first. Any context.
    pub fn set_tracing(&self, on: bool) {
        self.watched.set_bits(TRACED, on);
    }

    /// [`TIMED`] and [`TRACED`].
    #[inline]
    pub(crate) fn watched(&self) -> u32 {
        self.watched.get()
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
