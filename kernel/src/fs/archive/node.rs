//! A file of an archive.

use alloc::{
    boxed::Box,
    collections::BTreeMap,
    string::String,
    sync::{Arc, Weak},
    vec::Vec,
};
use core::sync::atomic::Ordering::Relaxed;

use hal::PAGE_SIZE;
use linux_raw_sys::general as linux;

use super::{Shared, file::ArchiveFile, header::Header};
use crate::{
    errno::{Errno, Result},
    fs::{
        attributes::{Attributes, DeviceNumber, FileKind, SetAttributes, Shrunk, Timestamp},
        block_device::Extent,
        file::File,
        inode::{FileSystemStatus, Inode, LinkText, NewFile, OpenRequest, RenameMode},
        pipe::Pipe,
    },
    mm::{Backing, Frame, Pager, fallible},
    sync::{Rank, SpinLock, WaitQueue},
};

const PAGE: u64 = PAGE_SIZE as u64;

/// What a header says of a file besides its contents.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    permissions: u16,
    uid: u32,
    gid: u32,
    modified: i64,
}

impl Meta {
    /// Of a directory that no header tells of.
    pub const fn directory() -> Self {
        Self {
            permissions: 0o755,
            uid: 0,
            gid: 0,
            modified: 0,
        }
    }

    /// What `header` says.
    pub fn of(header: &Header) -> Self {
        Self {
            permissions: header.mode as u16 & 0o7777,
            uid: header.uid,
            gid: header.gid,
            modified: header.modified.into(),
        }
    }
}

/// A file's bytes on the disk.
#[derive(Clone)]
struct Bytes {
    extent: Extent,
    /// The number of the copy of its first page.
    first_copy: u64,
}

struct State {
    meta: Meta,
    links: u32,
    bytes: Option<Bytes>,
    target: Vec<u8>,
    /// The directory that last gave it a name, and the name.
    place: Option<(Weak<Node>, Box<[u8]>)>,
    fifo: Weak<Pipe>,
}

/// See the module. Nothing but pipes of fifos changes once the archive is mounted.
pub struct Node {
    shared: Arc<Shared>,
    this: Weak<Self>,
    number: u64,
    kind: FileKind,
    rdev: DeviceNumber,
    state: SpinLock<State>,
    children: SpinLock<BTreeMap<Box<[u8]>, Arc<Self>>>,
}

impl Node {
    /// A file without a name.
    ///
    /// # Errors
    /// None that a caller need expect; the caller has made sure that there is memory ([`fallible::afford`]).
    pub fn new(shared: &Arc<Shared>, kind: FileKind, meta: &Meta, rdev: DeviceNumber) -> Result<Arc<Self>> {
        let number = shared.files.fetch_add(1, Relaxed) + 1;
        Ok(Arc::new_cyclic(|this| Self {
            shared: shared.clone(),
            this: this.clone(),
            number,
            kind,
            rdev,
            state: SpinLock::new(
                Rank::Inode,
                State {
                    meta: *meta,
                    links: if kind == FileKind::Directory { 2 } else { 0 },
                    bytes: None,
                    target: Vec::new(),
                    place: None,
                    fifo: Weak::new(),
                },
            ),
            children: SpinLock::new(Rank::Directory, BTreeMap::new()),
        }))
    }

    /// What the file system's files share.
    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn set_meta(&self, meta: &Meta) {
        self.state.lock().meta = *meta;
    }

    pub(super) fn set_target(&self, target: Vec<u8>) {
        self.state.lock().target = target;
    }

    pub(super) fn set_bytes(&self, extent: Extent) {
        let first_copy = self.shared.next_copy.fetch_add(extent.pages(), Relaxed);
        self.state.lock().bytes = Some(Bytes { extent, first_copy });
    }

    fn bytes(&self) -> Option<Bytes> {
        self.state.lock().bytes.clone()
    }

    /// Where the bytes of a regular file that has some are.
    pub(super) fn extent(&self) -> Option<Extent> {
        self.bytes().map(|bytes| bytes.extent)
    }

    /// The file of that name in this directory.
    pub(super) fn child(&self, name: &[u8]) -> Option<Arc<Self>> {
        self.children.lock().get(name).cloned()
    }

    /// Gives a file a name in this directory; what had it loses it.
    pub(super) fn add(&self, name: &[u8], node: &Arc<Self>) -> Result<()> {
        let [key, place] = [
            fallible::copy(name)?.into_boxed_slice(),
            fallible::copy(name)?.into_boxed_slice(),
        ];
        let old = self.children.lock().insert(key, node.clone());
        if let Some(old) = &old {
            let mut state = old.state.lock();
            state.links = state.links.saturating_sub(1);
        }
        if node.kind == FileKind::Directory {
            self.state.lock().links += 1;
        }
        let before = {
            let mut state = node.state.lock();
            if node.kind != FileKind::Directory {
                state.links += 1;
            }
            state.place.replace((self.this.clone(), place))
        };
        drop((old, before));
        Ok(())
    }

    /// The number of the directory above; its own for the root.
    pub(super) fn number_above(&self) -> u64 {
        let state = self.state.lock();
        let above = state.place.as_ref().and_then(|(above, _)| above.upgrade());
        above.map_or(self.number, |above| above.number)
    }

    /// Its number.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Calls `f` for each name in the directory from the `first`th on, until it fails.
    pub(super) fn each_child<E>(
        &self,
        first: usize,
        mut f: impl FnMut(&[u8], &Self) -> core::result::Result<(), E>,
    ) -> core::result::Result<(), E> {
        let children = self.children.lock();
        children.iter().skip(first).try_for_each(|(name, child)| f(name, child))
    }

    fn this(&self) -> Result<Arc<Self>> {
        self.this.upgrade().ok_or(Errno::ENOENT)
    }
}

impl Inode for Node {
    fn attributes(&self) -> Attributes {
        let entries = self.children.lock().len() as u64;
        let state = self.state.lock();
        let stored = state.bytes.as_ref().map_or(0, |bytes| bytes.extent.length());
        let time = Timestamp {
            seconds: state.meta.modified,
            nanoseconds: 0,
        };
        Attributes {
            device: self.shared.device,
            inode: self.number,
            kind: self.kind,
            permissions: state.meta.permissions,
            links: state.links,
            uid: state.meta.uid,
            gid: state.meta.gid,
            rdev: self.rdev,
            size: match self.kind {
                FileKind::Directory => (entries + 2) * 20,
                FileKind::Symlink => state.target.len() as u64,
                _ => stored,
            },
            block_size: 4096,
            blocks: stored.div_ceil(512),
            accessed: time,
            modified: time,
            changed: time,
            created: time,
        }
    }

    fn kind(&self) -> FileKind {
        self.kind
    }

    fn identity(&self) -> (DeviceNumber, u64) {
        (self.shared.device, self.number)
    }

    fn pager(&self) -> Option<Arc<dyn Pager>> {
        if self.kind != FileKind::Regular {
            return None;
        }
        let pager: Arc<dyn Pager> = self.this().ok()?;
        Some(pager)
    }

    fn set_attributes(&self, _: &SetAttributes) -> Result<Shrunk> {
        Err(Errno::EROFS)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if self.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let found = self.child(name).ok_or(Errno::ENOENT)?;
        Ok(found)
    }

    fn place(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        let state = self.state.lock();
        let (above, name) = state.place.as_ref()?;
        let above: Arc<dyn Inode> = above.upgrade()?;
        Some((above, name.to_vec()))
    }

    fn create(&self, _: &[u8], _: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }

    fn create_unnamed(&self, _: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }

    fn link(&self, _: &[u8], _: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn unlink(&self, _: &[u8]) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn remove_directory(&self, _: &[u8]) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn rename(&self, _: &[u8], _: &Arc<dyn Inode>, _: &[u8], _: RenameMode) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn read_link(&self, text: &mut LinkText) -> Result<()> {
        if self.kind != FileKind::Symlink {
            return Err(Errno::EINVAL);
        }
        text.extend_from_slice(&self.state.lock().target);
        Ok(())
    }

    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        match self.kind {
            // As Linux has it for file systems without a way past the cache.
            FileKind::Regular if request.flags & linux::O_DIRECT != 0 => Err(Errno::EINVAL),
            FileKind::Regular | FileKind::Directory => Ok(Arc::new(ArchiveFile::new(self))),
            FileKind::Symlink => Err(Errno::ELOOP),
            _ => Err(Errno::ENXIO),
        }
    }

    fn fifo(&self) -> Result<Arc<Pipe>> {
        if self.kind != FileKind::Fifo {
            return Err(Errno::ENXIO);
        }
        Ok(Pipe::shared(&mut self.state.lock().fifo))
    }

    fn status(&self) -> FileSystemStatus {
        self.shared.status()
    }
}

impl Bytes {
    /// Whether page `index` is one of the disk's, to be shown as it is.
    const fn is_whole(&self, index: u64) -> bool {
        self.extent.is_aligned() && (index + 1) * PAGE <= self.extent.length()
    }
}

impl Pager for Node {
    fn page(&self, index: u64) -> Result<Frame> {
        let bytes = self.bytes().ok_or(Errno::ENXIO)?;
        if index >= bytes.extent.pages() {
            return Err(Errno::ENXIO);
        }
        if bytes.is_whole(index) {
            return bytes.extent.whole_page(index);
        }
        let number = bytes.first_copy + index;
        if let Some(copy) = self.shared.copy(number) {
            return Ok(copy);
        }
        let copy = bytes.extent.copy_page(index)?;
        self.shared.add_copy(number, copy)
    }

    fn page_for_write(&self, _: u64) -> Result<Frame> {
        Err(Errno::EROFS)
    }

    fn pages_in_memory(&self, first: u64, into: &mut [Option<Frame>]) {
        let Some(bytes) = self.bytes() else { return };
        let count = bytes.extent.pages().saturating_sub(first).min(into.len() as u64);
        let into = &mut into[..count as usize];
        if bytes.extent.is_aligned() {
            bytes.extent.whole_pages_in_memory(first, into);
        }
        // What is not whole is in none but this.
        let copies = self.shared.copies.lock();
        copies.pages.get_many(bytes.first_copy + first, into);
    }

    fn arrivals(&self, index: u64) -> Option<&WaitQueue> {
        // The bytes of a mapped file do not move: any page of the disk has a queue that lives as long as this does.
        let start = self.extent()?.start().saturating_add(index.saturating_mul(PAGE));
        Some(self.shared.extent.cache().arrivals(start / PAGE))
    }

    fn describe(&self) -> Option<Backing> {
        let this: Arc<dyn Inode> = self.this().ok()?;
        let path = crate::fs::path::inode_path(&this).unwrap_or_default();
        Some(Backing {
            device: (self.shared.device.major, self.shared.device.minor),
            inode: self.number,
            path: String::from_utf8_lossy(&path).into_owned(),
        })
    }
}
