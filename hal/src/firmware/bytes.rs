//! Looking at bytes that firmware wrote: every field may lie past the end.

use super::{Reason, Register};

/// A table or a structure in one.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Reason> {
        let field = self.0.get(at..).and_then(|rest| rest.first_chunk());
        field.copied().ok_or(Reason::Short)
    }

    pub(super) fn u8(self, at: usize) -> Result<u8, Reason> {
        self.array(at).map(u8::from_le_bytes)
    }

    pub(super) fn u16(self, at: usize) -> Result<u16, Reason> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(super) fn u32(self, at: usize) -> Result<u32, Reason> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(super) fn u64(self, at: usize) -> Result<u64, Reason> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// A generic address structure (ACPI 6.5, 5.2.3.2).
    pub(super) fn address(self, at: usize) -> Result<Address, Reason> {
        Ok(Address {
            space: self.u8(at)?,
            bits: self.u8(at + 1)?,
            access: self.u8(at + 3)?,
            address: self.u64(at + 4)?,
        })
    }

    /// The part from `at` on of at most `length` bytes; `None` where it runs over the end.
    pub(super) fn part(self, at: usize, length: usize) -> Option<Bytes<'a>> {
        Some(Bytes(self.0.get(at..)?.get(..length)?))
    }

    /// The structures from `at` on, each of which begins with its type and its length in one byte each. The first one
    /// that cannot be passed over ends them.
    pub(super) fn structures(self, at: usize) -> impl Iterator<Item = Result<(u8, Bytes<'a>), Reason>> {
        let mut rest = self.0.get(at..).unwrap_or(&[]);
        core::iter::from_fn(move || {
            let whole = core::mem::take(&mut rest);
            let (&kind, after) = whole.split_first()?;
            let length = after.first().copied().unwrap_or(0).into();
            if length < 2 {
                return Some(Err(Reason::Entry));
            }
            let Some((structure, next)) = whole.split_at_checked(length) else {
                return Some(Err(Reason::Entry));
            };
            rest = next;
            Some(Ok((kind, Bytes(structure))))
        })
    }

    /// Whether the bytes add up to 0.
    pub(super) fn sums_to_zero(self) -> bool {
        self.0.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)) == 0
    }
}

/// A generic address structure as it stands.
#[derive(Clone, Copy)]
pub(super) struct Address {
    /// 0 memory, 1 I/O ports.
    pub(super) space: u8,
    bits: u8,
    access: u8,
    pub(super) address: u64,
}

impl Address {
    pub(super) const MEMORY: u8 = 0;
    pub(super) const PORTS: u8 = 1;

    /// Bytes of one access: the access size, else the register's width, where either makes sense.
    pub(super) fn width(self) -> Option<u8> {
        match (self.access, self.bits) {
            (access @ 1..=4, _) => Some(1 << (access - 1)),
            (_, bits @ (8 | 16 | 32 | 64)) => Some(bits / 8),
            _ => None,
        }
    }

    /// As a register of `width` bytes if nothing is said; `None` for address 0 ("there is none"), and for what is
    /// neither in memory nor a port.
    pub(super) fn register(self, width: u8) -> Option<Register> {
        let width = self.width().unwrap_or(width);
        match (self.space, self.address) {
            (_, 0) => None,
            (Self::MEMORY, address) => Some(Register::Memory { address, width }),
            (Self::PORTS, port) => Some(Register::Port {
                port: port.try_into().ok()?,
                width,
            }),
            _ => None,
        }
    }
}
