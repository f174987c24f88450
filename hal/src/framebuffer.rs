//! A screen that is memory: mapped so that writes are gathered, every access within bounds, and nothing ever read.

#![expect(unsafe_code, reason = "a screen's memory is reached through raw pointers")]

use core::{
    fmt,
    ptr::NonNull,
    sync::atomic::{Ordering, fence},
};

use crate::{
    addr::PhysAddr,
    arch,
    boot_info::{Framebuffer as Description, PhysRange},
};

/// Pixels across or down that no screen has more of.
const MOST: u32 = 1 << 14;

/// A screen. Copies name the same one; who draws where, and when, is their owners' business.
#[derive(Clone, Copy, Debug)]
pub struct Framebuffer {
    base: NonNull<u32>,
    width: usize,
    height: usize,
    stride: usize,
    red_first: bool,
}

// SAFETY: the memory may be written from any CPU, and stays mapped.
unsafe impl Send for Framebuffer {}
// SAFETY: as above; each access is one volatile store.
unsafe impl Sync for Framebuffer {}

/// Why what firmware says of a screen is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Without pixels, with more than a screen has, or with lines longer than the distance between them.
    Size,
    /// The pixels do not fit the memory, or the memory not the address space.
    Length,
    /// An order of bytes that is not known, or an address at which no pixel can be.
    Format,
    /// Its memory is the kernel's.
    Ram,
    /// There is no room for the mapping.
    Room,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "its size is none of a screen",
            Self::Length => "its pixels do not fit its memory",
            Self::Format => "its pixels are of an unknown kind",
            Self::Ram => "its memory is the kernel's",
            Self::Room => "there is no room to map it",
        })
    }
}

/// The memory of a screen, where the description is one of a screen.
fn range(of: &Description) -> Result<PhysRange, Refused> {
    let sizes = [of.width, of.height, of.stride];
    if sizes.iter().any(|size| !(1..=MOST).contains(size)) || of.stride < of.width {
        return Err(Refused::Size);
    }
    // Three numbers of 14 bits at most.
    let bytes = u64::from(of.stride) * u64::from(of.height) * 4;
    let end = of.address.checked_add(bytes).ok_or(Refused::Length)?;
    if bytes > of.length {
        return Err(Refused::Length);
    }
    if !matches!(of.format, Description::RGB | Description::BGR) || !of.address.is_multiple_of(4) {
        return Err(Refused::Format);
    }
    Ok(PhysRange {
        start: PhysAddr(of.address),
        end: PhysAddr(end),
    })
}

impl Framebuffer {
    /// Maps the screen that firmware has set up, for good. Called once. Not for interrupt context.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn map(of: &Description) -> Result<Self, Refused> {
        let range = range(of)?;
        if arch::is_ram(range) {
            return Err(Refused::Ram);
        }
        let base = arch::map_write_combining(range.start, range.len()).ok_or(Refused::Room)?;
        Ok(Self {
            base: NonNull::new(base.cast()).ok_or(Refused::Room)?,
            width: of.width as usize,
            height: of.height as usize,
            stride: of.stride as usize,
            red_first: of.format == Description::RGB,
        })
    }

    /// Pixels across.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Pixels down.
    pub const fn height(&self) -> usize {
        self.height
    }

    /// How this screen writes a colour given as red, green and blue.
    pub const fn pixel(&self, [red, green, blue]: [u8; 3]) -> u32 {
        u32::from_le_bytes(if self.red_first {
            [red, green, blue, 0]
        } else {
            [blue, green, red, 0]
        })
    }

    /// Puts pixels side by side, from column `x` of line `y` on. Those that are not on the screen are left out.
    pub fn put(&self, x: usize, y: usize, pixels: &[u32]) {
        if x >= self.width || y >= self.height {
            return;
        }
        let shown = pixels.len().min(self.width - x);
        for (offset, pixel) in pixels[..shown].iter().enumerate() {
            // SAFETY: on the screen, see above, and thus in its memory, which is mapped, and in which there are no objects.
            unsafe {
                self.base
                    .add(y * self.stride + x + offset)
                    .as_ptr()
                    .write_volatile(pixel.to_le())
            };
        }
    }

    /// Fills a rectangle, but for what of it is not on the screen.
    pub fn fill(&self, x: usize, y: usize, width: usize, height: usize, pixel: u32) {
        const RUN: usize = 64;
        let run = [pixel; RUN];
        for y in y..y.saturating_add(height).min(self.height) {
            let end = x.saturating_add(width).min(self.width);
            for x in (x..end).step_by(RUN) {
                self.put(x, y, &run[..RUN.min(end - x)]);
            }
        }
    }

    /// Sends off what has been gathered.
    pub fn flush(&self) {
        // What gathers writes gives them away at a full barrier.
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Description = Description {
        address: 0x8000_0000,
        length: 1024 * 600 * 4,
        width: 1000,
        height: 600,
        stride: 1024,
        format: Description::BGR,
    };

    fn refused(change: impl FnOnce(&mut Description)) -> Option<Refused> {
        let mut description = GOOD;
        change(&mut description);
        range(&description).err()
    }

    #[test]
    fn a_screen_that_lies_is_refused() {
        assert_eq!(refused(|_| {}), None);
        assert_eq!(refused(|of| of.length -= 1), Some(Refused::Length));
        assert_eq!(refused(|of| of.address = u64::MAX - 3), Some(Refused::Length));
        for size in [0, MOST + 1, u32::MAX] {
            assert_eq!(refused(|of| of.width = size), Some(Refused::Size));
            assert_eq!(refused(|of| of.height = size), Some(Refused::Size));
            assert_eq!(refused(|of| of.stride = size), Some(Refused::Size));
        }
        assert_eq!(refused(|of| of.stride = 999), Some(Refused::Size));
        assert_eq!(refused(|of| of.format = 2), Some(Refused::Format));
        assert_eq!(refused(|of| of.address += 1), Some(Refused::Format));
    }

    /// A screen of `height` lines of 8 pixels, of which `width` are seen, and its memory.
    fn screen(width: usize, height: usize, red_first: bool) -> (Framebuffer, Vec<u32>) {
        let mut memory = vec![0; 8 * (height + 1)];
        let base = NonNull::new(memory.as_mut_ptr()).unwrap();
        let screen = Framebuffer {
            base,
            width,
            height,
            stride: 8,
            red_first,
        };
        (screen, memory)
    }

    #[test]
    fn nothing_is_put_beside_the_screen() {
        let (screen, memory) = screen(5, 3, false);
        screen.put(3, 1, &[1, 2, 3, 4]);
        screen.put(0, 3, &[9; 8]);
        screen.put(5, 0, &[9; 8]);
        screen.put(usize::MAX, usize::MAX, &[9]);
        screen.fill(4, 2, usize::MAX, usize::MAX, 7);
        screen.fill(usize::MAX, 0, 3, 9, 7);
        let mut expected = vec![0; 32];
        expected[8 + 3..8 + 5].copy_from_slice(&[1, 2]);
        expected[16 + 4] = 7;
        assert_eq!(memory, expected);
    }

    #[test]
    fn colours_are_in_the_order_of_the_screen() {
        let colour = [1, 2, 3];
        assert_eq!(screen(1, 1, true).0.pixel(colour).to_le_bytes(), [1, 2, 3, 0]);
        assert_eq!(screen(1, 1, false).0.pixel(colour).to_le_bytes(), [3, 2, 1, 0]);
    }
}
