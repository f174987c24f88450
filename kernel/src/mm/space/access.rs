//! Copies from and to a program that wait for its pages.
//!
//! Each makes the space active on the calling CPU, tries the copy, lets a fault be resolved, and goes on where it stopped, perhaps on
//! another CPU.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use hal::{PAGE_SIZE, arch::PageTable, traits::PageTableOps, trap::Access};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{AddressSpace, FaultError, PAGE, fault::Poked, page_floor, table::Batch};
use crate::{
    errno::{Errno, Result},
    mm::{
        fallible::TryRoom,
        user::{self, UserFault},
    },
    task::oom::Patience,
};

impl From<UserFault> for Errno {
    fn from(_: UserFault) -> Self {
        Self::EFAULT
    }
}

impl From<FaultError> for Errno {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::Oom => Self::ENOMEM,
            FaultError::Ending => Self::EINTR,
            FaultError::MapErr | FaultError::AccErr | FaultError::Bus => Self::EFAULT,
        }
    }
}

impl AddressSpace {
    /// As [`AddressSpace::fault`], on a thread's behalf: where memory is exhausted it waits until there is some, for which
    /// the OOM killer may end a process.
    ///
    /// # Errors
    /// [`FaultError`]; `Oom` if the caller is no thread, has to end itself, or nobody is left to be killed.
    pub async fn fault_in(&self, address: u64, access: Access) -> core::result::Result<(), FaultError> {
        let mut patience = Patience::default();
        loop {
            match self.fault(address, access).await {
                // Boxed, because it is rare and every thread's future has room for every wait.
                Err(FaultError::Oom) if Box::pin(patience.wait()).await => {}
                result => return result,
            }
        }
    }

    /// Makes the access that failed work, so that the attempt is worth repeating.
    ///
    /// # Errors
    /// `EFAULT`; `ENOMEM` as [`AddressSpace::fault_in`] says `Oom`.
    pub async fn resolve(&self, fault: UserFault) -> Result<()> {
        Ok(self.fault_in(fault.address, fault.access).await?)
    }

    /// Copies `to.len()` bytes from the program.
    ///
    /// # Errors
    /// As [`AddressSpace::resolve`].
    pub async fn read_bytes(self: &Arc<Self>, address: u64, to: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while let Err(fault) = self.try_read(address.wrapping_add(done as u64), &mut to[done..]) {
            done += fault.copied;
            self.resolve(fault).await?;
        }
        Ok(())
    }

    fn try_read(self: &Arc<Self>, address: u64, to: &mut [u8]) -> core::result::Result<(), UserFault> {
        self.activate();
        user::copy_in(to, address)
    }

    /// Copies bytes to the program.
    ///
    /// # Errors
    /// As [`AddressSpace::resolve`]. Bytes before the fault may have been written.
    pub async fn write_bytes(self: &Arc<Self>, address: u64, from: &[u8]) -> Result<()> {
        let mut done = 0;
        while let Err(fault) = self.try_write(address.wrapping_add(done as u64), &from[done..]) {
            done += fault.copied;
            self.resolve(fault).await?;
        }
        Ok(())
    }

    fn try_write(self: &Arc<Self>, address: u64, from: &[u8]) -> core::result::Result<(), UserFault> {
        self.activate();
        user::copy_out(address, from)
    }

    /// Copies a value from the program.
    ///
    /// # Errors
    /// As [`AddressSpace::resolve`].
    pub async fn read<T: FromBytes + IntoBytes>(self: &Arc<Self>, address: u64) -> Result<T> {
        let mut value = T::new_zeroed();
        self.read_bytes(address, value.as_mut_bytes()).await?;
        Ok(value)
    }

    /// Copies a value to the program.
    ///
    /// # Errors
    /// As [`AddressSpace::resolve`].
    pub async fn write<T: IntoBytes + Immutable + ?Sized>(self: &Arc<Self>, address: u64, value: &T) -> Result<()> {
        self.write_bytes(address, value.as_bytes()).await
    }

    /// Copies a string from the program, without its terminating zero.
    ///
    /// # Errors
    /// `ENAMETOOLONG` if there is no zero within `max` bytes (so that `max` is `PATH_MAX`, which counts it); as
    /// [`AddressSpace::resolve`]; `ENOMEM`.
    pub async fn read_cstr(self: &Arc<Self>, address: u64, max: usize) -> Result<Vec<u8>> {
        const CHUNK: usize = 128;
        let mut string = Vec::new();
        while string.len() < max {
            let at = address.checked_add(string.len() as u64).ok_or(Errno::EFAULT)?;
            // Never past the page: what follows the string need not be mapped.
            let to_page_end = PAGE_SIZE - (at % PAGE) as usize;
            let mut chunk = [0; CHUNK];
            let chunk = &mut chunk[..CHUNK.min(to_page_end).min(max - string.len())];
            self.read_bytes(at, chunk).await?;
            let end = chunk.iter().position(|&byte| byte == 0);
            let bytes = &chunk[..end.unwrap_or(chunk.len())];
            string.try_room(bytes.len())?;
            string.extend_from_slice(bytes);
            if end.is_some() {
                return Ok(string);
            }
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Copies an array of pointers that ends with a null (`argv`), without it. A null array is empty, as on Linux.
    ///
    /// # Errors
    /// `E2BIG` with more than `max` pointers; as [`AddressSpace::resolve`]; `ENOMEM`.
    pub async fn read_pointer_array(self: &Arc<Self>, address: u64, max: usize) -> Result<Vec<u64>> {
        let mut pointers = Vec::new();
        if address == 0 {
            return Ok(pointers);
        }
        loop {
            let at = address.checked_add(pointers.len() as u64 * 8).ok_or(Errno::EFAULT)?;
            let pointer: u64 = self.read(at).await?;
            if pointer == 0 {
                return Ok(pointers);
            }
            if pointers.len() == max {
                return Err(Errno::E2BIG);
            }
            pointers.try_room(1)?;
            pointers.push(pointer);
        }
    }

    /// Copies bytes of any address space, active or not, without disturbing which is, and whatever the program itself may do with its
    /// pages; returns how many could be had.
    ///
    /// # Errors
    /// `EFAULT` if not even the first byte is there.
    pub async fn read_remote(&self, address: u64, to: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < to.len() {
            let Some(at) = address.checked_add(done as u64).filter(|&at| at < PageTable::USER_END) else {
                break;
            };
            let mapped = self.inner.lock().table.frame(page_floor(at));
            match mapped {
                Some((frame, _)) => {
                    let offset = (at % PAGE) as usize;
                    let length = (PAGE_SIZE - offset).min(to.len() - done);
                    frame.read(offset, &mut to[done..done + length]);
                    done += length;
                }
                None if self.force(at, Access::Read).await.is_err() => break,
                None => {}
            }
        }
        if done == 0 && !to.is_empty() {
            Err(Errno::EFAULT)
        } else {
            Ok(done)
        }
    }

    /// Copies bytes to any address space, active or not; returns how many could be put there. What the program may not write itself is
    /// written to if it is private memory: to a copy of its own, whose protection stays (Linux's `FOLL_FORCE`).
    ///
    /// # Errors
    /// `EFAULT` if not even the first byte could be.
    pub async fn write_remote(&self, address: u64, from: &[u8]) -> Result<usize> {
        let mut done = 0;
        while done < from.len() {
            let Some(at) = address.checked_add(done as u64).filter(|&at| at < PageTable::USER_END) else {
                break;
            };
            let length = (PAGE_SIZE - (at % PAGE) as usize).min(from.len() - done);
            match self.poke(at, &from[done..done + length]) {
                Ok(Poked::Written(generation)) => {
                    self.tlb.wait(generation).await;
                    done += length;
                }
                Ok(Poked::Forking) => self.wait_for_fork().await,
                Ok(Poked::Missing(access)) => {
                    if self.force(at, access).await.is_err() {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        if done == 0 && !from.is_empty() {
            Err(Errno::EFAULT)
        } else {
            Ok(done)
        }
    }

    /// Makes the page of an address be there, and be written to by [`AddressSpace::poke_at_once`] if `write`.
    ///
    /// # Errors
    /// `EFAULT`.
    pub async fn prepare_remote(&self, address: u64, write: bool) -> Result<()> {
        if address >= PageTable::USER_END {
            return Err(Errno::EFAULT);
        }
        if !write {
            return Ok(self.force(address, Access::Read).await?);
        }
        loop {
            match self.poke(address, &[])? {
                Poked::Written(generation) => {
                    self.tlb.wait(generation).await;
                    return Ok(());
                }
                Poked::Forking => self.wait_for_fork().await,
                Poked::Missing(access) => self.force(address, access).await?,
            }
        }
    }

    /// Copies bytes of one page, if it is there.
    pub fn peek(&self, address: u64, to: &mut [u8]) -> bool {
        if address >= PageTable::USER_END {
            return false;
        }
        let mapped = self.inner.lock().table.frame(page_floor(address));
        if let Some((frame, _)) = &mapped {
            frame.read((address % PAGE) as usize, to);
        }
        mapped.is_some()
    }

    /// Copies bytes to one page, if it can be done without copying that first.
    pub fn poke_at_once(&self, address: u64, from: &[u8]) -> bool {
        address < PageTable::USER_END && self.inner.lock().poke_at_once(address, from)
    }

    // Not in the async function, whose state would have to hold the batch.
    fn poke(&self, at: u64, from: &[u8]) -> core::result::Result<Poked, FaultError> {
        // The frame that is replaced is dropped outside the lock.
        let mut batch = Batch::new();
        self.inner.lock().poke(self, at, from, &mut batch)
    }
}
