//! Copies between the kernel and the active address space, as attempts: a page that is missing or protected makes them stop
//! with a [`UserFault`] instead of waiting. They serve the places that cannot wait (with a lock held, inside an attempt on
//! a pipe); the caller then awaits [`AddressSpace::resolve`](super::AddressSpace::resolve) and tries again. What may wait
//! uses the methods of [`AddressSpace`](super::AddressSpace).

use hal::{
    PAGE_SIZE,
    arch::{Cpu, PageTable},
    traits::{CopyFault, CpuOps, PageTableOps},
    trap::Access,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A user access that did not translate or was not permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserFault {
    /// The first address that could not be accessed.
    pub address: u64,
    /// How it was to be accessed.
    pub access: Access,
    /// Bytes that were copied before it.
    pub copied: usize,
}

impl UserFault {
    /// What broke a copy off that began at `address`.
    pub(super) const fn after(address: u64, access: Access, fault: CopyFault) -> Self {
        Self {
            address: address + fault.copied as u64,
            access,
            copied: fault.copied,
        }
    }
}

/// Whether `length` bytes from `address` on may be a program's at all.
pub(super) fn check(address: u64, length: usize, access: Access) -> Result<(), UserFault> {
    let end = address.checked_add(length as u64);
    if end.is_some_and(|end| end <= PageTable::USER_END) {
        return Ok(());
    }
    // Below the end the first bytes might be accessible, but such a call is as wrong as one that starts above it.
    Err(UserFault {
        address: address.max(PageTable::USER_END),
        access,
        copied: 0,
    })
}

fn check_word(address: u64, access: Access) -> Result<(), UserFault> {
    check(address, 4, access)?;
    if address.is_multiple_of(4) {
        Ok(())
    } else {
        Err(UserFault {
            address,
            access,
            copied: 0,
        })
    }
}

/// Copies from the active address space.
///
/// # Errors
/// The first page that is not readable; the bytes before it have been copied.
pub fn copy_in(to: &mut [u8], from: u64) -> Result<(), UserFault> {
    check(from, to.len(), Access::Read)?;
    Cpu::copy_from_user(to, from).map_err(|fault| UserFault::after(from, Access::Read, fault))
}

/// Copies to the active address space.
///
/// # Errors
/// The first page that is not writable; the bytes before it have been copied.
pub fn copy_out(to: u64, from: &[u8]) -> Result<(), UserFault> {
    check(to, from.len(), Access::Write)?;
    Cpu::copy_to_user(to, from).map_err(|fault| UserFault::after(to, Access::Write, fault))
}

/// Copies a value from the active address space.
///
/// # Errors
/// As [`copy_in`].
pub fn read<T: FromBytes + IntoBytes>(from: u64) -> Result<T, UserFault> {
    let mut value = T::new_zeroed();
    copy_in(value.as_mut_bytes(), from)?;
    Ok(value)
}

/// Copies a value to the active address space. Where a page is missing nothing has been written: what is attempted again may
/// read what the caller has in the same place.
///
/// # Errors
/// The first page that is not writable.
pub fn write<T: IntoBytes + Immutable + ?Sized>(to: u64, value: &T) -> Result<(), UserFault> {
    let bytes = value.as_bytes();
    check(to, bytes.len(), Access::Write)?;
    let in_page = to % PAGE_SIZE as u64;
    if in_page + bytes.len() as u64 > PAGE_SIZE as u64 {
        writable(to - in_page + PAGE_SIZE as u64)?;
    }
    copy_out(to, bytes)
}

/// Whether `length` bytes from `address` on can be written to, without a change to them.
///
/// # Errors
/// The first page that is not writable.
pub fn check_writable(address: u64, length: usize) -> Result<(), UserFault> {
    check(address, length, Access::Write)?;
    if length == 0 {
        return Ok(());
    }
    let first = address - address % PAGE_SIZE as u64;
    for page in (first..address + length as u64).step_by(PAGE_SIZE) {
        writable(page)?;
    }
    Ok(())
}

/// Whether the page that begins at `address` can be written to, by writing what is there.
#[cold]
fn writable(address: u64) -> Result<(), UserFault> {
    let there = load_u32(address)?;
    compare_exchange_u32(address, there, there).map(drop)
}

/// Loads an aligned word atomically. Callers that report misalignment differently from a fault check it first.
///
/// # Errors
/// The word is not aligned or not readable.
pub fn load_u32(address: u64) -> Result<u32, UserFault> {
    check_word(address, Access::Read)?;
    Cpu::user_load(address).map_err(|_| UserFault {
        address,
        access: Access::Read,
        copied: 0,
    })
}

/// Compares an aligned word with `expected` and stores `new` where they are equal, atomically; returns what was there.
///
/// # Errors
/// The word is not aligned or not writable.
pub fn compare_exchange_u32(address: u64, expected: u32, new: u32) -> Result<u32, UserFault> {
    check_word(address, Access::Write)?;
    Cpu::user_compare_exchange(address, expected, new).map_err(|_| UserFault {
        address,
        access: Access::Write,
        copied: 0,
    })
}
