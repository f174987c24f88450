//! Wakers that are integers.
//!
//! | bits | a task in a queue | a driver |
//! |---|---|---|
//! | 63 | 0 | 1 |
//! | 62..32 | slot | |
//! | 31..0 | generation | CPU (16 bits) and number (16 bits) |
//!
//! Clone and drop do nothing, so an interrupt handler can neither allocate nor free by them. A waker kept after its task
//! has ended finds another generation and does nothing, or makes another driver look once in vain.

#![expect(unsafe_code, reason = "a waker whose data is a number")]

use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    task::{RawWaker, RawWakerVTable, Waker},
};

use crate::{Platform, options::TaskId, task::NONE};

const DRIVER: u64 = 1 << 63;
const _: () = assert!(usize::BITS == 64, "a waker's data is 64 bits");

/// What a waker's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A task by identity.
    Task(TaskId),
    /// A CPU's driver.
    Driver {
        /// The CPU.
        cpu: u32,
        /// Its number there.
        driver: u32,
    },
}

impl Target {
    /// The number of a driver's waker.
    pub const fn driver(cpu: u32, driver: u32) -> u64 {
        DRIVER | (cpu << 16 | driver & 0xffff) as u64
    }

    /// What the number says.
    #[inline]
    pub const fn of(number: u64) -> Self {
        if number & DRIVER != 0 {
            Self::Driver {
                cpu: number as u32 >> 16,
                driver: number as u32 & 0xffff,
            }
        } else {
            Self::Task(TaskId(number))
        }
    }
}

struct Table<P>(core::marker::PhantomData<P>);

impl<P: Platform> Table<P> {
    const TABLE: &'static RawWakerVTable = &RawWakerVTable::new(Self::clone, Self::wake, Self::wake, Self::drop);

    fn clone(data: *const ()) -> RawWaker {
        RawWaker::new(data, Self::TABLE)
    }

    fn wake(data: *const ()) {
        P::executor().wake(Target::of(data.addr() as u64));
    }

    fn drop(_: *const ()) {}
}

/// The waker of a number. Dropping it would do nothing, so it is not dropped.
#[inline]
pub fn waker<P: Platform>(number: u64) -> ManuallyDrop<Waker> {
    let data = core::ptr::without_provenance(number as usize);
    // SAFETY: the functions do nothing with the data but read it as a number, and may be called from any thread.
    ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(data, Table::<P>::TABLE)) })
}

/// The number of a waker of this executor; `None` for any other kind.
///
/// A table may exist once in each of the units that a crate is compiled in, so a table at another place is compared by what it
/// holds: tables of equal functions do the same. (Should the functions exist twice as well, a waker of this executor is taken for
/// another kind, and is kept as a whole.)
#[inline]
pub fn number<P: Platform>(waker: &Waker) -> Option<u64> {
    let ours = core::ptr::eq(waker.vtable(), Table::<P>::TABLE) || *waker.vtable() == *Table::<P>::TABLE;
    ours.then(|| waker.data().addr() as u64)
}

/// In a [`WakerCell`]: no waker. No task has the slot.
const EMPTY: u64 = NONE as u64;

/// A place for the waker of one task of this executor, for those who wake it again and again.
///
/// Such a waker is a number, so leaving it is a store and waking a load: nothing is taken out, and the task need not leave it
/// anew. Whoever leaves it, then looks for what it waits for, and whoever does that, then wakes, miss each other never.
pub struct WakerCell<P>(AtomicU64, PhantomData<fn() -> P>);

impl<P: Platform> WakerCell<P> {
    /// No waker.
    pub const fn new() -> Self {
        Self(AtomicU64::new(EMPTY), PhantomData)
    }

    /// Leaves a waker. False if it is of another kind, for which there is no room here.
    #[inline]
    pub fn register(&self, waker: &Waker) -> bool {
        let Some(number) = number::<P>(waker) else { return false };
        if self.0.load(SeqCst) != number {
            self.0.store(number, SeqCst);
        }
        true
    }

    /// Leaves the waker of a task that stands in queues, by anybody.
    #[inline]
    pub fn register_task(&self, task: TaskId) {
        self.0.store(task.0, SeqCst);
    }

    /// The task whose waker stands here; `None` for a driver's and for none.
    #[inline]
    pub fn task(&self) -> Option<TaskId> {
        match self.0.load(SeqCst) {
            EMPTY => None,
            number => match Target::of(number) {
                Target::Task(task) => Some(task),
                Target::Driver { .. } => None,
            },
        }
    }

    /// Wakes the task; false if none has left its waker. Any context.
    #[inline]
    pub fn wake(&self) -> bool {
        match self.0.load(SeqCst) {
            EMPTY => false,
            number => {
                P::executor().wake(Target::of(number));
                true
            }
        }
    }
}

impl<P: Platform> Default for WakerCell<P> {
    fn default() -> Self {
        Self::new()
    }
}
