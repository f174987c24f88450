//! The Generic Interrupt Controller, as firmware describes it: version 2 ([`v2`]) or 3 ([`v3`]).
//!
//! The distributor is common to both (Arm IHI 0048B.b, IHI 0069H); what differs is how a CPU talks to it. Interrupt 0
//! of the software-generated ones is the IPI. All lines have the same priority: an interrupt is never interrupted.
//!
//! Messages of devices come by GICv2m frames ([`v2m`]), as shared lines, or by a translation service ([`its`]), as LPIs. The
//! kernel's number of LPI `8192 + n` is [`FIRST_MESSAGE`]` + n`.

mod its;
mod v2;
mod v2m;
mod v3;

use arrayvec::ArrayVec;
use spin::{Mutex, Once};

use its::Its;

use super::Cpu;
use super::boot::take_memory;
use super::kernel_map::map_device;
use super::platform::{GicDescription, Platform};
use super::probe;
use super::sysreg::instruction;
use super::timer::Timer;
use crate::addr::PhysAddr;
use crate::boot_info::PhysRange;
use crate::memory_layout::MemoryLayout;
use crate::traits::{CpuOps, Interrupt, InterruptController, InterruptSource, Message, TimerOps, Trigger};
use crate::trap::InterruptToken;

/// Distributor registers (IHI 0048B.b table 4-1).
mod distributor {
    pub(super) const CONTROL: usize = 0x000;
    pub(super) const TYPE: usize = 0x004;
    pub(super) const GROUP: usize = 0x080;
    pub(super) const SET_ENABLE: usize = 0x100;
    pub(super) const CLEAR_ENABLE: usize = 0x180;
    pub(super) const SET_PENDING: usize = 0x200;
    pub(super) const CLEAR_PENDING: usize = 0x280;
    pub(super) const CLEAR_ACTIVE: usize = 0x380;
    pub(super) const PRIORITY: usize = 0x400;
    pub(super) const TARGETS: usize = 0x800;
    pub(super) const CONFIGURATION: usize = 0xc00;
}

/// The software-generated interrupt that is the IPI.
const IPI: u32 = 0;
/// The virtual timer's line where firmware names none (Arm BSA 1.0, section 3.8.1, PPI assignments).
const VIRTUAL_TIMER: u32 = 27;
/// Lines below are software-generated or private to a CPU.
const FIRST_SHARED: u32 = 32;
/// The first number that is no line (1020 to 1023: spurious and the like).
const FIRST_SPECIAL: u32 = 1020;
/// The line of the first LPI: behind the distributor's, without what is between.
const FIRST_MESSAGE: u32 = 1024;
/// The priority of every line; the CPU interface lets everything above 0xf0 pass.
const PRIORITY: u8 = 0xa0;
const PRIORITY_MASK: u8 = 0xf0;

/// A block of device registers.
#[derive(Clone, Copy)]
struct Registers(*mut u8);

// SAFETY: device registers may be touched from any CPU; their users keep read-modify-write sequences apart.
unsafe impl Send for Registers {}
// SAFETY: as above.
unsafe impl Sync for Registers {}

impl Registers {
    fn map(range: PhysRange) -> Option<Self> {
        map_device(range.start, range.len()).map(Self)
    }

    fn read(self, offset: usize) -> u32 {
        // SAFETY: the block is mapped for good, and offsets come from the register lists of this module.
        unsafe { self.0.add(offset).cast::<u32>().read_volatile() }
    }

    fn write(self, offset: usize, value: u32) {
        // SAFETY: as in `read`.
        unsafe { self.0.add(offset).cast::<u32>().write_volatile(value) }
    }

    fn write_byte(self, offset: usize, value: u8) {
        // SAFETY: as in `read`.
        unsafe { self.0.add(offset).write_volatile(value) }
    }

    fn write_u64(self, offset: usize, value: u64) {
        // SAFETY: as in `read`.
        unsafe { self.0.add(offset).cast::<u64>().write_volatile(value) }
    }

    fn read_u64(self, offset: usize) -> u64 {
        // SAFETY: as in `read`.
        unsafe { self.0.add(offset).cast::<u64>().read_volatile() }
    }

    /// Reads a register that may not be there.
    fn probe(self, offset: usize) -> Option<u32> {
        // SAFETY: mapped, as in `read`; the registers read so have no side effects.
        unsafe { probe::read(self.0.add(offset).cast()) }
    }

    /// As [`Registers::probe`], two words.
    fn probe_u64(self, offset: usize) -> Option<u64> {
        Some(u64::from(self.probe(offset + 4)?) << 32 | u64::from(self.probe(offset)?))
    }

    /// Writes the bit of `line` in a register bank with one bit a line, where zeroes have no effect.
    fn write_bit(self, bank: usize, line: u32) {
        self.write(bank + line as usize / 32 * 4, 1 << (line % 32));
    }

    /// Sets how `line` signals (two bits a line; the upper one is "edge").
    fn set_trigger(self, line: u32, trigger: Trigger) {
        let offset = distributor::CONFIGURATION + line as usize / 16 * 4;
        let bit = 2 << (line % 16 * 2);
        let value = self.read(offset);
        self.write(
            offset,
            if trigger == Trigger::Edge {
                value | bit
            } else {
                value & !bit
            },
        );
    }

    fn trigger(self, line: u32) -> Trigger {
        let bits = self.read(distributor::CONFIGURATION + line as usize / 16 * 4) >> (line % 16 * 2);
        if bits & 2 != 0 { Trigger::Edge } else { Trigger::Level }
    }

    /// Silences the shared lines below `lines` and gives them the one priority.
    fn quiet(self, first: u32, lines: u32) {
        for line in (first..lines).step_by(32) {
            let word = line as usize / 32 * 4;
            self.write(distributor::CLEAR_ENABLE + word, u32::MAX);
            self.write(distributor::CLEAR_PENDING + word, u32::MAX);
            self.write(distributor::CLEAR_ACTIVE + word, u32::MAX);
        }
        for line in first..lines {
            self.write_byte(distributor::PRIORITY + line as usize, PRIORITY);
        }
    }

    /// How many lines the distributor has.
    fn lines(self) -> u32 {
        (((self.read(distributor::TYPE) & 0x1f) + 1) * 32).min(FIRST_SPECIAL)
    }
}

/// The part that differs by version.
#[expect(clippy::large_enum_variant, reason = "there is one, in a static")]
enum Version {
    V2(v2::Gic),
    V3(v3::Gic),
}

/// The machine's interrupt controller.
pub struct Controller {
    version: Version,
    distributor: Registers,
    lines: u32,
    /// The virtual timer's private line.
    timer: u32,
    /// Held for read-modify-write sequences on the configuration registers, with interrupts masked.
    configuration: Mutex<()>,
    /// Where messages come in, where anywhere.
    frames: ArrayVec<v2m::Frame, 4>,
    its: Option<Its>,
}

static CONTROLLER: Once<Controller> = Once::new();

/// The machine's interrupt controller.
///
/// # Panics
/// Before the boot code has set it up, which is before the kernel runs.
pub fn controller() -> &'static Controller {
    CONTROLLER
        .get()
        .expect("the interrupt controller is set up before the kernel runs")
}

/// Sets the distributor up, everything masked. Once, on the boot CPU. What memory is needed is taken from `layout`.
pub(super) fn init(platform: &Platform, layout: &mut MemoryLayout) {
    let unusable = || -> ! { panic!("the interrupt controller's registers cannot be mapped") };
    let (mut version, distributor) = match &platform.found.gic {
        None => panic!("firmware describes no GICv2 or GICv3"),
        Some(GicDescription::V2 {
            distributor,
            cpu_interface,
        }) => {
            let (Some(distributor), Some(cpu)) = (Registers::map(*distributor), Registers::map(*cpu_interface)) else {
                unusable()
            };
            (Version::V2(v2::Gic::new(distributor, cpu)), distributor)
        }
        Some(GicDescription::V3 {
            distributor,
            redistributors,
        }) => {
            let Some(distributor) = Registers::map(*distributor) else {
                unusable()
            };
            (Version::V3(v3::Gic::new(distributor, redistributors)), distributor)
        }
    };
    let lines = distributor.lines();
    let frames = platform.found.msi_frames.iter().filter_map(|frame| {
        let registers = Registers::map(block(frame.registers, v2m::FRAME))?;
        v2m::Frame::new(frame, registers, lines)
    });
    let frames = frames.collect();
    let its = match &mut version {
        Version::V3(gic) => translation(platform, gic, layout),
        Version::V2(_) => None,
    };
    CONTROLLER.call_once(|| Controller {
        version,
        distributor,
        lines,
        timer: platform.found.timer_line.unwrap_or(VIRTUAL_TIMER),
        configuration: Mutex::new(()),
        frames,
        its,
    });
}

const fn block(start: u64, length: u64) -> PhysRange {
    PhysRange {
        start: PhysAddr(start),
        end: PhysAddr(start.saturating_add(length)),
    }
}

/// The first translation service, where there is one and memory for it.
fn translation(platform: &Platform, gic: &mut v3::Gic, layout: &mut MemoryLayout) -> Option<Its> {
    let place = PhysAddr(*platform.found.its.first()?);
    let registers = Registers::map(block(place.0, its::FRAMES))?;
    let cpus = platform.cpus.len() as u32;
    let memory = take_memory(layout, its::Memory::bytes(cpus), its::Memory::ALIGN)?;
    // SAFETY: just taken from what is free, for ever.
    let memory = unsafe { its::Memory::new(memory, cpus) };
    let its = Its::new(registers, place, memory)?;
    gic.take_lpis(memory);
    Some(its)
}

/// How many blocks of registers firmware names that do not answer.
pub(super) fn silent_blocks() -> usize {
    match &controller().version {
        Version::V2(_) => 0,
        Version::V3(gic) => gic.silent,
    }
}

/// Sets the calling CPU's own part up: IPI and timer unmasked. On each CPU, once.
pub(super) fn init_cpu(cpu: u32) {
    let controller = controller();
    match &controller.version {
        Version::V2(gic) => gic.init_cpu(cpu),
        Version::V3(gic) => gic.init_cpu(cpu),
    }
    for line in [IPI, controller.timer] {
        controller.unmask(line);
    }
}

impl Controller {
    /// The registers that hold the configuration of `line`, as the calling CPU sees them.
    fn bank(&self, line: u32) -> Registers {
        match &self.version {
            Version::V3(gic) if line < FIRST_SHARED => gic.private_lines(),
            _ => self.distributor,
        }
    }
}

impl InterruptController for Controller {
    fn acknowledge(&self, _token: InterruptToken) -> Option<Interrupt> {
        let raw = match &self.version {
            Version::V2(gic) => gic.acknowledge(),
            Version::V3(gic) => gic.acknowledge(),
        };
        let line = match &self.version {
            Version::V2(_) => raw & 0x3ff,
            Version::V3(_) => raw & 0xff_ffff,
        };
        if (FIRST_SPECIAL..its::FIRST_LPI).contains(&line) {
            return None;
        }
        let source = if line < 16 {
            // What the sender stored before is read after this.
            instruction!("dmb ish");
            InterruptSource::Ipi
        } else if line == self.timer {
            Timer::disarm();
            InterruptSource::Timer
        } else if line >= its::FIRST_LPI {
            InterruptSource::Line(line - its::FIRST_LPI + FIRST_MESSAGE, Trigger::Edge)
        } else {
            InterruptSource::Line(line, self.bank(line).trigger(line))
        };
        Some(Interrupt { source, raw })
    }

    fn end(&self, interrupt: Interrupt) {
        match &self.version {
            Version::V2(gic) => gic.end(interrupt.raw),
            Version::V3(gic) => gic.end(interrupt.raw),
        }
    }

    fn configure(&self, line: u32, trigger: Trigger, cpu: u32) {
        if line >= self.lines {
            return;
        }
        let interrupts = Cpu::mask_interrupts();
        let guard = self.configuration.lock();
        self.mask(line);
        self.bank(line).set_trigger(line, trigger);
        drop(guard);
        Cpu::restore_interrupts(interrupts);
        if line >= FIRST_SHARED {
            match &self.version {
                Version::V2(gic) => gic.route(line, cpu),
                Version::V3(gic) => gic.route(line, cpu),
            }
        }
    }

    fn mask(&self, line: u32) {
        if line < self.lines {
            self.bank(line).write_bit(distributor::CLEAR_ENABLE, line);
        }
    }

    fn unmask(&self, line: u32) {
        if line < self.lines {
            self.bank(line).write_bit(distributor::SET_ENABLE, line);
        }
    }

    fn allocate_message(&self, requester: u32, event: u32, cpu: u32) -> Option<(u32, Message)> {
        if let (Some(its), Version::V3(gic)) = (&self.its, &self.version) {
            let target = gic.lpi_target(cpu)?;
            let interrupts = Cpu::mask_interrupts();
            let outcome = its.allocate(requester, event, cpu, target);
            Cpu::restore_interrupts(interrupts);
            return outcome.map(|(lpi, message)| (FIRST_MESSAGE + lpi, message));
        }
        let (line, message) = self.frames.iter().find_map(v2m::Frame::allocate)?;
        self.configure(line, Trigger::Edge, cpu);
        self.unmask(line);
        Some((line, message))
    }

    fn free_message(&self, line: u32) {
        if let (Some(its), Some(lpi)) = (&self.its, line.checked_sub(FIRST_MESSAGE)) {
            let interrupts = Cpu::mask_interrupts();
            its.free(lpi);
            Cpu::restore_interrupts(interrupts);
        } else {
            self.mask(line);
            self.frames.iter().any(|frame| frame.free(line));
        }
    }

    fn raise(&self, line: u32) -> bool {
        let exists = (FIRST_SHARED..self.lines).contains(&line);
        if exists {
            self.bank(line).write_bit(distributor::SET_PENDING, line);
        }
        exists
    }

    fn send_ipi(&self, cpu: u32) {
        // Stores made before are visible before the other CPU can take the interrupt.
        instruction!("dsb ishst");
        match &self.version {
            Version::V2(gic) => gic.send_ipi(cpu),
            Version::V3(gic) => gic.send_ipi(cpu),
        }
    }
}
