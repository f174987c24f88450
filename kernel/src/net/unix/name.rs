//! Names of sockets, and who has them.

use alloc::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Weak},
};

use arrayvec::ArrayVec;
use linux_raw_sys::net;

use super::{Kind, core::Core};
use crate::{
    errno::{Errno, Result},
    fs::DeviceNumber,
    random,
    sync::{Rank, SpinLock},
};

/// Bytes of `sun_family`.
pub const FAMILY: usize = 2;
/// Bytes of `struct sockaddr_un` (`linux/un.h`).
pub const ADDRESS: usize = size_of::<net::sockaddr_un>();
/// The longest path, without a final zero.
const PATH: usize = ADDRESS - FAMILY;

/// What stands behind the family in an address: a path and its final zero, or a zero and an abstract name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(ArrayVec<u8, { PATH + 1 }>);

impl Name {
    /// From what follows `sun_family`, which is not empty.
    ///
    /// # Errors
    /// `EINVAL` if it is empty or too long.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() || bytes.len() > PATH {
            return Err(Errno::EINVAL);
        }
        let mut name = ArrayVec::new();
        if bytes[0] == 0 {
            name.extend(bytes.iter().copied());
        } else {
            name.extend(bytes.iter().copied().take_while(|byte| *byte != 0));
            name.push(0);
        }
        Ok(Self(name))
    }

    /// The path; `None` of an abstract name.
    pub fn path(&self) -> Option<&[u8]> {
        match self.0.split_last() {
            Some((0, path)) if self.0[0] != 0 => Some(path),
            _ => None,
        }
    }

    /// As it follows `sun_family`.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a name stands for in the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// An abstract name: sockets of each network namespace, by its number, and of each kind have their own.
    Abstract(u64, Kind, Name),
    /// A file of kind socket.
    Inode(DeviceNumber, u64),
}

static NAMES: SpinLock<BTreeMap<Key, Weak<Core>>> = SpinLock::new(Rank::SocketNames, BTreeMap::new());

/// Gives a name to a socket.
///
/// # Errors
/// `EADDRINUSE`.
pub fn take(key: Key, core: &Arc<Core>) -> Result<()> {
    match NAMES.lock().entry(key) {
        Entry::Vacant(place) => {
            place.insert(Arc::downgrade(core));
            Ok(())
        }
        Entry::Occupied(_) => Err(Errno::EADDRINUSE),
    }
}

/// A name is nobody's any more.
pub fn give_up(key: &Key) {
    let gone = NAMES.lock().remove(key);
    drop(gone);
}

/// Who has a name.
///
/// # Errors
/// `ECONNREFUSED` if nobody has.
pub fn find(key: &Key) -> Result<Arc<Core>> {
    NAMES.lock().get(key).and_then(Weak::upgrade).ok_or(Errno::ECONNREFUSED)
}

/// Gives a socket an abstract name of five hexadecimal digits that nobody has (`unix(7)`).
///
/// # Errors
/// `ENOSPC` if all are taken.
pub fn take_any(core: &Arc<Core>) -> Result<(Key, Name)> {
    const ALL: u32 = 1 << 20;
    let mut start = [0; 4];
    random::fill(&mut start);
    let start = u32::from_ne_bytes(start);
    for step in 0..ALL {
        let number = start.wrapping_add(step) % ALL;
        let digit = |place: u32| char::from_digit(number >> (4 * place) & 0xf, 16).map_or(b'0', |digit| digit as u8);
        let name = Name::parse(&[0, digit(4), digit(3), digit(2), digit(1), digit(0)])?;
        let key = Key::Abstract(core.network(), core.kind(), name.clone());
        if take(key.clone(), core).is_ok() {
            return Ok((key, name));
        }
    }
    Err(Errno::ENOSPC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_or_abstract() {
        assert_eq!(Name::parse(b""), Err(Errno::EINVAL));
        assert_eq!(Name::parse(&[b'x'; PATH + 1]), Err(Errno::EINVAL));
        let longest = Name::parse(&[b'x'; PATH]).unwrap();
        assert_eq!(longest.bytes().len(), PATH + 1);
        assert_eq!(longest.path(), Some([b'x'; PATH].as_slice()));
        let cut = Name::parse(b"/a\0rest").unwrap();
        assert_eq!((cut.path(), cut.bytes()), (Some(b"/a".as_slice()), b"/a\0".as_slice()));
        let hidden = Name::parse(b"\0a\0").unwrap();
        assert_eq!((hidden.path(), hidden.bytes()), (None, b"\0a\0".as_slice()));
        assert_eq!(Name::parse(b"\0").unwrap().bytes(), b"\0");
    }
}
