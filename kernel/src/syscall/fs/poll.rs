//! Waiting for several files at once: `poll`, `select` and their variants.
//!
//! The first look waits for nothing, registers nowhere and, for a few files, allocates nothing. Only where nothing
//! is ready does the call enter every file's poll queue, look again, and await whichever wakes first, or the deadline.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{
    future::{Future, poll_fn},
    ops::Range,
    pin::pin,
    sync::atomic::{Ordering::SeqCst, fence},
    task::Poll,
};

use linux_raw_sys::general as linux;
use smallvec::SmallVec;

use super::user::{get, put, with_faults, words};
use crate::{
    errno::{Errno, Result},
    fs::{
        FdTable, OpenFile, Readiness, Stop,
        file::Attempt,
        io::{copy_in, copy_out},
    },
    mm::{
        fallible::{TryRoom, afford},
        user,
    },
    rt,
    sync::RawWaitLock,
    task::{Restart, Thread, signal::SignalSet},
};

/// One file and what is to be reported of it.
pub(super) struct Watched {
    pub(super) file: Option<Arc<OpenFile>>,
    pub(super) wanted: Readiness,
    pub(super) ready: Readiness,
}

impl Watched {
    fn look(&mut self) -> bool {
        self.ready = match &self.file {
            Some(file) => file.file().readiness() & self.wanted,
            None => self.ready,
        };
        !self.ready.is_empty()
    }
}

pub(super) type Watch = SmallVec<[Watched; 4]>;

fn look(watched: &mut [Watched]) -> usize {
    watched.iter_mut().map(Watched::look).filter(|&ready| ready).count()
}

/// Waits until something is ready or `deadline` (nanoseconds since boot) has passed; how many are ready.
pub(super) async fn wait_for(t: &Thread, watched: &mut [Watched], deadline: Option<u64>) -> Result<usize> {
    loop {
        let ready = look(watched);
        if ready > 0 || deadline.is_some_and(|deadline| rt::now() >= deadline) {
            return Ok(ready);
        }
        let mut files: SmallVec<[Arc<OpenFile>; 4]> = SmallVec::new();
        files.try_room(watched.len())?;
        files.extend(watched.iter().filter_map(|watched| watched.file.clone()));
        let mut waits = Vec::new();
        waits.try_room(files.len())?;
        for (index, queue) in files.iter().filter_map(|file| file.file().poll_queue()).enumerate() {
            // Boxes of these have no way to fail.
            if index % IN_A_LOOK == 0 && files.len() > IN_A_LOOK {
                afford(IN_A_LOOK * WAIT_ROOM)?;
            }
            let mut wait = Box::pin(queue.wait());
            wait.as_mut().enable();
            waits.push(wait);
        }
        // Files may answer from a word that is written without a lock: whoever writes it then sees who has registered.
        fence(SeqCst);
        let ready = look(watched);
        if ready > 0 {
            return Ok(ready);
        }
        let mut sleep = pin!(deadline.map(rt::sleep_until));
        t.interruptible(poll_fn(|context| {
            let mut woken = false;
            for wait in &mut waits {
                woken |= wait.as_mut().poll(context).is_ready();
            }
            if let Some(sleep) = sleep.as_mut().as_pin_mut() {
                woken |= sleep.poll(context).is_ready();
            }
            if woken { Poll::Ready(()) } else { Poll::Pending }
        }))
        .await?;
    }
}

/// Bytes of the heap that a wait takes at most.
const WAIT_ROOM: usize = size_of::<executor::sync::Wait<'static, RawWaitLock>>().next_power_of_two();

/// What `poll` reports of a file whether it was asked for or not.
const ALWAYS: Readiness = Readiness::ERR.union(Readiness::HUP).union(Readiness::NVAL);

/// The most descriptors of one `poll`.
const MAX_WATCHED: u32 = 1 << 16;

/// Entries that are copied at once.
const AT_ONCE: usize = 32;

/// Where an entry of an array of `struct pollfd` stands. One that lies beyond the end of memory is not reached.
const fn entry(array: u64, index: usize) -> u64 {
    array.wrapping_add(index as u64 * 8)
}

/// The descriptor and the events of a `struct pollfd`.
const fn asked_for(word: u64) -> (i32, Readiness) {
    (
        word as u32 as i32,
        Readiness::from_bits_truncate((word >> 32) as u32 & 0xffff),
    )
}

/// The answer that stands in a `struct pollfd`.
const fn answered(word: u64) -> u16 {
    (word >> 48) as u16
}

/// Descriptors that one look is about at most, before others have their turn.
const IN_A_LOOK: usize = 1024;

/// Writes the answers of the entries of `range` and says how many are ready; `None` if a page of theirs is not there.
fn answer(files: &FdTable, array: u64, range: Range<usize>) -> Option<u64> {
    let mut words = [[0; 8]; AT_ONCE];
    let mut ready = 0;
    for first in range.clone().step_by(AT_ONCE) {
        let words = &mut words[..AT_ONCE.min(range.end - first)];
        copy_in(words.as_flattened_mut(), entry(array, first)).ok()?;
        let word = |index: usize| u64::from_ne_bytes(words[index]);
        let mut answers = [0; AT_ONCE];
        // Mostly the answer stands there already.
        let mut changed: u64 = 0;
        let fds = words.iter().map(|word| asked_for(u64::from_ne_bytes(*word)).0);
        files.ask_each::<AT_ONCE>(fds.enumerate(), |index, found| {
            let (fd, wanted) = asked_for(word(index));
            let answer = match found {
                Some(found) => found & (wanted | ALWAYS),
                None if fd < 0 => Readiness::empty(),
                None => Readiness::NVAL,
            };
            ready += u64::from(!answer.is_empty());
            let answer = answer.bits() as u16;
            if answer != answered(word(index)) {
                changed |= 1 << index;
                answers[index] = answer;
            }
        });
        for index in executor::bits(changed) {
            let index = index as usize;
            copy_out(entry(array, first + index) + 6, &answers[index].to_ne_bytes()).ok()?;
        }
    }
    Some(ready)
}

/// Whether a call that found so many ready is over, or else has to wait.
pub(super) fn settled(ready: u64, deadline: Option<u64>) -> Option<u64> {
    (ready > 0 || deadline.is_some_and(|deadline| rt::now() >= deadline)).then_some(ready)
}

/// The answer of a poll that need not wait, found in place and without memory: how many are ready. `None` if the call has to
/// wait, is wrong, is about many descriptors, or reaches a page that is not there: then it takes the long way from the start,
/// which answers anew.
fn at_once(t: &Thread, array: u64, count: u32, deadline: Option<u64>) -> Option<u64> {
    if count as usize > IN_A_LOOK || u64::from(count) > super::open::descriptor_limit(t) {
        return None;
    }
    settled(answer(&t.files(), array, 0..count as usize)?, deadline)
}

/// As [`at_once`], for many descriptors.
async fn in_turns(t: &Thread, array: u64, count: usize, deadline: Option<u64>) -> Option<u64> {
    let files = t.files();
    let mut ready = 0;
    for first in (0..count).step_by(IN_A_LOOK) {
        if first > 0 {
            rt::yield_now().await;
        }
        ready += answer(&files, array, first..count.min(first + IN_A_LOOK))?;
    }
    settled(ready, deadline)
}

async fn poll_until(t: &Thread, array: u64, count: u32, deadline: Option<u64>) -> Result<u64> {
    if u64::from(count) > super::open::descriptor_limit(t).min(u64::from(MAX_WATCHED)) {
        return Err(Errno::EINVAL);
    }
    if count as usize > IN_A_LOOK
        && let Some(ready) = in_turns(t, array, count as usize, deadline).await
    {
        return Ok(ready);
    }
    let files = t.files();
    let mut watched = Watch::new();
    watched.try_room(count as usize)?;
    let mut words = [[0; 8]; AT_ONCE];
    while watched.len() < count as usize {
        let words = &mut words[..AT_ONCE.min(count as usize - watched.len())];
        get(t, entry(array, watched.len()), words.as_flattened_mut()).await?;
        watched.extend(words.iter().map(|word| {
            let (fd, wanted) = asked_for(u64::from_ne_bytes(*word));
            let (file, ready) = match files.get(fd) {
                _ if fd < 0 => (None, Readiness::empty()),
                Ok(file) if !file.is_path() => (Some(file), Readiness::empty()),
                _ => (None, Readiness::NVAL),
            };
            Watched {
                file,
                wanted: wanted | ALWAYS,
                ready,
            }
        }));
    }
    let result = wait_for(t, &mut watched, deadline).await;
    for (chunk, watched) in watched.chunks(AT_ONCE).enumerate() {
        // Only the answers are written: the rest of the array may be somebody else's meanwhile.
        with_faults(t, || {
            for (index, watched) in watched.iter().enumerate() {
                let answer = (watched.ready.bits() as u16).to_ne_bytes();
                copy_out(entry(array, chunk * AT_ONCE + index) + 6, &answer)?;
            }
            Ok(())
        })
        .await?;
    }
    Ok(result? as u64)
}

/// A deadline from milliseconds; negative is for ever.
pub(super) fn milliseconds(timeout: i32) -> Option<u64> {
    let timeout = u64::try_from(timeout).ok()?;
    Some(rt::now().saturating_add(timeout * 1_000_000))
}

/// A deadline from seconds and parts of a second of `unit` nanoseconds.
fn from_parts([seconds, parts]: [u64; 2], unit: u64) -> Result<u64> {
    if seconds > i64::MAX as u64 || parts >= 1_000_000_000 / unit {
        return Err(Errno::EINVAL);
    }
    Ok(rt::now()
        .saturating_add(seconds.saturating_mul(1_000_000_000))
        .saturating_add(parts * unit))
}

/// `poll(2)`.
pub async fn poll(t: &Thread, array: u64, count: u32, timeout: i32) -> Result<u64> {
    Box::pin(poll_or_wait(t, array, count, milliseconds(timeout))).await
}

/// [`poll`] where it need not wait.
pub fn poll_at_once(t: &Thread, array: u64, count: u32, timeout: i32) -> Attempt<u64> {
    at_once(t, array, count, milliseconds(timeout)).ok_or(Stop::WouldBlock)
}

async fn poll_or_wait(t: &Thread, array: u64, count: u32, deadline: Option<u64>) -> Result<u64> {
    let result = poll_until(t, array, count, deadline).await;
    if result == Err(Errno::ERESTARTSYS) {
        // Without a handler the rest of the time is waited, not the whole again.
        t.set_restart(Restart::Poll {
            descriptors: array,
            count,
            deadline: deadline.unwrap_or(u64::MAX),
        });
        return Err(Errno::ERESTART_RESTARTBLOCK);
    }
    result
}

/// Goes on with an interrupted `poll`: what [`Restart::Poll`] asks for.
pub async fn restart_poll(t: &Thread, array: u64, count: u32, deadline: u64) -> Result<u64> {
    let result = poll_until(t, array, count, (deadline != u64::MAX).then_some(deadline)).await;
    if result == Err(Errno::ERESTARTSYS) {
        t.set_restart(Restart::Poll {
            descriptors: array,
            count,
            deadline,
        });
        return Err(Errno::ERESTART_RESTARTBLOCK);
    }
    result
}

/// Runs a wait under a temporary signal mask.
pub(super) async fn masked<T>(t: &Thread, mask: Option<u64>, wait: impl Future<Output = Result<T>>) -> Result<T> {
    if let Some(mask) = mask {
        t.set_temporary_mask(SignalSet(mask));
    }
    match wait.await {
        Err(Errno::ERESTARTSYS) => Err(Errno::ERESTARTNOHAND),
        other => {
            if mask.is_some() {
                t.restore_mask();
            }
            other
        }
    }
}

pub(super) async fn signal_mask(t: &Thread, address: u64, size: u64) -> Result<Option<u64>> {
    if address == 0 {
        return Ok(None);
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let [mask] = words(t, address).await?;
    Ok(Some(mask))
}

/// Tells the caller what is left of its time, as Linux does; a bad address is not an error any more.
pub(super) async fn put_rest(t: &Thread, address: u64, deadline: Option<u64>, unit: u64) {
    if let Some(deadline) = deadline.filter(|_| address != 0) {
        let _ = put(t, address, rest(deadline, unit).as_flattened()).await;
    }
}

/// What is left until `deadline`, in seconds and parts of `unit` nanoseconds, as they stand in memory.
fn rest(deadline: u64, unit: u64) -> [[u8; 8]; 2] {
    let left = deadline.saturating_sub(rt::now());
    [left / 1_000_000_000, left % 1_000_000_000 / unit].map(u64::to_ne_bytes)
}

/// `ppoll(2)`.
pub async fn ppoll(t: &Thread, array: u64, count: u32, timeout: u64, mask: u64, size: u64) -> Result<u64> {
    Box::pin(ppoll_or_wait(t, array, count, timeout, mask, size)).await
}

/// [`ppoll`] where it need not wait. The mask is for the time of the wait, of which there is none.
pub fn ppoll_at_once(t: &Thread, array: u64, count: u32, timeout: u64, mask: u64, size: u64) -> Attempt<u64> {
    if mask != 0 {
        copy_in(&mut [0; 8], mask)
            .ok()
            .filter(|()| size == 8)
            .ok_or(Stop::WouldBlock)?;
    }
    let deadline = deadline_at_once(timeout, 1).ok_or(Stop::WouldBlock)?;
    let ready = at_once(t, array, count, deadline).ok_or(Stop::WouldBlock)?;
    rest_at_once(timeout, deadline, 1);
    Ok(ready)
}

/// The deadline that a call's timeout at `timeout` (nowhere is for ever) comes to; `None` where the long way has to
/// find out.
#[expect(clippy::option_option, reason = "no deadline is a deadline that was found")]
pub(super) fn deadline_at_once(timeout: u64, unit: u64) -> Option<Option<u64>> {
    if timeout == 0 {
        return Some(None);
    }
    from_parts(user::read(timeout).ok()?, unit).ok().map(Some)
}

/// The deadline by the timeout at `timeout`, in seconds and parts of `unit` nanoseconds; none where that is 0.
pub(super) async fn deadline(t: &Thread, timeout: u64, unit: u64) -> Result<Option<u64>> {
    if timeout == 0 {
        return Ok(None);
    }
    from_parts(words(t, timeout).await?, unit).map(Some)
}

/// As [`put_rest`].
pub(super) fn rest_at_once(timeout: u64, deadline: Option<u64>, unit: u64) {
    if let Some(deadline) = deadline {
        // A page that cannot be written is no error any more.
        let _ = copy_out(timeout, rest(deadline, unit).as_flattened());
    }
}

async fn ppoll_or_wait(t: &Thread, array: u64, count: u32, timeout: u64, mask: u64, size: u64) -> Result<u64> {
    let deadline = deadline(t, timeout, 1).await?;
    let mask = signal_mask(t, mask, size).await?;
    let result = masked(t, mask, poll_until(t, array, count, deadline)).await;
    put_rest(t, timeout, deadline, 1).await;
    result
}

/// The bits of `poll` that `linux-raw-sys` names.
const _: () = assert!(linux::POLLNVAL == Readiness::NVAL.bits());
