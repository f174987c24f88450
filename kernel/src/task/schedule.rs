//! Nice values and policies, and what they mean to the executor.

use core::sync::atomic::Ordering;

use linux_raw_sys::general::SCHED_IDLE;

use super::thread::Thread;
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

/// A thread's share of a CPU, 1024 for an ordinary one.
pub fn weight(thread: &Thread) -> u32 {
    if thread.policy.load(Ordering::Relaxed).cast_unsigned() == SCHED_IDLE {
        return IDLE_WEIGHT;
    }
    WEIGHTS[(thread.nice.load(Ordering::Relaxed) + 20).clamp(0, 39) as usize]
}

/// Tells the executor a thread's share and the CPUs it may run on, as they are now. Before its task is known it does nothing:
/// the task's first poll does it again.
pub fn apply(thread: &Thread) {
    if let Some(id) = thread.task_id() {
        rt::executor().set_weight(id, weight(thread));
        rt::executor().set_affinity(id, thread.affinity.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::testing;

    #[test]
    fn weights_are_linux_s() {
        let thread = testing::thread(9001);
        let of = |nice: i32| {
            thread.nice.store(nice, Ordering::Relaxed);
            weight(&thread)
        };
        assert_eq!(
            [-20, -10, -1, 0, 1, 10, 19].map(of),
            [88761, 9548, 1277, 1024, 820, 110, 15]
        );
        thread.policy.store(SCHED_IDLE.cast_signed(), Ordering::Relaxed);
        assert_eq!(of(-20), 3);
    }
}
