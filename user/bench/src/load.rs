//! What else the CPUs do while wakes are measured.

use user_sys::{self as sys, libc, syscall};

use crate::calls::{done, why};

/// Processes that are killed in the end.
pub struct Load(Vec<i32>);

impl Load {
    /// `each` of them on every CPU, which `body` gets.
    pub fn start(each: usize, body: fn(usize) -> i32) -> Result<Self, String> {
        let mut load = Self(Vec::new());
        for cpu in sys::cpus() {
            for _ in 0..each {
                let pid = sys::try_fork(|| {
                    // What the load itself starts goes with it.
                    let _alone = syscall!(SYS_setpgid, 0, 0);
                    sys::pin(&[cpu]);
                    body(cpu)
                });
                load.0.push(pid.map_err(why)?);
            }
        }
        Ok(load)
    }

    /// One that runs already.
    pub fn of(pid: i32) -> Self {
        Self(vec![pid])
    }

    /// It has ended by itself, and was waited for.
    pub fn over(mut self) {
        self.0.clear();
    }

    /// Gives all of it a scheduling class.
    pub fn schedule(&self, policy: i32, priority: i32) -> Result<(), String> {
        self.0.iter().try_for_each(|pid| schedule(*pid, policy, priority))
    }
}

/// Gives a thread, 0 for this one, a class and a priority.
pub fn schedule(pid: i32, policy: i32, priority: i32) -> Result<(), String> {
    done(syscall!(SYS_sched_setscheduler, pid, policy, &raw const priority))
}

impl Drop for Load {
    fn drop(&mut self) {
        for pid in &self.0 {
            // Its group, if it has come so far as to have one; else itself.
            let _killed = sys::kill(-pid, libc::SIGKILL);
            let _killed = sys::kill(*pid, libc::SIGKILL);
        }
        for pid in &self.0 {
            let _ended = sys::wait(*pid, 0);
        }
    }
}

pub fn spin(_: usize) -> i32 {
    // Without a hint to the CPU that it spins, which would end its turn in an emulator.
    loop {
        std::hint::black_box(());
    }
}

pub fn fork_for_ever(_: usize) -> i32 {
    while let Ok(pid) = sys::try_fork(|| 0) {
        if sys::wait(pid, 0).is_err() {
            break;
        }
    }
    1
}

/// A byte between two processes, there and back.
pub fn talk_for_ever(_: usize) -> i32 {
    let (there, back) = (sys::pipe(0), sys::pipe(0));
    let hand_on = |from: i32, to: i32| while sys::read(from, &mut [0]).is_ok() && sys::write(to, &[1]).is_ok() {};
    if sys::try_fork(|| {
        hand_on(there.0, back.1);
        1
    })
    .is_ok()
        && sys::write(there.1, &[1]).is_ok()
    {
        hand_on(back.0, there.1);
    }
    1
}

/// A timer's interrupt every hundred microseconds or so.
pub fn tick_for_ever(_: usize) -> i32 {
    no_slack();
    let time = sys::timespec(100_000);
    while syscall!(SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &raw const time, 0).is_ok() {}
    1
}

/// Asks for exact sleeps, where sleeps are not exact anyway.
pub fn no_slack() {
    let _unknown = syscall!(SYS_prctl, libc::PR_SET_TIMERSLACK, 1, 0, 0, 0);
}
