//! Nice values and policies, and what they mean to the executor.

use core::sync::atomic::{AtomicU32, Ordering, fence};

use executor::RealTime;
use linux_raw_sys::general::{SCHED_FIFO, SCHED_IDLE, SCHED_NORMAL, SCHED_RR};

use super::{limits::Resource, thread::Thread};
use crate::rt;

/// The weight of each nice level from -20 to 19: a level is about a tenth more or less CPU (`sched_prio_to_weight` of
/// Linux's `kernel/sched/core.c`).
const WEIGHTS: [u32; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, // -20 to -11
    9548, 7620, 6100, 4904, 3906, 3121, 2501, 1991, 1586, 1277, // -10 to -1
    1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, // 0 to 9
    110, 87, 70, 56, 45, 36, 29, 23, 18, 15, // 10 to 19
];

/// The weight of `SCHED_IDLE`, whatever the nice value (`WEIGHT_IDLEPRIO`).
const IDLE_WEIGHT: u32 = 3;

/// A scheduling policy with what belongs to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `SCHED_*`.
    pub number: u32,
    /// 1 to 99 for the real-time policies, else 0.
    pub priority: u32,
    /// Whether children do not inherit what is above the ordinary.
    pub reset_on_fork: bool,
}

impl Policy {
    /// Whether it is one of the real-time policies.
    pub const fn is_real_time(self) -> bool {
        matches!(self.number, SCHED_FIFO | SCHED_RR)
    }
}

/// A [`Policy`] that is changed as a whole.
#[derive(Debug, Default)]
pub struct PolicyCell(AtomicU32);

impl PolicyCell {
    const RESET: u32 = 1 << 16;

    /// The ordinary policy.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The policy.
    pub fn get(&self) -> Policy {
        let word = self.0.load(Ordering::Relaxed);
        Policy {
            number: word & 0xff,
            priority: word >> 8 & 0xff,
            reset_on_fork: word & Self::RESET != 0,
        }
    }

    /// Replaces it.
    pub fn set(&self, policy: Policy) {
        let reset = if policy.reset_on_fork { Self::RESET } else { 0 };
        self.0
            .store(policy.number | policy.priority << 8 | reset, Ordering::Relaxed);
    }
}

/// A thread's share of a CPU, 1024 for an ordinary one.
pub fn weight(thread: &Thread) -> u32 {
    if thread.policy.get().number == SCHED_IDLE {
        return IDLE_WEIGHT;
    }
    WEIGHTS[(thread.nice() + 20).clamp(0, 39) as usize]
}

/// A thread's own real-time priority: 1 to 99, 0 of a fair one.
pub fn own_priority(thread: &Thread) -> u8 {
    let policy = thread.policy.get();
    if policy.is_real_time() {
        policy.priority as u8
    } else {
        0
    }
}

/// The priority it goes by: its own, or that of the best who waits for a lock that it has.
pub fn priority(thread: &Thread) -> u8 {
    own_priority(thread).max(thread.inherited.load(Ordering::SeqCst))
}

/// What puts a thread before all that have a share. Who has inherited it takes turns only if its own policy says so.
pub fn real_time(thread: &Thread) -> RealTime {
    match thread.policy.get().number {
        SCHED_RR => RealTime::round_robin(priority(thread)),
        _ => RealTime::fifo(priority(thread)),
    }
}

/// Tells the executor a thread's policy and the CPUs it may run on, as they are now, and those whose locks it waits for its
/// priority. Before its task is known it tells the executor nothing: the task's first poll does it again.
pub fn apply(thread: &Thread) {
    apply_share(thread);
    if let Some(id) = thread.task_id() {
        rt::executor().set_affinity(id, thread.affinity.load(Ordering::Relaxed));
    }
    super::futex::pi::adjust(thread);
}

/// As [`apply`], of the policy and the priority alone.
pub(super) fn apply_share(thread: &Thread) {
    let Some(id) = thread.task_id() else { return };
    let share = || (weight(thread), real_time(thread));
    let mut now = share();
    loop {
        rt::executor().set_policy(id, now.0, now.1);
        // Whoever has changed it meanwhile may have been overwritten.
        fence(Ordering::SeqCst);
        let told = core::mem::replace(&mut now, share());
        if told == now {
            return;
        }
    }
}

/// Whether a thread's limits allow it this nice value (`RLIMIT_NICE`), the one it has left aside.
pub fn allows_nice(thread: &Thread, nice: i32) -> bool {
    let needed = u64::from((20 - nice).cast_unsigned());
    needed <= thread.process().limits().get(Resource::Nice).soft
}

/// Gives a new thread its parent's policy and nice value, or ordinary ones where the parent's are better and
/// `SCHED_RESET_ON_FORK` is set.
pub(super) fn inherit(parent: &Thread, child: &Thread) {
    let (mut policy, mut nice) = (parent.policy.get(), parent.nice());
    if policy.reset_on_fork {
        if policy.is_real_time() {
            (policy.number, policy.priority, nice) = (SCHED_NORMAL, 0, 0);
        }
        nice = nice.max(0);
        policy.reset_on_fork = false;
    }
    child.policy.set(policy);
    child.set_nice(nice);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::testing;

    #[test]
    fn weights_are_linux_s() {
        let thread = testing::thread(9001);
        let of = |nice: i32| {
            thread.set_nice(nice);
            weight(&thread)
        };
        assert_eq!(
            [-20, -10, -1, 0, 1, 10, 19].map(of),
            [88761, 9548, 1277, 1024, 820, 110, 15]
        );
        thread.policy.set(Policy {
            number: SCHED_IDLE,
            ..Policy::default()
        });
        assert_eq!(of(-20), 3);
    }

    #[test]
    fn a_child_inherits_unless_that_is_reset() {
        let (parent, child) = (testing::thread(9002), testing::thread(9003));
        let inherited = |number, priority, reset_on_fork, nice| {
            parent.policy.set(Policy {
                number,
                priority,
                reset_on_fork,
            });
            parent.set_nice(nice);
            inherit(&parent, &child);
            let policy = child.policy.get();
            assert!(!policy.reset_on_fork);
            (policy.number, policy.priority, child.nice())
        };
        assert_eq!(inherited(SCHED_RR, 99, false, -5), (SCHED_RR, 99, -5));
        assert_eq!(real_time(&child), RealTime::round_robin(99));
        assert_eq!(inherited(SCHED_FIFO, 7, true, 5), (SCHED_NORMAL, 0, 0));
        assert_eq!(real_time(&child), RealTime::NONE);
        assert_eq!(inherited(SCHED_IDLE, 0, true, -3), (SCHED_IDLE, 0, 0));
        assert_eq!(inherited(SCHED_NORMAL, 0, true, 4), (SCHED_NORMAL, 0, 4));
    }
}
