//! The inode: attributes, contents, and the directory operations on the file system's tree.

mod file;

use alloc::{
    boxed::Box,
    string::String,
    sync::{Arc, Weak},
    vec::Vec,
};
use core::{any::Any, sync::atomic::Ordering::Relaxed};

use super::{
    MAX_LINKS, TmpFs, Tree,
    contents::Contents,
    directory::{Directory, copy_name},
    extended::{ExtendedAttributes, Pages},
    seals::{Change, Seals},
};
use crate::{
    errno::{Errno, Result},
    fs::{
        attributes::{Attributes, DeviceNumber, FileKind, S_ISGID, S_ISUID, SetAttributes, Shrunk, Timestamp},
        file::File,
        inode::{FileSystemStatus, Inode, LinkText, NewFile, OpenRequest, RenameMode, SetMode},
        page_map::Removed,
        pipe::Pipe,
    },
    mm::{
        Pager,
        fallible::{self, TryRoom},
        pager::Mappings,
    },
    sync::{Rank, SpinLock},
    task::file_capabilities,
};

struct State {
    permissions: u16,
    uid: u32,
    gid: u32,
    links: u32,
    accessed: Timestamp,
    modified: Timestamp,
    changed: Timestamp,
    created: Timestamp,
    contents: Contents,
    /// Pages that were taken out and are neither given back nor uncharged yet.
    taken_out: Removed,
    fifo: Weak<Pipe>,
    extended: ExtendedAttributes,
    /// Where it can be sealed.
    seals: Option<Box<Seals>>,
    /// The directory that last gave it a name, and the name; directories keep theirs in the tree.
    place: Option<(u64, Box<[u8]>)>,
}

impl State {
    /// Whether its seals allow for a change.
    fn permit(&self, change: Change) -> Result<()> {
        match &self.seals {
            Some(seals) => seals.permit(change, self.contents.size),
            None => Ok(()),
        }
    }
}

/// A file of a tmpfs.
pub struct TmpInode {
    fs: Arc<TmpFs>,
    this: Weak<Self>,
    number: u64,
    kind: FileKind,
    rdev: DeviceNumber,
    /// What a symlink says, and what `/proc` calls a memory file.
    target: Box<[u8]>,
    mappings: Mappings,
    state: SpinLock<State>,
}

impl TmpInode {
    /// A file without a name.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub(super) fn new(fs: &Arc<TmpFs>, new: &NewFile<'_>) -> Result<Arc<Self>> {
        let target = copy_name(new.target)?;
        TmpFs::charge(&fs.inodes, fs.most_inodes.load(Relaxed), 1)?;
        let now = Timestamp::now();
        Ok(Arc::new_cyclic(|this| Self {
            fs: fs.clone(),
            this: this.clone(),
            number: fs.next_inode.fetch_add(1, Relaxed),
            kind: new.kind,
            rdev: new.rdev,
            target,
            mappings: Mappings::new(),
            state: SpinLock::new(
                Rank::Inode,
                State {
                    permissions: new.permissions,
                    uid: new.uid,
                    gid: new.gid,
                    links: 0,
                    accessed: now,
                    modified: now,
                    changed: now,
                    created: now,
                    contents: Contents::default(),
                    taken_out: Removed::default(),
                    fifo: Weak::new(),
                    extended: ExtendedAttributes::default(),
                    seals: None,
                    place: None,
                },
            ),
        }))
    }

    /// Its number.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// From now on it can be sealed.
    pub(super) fn make_sealable(&self) {
        self.state.lock().seals.get_or_insert_with(|| Box::new(Seals::new()));
    }

    /// Its file system.
    pub const fn file_system(&self) -> &Arc<TmpFs> {
        &self.fs
    }

    pub(super) fn links_changed(&self, change: impl FnOnce(&mut u32)) {
        let mut state = self.state.lock();
        change(&mut state.links);
        state.changed = Timestamp::now();
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }

    fn this(&self) -> Result<Arc<Self>> {
        self.this.upgrade().ok_or(Errno::ENOENT)
    }

    /// Notes that names in this directory changed.
    pub(super) fn names_changed(&self, links: i32) {
        let mut state = self.state.lock();
        state.links = state.links.saturating_add_signed(links);
        state.modified = Timestamp::now();
        state.changed = state.modified;
    }

    pub(super) fn set_place(&self, directory: u64, name: Box<[u8]>) {
        let old = self.state.lock().place.replace((directory, name));
        drop(old);
    }

    /// This directory in the tree.
    pub(super) fn directory<'a>(&self, tree: &'a mut Tree) -> Result<&'a mut Directory> {
        if !self.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        tree.get_mut(&self.number).ok_or(Errno::ENOENT)
    }

    /// Adds a name for `inode`, which may be new or have others.
    fn add(&self, name: &[u8], inode: &Arc<Self>) -> Result<()> {
        let names = [copy_name(name)?, copy_name(name)?];
        let place = copy_name(name)?;
        let mut tree = self.fs.tree.lock();
        if inode.is_directory() {
            tree.try_room(1)?;
        }
        let directory = self.directory(&mut tree)?;
        if directory.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        directory.reserve()?;
        directory.insert(names, inode.clone());
        if inode.is_directory() {
            tree.insert(
                inode.number,
                Directory::new(inode.this.clone(), Some((self.number, place))),
            );
            inode.links_changed(|links| *links = 2);
            self.names_changed(1);
        } else {
            inode.links_changed(|links| *links += 1);
            inode.set_place(self.number, place);
            self.names_changed(0);
        }
        Ok(())
    }

    /// What may not be left behind after a write, whoever writes.
    fn strip_privileges(&self, state: &mut State) {
        let group = if state.permissions & 0o010 != 0 { S_ISGID } else { 0 };
        state.permissions &= !(S_ISUID | group);
        self.strip_capabilities(state);
    }

    fn strip_capabilities(&self, state: &mut State) {
        if !state.extended.is_empty() {
            self.fs.uncharge_pages(state.extended.forget(file_capabilities::NAME));
        }
    }
}

impl Drop for TmpInode {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        self.fs
            .uncharge_pages(state.contents.pages.len() + state.taken_out.pages() + state.extended.pages());
        self.fs.inodes.fetch_sub(1, Relaxed);
    }
}

fn same_file_system<'a>(fs: &Arc<TmpFs>, inode: &'a Arc<dyn Inode>) -> Result<&'a TmpInode> {
    let inode = (inode.as_ref() as &dyn Any)
        .downcast_ref::<TmpInode>()
        .ok_or(Errno::EXDEV)?;
    if Arc::ptr_eq(&inode.fs, fs) {
        Ok(inode)
    } else {
        Err(Errno::EXDEV)
    }
}

impl Inode for TmpInode {
    fn attributes(&self) -> Attributes {
        let entries = if self.is_directory() {
            self.fs.tree.lock().get(&self.number).map_or(0, Directory::len)
        } else {
            0
        };
        let state = self.state.lock();
        Attributes {
            device: self.fs.device,
            inode: self.number,
            kind: self.kind,
            permissions: state.permissions,
            links: state.links,
            uid: state.uid,
            gid: state.gid,
            rdev: self.rdev,
            size: match self.kind {
                FileKind::Directory => (entries as u64 + 2) * 20,
                FileKind::Symlink => self.target.len() as u64,
                _ => state.contents.size,
            },
            block_size: 4096,
            blocks: state.contents.pages.len() * 8,
            accessed: state.accessed,
            modified: state.modified,
            changed: state.changed,
            created: state.created,
        }
    }

    fn kind(&self) -> FileKind {
        self.kind
    }

    fn identity(&self) -> (DeviceNumber, u64) {
        (self.fs.device, self.number)
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<Shrunk> {
        let now = Timestamp::now();
        let mut state = self.state.lock();
        let mut shrunk = Shrunk::No;
        if let Some(size) = change.size {
            match self.kind {
                FileKind::Regular => {}
                FileKind::Directory => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
            state.permit(Change::Length(size))?;
            if size < state.contents.size {
                shrunk = Shrunk::Yes;
            }
            let removed = state.contents.set_size(size)?;
            state.taken_out.append(removed);
            state.modified = now;
            self.strip_privileges(&mut state);
        }
        if change.strips_capabilities {
            self.strip_capabilities(&mut state);
        }
        state.permissions = change.permissions.unwrap_or(state.permissions);
        state.uid = change.uid.unwrap_or(state.uid);
        state.gid = change.gid.unwrap_or(state.gid);
        state.accessed = change.accessed.unwrap_or(state.accessed);
        state.modified = change.modified.unwrap_or(state.modified);
        state.changed = now;
        Ok(shrunk)
    }

    fn pager(&self) -> Option<Arc<dyn Pager>> {
        File::pager(self).ok()
    }

    fn extended(&self, name: &[u8]) -> Result<Vec<u8>> {
        fallible::copy(self.state.lock().extended.get(name)?)
    }

    fn set_extended(&self, name: &[u8], value: Option<&[u8]>, mode: SetMode) -> Result<()> {
        let charge = |Pages { before, after }: Pages| {
            if after > before {
                return self.fs.charge_pages(after - before);
            }
            self.fs.uncharge_pages(before - after);
            Ok(())
        };
        let mut state = self.state.lock();
        let replaced = state.extended.set(name, value, mode, charge)?;
        state.changed = Timestamp::now();
        drop(state);
        drop(replaced);
        Ok(())
    }

    fn extended_names(&self, names: &mut Vec<u8>, all: bool) -> Result<()> {
        let state = self.state.lock();
        for name in state
            .extended
            .names()
            .filter(|name| all || !name.starts_with(b"trusted."))
        {
            names.try_room(name.len() + 1)?;
            names.extend_from_slice(name);
            names.push(0);
        }
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let mut tree = self.fs.tree.lock();
        let found = self.directory(&mut tree)?.get(name).ok_or(Errno::ENOENT)?;
        Ok(found.clone())
    }

    fn place(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        let tree = self.fs.tree.lock();
        if self.is_directory() {
            let (above, name) = tree.get(&self.number)?.above.as_ref()?;
            return Some((TmpFs::place(&tree, *above)?, name.to_vec()));
        }
        let (directory, name) = {
            let state = self.state.lock();
            let (directory, name) = state.place.as_ref()?;
            (*directory, name.to_vec())
        };
        let parent = tree.get(&directory)?;
        parent.get(&name).filter(|inode| inode.number == self.number)?;
        Some((TmpFs::place(&tree, directory)?, name))
    }

    fn own_name(&self) -> Option<String> {
        (self.kind == FileKind::Regular && !self.target.is_empty())
            .then(|| String::from_utf8_lossy(&self.target).into_owned())
    }

    fn create(&self, name: &[u8], new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        let mut new = *new;
        {
            let state = self.state.lock();
            if state.permissions & S_ISGID != 0 {
                new.gid = state.gid;
                if new.kind == FileKind::Directory {
                    new.permissions |= S_ISGID;
                }
            }
        }
        let inode = Self::new(&self.fs, &new)?;
        self.add(name, &inode)?;
        Ok(inode)
    }

    fn create_unnamed(&self, new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        let inode = Self::new(&self.fs, new)?;
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = same_file_system(&self.fs, target)?;
        if target.is_directory() {
            return Err(Errno::EPERM);
        }
        if target.state.lock().links >= MAX_LINKS {
            return Err(Errno::EMLINK);
        }
        self.add(name, &target.this()?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let mut tree = self.fs.tree.lock();
        let directory = self.directory(&mut tree)?;
        if directory.get(name).ok_or(Errno::ENOENT)?.is_directory() {
            return Err(Errno::EISDIR);
        }
        let gone = directory.remove(name);
        drop(tree);
        if let Some(inode) = gone {
            inode.links_changed(|links| *links = links.saturating_sub(1));
        }
        self.names_changed(0);
        Ok(())
    }

    fn remove_directory(&self, name: &[u8]) -> Result<()> {
        let mut tree = self.fs.tree.lock();
        let victim = self.directory(&mut tree)?.get(name).ok_or(Errno::ENOENT)?;
        if !victim.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let number = victim.number;
        if tree.get(&number).is_some_and(|directory| !directory.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        let gone = self.directory(&mut tree)?.remove(name);
        let entry = tree.remove(&number);
        drop(tree);
        drop(entry);
        if let Some(inode) = gone {
            inode.links_changed(|links| *links = 0);
        }
        self.names_changed(-1);
        Ok(())
    }

    fn rename(&self, name: &[u8], new_directory: &Arc<dyn Inode>, new_name: &[u8], mode: RenameMode) -> Result<()> {
        super::rename::rename(self, name, same_file_system(&self.fs, new_directory)?, new_name, mode)
    }

    fn read_link(&self, text: &mut LinkText) -> Result<()> {
        if self.kind != FileKind::Symlink {
            return Err(Errno::EINVAL);
        }
        text.extend_from_slice(&self.target);
        let now = Timestamp::now();
        self.state.lock().accessed = now;
        Ok(())
    }

    fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        match self.kind {
            FileKind::Regular | FileKind::Directory => Ok(self),
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
        self.fs.status()
    }

    fn unmounted(&self) {
        self.fs.clear();
    }
}
