//! A queue as an inode and as an open file.

use alloc::{format, sync::Arc, vec::Vec};
use core::{any::Any, sync::atomic::Ordering::Relaxed};

use super::{Queue, file_system};
use crate::{
    errno::Result,
    fs::{
        FileKind, Inode, OpenFile,
        attributes::{Attributes, DeviceNumber, SetAttributes, Shrunk},
        file::{Attempt, File, Positioning, Readiness, Transfer, Whence, seek_before_end},
        inode::{FileSystemStatus, OpenRequest},
        io::Sink,
        poll_queue::PollQueue,
    },
};

impl Queue {
    /// The queue that an open file is.
    pub fn of(file: &OpenFile) -> Option<&Self> {
        file.file().as_any()?.downcast_ref()
    }
}

impl Inode for Queue {
    fn attributes(&self) -> Attributes {
        let mut attributes = self.contents.lock().attributes;
        attributes.links = self.has_name.load(Relaxed).into();
        attributes
    }

    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn identity(&self) -> (DeviceNumber, u64) {
        let attributes = &self.contents.lock().attributes;
        (attributes.device, attributes.inode)
    }

    /// A size is taken and means nothing: a shell that redirects to a queue cuts it first.
    fn set_attributes(&self, change: &SetAttributes) -> Result<Shrunk> {
        self.contents.lock().attributes.change(change);
        Ok(Shrunk::No)
    }

    fn place(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        let root = self.root.upgrade()?;
        let name = root.name_of(self)?;
        Some((root, name))
    }

    fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Ok(self)
    }

    fn status(&self) -> FileSystemStatus {
        file_system::status(self.contents.lock().attributes.device)
    }
}

impl File for Queue {
    /// What `mq_overview(7)` says of the files below `/dev/mqueue`.
    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        let text = {
            let contents = self.contents.lock();
            let (how, signo, owner) = contents
                .notice
                .as_ref()
                .map_or((0, 0, 0), |notice| (notice.how(), notice.signo(), notice.owner()));
            format!(
                "QSIZE:{:<10} NOTIFY:{how:<5} SIGNO:{signo:<5} NOTIFY_PID:{owner:<6}\n",
                contents.bytes
            )
        };
        let start = usize::try_from(*transfer.position)
            .unwrap_or(usize::MAX)
            .min(text.len());
        let before = sink.done();
        let put = sink.put(&text.as_bytes()[start..]);
        *transfer.position += (sink.done() - before) as u64;
        Ok(put.map(drop)?)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Offsets
    }

    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        seek_before_end(position, offset, whence)
    }

    fn readiness(&self) -> Readiness {
        let messages = self.len();
        let mut ready = Readiness::empty();
        if messages > 0 {
            ready |= Readiness::READABLE;
        }
        if messages < self.shape.messages {
            ready |= Readiness::WRITABLE;
        }
        ready
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.pollers)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
