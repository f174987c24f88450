//! The root file system at boot.

use alloc::sync::Arc;

use super::{
    FsContext, Inode, initramfs, mount,
    tmpfs::{Limits, TmpFs},
};
use crate::errno::Result;

/// Makes the root file system and unpacks the initramfs into it. A damaged archive is logged; what it holds before the
/// damage is there.
///
/// # Errors
/// `ENOMEM`.
pub fn mount_root(archive: Option<&[u8]>) -> Result<FsContext> {
    let root: Arc<dyn Inode> = TmpFs::create(Limits::half_of_memory(), 0o755)?;
    match archive.map(|archive| initramfs::unpack(&root, archive)) {
        None => log::error!("the loader gave no initramfs: the root is empty"),
        Some(Ok(report)) => log::info!("initramfs: {} files, {} KiB", report.files, report.bytes >> 10),
        Some(Err(error)) => log::error!("initramfs: {}; {} files are there", error.reason, error.unpacked.files),
    }
    let mount = mount::mount(root, None, "rootfs", "tmpfs", 0)?;
    Ok(FsContext::new(mount.root()))
}
