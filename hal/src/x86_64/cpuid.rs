//! What the CPU can do, asked once on the boot CPU.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use raw_cpuid::{CpuId, Hypervisor};

/// The features the kernel acts on. Written once before other CPUs start; all CPUs are taken to be alike.
pub struct Features {
    /// Components for XCR0, or 0 where there is no XSAVE.
    pub xcr0: AtomicU64,
    /// Bytes that these components take when they are saved.
    pub fp_size: AtomicUsize,
    /// `MXCSR` bits that exist.
    pub mxcsr_mask: AtomicU32,
    /// `rdfsbase` and its kin.
    pub fsgsbase: AtomicBool,
    /// Supervisor-mode access prevention.
    pub smap: AtomicBool,
    /// Supervisor-mode execution prevention.
    pub smep: AtomicBool,
    /// User-mode instruction prevention.
    pub umip: AtomicBool,
    /// Machine-check exceptions.
    pub machine_check: AtomicBool,
    /// Global pages.
    pub pge: AtomicBool,
    /// 1 GiB pages.
    pub gigabyte_pages: AtomicBool,
    /// x2APIC.
    pub x2apic: AtomicBool,
    /// The TSC-deadline timer.
    pub tsc_deadline: AtomicBool,
    /// `rdrand`.
    pub rdrand: AtomicBool,
    /// `rdseed`.
    pub rdseed: AtomicBool,
    /// The TSC ticks at one rate on every CPU.
    pub steady_tsc: AtomicBool,
    /// CPUID 1 EDX, the auxiliary vector's `AT_HWCAP`.
    pub leaf1_edx: AtomicU32,
}

/// The boot CPU's features.
pub static FEATURES: Features = Features {
    xcr0: AtomicU64::new(0),
    fp_size: AtomicUsize::new(super::fp::size_with(0)),
    mxcsr_mask: AtomicU32::new(0xffbf),
    fsgsbase: AtomicBool::new(false),
    smap: AtomicBool::new(false),
    smep: AtomicBool::new(false),
    umip: AtomicBool::new(false),
    machine_check: AtomicBool::new(false),
    pge: AtomicBool::new(false),
    gigabyte_pages: AtomicBool::new(false),
    x2apic: AtomicBool::new(false),
    tsc_deadline: AtomicBool::new(false),
    rdrand: AtomicBool::new(false),
    rdseed: AtomicBool::new(false),
    steady_tsc: AtomicBool::new(false),
    leaf1_edx: AtomicU32::new(0),
};

/// The whole byte that the entry code tests before `clac`.
#[unsafe(no_mangle)]
static X86_SMAP: AtomicBool = AtomicBool::new(false);

/// Asks the CPU. Called once, by the boot CPU.
pub fn detect() {
    let cpuid = CpuId::new();
    let features = &FEATURES;
    if let Some(leaf) = cpuid.get_feature_info() {
        features.machine_check.store(leaf.has_mce(), Relaxed);
        features.pge.store(leaf.has_pge(), Relaxed);
        features.x2apic.store(leaf.has_x2apic(), Relaxed);
        features.tsc_deadline.store(leaf.has_tsc_deadline(), Relaxed);
        features.rdrand.store(leaf.has_rdrand(), Relaxed);
        if leaf.has_xsave() {
            let wanted = if leaf.has_avx() { super::fp::COMPONENTS } else { 0b11 };
            // SDM volume 2, CPUID leaf 0dh: EAX has the components XCR0 may enable.
            let offered = u64::from(core::arch::x86_64::__cpuid_count(0xd, 0).eax);
            let components = wanted & offered | 0b11;
            features.xcr0.store(components, Relaxed);
            features.fp_size.store(super::fp::size_with(components), Relaxed);
        }
    }
    if let Some(leaf) = cpuid.get_extended_feature_info() {
        features.fsgsbase.store(leaf.has_fsgsbase(), Relaxed);
        features.smap.store(leaf.has_smap(), Relaxed);
        X86_SMAP.store(leaf.has_smap(), Relaxed);
        features.smep.store(leaf.has_smep(), Relaxed);
        features.umip.store(leaf.has_umip(), Relaxed);
        features.rdseed.store(leaf.has_rdseed(), Relaxed);
    }
    if let Some(leaf) = cpuid.get_extended_processor_and_feature_identifiers() {
        features.gigabyte_pages.store(leaf.has_1gib_pages(), Relaxed);
    }
    let invariant = cpuid
        .get_advanced_power_mgmt_info()
        .is_some_and(|leaf| leaf.has_invariant_tsc());
    // Emulated and virtual CPUs derive the guest's TSC from one host counter, without saying so in CPUID.
    let emulated = matches!(hypervisor(), Some(Hypervisor::QEMU | Hypervisor::KVM));
    features.steady_tsc.store(invariant || emulated, Relaxed);
    features.leaf1_edx.store(core::arch::x86_64::__cpuid(1).edx, Relaxed);
}

/// The calling CPU's APIC identifier as it was at reset.
pub fn initial_apic_id() -> u32 {
    match CpuId::new()
        .get_extended_topology_info()
        .and_then(|mut levels| levels.next())
    {
        Some(level) if FEATURES.x2apic.load(Relaxed) => level.x2apic_id(),
        _ => core::arch::x86_64::__cpuid(1).ebx >> 24,
    }
}

/// Who runs the machine, where it is virtual and says so.
pub fn hypervisor() -> Option<Hypervisor> {
    CpuId::new().get_hypervisor_info().map(|info| info.identify())
}
