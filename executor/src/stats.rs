//! Looking inside: every task and every CPU, for listings. Values are read one by one while the machine runs; each is
//! right, all together are not one instant. Task context.

use core::panic::Location;

use crate::{
    executor::Executor,
    options::{Class, Name, TaskId},
    platform::Platform,
    prim::Ordering::Relaxed,
    real_time::RealTime,
    state::Activity,
    task::Task,
};

/// What is known of a task.
#[derive(Clone, Copy, Debug)]
pub struct TaskInfo {
    /// Which.
    pub id: TaskId,
    /// Its name.
    pub name: Name,
    /// Its class.
    pub class: Class,
    /// What it does.
    pub activity: Activity,
    /// Where it was spawned.
    pub spawned_at: Option<&'static Location<'static>>,
    /// Its CPU.
    pub cpu: u32,
    /// The CPU of its last wake, if a CPU it was. Of drivers, whose wake is a single
    /// bit, kept while [`Executor::set_timing`] is on.
    pub last_waker: Option<u32>,
    /// Polls so far.
    pub polls: u64,
    /// Nanoseconds polled, user mode included.
    pub run_ns: u64,
    /// Nanoseconds of that in user mode.
    pub user_ns: u64,
    /// The longest poll, in nanoseconds, user mode left out.
    pub longest_poll_ns: u64,
    /// Its share, for user tasks.
    pub weight: u32,
    /// What puts it before those that have one, for user tasks.
    pub real_time: RealTime,
    /// Its CPUs, for user tasks.
    pub affinity: u64,
    /// How often it waited how long from its wake to its poll, counted while [`Executor::set_timing`] is on: below 1.024 µs,
    /// 4.096, 16.384, 65.5, 262, 1049, 4194 µs, and longer. When one count is full all are halved.
    pub latencies: [u16; 8],
}

/// What is known of a CPU.
#[derive(Clone, Copy, Debug)]
pub struct CpuInfo {
    /// Which.
    pub cpu: u32,
    /// The task it polls, and its name.
    pub current: Option<(TaskId, Name)>,
    /// Ready tasks of the timer and service classes.
    pub queued: [usize; 2],
    /// User tasks ready or running.
    pub runnable: u32,
    /// Sleeping futures on its wheel.
    pub timers: usize,
    /// Polls so far.
    pub polls: u64,
    /// User tasks taken from other CPUs.
    pub steals: u64,
    /// User tasks sent to other CPUs.
    pub pushes: u64,
    /// Nanoseconds since it began to run its loop.
    pub total_ns: u64,
    /// Nanoseconds of that asleep.
    pub idle_ns: u64,
    /// Nanoseconds in user mode, on behalf of tasks with a whole share or more.
    pub user_ns: u64,
    /// Nanoseconds in user mode, on behalf of tasks with less than a whole share.
    pub low_ns: u64,
    /// Times asleep.
    pub idles: u64,
    /// Entries to user mode.
    pub user_entries: u64,
    /// Entries to user mode refused.
    pub preemptions: u64,
    /// Timer interrupts.
    pub timer_interrupts: u64,
    /// Inter-processor interrupts received.
    pub ipis_received: u64,
    /// Inter-processor interrupts that wakes sent to it.
    pub ipis_sent: u64,
    /// Wakes while it was away that needed no interrupt of their own.
    pub ipis_saved: u64,
}

fn describe(task: Task<'_>, polled: bool) -> Option<TaskInfo> {
    let (generation, activity) = task.state().snapshot()?;
    let activity = if polled && activity != Activity::Finished {
        Activity::Running
    } else if activity == Activity::Waiting && task.is_queued() {
        Activity::Ready
    } else {
        activity
    };
    let info = TaskInfo {
        id: TaskId::new(task.slot, generation),
        name: task.name(),
        class: task.class(),
        activity,
        spawned_at: task.location(),
        cpu: task.home(),
        last_waker: task.last_waker(),
        polls: task.polls.get(),
        run_ns: task.run_ns.get(),
        user_ns: task.user_ns.get(),
        longest_poll_ns: task.longest_poll_ns(),
        weight: task.share().weight(),
        real_time: task.share().real_time(),
        affinity: task.affinity.get(),
        latencies: task.latencies.counts(),
    };
    // Still the same task: else what was read may be of two.
    task.state().is(generation).then_some(info)
}

impl<P: Platform> Executor<P> {
    /// Every task there is.
    pub fn tasks(&self) -> impl Iterator<Item = TaskInfo> {
        self.slab.iter().filter_map(|task| self.describe(task))
    }

    fn describe(&self, task: Task<'_>) -> Option<TaskInfo> {
        let home = self.cpus.get(task.home() as usize)?;
        let polled = home.current.get() == task.slot;
        let mut info = describe(task, polled)?;
        if polled {
            let times = &home.times;
            let in_user = times.user.elapsed(P::ticks) + times.low.elapsed(P::ticks);
            info.user_ns += P::nanoseconds(in_user.saturating_sub(home.running.user_before.get()));
        }
        Some(info)
    }

    /// One task; `None` if it is gone.
    pub fn task(&self, id: TaskId) -> Option<TaskInfo> {
        self.describe(self.slab.get(id.slot())?).filter(|info| info.id == id)
    }

    /// Every CPU that runs its loop.
    pub fn cpus(&self) -> impl Iterator<Item = CpuInfo> {
        (0..Self::max_cpus() as u32)
            .filter(|cpu| self.online() >> cpu & 1 == 1)
            .filter_map(|cpu| self.cpu(cpu))
    }

    /// The load averages over 1, 5 and 15 minutes, with [`LOAD_SHIFT`](crate::LOAD_SHIFT) fractional bits: how many user
    /// tasks are ready or running, by Linux's formula.
    pub fn load_averages(&self) -> [u64; 3] {
        let now = P::now();
        let mut sums = [0; 3];
        for cpu in &self.cpus {
            let averages = cpu.load.with(|load| {
                load.advance(now, cpu.active.get());
                load.averages()
            });
            sums.iter_mut().zip(averages).for_each(|(sum, average)| *sum += average);
        }
        sums
    }

    /// One CPU; `None` if there is no room for it.
    pub fn cpu(&self, number: u32) -> Option<CpuInfo> {
        let cpu = self.cpus.get(number as usize)?;
        let counts = &cpu.counts;
        let current = self
            .slab
            .get(cpu.current.get())
            .and_then(|task| self.describe(task))
            .map(|task| (task.id, task.name));
        Some(CpuInfo {
            cpu: number,
            current,
            queued: [cpu.fifos[0].len(), cpu.fifos[1].len()],
            runnable: cpu.runnable.load(Relaxed),
            timers: cpu.wheel.len(),
            polls: counts.polls.get(),
            steals: counts.steals.get(),
            pushes: counts.pushes.get(),
            idle_ns: cpu.times.idle.elapsed(P::now),
            user_ns: P::nanoseconds(cpu.times.user.elapsed(P::ticks)),
            low_ns: P::nanoseconds(cpu.times.low.elapsed(P::ticks)),
            // Read last, so that the parts are no more than the whole.
            total_ns: P::now().saturating_sub(cpu.since.get()),
            idles: counts.idles.get(),
            user_entries: counts.user_entries.get(),
            preemptions: counts.preemptions.get(),
            timer_interrupts: counts.timer_interrupts.get(),
            ipis_received: counts.ipis_received.get(),
            ipis_sent: counts.ipis_sent.get(),
            ipis_saved: counts.ipis_saved.get(),
        })
    }
}
