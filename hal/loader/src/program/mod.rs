//! The program on firmware's services.

mod error;
mod files;
mod firmware;
mod jump;
mod memory;

use boot_info::COMMAND_LINE;
use loader::{
    config::{self, Config},
    kernel_file::{self, Plan},
};
use uefi::{boot, prelude::*, println};

use error::Error;
use files::Volume;
use jump::MACHINE;
use memory::Pages;

/// How long a message stays before firmware goes on, which may clear the screen.
const TIME_TO_READ: core::time::Duration = core::time::Duration::from_secs(5);

/// The build id of the kernel that this loader was built with, in hexadecimal.
const BUILD_ID: Option<&str> = option_env!("BREENIX_BUILD_ID");

#[entry]
fn main() -> Status {
    let Err(error) = load();
    println!("Breenix loader: {error}");
    println!("Breenix loader: back to the firmware");
    boot::stall(TIME_TO_READ);
    Status::LOAD_ERROR
}

/// Loads and starts the kernel.
///
/// # Errors
/// It cannot be started, and everything taken was given back.
fn load() -> Result<core::convert::Infallible, Error> {
    let mut volume = Volume::of_this_program()?;
    let content = volume.read(config::PATH, config::MOST)?;
    let config = Config::parse(content.bytes()).map_err(Error::Config)?;
    drop(content);
    if config.command_line.len() > COMMAND_LINE {
        return Err(Error::LongCommandLine);
    }
    let (image, plan) = load_kernel(&mut volume, &config)?;
    let initramfs = match &config.initramfs {
        Some(path) => Some(volume.read(path, u64::MAX)?),
        None => None,
    };
    drop(volume);

    let info = memory::boot_info()?;
    // From here on nothing may fail: firmware's services end.
    info.build_id = plan.build_id;
    info.set_command_line(&config.command_line);
    info.initramfs = initramfs.map(Pages::keep).unwrap_or_default();
    firmware::describe(info);
    let image = image.keep();
    let entry = image.start + plan.entry as u64;
    drop(plan);
    drop(config);
    memory::leave_firmware(&mut info.memory);
    jump::enter(entry, image, info)
}

/// The kernel's image in its place.
fn load_kernel(volume: &mut Volume, config: &Config) -> Result<(Pages, Plan), Error> {
    let expected = BUILD_ID.and_then(config::build_id).ok_or(Error::NoBuild)?;
    let file = volume.read(&config.kernel, kernel_file::MOST)?;
    let plan = Plan::of(file.bytes(), MACHINE).map_err(Error::Kernel)?;
    if plan.build_id != expected || config.build.is_some_and(|build| build != plan.build_id) {
        return Err(Error::OtherBuild {
            kernel: plan.build_id,
            expected: config.build.filter(|build| *build != plan.build_id).unwrap_or(expected),
        });
    }
    let mut image = Pages::allocate_aligned(plan.size, kernel_file::ALIGNMENT, boot::MemoryType::LOADER_CODE)?;
    image.bytes_mut().fill(0);
    for part in &plan.parts {
        image.bytes_mut()[part.at..part.at + part.file.len()].copy_from_slice(&file.bytes()[part.file.clone()]);
    }
    Ok((image, plan))
}
