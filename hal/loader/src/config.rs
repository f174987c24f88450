//! The configuration: a text file beside the kernel.
//!
//! ```text
//! # comment
//! kernel = breenix/kernel
//! initramfs = breenix/initramfs
//! build = 0123456789abcdef0123456789abcdef01234567
//! cmdline = quiet init=/bin/sh
//! ```
//!
//! One `key = value` on a line; `kernel` is required, every key stands once at most. Paths are from the root of the
//! partition that the loader came from. `build` is the kernel's build id and must then agree with the file's.

use alloc::string::String;
use core::fmt;

/// Where the loader looks for the file.
pub const PATH: &str = "breenix/breenix.cfg";

/// Bytes of the file, at most.
pub const MOST: u64 = 64 << 10;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The kernel's path.
    pub kernel: String,
    /// The initramfs's path.
    pub initramfs: Option<String>,
    /// The build id that the kernel must have.
    pub build: Option<[u8; 20]>,
    /// The kernel's command line.
    pub command_line: String,
}

/// What is wrong with the file, and in which line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Neither empty nor a comment nor `key = value`.
    NoAssignment(usize),
    /// A key that nobody knows.
    UnknownKey(usize, String),
    /// A key that stood before.
    Twice(usize, String),
    /// The value is no path, or no build id.
    BadValue(usize, String),
    /// The file names no kernel.
    NoKernel,
    /// The file is not UTF-8.
    NoText,
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAssignment(line) => write!(out, "line {line}: no \"key = value\""),
            Self::UnknownKey(line, key) => write!(out, "line {line}: unknown key \"{key}\""),
            Self::Twice(line, key) => write!(out, "line {line}: a second \"{key}\""),
            Self::BadValue(line, key) => write!(out, "line {line}: \"{key}\" cannot have this value"),
            Self::NoKernel => out.write_str("it names no kernel"),
            Self::NoText => out.write_str("it is no UTF-8 text"),
        }
    }
}

impl Config {
    /// Reads the file's content.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn parse(content: &[u8]) -> Result<Self, Error> {
        let text = core::str::from_utf8(content).map_err(|_| Error::NoText)?;
        // Editors on some systems begin a text so.
        let text = text.trim_start_matches('\u{feff}');
        let mut config = Self::default();
        let mut seen = [false; 4];
        for (line, content) in (1..).zip(text.lines().map(str::trim)) {
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let (key, value) = content.split_once('=').ok_or(Error::NoAssignment(line))?;
            config.set(line, key.trim(), value.trim(), &mut seen)?;
        }
        if config.kernel.is_empty() {
            return Err(Error::NoKernel);
        }
        Ok(config)
    }

    fn set(&mut self, line: usize, key: &str, value: &str, seen: &mut [bool; 4]) -> Result<(), Error> {
        let bad = || Error::BadValue(line, key.into());
        let path = || path(value).ok_or_else(bad);
        let place = match key {
            "kernel" => {
                self.kernel = path()?;
                0
            }
            "initramfs" => {
                self.initramfs = Some(path()?);
                1
            }
            "build" => {
                self.build = Some(build_id(value).ok_or_else(bad)?);
                2
            }
            "cmdline" => {
                self.command_line = value.into();
                3
            }
            _ => return Err(Error::UnknownKey(line, key.into())),
        };
        if core::mem::replace(&mut seen[place], true) {
            return Err(Error::Twice(line, key.into()));
        }
        Ok(())
    }
}

/// A path by firmware's separator.
fn path(value: &str) -> Option<String> {
    let sound = !value.is_empty() && value.chars().all(|c| !c.is_control());
    sound.then(|| value.replace('/', "\\"))
}

/// Twenty bytes in hexadecimal.
pub fn build_id(text: &str) -> Option<[u8; 20]> {
    let text = text.as_bytes();
    if text.len() != 40 {
        return None;
    }
    let mut id = [0; 20];
    for (byte, digits) in id.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn everything_is_read() {
        let config = Config::parse(
            b"# a comment\r\nkernel = breenix/kernel\n\ninitramfs=breenix/initramfs\n\
              build = 000102030405060708090a0b0c0d0e0f10111213\n cmdline = quiet x=a=b \n",
        )
        .unwrap();
        assert_eq!(config.kernel, "breenix\\kernel");
        assert_eq!(config.initramfs.as_deref(), Some("breenix\\initramfs"));
        assert_eq!(config.build.map(|id| id[19]), Some(0x13));
        assert_eq!(config.command_line, "quiet x=a=b");
    }

    #[test]
    fn faults_name_their_line() {
        for (text, message) in [
            ("kernel = k\nnonsense", "line 2: no \"key = value\""),
            ("kernel = k\nkernal = k", "line 2: unknown key \"kernal\""),
            ("kernel = k\nkernel = l", "line 2: a second \"kernel\""),
            ("kernel =", "line 1: \"kernel\" cannot have this value"),
            ("build = 12", "line 1: \"build\" cannot have this value"),
            (
                "build = 000102030405060708090a0b0c0d0e0f1011121g",
                "line 1: \"build\" cannot have this value",
            ),
            ("", "it names no kernel"),
        ] {
            assert_eq!(Config::parse(text.as_bytes()).unwrap_err().to_string(), message);
        }
        assert_eq!(Config::parse(&[0xff]), Err(Error::NoText));
    }
}
