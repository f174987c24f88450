//! Nice values and what they mean to the executor.

/// The share of a nice value, 1024 for 0 and a quarter more or less for each step (`sched_prio_to_weight`'s idea).
pub fn weight(nice: i32) -> u32 {
    let mut weight: u64 = 1024;
    for _ in 0..nice.unsigned_abs() {
        weight = if nice < 0 { weight * 5 / 4 } else { weight * 4 / 5 };
    }
    weight.max(15) as u32
}
