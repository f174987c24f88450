//! The header of an entry of a newc archive (Linux: `Documentation/driver-api/early-userspace/buffer-format.rst`): a magic
//! number and thirteen numbers of eight hexadecimal digits.

/// Bytes of a header.
pub const SIZE: usize = 110;
/// Longest name, its zeroes included. There may be several: so a writer aligns what follows.
pub const NAME_MOST: u64 = 8192;
/// The name that ends an archive.
pub const TRAILER: &[u8] = b"TRAILER!!!";

const DIGITS: usize = 8;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the format's")]
pub struct Header {
    pub inode: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub modified: u32,
    pub size: u64,
    pub device: (u32, u32),
    pub rdev: (u32, u32),
    /// Bytes of the name, with at least one zero behind it.
    pub name_size: u64,
}

impl Header {
    /// Reads a header; `None` if it is none.
    pub fn parse(bytes: &[u8; SIZE]) -> Option<Self> {
        if !matches!(&bytes[..6], b"070701" | b"070702") {
            return None;
        }
        let mut fields = [0; 13];
        for (field, digits) in fields.iter_mut().zip(bytes[6..].chunks_exact(DIGITS)) {
            for &digit in digits {
                *field = *field << 4 | char::from(digit).to_digit(16)?;
            }
        }
        let [
            inode,
            mode,
            uid,
            gid,
            links,
            modified,
            size,
            major,
            minor,
            rdev_major,
            rdev_minor,
            name_size,
            _,
        ] = fields;
        Some(Self {
            inode,
            mode,
            uid,
            gid,
            links,
            modified,
            size: size.into(),
            device: (major, minor),
            rdev: (rdev_major, rdev_minor),
            name_size: name_size.into(),
        })
    }
}

/// Where what follows something that ends at `end` begins.
pub const fn aligned(end: u64) -> u64 {
    end.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_nothing_else() {
        let mut bytes = [b'0'; SIZE];
        bytes[..6].copy_from_slice(b"070701");
        bytes[6..14].copy_from_slice(b"0000abCD");
        bytes[54..62].copy_from_slice(b"ffffffff");
        bytes[94..102].copy_from_slice(b"00000004");
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.inode, header.size, header.name_size), (0xabcd, 0xffff_ffff, 4));
        for (at, byte) in [(5, b'3'), (20, b'+'), (109, b' '), (60, b'g')] {
            let mut bytes = bytes;
            bytes[at] = byte;
            assert_eq!(Header::parse(&bytes), None);
        }
    }
}
