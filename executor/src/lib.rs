//! The executor: the interface first, so that the rest of the kernel can be written against it.
#![no_std]

pub mod sync;

use core::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

/// What the executor asks of the machine. All functions are static: there is one machine.
pub trait Platform: Sized + Send + Sync + 'static {
    /// The short lock of the executor's own structures: in the kernel, the interrupt-masking one.
    type RawLock: lock_api::RawMutex + Send + Sync + 'static;
    /// How long a user task runs before another one gets its turn, in nanoseconds.
    const USER_SLICE: u64 = 4_000_000;
    /// The most times an idle CPU looks again before it sleeps; 0 where spinning never pays.
    const SPIN: u32 = 0;
    /// The one executor.
    fn executor() -> &'static Executor<Self>;
    /// The calling CPU, dense from 0. Stable between awaits.
    fn cpu() -> u32;
    /// Nanoseconds since boot: monotonic, the same on every CPU.
    fn now() -> u64;
    /// Arms the calling CPU's one-shot timer, replacing what was armed; `None` disarms it.
    fn arm_timer(deadline: Option<u64>);
    /// Interrupts another CPU. Stores made before are visible to whoever sees the interrupt.
    fn send_ipi(cpu: u32);
    /// Masks interrupts, calls `check`, and if it says true waits for an interrupt with no window between; unmasks.
    fn idle(check: impl FnOnce() -> bool);
    /// A hint that the caller spins.
    fn relax() {
        core::hint::spin_loop();
    }
}

/// Who goes first when several tasks are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Serves a device; pinned to its CPU; one bit of the CPU's ready word.
    Driver,
    /// Short work that keeps time for others.
    Timer,
    /// The kernel's own longer work.
    Service,
    /// User threads: fair by weight, sliced, stolen by idle CPUs.
    User,
}

/// How a task is to be spawned.
#[derive(Clone, Copy, Debug)]
pub struct SpawnOptions<'a> {
    /// Its class.
    pub class: Class,
    /// Its name; the first 16 bytes are kept.
    pub name: &'a str,
    /// The CPU it starts on; `None` is the caller's (the least loaded one for [`Class::User`]).
    pub cpu: Option<u32>,
    /// The CPUs it may run on, for [`Class::User`]: bit n is CPU n.
    pub affinity: u64,
    /// Its share among user tasks; 1024 is one share (nice 0).
    pub weight: u32,
}

impl<'a> SpawnOptions<'a> {
    /// A task of `class` called `name`, anywhere, with one share.
    pub const fn new(class: Class, name: &'a str) -> Self {
        Self { class, name, cpu: None, affinity: u64::MAX, weight: 1024 }
    }

    /// On this CPU.
    pub const fn cpu(mut self, cpu: u32) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// On these CPUs only.
    pub const fn affinity(mut self, mask: u64) -> Self {
        self.affinity = mask;
        self
    }

    /// With this share.
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }
}

/// Why a task could not be spawned. The future has been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// No memory for the future or for the slab.
    OutOfMemory,
    /// The CPU's driver bits are all taken.
    NoDriverSlot,
    /// The CPU is not one of this machine's, or not one of the affinity mask.
    NoSuchCpu,
}

/// Why a joined task has no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// It was aborted.
    Aborted,
}

/// A task's identity: stale ones are harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u64);

/// The user gate did not open: something else is to run first. Await [`yield_now`] and try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preempted;

/// The executor of all CPUs. A `static`.
pub struct Executor<P: Platform> {
    platform: PhantomData<fn() -> P>,
}

impl<P: Platform> Executor<P> {
    /// An executor with no task.
    #[expect(clippy::new_without_default, reason = "a static, made once")]
    pub const fn new() -> Self {
        Self { platform: PhantomData }
    }

    /// Runs the calling CPU's tasks for ever. Interrupts are unmasked.
    pub fn run(&self) -> ! {
        loop {
            self.turn();
        }
    }

    /// Polls what is ready, one batch; false if nothing was. For hosts and simulations.
    pub fn turn(&self) -> bool {
        unimplemented_yet()
    }

    /// The calling CPU's one-shot timer has fired. In interrupt context.
    pub fn timer_interrupt(&self) {
        unimplemented_yet()
    }

    /// Another CPU's [`Platform::send_ipi`] has arrived. In interrupt context.
    pub fn ipi_interrupt(&self) {
        unimplemented_yet()
    }

    /// Spawns a task; one allocation. In task context (or before [`Executor::run`]).
    ///
    /// # Errors
    /// See [`SpawnError`].
    #[track_caller]
    pub fn spawn<F>(&self, _options: SpawnOptions<'_>, _future: F) -> Result<JoinHandle<F::Output, P>, SpawnError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        unimplemented_yet()
    }

    /// Opens the way to user mode if nothing else is to run first. Called by a user task's poll, interrupts masked,
    /// directly before it enters user mode.
    ///
    /// # Errors
    /// [`Preempted`]: unmask, await [`yield_now`], try again.
    pub fn try_enter_user(&self) -> Result<(), Preempted> {
        unimplemented_yet()
    }

    /// Back from user mode, interrupts still masked, before the trap is looked at.
    pub fn leave_user(&self) {
        unimplemented_yet()
    }

    /// The task that the calling CPU polls.
    pub fn current(&self) -> Option<TaskId> {
        unimplemented_yet()
    }
}

/// Waits for a task's output. Dropping it detaches the task.
pub struct JoinHandle<T, P: Platform> {
    marker: PhantomData<(T, fn() -> P)>,
}

impl<T, P: Platform> JoinHandle<T, P> {
    /// Which task.
    pub fn id(&self) -> TaskId {
        unimplemented_yet()
    }

    /// Asks the task's CPU to drop it at its next await.
    pub fn abort(&self) {
        unimplemented_yet()
    }

    /// Lets the task run on with nobody waiting.
    pub fn detach(self) {}

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        unimplemented_yet()
    }
}

impl<T, P: Platform> Future for JoinHandle<T, P> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        unimplemented_yet()
    }
}

/// Ready at or after a deadline.
pub struct Sleep<P: Platform> {
    deadline: u64,
    platform: PhantomData<fn() -> P>,
}

/// Ready at `deadline` (nanoseconds, [`Platform::now`]'s clock), never early. Dropping it cancels.
pub const fn sleep_until<P: Platform>(deadline: u64) -> Sleep<P> {
    Sleep { deadline, platform: PhantomData }
}

impl<P: Platform> Future for Sleep<P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if P::now() >= self.deadline { Poll::Ready(()) } else { unimplemented_yet() }
    }
}

/// The deadline passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// Lets everything else that is ready run first.
pub async fn yield_now() {
    let mut yielded = false;
    core::future::poll_fn(|context| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn unimplemented_yet() -> ! {
    panic!("the interface only: the executor comes with the next commits")
}
