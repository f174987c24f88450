//! Calls that map memory: arguments checked and files looked up here, the work done by [`AddressSpace`](crate::mm::AddressSpace).

use alloc::boxed::Box;

use hal::PAGE_SIZE;

use crate::{
    errno::{Errno, Result},
    fs::file::SharedMapping,
    mm::{Map, MapFlags, Prot},
    task::{Thread, exec::vdso},
};

/// What a program asks for: `PROT_READ`, `WRITE`, `EXEC`. Writing or executing implies reading on neither machine's
/// account but on the page tables'.
fn protection(bits: u32) -> Prot {
    Prot::from_bits_truncate(bits)
}

/// `mmap(2)`.
///
/// # Errors
/// As the manual page: `EINVAL`, `EBADF`, `EACCES`, `ENODEV`, `ENOMEM`, `EEXIST`, `EOVERFLOW`, `EPERM`.
pub async fn mmap(t: &Thread, address: u64, length: u64, prot: u32, flags: u32, fd: i32, offset: u64) -> Result<u64> {
    if !offset.is_multiple_of(PAGE_SIZE as u64) {
        return Err(Errno::EINVAL);
    }
    let flags = MapFlags::from_bits_retain(flags);
    let mut map = Map {
        address,
        length,
        prot: protection(prot),
        max_prot: Prot::all(),
        flags,
        object: None,
        attach: None,
    };
    if !flags.contains(MapFlags::ANONYMOUS) {
        let file = t.files().get_usable(fd)?;
        if !file.is_readable() {
            return Err(Errno::EACCES);
        }
        map.object = Some((file.file().pager()?, offset));
        if flags.contains(MapFlags::SHARED) {
            let shared = if file.is_writable() {
                file.file().map_shared(map.prot.contains(Prot::WRITE))?
            } else {
                SharedMapping {
                    may_write: false,
                    ..SharedMapping::default()
                }
            };
            map.attach = shared.attach;
            if !shared.may_write {
                map.max_prot.remove(Prot::WRITE);
            }
        }
    }
    t.mm().mmap(map).await
}

/// `munmap(2)`.
///
/// # Errors
/// `EINVAL`, `ENOMEM`.
pub async fn munmap(t: &Thread, address: u64, length: u64) -> Result<u64> {
    t.mm().munmap(address, length).await?;
    Ok(0)
}

/// `mprotect(2)`.
///
/// # Errors
/// `EINVAL`, `EACCES`, `ENOMEM`.
pub async fn mprotect(t: &Thread, address: u64, length: u64, prot: u32) -> Result<u64> {
    const GROWS_DOWN: u32 = 0x0100_0000;
    const GROWS_UP: u32 = 0x0200_0000;
    // PROT_SEM (8) is accepted and means nothing.
    if prot & !(7 | 8 | GROWS_DOWN | GROWS_UP) != 0 || prot & (GROWS_DOWN | GROWS_UP) != 0 {
        return Err(Errno::EINVAL);
    }
    t.mm().mprotect(address, length, protection(prot)).await?;
    Ok(0)
}

/// `brk(2)`: where the heap ends afterwards.
///
/// # Errors
/// None: a break that cannot be moved stays.
pub async fn brk(t: &Thread, address: u64) -> Result<u64> {
    Ok(t.mm().brk(address).await)
}

/// `mremap(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ENOMEM`.
pub async fn mremap(t: &Thread, old: u64, old_length: u64, length: u64, flags: u32, target: u64) -> Result<u64> {
    let new = t.mm().mremap(old, old_length, length, flags, target).await?;
    vdso::moved(t.process(), old, old_length, new);
    Ok(new)
}

/// `madvise(2)`.
///
/// # Errors
/// `EINVAL`, `ENOMEM`.
pub async fn madvise(t: &Thread, address: u64, length: u64, advice: i32) -> Result<u64> {
    t.mm().madvise(address, length, advice).await?;
    Ok(0)
}

/// `msync(2)`.
///
/// # Errors
/// `EINVAL`, `ENOMEM`, `EIO`.
pub fn msync(t: &Thread, address: u64, length: u64, flags: u32) -> Result<u64> {
    t.mm().msync(address, length, flags)?;
    Ok(0)
}

/// `mincore(2)`.
///
/// # Errors
/// `EINVAL`, `ENOMEM`, `EFAULT`.
pub async fn mincore(t: &Thread, address: u64, length: u64, vector: u64) -> Result<u64> {
    let mm = t.mm();
    let mut pages = length.div_ceil(PAGE_SIZE as u64);
    let (mut from, mut to) = (address, vector);
    while pages > 0 {
        let mut chunk = [0; 256];
        let part = pages.min(chunk.len() as u64) as usize;
        mm.mincore(from, &mut chunk[..part])?;
        mm.write_bytes(to, &chunk[..part]).await?;
        from += (part * PAGE_SIZE) as u64;
        to += part as u64;
        pages -= part as u64;
    }
    Ok(0)
}

/// `mlock(2)`: the pages are brought, and nothing is ever paged out.
///
/// # Errors
/// `ENOMEM` if the range is not mapped as a whole or cannot be used, `EINVAL`, `EAGAIN`, `EINTR`.
pub async fn mlock(t: &Thread, address: u64, length: u64) -> Result<u64> {
    t.mm().lock(address, length).await?;
    Ok(0)
}

/// `mlock2(2)`.
///
/// # Errors
/// As [`mlock`]; `EINVAL` for flags but `MLOCK_ONFAULT`.
pub async fn mlock2(t: &Thread, address: u64, length: u64, flags: u32) -> Result<u64> {
    const ON_FAULT: u32 = 1;
    match flags {
        0 => mlock(t, address, length).await,
        ON_FAULT => munlock(t, address, length),
        _ => Err(Errno::EINVAL),
    }
}

/// `munlock(2)`: nothing but the check of the range.
///
/// # Errors
/// `ENOMEM` if the range is not mapped as a whole, `EINVAL`.
pub fn munlock(t: &Thread, address: u64, length: u64) -> Result<u64> {
    t.mm().check_mapped(address, length)?;
    Ok(0)
}

/// `mlockall(2)`.
///
/// # Errors
/// `EINVAL` for unknown flags, none, or `MCL_ONFAULT` alone.
pub async fn mlockall(t: &Thread, flags: u32) -> Result<u64> {
    const CURRENT: u32 = 1;
    const FUTURE: u32 = 2;
    const ON_FAULT: u32 = 4;
    if flags & !(CURRENT | FUTURE | ON_FAULT) != 0 || flags & (CURRENT | FUTURE) == 0 {
        return Err(Errno::EINVAL);
    }
    if flags & CURRENT != 0 && flags & ON_FAULT == 0 {
        Box::pin(t.mm().lock_all()).await;
    }
    Ok(0)
}

/// `munlockall(2)`.
///
/// # Errors
/// None.
pub fn munlockall(_t: &Thread) -> Result<u64> {
    Ok(0)
}
