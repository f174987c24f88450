//! IPC namespaces (`ipc_namespaces(7)`): System V objects, POSIX message queues, and how much there may be of them. All of it goes with
//! the last who is in it, has a segment of it attached, or its queues mounted.

use alloc::sync::Arc;
use core::ops::Deref;

use spin::Once;

use super::{Head, Kind, UserNamespace};
use crate::{
    ipc::{
        self, Objects,
        limits::{Limits, QueueLimits},
        mqueue::file_system::{self, Root},
    },
    task::Thread,
};

/// See the module.
pub struct IpcNamespace {
    head: Head,
    /// `None` in the first, whose objects are [`ipc::FIRST`].
    objects: Option<Objects>,
    mqueue: Arc<Root>,
}

impl IpcNamespace {
    /// The one that was there from the beginning.
    pub(super) fn first() -> &'static Arc<Self> {
        static FIRST: Once<Arc<IpcNamespace>> = Once::new();
        FIRST.call_once(|| {
            Arc::new(Self {
                head: Head::first(Kind::Ipc),
                objects: None,
                mqueue: file_system::root(),
            })
        })
    }

    /// Another with nothing in it, which is `owner`'s.
    pub(super) fn new(owner: Arc<UserNamespace>) -> Arc<Self> {
        Arc::new(Self {
            head: Head::new(owner),
            objects: Some(Objects::none()),
            mqueue: Root::new(),
        })
    }

    /// Its number and owner.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Its System V objects.
    pub fn objects(&self) -> &Objects {
        self.objects.as_ref().unwrap_or(&ipc::FIRST)
    }

    /// How much there may be of them.
    pub fn limits(&self) -> &Limits {
        &self.objects().limits
    }

    /// The directory of its POSIX message queues.
    pub const fn mqueue(&self) -> &Arc<Root> {
        &self.mqueue
    }

    /// How much there may be of those.
    pub fn queue_limits(&self) -> &QueueLimits {
        self.mqueue.limits()
    }
}

/// An IPC namespace that is kept while one uses its objects; nothing for the first, which is always there.
#[derive(Clone)]
pub enum IpcRef {
    /// The first.
    First,
    /// Another.
    Other(Arc<IpcNamespace>),
}

impl Deref for IpcRef {
    type Target = Objects;

    #[inline]
    fn deref(&self) -> &Objects {
        match self {
            Self::First => &ipc::FIRST,
            Self::Other(other) => other.objects(),
        }
    }
}

/// The System V objects that a thread sees.
#[inline]
pub fn ipc_of(thread: &Thread) -> IpcRef {
    if thread.is_apart() {
        IpcRef::Other(thread.namespaces().ipc.clone())
    } else {
        IpcRef::First
    }
}
