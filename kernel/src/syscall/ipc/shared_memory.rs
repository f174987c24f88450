//! `shmget`, `shmat`, `shmdt`, `shmctl`.

use hal::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Named, check_id, check_shown, get, to_show};
use crate::{
    errno::{Errno, Result},
    ipc::{
        permission::{EXECUTE, IpcPerm, READ, WRITE},
        seconds, shared_memory,
    },
    mm::{Map, MapFlags, Prot},
    namespace::ipc_of,
    task::{Thread, limits::Resource},
};

/// `SHM_LOCK` and its kin (`linux/shm.h`).
const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;

/// `SHM_RDONLY`.
const READ_ONLY: u32 = 0o1_0000;
/// `SHM_RND`: round the address down.
const ROUND: u32 = 0o2_0000;
/// `SHM_REMAP`: replace what is there.
const REMAP: u32 = 0o4_0000;
/// `SHM_EXEC`.
const EXEC: u32 = 0o10_0000;

const PAGE: u64 = PAGE_SIZE as u64;

/// `struct shmid64_ds` (`asm-generic/shmbuf.h`), of both machines.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct ShmidDs {
    permission: IpcPerm,
    size: u64,
    times: [i64; 3],
    creator: i32,
    last: i32,
    attached: u64,
    unused: [u64; 2],
}

/// `struct shminfo64`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct ShmInfo {
    largest: u64,
    smallest: u64,
    segments: u64,
    segments_of_process: u64,
    pages: u64,
    unused: [u64; 4],
}

/// `struct shm_info` (`linux/shm.h`).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct ShmUse {
    segments: i32,
    pad: i32,
    pages: u64,
    resident: u64,
    swapped: u64,
    swap_attempts: u64,
    swap_successes: u64,
}

/// `shmget(2)`.
///
/// # Errors
/// `EINVAL`, `ENOSPC`, `ENOMEM`, `ENOENT`, `EEXIST`, `EACCES`.
pub fn shmget(t: &Thread, key: i32, size: u64, flags: i32) -> Result<u64> {
    get(t, key, flags, |request| {
        shared_memory::get(&ipc_of(t), request, size, t.process().pid())
    })
}

/// `shmat(2)`: where the segment is.
///
/// # Errors
/// `EINVAL`, `EACCES`, `EIDRM`, `ENOMEM`, `EPERM` (below the lowest address that may be mapped).
pub async fn shmat(t: &Thread, id: i32, address: u64, flags: u32) -> Result<u64> {
    check_id(id)?;
    let remap = flags & REMAP != 0;
    let place = match (address.is_multiple_of(PAGE), flags & ROUND != 0) {
        (true, _) => address,
        (false, true) => address & !(PAGE - 1),
        (false, false) => return Err(Errno::EINVAL),
    };
    if place == 0 && remap {
        return Err(Errno::EINVAL);
    }
    let (mut prot, mut wanted, mut max_prot) = (Prot::READ, READ, Prot::all());
    if flags & READ_ONLY == 0 {
        prot |= Prot::WRITE;
        wanted |= WRITE;
    } else {
        max_prot.remove(Prot::WRITE);
    }
    if flags & EXEC != 0 {
        prot |= Prot::EXEC;
        wanted |= EXECUTE;
    }
    let attaching = shared_memory::attach(ipc_of(t), id, &t.credentials(), wanted)?;
    let size = attaching.size();
    let mut map_flags = MapFlags::SHARED;
    let mm = t.mm();
    if address != 0 {
        let end = place.checked_add(size).ok_or(Errno::EINVAL)?;
        if !remap && !mm.is_unmapped(place, end) {
            return Err(Errno::EINVAL);
        }
        map_flags |= if remap {
            MapFlags::FIXED
        } else {
            MapFlags::FIXED_NOREPLACE
        };
    }
    let map = Map {
        address: place,
        length: size,
        prot,
        max_prot,
        flags: map_flags,
        object: Some((attaching.pager(), 0)),
        attach: Some(attaching.attach()),
    };
    // What came between is as bad as what was there before.
    mm.mmap(map).await.map_err(|errno| match errno {
        Errno::EEXIST => Errno::EINVAL,
        errno => errno,
    })
}

/// `shmdt(2)`.
///
/// # Errors
/// `EINVAL`, `ENOMEM`.
pub async fn shmdt(t: &Thread, address: u64) -> Result<u64> {
    t.mm().detach(address).await?;
    Ok(0)
}

/// `shmctl(2)`.
///
/// # Errors
/// `EINVAL`, `EACCES`, `EPERM`, `EFAULT`, `EIDRM`, `ENOMEM`.
pub async fn shmctl(t: &Thread, id: i32, command: i32, address: u64) -> Result<u64> {
    check_id(id)?;
    match command {
        IPC_INFO => info(t, address).await,
        SHM_INFO => usage(t, address).await,
        IPC_STAT => stat(t, id, Named::Id, address).await,
        SHM_STAT => stat(t, id, Named::Place, address).await,
        SHM_STAT_ANY => stat(t, id, Named::PlaceForAll, address).await,
        IPC_SET => {
            let new = t.mm().read::<ShmidDs>(address).await?.permission;
            let object = ipc_of(t).segments.get(id)?;
            let credentials = t.credentials();
            let mut state = object.lock()?;
            state.check_control(&credentials)?;
            if !new.is_valid() {
                return Err(Errno::EINVAL);
            }
            state.permission.set(&new);
            state.body.times[2] = seconds();
            Ok(0)
        }
        IPC_RMID => {
            shared_memory::remove(&ipc_of(t), id, &t.credentials())?;
            Ok(0)
        }
        SHM_LOCK | SHM_UNLOCK => {
            let limit = t.process().limit(Resource::LockedMemory);
            shared_memory::set_locked(&ipc_of(t), id, command == SHM_LOCK, &t.credentials(), limit)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

async fn stat(t: &Thread, id: i32, named: Named, address: u64) -> Result<u64> {
    let credentials = t.credentials();
    let (object, value, asked) = to_show(&ipc_of(t).segments, id, named, &credentials)?;
    let shown = {
        let state = object.lock()?;
        check_shown(&state, asked)?;
        let segment = &state.body;
        ShmidDs {
            permission: state.shown(&object),
            size: segment.size,
            times: segment.times,
            creator: segment.creator,
            last: segment.last,
            attached: segment.attached,
            unused: [0; 2],
        }
    };
    t.mm().write(address, &shown).await?;
    Ok(value)
}

async fn info(t: &Thread, address: u64) -> Result<u64> {
    let among = ipc_of(t);
    let info = ShmInfo {
        largest: among.limits.shmmax.get(),
        smallest: 1,
        segments: among.limits.shmmni.get(),
        segments_of_process: among.limits.shmmni.get(),
        pages: among.limits.shmall.get(),
        unused: [0; 4],
    };
    t.mm().write(address, &info).await?;
    Ok(among.segments.last_index())
}

async fn usage(t: &Thread, address: u64) -> Result<u64> {
    let among = ipc_of(t);
    let (segments, pages) = among.segments.usage();
    let usage = ShmUse {
        segments: segments as i32,
        pad: 0,
        pages,
        resident: shared_memory::resident_pages(&among),
        swapped: 0,
        swap_attempts: 0,
        swap_successes: 0,
    };
    t.mm().write(address, &usage).await?;
    Ok(among.segments.last_index())
}
