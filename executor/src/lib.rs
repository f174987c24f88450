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
//! **A task's shared state is one word.** It says whether a wake is outstanding, whether the task stands in an inbox,
//! whether it has ended or is to end, and who joins it. Whoever makes "linked" appear on a resting task puts it into the
//! inbox of its CPU, so it stands there once. What a CPU does for its own tasks (wake at home, list, poll) is that CPU's own
//! business and costs no atomic operation.
//!
//! **A CPU's state towards others is one word as well**: a bit for every driver (or group of drivers), one each for the
//! timer, the inbox and a poke; and two that say that the CPU is asleep or in user mode. To make something ready is one
//! `fetch_or`, which also tells whether the CPU has to be interrupted. Falling asleep and entering user mode
//! ([`Executor::try_enter_user`]) are a compare-exchange from "nothing is ready". No wake can fall between looking and
//! leaving, because both are the same word.
//!
//! **Classes** ([`Class`]) are served in order, in bounded batches: drivers, by a bitmap of two levels; timer and service
//! tasks, first come, first served; user threads, real-time ones by priority ([`RealTime`]), the others fair by weighted run
//! time, in slices, spread over the CPUs. None starves another; the bounds are [`max_polls_per_turn`], [`PASSED_POLLS`],
//! [`PASSED_NS`], [`GRANT_NS`] and [`RUNTIME_NS`].
//!
//! **Time** is a wheel per CPU, which that CPU alone touches, and one one-shot timer, armed for the next sleeper
//! ([`sleep_until`]) or the end of a slice that somebody waits for, and else for nothing: there is no tick.
//!
//! **Cancelling** is dropping. [`Executor::abort`] marks the task and wakes it; its own CPU drops the future, outside every
//! lock, exactly once. A task that owns what must first come to rest holds that off ([`Executor::hold_abort`]). A future
//! that is dropped leaves whatever queue it waits in, and passes on a wake it was given ([`sync`]).
//!
//! **A CPU can leave** ([`Executor::retire`]): its tasks go on elsewhere, its drivers by the same wakers.
//!
//! # What costs what
//!
//! | operation | atomic read-modify-writes | memory |
//! |---|---|---|
//! | wake on the task's own CPU, in task context; poll | 0 | none |
//! | wake from elsewhere: a driver of the first level; of the second; another task | 1; 2; 3 | none |
//! | spawn at home, run to the end | 1 | none if future and output fit [`INLINE_BYTES`] and a slot is free |
//! | arm a timer, cancel it on the same CPU | 0 | none if an entry is free |
//! | fire a timer | 1, and the wake | none |
//!
//! # What a platform brings
//!
//! [`Platform`]: clock, one-shot timer, inter-processor interrupt, idling, whether an interrupt is being handled, and a raw
//! lock. The kernel ties it to its machine layer; the crate itself knows neither. Two platforms come with it:
//!
//! | feature | platform | for |
//! |---|---|---|
//! | `std` | `host::Machine` | host threads as CPUs: the same executor in a program |
//! | `simulation` | `simulation::Machine` | virtual CPUs, clock and interrupts, which replay from a seed: for tests of drivers |
//!
//! Neither is on by default, and without them the crate is `no_std`.
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

#![no_std]

extern crate alloc;

mod abort;
mod balance;
mod block;
mod cell;
mod cpu;
mod drivers;
mod end;
mod entry;
mod event;
mod executor;
mod fair;
mod gate;
mod heap;
#[cfg(all(feature = "std", not(loom)))]
pub mod host;
mod idle;
mod join;
mod latency;
mod load;
mod options;
mod platform;
mod prim;
mod queue;
mod raw_lock;
mod ready;
mod real_time;
mod retire;
mod run;
#[cfg(all(feature = "simulation", not(loom)))]
pub mod simulation;
mod slab;
mod state;
mod stats;
mod stopwatch;
pub mod sync;
mod task;
mod timer;
mod waker;
mod wheel;

pub use abort::{AbortOnDrop, HoldAbort};
pub use balance::bits;
pub use cell::INLINE_BYTES;
pub use event::Event;
pub use executor::{Executor, MAX_CPUS};
pub use gate::{InUser, Preempted};
pub use join::JoinHandle;
pub use load::{LOAD_SHIFT, PERIOD as LOAD_PERIOD};
pub use options::{Class, JoinError, Name, SpawnError, SpawnOptions, TaskId, WEIGHT_ONE};
pub use platform::Platform;
pub use raw_lock::RawSpinLock;
pub use ready::DRIVERS_PER_CPU;
pub use real_time::{PERIOD_NS, ROUND_ROBIN_SLICE, RUNTIME_NS, RealTime};
pub use retire::RetireError;
pub use run::{BATCH, GRANT_NS, PASSED_NS, PASSED_POLLS, max_polls_per_turn};
pub use state::Activity;
pub use stats::{CpuInfo, TaskInfo};
pub use stopwatch::Stopwatch;
pub use timer::{Elapsed, Sleep, Timeout, YieldNow, sleep_until, timeout, yield_now};
pub use waker::WakerCell;

/// Bytes that an armed [`Sleep`] uses besides itself, if there are many: an entry, and its part of a block of the wheel.
pub const TIMER_ENTRY_BYTES: usize =
    size_of::<entry::Entry>() + size_of::<block::Block>().div_ceil(block::RECORDS as usize);

#[cfg(not(loom))]
const _: () = assert!(
    size_of::<task::Head>() == 16 && size_of::<task::Body>() == 192 && size_of::<entry::Entry>() == 32,
    "four tasks to a cache line, and three more for each; two timer entries to one"
);
