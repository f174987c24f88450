//! `select` and `pselect6`.

use alloc::{boxed::Box, vec::Vec};

use smallvec::SmallVec;

use super::{
    poll::{
        Watch, Watched, deadline, deadline_at_once, masked, put_rest, rest_at_once, settled, signal_mask, wait_for,
    },
    user::{with_faults, words},
};
use crate::{
    errno::{Errno, Result},
    fs::{FdTable, Readiness, Stop, file::Attempt, io::copy_out},
    mm::{
        fallible::TryRoom,
        user::{self, UserFault},
    },
    rt,
    task::Thread,
};

/// Bits of a descriptor set in one word.
const WORD: usize = u64::BITS as usize;

/// Words of each set that one look is about at most, before others have their turn.
const IN_A_LOOK: usize = 16;

/// A word of each set: readable, writable, exceptional.
type Words = [u64; 3];

/// What puts a descriptor into the answer of each set. Hang-ups and errors count only for the sets that contain them.
const REPORTED: [Readiness; 3] = [
    Readiness::READABLE
        .union(Readiness::HUP)
        .union(Readiness::ERR)
        .union(Readiness::RDBAND),
    Readiness::WRITABLE.union(Readiness::ERR).union(Readiness::WRBAND),
    Readiness::PRI,
];

/// The numbers of the bits that are set.
fn bits(word: u64) -> impl Iterator<Item = usize> + Clone {
    executor::bits(word).map(|bit| bit as usize)
}

/// The caller's sets.
#[derive(Clone, Copy)]
struct Sets {
    addresses: [u64; 3],
    /// Descriptors that they are about.
    count: usize,
}

impl Sets {
    /// The sets at `addresses` (0 is none), as far as the table reaches: what lies beyond is not open and not looked at.
    fn new(files: &FdTable, addresses: [u64; 3], count: i32) -> Result<Self> {
        let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
        Ok(Self {
            addresses,
            count: count.min(files.size().next_multiple_of(WORD)),
        })
    }

    const fn words(&self) -> usize {
        self.count.div_ceil(WORD)
    }

    /// Where the words of a number stand, each with its index in [`Words`].
    fn at(&self, word: usize) -> impl Iterator<Item = (usize, u64)> {
        let addresses = self.addresses.into_iter().enumerate();
        addresses
            .filter(|(_, address)| *address != 0)
            .map(move |(set, address)| (set, address.wrapping_add(word as u64 * 8)))
    }

    /// What is asked by the words of a number.
    fn read(&self, word: usize) -> core::result::Result<Words, UserFault> {
        let meant = u64::MAX >> (WORD - (self.count - word * WORD).min(WORD));
        let mut given = Words::default();
        for (set, address) in self.at(word) {
            given[set] = user::read::<u64>(address)? & meant;
        }
        Ok(given)
    }

    fn write(&self, word: usize, answer: &Words) -> core::result::Result<(), UserFault> {
        self.at(word)
            .try_for_each(|(set, address)| copy_out(address, &answer[set].to_ne_bytes()))
    }
}

/// What of `given`, about the descriptors from `first` on, is ready.
fn look(files: &FdTable, first: usize, given: &Words) -> Result<Words> {
    let asked = given[0] | given[1] | given[2];
    let mut answer = Words::default();
    let mut all = true;
    let fds = bits(asked).map(|bit| (bit, (first + bit) as i32));
    files.ask_each::<WORD>(fds, |bit, found| match found {
        Some(ready) if !ready.is_empty() => report(&mut answer, given, bit, ready),
        Some(_) => {}
        None => all = false,
    });
    if all { Ok(answer) } else { Err(Errno::EBADF) }
}

/// Notes what a file's readiness is to those of the sets that ask for it.
fn report(answer: &mut Words, given: &Words, bit: usize, ready: Readiness) {
    for ((answer, given), reported) in answer.iter_mut().zip(given).zip(REPORTED) {
        *answer |= given & u64::from(ready.intersects(reported)) << bit;
    }
}

fn count_bits(words: &Words) -> u64 {
    words.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// Finds the answers from word `first` on, one for each word of `answers`, and says how many bits they have. `None` if a
/// page is not there or a descriptor not open.
fn answer(files: &FdTable, sets: &Sets, first: usize, answers: &mut [Words]) -> Option<u64> {
    let mut ready = 0;
    for (word, answer) in (first..).zip(answers) {
        *answer = look(files, word * WORD, &sets.read(word).ok()?).ok()?;
        ready += count_bits(answer);
    }
    Some(ready)
}

/// Writes all answers if the call is over with so many ready.
fn settle(sets: &Sets, answers: &[Words], ready: u64, deadline: Option<u64>) -> Option<u64> {
    settled(ready, deadline)?;
    for (word, answer) in answers.iter().enumerate() {
        sets.write(word, answer).ok()?;
    }
    Some(ready)
}

/// The answer of a select that need not wait, about sets of few words: how many are ready. `None` as for `poll`.
fn at_once(t: &Thread, count: i32, addresses: [u64; 3], deadline: Option<u64>) -> Option<u64> {
    let files = t.files();
    let sets = Sets::new(&files, addresses, count).ok()?;
    let mut answers = [Words::default(); IN_A_LOOK];
    let answers = answers.get_mut(..sets.words())?;
    let ready = answer(&files, &sets, 0, answers)?;
    settle(&sets, answers, ready, deadline)
}

/// As [`at_once`], for sets of many words.
async fn in_turns(files: &FdTable, sets: &Sets, deadline: Option<u64>) -> Option<u64> {
    let mut answers = Vec::new();
    answers.try_room(sets.words()).ok()?;
    answers.resize(sets.words(), Words::default());
    let mut ready = 0;
    for (turn, answers) in answers.chunks_mut(IN_A_LOOK).enumerate() {
        if turn > 0 {
            rt::yield_now().await;
        }
        ready += answer(files, sets, turn * IN_A_LOOK, answers)?;
    }
    settle(sets, &answers, ready, deadline)
}

async fn select_until(t: &Thread, count: i32, addresses: [u64; 3], deadline: Option<u64>) -> Result<u64> {
    let files = t.files();
    let sets = Sets::new(&files, addresses, count)?;
    if sets.words() > IN_A_LOOK
        && let Some(found) = in_turns(&files, &sets, deadline).await
    {
        return Ok(found);
    }
    let mut words: SmallVec<[Words; 4]> = SmallVec::new();
    words.try_room(sets.words())?;
    for word in 0..sets.words() {
        words.push(with_faults(t, || Ok(sets.read(word)?)).await?);
    }
    let mut watched = Watch::new();
    for (word, given) in words.iter().enumerate() {
        let asked = given[0] | given[1] | given[2];
        watched.try_room(asked.count_ones() as usize)?;
        for bit in bits(asked) {
            let mut wanted = Readiness::empty();
            for (_, bits) in given.iter().zip(REPORTED).filter(|(set, _)| *set >> bit & 1 != 0) {
                wanted |= bits;
            }
            watched.push(Watched {
                file: Some(files.get_usable((word * WORD + bit) as i32)?),
                wanted,
                ready: Readiness::empty(),
            });
        }
    }
    wait_for(t, &mut watched, deadline).await?;
    let mut found = 0;
    let mut watched = watched.iter();
    for (word, given) in words.iter().enumerate() {
        let mut answer = Words::default();
        for (bit, watched) in bits(given[0] | given[1] | given[2]).zip(&mut watched) {
            report(&mut answer, given, bit, watched.ready);
        }
        found += count_bits(&answer);
        with_faults(t, || Ok(sets.write(word, &answer)?)).await?;
    }
    Ok(found)
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
    let deadline = deadline(t, timeout, 1000).await?;
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
    let deadline = deadline(t, timeout, 1).await?;
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
