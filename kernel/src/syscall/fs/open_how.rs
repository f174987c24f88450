//! `openat2(2)`: opening by a structure, by a walk that may be kept from leaving a directory.

use alloc::boxed::Box;

use hal::PAGE_SIZE;
use linux_raw_sys::general as linux;

use super::{
    open::open_path,
    user::{get, load, path},
};
use crate::{
    errno::{Errno, Result},
    fs::path::Limits,
    task::Thread,
};

/// Bytes of `struct open_how` (`linux/openat2.h`): flags, mode and resolve, eight each.
const BYTES: usize = 24;
/// `__O_TMPFILE`, without the `O_DIRECTORY` that belongs to it.
const TEMPORARY: u32 = linux::O_TMPFILE & !linux::O_DIRECTORY;
/// `RESOLVE_CACHED`: nothing here has to be fetched to find a name, but files are not made.
const CACHED: u64 = 0x20;

/// `openat2(2)`. Unlike `openat` it refuses what makes no sense.
///
/// # Errors
/// Those of `openat`; `EINVAL` (flags, a mode without a file that is made, contradictory limits, a structure that is too short), `E2BIG`
/// (a longer structure that is not zero behind what is known); `EXDEV`, `ELOOP`, `EAGAIN` where the limits end the walk.
pub async fn openat2(t: &Thread, dirfd: i32, name: u64, how: u64, size: u64) -> Result<u64> {
    if size < BYTES as u64 {
        return Err(Errno::EINVAL);
    }
    if size > PAGE_SIZE as u64 {
        return Err(Errno::E2BIG);
    }
    let mut bytes = [0; BYTES];
    get(t, how, &mut bytes).await?;
    if size > BYTES as u64 {
        Box::pin(check_rest(t, how, size)).await?;
    }
    let word = |at: usize| load(&bytes, at, 8);
    let (flags, mode, limits) = asked(word(0), word(8), word(16))?;
    let name = path(t, name).await?;
    Box::pin(open_path(t, dirfd, &name, flags, mode, limits)).await
}

/// Whether a longer structure than this kernel knows is zero where it is longer.
async fn check_rest(t: &Thread, how: u64, size: u64) -> Result<()> {
    let mut at = BYTES as u64;
    while at < size {
        let mut chunk = [0; 256];
        let part = chunk.len().min((size - at) as usize);
        get(t, how.wrapping_add(at), &mut chunk[..part]).await?;
        if chunk.iter().any(|byte| *byte != 0) {
            return Err(Errno::E2BIG);
        }
        at += part as u64;
    }
    Ok(())
}

/// A bit of the kernel's own flags that Linux lets pass, `FMODE_NONOTIFY`.
const NO_NOTICES: u64 = 0x400_0000;

/// What `openat` is to be asked.
fn asked(flags: u64, mode: u64, resolve: u64) -> Result<(u32, u32, Limits)> {
    const KNOWN: u32 =
        TEMPORARY | linux::O_PATH | linux::O_SYNC | linux::O_CLOEXEC | linux::O_NOATIME | linux::O_DIRECTORY | 0x3_ffc3;
    const WITH_PATH: u32 = linux::O_PATH | linux::O_DIRECTORY | linux::O_NOFOLLOW | linux::O_CLOEXEC;
    let flags = u32::try_from(flags & !NO_NOTICES).map_err(|_| Errno::EINVAL)?;
    let limits = u8::try_from(resolve & !CACHED).ok().and_then(Limits::from_bits);
    let limits = limits.ok_or(Errno::EINVAL)?;
    let makes = flags & (linux::O_CREAT | TEMPORARY) != 0;
    let temporary = flags & TEMPORARY != 0;
    let wrong = flags & !KNOWN != 0
        || limits.contains(Limits::BENEATH | Limits::IN_ROOT)
        || mode & !if makes { 0o7777 } else { 0 } != 0
        || temporary && flags & (linux::O_TMPFILE | linux::O_CREAT) != linux::O_TMPFILE
        || flags & linux::O_PATH != 0 && flags & !WITH_PATH != 0;
    if wrong {
        return Err(Errno::EINVAL);
    }
    if resolve & CACHED != 0 && (makes || flags & linux::O_TRUNC != 0) {
        return Err(Errno::EAGAIN);
    }
    Ok((flags, mode as u32, limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |flags: u32, mode, resolve| asked(flags.into(), mode, resolve).err();
        assert_eq!(refused(linux::O_RDONLY, 0, 0), None);
        assert_eq!(refused(linux::O_CREAT, 0o600, 0x1f & !0x10), None);
        assert_eq!(refused(linux::O_TMPFILE | linux::O_RDWR, 0o600, 0), None);
        for (flags, mode, resolve) in [
            (linux::O_RDONLY, 0o600, 0),
            (linux::O_CREAT, 0o10_000, 0),
            (linux::O_RDONLY, 0, 0x18),
            (linux::O_RDONLY, 0, 0x40),
            (TEMPORARY | linux::O_RDWR, 0, 0),
            (linux::O_TMPFILE | linux::O_CREAT | linux::O_RDWR, 0, 0),
            (linux::O_PATH | linux::O_RDWR, 0, 0),
            (linux::O_PATH | linux::O_TMPFILE, 0, 0),
            (1 << 2, 0, 0),
            (1 << 30, 0, 0),
        ] {
            assert_eq!(
                refused(flags, mode, resolve),
                Some(Errno::EINVAL),
                "{flags:#o} {mode:#o} {resolve:#x}"
            );
        }
        assert_eq!(asked(1 << 32, 0, 0).err(), Some(Errno::EINVAL));
        assert_eq!(refused(linux::O_CREAT, 0, CACHED), Some(Errno::EAGAIN));
        assert_eq!(refused(linux::O_RDONLY, 0, CACHED), None);
    }
}
