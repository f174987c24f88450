//! What can go wrong, in words for whoever sits before the machine.

use alloc::string::String;
use core::fmt;

use loader::{config, kernel_file};
use uefi::Status;

extern crate alloc;

/// Why the kernel was not started.
#[derive(Debug)]
pub enum Error {
    /// The partition that this program came from cannot be read.
    NoVolume(Status),
    /// A file cannot be read.
    File(String, Status),
    /// A file is longer than one of its kind can be, in bytes.
    LargeFile(String, u64),
    /// The configuration is wrong.
    Config(config::Error),
    /// The command line does not fit.
    LongCommandLine,
    /// The file is no kernel.
    Kernel(kernel_file::Error),
    /// This loader was built alone.
    NoBuild,
    /// The kernel is of another build.
    OtherBuild {
        /// Its build id.
        kernel: [u8; 20],
        /// The one that the loader or the configuration names.
        expected: [u8; 20],
    },
    /// There is no free run of so many bytes.
    Memory(u64),
}

/// A build id in hexadecimal.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVolume(status) => write!(out, "the partition this came from cannot be read: {status}"),
            Self::File(path, status) => write!(out, "cannot read {path}: {status}"),
            Self::LargeFile(path, bytes) => write!(out, "{path} is too large: {bytes} bytes"),
            Self::Config(error) => write!(out, "bad configuration {}: {error}", config::PATH),
            Self::LongCommandLine => write!(out, "the command line is longer than {} bytes", boot_info::COMMAND_LINE),
            Self::Kernel(error) => write!(out, "the kernel is corrupt: {error}"),
            Self::NoBuild => out.write_str("built for no kernel: scripts/image builds it together with one"),
            Self::OtherBuild { kernel, expected } => write!(
                out,
                "the kernel is build {}, but build {} is expected: copy loader and kernel together",
                Hex(kernel),
                Hex(expected)
            ),
            Self::Memory(bytes) => write!(
                out,
                "too little memory: no free {} KiB in one piece",
                bytes.div_ceil(1024)
            ),
        }
    }
}
