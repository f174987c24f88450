//! The local APIC (SDM volume 3, chapter 11), and the interrupt controller that it makes together with the I/O APICs.
//!
//! Registers are memory in xAPIC mode and MSRs in x2APIC mode, at numbers that follow from each other. Which mode is
//! taken is decided at run time: x2APIC where the CPU has it.
//!
//! A vector is all that the CPU tells of an interrupt. Global system interrupt `n` has vector `LINE_VECTOR + n`; those above
//! the last one are for devices' messages.

use core::{
    arch::asm,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use super::{
    constants::{DIRECT_MAP, IPI_VECTOR, LINE_VECTOR, LINES, MSR_APIC_BASE, MSR_X2APIC, SPURIOUS_VECTOR, TIMER_VECTOR},
    cpu::Cpu,
    cpuid::FEATURES,
    io_apic,
    percpu::CpuData,
    registers::{out_u8, read_msr, write_msr},
    timer,
};
use crate::{
    traits::{CpuOps, Interrupt, InterruptController, InterruptSource, MAX_EVENTS, Message, Trigger},
    trap::InterruptToken,
};

/// Register offsets in xAPIC's page (SDM volume 3, table 11-1).
pub(super) mod register {
    pub const ID: u32 = 0x20;
    pub const TASK_PRIORITY: u32 = 0x80;
    pub const EOI: u32 = 0xb0;
    pub const SPURIOUS: u32 = 0xf0;
    pub const ERROR_STATUS: u32 = 0x280;
    pub const COMMAND_LOW: u32 = 0x300;
    pub const COMMAND_HIGH: u32 = 0x310;
    pub const LVT_TIMER: u32 = 0x320;
    pub const LVT_LINT0: u32 = 0x350;
    pub const LVT_LINT1: u32 = 0x360;
    pub const LVT_ERROR: u32 = 0x370;
    pub const TIMER_INITIAL: u32 = 0x380;
    pub const TIMER_CURRENT: u32 = 0x390;
    pub const TIMER_DIVIDE: u32 = 0x3e0;
}

/// Local-vector-table bit: masked.
pub(super) const LVT_MASKED: u32 = 1 << 16;
const LVT_NMI: u32 = 4 << 8;

static X2APIC: AtomicBool = AtomicBool::new(false);
static BASE: AtomicU64 = AtomicU64::new(0);

/// Reads a local-APIC register of the calling CPU.
pub(super) fn read(offset: u32) -> u32 {
    if X2APIC.load(Relaxed) {
        read_msr(MSR_X2APIC + (offset >> 4)) as u32
    } else {
        // SAFETY: boot maps the page, uncached, before `BASE` is set.
        unsafe { ((BASE.load(Relaxed) + u64::from(offset)) as *const u32).read_volatile() }
    }
}

/// Writes a local-APIC register of the calling CPU.
pub(super) fn write(offset: u32, value: u32) {
    if X2APIC.load(Relaxed) {
        // SAFETY: a local-APIC register with a value the manual allows.
        unsafe { write_msr(MSR_X2APIC + (offset >> 4), value.into()) };
    } else {
        // SAFETY: as in `read`.
        unsafe { ((BASE.load(Relaxed) + u64::from(offset)) as *mut u32).write_volatile(value) };
    }
}

/// Sets up what all CPUs share. Called once, with the page at `address` mapped.
pub(super) fn init(address: u64) {
    BASE.store(DIRECT_MAP + address, Relaxed);
    X2APIC.store(FEATURES.x2apic.load(Relaxed), Relaxed);
    silence_legacy_controllers();
}

/// Moves the two 8259s off the exception vectors and masks them; from then on they can only be spurious.
fn silence_legacy_controllers() {
    // SAFETY: the 8259s' initialisation sequence, on ports that PC-compatible machines have or ignore.
    unsafe {
        for (command, data, vector, cascade) in [(0x20, 0x21, 0x20, 4), (0xa0, 0xa1, 0x28, 2)] {
            out_u8(command, 0x11);
            out_u8(data, vector);
            out_u8(data, cascade);
            out_u8(data, 1);
            out_u8(data, 0xff);
        }
    }
}

/// Enables the calling CPU's local APIC with every local source masked but NMI.
pub(super) fn init_this_cpu() {
    const ENABLE: u64 = 1 << 11;
    const ENABLE_X2APIC: u64 = 1 << 10;
    let mut base = read_msr(MSR_APIC_BASE) | ENABLE;
    if X2APIC.load(Relaxed) {
        base |= ENABLE_X2APIC;
    }
    // SAFETY: enabling is always allowed, x2APIC from enabled xAPIC mode too.
    unsafe { write_msr(MSR_APIC_BASE, base) };
    write(register::TASK_PRIORITY, 0);
    write(register::LVT_TIMER, LVT_MASKED | TIMER_VECTOR);
    write(register::LVT_LINT0, LVT_MASKED | SPURIOUS_VECTOR);
    write(register::LVT_LINT1, LVT_NMI);
    write(register::LVT_ERROR, LVT_MASKED | SPURIOUS_VECTOR);
    write(register::SPURIOUS, 1 << 8 | SPURIOUS_VECTOR);
    write(register::ERROR_STATUS, 0);
    write(register::EOI, 0);
}

/// The calling CPU's APIC identifier.
pub(super) fn this_id() -> u32 {
    let id = read(register::ID);
    if X2APIC.load(Relaxed) { id } else { id >> 24 }
}

/// Sends an interrupt command (SDM volume 3, 11.6.1): vector, delivery mode and level as in the low word.
pub(super) fn send_command(apic_id: u32, command: u32) {
    if X2APIC.load(Relaxed) {
        // SAFETY: the register is ICR. An MSR write does not wait for earlier stores: the fences make it.
        unsafe {
            asm!("mfence", "lfence", options(nostack, preserves_flags));
            write_msr(
                MSR_X2APIC + (register::COMMAND_LOW >> 4),
                u64::from(apic_id) << 32 | u64::from(command),
            );
        }
        return;
    }
    const PENDING: u32 = 1 << 12;
    // Two words make a command: no handler may come between with another one.
    let state = Cpu::mask_interrupts();
    while read(register::COMMAND_LOW) & PENDING != 0 {
        core::hint::spin_loop();
    }
    write(register::COMMAND_HIGH, apic_id << 24);
    write(register::COMMAND_LOW, command);
    Cpu::restore_interrupts(state);
}

/// Interrupt command: the INIT of INIT-SIPI-SIPI, level asserted.
pub(super) const COMMAND_INIT: u32 = 5 << 8 | 1 << 14;
/// Interrupt command: start at the page in the low byte.
pub(super) const COMMAND_STARTUP: u32 = 6 << 8 | 1 << 14;
const COMMAND_FIXED: u32 = 1 << 14;
/// Where devices write their messages: fixed delivery, to one CPU (SDM volume 3, 11.11.1).
const MESSAGE_ADDRESS: u64 = 0xfee0_0000;

/// Local and I/O APICs together.
pub struct Controller;

static CONTROLLER: Controller = Controller;

/// The machine's interrupt controller.
pub fn controller() -> &'static Controller {
    &CONTROLLER
}

impl InterruptController for Controller {
    fn acknowledge(&self, token: InterruptToken) -> Option<Interrupt> {
        let source = match token.0 {
            // Neither the local APIC nor the masked 8259s hold a spurious interrupt in service.
            SPURIOUS_VECTOR | 0x20..LINE_VECTOR => return None,
            TIMER_VECTOR => timer::fired().then_some(InterruptSource::Timer),
            IPI_VECTOR => Some(InterruptSource::Ipi),
            vector if (LINE_VECTOR..LINE_VECTOR + LINES).contains(&vector) => {
                let line = vector - LINE_VECTOR;
                io_apic::trigger(line).map(|trigger| InterruptSource::Line(line, trigger))
            }
            _ => None,
        };
        if source.is_none() {
            write(register::EOI, 0);
        }
        source.map(|source| Interrupt { source, raw: token.0 })
    }

    fn end(&self, _interrupt: Interrupt) {
        write(register::EOI, 0);
    }

    fn configure(&self, line: u32, trigger: Trigger, cpu: u32) {
        io_apic::configure(line, trigger, cpu);
    }

    fn mask(&self, line: u32) {
        io_apic::set_masked(line, true);
    }

    fn unmask(&self, line: u32) {
        io_apic::set_masked(line, false);
    }

    fn allocate_message(&self, _requester: u32, event: u32, cpu: u32) -> Option<(u32, Message)> {
        // Eight bits name the CPU (SDM volume 3, 11.11.1).
        let id = u8::try_from(CpuData::of(cpu)?.apic_id.load(Relaxed)).ok()?;
        let line = (event < MAX_EVENTS).then(io_apic::take_message_line)??;
        let message = Message {
            address: MESSAGE_ADDRESS | u64::from(id) << 12,
            data: LINE_VECTOR + line,
        };
        Some((line, message))
    }

    fn free_message(&self, line: u32) {
        io_apic::free_message_line(line);
    }

    fn raise(&self, line: u32) -> bool {
        let exists = io_apic::trigger(line).is_some();
        if exists {
            send_command(this_id(), COMMAND_FIXED | (LINE_VECTOR + line));
        }
        exists
    }

    fn send_ipi(&self, cpu: u32) {
        if let Some(data) = CpuData::of(cpu) {
            send_command(data.apic_id.load(Relaxed), COMMAND_FIXED | IPI_VECTOR);
        }
    }
}
