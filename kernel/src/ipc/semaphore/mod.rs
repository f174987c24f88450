//! Semaphore sets (`semop(2)`).
//!
//! A call's operations are done all at once or not at all. Of those that wait for others, [`Set::update`] does each as soon as it can
//! be done, in order of arrival, except that who waits for zero goes first: that changes nothing, so it takes nothing from others.

pub mod operation;
pub mod undo;

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

pub use operation::{Blocked, Operation, Operations};
use undo::UndoId;

use super::{
    Objects,
    line::{HasLine, Line, Ticket, Woken},
    permission::{READ, WRITE},
    registry::{New, Object, Request, Room, State},
    seconds,
};
use crate::{
    errno::{Errno, Result},
    mm::fallible::TryRoomExact,
    task::{Credentials, Pid, Thread},
};

/// The largest value (`SEMVMX`), and the largest adjustment at exit (`SEMAEM`).
pub const MAX_VALUE: i32 = 32_767;

/// One semaphore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Semaphore {
    /// 0 to [`MAX_VALUE`].
    pub value: i32,
    /// The process that last changed it or looked at it by an operation.
    pub pid: Pid,
}

/// What a thread waits for.
pub struct Want {
    operations: Operations,
    /// The operation that could not be done when it was last tried.
    blocking: usize,
    pid: Pid,
    undo: Option<UndoId>,
}

/// What a set's operations work on.
#[derive(Default)]
pub struct Values {
    semaphores: Vec<Semaphore>,
    /// What is to be added when the last thread of a list ends.
    adjustments: BTreeMap<UndoId, Vec<i16>>,
}

/// A set.
pub struct Set {
    /// The semaphores, and what is to be undone.
    values: Values,
    /// When operations were last done, in seconds.
    pub operated: i64,
    /// When it was made or changed by `semctl`.
    pub changed: i64,
    /// Those who change something, and those who wait for zero alone.
    lines: [Line<Want, Result<()>>; 2],
}

const ALTER: usize = 0;
const ZERO: usize = 1;

/// One of a set's lines.
pub struct LineOf<'a> {
    object: &'a Object<Set>,
    which: usize,
}

impl HasLine for LineOf<'_> {
    type Want = Want;
    type Outcome = Result<()>;

    fn with_line<T>(&self, look: impl FnOnce(&mut Line<Want, Result<()>>) -> T) -> T {
        look(&mut self.object.lock_even_if_gone().body.lines[self.which])
    }
}

/// `semget(2)`.
///
/// # Errors
/// `EINVAL`, `ENOSPC`, `ENOMEM`, `ENOENT`, `EEXIST`, `EACCES`.
pub fn get(among: &Objects, request: &Request<'_>, count: i32) -> Result<i32> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    if count as u64 > among.limits.semmsl.get() {
        return Err(Errno::EINVAL);
    }
    let room = Room {
        objects: among.limits.semmni.get(),
        weight: among.limits.semmns.get(),
    };
    let fits = |object: &Object<Set>| {
        if count as u64 > object.weight() {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    };
    among.sets.find_or_make(request, room, fits, || {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        Ok(New {
            body: Set::new(count)?,
            weight: count as u64,
        })
    })
}

/// What came of an attempt at a call's operations.
pub enum Attempted<'a> {
    /// They are done.
    Done,
    /// They are not; the caller stands in line.
    Waits(LineOf<'a>, Ticket),
    /// They are not, and the caller did not want to wait.
    Blocked,
}

/// Does a call's operations, or stands in line as `waiter`.
///
/// # Errors
/// `EFBIG` (no such semaphore), `EACCES`, `EIDRM`, `EAGAIN` (`IPC_NOWAIT`), `ERANGE`, `ENOMEM`.
pub fn operate<'a>(
    object: &'a Object<Set>,
    thread: &Thread,
    operations: &Operations,
    waiter: Option<&Arc<Thread>>,
) -> Result<Attempted<'a>> {
    let (mut alters, mut undoes, mut largest) = (false, false, 0);
    for operation in operations {
        alters |= operation.change != 0;
        undoes |= operation.undoes();
        largest = largest.max(operation.number);
    }
    if u64::from(largest) >= object.weight() {
        return Err(Errno::EFBIG);
    }
    let credentials = thread.credentials();
    let wanted = if alters { WRITE } else { READ };
    let undo = if undoes {
        object.lock()?.check(&credentials, wanted)?;
        Some(undo::prepare(thread, object)?)
    } else {
        None
    };
    let pid = thread.process().pid();
    let mut woken = Woken::default();
    let attempted = {
        let mut state = object.lock()?;
        state.check(&credentials, wanted)?;
        let set = &mut state.body;
        match set.values.attempt(operations, pid, undo)? {
            Blocked::Not => {
                set.operated = seconds();
                if alters {
                    set.update(&mut woken);
                }
                Attempted::Done
            }
            Blocked::At(blocking) => match waiter {
                None => Attempted::Blocked,
                Some(waiter) => {
                    let want = Want {
                        operations: Operations::from_slice(operations),
                        blocking,
                        pid,
                        undo,
                    };
                    let which = if alters { ALTER } else { ZERO };
                    let ticket = set.lines[which].join(waiter, want);
                    Attempted::Waits(LineOf { object, which }, ticket)
                }
            },
        }
    };
    woken.wake();
    Ok(attempted)
}

/// What `semctl` changes.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// One value.
    One(usize, u16),
    /// All of them.
    All(&'a [u16]),
}

/// Changes values, to such as are at most [`MAX_VALUE`], and lets those go on who can.
///
/// # Errors
/// `EINVAL` (no such semaphore), `EACCES`, `EIDRM`.
pub fn set_values(object: &Object<Set>, credentials: &Credentials, pid: Pid, change: Change<'_>) -> Result<()> {
    let mut woken = Woken::default();
    {
        let mut state = object.lock()?;
        if let Change::One(number, _) = change
            && number as u64 >= object.weight()
        {
            return Err(Errno::EINVAL);
        }
        state.check(credentials, WRITE)?;
        let set = &mut state.body;
        match change {
            Change::One(number, value) => set.assign(number, &[value], pid),
            Change::All(values) => set.assign(0, values, pid),
        }
        set.changed = seconds();
        set.update(&mut woken);
    }
    woken.wake();
    Ok(())
}

/// Removes a set; those that wait get `EIDRM`.
///
/// # Errors
/// `EINVAL`, `EPERM`.
pub fn remove(among: &Objects, id: i32, credentials: &Credentials) -> Result<()> {
    let object = among
        .sets
        .remove_if(id, |state| state.check_control(credentials).map(|()| true))?;
    if let Some(object) = object {
        let mut woken = Woken::default();
        for line in &mut object.lock_even_if_gone().body.lines {
            line.finish_all(|| Err(Errno::EIDRM), &mut woken);
        }
        woken.wake();
    }
    Ok(())
}

impl Set {
    /// The semaphores.
    pub fn semaphores(&self) -> &[Semaphore] {
        &self.values.semaphores
    }

    /// Semaphores of value 0.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn new(count: usize) -> Result<Self> {
        let mut semaphores = Vec::new();
        semaphores.try_room_exact(count)?;
        semaphores.resize(count, Semaphore::default());
        Ok(Self {
            values: Values {
                semaphores,
                adjustments: BTreeMap::new(),
            },
            operated: 0,
            changed: seconds(),
            lines: [Line::new(), Line::new()],
        })
    }

    /// Sets values, which nobody's end changes any more.
    fn assign(&mut self, from: usize, values: &[u16], pid: Pid) {
        for (semaphore, value) in self.values.semaphores[from..].iter_mut().zip(values) {
            *semaphore = Semaphore {
                value: (*value).into(),
                pid,
            };
        }
        for adjustment in self.values.adjustments.values_mut() {
            adjustment[from..from + values.len()].fill(0);
        }
    }

    /// How many wait for a semaphore to grow, or to become zero (`GETNCNT`, `GETZCNT`): a thread waits for the one whose operation
    /// could not be done.
    pub fn count(&self, number: usize, for_zero: bool) -> u64 {
        let wants = self.lines.iter().flat_map(Line::wants);
        wants
            .filter_map(|want| want.operations.get(want.blocking))
            .filter(|operation| usize::from(operation.number) == number)
            .filter(|operation| {
                if for_zero {
                    operation.change == 0
                } else {
                    operation.change < 0
                }
            })
            .count() as u64
    }

    /// Lets go on who can, after values have changed.
    pub(super) fn update(&mut self, woken: &mut Woken) {
        let Self {
            values,
            operated,
            lines: [alter, zero],
            ..
        } = self;
        let mut done_some = values.release(zero, woken);
        // What could not be done before can be after another's operation, unless that was a decrement alone, which waits for nothing but
        // what it takes: so the line is gone through again only while there are such.
        let is_complex = |want: &Want| want.operations.len() > 1;
        let mut complex = alter.wants().filter(|want| is_complex(want)).count();
        let mut place = None;
        while let Some((ticket, waiter)) = alter.after(place) {
            place = Some(ticket);
            let Some(outcome) = values.retry(&mut waiter.want) else {
                continue;
            };
            let done = outcome.is_ok();
            let Some(want) = alter.finish(ticket, outcome, woken) else {
                continue;
            };
            complex -= usize::from(is_complex(&want));
            if done {
                done_some = true;
                if values.has_zero_among(&want.operations) {
                    values.release(zero, woken);
                }
                if is_complex(&want) || complex > 0 {
                    place = None;
                }
            }
        }
        if done_some {
            *operated = seconds();
        }
    }
}

impl Values {
    fn attempt(&mut self, operations: &[Operation], pid: Pid, undo: Option<UndoId>) -> Result<Blocked> {
        let adjustments = undo.and_then(|id| self.adjustments.get_mut(&id));
        let adjustments = adjustments.map_or(&mut [][..], Vec::as_mut_slice);
        operation::perform(&mut self.semaphores, operations, pid, adjustments)
    }

    /// Tries a waiter's operations again; the outcome if its wait is over.
    fn retry(&mut self, want: &mut Want) -> Option<Result<()>> {
        match self.attempt(&want.operations, want.pid, want.undo) {
            Ok(Blocked::At(blocking)) => {
                want.blocking = blocking;
                None
            }
            Ok(Blocked::Not) => Some(Ok(())),
            Err(errno) => Some(Err(errno)),
        }
    }

    /// Ends the waits for zero that are over; whether there were any.
    fn release(&mut self, zero: &mut Line<Want, Result<()>>, woken: &mut Woken) -> bool {
        let mut done_some = false;
        let mut place = None;
        while let Some((ticket, waiter)) = zero.after(place) {
            place = Some(ticket);
            if let Some(outcome) = self.retry(&mut waiter.want) {
                done_some |= outcome.is_ok();
                drop(zero.finish(ticket, outcome, woken));
            }
        }
        done_some
    }

    fn has_zero_among(&self, operations: &[Operation]) -> bool {
        let semaphore = |operation: &Operation| self.semaphores.get(usize::from(operation.number));
        operations
            .iter()
            .filter_map(semaphore)
            .any(|semaphore| semaphore.value == 0)
    }
}

impl State<Set> {
    /// One value.
    ///
    /// # Errors
    /// `EINVAL` if there is no such semaphore.
    pub fn semaphore(&self, number: i32) -> Result<Semaphore> {
        let number = usize::try_from(number).map_err(|_| Errno::EINVAL)?;
        self.body.values.semaphores.get(number).copied().ok_or(Errno::EINVAL)
    }
}

#[cfg(test)]
mod tests;
