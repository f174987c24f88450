//! One directory: names in the order they were made.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};

use hashbrown::HashMap;

use super::{TmpInode, WeakInode};
use crate::{
    errno::Result,
    mm::fallible::{TryRoom, TryRoomExact},
};

/// Cookies 0 to 2 stand for the start, behind `.` and behind `..`.
const FIRST_COOKIE: u64 = 3;

/// A name and its file.
pub struct Entry {
    /// The name.
    pub name: Box<[u8]>,
    /// The file.
    pub inode: Arc<TmpInode>,
}

/// What a name leads to.
struct Named {
    cookie: u64,
    /// As in the entry of that cookie: a look-up goes no further than here.
    inode: Arc<TmpInode>,
}

/// See the module.
pub struct Directory {
    /// Its own inode.
    pub inode: WeakInode,
    /// The number of the directory above and this one's name there; `None` for the root.
    pub above: Option<(u64, Box<[u8]>)>,
    names: HashMap<Box<[u8]>, Named>,
    entries: BTreeMap<u64, Entry>,
    next_cookie: u64,
}

/// A copy of a name.
///
/// # Errors
/// `ENOMEM`.
pub fn copy_name(name: &[u8]) -> Result<Box<[u8]>> {
    let mut copy = Vec::new();
    copy.try_room_exact(name.len())?;
    copy.extend_from_slice(name);
    Ok(copy.into_boxed_slice())
}

impl Directory {
    /// An empty directory.
    pub fn new(inode: WeakInode, above: Option<(u64, Box<[u8]>)>) -> Self {
        Self {
            inode,
            above,
            names: HashMap::new(),
            entries: BTreeMap::new(),
            next_cookie: FIRST_COOKIE,
        }
    }

    /// The file of that name.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<TmpInode>> {
        self.names.get(name).map(|named| &named.inode)
    }

    /// Whether no name is there.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes room for one more name, so that [`Directory::insert`] cannot fail.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn reserve(&mut self) -> Result<()> {
        self.names.try_room(1)
    }

    /// Adds a name that is not there, given twice because it is kept twice.
    pub fn insert(&mut self, names: [Box<[u8]>; 2], inode: Arc<TmpInode>) {
        let [key, name] = names;
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        let named = Named {
            cookie,
            inode: inode.clone(),
        };
        self.names.insert(key, named);
        self.entries.insert(cookie, Entry { name, inode });
    }

    /// Takes a name away.
    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<TmpInode>> {
        let named = self.names.remove(name)?;
        self.entries.remove(&named.cookie).map(|entry| entry.inode)
    }

    /// Lets a name that is there stand for another file; the old one is returned.
    pub fn replace(&mut self, name: &[u8], inode: Arc<TmpInode>) -> Option<Arc<TmpInode>> {
        let named = self.names.get_mut(name)?;
        let entry = self.entries.get_mut(&named.cookie)?;
        named.inode = inode.clone();
        Some(core::mem::replace(&mut entry.inode, inode))
    }

    /// The entries from a cookie on, each with the cookie to go on from behind it.
    pub fn entries_from(&self, cookie: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries
            .range(cookie.max(FIRST_COOKIE)..)
            .map(|(cookie, entry)| (cookie + 1, entry))
    }

    /// How many names are there.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
