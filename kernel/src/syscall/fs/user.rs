//! The caller's memory, from an async call: paths, structures, vectors. A page that is not there is brought in and the copy
//! repeated.

use core::mem::size_of;

use linux_raw_sys::general as linux;
use smallvec::{Array, SmallVec};

use crate::{
    errno::{Errno, Result},
    fs::{
        file::{Attempt, Stop},
        io::{UserSlice, copy_in, copy_out},
        path::PATH_MAX,
    },
    mm::user,
    task::Thread,
};

/// A path, short ones without allocation.
pub type UserPath = SmallVec<[u8; 96]>;

/// Attempts until it neither faults nor fails.
///
/// # Errors
/// The attempt's; `EFAULT` for a page that cannot be had; `EAGAIN` for an attempt that would block.
pub async fn with_faults<T>(t: &Thread, mut attempt: impl FnMut() -> Attempt<T>) -> Result<T> {
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(Stop::Errno(errno)) => return Err(errno),
            Err(Stop::WouldBlock) => return Err(Errno::EAGAIN),
            Err(Stop::Fault(fault)) => t.mm().resolve(fault).await?,
        }
    }
}

/// Copies `bytes` to the caller.
///
/// # Errors
/// `EFAULT`.
pub async fn put(t: &Thread, address: u64, bytes: &[u8]) -> Result<()> {
    with_faults(t, || Ok(copy_out(address, bytes)?)).await
}

/// Copies from the caller.
///
/// # Errors
/// `EFAULT`.
pub async fn get(t: &Thread, address: u64, bytes: &mut [u8]) -> Result<()> {
    with_faults(t, || Ok(copy_in(bytes, address)?)).await
}

/// An array of `N` 64-bit words of the caller's.
///
/// # Errors
/// `EFAULT`.
pub async fn words<const N: usize>(t: &Thread, address: u64) -> Result<[u64; N]> {
    let mut bytes = [[0u8; 8]; N];
    get(t, address, bytes.as_flattened_mut()).await?;
    Ok(bytes.map(u64::from_ne_bytes))
}

/// A path of the caller's, without its final zero.
///
/// # Errors
/// `EFAULT`; `ENAMETOOLONG`.
pub async fn path(t: &Thread, address: u64) -> Result<UserPath> {
    with_faults(t, || path_at_once(address)).await
}

/// As [`path`], if no page is missing.
///
/// # Errors
/// As [`path`]; a page that is missing.
pub fn path_at_once(address: u64) -> Attempt<UserPath> {
    string_at_once(address, PATH_MAX - 1, Errno::ENAMETOOLONG)
}

/// A string of the caller's, without its final zero and of at most `most` bytes.
///
/// # Errors
/// `EFAULT`; `too_long`; a page that is missing.
pub fn string_at_once<A: Array<Item = u8>>(address: u64, most: usize, too_long: Errno) -> Attempt<SmallVec<A>> {
    let mut string = SmallVec::new();
    let mut chunk = [0u8; 32];
    loop {
        let at = address.checked_add(string.len() as u64).ok_or(Errno::EFAULT)?;
        // Within one page, so that a string that ends at the end of memory is read whole.
        let length = chunk.len().min(hal::PAGE_SIZE - at as usize % hal::PAGE_SIZE);
        let chunk = &mut chunk[..length];
        copy_in(chunk, at)?;
        let end = find_zero(chunk);
        string.extend_from_slice(&chunk[..end.unwrap_or(length)]);
        if string.len() > most {
            return Err(too_long.into());
        }
        if end.is_some() {
            return Ok(string);
        }
    }
}

/// Where the first zero is, by words: most strings of programs are paths, and most of these longer than one.
fn find_zero(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The top bit of each zero, and perhaps of bytes behind the first.
        let zeroes = word.wrapping_sub(ONES) & !word & ONES << 7;
        if zeroes != 0 {
            return Some(index * 8 + zeroes.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&byte| byte == 0)?;
    Some(words.len() * 8 + at)
}

/// Copies what a call answers to the caller, all of it or nothing, as its last step: the value that it returns.
///
/// # Errors
/// A page that is missing.
pub fn answer(address: u64, bytes: &[u8], value: u64) -> Attempt<u64> {
    user::write(address, bytes)?;
    Ok(value)
}

/// The vectors of `readv` and its kin.
pub type Vectors = SmallVec<[UserSlice; 8]>;

/// Reads a vector array (`struct iovec`).
///
/// # Errors
/// `EINVAL` for more than 1024, a negative length, or a sum that overflows; `EFAULT`.
pub async fn vectors(t: &Thread, address: u64, count: u64) -> Result<Vectors> {
    if count > u64::from(linux::UIO_MAXIOV) {
        return Err(Errno::EINVAL);
    }
    let mut slices = Vectors::new();
    let mut sum: u64 = 0;
    for index in 0..count {
        let [base, len] = words(t, address.wrapping_add(index * 16)).await?;
        sum = sum
            .checked_add(len)
            .filter(|&sum| sum <= i64::MAX as u64)
            .ok_or(Errno::EINVAL)?;
        slices.push(UserSlice::new(base, len)?);
    }
    Ok(slices)
}

/// Stores the low bytes of `value` into a field.
pub fn store(bytes: &mut [u8], offset: usize, size: usize, value: u64) {
    bytes[offset..offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

/// Loads a field, zero-extended.
pub fn load(bytes: &[u8], offset: usize, size: usize) -> u64 {
    let mut value = [0; 8];
    value[..size].copy_from_slice(&bytes[offset..offset + size]);
    u64::from_le_bytes(value)
}

/// The size of what a function gives a reference to: of a field.
pub const fn field_size<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// The bytes of a C structure with these fields, the rest zero. Layout and widths are the structure's own, so one text
/// serves every architecture.
macro_rules! structure {
    ($type:ty { $($($field:ident).+ : $value:expr),* $(,)? }) => {{
        let mut bytes = [0u8; core::mem::size_of::<$type>()];
        $($crate::syscall::fs::user::store(
            &mut bytes,
            core::mem::offset_of!($type, $($field).+),
            $crate::syscall::fs::user::field_size(|it: &$type| &it.$($field).+),
            ($value) as u64,
        );)*
        bytes
    }};
}

/// One field of a C structure's bytes.
macro_rules! field {
    ($bytes:expr, $type:ty, $($field:ident).+) => {
        $crate::syscall::fs::user::load(
            &$bytes,
            core::mem::offset_of!($type, $($field).+),
            $crate::syscall::fs::user::field_size(|it: &$type| &it.$($field).+),
        )
    };
}

pub(crate) use {field, structure};
