//! Terminal settings, as Linux's `asm-generic/termbits.h` lays them out (the same on both architectures).
//!
//! The kernel holds the largest form, `struct termios2`; the older `struct termios` is its head without the two speeds.

use linux_raw_sys::general as raw;
pub use raw::winsize as WindowSize;

/// How many control characters the settings have.
pub const CONTROL_CHARACTERS: usize = 19;

/// The number of the one line discipline there is (`uapi/linux/tty.h`).
const N_TTY: u8 = 0;

/// A control character that is switched off (`_POSIX_VDISABLE`), and the byte that stands in the input for an end of file.
pub const DISABLED: u8 = 0;

/// `struct termios2`: modes, control characters, speeds in bit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termios {
    /// Input modes (`ICRNL`, `IXON`, …).
    pub iflag: u32,
    /// Output modes (`OPOST`, `ONLCR`, …).
    pub oflag: u32,
    /// Control modes (`CS8`, speed code, …).
    pub cflag: u32,
    /// Local modes (`ICANON`, `ECHO`, `ISIG`, …).
    pub lflag: u32,
    /// The line discipline's number: `N_TTY`, 0.
    pub line: u8,
    /// Control characters by `V…` index.
    pub cc: [u8; CONTROL_CHARACTERS],
    /// Input speed in bit/s.
    pub ispeed: u32,
    /// Output speed in bit/s.
    pub ospeed: u32,
}

impl Default for Termios {
    /// What Linux gives a serial console: `tty_std_termios` at 115200 bit/s with `CLOCAL`.
    fn default() -> Self {
        let mut cc = [DISABLED; CONTROL_CHARACTERS];
        for (index, character) in [
            (raw::VINTR, control(b'C')),
            (raw::VQUIT, control(b'\\')),
            (raw::VERASE, 0x7f),
            (raw::VKILL, control(b'U')),
            (raw::VEOF, control(b'D')),
            (raw::VMIN, 1),
            (raw::VSTART, control(b'Q')),
            (raw::VSTOP, control(b'S')),
            (raw::VSUSP, control(b'Z')),
            (raw::VREPRINT, control(b'R')),
            (raw::VDISCARD, control(b'O')),
            (raw::VWERASE, control(b'W')),
            (raw::VLNEXT, control(b'V')),
        ] {
            cc[index as usize] = character;
        }
        Self {
            iflag: raw::ICRNL | raw::IXON,
            oflag: raw::OPOST | raw::ONLCR,
            cflag: raw::B115200 | raw::CS8 | raw::CREAD | raw::HUPCL | raw::CLOCAL,
            lflag: raw::ISIG
                | raw::ICANON
                | raw::ECHO
                | raw::ECHOE
                | raw::ECHOK
                | raw::ECHOCTL
                | raw::ECHOKE
                | raw::IEXTEN,
            line: N_TTY,
            cc,
            ispeed: 115_200,
            ospeed: 115_200,
        }
    }
}

/// The control character that a key gives together with Ctrl.
const fn control(key: u8) -> u8 {
    key ^ 0x40
}

impl Termios {
    /// Bytes of `struct termios` (`TCGETS`, `TCSETS`).
    pub const SIZE: usize = 36;
    /// Bytes of `struct termios2` (`TCGETS2`, `TCSETS2`).
    pub const SIZE2: usize = 44;

    /// Whether all of `bits` are set in the input modes.
    pub const fn input(&self, bits: u32) -> bool {
        self.iflag & bits == bits
    }

    /// Whether all of `bits` are set in the output modes.
    pub const fn output(&self, bits: u32) -> bool {
        self.oflag & bits == bits
    }

    /// Whether all of `bits` are set in the local modes.
    pub const fn local(&self, bits: u32) -> bool {
        self.lflag & bits == bits
    }

    /// The control character at a `V…` index; [`DISABLED`] where it is switched off.
    pub const fn character(&self, index: u32) -> u8 {
        self.cc[index as usize]
    }

    /// Whether `byte` is the control character at `index`, and that is not switched off.
    pub const fn is(&self, byte: u8, index: u32) -> bool {
        byte != DISABLED && byte == self.character(index)
    }

    /// Input is gathered in lines (`ICANON` without `EXTPROC`).
    pub const fn canonical(&self) -> bool {
        self.local(raw::ICANON) && !self.local(raw::EXTPROC)
    }

    /// The bytes of `struct termios2`, whose first [`Self::SIZE`] are `struct termios`.
    pub fn to_bytes(&self) -> [u8; Self::SIZE2] {
        let mut bytes = [0; Self::SIZE2];
        for (at, word) in [(0, self.iflag), (4, self.oflag), (8, self.cflag), (12, self.lflag)] {
            bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        bytes[16] = self.line;
        bytes[17..36].copy_from_slice(&self.cc);
        bytes[36..40].copy_from_slice(&self.ispeed.to_ne_bytes());
        bytes[40..44].copy_from_slice(&self.ospeed.to_ne_bytes());
        bytes
    }

    /// These settings replaced by `struct termios`; the speeds follow its speed code.
    pub fn with_termios(&self, bytes: &[u8; Self::SIZE]) -> Self {
        let mut new = *self;
        new.set_head(bytes);
        if let Some(speed) = speed_of(new.cflag & raw::CBAUD) {
            new.ospeed = speed;
            new.ispeed = speed;
        }
        new
    }

    /// The settings in a `struct termios2`; its speeds count where the speed code is `BOTHER`.
    pub fn with_termios2(&self, bytes: &[u8; Self::SIZE2]) -> Self {
        let mut new = *self;
        let mut head = [0; Self::SIZE];
        head.copy_from_slice(&bytes[..Self::SIZE]);
        new.set_head(&head);
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let code = new.cflag & raw::CBAUD;
        let speed = if code == raw::BOTHER {
            Some(word(40))
        } else {
            speed_of(code)
        };
        if let Some(speed) = speed {
            new.ospeed = speed;
            new.ispeed = if code == raw::BOTHER { word(36) } else { speed };
        }
        new
    }

    fn set_head(&mut self, bytes: &[u8; Self::SIZE]) {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        (self.iflag, self.oflag, self.cflag, self.lflag) = (word(0), word(4), word(8), word(12));
        self.line = N_TTY;
        self.cc.copy_from_slice(&bytes[17..36]);
    }
}

/// The speed in bit/s that a speed code (`B9600`, …) means; `None` for `BOTHER` and what is no code.
fn speed_of(code: u32) -> Option<u32> {
    const LOW: [u32; 16] = [
        0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400,
    ];
    const HIGH: [u32; 15] = [
        57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000,
        2_500_000, 3_000_000, 3_500_000, 4_000_000,
    ];
    match code {
        0..=15 => LOW.get(code as usize).copied(),
        _ => HIGH.get(code.checked_sub(raw::BOTHER + 1)? as usize).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_way_through_user_memory() {
        let settings = Termios {
            ispeed: 12_345,
            ospeed: 12_345,
            cflag: raw::BOTHER | raw::CS8,
            ..Termios::default()
        };
        assert_eq!(Termios::default().with_termios2(&settings.to_bytes()), settings);
    }

    #[test]
    fn the_speed_code_sets_the_speed() {
        let mut bytes = [0; Termios::SIZE];
        bytes.copy_from_slice(
            &Termios {
                cflag: raw::B9600,
                ..Termios::default()
            }
            .to_bytes()[..36],
        );
        assert_eq!(Termios::default().with_termios(&bytes).ospeed, 9600);
        assert_eq!(speed_of(raw::B115200), Some(115_200));
        assert_eq!(speed_of(raw::B4000000), Some(4_000_000));
        assert_eq!(speed_of(raw::BOTHER), None);
    }
}
