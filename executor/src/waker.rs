//! Wakers that are integers.
//!
//! | bits | a task in a queue | a driver |
//! |---|---|---|
//! | 63 | 0 | 1 |
//! | 62..32 | slot | |
//! | 31..0 | generation | CPU and bit |
//!
//! Clone and drop do nothing, so an interrupt handler can neither allocate nor free by them. A waker kept after its task
//! has ended finds another generation and does nothing, or makes another driver look once in vain.

#![expect(unsafe_code, reason = "a waker whose data is a number")]

use core::task::{RawWaker, RawWakerVTable, Waker};

use crate::{Platform, options::Class, options::TaskId, task::Header};

const DRIVER: u64 = 1 << 63;
const _: () = assert!(usize::BITS == 64, "a waker's data is 64 bits");

/// What a waker's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A task by identity.
    Task(TaskId),
    /// A CPU's driver bit.
    Driver {
        /// The CPU.
        cpu: u32,
        /// The bit.
        bit: u32,
    },
}

struct Table<P>(core::marker::PhantomData<P>);

impl<P: Platform> Table<P> {
    const TABLE: RawWakerVTable = RawWakerVTable::new(Self::clone, Self::wake, Self::wake, Self::drop);

    fn clone(data: *const ()) -> RawWaker {
        RawWaker::new(data, const { &Self::TABLE })
    }

    fn wake(data: *const ()) {
        let number = data.addr() as u64;
        let target = if number & DRIVER != 0 {
            Target::Driver {
                cpu: number as u32 >> 8,
                bit: number as u32 & 0xff,
            }
        } else {
            Target::Task(TaskId(number))
        };
        P::executor().wake(target);
    }

    fn drop(_: *const ()) {}
}

/// The waker of a task.
pub fn waker<P: Platform>(task: &Header, generation: u32) -> Waker {
    let number = match task.class() {
        Class::Driver => DRIVER | u64::from(task.home.get() << 8 | task.bit.get()),
        _ => TaskId::new(task.slot, generation).0,
    };
    let data = core::ptr::without_provenance(number as usize);
    // SAFETY: the functions do nothing with the data but read it as a number, and may be called from any thread.
    unsafe { Waker::from_raw(RawWaker::new(data, const { &Table::<P>::TABLE })) }
}
