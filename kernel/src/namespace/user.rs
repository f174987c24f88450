//! User namespaces (`user_namespaces(7)`): in which of them a capability counts. So far there is the first one.

use alloc::sync::Arc;

use spin::Once;

use super::Kind;

/// See the module.
pub struct UserNamespace {
    number: u64,
    parent: Option<Arc<Self>>,
    /// How many are above it.
    level: u32,
    /// As whom it was made, in numbers of the first namespace.
    owner: u32,
}

impl UserNamespace {
    /// The one that was there from the beginning.
    pub fn first() -> &'static Arc<Self> {
        static FIRST: Once<Arc<UserNamespace>> = Once::new();
        FIRST.call_once(|| {
            Arc::new(Self {
                number: Kind::User.first(),
                parent: None,
                level: 0,
                owner: 0,
            })
        })
    }

    /// Its number.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The one that it was made in.
    pub const fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// How many are above it.
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// As whom it was made: an effective user, in numbers of the first namespace.
    pub const fn owner(&self) -> u32 {
        self.owner
    }

    /// Whether it is `other` or was made below it.
    pub fn is_within(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let mut at = self;
        while at.level > other.level {
            let Some(parent) = &at.parent else { return false };
            at = parent;
        }
        Arc::ptr_eq(at, other)
    }
}

impl core::fmt::Debug for UserNamespace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "UserNamespace({})", self.number)
    }
}
