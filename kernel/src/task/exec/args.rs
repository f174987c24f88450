//! Arguments and environment on their way from the old program to the new one.

use alloc::{sync::Arc, vec::Vec};

use crate::{
    errno::{Errno, Result},
    mm::{AddressSpace, fallible::TryRoom},
};

/// The longest single string, with its zero (`MAX_ARG_STRLEN`).
pub const MAX_STRING: usize = 128 << 10;
/// The most strings.
const MAX_COUNT: usize = 0x1_0000;

/// A list of strings, each ended by a zero, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    bytes: Vec<u8>,
    count: usize,
}

impl Strings {
    /// The strings a null-terminated array of pointers points to; together at most `limit` bytes, pointers included.
    ///
    /// # Errors
    /// `E2BIG`, `EFAULT`, `ENOMEM`.
    pub async fn read(mm: &Arc<AddressSpace>, array: u64, limit: usize) -> Result<Self> {
        let mut strings = Self::default();
        for pointer in mm.read_pointer_array(array, MAX_COUNT).await? {
            let string = mm.read_cstr(pointer, MAX_STRING).await.map_err(|error| match error {
                Errno::ENAMETOOLONG => Errno::E2BIG,
                other => other,
            })?;
            strings.push(&string)?;
            if strings.size() > limit {
                return Err(Errno::E2BIG);
            }
        }
        Ok(strings)
    }

    /// Adds a string at the end.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn push(&mut self, string: &[u8]) -> Result<()> {
        self.bytes.try_room(string.len() + 1)?;
        self.bytes.extend_from_slice(string);
        self.bytes.push(0);
        self.count += 1;
        Ok(())
    }

    /// Replaces the first string, if there is one, by `new`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn replace_first(&mut self, new: &[&[u8]]) -> Result<()> {
        let mut strings = Self::default();
        for string in new {
            strings.push(string)?;
        }
        let rest = self
            .bytes
            .iter()
            .position(|byte| *byte == 0)
            .map_or(&[][..], |end| &self.bytes[end + 1..]);
        strings.bytes.try_room(rest.len())?;
        strings.bytes.extend_from_slice(rest);
        strings.count += self.count.saturating_sub(1);
        *self = strings;
        Ok(())
    }

    /// How many strings.
    pub fn count(&self) -> usize {
        self.count
    }

    /// All strings with their zeroes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes on the new stack: strings and pointers.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.count * 8
    }

    /// The offsets at which the strings start.
    pub fn offsets(&self) -> impl Iterator<Item = usize> {
        let mut next = 0;
        (0..self.count).map(move |_| {
            let start = next;
            let length = self.bytes[start..].iter().position(|byte| *byte == 0).unwrap_or(0);
            next = start + length + 1;
            start
        })
    }
}
