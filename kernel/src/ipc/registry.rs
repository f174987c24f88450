//! Objects of one kind by identifier and by key.

use alloc::{collections::BTreeMap, sync::Arc};

use super::{
    IPC_CREAT, IPC_EXCL, IPC_PRIVATE,
    permission::{IpcPerm, Permission},
};
use crate::{
    errno::{Errno, Result},
    sync::{Rank, SpinLock, SpinLockGuard},
    task::Credentials,
};

/// Bits of an identifier that say the object's place (`IPCMNI_SHIFT`); the others count how often places were used.
const INDEX_BITS: u32 = 15;
/// Places.
pub const MAX_OBJECTS: u32 = 1 << INDEX_BITS;
/// Places that are used in turn before one is used again (`ipc_min_cycle`).
const MIN_CYCLE: u32 = 64;

const fn index_of(id: i32) -> u32 {
    id as u32 & (MAX_OBJECTS - 1)
}

/// The part of an identifier that tells its object from those that had its place before.
pub const fn sequence(id: i32) -> u16 {
    (id as u32 >> INDEX_BITS) as u16
}

/// One object.
pub struct Object<T> {
    id: i32,
    weight: u64,
    state: SpinLock<State<T>>,
}

/// What is under an object's lock.
pub struct State<T> {
    /// Who may do what.
    pub permission: Permission,
    /// What it is.
    pub body: T,
    gone: bool,
}

impl<T> Object<T> {
    /// Its identifier.
    pub const fn id(&self) -> i32 {
        self.id
    }

    /// What it counts for in the sum over all of its kind.
    pub const fn weight(&self) -> u64 {
        self.weight
    }

    /// Its state.
    ///
    /// # Errors
    /// `EIDRM` once it has been removed.
    pub fn lock(&self) -> Result<SpinLockGuard<'_, State<T>>> {
        let state = self.state.lock();
        if state.gone { Err(Errno::EIDRM) } else { Ok(state) }
    }

    /// Its state, which nobody else changes any more if it has been removed.
    pub fn lock_even_if_gone(&self) -> SpinLockGuard<'_, State<T>> {
        self.state.lock()
    }
}

impl<T> State<T> {
    /// Permission as structures show it.
    pub const fn shown(&self, object: &Object<T>) -> IpcPerm {
        IpcPerm::new(&self.permission, object.id)
    }

    /// Whether this is granted.
    ///
    /// # Errors
    /// `EACCES`.
    pub fn check(&self, credentials: &Credentials, wanted: u32) -> Result<()> {
        if self.permission.allows(credentials, wanted) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Whether they may change or remove it.
    ///
    /// # Errors
    /// `EPERM`.
    pub const fn check_control(&self, credentials: &Credentials) -> Result<()> {
        if self.permission.is_controlled_by(credentials) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }
}

/// What `*get` asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The key.
    pub key: i32,
    /// `IPC_CREAT`, `IPC_EXCL`, and permission bits.
    pub flags: i32,
    /// Who asks.
    pub credentials: &'a Credentials,
}

/// How much there may be of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Objects.
    pub objects: u64,
    /// The sum of their weights.
    pub weight: u64,
}

/// What is about to become an object.
pub struct New<T> {
    /// What it is.
    pub body: T,
    /// What it counts for.
    pub weight: u64,
}

/// All objects of a kind.
pub struct Registry<T> {
    ids: SpinLock<Ids<T>>,
}

struct Ids<T> {
    by_index: BTreeMap<u32, Arc<Object<T>>>,
    by_key: BTreeMap<i32, u32>,
    last: Option<u32>,
    sequence: u16,
    weight: u64,
}

impl<T> Ids<T> {
    /// The identifier of the next object: places are used in turn, since one that is used again at once would let a late caller
    /// reach the wrong object.
    fn next_id(&mut self) -> Option<i32> {
        let limit = (self.by_index.len() as u32 * 3 / 2).clamp(MIN_CYCLE, MAX_OBJECTS);
        let from = self.last.map_or(0, |last| last + 1);
        let mut places = (from..limit).chain(0..limit);
        let index = places.find(|index| !self.by_index.contains_key(index))?;
        if self.last.is_some_and(|last| index <= last) {
            self.sequence = if self.sequence >= (i32::MAX >> INDEX_BITS) as u16 - 1 {
                0
            } else {
                self.sequence + 1
            };
        }
        self.last = Some(index);
        Some(i32::from(self.sequence) << INDEX_BITS | index as i32)
    }
}

impl<T> Registry<T> {
    /// Without objects.
    pub const fn new() -> Self {
        let ids = Ids {
            by_index: BTreeMap::new(),
            by_key: BTreeMap::new(),
            last: None,
            sequence: 0,
            weight: 0,
        };
        Self {
            ids: SpinLock::new(Rank::Ipc, ids),
        }
    }

    /// The object of an identifier.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub fn get(&self, id: i32) -> Result<Arc<Object<T>>> {
        let found = self.at(id)?;
        if found.id == id { Ok(found) } else { Err(Errno::EINVAL) }
    }

    /// The object at the place of an identifier, whatever the rest of it says (`*_STAT`).
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub fn at(&self, id: i32) -> Result<Arc<Object<T>>> {
        if id < 0 {
            return Err(Errno::EINVAL);
        }
        let ids = self.ids.lock();
        ids.by_index.get(&index_of(id)).cloned().ok_or(Errno::EINVAL)
    }

    /// The first object at this place or behind it.
    pub fn next(&self, index: u32) -> Option<(u32, Arc<Object<T>>)> {
        let ids = self.ids.lock();
        let (index, object) = ids.by_index.range(index..).next()?;
        Some((*index, object.clone()))
    }

    /// The last used place; 0 if there is none.
    pub fn last_index(&self) -> u64 {
        self.ids
            .lock()
            .by_index
            .last_key_value()
            .map_or(0, |(index, _)| *index)
            .into()
    }

    /// How many objects there are, and the sum of their weights.
    pub fn usage(&self) -> (u64, u64) {
        let ids = self.ids.lock();
        (ids.by_index.len() as u64, ids.weight)
    }

    /// The identifier of the object with a key, which `fits` has to agree with, or of a new one.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `EACCES`; what `fits` and `make` say; `ENOSPC` if there is no room.
    pub fn find_or_make(
        &self,
        request: &Request<'_>,
        room: Room,
        fits: impl Fn(&Object<T>) -> Result<()>,
        make: impl Fn() -> Result<New<T>>,
    ) -> Result<i32> {
        let Request {
            key,
            flags,
            credentials,
        } = *request;
        // Made with no lock held; somebody may have been faster then.
        let mut new = None;
        loop {
            let mut ids = self.ids.lock();
            let found = if key == IPC_PRIVATE { None } else { ids.by_key.get(&key) };
            if let Some(object) = found.and_then(|index| ids.by_index.get(index)) {
                if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 {
                    return Err(Errno::EEXIST);
                }
                fits(object)?;
                object.state.lock().check(credentials, flags as u32)?;
                return Ok(object.id);
            }
            if key != IPC_PRIVATE && flags & IPC_CREAT == 0 {
                return Err(Errno::ENOENT);
            }
            let Some(New { body, weight }) = new.take() else {
                drop(ids);
                new = Some(make()?);
                continue;
            };
            let total = ids.weight.checked_add(weight).filter(|&total| total <= room.weight);
            let (Some(total), true) = (total, (ids.by_index.len() as u64) < room.objects) else {
                // Not under the lock.
                drop(ids);
                drop(body);
                return Err(Errno::ENOSPC);
            };
            let id = ids.next_id().ok_or(Errno::ENOSPC)?;
            let state = State {
                permission: Permission::new(key, flags, credentials),
                body,
                gone: false,
            };
            ids.weight = total;
            let object = Object {
                id,
                weight,
                state: SpinLock::new(Rank::IpcObject, state),
            };
            ids.by_index.insert(index_of(id), Arc::new(object));
            if key != IPC_PRIVATE {
                ids.by_key.insert(key, index_of(id));
            }
            return Ok(id);
        }
    }

    /// Has `decide` say whether an object is to be removed; the object if it was. The object may also lose its key.
    ///
    /// # Errors
    /// `EINVAL` if there is none of this identifier; what `decide` says.
    pub fn remove_if(
        &self,
        id: i32,
        decide: impl FnOnce(&mut State<T>) -> Result<bool>,
    ) -> Result<Option<Arc<Object<T>>>> {
        let mut ids = self.ids.lock();
        let object = ids.by_index.get(&index_of(id)).filter(|object| object.id == id);
        let object = object.ok_or(Errno::EINVAL)?.clone();
        let mut state = object.state.lock();
        let key = state.permission.key;
        let remove = decide(&mut state)?;
        state.gone = remove;
        if key != IPC_PRIVATE && (remove || state.permission.key == IPC_PRIVATE) {
            ids.by_key.remove(&key);
        }
        drop(state);
        if !remove {
            return Ok(None);
        }
        ids.weight -= object.weight;
        let listed = ids.by_index.remove(&index_of(id));
        drop(ids);
        drop(listed);
        Ok(Some(object))
    }
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room {
        objects: 100,
        weight: 1000,
    };

    fn get(registry: &Registry<u8>, key: i32, flags: i32) -> Result<i32> {
        let credentials = Credentials::root();
        let request = Request {
            key,
            flags,
            credentials: &credentials,
        };
        registry.find_or_make(&request, ROOM, |_| Ok(()), || Ok(New { body: 0, weight: 10 }))
    }

    #[test]
    fn keys_name_objects_until_these_are_removed() {
        let registry = Registry::new();
        assert_eq!(get(&registry, 7, 0o600), Err(Errno::ENOENT));
        let id = get(&registry, 7, IPC_CREAT | 0o600).unwrap();
        assert_eq!(get(&registry, 7, 0o600), Ok(id));
        assert_eq!(get(&registry, 7, IPC_CREAT | IPC_EXCL), Err(Errno::EEXIST));
        let private = get(&registry, IPC_PRIVATE, 0).unwrap();
        assert_ne!(private, get(&registry, IPC_PRIVATE, IPC_EXCL).unwrap());
        assert_eq!(registry.usage(), (3, 30));
        let object = registry.remove_if(id, |_| Ok(true)).unwrap().unwrap();
        assert_eq!(object.lock().err(), Some(Errno::EIDRM));
        assert_eq!(registry.get(id).err(), Some(Errno::EINVAL));
        assert_eq!(registry.remove_if(id, |_| Ok(true)).err(), Some(Errno::EINVAL));
        assert_ne!(get(&registry, 7, IPC_CREAT), Ok(id));
        // One that stays, without its key.
        let kept = get(&registry, 8, IPC_CREAT).unwrap();
        let stays = registry.remove_if(kept, |state| {
            state.permission.key = IPC_PRIVATE;
            Ok(false)
        });
        assert!(stays.unwrap().is_none() && registry.get(kept).is_ok());
        assert_eq!(get(&registry, 8, 0), Err(Errno::ENOENT));
    }

    #[test]
    fn a_place_is_used_again_late_and_under_another_number() {
        let registry = Registry::new();
        let mut ids = std::collections::HashSet::new();
        for round in 0..200 {
            let id = get(&registry, IPC_PRIVATE, 0).unwrap();
            assert_eq!(id & 0x7fff, round % 64, "in turns of 64");
            assert!(ids.insert(id), "{id} twice");
            registry.remove_if(id, |_| Ok(true)).unwrap();
        }
        assert_eq!(sequence(get(&registry, IPC_PRIVATE, 0).unwrap()), 3);
    }

    #[test]
    fn there_is_room_for_so_many() {
        let registry = Registry::new();
        for _ in 0..100 {
            get(&registry, IPC_PRIVATE, 0).unwrap();
        }
        assert_eq!(get(&registry, IPC_PRIVATE, 0), Err(Errno::ENOSPC), "objects and weight");
        assert_eq!(registry.last_index(), 99);
        assert_eq!(registry.next(98).map(|(index, _)| index), Some(98));
        assert!(registry.next(100).is_none());
    }
}
