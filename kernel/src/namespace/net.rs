//! Network namespaces (`network_namespaces(7)`). Of the network there are Unix sockets alone, and what is apart are their abstract
//! names: a socket finds those of the namespace that it was made in, and none of another.

use alloc::sync::Arc;

use spin::Once;

use super::{Head, Kind, UserNamespace};
use crate::task::Thread;

/// See the module. Who has a name is known by the namespace's number, which is never used again.
pub struct NetNamespace {
    head: Head,
}

impl NetNamespace {
    /// The one that was there from the beginning.
    pub(super) fn first() -> &'static Arc<Self> {
        static FIRST: Once<Arc<NetNamespace>> = Once::new();
        FIRST.call_once(|| {
            Arc::new(Self {
                head: Head::first(Kind::Net),
            })
        })
    }

    /// Another, which is `owner`'s.
    pub(super) fn new(owner: Arc<UserNamespace>) -> Arc<Self> {
        Arc::new(Self { head: Head::new(owner) })
    }

    /// Its number and owner.
    pub const fn head(&self) -> &Head {
        &self.head
    }
}

/// The number of the network namespace that a thread is in.
pub fn network_of(thread: &Thread) -> u64 {
    if thread.is_apart() {
        thread.namespaces().net.head().number()
    } else {
        Kind::Net.first()
    }
}
