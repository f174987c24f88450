//! The root file system at boot.

use alloc::{format, string::String, sync::Arc};

use super::{
    FsContext, Inode,
    archive::{self, KIND},
    block_device, initramfs, mount,
    tmpfs::{Limits, TmpFs},
};
use crate::{command_line, errno::Result, mm::frame::Loaded};

/// Makes a root file system of memory and unpacks the initramfs into it, whose memory becomes free meanwhile. A damaged archive is logged; what it holds before
/// the damage is there.
///
/// # Errors
/// `ENOMEM`.
pub fn mount_root(archive: Option<Loaded>) -> Result<FsContext> {
    // What the loader has put into memory is there in any case: it has no limit of its own.
    let created = TmpFs::create(Limits::default(), 0o755)?;
    let root: Arc<dyn Inode> = created.clone();
    match archive.map(|mut archive| initramfs::unpack(&root, &mut archive)) {
        None => log::error!("the loader gave no initramfs: the root is empty"),
        Some(Ok(report)) => log::info!("initramfs: {} files, {} KiB", report.files, report.bytes >> 10),
        Some(Err(error)) => log::error!("initramfs: {}; {} files are there", error.reason, error.unpacked.files),
    }
    created.file_system().limit_to_half();
    let mount = mount::mount(root, None, "rootfs", "tmpfs", 0)?;
    Ok(FsContext::new(mount.root()))
}

/// The root file system: the one that the command line names (`root=`, `rootfstype=`), read-only, else that of the initramfs. In any
/// case the disks are waited for, so that the first program finds them in `/dev`.
///
/// # Errors
/// What is wrong, in words.
pub async fn root(archive: Option<Loaded>) -> core::result::Result<FsContext, String> {
    if let Some(description) = command_line::value("root") {
        drop(archive);
        block_device::scan().await;
        return mount_disk(description, command_line::value("rootfstype")).await;
    }
    // While the disks are looked for.
    let root = mount_root(archive).map_err(|error| format!("{error:?}"));
    block_device::scan().await;
    root
}

/// Mounts the device that `description` names as the root.
///
/// # Errors
/// What is wrong, in words.
pub async fn mount_disk(description: &str, kind: Option<&str>) -> core::result::Result<FsContext, String> {
    if let Some(other) = kind.filter(|kind| !kind.split(',').any(|kind| kind == KIND)) {
        return Err(format!("rootfstype={other}: only {KIND} is known"));
    }
    let device = block_device::by_description(description).map_err(|error| {
        let names = block_device::names();
        format!("root={description}: {error:?}; there are:{names}")
    })?;
    let extent = device.volume().extent();
    let root = archive::open(extent).await.map_err(|fault| match fault {
        archive::Fault::NoArchive => format!("{} holds no {KIND} archive", device.name()),
        archive::Fault::Damaged(reason) => format!("the archive on {} is damaged: {reason}", device.name()),
        archive::Fault::Errno(errno) => format!("{errno:?} while {} was read", device.name()),
    })?;
    let files = root.status().files;
    log::info!("root: {files} files on {}, read-only", device.name());
    let source = format!("/dev/{}", device.name());
    let mounted = mount::mount(root, None, &source, KIND, linux_raw_sys::general::MS_RDONLY);
    let mount = mounted.map_err(|errno| format!("{errno:?} while the root was mounted"))?;
    Ok(FsContext::new(mount.root()))
}
