//! Two questions to the DSDT without an interpreter: which interrupt has the device with these registers, and where is the
//! device that calls itself so.
//!
//! A device's resources are nearly always a literal template (ACPI 6.5, 6.4): a list of descriptors, one of which names the
//! registers' address. The byte code is searched for that descriptor, and the list followed from there to its end. What a
//! device calls itself is a literal, too (20.2.3), within the package that is the device (20.2.5.2).

use crate::boot_info::PhysRange;

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

/// Most descriptors of a template that are looked at, and most devices of a kind; there are a handful.
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
    registers(rest).is_some_and(|(start, _)| start == address)
}

/// Address and length in the descriptor of memory at the start of `rest`.
fn registers(rest: &[u8]) -> Option<(u64, u64)> {
    let (kind, fields, _) = descriptor(rest)?;
    match kind {
        // Information, start, length.
        tag::MEMORY_32_FIXED => Some((fields.get(1..5).and_then(number)?, fields.get(5..9).and_then(number)?)),
        // What it is (0: memory), two of flags, granularity, first, last, offset, length.
        tag::ADDRESSES_64 if fields.first() == Some(&0) => Some((
            fields.get(11..19).and_then(number)?,
            fields.get(35..43).and_then(number)?,
        )),
        _ => None,
    }
}

/// How a device says what it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Identity {
    /// A hardware identifier, `_HID` (6.1.5): three letters and four hexadecimal digits.
    Hardware([u8; 7]),
    /// A PCI class, `_CLS` (6.1.3).
    Class([u8; 3]),
}

/// Registers and first interrupt of the `nth` device that is one of these, by their order in the byte code of a DSDT. Devices
/// without either are passed over.
pub(super) fn device(code: &[u8], identity: Identity, nth: usize) -> Option<(PhysRange, u32)> {
    (0..code.len())
        .filter(|&at| code.get(at..).is_some_and(|rest| identity.is_said(rest)))
        .take(MOST)
        .filter_map(|at| {
            let body = package_around(code, at)?;
            (0..body.len().min(REACH)).find_map(|at| {
                let rest = body.get(at..)?;
                let (start, length) = registers(rest)?;
                let range = super::range::range(start, length)?;
                Some((range, interrupt(rest)?))
            })
        })
        .nth(nth)
}

impl Identity {
    /// Whether the byte code at the start of `rest` names it.
    fn is_said(self, rest: &[u8]) -> bool {
        match self {
            Self::Hardware(id) => {
                let Some(value) = rest.strip_prefix(b"_HID") else {
                    return false;
                };
                let text = value.strip_prefix(b"\x0d").and_then(|text| text.strip_prefix(&id));
                let is_text = text.is_some_and(|after| after.first() == Some(&0));
                is_text
                    || value
                        .strip_prefix(b"\x0c")
                        .is_some_and(|word| word.starts_with(&compressed(id)))
            }
            Self::Class(class) => {
                let Some(package) = rest.strip_prefix(b"_CLS\x12") else {
                    return false;
                };
                // A package of three numbers, each short or with its prefix.
                let mut numbers = package.iter().skip(2).copied().filter(|byte| *byte != 0x0a);
                package.get(1) == Some(&3) && class.iter().all(|wanted| numbers.next() == Some(*wanted))
            }
        }
    }
}

/// An identifier in 32 bits (19.6.34, `EISAID`), as it stands in memory.
fn compressed(id: [u8; 7]) -> [u8; 4] {
    let letter = |at: usize| u16::from(id[at] & 0x1f);
    let digit = |at: usize| char::from(id[at]).to_digit(16).unwrap_or(0) as u8;
    let [high, low] = (letter(0) << 10 | letter(1) << 5 | letter(2)).to_be_bytes();
    [high, low, digit(3) << 4 | digit(4), digit(5) << 4 | digit(6)]
}

/// Most bytes of a device that are looked at, and most before its name.
const REACH: usize = 4096;

/// The innermost device around a place.
fn package_around(code: &[u8], at: usize) -> Option<&[u8]> {
    (at.saturating_sub(REACH)..at).rev().find_map(|start| {
        let length = code.get(start..)?.strip_prefix(&[0x5b, 0x82])?;
        let body = length.get(..package_length(length)?)?;
        (start + 2 + body.len() > at).then_some(body)
    })
}

/// The length of a package from the first byte of its length on (20.2.4).
fn package_length(bytes: &[u8]) -> Option<usize> {
    let first = usize::from(*bytes.first()?);
    match first >> 6 {
        0 => Some(first & 0x3f),
        more => {
            let rest = bytes.get(1..=more)?;
            Some(rest.iter().rev().fold(0, |all, &byte| all << 8 | usize::from(byte)) << 4 | first & 0xf)
        }
    }
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

    /// A device of these bytes.
    fn device_of(body: &[u8]) -> Vec<u8> {
        let length = body.len() + 2;
        let mut code = b"\x5b\x82".to_vec();
        code.extend([0x40 | (length & 0xf) as u8, (length >> 4) as u8]);
        code.extend(body);
        code
    }

    /// `Memory32Fixed (ReadWrite, address, 0x2000)`, interrupt `line`, the end.
    fn resources(address: u32, line: u32) -> Vec<u8> {
        let mut code = b"\x08_CRS\x11\x1a\x0a\x17\x86\x09\x00\x01".to_vec();
        code.extend(address.to_le_bytes());
        code.extend(0x2000_u32.to_le_bytes());
        code.extend([0x89, 6, 0, 1, 1]);
        code.extend(line.to_le_bytes());
        code.extend([0x79, 0]);
        code
    }

    fn machine() -> Vec<u8> {
        let mut code = device_of(&[b"COM0\x08_HID\x0dARMH0011\0".to_vec(), resources(0x211_0000, 32)].concat());
        code.extend(device_of(
            &[b"SATA\x08_HID\x0dPRL4010\0".to_vec(), resources(0x214_0000, 34)].concat(),
        ));
        let outer = [
            b"BUS0".to_vec(),
            device_of(
                &[
                    b"AHC0\x08_CLS\x12\x07\x03\x01\x0a\x06\x01".to_vec(),
                    resources(0x300_0000, 40),
                ]
                .concat(),
            ),
        ];
        code.extend(device_of(&outer.concat()));
        code
    }

    fn found(code: &[u8], identity: Identity) -> Option<(u64, u64, u32)> {
        device(code, identity, 0).map(|(range, line)| (range.start.0, range.len(), line))
    }

    #[test]
    fn a_device_is_found_by_what_it_is() {
        let code = machine();
        let prl = Identity::Hardware(*b"PRL4010");
        assert_eq!(found(&code, prl), Some((0x214_0000, 0x2000, 34)));
        assert_eq!(found(&code, Identity::Class([1, 6, 1])), Some((0x300_0000, 0x2000, 40)));
        assert_eq!(found(&code, Identity::Class([1, 6, 2])), None);
        assert_eq!(found(&code, Identity::Hardware(*b"PRL4011")), None);
        assert_eq!(device(&code, prl, 1), None);
    }

    #[test]
    fn an_identifier_may_be_compressed() {
        // PNP0A03 is 0x030ad041 (ACPI 6.5, 19.6.34).
        assert_eq!(compressed(*b"PNP0A03"), [0x41, 0xd0, 0x0a, 0x03]);
        let name = [b"SATA\x08_HID\x0c".to_vec(), compressed(*b"PRL4010").to_vec()].concat();
        let code = device_of(&[name, resources(0x214_0000, 34)].concat());
        assert_eq!(
            found(&code, Identity::Hardware(*b"PRL4010")),
            Some((0x214_0000, 0x2000, 34))
        );
    }

    #[test]
    fn the_resources_of_the_next_device_are_not_taken() {
        let mut code = device_of(b"SATA\x08_HID\x0dPRL4010\0");
        code.extend(device_of(&[b"COM0".to_vec(), resources(0x211_0000, 32)].concat()));
        assert_eq!(found(&code, Identity::Hardware(*b"PRL4010")), None);
    }

    proptest! {
        #[test]
        fn devices_of_any_bytes_are_survived(at in 0usize..300, bytes in prop::collection::vec(any::<u8>(), 0..8)) {
            let mut code = machine();
            let at = at.min(code.len());
            let end = (at + bytes.len()).min(code.len());
            code.splice(at..end, bytes);
            let _ = found(&code, Identity::Hardware(*b"PRL4010"));
            let _ = found(&code, Identity::Class([1, 6, 1]));
        }

        #[test]
        fn any_bytes_are_survived(mut code in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200, cut in 0usize..60) {
            let good = template(&[0x89, 6, 0, 1, 1, 32, 0, 0, 0]);
            let at = at.min(code.len());
            code.splice(at..at, good[..cut.min(good.len())].iter().copied());
            let _ = line_of(&code, 0x211_0000);
        }
    }
}
