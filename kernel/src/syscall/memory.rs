//! Calls on the address space.

use alloc::vec::Vec;

use hal::PAGE_SIZE;

use crate::{
    errno::{Errno, Result},
    mm::{Map, MapFlags, Prot},
    task::Thread,
};

fn prot(bits: u32) -> Result<Prot> {
    // PROT_GROWSDOWN and PROT_GROWSUP, which nobody passes, are refused.
    Prot::from_bits(bits & !8).ok_or(Errno::EINVAL)
}

/// `mmap(2)`.
///
/// # Errors
/// As the manual page.
pub async fn mmap(t: &Thread, address: u64, length: u64, bits: u32, flags: u32, fd: i32, offset: u64) -> Result<u64> {
    let flags = MapFlags::from_bits_retain(flags);
    let mut max_prot = Prot::all();
    let object = if flags.contains(MapFlags::ANONYMOUS) {
        None
    } else {
        let file = t.files().get_usable(fd)?;
        let shared = flags.contains(MapFlags::SHARED);
        if !file.is_readable() {
            return Err(Errno::EACCES);
        }
        if shared && !file.is_writable() {
            max_prot.remove(Prot::WRITE);
        }
        Some((file.file().pager()?, offset))
    };
    t.mm().mmap(Map { address, length, prot: prot(bits)?, max_prot, flags, object }).await
}

/// `munmap(2)`.
pub async fn munmap(t: &Thread, address: u64, length: u64) -> Result<u64> {
    t.mm().munmap(address, length).await.map(|()| 0)
}

/// `mprotect(2)`.
pub async fn mprotect(t: &Thread, address: u64, length: u64, bits: u32) -> Result<u64> {
    t.mm().mprotect(address, length, prot(bits)?).await.map(|()| 0)
}

/// `mremap(2)`.
pub async fn mremap(t: &Thread, old: u64, old_length: u64, length: u64, flags: u32, target: u64) -> Result<u64> {
    t.mm().mremap(old, old_length, length, flags, target).await
}

/// `madvise(2)`.
pub async fn madvise(t: &Thread, address: u64, length: u64, advice: i32) -> Result<u64> {
    t.mm().madvise(address, length, advice).await.map(|()| 0)
}

/// `brk(2)`.
pub async fn brk(t: &Thread, address: u64) -> Result<u64> {
    Ok(t.mm().brk(address).await)
}

/// `msync(2)`.
pub async fn msync(t: &Thread, address: u64, length: u64, flags: u32) -> Result<u64> {
    t.mm().msync(address, length, flags).map(|()| 0)
}

/// `mincore(2)`, a stretch at a time.
pub async fn mincore(t: &Thread, address: u64, length: u64, vector: u64) -> Result<u64> {
    const STRETCH: u64 = 4096;
    if !address.is_multiple_of(PAGE_SIZE as u64) {
        return Err(Errno::EINVAL);
    }
    let pages = length.div_ceil(PAGE_SIZE as u64);
    let mm = t.mm();
    let mut out = Vec::new();
    out.try_reserve_exact(pages.min(STRETCH) as usize).map_err(|_| Errno::ENOMEM)?;
    let mut done = 0;
    while done < pages {
        let count = (pages - done).min(STRETCH);
        out.clear();
        out.resize(count as usize, 0);
        let at = done.checked_mul(PAGE_SIZE as u64).and_then(|offset| address.checked_add(offset));
        mm.mincore(at.ok_or(Errno::ENOMEM)?, &mut out)?;
        mm.write_bytes(vector.wrapping_add(done), &out).await?;
        done += count;
    }
    Ok(0)
}

/// `mlock(2)`: nothing is ever paged out, so pages only have to be there.
pub async fn mlock(t: &Thread, address: u64, length: u64) -> Result<u64> {
    mlock2(t, address, length, 0).await
}

/// `munlock(2)`.
pub async fn munlock(_: &Thread, _address: u64, _length: u64) -> Result<u64> {
    Ok(0)
}

/// `mlock2(2)`.
pub async fn mlock2(t: &Thread, address: u64, length: u64, flags: u32) -> Result<u64> {
    if flags & !1 != 0 {
        return Err(Errno::EINVAL);
    }
    let end = address.checked_add(length).ok_or(Errno::EINVAL)?;
    let mm = t.mm();
    let mut at = address & !(PAGE_SIZE as u64 - 1);
    while flags == 0 && at < end {
        mm.fault(at, hal::trap::Access::Read).await.map_err(|_| Errno::ENOMEM)?;
        at += PAGE_SIZE as u64;
    }
    Ok(0)
}

/// `mlockall(2)`.
pub async fn mlockall(_: &Thread, flags: u32) -> Result<u64> {
    if flags == 0 || flags & !7 != 0 { Err(Errno::EINVAL) } else { Ok(0) }
}

/// `munlockall(2)`.
pub async fn munlockall(_: &Thread) -> Result<u64> {
    Ok(0)
}
