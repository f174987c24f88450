//! Capabilities of files: the extended attribute `security.capability` (`capabilities(7)`, `linux/capability.h`).
//!
//! There are no user namespaces, so root is user 0 everywhere: an attribute that is for another user's namespace (version 3, with a
//! root that is not 0) is kept and shown, and an exec takes no notice of it.

use alloc::vec::Vec;

use super::capabilities::CapabilitySet;
use crate::errno::{Errno, Result};

/// The attribute's name (`XATTR_NAME_CAPS`).
pub const NAME: &[u8] = b"security.capability";

/// `VFS_CAP_REVISION_*`, in the first word; below it flags, of which there is one.
const REVISION: u32 = 0xff00_0000;
const REVISION_1: u32 = 0x0100_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
/// `VFS_CAP_FLAGS_EFFECTIVE`.
const EFFECTIVE: u32 = 1;
/// Bytes of each revision.
const SIZE_1: usize = 12;
const SIZE_2: usize = 20;
const SIZE_3: usize = 24;

/// What a file's attribute says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCapabilities {
    /// What an exec permits, as far as the bounding set does.
    pub permitted: CapabilitySet,
    /// What an exec permits of what is inheritable.
    pub inheritable: CapabilitySet,
    /// Whether what is permitted counts at once.
    pub effective: bool,
}

fn word(value: &[u8], index: usize) -> u32 {
    let (words, _) = value.as_chunks::<4>();
    words.get(index).copied().map_or(0, u32::from_le_bytes)
}

/// Checks a value that is to be set.
///
/// # Errors
/// `EINVAL` for what is neither of version 2 nor of version 3.
pub fn check(value: &[u8]) -> Result<()> {
    match (word(value, 0) & !EFFECTIVE, value.len()) {
        // Version 3's last user is none.
        (REVISION_3, SIZE_3) if word(value, 5) == u32::MAX => Err(Errno::EINVAL),
        (REVISION_2, SIZE_2) | (REVISION_3, SIZE_3) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// A value as it is read: version 3 for user 0 says no more than version 2, and is shown as that.
///
/// # Errors
/// `EINVAL` for what [`check`] refuses.
pub fn shown(mut value: Vec<u8>) -> Result<Vec<u8>> {
    check(&value)?;
    if value.len() == SIZE_3 && word(&value, 5) == 0 {
        let first = REVISION_2 | word(&value, 0) & EFFECTIVE;
        value[..4].copy_from_slice(&first.to_le_bytes());
        value.truncate(SIZE_2);
    }
    Ok(value)
}

impl FileCapabilities {
    /// What a value means to an exec; `None` for one that is for another user's namespace.
    ///
    /// # Errors
    /// `EINVAL` for a value of no known version, or not of its length.
    pub fn parse(value: &[u8]) -> Result<Option<Self>> {
        let first = word(value, 0);
        let words = match (first & REVISION, value.len()) {
            (REVISION_1, SIZE_1) => 1,
            (REVISION_2, SIZE_2) => 2,
            (REVISION_3, SIZE_3) if word(value, 5) == 0 => 2,
            (REVISION_3, SIZE_3) => return Ok(None),
            _ => return Err(Errno::EINVAL),
        };
        let set = |from: usize| {
            let high = if words == 2 { word(value, from + 2) } else { 0 };
            CapabilitySet::from_bits(u64::from(high) << 32 | u64::from(word(value, from)))
        };
        Ok(Some(Self {
            permitted: set(1),
            inheritable: set(2),
            effective: first & EFFECTIVE != 0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn versions_have_their_lengths() {
        for good in [
            value(&[0x0200_0000, 1, 2, 3, 4]),
            value(&[0x0200_0001, 1, 2, 3, 4]),
            value(&[0x0300_0001, 1, 2, 3, 4, 1000]),
        ] {
            assert_eq!(check(&good), Ok(()));
        }
        for bad in [
            value(&[]),
            value(&[0x0200_0000]),
            value(&[0x0200_0002, 1, 2, 3, 4]),
            value(&[0x0200_0000, 1, 2, 3, 4, 0]),
            value(&[0x0300_0000, 1, 2, 3, 4]),
            value(&[0x0300_0000, 1, 2, 3, 4, u32::MAX]),
            value(&[0x0100_0000, 1, 2]),
            value(&[0x0400_0000, 1, 2, 3, 4, 5]),
        ] {
            assert_eq!(check(&bad), Err(Errno::EINVAL), "{bad:x?}");
        }
    }

    #[test]
    fn an_exec_reads_what_was_set() {
        let both = |words: &[u32]| FileCapabilities::parse(&value(words));
        let expected = FileCapabilities {
            permitted: CapabilitySet::from_bits(3 << 32 | 1),
            inheritable: CapabilitySet::from_bits(4 << 32 | 2),
            effective: true,
        };
        assert_eq!(both(&[0x0200_0001, 1, 2, 3, 4]), Ok(Some(expected)));
        assert_eq!(both(&[0x0300_0001, 1, 2, 3, 4, 0]), Ok(Some(expected)));
        assert_eq!(both(&[0x0300_0001, 1, 2, 3, 4, 7]), Ok(None));
        let old = FileCapabilities::parse(&value(&[0x0100_0000, 1, 2])).unwrap().unwrap();
        assert_eq!(
            (old.permitted.bits(), old.inheritable.bits(), old.effective),
            (1, 2, false)
        );
        assert_eq!(both(&[0x0200_0000, 1, 2]), Err(Errno::EINVAL));
        assert_eq!(both(&[]), Err(Errno::EINVAL));
        // Bits of no capability mean nothing.
        let all = both(&[0x0200_0000, !0, 0, !0, 0]).unwrap().unwrap();
        assert_eq!(all.permitted, CapabilitySet::ALL);
    }

    #[test]
    fn what_is_for_root_is_shown_as_version_2() {
        assert_eq!(
            shown(value(&[0x0300_0001, 1, 2, 3, 4, 0])),
            Ok(value(&[0x0200_0001, 1, 2, 3, 4]))
        );
        for same in [value(&[0x0300_0000, 1, 2, 3, 4, 9]), value(&[0x0200_0000, 1, 2, 3, 4])] {
            assert_eq!(shown(same.clone()), Ok(same));
        }
        assert_eq!(shown(Vec::new()), Err(Errno::EINVAL));
    }
}
