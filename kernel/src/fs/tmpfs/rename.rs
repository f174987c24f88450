//! Rename: one critical section over the whole tree.

use alloc::{boxed::Box, sync::Arc};

use super::{TmpInode, Tree, directory::copy_name};
use crate::{
    errno::{Errno, Result},
    fs::inode::RenameMode,
};

/// Whether directory `inner` is `outer` or lies below it.
fn is_within(tree: &Tree, inner: u64, outer: u64) -> bool {
    let mut here = inner;
    loop {
        if here == outer {
            return true;
        }
        match tree.get(&here).and_then(|directory| directory.above.as_ref()) {
            Some((above, _)) => here = *above,
            None => return false,
        }
    }
}

/// Tells a file that was moved where it is now.
fn moved(tree: &mut Tree, inode: &TmpInode, directory: u64, name: Box<[u8]>) {
    if let Some(entry) = tree.get_mut(&inode.number()) {
        entry.above = Some((directory, name));
    } else {
        inode.set_place(directory, name);
    }
    inode.links_changed(|_| {});
}

/// See [`Inode::rename`](crate::fs::Inode::rename).
pub fn rename(from: &TmpInode, name: &[u8], to: &TmpInode, new_name: &[u8], mode: RenameMode) -> Result<()> {
    let names = [copy_name(new_name)?, copy_name(new_name)?];
    let places = [copy_name(new_name)?, copy_name(name)?];
    let mut tree = from.file_system().tree.lock();
    let source = from.directory(&mut tree)?.get(name).ok_or(Errno::ENOENT)?.clone();
    let target = to.directory(&mut tree)?.get(new_name).cloned();
    match (mode, &target) {
        (RenameMode::NoReplace, Some(_)) => return Err(Errno::EEXIST),
        (RenameMode::Exchange, None) => return Err(Errno::ENOENT),
        _ => {}
    }
    if target.as_ref().is_some_and(|target| Arc::ptr_eq(target, &source)) {
        // Two names of one file: POSIX has nothing happen.
        return Ok(());
    }
    if source.is_directory() && is_within(&tree, to.number(), source.number()) {
        return Err(Errno::EINVAL);
    }
    let Some(target) = target else {
        to.directory(&mut tree)?.reserve()?;
        from.directory(&mut tree)?.remove(name);
        to.directory(&mut tree)?.insert(names, source.clone());
        let [place, _] = places;
        moved(&mut tree, &source, to.number(), place);
        drop(tree);
        let step = i32::from(source.is_directory());
        from.names_changed(-step);
        to.names_changed(step);
        return Ok(());
    };
    if mode == RenameMode::Exchange {
        if target.is_directory() && is_within(&tree, from.number(), target.number()) {
            return Err(Errno::EINVAL);
        }
        from.directory(&mut tree)?.replace(name, target.clone());
        to.directory(&mut tree)?.replace(new_name, source.clone());
        let [place, old_place] = places;
        moved(&mut tree, &source, to.number(), place);
        moved(&mut tree, &target, from.number(), old_place);
        drop(tree);
        let step = i32::from(target.is_directory()) - i32::from(source.is_directory());
        from.names_changed(step);
        to.names_changed(-step);
        return Ok(());
    }
    match (source.is_directory(), target.is_directory()) {
        (true, false) => return Err(Errno::ENOTDIR),
        (false, true) => return Err(Errno::EISDIR),
        (true, true) if tree.get(&target.number()).is_some_and(|entry| !entry.is_empty()) => {
            return Err(Errno::ENOTEMPTY);
        }
        _ => {}
    }
    to.directory(&mut tree)?.replace(new_name, source.clone());
    from.directory(&mut tree)?.remove(name);
    let replaced = tree.remove(&target.number());
    let [place, _] = places;
    moved(&mut tree, &source, to.number(), place);
    drop(tree);
    drop(replaced);
    let step = i32::from(source.is_directory());
    target.links_changed(|links| {
        *links = if target.is_directory() {
            0
        } else {
            links.saturating_sub(1)
        }
    });
    from.names_changed(-step);
    to.names_changed(0);
    Ok(())
}
