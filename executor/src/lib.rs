//! The executor (model essay follows).
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod balance;
mod cpu;
mod executor;
mod fair;
mod gate;
mod join;
mod options;
mod platform;
mod prim;
mod raw_lock;
mod ready;
mod run;
mod slab;
mod state;
mod stats;
pub mod sync;
mod task;
mod timer;
mod waker;
mod wheel;

pub use executor::{Executor, MAX_CPUS};
pub use gate::Preempted;
pub use join::JoinHandle;
pub use options::{Class, JoinError, SpawnError, SpawnOptions, TaskId, WEIGHT_ONE};
pub use platform::Platform;
pub use raw_lock::RawSpinLock;
pub use ready::DRIVERS_PER_CPU;
pub use run::{BATCH, GRANT_NS, MAX_POLLS_PER_TURN, PASSED_NS, PASSED_POLLS};
pub use state::Activity;
pub use stats::{CpuInfo, Name, TaskInfo};
pub use timer::{Elapsed, Sleep, Timeout, YieldNow, sleep_until, timeout, yield_now};
