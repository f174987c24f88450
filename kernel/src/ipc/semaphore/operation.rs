//! One call's operations on a set: all or nothing.

use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{MAX_VALUE, Semaphore};
use crate::{
    errno::{Errno, Result},
    ipc::IPC_NOWAIT,
    task::Pid,
};

/// `SEM_UNDO`: take the change back when the process ends.
const UNDO: i16 = 0x1000;

/// `struct sembuf` (`linux/sem.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Operation {
    /// Which semaphore.
    pub number: u16,
    /// What is added; 0 waits for zero.
    pub change: i16,
    /// `IPC_NOWAIT`, `SEM_UNDO`.
    pub flags: i16,
}

/// One call's operations.
pub type Operations = SmallVec<[Operation; 4]>;

impl Operation {
    /// Whether it is to be undone at the end of the process.
    pub const fn undoes(&self) -> bool {
        self.flags & UNDO != 0
    }
}

/// Whether operations were done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// They were.
    Not,
    /// The one with this number has to wait.
    At(usize),
}

/// Does the operations in order, and books on `adjustments` what is to be undone; or takes back those that were done.
///
/// # Errors
/// `EAGAIN` if the one that has to wait must not, `ERANGE` for a value or an adjustment out of bounds.
pub fn perform(
    semaphores: &mut [Semaphore],
    operations: &[Operation],
    pid: Pid,
    adjustments: &mut [i16],
) -> Result<Blocked> {
    for (index, operation) in operations.iter().enumerate() {
        let outcome = one(semaphores, operation, adjustments);
        if outcome != Ok(true) {
            for done in operations[..index].iter().rev() {
                take_back(semaphores, done, adjustments);
            }
            return match outcome {
                Ok(_) if i32::from(operation.flags) & IPC_NOWAIT != 0 => Err(Errno::EAGAIN),
                Ok(_) => Ok(Blocked::At(index)),
                Err(errno) => Err(errno),
            };
        }
    }
    for operation in operations {
        semaphores[usize::from(operation.number)].pid = pid;
    }
    Ok(Blocked::Not)
}

/// Does one; false if it has to wait.
fn one(semaphores: &mut [Semaphore], operation: &Operation, adjustments: &mut [i16]) -> Result<bool> {
    let number = usize::from(operation.number);
    // Numbers have been looked at.
    let semaphore = semaphores.get_mut(number).ok_or(Errno::EFBIG)?;
    let value = semaphore.value + i32::from(operation.change);
    if operation.change == 0 && semaphore.value != 0 || value < 0 {
        return Ok(false);
    }
    if value > MAX_VALUE {
        return Err(Errno::ERANGE);
    }
    if operation.undoes()
        && let Some(adjustment) = adjustments.get_mut(number)
    {
        let undone = i32::from(*adjustment) - i32::from(operation.change);
        *adjustment = i16::try_from(undone).map_err(|_| Errno::ERANGE)?;
    }
    semaphore.value = value;
    Ok(true)
}

fn take_back(semaphores: &mut [Semaphore], operation: &Operation, adjustments: &mut [i16]) {
    let number = usize::from(operation.number);
    semaphores[number].value -= i32::from(operation.change);
    if operation.undoes()
        && let Some(adjustment) = adjustments.get_mut(number)
    {
        *adjustment = adjustment.wrapping_add(operation.change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(number: u16, change: i16, flags: i16) -> Operation {
        Operation { number, change, flags }
    }

    fn set(values: &[i32]) -> std::vec::Vec<Semaphore> {
        values.iter().map(|value| Semaphore { value: *value, pid: 1 }).collect()
    }

    fn values(set: &[Semaphore]) -> std::vec::Vec<i32> {
        set.iter().map(|semaphore| semaphore.value).collect()
    }

    #[test]
    fn all_are_done_or_none() {
        let mut semaphores = set(&[1, 0, 5]);
        let mut undo = [0; 3];
        let operations = [op(0, -1, UNDO), op(0, 0, 0), op(2, 3, UNDO), op(1, -1, 0)];
        assert_eq!(perform(&mut semaphores, &operations, 9, &mut undo), Ok(Blocked::At(3)));
        assert_eq!((values(&semaphores), undo), (vec![1, 0, 5], [0; 3]));
        assert_eq!(semaphores[0].pid, 1);
        assert_eq!(
            perform(&mut semaphores, &operations[..3], 9, &mut undo),
            Ok(Blocked::Not)
        );
        assert_eq!((values(&semaphores), undo), (vec![0, 0, 8], [1, 0, -3]));
        assert_eq!(
            semaphores.iter().map(|it| it.pid).collect::<std::vec::Vec<_>>(),
            [9, 1, 9]
        );
    }

    #[test]
    fn the_operation_that_waits_says_whether_it_may() {
        let mut semaphores = set(&[1, 0]);
        let nowait = IPC_NOWAIT as i16;
        let mut made = |operations: &[Operation]| perform(&mut semaphores, operations, 9, &mut []);
        assert_eq!(made(&[op(0, 0, nowait)]), Err(Errno::EAGAIN));
        assert_eq!(made(&[op(0, -1, nowait), op(1, -1, 0)]), Ok(Blocked::At(1)));
        assert_eq!(made(&[op(0, 32_767, 0)]), Err(Errno::ERANGE));
        assert_eq!(made(&[op(0, 32_766, 0)]), Ok(Blocked::Not));
    }

    #[test]
    fn adjustments_have_bounds() {
        let mut semaphores = set(&[0]);
        let mut undo = [0];
        for _ in 0..2 {
            let up = perform(&mut semaphores, &[op(0, 16_384, UNDO)], 9, &mut undo);
            semaphores[0].value = 0;
            assert_eq!(up, Ok(Blocked::Not));
        }
        assert_eq!(undo, [i16::MIN]);
        let more = perform(&mut semaphores, &[op(0, 1, 0), op(0, 1, UNDO)], 9, &mut undo);
        assert_eq!((more, semaphores[0].value, undo), (Err(Errno::ERANGE), 0, [i16::MIN]));
    }
}
