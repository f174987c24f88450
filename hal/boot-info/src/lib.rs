//! The block in which whoever loads the kernel tells it about the machine.
//!
//! One block for every way to boot. The UEFI loader fills one in and passes its physical address; where QEMU's `-kernel`
//! passes a device tree or a PVH start information instead, the kernel's entry code fills one in from those. What reads
//! it does not know which.
//!
//! The block points to nothing but firmware's tables and the initramfs, so that it is copied by copying its bytes, and
//! holds integers alone, so that any bytes are one: [`BootInfo::check`] tells whether they are this one.

#![no_std]

mod date;
mod memory;

pub use date::seconds_since_1970;
pub use memory::{MemoryKind, MemoryMap, MemoryRange, Range};

/// Bytes of a command line, at most.
pub const COMMAND_LINE: usize = 2048;

/// Bytes of a GNU build id made by SHA-1.
pub const BUILD_ID: usize = 20;

/// A linear framebuffer, as firmware's graphics output left it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Framebuffer {
    /// Its physical address; 0: there is none.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Pixels from one line to the next.
    pub stride: u32,
    /// [`Framebuffer::RGB`] or [`Framebuffer::BGR`]: the order of a pixel's four bytes in memory, the last unused.
    pub format: u32,
}

impl Framebuffer {
    /// Red first (UEFI 2.10, 12.9: `PixelRedGreenBlueReserved8BitPerColor`).
    pub const RGB: u32 = 0;
    /// Blue first (`PixelBlueGreenRedReserved8BitPerColor`).
    pub const BGR: u32 = 1;
}

/// The block. Addresses are physical; 0 stands for what there is not.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct BootInfo {
    magic: u64,
    version: u32,
    size: u32,
    /// The build id of the kernel that this is for; zeroes where the loader knows none.
    pub build_id: [u8; BUILD_ID],
    command_line_length: u32,
    command_line: [u8; COMMAND_LINE],
    /// Seconds since 1970 by firmware's clock.
    pub wall_clock_seconds: u64,
    /// ACPI's root pointer.
    pub rsdp: u64,
    /// A flattened device tree.
    pub device_tree: Range,
    /// The initramfs.
    pub initramfs: Range,
    /// The screen.
    pub framebuffer: Framebuffer,
    /// Random bytes of firmware's; zeroes where it has none.
    pub entropy: [u8; 32],
    /// What memory there is.
    pub memory: MemoryMap,
}

/// Why bytes are no [`BootInfo`] of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// They do not begin with [`BootInfo::MAGIC`].
    Magic,
    /// Another version, or another size.
    Version,
    /// A length is larger than its array.
    Length,
}

impl BootInfo {
    /// `BreenixB`, in memory.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"BreenixB");
    /// Counts the changes of the layout: a loader and a kernel that differ in it refuse each other.
    pub const VERSION: u32 = 1;

    /// A block about nothing.
    pub const EMPTY: Self = Self {
        magic: Self::MAGIC,
        version: Self::VERSION,
        size: size_of::<Self>() as u32,
        build_id: [0; BUILD_ID],
        command_line_length: 0,
        command_line: [0; COMMAND_LINE],
        wall_clock_seconds: 0,
        rsdp: 0,
        device_tree: Range::EMPTY,
        initramfs: Range::EMPTY,
        framebuffer: Framebuffer {
            address: 0,
            length: 0,
            width: 0,
            height: 0,
            stride: 0,
            format: Framebuffer::RGB,
        },
        entropy: [0; 32],
        memory: MemoryMap::EMPTY,
    };

    /// Whether this is a block of this version, with lengths that can be.
    ///
    /// # Errors
    /// See [`Mismatch`].
    pub const fn check(&self) -> Result<(), Mismatch> {
        if self.magic != Self::MAGIC {
            return Err(Mismatch::Magic);
        }
        if self.version != Self::VERSION || self.size as usize != size_of::<Self>() {
            return Err(Mismatch::Version);
        }
        if self.command_line_length as usize > COMMAND_LINE || !self.memory.is_sound() {
            return Err(Mismatch::Length);
        }
        Ok(())
    }

    /// The command line; cut before the first byte that is no UTF-8.
    pub fn command_line(&self) -> &str {
        let length = (self.command_line_length as usize).min(COMMAND_LINE);
        let bytes = &self.command_line[..length];
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
        }
    }

    /// Sets the command line, and returns whether all of it fitted.
    pub fn set_command_line(&mut self, text: &str) -> bool {
        let length = text.floor_char_boundary(COMMAND_LINE);
        self.command_line[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.command_line_length = length as u32;
        length == text.len()
    }

    /// Adds a seed of any length to the random bytes. One of zeroes alone is what an emulator has without a source.
    pub fn mix_entropy(&mut self, seed: &[u8]) {
        for (at, byte) in seed.iter().enumerate() {
            self.entropy[at % self.entropy.len()] ^= byte;
        }
    }

    /// The random bytes, where there are any.
    pub fn entropy(&self) -> Option<[u8; 32]> {
        (self.entropy != [0; 32]).then_some(self.entropy)
    }

    /// Whether the kernel may take this block: it is for no build in particular, or for this one.
    pub fn is_for(&self, build_id: &[u8]) -> bool {
        self.build_id == [0; BUILD_ID] || self.build_id == build_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused() {
        let mut info = BootInfo::EMPTY;
        assert_eq!(info.check(), Ok(()));
        info.version += 1;
        assert_eq!(info.check(), Err(Mismatch::Version));
        info.magic = 0;
        assert_eq!(info.check(), Err(Mismatch::Magic));
        let mut info = BootInfo::EMPTY;
        info.command_line_length = COMMAND_LINE as u32 + 1;
        assert_eq!(info.check(), Err(Mismatch::Length));
    }

    #[test]
    fn a_long_command_line_is_cut_between_characters() {
        let mut info = BootInfo::EMPTY;
        assert!(info.set_command_line("quiet init=/bin/sh"));
        assert_eq!(info.command_line(), "quiet init=/bin/sh");
        let mut line = [b'x'; COMMAND_LINE + 1];
        line[COMMAND_LINE - 1..].copy_from_slice("ä".as_bytes());
        let line = core::str::from_utf8(&line).unwrap();
        assert!(!info.set_command_line(line));
        assert_eq!(info.command_line().len(), COMMAND_LINE - 1);
    }

    #[test]
    fn seeds_of_zeroes_are_none() {
        let mut info = BootInfo::EMPTY;
        info.mix_entropy(&[0; 40]);
        assert_eq!(info.entropy(), None);
        info.mix_entropy(&[7; 33]);
        assert_eq!(info.entropy().map(|bytes| (bytes[0], bytes[1])), Some((0, 7)));
    }

    #[test]
    fn builds_must_agree_where_both_are_known() {
        let mut info = BootInfo::EMPTY;
        assert!(info.is_for(&[1; BUILD_ID]));
        info.build_id = [1; BUILD_ID];
        assert!(info.is_for(&[1; BUILD_ID]) && !info.is_for(&[2; BUILD_ID]));
    }
}
