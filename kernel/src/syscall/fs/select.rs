//! `select` and `pselect6`.

use alloc::boxed::Box;

use smallvec::SmallVec;

use super::{
    poll::{
        Watch, Watched, deadline_at_once, from_parts, masked, put_rest, rest_at_once, settled, signal_mask, wait_for,
    },
    user::{get, put, words},
};
use crate::{
    errno::{Errno, Result},
    fs::{Readiness, Stop, file::Attempt, io::copy_out},
    mm::user,
    task::Thread,
};

/// Bits of a descriptor set in one word.
const WORD: usize = 64;

const READ_SET: Readiness = Readiness::READABLE
    .union(Readiness::HUP)
    .union(Readiness::ERR)
    .union(Readiness::RDBAND);
const WRITE_SET: Readiness = Readiness::WRITABLE.union(Readiness::ERR).union(Readiness::WRBAND);

async fn select_until(t: &Thread, count: i32, sets: [u64; 3], deadline: Option<u64>) -> Result<u64> {
    let files = t.files();
    let count = usize::try_from(count)
        .map_err(|_| Errno::EINVAL)?
        .min(files.size().next_multiple_of(WORD));
    let words_in_set = count.div_ceil(WORD);
    let mut given: [SmallVec<[u64; 16]>; 3] = Default::default();
    for (set, &address) in given.iter_mut().zip(&sets) {
        set.resize(words_in_set, 0);
        if address != 0 {
            for (index, word) in set.iter_mut().enumerate() {
                let mut bytes = [0; 8];
                get(t, address.wrapping_add(index as u64 * 8), &mut bytes).await?;
                *word = u64::from_ne_bytes(bytes);
            }
        }
    }
    let asked = |set: &[u64], fd: usize| set[fd / WORD] >> (fd % WORD) & 1 != 0;
    let mut watched = Watch::new();
    let mut numbers: SmallVec<[usize; 4]> = SmallVec::new();
    for fd in 0..count {
        let mut wanted = Readiness::empty();
        for (set, bits) in given.iter().zip([READ_SET, WRITE_SET, Readiness::PRI]) {
            if asked(set, fd) {
                wanted |= bits;
            }
        }
        if !wanted.is_empty() {
            let file = files.get_usable(fd as i32)?;
            watched.push(Watched {
                file: Some(file),
                wanted,
                ready: Readiness::empty(),
            });
            numbers.push(fd);
        }
    }
    // Hang-ups and errors wake a select only through the sets that contain them.
    let result = wait_for(t, &mut watched, deadline).await?;
    let _ = result;
    let mut found = 0;
    let mut answer: [SmallVec<[u64; 16]>; 3] = Default::default();
    for ((answer, given), bits) in answer.iter_mut().zip(&given).zip([READ_SET, WRITE_SET, Readiness::PRI]) {
        answer.resize(words_in_set, 0);
        for (&fd, watched) in numbers.iter().zip(&watched) {
            if asked(given, fd) && watched.ready.intersects(bits) {
                answer[fd / WORD] |= 1 << (fd % WORD);
                found += 1;
            }
        }
    }
    for (answer, &address) in answer.iter().zip(&sets) {
        if address != 0 {
            for (index, word) in answer.iter().enumerate() {
                put(t, address.wrapping_add(index as u64 * 8), &word.to_ne_bytes()).await?;
            }
        }
    }
    Ok(found)
}

/// The answer of a select that need not wait, about sets of few words: how many are ready. `None` as for `poll`.
fn at_once(t: &Thread, count: i32, sets: [u64; 3], deadline: Option<u64>) -> Option<u64> {
    const FEW: usize = 16;
    const READY: [Readiness; 3] = [READ_SET, WRITE_SET, Readiness::PRI];
    let files = t.files();
    let count = usize::try_from(count).ok()?.min(files.size().next_multiple_of(WORD));
    let mut answer = [[0u64; 3]; FEW];
    let answer = answer.get_mut(..count.div_ceil(WORD))?;
    let address = |set: usize, word: usize| sets[set].wrapping_add(word as u64 * 8);
    let mut found = 0;
    for (word, answer) in answer.iter_mut().enumerate() {
        let mut given = [0u64; 3];
        for (set, given) in given.iter_mut().enumerate().filter(|(set, _)| sets[*set] != 0) {
            *given = user::read(address(set, word)).ok()?;
        }
        let fds = (count - word * WORD).min(WORD);
        let mut left = (given[0] | given[1] | given[2]) & u64::MAX >> (WORD - fds);
        while left != 0 {
            let bit = left & left.wrapping_neg();
            left ^= bit;
            let fd = word * WORD + bit.trailing_zeros() as usize;
            let ready = files.get_usable(fd as i32).ok()?.file().readiness();
            for set in 0..3 {
                if given[set] & bit != 0 && ready.intersects(READY[set]) {
                    answer[set] |= bit;
                    found += 1;
                }
            }
        }
    }
    let found = settled(found, deadline)?;
    for (word, answer) in answer.iter().enumerate() {
        for (set, answer) in answer.iter().enumerate().filter(|(set, _)| sets[*set] != 0) {
            copy_out(address(set, word), &answer.to_ne_bytes()).ok()?;
        }
    }
    Some(found)
}

/// `select(2)`.
pub async fn select(t: &Thread, count: i32, read: u64, write: u64, except: u64, timeout: u64) -> Result<u64> {
    Box::pin(select_or_wait(t, count, [read, write, except], timeout)).await
}

/// [`select`] where it need not wait.
pub fn select_at_once(t: &Thread, count: i32, read: u64, write: u64, except: u64, timeout: u64) -> Attempt<u64> {
    look_in_time(t, count, [read, write, except], timeout, 1000).ok_or(Stop::WouldBlock)
}

/// [`at_once`], within what the timeout at `timeout` says, in seconds and parts of `unit` nanoseconds.
fn look_in_time(t: &Thread, count: i32, sets: [u64; 3], timeout: u64, unit: u64) -> Option<u64> {
    let deadline = deadline_at_once(timeout, unit)?;
    let ready = at_once(t, count, sets, deadline)?;
    rest_at_once(timeout, deadline, unit);
    Some(ready)
}

async fn select_or_wait(t: &Thread, count: i32, sets: [u64; 3], timeout: u64) -> Result<u64> {
    let deadline = if timeout == 0 {
        None
    } else {
        Some(from_parts(words(t, timeout).await?, 1000)?)
    };
    let result = masked(t, None, select_until(t, count, sets, deadline)).await;
    put_rest(t, timeout, deadline, 1000).await;
    result
}

/// `pselect6(2)`.
pub async fn pselect6(
    t: &Thread,
    count: i32,
    read: u64,
    write: u64,
    except: u64,
    timeout: u64,
    mask: u64,
) -> Result<u64> {
    let sets = [read, write, except];
    Box::pin(pselect_or_wait(t, count, sets, timeout, mask)).await
}

/// [`pselect6`] where it need not wait.
pub fn pselect6_at_once(
    t: &Thread,
    count: i32,
    read: u64,
    write: u64,
    except: u64,
    timeout: u64,
    mask: u64,
) -> Attempt<u64> {
    pselect_at_once(t, count, [read, write, except], timeout, mask).ok_or(Stop::WouldBlock)
}

fn pselect_at_once(t: &Thread, count: i32, sets: [u64; 3], timeout: u64, mask: u64) -> Option<u64> {
    if mask != 0 {
        let [address, size]: [u64; 2] = user::read(mask).ok()?;
        if address != 0 {
            user::read::<u64>(address).ok().filter(|_| size == 8)?;
        }
    }
    look_in_time(t, count, sets, timeout, 1)
}

async fn pselect_or_wait(t: &Thread, count: i32, sets: [u64; 3], timeout: u64, mask: u64) -> Result<u64> {
    let deadline = if timeout == 0 {
        None
    } else {
        Some(from_parts(words(t, timeout).await?, 1)?)
    };
    let mask = if mask == 0 {
        None
    } else {
        let [address, size] = words(t, mask).await?;
        signal_mask(t, address, size).await?
    };
    let result = masked(t, mask, select_until(t, count, sets, deadline)).await;
    put_rest(t, timeout, deadline, 1).await;
    result
}
