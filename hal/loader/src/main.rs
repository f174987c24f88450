//! The UEFI loader: `EFI/BOOT/BOOTAA64.EFI` and `BOOTX64.EFI`.
//!
//! It reads its configuration from the partition it came from, puts kernel and initramfs into memory, gathers what
//! firmware knows into a [`BootInfo`](boot_info::BootInfo), ends firmware's services and jumps. Whatever goes wrong
//! before is said on firmware's console, and firmware is returned to, which tries the next way to boot.

#![cfg_attr(target_os = "uefi", no_std, no_main)]

#[cfg(target_os = "uefi")]
mod program;

#[cfg(not(target_os = "uefi"))]
fn main() {
    eprintln!("this is a UEFI program: scripts/image puts it into an image");
    std::process::exit(2);
}
