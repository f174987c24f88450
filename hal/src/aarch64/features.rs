//! What the CPU can do: `AT_HWCAP`, `/proc/cpuinfo`, and the identification registers as programs see them.
//!
//! One table decides: a feature listed there is in `AT_HWCAP` and visible in its register's field; anything else is
//! hidden from both. Linux does the same (`arch/arm64/kernel/cpufeature.c`; bits in `asm/hwcap.h`).

use core::fmt::{self, Write};

use super::sysreg::read_sysreg;
use super::{percpu, timer::Timer};
use crate::traits::TimerOps;

/// The identification registers that programs may see anything of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Register {
    Isar0,
    Isar1,
    Pfr0,
    Pfr1,
    Mmfr0,
    Mmfr2,
}

impl Register {
    fn read(self) -> u64 {
        match self {
            Self::Isar0 => read_sysreg!("id_aa64isar0_el1"),
            Self::Isar1 => read_sysreg!("id_aa64isar1_el1"),
            Self::Pfr0 => read_sysreg!("id_aa64pfr0_el1"),
            Self::Pfr1 => read_sysreg!("id_aa64pfr1_el1"),
            Self::Mmfr0 => read_sysreg!("id_aa64mmfr0_el1"),
            Self::Mmfr2 => read_sysreg!("S3_0_C0_C7_2"),
        }
    }
}

/// A feature: the register field that shows it from `least` on, its bit in `AT_HWCAP` (64 and up: `AT_HWCAP2`), its
/// name.
struct Feature(Register, u32, u64, u32, &'static str);

use Register::{Isar0, Isar1, Mmfr0, Mmfr2, Pfr0, Pfr1};

/// The bit of `HWCAP_CPUID`.
const CPUID: u32 = 11;

/// In the order of `/proc/cpuinfo`. FP and ASIMD are handled apart: their field counts from -1.
const FEATURES: [Feature; 36] = [
    Feature(Isar0, 4, 1, 3, "aes"),
    Feature(Isar0, 4, 2, 4, "pmull"),
    Feature(Isar0, 8, 1, 5, "sha1"),
    Feature(Isar0, 12, 1, 6, "sha2"),
    Feature(Isar0, 16, 1, 7, "crc32"),
    Feature(Isar0, 20, 2, 8, "atomics"),
    Feature(Pfr0, 16, 1, 9, "fphp"),
    Feature(Pfr0, 20, 1, 10, "asimdhp"),
    Feature(Pfr0, 4, 1, CPUID, "cpuid"), // always there: the kernel emulates it
    Feature(Isar0, 28, 1, 12, "asimdrdm"),
    Feature(Isar1, 12, 1, 13, "jscvt"),
    Feature(Isar1, 16, 1, 14, "fcma"),
    Feature(Isar1, 20, 1, 15, "lrcpc"),
    Feature(Isar1, 0, 1, 16, "dcpop"),
    Feature(Isar0, 32, 1, 17, "sha3"),
    Feature(Isar0, 36, 1, 18, "sm3"),
    Feature(Isar0, 40, 1, 19, "sm4"),
    Feature(Isar0, 44, 1, 20, "asimddp"),
    Feature(Isar0, 12, 2, 21, "sha512"),
    Feature(Isar0, 48, 1, 23, "asimdfhm"),
    Feature(Pfr0, 48, 1, 24, "dit"),
    Feature(Mmfr2, 32, 1, 25, "uscat"),
    Feature(Isar1, 20, 2, 26, "ilrcpc"),
    Feature(Isar0, 52, 1, 27, "flagm"),
    Feature(Pfr1, 4, 2, 28, "ssbs"),
    Feature(Isar1, 36, 1, 29, "sb"),
    Feature(Isar1, 0, 2, 64, "dcpodp"),
    Feature(Isar0, 52, 2, 64 + 7, "flagm2"),
    Feature(Isar1, 32, 1, 64 + 8, "frint"),
    Feature(Isar1, 52, 1, 64 + 13, "i8mm"),
    Feature(Isar1, 44, 1, 64 + 14, "bf16"),
    Feature(Isar1, 48, 1, 64 + 15, "dgh"),
    Feature(Isar0, 60, 1, 64 + 16, "rng"),
    Feature(Mmfr0, 60, 1, 64 + 19, "ecv"),
    // No bit of their own: fields that go with features above, shown whole.
    Feature(Pfr0, 16, 0, u32::MAX, ""),
    Feature(Pfr0, 20, 0, u32::MAX, ""),
];

const HWCAP_FP: u64 = 1 << 0;
const HWCAP_ASIMD: u64 = 1 << 1;

fn present(feature: &Feature) -> bool {
    let field = feature.0.read() >> feature.1 & 0xf;
    let counts_from_minus_one = feature.0 == Pfr0 && feature.1 <= 20;
    field >= feature.2 && !(counts_from_minus_one && field == 0xf)
}

/// `AT_HWCAP` and `AT_HWCAP2`.
pub(super) fn hwcap() -> (u64, u64) {
    let mut words = [0, 0];
    let pfr0 = Pfr0.read();
    if pfr0 >> 16 & 0xf != 0xf {
        words[0] |= HWCAP_FP;
    }
    if pfr0 >> 20 & 0xf != 0xf {
        words[0] |= HWCAP_ASIMD;
    }
    for feature in FEATURES.iter().filter(|feature| feature.3 < 128 && present(feature)) {
        words[feature.3 as usize / 64] |= 1 << (feature.3 % 64);
    }
    (words[0], words[1])
}

/// A register as programs see it: the fields of the table's features, the rest zero.
fn visible(register: Register) -> u64 {
    let shown = FEATURES
        .iter()
        .filter(|feature| feature.0 == register && feature.3 != CPUID);
    register.read() & shown.fold(0, |mask, feature| mask | 0xf << feature.1)
}

/// What `MRS` of the register `op0=3, op1=0, CRn=0, CRm, op2` gives a program; `None` where the instruction is illegal.
pub(super) fn emulated_register(crm: u64, op2: u64) -> Option<u64> {
    Some(match (crm, op2) {
        (0, 0) => read_sysreg!("midr_el1"),
        (0, 5) => 1 << 31, // MPIDR_EL1: no affinity shown
        (0, 6) => read_sysreg!("revidr_el1"),
        (0, _) => return None,
        (4, 0) => visible(Pfr0) | 0x11, // EL0 and EL1: 64-bit only
        (4, 1) => visible(Pfr1),
        (5, 0) => 6, // ID_AA64DFR0_EL1: Armv8 debug, nothing optional
        (6, 0) => visible(Isar0),
        (6, 1) => visible(Isar1),
        (7, 0) => visible(Mmfr0) | 0xff << 24, // no granule shown
        (7, 2) => visible(Mmfr2),
        (1..8, _) => 0,
        _ => return None,
    })
}

/// One CPU's section of `/proc/cpuinfo` (`arch/arm64/kernel/cpuinfo.c`).
pub(super) fn describe(cpu: u32, out: &mut dyn Write) -> fmt::Result {
    let midr = percpu::midr(cpu);
    let bogo = Timer::frequency_hz() * 2 / 10_000;
    writeln!(out, "processor\t: {cpu}")?;
    writeln!(out, "BogoMIPS\t: {}.{:02}", bogo / 100, bogo % 100)?;
    write!(out, "Features\t:")?;
    let (first, _) = hwcap();
    for (bit, name) in [(HWCAP_FP, "fp"), (HWCAP_ASIMD, "asimd")] {
        if first & bit != 0 {
            write!(out, " {name}")?;
        }
    }
    for feature in FEATURES.iter().filter(|feature| feature.3 < 128 && present(feature)) {
        write!(out, " {}", feature.4)?;
    }
    writeln!(out)?;
    writeln!(out, "CPU implementer\t: {:#04x}", midr >> 24)?;
    writeln!(out, "CPU architecture: 8")?;
    writeln!(out, "CPU variant\t: {:#x}", midr >> 20 & 0xf)?;
    writeln!(out, "CPU part\t: {:#05x}", midr >> 4 & 0xfff)?;
    writeln!(out, "CPU revision\t: {}", midr & 0xf)?;
    writeln!(out)
}

/// `RNDR` (FEAT_RNG), if the CPU has it and delivers.
pub(super) fn random() -> Option<u64> {
    if Isar0.read() >> 60 & 0xf == 0 {
        return None;
    }
    let (value, failed): (u64, u64);
    // SAFETY: reads a register that the CPU has; it sets Z on failure.
    unsafe {
        core::arch::asm!("mrs {}, S3_3_C2_C4_0", "cset {}, eq", out(reg) value, out(reg) failed, options(nomem, nostack));
    }
    (failed == 0).then_some(value)
}
