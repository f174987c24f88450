//! What is remembered between calls, in `target/parallels`:
//!
//! | path | what |
//! |---|---|
//! | `current` | the name of the machine that subcommands mean |
//! | `<name>/serial.log` | what it printed |
//! | `<name>/<name>.hdd` | its disk |
//! | `<name>/image` | the path of the image that the disk was made of |

use crate::project;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// The directory.
#[derive(Clone, Debug)]
pub struct Place(PathBuf);

impl Place {
    /// The build's.
    pub fn new() -> Self {
        Self(project::target_dir().join("parallels"))
    }

    /// Another.
    #[cfg(test)]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// A directory for a machine that never was, and whose name it is. A name is never used again: a machine that is stuck
    /// holds on to its own.
    ///
    /// # Errors
    /// Nothing can be made there.
    pub fn fresh(&self) -> Result<String> {
        fs::create_dir_all(&self.0).with_context(|| format!("cannot make {}", self.0.display()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for number in now.as_millis().. {
            let name = format!("breenix-{number}");
            match fs::create_dir(self.directory(&name)) {
                Ok(()) => return Ok(name),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make {}", self.0.display())),
            }
        }
        bail!("no name is left")
    }

    /// The directory of one machine.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The machine that is meant, if there is one.
    pub fn current(&self) -> Option<String> {
        let name = fs::read_to_string(self.0.join("current")).ok()?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    }

    /// Makes this, or none, the machine that is meant.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn remember(&self, name: Option<&str>) -> Result<()> {
        let path = self.0.join("current");
        let done = match name {
            Some(name) => fs::write(&path, format!("{name}\n")),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                done => done,
            },
        };
        done.with_context(|| format!("cannot write {}", path.display()))
    }
}
