//! How many files a user's epolls may watch (`/proc/sys/fs/epoll/max_user_watches`).

use alloc::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{
    errno::{Errno, Result},
    mm::frame,
    sync::{Rank, SpinLock},
};

/// Bytes of an entry, with what leads to it and its watcher.
const ENTRY: u64 = 160;

/// Where nobody has set it, a 25th of memory, found at the first look.
static SET: AtomicU64 = AtomicU64::new(u64::MAX);

/// Files that one user's epolls may watch.
pub static MAX_USER_WATCHES: MaxUserWatches = MaxUserWatches;

/// See [`MAX_USER_WATCHES`].
pub struct MaxUserWatches;

impl MaxUserWatches {
    /// Its value.
    pub fn get(&self) -> u64 {
        match SET.load(Relaxed) {
            u64::MAX => {
                let most = frame::stats().total as u64 * hal::PAGE_SIZE as u64 / 25 / ENTRY;
                SET.store(most, Relaxed);
                most
            }
            set => set,
        }
    }

    /// Changes it, for what is added from now on.
    pub fn set(&self, value: u64) {
        SET.store(value, Relaxed);
    }
}

/// What a user's epolls watch.
pub struct User {
    watches: AtomicU64,
}

impl User {
    /// One more.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn take(&self) -> Result<()> {
        let most = MAX_USER_WATCHES.get();
        let taken = self
            .watches
            .fetch_update(Relaxed, Relaxed, |watches| (watches < most).then_some(watches + 1));
        taken.map(|_| ()).map_err(|_| Errno::ENOSPC)
    }

    /// So many fewer.
    pub fn give(&self, watches: u64) {
        self.watches.fetch_sub(watches, Relaxed);
    }
}

static USERS: SpinLock<BTreeMap<u32, Weak<User>>> = SpinLock::new(Rank::Epoll, BTreeMap::new());

/// The account of a user, from the first epoll to the last.
pub fn user(uid: u32) -> Arc<User> {
    let mut users = USERS.lock();
    if let Some(user) = users.get(&uid).and_then(Weak::upgrade) {
        return user;
    }
    users.retain(|_, user| user.strong_count() > 0);
    let user = Arc::new(User {
        watches: AtomicU64::new(0),
    });
    users.insert(uid, Arc::downgrade(&user));
    user
}
