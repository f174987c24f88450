//! Extended attributes of a file: a short list, in the order in which they were made.

use alloc::{boxed::Box, vec::Vec};

use super::directory::copy_name;
use crate::{
    errno::{Errno, Result},
    fs::inode::SetMode,
    mm::fallible::TryRoom,
};

/// Bytes of names and values that one file may have, as file systems have it that keep them in one block.
const MOST: usize = 64 << 10;
/// Bytes that an attribute takes besides.
const OVERHEAD: usize = size_of::<Extended>();
/// Bytes that are charged as one.
const PAGE: usize = 4096;

struct Extended {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl Extended {
    const fn bytes(&self) -> usize {
        self.name.len() + self.value.len() + OVERHEAD
    }
}

/// What one file has; nothing at first, which takes a word.
#[derive(Default)]
#[expect(
    clippy::box_collection,
    reason = "nearly every file has none, and pays a word for it"
)]
pub struct ExtendedAttributes(Option<Box<Vec<Extended>>>);

/// A change of pages to charge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// Before the change.
    pub before: u64,
    /// After it.
    pub after: u64,
}

impl ExtendedAttributes {
    fn all(&self) -> &[Extended] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.all().iter().position(|extended| *extended.name == *name)
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Pages that they are charged as.
    pub fn pages(&self) -> u64 {
        pages_of(self.all().iter().map(Extended::bytes).sum())
    }

    /// The value of one.
    ///
    /// # Errors
    /// `ENODATA`.
    pub fn get(&self, name: &[u8]) -> Result<&[u8]> {
        let at = self.position(name).ok_or(Errno::ENODATA)?;
        Ok(&self.all()[at].value)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.all().iter().map(|extended| &*extended.name)
    }

    /// Removes one, if it is there: how many pages less are to be charged.
    pub fn forget(&mut self, name: &[u8]) -> u64 {
        let (Some(at), before) = (self.position(name), self.pages()) else {
            return 0;
        };
        if let Some(all) = &mut self.0 {
            all.remove(at);
            if all.is_empty() {
                self.0 = None;
            }
        }
        before - self.pages()
    }

    /// Sets one, or removes it, once `charge` allows for the pages. What was there goes back to the caller, to be dropped.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA` by `mode`, and for one to be removed that is not there; `ENOSPC`, `ENOMEM`; that of `charge`.
    pub fn set(
        &mut self,
        name: &[u8],
        value: Option<&[u8]>,
        mode: SetMode,
        charge: impl FnOnce(Pages) -> Result<()>,
    ) -> Result<Option<Box<[u8]>>> {
        let at = self.position(name);
        match (at, mode) {
            (Some(_), SetMode::Create | SetMode::Never) => return Err(Errno::EEXIST),
            (None, SetMode::Replace | SetMode::Never) => return Err(Errno::ENODATA),
            _ => {}
        }
        let used: usize = self.all().iter().map(Extended::bytes).sum();
        let without = used - at.map_or(0, |at| self.all()[at].bytes());
        let Some(value) = value else {
            let at = at.ok_or(Errno::ENODATA)?;
            charge(Pages {
                before: pages_of(used),
                after: pages_of(without),
            })?;
            let Some(all) = &mut self.0 else { return Ok(None) };
            let removed = all.remove(at);
            if all.is_empty() {
                self.0 = None;
            }
            return Ok(Some(removed.value));
        };
        let new = without + name.len() + value.len() + OVERHEAD;
        if new > MOST {
            return Err(Errno::ENOSPC);
        }
        let value = copy_name(value)?;
        let all = self.0.get_or_insert_default();
        if at.is_none() {
            all.try_room(1)?;
        }
        let name = copy_name(name)?;
        charge(Pages {
            before: pages_of(used),
            after: pages_of(new),
        })?;
        match at {
            Some(at) => Ok(Some(core::mem::replace(&mut all[at].value, value))),
            None => {
                all.push(Extended { name, value });
                Ok(None)
            }
        }
    }
}

const fn pages_of(bytes: usize) -> u64 {
    bytes.div_ceil(PAGE) as u64
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, vec::Vec as StdVec};

    use proptest::prelude::*;

    use super::*;

    fn free(_: Pages) -> Result<()> {
        Ok(())
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let mut extended = ExtendedAttributes::default();
        let full = |_| Err(Errno::ENOSPC);
        assert_eq!(
            extended.set(b"user.a", Some(b"1"), SetMode::Any, full),
            Err(Errno::ENOSPC)
        );
        assert_eq!(extended.names().count(), 0);
        assert_eq!(extended.set(b"user.a", None, SetMode::Any, free), Err(Errno::ENODATA));
        assert_eq!(
            extended.set(b"user.a", Some(b"1"), SetMode::Replace, free),
            Err(Errno::ENODATA)
        );
        assert_eq!(extended.set(b"user.a", Some(b"1"), SetMode::Create, free), Ok(None));
        assert_eq!(
            extended.set(b"user.a", Some(b"2"), SetMode::Create, free),
            Err(Errno::EEXIST)
        );
        assert_eq!(
            extended.set(b"user.b", Some(&[0; MOST]), SetMode::Any, free),
            Err(Errno::ENOSPC)
        );
        assert_eq!(extended.get(b"user.a"), Ok(b"1".as_slice()));
        assert_eq!(extended.get(b"user.b"), Err(Errno::ENODATA));
    }

    proptest! {
        #[test]
        fn behaves_as_a_map_and_charges_what_it_holds(
            steps in prop::collection::vec((0..6u8, prop::option::of(0..20_000usize), 0..3u8), 0..60)
        ) {
            let mut extended = ExtendedAttributes::default();
            let mut model: BTreeMap<StdVec<u8>, usize> = BTreeMap::new();
            let mut charged = 0;
            for (name, length, mode) in steps {
                let mode = [SetMode::Any, SetMode::Create, SetMode::Replace][usize::from(mode)];
                let name = [b"user.".as_slice(), &[b'a' + name]].concat();
                let value = length.map(|length| std::vec![7; length]);
                let there = model.contains_key(&name);
                let result = extended.set(&name, value.as_deref(), mode, |pages| {
                    charged = charged + pages.after - pages.before;
                    Ok(())
                });
                match (result, length) {
                    (Ok(_), Some(length)) => {
                        prop_assert!(!(there && mode == SetMode::Create || !there && mode == SetMode::Replace));
                        model.insert(name, length);
                    }
                    (Ok(_), None) => {
                        prop_assert!(model.remove(&name).is_some());
                    }
                    (Err(_), _) => {}
                }
                prop_assert_eq!(charged, extended.pages());
                prop_assert_eq!(extended.names().count(), model.len());
                for (name, length) in &model {
                    prop_assert_eq!(extended.get(name).map(<[u8]>::len), Ok(*length));
                }
            }
        }
    }
}
