//! One question to the DSDT without an interpreter: which interrupt has the device with these registers.
//!
//! A device's resources are nearly always a literal template (ACPI 6.5, 6.4): a list of descriptors, one of which names the
//! registers' address. The byte code is searched for that descriptor, and the list followed from there to its end.

/// A descriptor in memory or a part of a list: the tag, and where its fields are.
mod tag {
    /// The end of a list (6.4.2.9), with a checksum.
    pub(super) const END: u8 = 0x79;
    /// Up to 16 interrupts of a PC, as bits (6.4.2.1).
    pub(super) const IRQ: u8 = 0x22;
    pub(super) const IRQ_WITH_FLAGS: u8 = 0x23;
    /// A fixed range of 32-bit memory (6.4.3.4).
    pub(super) const MEMORY_32_FIXED: u8 = 0x86;
    /// Numbers of interrupts (6.4.3.6).
    pub(super) const INTERRUPTS: u8 = 0x89;
    /// A range of addresses of 64 bits (6.4.3.5.1).
    pub(super) const ADDRESSES_64: u8 = 0x8a;
}

/// Most descriptors of a template that are looked at; devices have a handful.
const MOST: usize = 32;

/// The first interrupt of the device whose registers begin at `address`, in the byte code of a DSDT. `None` where no literal list
/// of resources has both.
pub(super) fn line_of(code: &[u8], address: u64) -> Option<u32> {
    (0..code.len())
        .filter(|&at| code.get(at..).is_some_and(|rest| names(rest, address)))
        .find_map(|at| interrupt(code.get(at..)?))
}

/// Whether a descriptor of memory at the start of `rest` begins at `address`.
fn names(rest: &[u8], address: u64) -> bool {
    let Some((kind, fields, _)) = descriptor(rest) else {
        return false;
    };
    let start = match kind {
        // Information, start, length.
        tag::MEMORY_32_FIXED => fields.get(1..5).and_then(number),
        // What it is (0: memory), two of flags, granularity, first, last.
        tag::ADDRESSES_64 if fields.first() == Some(&0) => fields.get(11..19).and_then(number),
        _ => None,
    };
    start == Some(address)
}

/// The first interrupt in the list of descriptors at the start of `rest`.
fn interrupt(mut rest: &[u8]) -> Option<u32> {
    for _ in 0..MOST {
        let (kind, fields, next) = descriptor(rest)?;
        match kind {
            tag::END => return None,
            // Flags, a count, that many numbers.
            tag::INTERRUPTS if fields.get(1).is_some_and(|&count| count > 0) => {
                return fields.get(2..6).and_then(number)?.try_into().ok();
            }
            tag::IRQ | tag::IRQ_WITH_FLAGS => {
                let bits = fields.get(..2).and_then(number)?;
                if bits != 0 {
                    return Some(bits.trailing_zeros());
                }
            }
            _ => {}
        }
        rest = next;
    }
    None
}

/// Splits the first descriptor off: its tag (a small one's without the length), its fields, what follows.
fn descriptor(rest: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, after) = rest.split_first()?;
    if kind & 0x80 != 0 {
        let (length, after) = after.split_first_chunk()?;
        let (fields, next) = after.split_at_checked(u16::from_le_bytes(*length).into())?;
        Some((kind, fields, next))
    } else {
        let (fields, next) = after.split_at_checked(usize::from(kind & 7))?;
        Some((kind, fields, next))
    }
}

/// A little-endian number of at most eight bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// `Memory32Fixed (ReadWrite, 0x02110000, 0x1000)`, an interrupt, the end.
    fn template(interrupt: &[u8]) -> Vec<u8> {
        let mut code = b"\x5b\x82COM0\x08_HID\x0dARMH0011\0\x08_CRS\x11\x1a\x0a\x17".to_vec();
        code.extend([0x86, 9, 0, 1, 0, 0, 0x11, 2, 0, 0x10, 0, 0]);
        code.extend(interrupt);
        code.extend([0x79, 0]);
        code
    }

    #[test]
    fn a_device_s_interrupt_is_found_by_its_registers() {
        let code = template(&[0x89, 6, 0, 1, 1, 32, 0, 0, 0]);
        assert_eq!(line_of(&code, 0x211_0000), Some(32));
        assert_eq!(line_of(&code, 0x211_1000), None);
    }

    #[test]
    fn a_pc_s_interrupts_are_bits() {
        assert_eq!(line_of(&template(&[0x22, 0x10, 0]), 0x211_0000), Some(4));
        assert_eq!(line_of(&template(&[0x23, 0, 1, 0]), 0x211_0000), Some(8));
        assert_eq!(line_of(&template(&[0x22, 0, 0]), 0x211_0000), None);
    }

    #[test]
    fn wide_ranges_are_known() {
        let mut code = std::vec![0x8a, 43, 0, 0, 0xc, 3];
        for field in [0_u64, 0x40_0211_0000, 0x40_0211_0fff, 0, 0x1000] {
            code.extend(field.to_le_bytes());
        }
        code.extend([0x89, 6, 0, 1, 1, 40, 0, 0, 0, 0x79, 0]);
        assert_eq!(line_of(&code, 0x40_0211_0000), Some(40));
    }

    #[test]
    fn another_device_s_interrupt_is_not_taken() {
        let mut code = template(&[]);
        code.extend([0x89, 6, 0, 1, 1, 33, 0, 0, 0, 0x79, 0]);
        assert_eq!(line_of(&code, 0x211_0000), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut code in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200, cut in 0usize..60) {
            let good = template(&[0x89, 6, 0, 1, 1, 32, 0, 0, 0]);
            let at = at.min(code.len());
            code.splice(at..at, good[..cut.min(good.len())].iter().copied());
            let _ = line_of(&code, 0x211_0000);
        }
    }
}
