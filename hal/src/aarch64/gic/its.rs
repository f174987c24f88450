//! The interrupt translation service: from a device's message to an LPI of a CPU (Arm IHI 0069H, chapter 5).
//!
//! Its tables are memory, taken at boot ([`Memory`]): one block of 64 KiB a CPU for pending bits, of which the first one has
//! room for what else is small, and one each for the tables of devices and of collections. A collection is a CPU. Devices are
//! known by their requester identifiers as they are, as on all machines whose tables map them one to one.

use arrayvec::ArrayVec;
use spin::Mutex;

use super::super::constants::DIRECT_MAP;
use super::super::timer::Timer;
use super::{PRIORITY, Registers};
use crate::addr::PhysAddr;
use crate::dma;
use crate::traits::{MAX_EVENTS, Message, TimerOps};

/// The first LPI.
pub(super) const FIRST_LPI: u32 = 8192;
/// LPIs in use at most.
pub(super) const LPIS: u32 = 256;
/// Bits of an interrupt's number: as few as may be.
const ID_BITS: u64 = 14;

/// Registers (12.19). The translation frame follows the control frame.
mod register {
    pub(super) const CONTROL: usize = 0x0000;
    pub(super) const TYPE: usize = 0x0008;
    pub(super) const QUEUE: usize = 0x0080;
    pub(super) const QUEUE_WRITE: usize = 0x0088;
    pub(super) const QUEUE_READ: usize = 0x0090;
    pub(super) const TABLES: usize = 0x0100;
    pub(super) const TRANSLATER: u64 = 0x1_0040;
}
/// Bytes of both frames.
pub(super) const FRAMES: u64 = 0x2_0000;
const ENABLED: u32 = 1 << 0;
/// `GITS_TYPER`: targets are addresses of redistributors, not numbers of processors.
const BY_ADDRESS: u64 = 1 << 19;
/// Of registers that name a table: it is valid; cached and shared as the kernel maps memory.
const VALID: u64 = 1 << 63;
const TABLE_CACHED: u64 = 7 << 59 | 1 << 10;
const PAGE_SIZE: u64 = 3 << 8;
const KIND_DEVICES: u64 = 1;
const KIND_COLLECTIONS: u64 = 4;

/// A redistributor's registers for LPIs (12.11).
const REDISTRIBUTOR_CONTROL: usize = 0x00;
const REDISTRIBUTOR_TYPE: usize = 0x08;
const PROPERTIES: usize = 0x70;
const PENDING: usize = 0x78;
const ENABLE_LPIS: u32 = 1 << 0;
const HAS_LPIS: u64 = 1 << 0;
const REDISTRIBUTOR_CACHED: u64 = 7 << 7 | 1 << 10;
/// The pending table is zero.
const PENDING_IS_ZERO: u64 = 1 << 62;

const BLOCK: u64 = 64 << 10;
/// Places in the first CPU's block, behind its pending bits: a byte for each LPI that there are numbers for, commands,
/// translations.
const CONFIGURATION: u64 = 8 << 10;
const COMMANDS: u64 = 16 << 10;
const COMMAND_BYTES: u64 = 4 << 10;
const TRANSLATIONS: u64 = 20 << 10;
/// Bytes of a device's translations, of which each is 16 bytes at most, and aligned to 256.
const TRANSLATION_BYTES: u64 = 16 * MAX_EVENTS as u64;
const MOST_DEVICES: usize = ((BLOCK - TRANSLATIONS) / TRANSLATION_BYTES) as usize;

/// How long a command may take (ns).
const PATIENCE: u64 = 100_000_000;

/// The memory of the tables.
#[derive(Clone, Copy)]
pub(super) struct Memory(PhysAddr);

impl Memory {
    /// Bytes for so many CPUs.
    pub(super) const fn bytes(cpus: u32) -> u64 {
        (cpus as u64 + 2) * BLOCK
    }

    /// What its start is aligned to.
    pub(super) const ALIGN: u64 = BLOCK;

    /// Memory for so many CPUs, cleared.
    ///
    /// # Safety
    /// From `start` on there are [`Memory::bytes`] of RAM that the direct map shows and that nobody else has, ever.
    pub(super) unsafe fn new(start: PhysAddr, cpus: u32) -> Self {
        let (place, length) = ((DIRECT_MAP + start.0) as *mut u8, Self::bytes(cpus) as usize);
        // SAFETY: the caller's promise.
        unsafe { place.write_bytes(0, length) };
        dma::clean_and_invalidate(place, length);
        Self(start)
    }

    const fn pending(self, cpu: u32) -> u64 {
        self.0.0 + (cpu as u64 + 2) * BLOCK
    }

    /// The blocks of the two tables come first.
    const fn table(self, number: u64) -> u64 {
        self.0.0 + number * BLOCK
    }

    const fn small(self, offset: u64) -> u64 {
        self.pending(0) + offset
    }

    /// Stores a byte of the LPIs' configuration.
    fn configure(self, lpi: u32, enabled: bool) {
        let place = (DIRECT_MAP + self.small(CONFIGURATION) + u64::from(lpi)) as *mut u8;
        // SAFETY: in the block, which is nobody else's.
        unsafe { place.write_volatile(PRIORITY | u8::from(enabled)) };
        dma::clean_and_invalidate(place, 1);
    }
}

/// Lets a CPU take LPIs; false where its redistributor knows none, or firmware has its own.
pub(super) fn init_redistributor(memory: Memory, redistributor: Registers, cpu: u32) -> bool {
    if redistributor.read_u64(REDISTRIBUTOR_TYPE) & HAS_LPIS == 0 {
        return false;
    }
    let control = redistributor.read(REDISTRIBUTOR_CONTROL);
    if control & ENABLE_LPIS != 0 {
        // Whether it can be taken back is the implementation's choice.
        redistributor.write(REDISTRIBUTOR_CONTROL, control & !ENABLE_LPIS);
        if redistributor.read(REDISTRIBUTOR_CONTROL) & ENABLE_LPIS != 0 {
            return false;
        }
    }
    let properties = memory.small(CONFIGURATION) | REDISTRIBUTOR_CACHED | (ID_BITS - 1);
    redistributor.write_u64(PROPERTIES, properties);
    redistributor.write_u64(PENDING, memory.pending(cpu) | REDISTRIBUTOR_CACHED | PENDING_IS_ZERO);
    redistributor.write(REDISTRIBUTOR_CONTROL, control | ENABLE_LPIS);
    dma::both_ways();
    true
}

/// A CPU as the service is told of it: its redistributor's address, and its number there.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) redistributor: PhysAddr,
    pub(super) processor: u64,
}

impl Target {
    pub(super) fn new(redistributor: Registers, address: PhysAddr) -> Self {
        Self {
            redistributor: address,
            processor: redistributor.read_u64(REDISTRIBUTOR_TYPE) >> 8 & 0xffff,
        }
    }
}

pub(super) struct Its {
    registers: Registers,
    translater: u64,
    memory: Memory,
    by_address: bool,
    state: Mutex<State>,
}

struct State {
    /// Where the next command goes, in bytes.
    write: u64,
    /// Collections that have their CPU.
    mapped: u64,
    /// Devices that have translations, by the place of these.
    devices: ArrayVec<u32, MOST_DEVICES>,
    /// Whose each LPI is: device and event.
    lpis: [Option<(u32, u32)>; LPIS as usize],
    /// A command was not carried out: nothing is asked of it any more.
    broken: bool,
}

impl Its {
    /// Sets a service up; `None` where it cannot be.
    pub(super) fn new(registers: Registers, physical: PhysAddr, memory: Memory) -> Option<Self> {
        let kind = registers.probe_u64(register::TYPE)?;
        registers.write(register::CONTROL, 0);
        for number in 0..8 {
            let offset = register::TABLES + 8 * number;
            match registers.read_u64(offset) >> 56 & 7 {
                KIND_DEVICES => set_table(registers, offset, memory.table(0))?,
                KIND_COLLECTIONS => set_table(registers, offset, memory.table(1))?,
                _ => {}
            }
        }
        let pages = COMMAND_BYTES / 4096 - 1;
        registers.write_u64(register::QUEUE, VALID | TABLE_CACHED | memory.small(COMMANDS) | pages);
        registers.write_u64(register::QUEUE_WRITE, 0);
        registers.write(register::CONTROL, ENABLED);
        Some(Self {
            registers,
            translater: physical.0 + register::TRANSLATER,
            memory,
            by_address: kind & BY_ADDRESS != 0,
            state: Mutex::new(State {
                write: 0,
                mapped: 0,
                devices: ArrayVec::new(),
                lpis: [None; LPIS as usize],
                broken: false,
            }),
        })
    }

    /// An LPI for a device's event, to `cpu`, counted from [`FIRST_LPI`]. Called with interrupts masked.
    pub(super) fn allocate(&self, device: u32, event: u32, cpu: u32, target: Target) -> Option<(u32, Message)> {
        let mut state = self.state.lock();
        if event >= MAX_EVENTS || state.broken || state.lpis.contains(&Some((device, event))) {
            return None;
        }
        let free = state.lpis.iter().position(Option::is_none)?;
        let lpi = free as u32;
        let target = self.target(target);
        if state.mapped >> cpu & 1 == 0 {
            self.command(&mut state, [0x09, 0, VALID | target | u64::from(cpu), 0]); // MAPC
            state.mapped |= 1 << cpu;
        }
        self.know(&mut state, device)?;
        self.memory.configure(lpi, true);
        let of = u64::from(device) << 32;
        let number = u64::from(FIRST_LPI + lpi) << 32;
        self.command(&mut state, [0x0a | of, number | u64::from(event), cpu.into(), 0]); // MAPTI
        self.command(&mut state, [0x0c | of, event.into(), 0, 0]); // INV
        self.command(&mut state, [0x05, 0, target, 0]); // SYNC
        if !self.wait(&mut state) {
            return None;
        }
        state.lpis[free] = Some((device, event));
        let message = Message {
            address: self.translater,
            data: event,
        };
        Some((lpi, message))
    }

    /// Takes an LPI back. Called with interrupts masked.
    pub(super) fn free(&self, lpi: u32) {
        let mut state = self.state.lock();
        let Some((device, event)) = state.lpis.get_mut(lpi as usize).and_then(Option::take) else {
            return;
        };
        self.memory.configure(lpi, false);
        self.command(&mut state, [0x0f | u64::from(device) << 32, event.into(), 0, 0]); // DISCARD
        self.wait(&mut state);
    }

    /// What a command says for a CPU.
    const fn target(&self, target: Target) -> u64 {
        if self.by_address {
            target.redistributor.0
        } else {
            target.processor << 16
        }
    }

    /// Gives a device its translations.
    fn know(&self, state: &mut State, device: u32) -> Option<()> {
        if state.devices.contains(&device) {
            return Some(());
        }
        let table = self.memory.small(TRANSLATIONS) + state.devices.len() as u64 * TRANSLATION_BYTES;
        state.devices.try_push(device).ok()?;
        let bits = u64::from(MAX_EVENTS.ilog2()) - 1;
        self.command(state, [0x08 | u64::from(device) << 32, bits, VALID | table, 0]); // MAPD
        Some(())
    }

    /// Puts a command into the queue, waiting for those before it where there is no room.
    fn command(&self, state: &mut State, command: [u64; 4]) {
        if state.broken {
            return;
        }
        let place = (DIRECT_MAP + self.memory.small(COMMANDS) + state.write) as *mut [u64; 4];
        // SAFETY: in the queue, at a place that the service is not going to read before it is told.
        unsafe { place.write_volatile(command.map(u64::to_le)) };
        dma::clean_and_invalidate(place.cast(), 32);
        dma::before_device();
        state.write = (state.write + 32) % COMMAND_BYTES;
        self.registers.write_u64(register::QUEUE_WRITE, state.write);
        // A full queue has one place free.
        if (state.write + 32) % COMMAND_BYTES == self.done() {
            self.wait(state);
        }
    }

    fn done(&self) -> u64 {
        self.registers.read_u64(register::QUEUE_READ) & 0xf_ffe0
    }

    /// Waits until all commands have been carried out; false where they are not. No interrupt tells, and a working service needs
    /// microseconds; one that does not is given up the first time.
    fn wait(&self, state: &mut State) -> bool {
        let began = Timer::now();
        while !state.broken && self.done() != state.write {
            state.broken = Timer::now() - began > PATIENCE;
            core::hint::spin_loop();
        }
        !state.broken
    }
}

/// Gives a table its block, in pages of the size that the service has; `None` where it takes none.
fn set_table(registers: Registers, offset: usize, block: u64) -> Option<()> {
    for (size, pages) in [(0, 16), (1, 4), (2, 1)] {
        let kept = registers.read_u64(offset) & (7 << 56 | 31 << 48);
        registers.write_u64(offset, VALID | TABLE_CACHED | kept | block | size << 8 | (pages - 1));
        if registers.read_u64(offset) & PAGE_SIZE == size << 8 {
            return Some(());
        }
    }
    registers.write_u64(offset, 0);
    None
}
