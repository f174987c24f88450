//! One CPU's section of `/proc/cpuinfo`, in the words of `arch/x86/kernel/cpu/proc.c`.

use core::{arch::x86_64::__cpuid, arch::x86_64::__cpuid_count, fmt, fmt::Write};

use raw_cpuid::CpuId;

use super::{cpuid::FEATURES, platform};
use core::sync::atomic::Ordering::Relaxed;

/// Which register of which leaf a list of names belongs to.
struct FlagWord {
    leaf: u32,
    register: Register,
    names: &'static [(u32, &'static str)],
}

enum Register {
    Ebx,
    Ecx,
    Edx,
}

/// Linux's names (`arch/x86/include/asm/cpufeatures.h`), for the features that programs look for.
const FLAGS: &[FlagWord] = &[
    FlagWord {
        leaf: 1,
        register: Register::Edx,
        names: &[
            (0, "fpu"),
            (1, "vme"),
            (2, "de"),
            (3, "pse"),
            (4, "tsc"),
            (5, "msr"),
            (6, "pae"),
            (7, "mce"),
            (8, "cx8"),
            (9, "apic"),
            (11, "sep"),
            (12, "mtrr"),
            (13, "pge"),
            (14, "mca"),
            (15, "cmov"),
            (16, "pat"),
            (17, "pse36"),
            (19, "clflush"),
            (23, "mmx"),
            (24, "fxsr"),
            (25, "sse"),
            (26, "sse2"),
            (27, "ss"),
            (28, "ht"),
        ],
    },
    FlagWord {
        leaf: 0x8000_0001,
        register: Register::Edx,
        names: &[(11, "syscall"), (20, "nx"), (26, "pdpe1gb"), (27, "rdtscp"), (29, "lm")],
    },
    FlagWord {
        leaf: 1,
        register: Register::Ecx,
        names: &[
            (0, "pni"),
            (1, "pclmulqdq"),
            (3, "monitor"),
            (9, "ssse3"),
            (12, "fma"),
            (13, "cx16"),
            (17, "pcid"),
            (19, "sse4_1"),
            (20, "sse4_2"),
            (21, "x2apic"),
            (22, "movbe"),
            (23, "popcnt"),
            (24, "tsc_deadline_timer"),
            (25, "aes"),
            (26, "xsave"),
            (28, "avx"),
            (29, "f16c"),
            (30, "rdrand"),
            (31, "hypervisor"),
        ],
    },
    FlagWord {
        leaf: 0x8000_0001,
        register: Register::Ecx,
        names: &[(0, "lahf_lm"), (5, "abm"), (6, "sse4a"), (8, "3dnowprefetch")],
    },
    FlagWord {
        leaf: 7,
        register: Register::Ebx,
        names: &[
            (0, "fsgsbase"),
            (3, "bmi1"),
            (5, "avx2"),
            (7, "smep"),
            (8, "bmi2"),
            (9, "erms"),
            (10, "invpcid"),
            (18, "rdseed"),
            (19, "adx"),
            (20, "smap"),
            (23, "clflushopt"),
            (24, "clwb"),
            (29, "sha_ni"),
        ],
    },
    FlagWord {
        leaf: 7,
        register: Register::Ecx,
        names: &[(2, "umip"), (9, "vaes"), (22, "rdpid")],
    },
];

/// Writes the section of `cpu`, whose TSC runs at `hz`.
pub(super) fn describe(cpu: u32, hz: u64, out: &mut dyn fmt::Write) -> fmt::Result {
    let cpuid = CpuId::new();
    let vendor = cpuid.get_vendor_info();
    let brand = cpuid.get_processor_brand_string();
    let (family, model, stepping) = cpuid.get_feature_info().map_or((0, 0, 0), |leaf| {
        (leaf.family_id(), leaf.model_id(), leaf.stepping_id())
    });
    let highest = __cpuid(0).eax;
    let sizes = cpuid.get_processor_capacity_feature_info();
    let apic_id = platform::get().cpus.get(cpu as usize).copied().unwrap_or(cpu);

    writeln!(out, "processor\t: {cpu}")?;
    writeln!(
        out,
        "vendor_id\t: {}",
        vendor.as_ref().map_or("unknown", |vendor| vendor.as_str())
    )?;
    writeln!(out, "cpu family\t: {family}")?;
    writeln!(out, "model\t\t: {model}")?;
    writeln!(
        out,
        "model name\t: {}",
        brand.as_ref().map_or("unknown", |brand| brand.as_str().trim())
    )?;
    writeln!(out, "stepping\t: {stepping}")?;
    writeln!(out, "cpu MHz\t\t: {}.{:03}", hz / 1_000_000, hz / 1_000 % 1_000)?;
    writeln!(out, "physical id\t: 0")?;
    writeln!(out, "siblings\t: {}", platform::get().cpus.len())?;
    writeln!(out, "core id\t\t: {cpu}")?;
    writeln!(out, "cpu cores\t: {}", platform::get().cpus.len())?;
    writeln!(out, "apicid\t\t: {apic_id}")?;
    writeln!(out, "initial apicid\t: {apic_id}")?;
    writeln!(out, "fpu\t\t: yes\nfpu_exception\t: yes")?;
    writeln!(out, "cpuid level\t: {highest}")?;
    writeln!(out, "wp\t\t: yes")?;
    out.write_str("flags\t\t:")?;
    write_flags(highest, out)?;
    out.write_str("\nbugs\t\t:\n")?;
    writeln!(out, "bogomips\t: {}.{:02}", hz / 500_000, hz / 5_000 % 100)?;
    writeln!(out, "clflush size\t: 64\ncache_alignment\t: 64")?;
    if let Some(sizes) = sizes {
        // The tables have four levels, whatever the CPU could do.
        let (physical, linear) = (sizes.physical_address_bits(), sizes.linear_address_bits().min(48));
        writeln!(out, "address sizes\t: {physical} bits physical, {linear} bits virtual")?;
    }
    out.write_str("power management:\n\n")
}

fn write_flags(highest: u32, out: &mut dyn Write) -> fmt::Result {
    let highest_extended = __cpuid(0x8000_0000).eax;
    for word in FLAGS {
        if word.leaf
            > if word.leaf < 0x8000_0000 {
                highest
            } else {
                highest_extended
            }
        {
            continue;
        }
        let leaf = __cpuid_count(word.leaf, 0);
        let bits = match word.register {
            Register::Ebx => leaf.ebx,
            Register::Ecx => leaf.ecx,
            Register::Edx => leaf.edx,
        };
        for (bit, name) in word.names {
            // XSAVE and what needs it are shown only where the kernel enabled them.
            let hidden = matches!(*name, "xsave" | "avx" | "avx2" | "fma" | "f16c" | "vaes")
                && FEATURES.xcr0.load(Relaxed) & 0b100 == 0;
            if bits >> bit & 1 != 0 && !hidden {
                write!(out, " {name}")?;
            }
        }
    }
    Ok(())
}
