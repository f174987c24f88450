//! What differs between the two architectures, as seen from the host: targets, QEMU's names, how a guest's status comes out.

use clap::ValueEnum;

/// An architecture the kernel is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// 64-bit Arm, on QEMU's `virt` machine.
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
    /// x86-64, on QEMU's `q35` machine.
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
}

impl Arch {
    /// Both, in the order in which reports name them.
    pub const ALL: [Self; 2] = [Self::Aarch64, Self::X86_64];

    /// The architecture this tool runs on; x86-64 where that is neither.
    pub fn host() -> Self {
        if std::env::consts::ARCH == "aarch64" {
            Self::Aarch64
        } else {
            Self::X86_64
        }
    }

    /// Its name in command lines and paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::X86_64 => "x86_64",
        }
    }

    /// The kernel's target triple.
    pub fn kernel_target(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-none-softfloat",
            Self::X86_64 => "x86_64-unknown-none",
        }
    }

    /// The loader's target triple.
    pub fn uefi_target(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-uefi",
            Self::X86_64 => "x86_64-unknown-uefi",
        }
    }

    /// Where firmware looks for a loader on a disk that it knows nothing of (UEFI 2.10, section 3.5.1.1).
    pub fn uefi_path(self) -> &'static str {
        match self {
            Self::Aarch64 => "EFI/BOOT/BOOTAA64.EFI",
            Self::X86_64 => "EFI/BOOT/BOOTX64.EFI",
        }
    }

    /// QEMU's system emulator.
    pub fn qemu(self) -> &'static str {
        match self {
            Self::Aarch64 => "qemu-system-aarch64",
            Self::X86_64 => "qemu-system-x86_64",
        }
    }

    /// The kernel command-line word that says how the guest hands its status to QEMU.
    pub fn exit_word(self) -> &'static str {
        match self {
            Self::Aarch64 => "exit=semihosting",
            Self::X86_64 => "exit=isa-debug-exit",
        }
    }

    /// What QEMU's exit code says about the guest.
    ///
    /// Semihosting's `SYS_EXIT` makes the status QEMU's own. `isa-debug-exit` yields `status << 1 | 1`, of which 8 bits
    /// survive; an even code is QEMU's own, and 0 means that the guest was reset or powered off without a status.
    pub fn guest_exit(self, code: i32) -> GuestExit {
        match (self, code) {
            (Self::Aarch64, status) => GuestExit::Status(status),
            (Self::X86_64, 0) => GuestExit::WithoutStatus,
            (Self::X86_64, code) if code & 1 == 1 => GuestExit::Status(code >> 1),
            (Self::X86_64, code) => GuestExit::Emulator(code),
        }
    }
}

/// Which guests a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Archs {
    /// Of one architecture.
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
    /// Of the other.
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    /// Of each in turn.
    Both,
}

impl Archs {
    /// Each of them.
    pub fn all(self) -> Vec<Arch> {
        match self {
            Self::Aarch64 => vec![Arch::Aarch64],
            Self::X86_64 => vec![Arch::X86_64],
            Self::Both => Arch::ALL.to_vec(),
        }
    }
}

/// How a guest came to its end, read from QEMU's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestExit {
    /// The guest handed out this status.
    Status(i32),
    /// The machine was reset or powered off and no status was handed out.
    WithoutStatus,
    /// QEMU itself failed with this code.
    Emulator(i32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isa_debug_exit_is_mapped_back() {
        assert_eq!(Arch::X86_64.guest_exit(1), GuestExit::Status(0));
        assert_eq!(Arch::X86_64.guest_exit(101 << 1 | 1), GuestExit::Status(101));
        assert_eq!(Arch::X86_64.guest_exit(0), GuestExit::WithoutStatus);
        assert_eq!(Arch::X86_64.guest_exit(2), GuestExit::Emulator(2));
    }

    #[test]
    fn semihosting_status_is_qemu_s() {
        assert_eq!(Arch::Aarch64.guest_exit(0), GuestExit::Status(0));
        assert_eq!(Arch::Aarch64.guest_exit(101), GuestExit::Status(101));
    }
}
