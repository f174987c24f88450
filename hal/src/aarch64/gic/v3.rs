//! GICv3: the CPU interface is system registers, and each CPU has a redistributor for its private lines (Arm IHI
//! 0069H).

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use arrayvec::ArrayVec;

use super::super::constants::DEVICE_WINDOW;
use super::super::percpu::PerCpu;
use super::super::sysreg::{instruction, read_sysreg, write_sysreg};
use super::{FIRST_SHARED, PRIORITY_MASK, Registers, distributor, its};
use crate::MAX_CPUS;
use crate::addr::PhysAddr;
use crate::boot_info::PhysRange;
use crate::traits::PerCpuOps;

/// `GICD_CTLR` bits with affinity routing: group 1 (non-secure view: bit 1), affinity routing, register write pending.
const ENABLE_GROUP_1: u32 = 1 << 1;
const AFFINITY_ROUTING: u32 = 1 << 4;
const WRITE_PENDING: u32 = 1 << 31;
/// `GICD_IROUTER<n>`: the affinity of the CPU that gets line n.
const ROUTER: usize = 0x6000;
/// Redistributor registers: its first frame, and the second with the private lines' registers, laid out as the
/// distributor's.
const REDISTRIBUTOR_TYPE: usize = 0x08;
const REDISTRIBUTOR_WAKER: usize = 0x14;
const PRIVATE_FRAME: usize = 0x1_0000;
const PROCESSOR_SLEEP: u32 = 1 << 1;
const CHILDREN_ASLEEP: u32 = 1 << 2;

pub(super) struct Gic {
    distributor: Registers,
    /// The redistributor frames of all CPUs, in mapped regions.
    regions: ArrayVec<(Registers, usize), MAX_CPUS>,
    /// Each CPU's redistributor, null until it has been set up.
    redistributors: [AtomicPtr<u8>; MAX_CPUS],
    /// Each CPU's affinity as `MPIDR_EL1` has it.
    affinities: [AtomicU64; MAX_CPUS],
    /// The memory for LPIs, where there is anything that sends them.
    lpis: Option<its::Memory>,
    /// CPUs that take LPIs.
    takes_lpis: AtomicU64,
    /// Regions of redistributors that firmware names and that do not answer.
    pub(super) silent: usize,
}

impl Gic {
    pub(super) fn new(registers: Registers, regions: &[PhysRange]) -> Self {
        registers.write(distributor::CONTROL, 0);
        wait_for_writes(registers);
        let lines = registers.lines();
        registers.quiet(FIRST_SHARED, lines);
        for line in (FIRST_SHARED..lines).step_by(32) {
            registers.write(distributor::GROUP + line as usize / 32 * 4, u32::MAX);
        }
        registers.write(distributor::CONTROL, AFFINITY_ROUTING);
        wait_for_writes(registers);
        registers.write(distributor::CONTROL, AFFINITY_ROUTING | ENABLE_GROUP_1);
        wait_for_writes(registers);
        let named = regions.len();
        let regions: ArrayVec<(Registers, usize), MAX_CPUS> = regions
            .iter()
            .take(MAX_CPUS)
            .filter_map(|range| Some((Registers::map(*range)?, range.len() as usize)))
            .filter(|(region, _)| region.probe_u64(REDISTRIBUTOR_TYPE).is_some())
            .collect();
        Self {
            silent: named - regions.len(),
            distributor: registers,
            regions,
            redistributors: [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS],
            affinities: [const { AtomicU64::new(0) }; MAX_CPUS],
            lpis: None,
            takes_lpis: AtomicU64::new(0),
        }
    }

    /// Has every CPU that is set up from now on take LPIs.
    pub(super) fn take_lpis(&mut self, memory: its::Memory) {
        self.lpis = Some(memory);
    }

    /// A CPU that takes LPIs, for the translation service.
    pub(super) fn lpi_target(&self, cpu: u32) -> Option<its::Target> {
        let redistributor = self.redistributors.get(cpu as usize)?.load(Ordering::Acquire);
        let takes = !redistributor.is_null() && self.takes_lpis.load(Ordering::Relaxed) >> cpu & 1 != 0;
        takes.then(|| its::Target::new(Registers(redistributor), PhysAddr(redistributor as u64 - DEVICE_WINDOW)))
    }

    /// The redistributor whose `GICR_TYPER` names this affinity.
    fn find_redistributor(&self, affinity: u64) -> Option<Registers> {
        let packed = affinity >> 8 & 0xff00_0000 | affinity & 0x00ff_ffff;
        for &(region, length) in &self.regions {
            let mut offset = 0;
            while offset + 2 * PRIVATE_FRAME <= length {
                // SAFETY: `offset` stays inside the mapped region.
                let frame = Registers(unsafe { region.0.add(offset) });
                // Nothing need be behind the last one.
                let Some(kind) = frame.probe_u64(REDISTRIBUTOR_TYPE) else {
                    break;
                };
                if kind >> 32 == packed {
                    return Some(frame);
                }
                if kind & 1 << 4 != 0 {
                    break; // the last of this region
                }
                // Virtual LPI support adds two frames.
                offset += if kind & 1 << 1 != 0 { 4 } else { 2 } * PRIVATE_FRAME;
            }
        }
        None
    }

    pub(super) fn init_cpu(&self, cpu: u32) {
        let affinity = read_sysreg!("mpidr_el1") & 0xff_00ff_ffff;
        let redistributor = self
            .find_redistributor(affinity)
            .expect("each CPU has a GIC redistributor");
        redistributor.write(
            REDISTRIBUTOR_WAKER,
            redistributor.read(REDISTRIBUTOR_WAKER) & !PROCESSOR_SLEEP,
        );
        while redistributor.read(REDISTRIBUTOR_WAKER) & CHILDREN_ASLEEP != 0 {
            core::hint::spin_loop();
        }
        if let Some(memory) = self.lpis
            && its::init_redistributor(memory, redistributor, cpu)
        {
            self.takes_lpis.fetch_or(1 << cpu, Ordering::Relaxed);
        }
        self.affinities[cpu as usize].store(affinity, Ordering::Relaxed);
        self.redistributors[cpu as usize].store(redistributor.0, Ordering::Release);
        let private = self.private_lines();
        private.quiet(0, FIRST_SHARED);
        private.write(distributor::GROUP, u32::MAX);
        // ICC_SRE_EL1: system registers on; ICC_PMR_EL1, ICC_BPR1_EL1, ICC_CTLR_EL1 (end drops and deactivates),
        // ICC_IGRPEN1_EL1.
        write_sysreg!("S3_0_C12_C12_5", read_sysreg!("S3_0_C12_C12_5") | 1);
        instruction!("isb");
        write_sysreg!("S3_0_C4_C6_0", u64::from(PRIORITY_MASK));
        write_sysreg!("S3_0_C12_C12_3", 0);
        write_sysreg!("S3_0_C12_C12_4", 0);
        write_sysreg!("S3_0_C12_C12_7", 1);
        instruction!("isb");
    }

    /// The calling CPU's registers for private lines.
    pub(super) fn private_lines(&self) -> Registers {
        let redistributor = self.redistributors[PerCpu::cpu_id() as usize].load(Ordering::Acquire);
        assert!(!redistributor.is_null(), "this CPU's redistributor has not been set up");
        // SAFETY: `find_redistributor` saw that both frames are inside the mapped region.
        Registers(unsafe { redistributor.add(PRIVATE_FRAME) })
    }

    pub(super) fn acknowledge(&self) -> u32 {
        let raw = read_sysreg!("S3_0_C12_C12_0") as u32; // ICC_IAR1_EL1
        instruction!("dsb sy");
        raw
    }

    pub(super) fn end(&self, raw: u32) {
        write_sysreg!("S3_0_C12_C12_1", u64::from(raw)); // ICC_EOIR1_EL1
        instruction!("isb");
    }

    pub(super) fn route(&self, line: u32, cpu: u32) {
        if let Some(affinity) = self.affinity(cpu) {
            self.distributor.write_u64(ROUTER + line as usize * 8, affinity);
        }
    }

    /// The affinity of a CPU that has been set up.
    fn affinity(&self, cpu: u32) -> Option<u64> {
        let up = !self.redistributors.get(cpu as usize)?.load(Ordering::Acquire).is_null();
        up.then(|| self.affinities[cpu as usize].load(Ordering::Relaxed))
    }

    pub(super) fn send_ipi(&self, cpu: u32) {
        let Some(affinity) = self.affinity(cpu) else { return };
        // ICC_SGI1R_EL1: Aff3 55:48, range selector 47:44, Aff2 39:32, interrupt 27:24, Aff1 23:16, target list 15:0.
        let value = (affinity >> 32 & 0xff) << 48
            | (affinity >> 4 & 0xf) << 44
            | (affinity >> 16 & 0xff) << 32
            | u64::from(super::IPI) << 24
            | (affinity >> 8 & 0xff) << 16
            | 1 << (affinity & 0xf);
        write_sysreg!("S3_0_C12_C11_5", value);
        instruction!("isb");
    }
}

fn wait_for_writes(registers: Registers) {
    while registers.read(distributor::CONTROL) & WRITE_PENDING != 0 {
        core::hint::spin_loop();
    }
}
