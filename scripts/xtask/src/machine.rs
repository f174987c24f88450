//! A QEMU machine: the command line for one guest.

use crate::accelerator::Accelerator;
use crate::arch::Arch;
use crate::image;
use crate::initramfs;
use crate::project::{self, Profile};
use crate::uefi::UefiDisk;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How the guest's serial port is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// To this terminal, which QEMU puts into raw mode; ^C goes to the guest, `ctrl-a x` ends QEMU.
    Terminal,
    /// To QEMU's standard input and output, which are pipes.
    Pipe,
}

/// What is booted: made once, booted as often as wanted.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The architecture.
    pub arch: Arch,
    /// The kernel's ELF file, with symbols.
    pub elf: PathBuf,
    /// What QEMU's `-kernel` gets: the ELF file or the flat image made of it.
    pub image: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The directory whose tree that is, if it is not ours.
    pub tree: Option<PathBuf>,
    /// The build id that the guest must print.
    pub build_id: String,
}

impl Boot {
    /// Builds kernel and initramfs.
    ///
    /// # Errors
    /// A build failed.
    pub fn build(arch: Arch, profile: Profile) -> Result<Self> {
        Self::from_elf(arch, &project::build_kernel(arch, profile)?)
    }

    /// Makes image and initramfs for a kernel that is built already.
    ///
    /// # Errors
    /// The file is no kernel of this architecture, or the user programs do not build.
    pub fn from_elf(arch: Arch, elf: &Path) -> Result<Self> {
        let bytes = fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
        let build_id = image::build_id(&bytes)?;
        let image = match arch {
            Arch::X86_64 => elf.to_owned(),
            Arch::Aarch64 => {
                let flat = image::flatten(&bytes)?;
                image::check_arm64_header(&flat)?;
                let path = elf.with_file_name("Image");
                initramfs::write_atomically(&path, &flat)?;
                path
            }
        };
        Ok(Self {
            arch,
            elf: elf.to_owned(),
            image,
            initramfs: initramfs::build(arch, elf)?,
            tree: None,
            build_id,
        })
    }

    /// The same with the tree in `directory` as its root file system.
    ///
    /// # Errors
    /// It cannot be read or packed.
    pub fn with_tree(mut self, directory: &Path) -> Result<Self> {
        self.initramfs = initramfs::build_of(self.arch, &self.elf, directory)?;
        self.tree = Some(directory.to_owned());
        Ok(self)
    }
}

/// Where a guest that boots from a disk has its root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// In memory, unpacked from the initramfs.
    Initramfs,
    /// On the disk's second partition.
    Partition,
}

/// A machine to boot on.
#[derive(Clone, Debug)]
pub struct Machine {
    /// CPUs.
    pub cpus: u32,
    /// Memory, as QEMU's `-m` takes it.
    pub memory: String,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// Whether a nanosecond passes for every instruction, and only then, all CPUs taking turns: with emulation alone.
    pub counted: bool,
    /// Words added to the kernel's command line.
    pub words: Vec<String>,
    /// Serial port.
    pub console: Console,
    /// Where QEMU listens for a monitor connection.
    pub monitor: Option<PathBuf>,
    /// Where QEMU writes what instructions it translates, and by the monitor's command `log` what else it is told to.
    pub log: Option<PathBuf>,
    /// Whether QEMU waits for gdb.
    pub debugger: Debugger,
    /// What becomes of QEMU's own messages.
    pub messages: Messages,
    /// The version of aarch64's interrupt controller: 2, or 3 with its ITS.
    pub gic: u32,
    /// QEMU's name of the CPU under emulation; the one with everything if there is none.
    pub processor: Option<&'static str>,
    /// Whether there is a screen, which firmware sets up. Nobody sees it but by the monitor.
    pub screen: bool,
    /// QEMU's arguments for further devices.
    pub devices: Vec<String>,
    /// The disk that firmware boots from; QEMU loads the kernel itself if there is none.
    pub uefi: Option<UefiDisk>,
}

/// What becomes of QEMU's own messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    /// They go to standard error.
    Shown,
    /// Nobody sees them: the boot is a question, and no is an answer.
    Hidden,
}

/// Whether a debugger is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Debugger {
    /// The guest starts at once.
    None,
    /// QEMU listens on TCP port 1234 and the guest waits for it.
    Gdb,
    /// The same, at a socket.
    At(PathBuf),
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            cpus: 4,
            memory: "1G".to_owned(),
            accelerator: Accelerator::Tcg,
            counted: false,
            words: Vec::new(),
            console: Console::Pipe,
            monitor: None,
            log: None,
            debugger: Debugger::None,
            messages: Messages::Shown,
            gic: 2,
            processor: None,
            screen: false,
            devices: Vec::new(),
            uefi: None,
        }
    }
}

impl Machine {
    /// The QEMU call that boots `boot`.
    pub fn command(&self, boot: &Boot) -> Command {
        // Lets tests put a program of their own in QEMU's place.
        let program = std::env::var_os("BREENIX_QEMU").unwrap_or_else(|| boot.arch.qemu().into());
        let mut qemu = Command::new(program);
        let cpu = match self.accelerator {
            Accelerator::Tcg => self.processor.unwrap_or("max"),
            _ => "host",
        };
        match boot.arch {
            Arch::Aarch64 => {
                qemu.args(["-M", &format!("virt,gic-version={}", self.gic), "-cpu", cpu]);
                if self.accelerator == Accelerator::Tcg {
                    qemu.args(["-semihosting-config", "enable=on,target=native"]);
                }
            }
            Arch::X86_64 => {
                // Counted, each byte of a `rep movsb` is an instruction, which it is on no machine: without these two kernels
                // copy by words, as ours does and every one does on Arm.
                let less = if self.counted { ",-erms,-fsrm" } else { "" };
                qemu.args(["-M", "q35", "-cpu", &format!("{cpu}{less}")]);
                qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
            }
        }
        if self.counted {
            qemu.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]);
            // What is random and what time it is come out the same each time.
            qemu.args(["-seed", "1", "-rtc", "base=2026-01-01T00:00:00,clock=vm"]);
        } else {
            qemu.args(["-accel", self.accelerator.qemu_argument()]);
        }
        qemu.args(["-smp", &self.cpus.to_string(), "-m", &self.memory]);
        qemu.args(["-display", "none", "-nodefaults", "-no-reboot"]);
        if self.screen {
            match boot.arch {
                Arch::Aarch64 => qemu.args(["-device", "ramfb"]),
                Arch::X86_64 => qemu.args(["-vga", "std"]),
            };
        }
        match self.console {
            Console::Terminal => {
                qemu.args(["-chardev", "stdio,id=console,mux=on,signal=off"]);
                qemu.args(["-mon", "chardev=console,mode=readline"]);
            }
            Console::Pipe => _ = qemu.args(["-chardev", "stdio,id=console,signal=off"]),
        }
        qemu.args(["-serial", "chardev:console"]);
        if let Some(path) = &self.monitor {
            qemu.arg("-qmp")
                .arg(format!("unix:{},server=on,wait=off", path.display()));
        }
        if let Some(path) = &self.log {
            // Blocks that go on in another without coming back would not be logged each time.
            qemu.args(["-d", "in_asm,nochain", "-D"]).arg(path);
        }
        if self.messages == Messages::Hidden {
            qemu.stderr(Stdio::null());
        }
        match &self.debugger {
            Debugger::None => {}
            Debugger::Gdb => _ = qemu.args(["-gdb", "tcp::1234", "-S"]),
            Debugger::At(path) => {
                qemu.arg("-chardev")
                    .arg(format!("socket,id=debugger,path={},server=on,wait=off", path.display()));
                qemu.args(["-gdb", "chardev:debugger", "-S"]);
            }
        }
        qemu.args(&self.devices);
        match &self.uefi {
            Some(disk) => _ = qemu.args(disk.arguments()),
            None => {
                qemu.arg("-kernel").arg(&boot.image).arg("-initrd").arg(&boot.initramfs);
                qemu.args(["-append", &self.command_line(boot.arch)]);
            }
        }
        qemu
    }

    /// Tells the guest the size of its terminal.
    pub fn set_window(&mut self, rows: u16, columns: u16) {
        self.words.insert(0, format!("COLUMNS={columns}"));
        self.words.insert(0, format!("LINES={rows}"));
    }

    /// The kernel's command line.
    pub fn command_line(&self, arch: Arch) -> String {
        let exit = match (arch, self.accelerator) {
            // Semihosting exists under emulation only.
            (Arch::Aarch64, Accelerator::Kvm | Accelerator::Hvf) => "exit=psci",
            _ => arch.exit_word(),
        };
        let words = self.words.iter().map(String::as_str);
        [exit].into_iter().chain(words).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn arguments(arch: Arch, machine: &Machine) -> String {
        let boot = Boot {
            arch,
            elf: "kernel".into(),
            image: "image".into(),
            initramfs: "cpio".into(),
            tree: None,
            build_id: String::new(),
        };
        let command = machine.command(&boot);
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_exit_device_matches_the_command_line() {
        let machine = Machine {
            words: vec!["quiet".into()],
            ..Machine::default()
        };
        let arm = arguments(Arch::Aarch64, &machine);
        assert!(
            arm.contains("-semihosting-config enable=on") && arm.ends_with("-append exit=semihosting quiet"),
            "{arm}"
        );
        let x86 = arguments(Arch::X86_64, &machine);
        assert!(
            x86.contains("isa-debug-exit,iobase=0xf4") && x86.ends_with("-append exit=isa-debug-exit quiet"),
            "{x86}"
        );
    }

    #[test]
    fn semihosting_is_left_to_emulation() {
        let machine = Machine {
            accelerator: Accelerator::Hvf,
            ..Machine::default()
        };
        let arm = arguments(Arch::Aarch64, &machine);
        assert!(!arm.contains("semihosting") && arm.contains("exit=psci"), "{arm}");
    }

    #[test]
    fn only_a_terminal_gets_the_monitor_on_its_serial_port() {
        let terminal = Machine {
            console: Console::Terminal,
            ..Machine::default()
        };
        assert!(arguments(Arch::X86_64, &terminal).contains("mux=on,signal=off"));
        assert!(!arguments(Arch::X86_64, &Machine::default()).contains("mux"));
    }
}
