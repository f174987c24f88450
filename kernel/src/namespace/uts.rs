//! UTS namespaces (`uts_namespaces(7)`): host and domain name.

use alloc::sync::Arc;

use arrayvec::ArrayVec;
use spin::Once;

use super::{Head, Kind, UserNamespace};
use crate::{
    errno::{Errno, Result},
    sync::{Rank, SpinLock},
};

/// The longest host or domain name (`__NEW_UTS_LEN`).
pub const LONGEST: usize = 64;

/// A name.
pub type Name = ArrayVec<u8, LONGEST>;

/// What stands for a name that was never set.
const NO_NAME: &[u8] = b"(none)";

/// Host and domain name, empty where they were never set.
#[derive(Clone, Default)]
struct Names {
    host: Name,
    domain: Name,
}

/// See the module.
pub struct UtsNamespace {
    head: Head,
    names: SpinLock<Names>,
}

fn or_none(name: &Name) -> Name {
    if name.is_empty() {
        NO_NAME.iter().copied().collect()
    } else {
        name.clone()
    }
}

impl UtsNamespace {
    fn with(head: Head, names: Names) -> Arc<Self> {
        Arc::new(Self {
            head,
            names: SpinLock::new(Rank::Random, names),
        })
    }

    /// The one that was there from the beginning.
    pub(super) fn first() -> &'static Arc<Self> {
        static FIRST: Once<Arc<UtsNamespace>> = Once::new();
        FIRST.call_once(|| Self::with(Head::first(Kind::Uts), Names::default()))
    }

    /// Another with the same names, which is `owner`'s.
    pub(super) fn copy(&self, owner: Arc<UserNamespace>) -> Arc<Self> {
        let names = self.names.lock().clone();
        Self::with(Head::new(owner), names)
    }

    /// Its number and owner.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The host name.
    pub fn host(&self) -> Name {
        or_none(&self.names.lock().host)
    }

    /// The domain name.
    pub fn domain(&self) -> Name {
        or_none(&self.names.lock().domain)
    }

    /// Sets the host name.
    ///
    /// # Errors
    /// `EINVAL` if it is longer than [`LONGEST`] bytes.
    pub fn set_host(&self, name: &[u8]) -> Result<()> {
        let name = checked(name)?;
        self.names.lock().host = name;
        Ok(())
    }

    /// Sets the domain name.
    ///
    /// # Errors
    /// As [`UtsNamespace::set_host`].
    pub fn set_domain(&self, name: &[u8]) -> Result<()> {
        let name = checked(name)?;
        self.names.lock().domain = name;
        Ok(())
    }
}

fn checked(name: &[u8]) -> Result<Name> {
    Name::try_from(name).map_err(|_| Errno::EINVAL)
}
