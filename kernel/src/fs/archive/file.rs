//! A file of an archive that is open.

use alloc::sync::Arc;

use super::node::Node;
use crate::{
    errno::{Errno, Result},
    fs::{
        attributes::FileKind,
        block_device::seek_in,
        file::{Attempt, Direction, DirectoryEntry, File, Positioning, Transfer, Whence, list_dots},
        inode::Inode,
        io::{Sink, Source},
        page_cache::ReadAhead,
    },
    mm::Pager,
    sync::WaitQueue,
};

/// See the module.
pub struct ArchiveFile {
    node: Arc<Node>,
    ahead: ReadAhead,
}

impl ArchiveFile {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            ahead: ReadAhead::default(),
        }
    }

    fn is_directory(&self) -> bool {
        self.node.kind() == FileKind::Directory
    }
}

impl File for ArchiveFile {
    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        if self.is_directory() {
            return Err(Errno::EISDIR.into());
        }
        match self.node.extent() {
            Some(extent) => extent.read(&self.ahead, transfer.position, sink),
            None => Ok(()),
        }
    }

    fn write(&self, _: &mut Transfer<'_>, _: &mut Source<'_>) -> Attempt<()> {
        Err(Errno::EROFS.into())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Offsets
    }

    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        let size = match (self.is_directory(), whence) {
            (true, Whence::End) => i64::MAX as u64,
            _ => self.node.attributes().size,
        };
        seek_in(size, position, offset, whence)
    }

    fn read_directory(
        &self,
        position: &mut u64,
        emit: &mut dyn FnMut(&DirectoryEntry<'_>) -> Attempt<()>,
    ) -> Attempt<()> {
        if !self.is_directory() {
            return Err(Errno::ENOTDIR.into());
        }
        list_dots(position, (self.node.number(), self.node.number_above()), emit)?;
        // Names neither come nor go, so that a place among them stays what it is.
        let first = usize::try_from(*position - 2).unwrap_or(usize::MAX);
        self.node.each_child(first, |name, child| {
            let next = *position + 1;
            emit(&DirectoryEntry {
                name,
                inode: child.number(),
                kind: child.kind(),
                next,
            })?;
            *position = next;
            Ok(())
        })
    }

    fn wait_queue(&self, direction: Direction) -> Option<&WaitQueue> {
        match direction {
            Direction::Read => Some(self.node.shared().extent.cache().any_arrival()),
            Direction::Write => None,
        }
    }

    fn wait_queue_at(&self, direction: Direction, at: Option<u64>) -> Option<&WaitQueue> {
        match (direction, at, self.node.extent()) {
            (Direction::Read, Some(at), Some(extent)) => {
                let page = extent.start().saturating_add(at) / hal::PAGE_SIZE as u64;
                Some(self.node.shared().extent.cache().arrivals(page))
            }
            _ => self.wait_queue(direction),
        }
    }

    fn pager(&self) -> Result<Arc<dyn Pager>> {
        self.node.pager().ok_or(Errno::ENODEV)
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}
