//! One virtual machine of Parallels', from its creation to its end.

use super::place::Place;
use super::tools::Tools;
use crate::disk::hdd;
use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Devices that are taken away: an empty drive hangs the firmware's boot, the others are made anew.
const UNWANTED: [&str; 4] = ["hdd", "cdrom", "fdd", "serial"];
/// More devices than any machine is made with.
const MANY: usize = 32;

/// Size of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// CPUs.
    pub cpus: u32,
    /// MiB of memory.
    pub memory: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { cpus: 4, memory: 4096 }
    }
}

/// A machine, and what it takes to handle it.
#[derive(Clone, Debug)]
pub struct Machine {
    tools: Tools,
    /// Its name in Parallels, and that of its directory.
    pub name: String,
    directory: PathBuf,
    patience: Duration,
}

/// Whether a machine could be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It stands.
    Stopped,
    /// It says that it is stopping and goes on saying so. Nothing but time helps: it has to be left alone.
    Stuck,
}

impl Machine {
    /// One that was made before.
    pub fn known(tools: &Tools, place: &Place, name: &str, patience: Duration) -> Self {
        Self {
            tools: tools.clone(),
            name: name.to_owned(),
            directory: place.directory(name),
            patience,
        }
    }

    /// Makes one without devices, under a name that was never used. `patience` is how long a machine may take to stop.
    ///
    /// # Errors
    /// A step failed; what there was of the machine has been removed.
    pub fn create(tools: &Tools, place: &Place, size: Size, patience: Duration) -> Result<Self> {
        tools.check()?;
        let machine = Self::known(tools, place, &place.fresh()?, patience);
        if let Err(error) = machine.set_up(size) {
            if let Err(left) = machine.destroy() {
                eprintln!("{left:#}");
            }
            return Err(error.context(format!("the machine {} cannot be made", machine.name)));
        }
        Ok(machine)
    }

    fn set_up(&self, size: Size) -> Result<()> {
        let create = [
            "create",
            &self.name,
            "--ostype",
            "linux",
            "--distribution",
            "linux",
            "--no-hdd",
        ];
        self.tools.prlctl(&create)?;
        self.set(&["--memsize", &size.memory.to_string()])?;
        self.set(&["--cpus", &size.cpus.to_string()])?;
        self.set(&["--efi-boot", "on"])?;
        self.delete_devices()
    }

    fn set(&self, options: &[&str]) -> Result<()> {
        self.tools
            .prlctl(&[&["set", self.name.as_str()], options].concat())
            .map(drop)
    }

    /// One call a device: names may move up when one goes, so the list is read anew each time.
    fn delete_devices(&self) -> Result<()> {
        for _ in 0..MANY {
            let Some(device) = unwanted(&self.description()?) else {
                return Ok(());
            };
            self.set(&["--device-del", &device])?;
        }
        bail!(
            "{} keeps its devices: prlctl says that it deletes them and does not",
            self.name
        )
    }

    fn description(&self) -> Result<String> {
        self.tools.prlctl(&["list", "-i", &self.name])
    }

    /// Gives a stopped machine a new disk made of an image, and a serial port. What the firmware kept from its last start goes:
    /// it may know of disks that are no more.
    ///
    /// # Errors
    /// A step failed.
    pub fn deploy(&self, image: &Path) -> Result<()> {
        let image = fs::canonicalize(image).with_context(|| format!("cannot read {}", image.display()))?;
        let bytes = fs::metadata(&image)?.len();
        self.delete_devices()?;
        self.forget_firmware()?;
        let disk = self.disk();
        hdd::remove(&disk)?;
        let disk = path(&disk)?.to_owned();
        let megabytes = format!("{}M", bytes.div_ceil(1 << 20));
        self.tools
            .disk_tool(&["create", "--hdd", &disk, "--size", &megabytes])?;
        hdd::fill(Path::new(&disk), &image)?;
        self.set(&[
            "--device-add",
            "hdd",
            "--image",
            &disk,
            "--type",
            "plain",
            "--position",
            "0",
        ])?;
        self.set(&["--device-bootorder", "hdd0"])?;
        let log = self.log();
        self.empty_log()?;
        self.set(&["--device-add", "serial", "--output", path(&log)?])?;
        // Without this the file stays empty.
        self.set(&["--device-set", "serial0", "--connect"])?;
        fs::write(self.directory.join("image"), path(&image)?)?;
        Ok(())
    }

    /// Starts a stopped machine that has a disk. Its serial log begins anew.
    ///
    /// # Errors
    /// A step failed.
    pub fn start(&self) -> Result<()> {
        self.forget_firmware()?;
        self.empty_log()?;
        self.tools.prlctl(&["start", &self.name]).map(drop)
    }

    /// What Parallels calls its state: `running`, `stopped`, `stopping`, …
    ///
    /// # Errors
    /// Parallels does not know it, or does not answer.
    pub fn state(&self) -> Result<String> {
        let line = self.tools.prlctl(&["status", &self.name])?;
        Ok(line.split_whitespace().next_back().unwrap_or_default().to_owned())
    }

    /// Stops it at once, whatever it does.
    ///
    /// # Errors
    /// Parallels does not know it, or does not answer.
    pub fn stop(&self) -> Result<Stop> {
        if self.state()? == "stopped" {
            return Ok(Stop::Stopped);
        }
        // What counts is the state that comes of it.
        let killed = self.tools.prlctl(&["stop", &self.name, "--kill"]);
        let start = Instant::now();
        loop {
            let state = self.state()?;
            match state.as_str() {
                "stopped" => return Ok(Stop::Stopped),
                _ if start.elapsed() < self.patience => thread::sleep(self.patience / 20),
                "stopping" => return Ok(Stop::Stuck),
                _ => {
                    killed?;
                    bail!("{} does not stop, it is {state}", self.name)
                }
            }
        }
    }

    /// Stops and deletes it. Its serial log stays.
    ///
    /// # Errors
    /// It is left behind, with what to do about it.
    pub fn destroy(&self) -> Result<()> {
        let deleted = self.stop().and_then(|stop| match stop {
            Stop::Stopped => self.tools.prlctl(&["delete", &self.name]).map(drop),
            Stop::Stuck => bail!("it is stuck in \"stopping\""),
        });
        // Its copy of the image is of no use without it.
        let removed = hdd::remove(&self.disk());
        deleted.with_context(|| {
            format!(
                "{0} is abandoned: when it has stopped, or after a restart of Parallels Desktop, type: prlctl delete {0}",
                self.name
            )
        })?;
        removed
    }

    /// Writes a picture of its screen.
    ///
    /// # Errors
    /// Parallels makes none.
    pub fn screenshot(&self, file: &Path) -> Result<()> {
        self.tools
            .prlctl(&["capture", &self.name, "--file", path(file)?])
            .map(drop)
    }

    /// The file that its serial port writes.
    pub fn log(&self) -> PathBuf {
        self.directory.join("serial.log")
    }

    /// The image that its disk was made of, if it has one.
    pub fn image(&self) -> Option<PathBuf> {
        fs::read_to_string(self.directory.join("image")).ok().map(PathBuf::from)
    }

    fn disk(&self) -> PathBuf {
        self.directory.join(&self.name).with_extension("hdd")
    }

    fn empty_log(&self) -> Result<()> {
        let log = self.log();
        fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))
    }

    fn forget_firmware(&self) -> Result<()> {
        let usual = || {
            let home = env::home_dir().unwrap_or_default();
            home.join("Parallels").join(format!("{}.pvm", self.name))
        };
        let memory = home(&self.description()?).unwrap_or_else(usual).join("NVRAM.dat");
        match fs::remove_file(&memory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", memory.display()))
            }
            _ => Ok(()),
        }
    }
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| {
        format!(
            "{} is no path that can be told to Parallels: it is not UTF-8",
            path.display()
        )
    })
}

/// The first device that has to go, in what `prlctl list -i` prints: a device's line is indented and begins with its name.
fn unwanted(description: &str) -> Option<String> {
    let names = description.lines().filter_map(|line| line.split_whitespace().next());
    let is_unwanted = |name: &&str| {
        let kind = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        kind.len() < name.len() && UNWANTED.contains(&kind)
    };
    names.filter(|name| is_unwanted(name)).map(str::to_owned).next()
}

/// The machine's own directory, in what `prlctl list -i` prints.
fn home(description: &str) -> Option<PathBuf> {
    let place = description.lines().find_map(|line| line.trim().strip_prefix("Home:"))?;
    Some(place.trim()).filter(|place| !place.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod unit {
    use super::*;

    const DESCRIPTION: &str = "INFO\nName: breenix-1\nState: stopped\nHome: /Users/me/Parallels/breenix 1.pvm/\nBoot order: hdd0 cdrom0 \n\
        Hardware:\n  cpu cpus=4\n  memory 4096Mb\n  cdrom0 (+) sata:0 image=''\n  net0 (+) type=shared\n  serial0 (+) real=''\n";

    #[test]
    fn devices_are_read_from_their_own_lines() {
        assert_eq!(unwanted(DESCRIPTION).as_deref(), Some("cdrom0"));
        assert_eq!(
            unwanted(&DESCRIPTION.replace("  cdrom0", "  sound0")).as_deref(),
            Some("serial0")
        );
        assert_eq!(unwanted("Hardware:\n  cpu cpus=4\n  serial\n  hdd_list\n"), None);
    }

    #[test]
    fn its_home_may_have_blanks() {
        assert_eq!(
            home(DESCRIPTION).unwrap(),
            Path::new("/Users/me/Parallels/breenix 1.pvm/")
        );
        assert_eq!(home("Hardware:\n"), None);
    }
}
