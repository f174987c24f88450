//! A block device that is open.

use alloc::sync::Arc;

use linux_raw_sys::{general as linux, ioctl as request};

use super::BlockDevice;
use crate::{
    block::SECTOR,
    errno::{Errno, Result},
    fs::{
        file::{Attempt, Direction, File, Positioning, Transfer, Whence},
        inode::OpenRequest,
        io::{Sink, Source, copy_out},
        page_cache::ReadAhead,
    },
    mm::Pager,
    sync::WaitQueue,
    task::{Capability, Thread},
};

/// Bytes that reads through the cache are made of (`BLKBSZGET`).
const CACHE_BLOCK: u32 = 4096;

/// See the module. Reads go through the page cache; writes go past it (`O_DIRECT`) or not at all.
pub struct BlockFile {
    device: Arc<BlockDevice>,
    ahead: ReadAhead,
}

impl BlockFile {
    /// Opens a device.
    ///
    /// # Errors
    /// `EACCES` for writing to one that cannot be written.
    pub fn open(device: Arc<BlockDevice>, request: &OpenRequest<'_>) -> Result<Arc<Self>> {
        let writes = request.flags & linux::O_ACCMODE != linux::O_RDONLY;
        if writes && device.is_read_only() {
            return Err(Errno::EACCES);
        }
        Ok(Arc::new(Self {
            device,
            ahead: ReadAhead::default(),
        }))
    }

    /// The device.
    pub const fn device(&self) -> &Arc<BlockDevice> {
        &self.device
    }

    /// `BLKFLSBUF`: there is nothing to write, but what is cached goes.
    fn flush_cache(&self, caller: &Thread) -> Result<u64> {
        if !caller.credentials().can(Capability::SysAdmin) {
            return Err(Errno::EACCES);
        }
        self.device.volume().extent().cache().forget_unused();
        Ok(0)
    }
}

fn answer<const N: usize>(argument: u64, value: [u8; N]) -> Attempt<u64> {
    copy_out(argument, &value)?;
    Ok(0)
}

impl File for BlockFile {
    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        self.device.volume().extent().read(&self.ahead, transfer.position, sink)
    }

    fn write(&self, _: &mut Transfer<'_>, _: &mut Source<'_>) -> Attempt<()> {
        Err(Errno::EROFS.into())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Offsets
    }

    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        let size = self.device.size();
        super::seek_in(size, position, offset, whence)
    }

    fn control(&self, caller: &Thread, command: u32, argument: u64) -> Attempt<u64> {
        let geometry = self.device.volume().extent().cache().disk().geometry();
        match command {
            request::BLKGETSIZE64 => answer(argument, self.device.size().to_ne_bytes()),
            // An unsigned long.
            request::BLKGETSIZE => answer(argument, (self.device.size() / SECTOR).to_ne_bytes()),
            request::BLKSSZGET | request::BLKPBSZGET => answer(argument, geometry.block.to_ne_bytes()),
            request::BLKBSZGET => answer(argument, CACHE_BLOCK.to_ne_bytes()),
            request::BLKROGET => answer(argument, i32::from(self.device.is_read_only()).to_ne_bytes()),
            request::BLKFLSBUF => Ok(self.flush_cache(caller)?),
            _ => Err(Errno::ENOTTY.into()),
        }
    }

    fn wait_queue(&self, direction: Direction) -> Option<&WaitQueue> {
        match direction {
            Direction::Read => Some(self.device.volume().extent().cache().any_arrival()),
            Direction::Write => None,
        }
    }

    fn wait_queue_at(&self, direction: Direction, at: Option<u64>) -> Option<&WaitQueue> {
        match (direction, at) {
            (Direction::Read, Some(at)) => Some(self.device.volume().extent().arrivals(at)),
            _ => self.wait_queue(direction),
        }
    }

    fn pager(&self) -> Result<Arc<dyn Pager>> {
        let volume = self.device.volume();
        if !volume.extent().is_aligned() {
            return Err(Errno::ENODEV);
        }
        let pager: Arc<dyn Pager> = volume.clone();
        Ok(pager)
    }

    fn sync(&self) -> Result<()> {
        // What was written past the cache is made durable by `fsync`, which waits; nothing else was written.
        Ok(())
    }

    fn as_block(&self) -> Option<&Self> {
        Some(self)
    }
}
