//! System V IPC calls (`sysvipc(7)`), and those of POSIX message queues: arguments and layouts; what they do is [`crate::ipc`]'s.

mod message;
mod mqueue;
mod semaphore;
mod shared_memory;

pub use message::{msgctl, msgget, msgrcv, msgrcv_at_once, msgsnd, msgsnd_at_once};
pub use mqueue::{mq_getsetattr, mq_notify, mq_open, mq_timedreceive, mq_timedsend, mq_unlink};
pub use semaphore::{semctl, semget, semop, semop_at_once, semtimedop, semtimedop_at_once};
pub use shared_memory::{shmat, shmctl, shmdt, shmget};

use alloc::sync::Arc;

use crate::{
    errno::{Errno, Result},
    ipc::{
        permission::READ,
        registry::{Object, Registry, Request},
    },
    task::{Credentials, Thread},
};

/// `IPC_RMID` (`linux/ipc.h`).
const IPC_RMID: i32 = 0;
/// `IPC_SET`.
const IPC_SET: i32 = 1;
/// `IPC_STAT`.
const IPC_STAT: i32 = 2;
/// `IPC_INFO`.
const IPC_INFO: i32 = 3;

/// Finds or makes the object of a key, as `make` does: the identifier.
fn get(t: &Thread, key: i32, flags: i32, make: impl FnOnce(&Request<'_>) -> Result<i32>) -> Result<u64> {
    let credentials = &t.credentials();
    let request = Request {
        key,
        flags,
        credentials,
    };
    Ok(make(&request)? as u64)
}

/// What a `*_STAT` command names its object by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    /// Its identifier; the call returns 0.
    Id,
    /// Its place; the call returns the identifier.
    Place,
    /// The same, whoever asks.
    PlaceForAll,
}

/// The object that a `*_STAT` command is about, what the call returns, and whose permission is asked, if anybody's.
type Shown<'a, T> = (Arc<Object<T>>, u64, Option<&'a Credentials>);

fn to_show<'a, T>(registry: &Registry<T>, id: i32, named: Named, credentials: &'a Credentials) -> Result<Shown<'a, T>> {
    let object = match named {
        Named::Id => registry.get(id)?,
        Named::Place | Named::PlaceForAll => registry.at(id)?,
    };
    let value = if named == Named::Id { 0 } else { object.id() as u64 };
    let asked = (named != Named::PlaceForAll).then_some(credentials);
    Ok((object, value, asked))
}

fn check_shown<T>(state: &crate::ipc::registry::State<T>, asked: Option<&Credentials>) -> Result<()> {
    asked.map_or(Ok(()), |credentials| state.check(credentials, READ))
}

/// A negative identifier is none.
const fn check_id(id: i32) -> Result<()> {
    if id < 0 { Err(Errno::EINVAL) } else { Ok(()) }
}
