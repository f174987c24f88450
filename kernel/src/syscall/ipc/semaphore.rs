//! `semget`, `semop`, `semtimedop`, `semctl`.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use hal::{abi::Abi, arch::ABI};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Named, check_id, check_shown, get, to_show};
use crate::{
    clock::{Base, Moment},
    errno::{Errno, Result},
    fs::{Stop, file::Attempt, io::copy_in},
    ipc::{
        Objects,
        line::{self, Over},
        permission::{IpcPerm, READ, WRITE},
        registry::Object,
        seconds,
        semaphore::{self, Attempted, Change, MAX_VALUE, Operation, Operations, Set},
    },
    mm::fallible::{TryRoom, TryRoomExact},
    namespace::ipc_of,
    rt,
    syscall::{fs::user::with_faults, types::Timespec},
    task::Thread,
};

/// `GETPID` and its kin (`linux/sem.h`).
const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;

/// `struct semid64_ds` of x86_64 (`asm/sembuf.h`).
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SemidDsX86 {
    permission: IpcPerm,
    operated: i64,
    unused1: u64,
    changed: i64,
    unused2: u64,
    count: u64,
    unused: [u64; 2],
}

/// The same of aarch64 (`asm-generic/sembuf.h`).
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SemidDs {
    permission: IpcPerm,
    operated: i64,
    changed: i64,
    count: u64,
    unused: [u64; 2],
}

/// `struct seminfo` (`linux/sem.h`).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct SemInfo {
    map: i32,
    sets: i32,
    semaphores: i32,
    undos: i32,
    semaphores_of_set: i32,
    operations: i32,
    undos_of_process: i32,
    /// The size of an undo; for `SEM_INFO`, sets in use.
    undo_size: i32,
    largest_value: i32,
    /// The largest adjustment; for `SEM_INFO`, semaphores in use.
    largest_adjustment: i32,
}

/// `semget(2)`.
///
/// # Errors
/// `EINVAL`, `ENOSPC`, `ENOMEM`, `ENOENT`, `EEXIST`, `EACCES`.
pub fn semget(t: &Thread, key: i32, count: i32, flags: i32) -> Result<u64> {
    get(t, key, flags, |request| semaphore::get(&ipc_of(t), request, count))
}

/// `semop(2)`: a signal ends it with `EINTR` whatever `SA_RESTART` says.
///
/// # Errors
/// As [`semtimedop`].
pub async fn semop(t: &Arc<Thread>, id: i32, operations: u64, count: u32) -> Result<u64> {
    operate(t, id, operations, count, None).await
}

/// [`semop`], if it need not wait.
///
/// # Errors
/// As [`semtimedop`]; would block.
pub fn semop_at_once(t: &Arc<Thread>, id: i32, operations: u64, count: u32) -> Attempt<u64> {
    operate_at_once(t, id, operations, count)
}

/// `semtimedop(2)`.
///
/// # Errors
/// `E2BIG`, `EINVAL`, `EFAULT`, `EFBIG`, `EACCES`, `EIDRM`, `EAGAIN` (`IPC_NOWAIT`, or the time was up), `EINTR`, `ERANGE`, `ENOMEM`.
pub async fn semtimedop(t: &Arc<Thread>, id: i32, operations: u64, count: u32, timeout: u64) -> Result<u64> {
    let deadline = match timeout {
        0 => None,
        address => Some(t.mm().read::<Timespec>(address).await?),
    };
    operate(t, id, operations, count, deadline).await
}

/// [`semtimedop`] without a time, if it need not wait.
///
/// # Errors
/// As [`semtimedop`]; would block.
pub fn semtimedop_at_once(t: &Arc<Thread>, id: i32, operations: u64, count: u32, timeout: u64) -> Attempt<u64> {
    // A time is to be looked at first.
    if timeout != 0 {
        return Err(Stop::WouldBlock);
    }
    operate_at_once(t, id, operations, count)
}

fn copy_operations(address: u64, count: u32) -> Attempt<Operations> {
    let mut operations = Operations::from_buf([Operation::default(); 4]);
    operations.truncate(count as usize);
    if count as usize > operations.len() {
        operations.try_room(count as usize - operations.len())?;
        operations.resize(count as usize, Operation::default());
    }
    copy_in(operations.as_mut_slice().as_mut_bytes(), address)?;
    Ok(operations)
}

fn check_count(among: &Objects, id: i32, count: u32) -> Result<()> {
    if count == 0 || id < 0 {
        return Err(Errno::EINVAL);
    }
    if u64::from(count) > among.limits.semopm.get() {
        return Err(Errno::E2BIG);
    }
    Ok(())
}

fn operate_at_once(t: &Arc<Thread>, id: i32, operations: u64, count: u32) -> Attempt<u64> {
    let among = ipc_of(t);
    check_count(&among, id, count)?;
    let operations = copy_operations(operations, count)?;
    let object = among.sets.get(id)?;
    match semaphore::operate(&object, t, &operations, None)? {
        Attempted::Done => Ok(0),
        Attempted::Waits(..) | Attempted::Blocked => Err(Stop::WouldBlock),
    }
}

async fn operate(t: &Arc<Thread>, id: i32, address: u64, count: u32, timeout: Option<Timespec>) -> Result<u64> {
    check_count(&ipc_of(t), id, count)?;
    // Rare beside those made at once, and large.
    Box::pin(async move {
        let operations = with_faults(t, || copy_operations(address, count)).await?;
        let deadline = match timeout {
            None => None,
            Some(time) => Some(Moment {
                base: Base::Boot,
                time: rt::now().saturating_add(time.to_nanoseconds()?),
            }),
        };
        let object = ipc_of(t).sets.get(id)?;
        let Attempted::Waits(line, ticket) = semaphore::operate(&object, t, &operations, Some(t))? else {
            return Ok(0);
        };
        match line::wait(t, &line, ticket, deadline).await {
            Ok(outcome) => outcome.map(|()| 0),
            Err(Over::TimedOut) => Err(Errno::EAGAIN),
            Err(Over::Interrupted) => Err(Errno::EINTR),
        }
    })
    .await
}

/// `semctl(2)`.
///
/// # Errors
/// `EINVAL`, `EACCES`, `EPERM`, `EFAULT`, `EIDRM`, `ERANGE`, `ENOMEM`.
pub async fn semctl(t: &Thread, id: i32, number: i32, command: i32, argument: u64) -> Result<u64> {
    check_id(id)?;
    match command {
        IPC_INFO | SEM_INFO => info(t, command == SEM_INFO, argument).await,
        IPC_STAT => stat(t, id, Named::Id, argument).await,
        SEM_STAT => stat(t, id, Named::Place, argument).await,
        SEM_STAT_ANY => stat(t, id, Named::PlaceForAll, argument).await,
        GETALL => get_all(t, id, argument).await,
        SETALL => set_all(t, id, argument).await,
        GETVAL | GETPID | GETNCNT | GETZCNT => get_one(t, id, number, command),
        SETVAL => {
            let value = u16::try_from(argument as i32).map_err(|_| Errno::ERANGE)?;
            if i32::from(value) > MAX_VALUE {
                return Err(Errno::ERANGE);
            }
            let number = usize::try_from(number);
            let object = ipc_of(t).sets.get(id)?;
            let change = Change::One(number.map_err(|_| Errno::EINVAL)?, value);
            semaphore::set_values(&object, &t.credentials(), t.process().pid(), change)?;
            Ok(0)
        }
        IPC_SET => set(t, id, argument).await,
        IPC_RMID => {
            semaphore::remove(&ipc_of(t), id, &t.credentials())?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn get_one(t: &Thread, id: i32, number: i32, command: i32) -> Result<u64> {
    let object = ipc_of(t).sets.get(id)?;
    let credentials = t.credentials();
    let state = object.lock()?;
    state.check(&credentials, READ)?;
    let semaphore = state.semaphore(number)?;
    Ok(match command {
        GETVAL => semaphore.value as u64,
        GETPID => semaphore.pid as u64,
        _ => state.body.count(number as usize, command == GETZCNT),
    })
}

async fn get_all(t: &Thread, id: i32, address: u64) -> Result<u64> {
    let object = ipc_of(t).sets.get(id)?;
    let mut values = Vec::new();
    values.try_room_exact(object.weight() as usize)?;
    let credentials = t.credentials();
    {
        let state = object.lock()?;
        state.check(&credentials, READ)?;
        values.extend(state.body.semaphores().iter().map(|semaphore| semaphore.value as u16));
    }
    t.mm().write(address, values.as_slice()).await?;
    Ok(0)
}

async fn set_all(t: &Thread, id: i32, address: u64) -> Result<u64> {
    let object = ipc_of(t).sets.get(id)?;
    let credentials = t.credentials();
    object.lock()?.check(&credentials, WRITE)?;
    let mut values: Vec<u16> = Vec::new();
    values.try_room_exact(object.weight() as usize)?;
    values.resize(object.weight() as usize, 0);
    t.mm().read_bytes(address, values.as_mut_bytes()).await?;
    if values.iter().any(|value| i32::from(*value) > MAX_VALUE) {
        return Err(Errno::ERANGE);
    }
    semaphore::set_values(&object, &credentials, t.process().pid(), Change::All(&values))?;
    Ok(0)
}

async fn set(t: &Thread, id: i32, address: u64) -> Result<u64> {
    let new = match ABI {
        Abi::X86_64 => t.mm().read::<SemidDsX86>(address).await?.permission,
        Abi::Aarch64 => t.mm().read::<SemidDs>(address).await?.permission,
    };
    let object = ipc_of(t).sets.get(id)?;
    let credentials = t.credentials();
    let mut state = object.lock()?;
    state.check_control(&credentials)?;
    if !new.is_valid() {
        return Err(Errno::EINVAL);
    }
    state.permission.set(&new);
    state.body.changed = seconds();
    Ok(0)
}

async fn stat(t: &Thread, id: i32, named: Named, address: u64) -> Result<u64> {
    let credentials = t.credentials();
    let (object, value, asked) = to_show(&ipc_of(t).sets, id, named, &credentials)?;
    let shown = show(&object, asked)?;
    let mm = t.mm();
    match ABI {
        Abi::X86_64 => {
            let SemidDs {
                permission,
                operated,
                changed,
                count,
                unused,
            } = shown;
            let shown = SemidDsX86 {
                permission,
                operated,
                unused1: 0,
                changed,
                unused2: 0,
                count,
                unused,
            };
            mm.write(address, &shown).await?;
        }
        Abi::Aarch64 => mm.write(address, &shown).await?,
    }
    Ok(value)
}

fn show(object: &Object<Set>, asked: Option<&crate::task::Credentials>) -> Result<SemidDs> {
    let state = object.lock()?;
    check_shown(&state, asked)?;
    Ok(SemidDs {
        permission: state.shown(object),
        operated: state.body.operated,
        changed: state.body.changed,
        count: object.weight(),
        unused: [0; 2],
    })
}

async fn info(t: &Thread, in_use: bool, address: u64) -> Result<u64> {
    const UNDO_SIZE: i32 = 20;
    let among = ipc_of(t);
    let (sets, semaphores) = among.sets.usage();
    let limit = |value: u64| value.min(i32::MAX as u64) as i32;
    let last = among.sets.last_index();
    let info = SemInfo {
        map: limit(among.limits.semmns.get()),
        sets: limit(among.limits.semmni.get()),
        semaphores: limit(among.limits.semmns.get()),
        undos: 1_024_000_000,
        semaphores_of_set: limit(among.limits.semmsl.get()),
        operations: limit(among.limits.semopm.get()),
        undos_of_process: 500,
        undo_size: if in_use { limit(sets) } else { UNDO_SIZE },
        largest_value: MAX_VALUE,
        largest_adjustment: if in_use { limit(semaphores) } else { MAX_VALUE },
    };
    t.mm().write(address, &info).await?;
    Ok(last)
}
