//! Breenix's executor: the only form of concurrency in the kernel.
//!
//! # The model
//!
//! A *task* is a future with a name. A *CPU* runs one loop ([`Executor::run`]) that polls the tasks which are ready and
//! sleeps when there are none. A poll is never preempted; it ends by itself and is short. An *interrupt handler* does one
//! thing, it wakes; and a *wake* says no more than "poll this task again".
//!
//! **Wakers are integers**, slot and generation of a header in a slab that never shrinks. So a wake takes no lock and no
//! memory and frees none, wherever it happens, and a stale one finds another generation and does nothing.
//!
//! **A task's state is one word.** It says whether a wake is outstanding, whether a CPU polls it, whether it has ended or
//! is to end, and who joins it. A task stands in at most one queue: whoever makes "woken" appear on a resting task queues
//! it; a wake of a running task is found by its poller.
//!
//! **A CPU's state towards others is one word as well**: a bit for every driver, one each for the timer, the inbox and a
//! poke; and two that say that the CPU is asleep or in user mode. To make something ready is one `fetch_or`, which also
//! tells whether the CPU has to be interrupted. Falling asleep and entering user mode ([`Executor::try_enter_user`]) are a
//! compare-exchange from "nothing is ready". No wake can fall between looking and leaving, because both are the same word.
//!
//! **Classes** ([`Class`]) are served in order, in bounded batches: drivers, by a bitmap; timer and service tasks, first
//! come, first served; user threads, fair by weighted run time, in slices, spread over the CPUs. None starves another; the
//! bounds are [`MAX_POLLS_PER_TURN`], [`PASSED_POLLS`], [`PASSED_NS`] and [`GRANT_NS`].
//!
//! **Time** is a wheel per CPU with its entries in the sleeping futures ([`sleep_until`]), and one one-shot timer, armed for
//! the next sleeper or the end of a slice that somebody waits for, and else for nothing: there is no tick.
//!
//! **Cancelling** is dropping. [`Executor::abort`] marks the task and wakes it; its own CPU drops the future, outside every
//! lock, exactly once. A future that is dropped leaves whatever queue it waits in, and passes on a wake it was given
//! ([`sync`]).
//!
//! # What a platform brings
//!
//! [`Platform`]: clock, one-shot timer, inter-processor interrupt, idling, and a raw lock. The kernel ties it to its
//! machine layer; on a host, `host::Machine` is one over threads. The crate itself knows neither machine nor kernel.
//!
//! ```
//! use executor::{Class, Platform, SpawnOptions, host::{Host, Machine}, sleep_until};
//!
//! let machine = Machine::new(2);
//! let executor = machine.executor();
//! let answer = machine.run(async move {
//!     let task = async {
//!         sleep_until::<Host>(Host::now() + 1_000_000).await;
//!         42
//!     };
//!     let handle = executor.spawn(SpawnOptions::new(Class::Service, "answer").cpu(1), task).unwrap();
//!     handle.await.unwrap()
//! });
//! assert_eq!(answer, Ok(42));
//! ```

#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod balance;
mod cpu;
mod executor;
mod fair;
mod gate;
#[cfg(all(not(target_os = "none"), not(loom)))]
pub mod host;
mod join;
mod load;
mod options;
mod platform;
mod prim;
mod raw_lock;
mod ready;
mod run;
mod slab;
mod state;
mod stats;
mod stopwatch;
pub mod sync;
mod task;
mod timer;
mod waker;
mod wheel;

pub use executor::{Executor, MAX_CPUS};
pub use gate::Preempted;
pub use join::JoinHandle;
pub use load::{LOAD_SHIFT, PERIOD as LOAD_PERIOD};
pub use options::{Class, JoinError, SpawnError, SpawnOptions, TaskId, WEIGHT_ONE};
pub use platform::Platform;
pub use raw_lock::RawSpinLock;
pub use ready::DRIVERS_PER_CPU;
pub use run::{BATCH, GRANT_NS, MAX_POLLS_PER_TURN, PASSED_NS, PASSED_POLLS};
pub use state::Activity;
pub use stats::{CpuInfo, Name, TaskInfo};
pub use stopwatch::Stopwatch;
pub use timer::{Elapsed, Sleep, Timeout, YieldNow, sleep_until, timeout, yield_now};

#[cfg(not(loom))]
const _: () = assert!(size_of::<task::Header>() <= 256, "a task's header stays small");
