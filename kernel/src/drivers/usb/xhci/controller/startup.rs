//! How a controller is taken from firmware, reset and set up (xHCI 1.2, 4.2 and 4.22.1).

use alloc::{sync::Arc, vec::Vec};

use super::{AtPort, BUSY, COMMAND, Controller, DEQUEUE, ENABLED, HALT, HALTED, MANAGEMENT, PENDING, STATUS, State};
use crate::{
    drivers::{
        registers::RegisterBlock,
        usb::xhci::{
            Bus,
            layout::Layout,
            ring::{BLOCKS, Consumer, Producer, SIZE},
        },
    },
    errno::{Errno, Result},
    mm::{
        dma::{self, DmaMemory},
        fallible::TryRoom,
    },
    sync::{Rank, SpinLock, WaitQueue},
};

/// Offsets in the operational registers (5.4).
const PAGE_SIZE: usize = 0x08;
const COMMAND_RING: usize = 0x18;
const CONTEXTS: usize = 0x30;
const CONFIGURE: usize = 0x38;
/// Offsets in an interrupter's registers (5.5.2).
const MODERATION: usize = 0x04;
const TABLE_SIZE: usize = 0x08;
const TABLE: usize = 0x10;

/// Of the command register: run; reset; interrupt.
const RUN: u32 = 1 << 0;
const RESET: u32 = 1 << 1;
const INTERRUPTS: u32 = 1 << 2;
/// Of the status: not ready.
const NOT_READY: u32 = 1 << 11;
/// From one interrupt to the next at least, in 250 ns.
const PAUSE: u32 = 160;
/// Of firmware's words (7.1.1): theirs; ours. Of the next (7.1.2): what lets the controller call firmware, and what it has called for,
/// which one forgets by writing it.
const FIRMWARES: u32 = 1 << 16;
const OURS: u32 = 1 << 24;
const CALLS: u32 = 1 << 0 | 1 << 4 | 7 << 13;
const CALLED: u32 = 7 << 29;

/// How long (ns) firmware may take to give the controller up, and this to reset.
const HANDOFF: u64 = 1_000_000_000;
const READY: u64 = 1_000_000_000;
/// From one look to the next.
const LOOK: u64 = 1_000_000;
/// From the moment that ports are switched on until they can be looked at (5.4.8).
const POWER_UP: u64 = 20_000_000;

/// Where the table of the events' ring is, behind the devices' contexts.
const TABLE_AT: usize = 3072;

impl<B: Bus> Controller<B> {
    /// Takes a controller over and lets it run. Its interrupts come from here on.
    ///
    /// # Errors
    /// `ENXIO` if its registers make no sense, `EIO` if it does not halt or reset, `ENOMEM`.
    pub async fn start(bus: B) -> Result<Arc<Self>> {
        let layout = Layout::read(bus.registers(), bus.length())?;
        hand_off(&bus, &layout).await;
        reset(&bus, &layout).await?;
        let controller = Arc::new(Self::new(bus, layout)?);
        controller.set_up();
        until(&controller.bus, HALT, || controller.read(STATUS) & HALTED == 0).await?;
        controller.power_ports().await;
        Ok(controller)
    }

    fn new(bus: B, layout: Layout) -> Result<Self> {
        let contexts = memory(&bus, &layout, SIZE)?;
        let (commands, events) = (memory(&bus, &layout, SIZE)?, memory(&bus, &layout, SIZE)?);
        let mut all = Vec::new();
        all.try_room(4 + usize::from(layout.scratchpads))?;
        if layout.scratchpads > 0 {
            let pages = bus.registers().read_u32(layout.operational + PAGE_SIZE) & 0xffff;
            let size = SIZE << pages.trailing_zeros().min(15);
            let list = memory(&bus, &layout, usize::from(layout.scratchpads) * 8)?;
            for index in 0..usize::from(layout.scratchpads) {
                let page = memory(&bus, &layout, size)?;
                list.write_u64(index * 8, page.address());
                all.push(page);
            }
            contexts.write_u64(0, list.address());
            all.push(list);
        }
        contexts.write_u64(TABLE_AT, events.address());
        contexts.write_u32(TABLE_AT + 8, BLOCKS as u32);
        all.extend([&contexts, &commands, &events].map(Arc::clone));
        let count = usize::from(layout.ports) + 1;
        let (mut ports, mut queues, mut pending, mut slots) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        ports.try_room(count)?;
        ports.resize_with(count, AtPort::default);
        queues.try_room(count)?;
        queues.resize_with(count, WaitQueue::new);
        pending.try_room(count)?;
        slots.try_room(usize::from(layout.slots) + 1)?;
        slots.resize(usize::from(layout.slots) + 1, 0);
        Ok(Self {
            bus,
            layout,
            state: SpinLock::new(
                Rank::Device,
                State {
                    commands: Producer::new(commands),
                    events: Consumer::new(events),
                    pending,
                    slots,
                    ports,
                    dead: false,
                },
            ),
            queues,
            contexts,
            memory: all,
        })
    }

    /// Tells the controller where everything is, and lets it run (4.2).
    fn set_up(&self) {
        let (commands, events) = {
            let state = self.state.lock();
            (state.commands.dequeue(), state.events.dequeue())
        };
        let (operational, interrupter) = (self.layout.operational, self.layout.interrupter);
        let registers = self.registers();
        dma::before_device();
        self.write(CONFIGURE, self.layout.slots.into());
        registers.write_pair(operational + CONTEXTS, self.contexts.address());
        registers.write_pair(operational + COMMAND_RING, commands);
        registers.write_u32(interrupter + TABLE_SIZE, 1);
        registers.write_pair(interrupter + DEQUEUE, events | BUSY);
        // This last: the ring begins with it.
        registers.write_pair(interrupter + TABLE, self.contexts.address() + TABLE_AT as u64);
        registers.write_u32(interrupter + MODERATION, PAUSE);
        registers.write_u32(interrupter + MANAGEMENT, PENDING | ENABLED);
        self.write(COMMAND, RUN | INTERRUPTS);
    }

    async fn power_ports(&self) {
        let mut waits = false;
        for number in self.ports() {
            let port = self.port(number);
            if self.layout.has_power && !port.has_power() {
                self.write_port(number, port.to_power());
                waits = true;
            }
        }
        if waits {
            self.bus.sleep_until(self.bus.now() + POWER_UP).await;
        }
    }
}

pub(super) fn memory<B: Bus>(bus: &B, layout: &Layout, bytes: usize) -> Result<Arc<DmaMemory>> {
    let memory = bus.allocate(bytes)?;
    let reaches = layout.wide || memory.address() + memory.len() as u64 <= 1 << 32;
    reaches.then_some(memory).ok_or(Errno::ENXIO)
}

/// Looks until it is so.
pub(super) async fn until(bus: &impl Bus, limit: u64, is_so: impl Fn() -> bool) -> Result<()> {
    let deadline = bus.now().saturating_add(limit);
    while !is_so() {
        if bus.now() > deadline {
            return Err(Errno::EIO);
        }
        bus.sleep_until(bus.now() + LOOK).await;
    }
    Ok(())
}

/// Asks firmware, whose keyboard driver may still have it, for the controller, and has it call firmware no more (4.22.1).
async fn hand_off<B: Bus>(bus: &B, layout: &Layout) {
    let Some(at) = layout.legacy else { return };
    let registers = bus.registers();
    registers.write_u32(at, registers.read_u32(at) | OURS);
    let given_up = until(bus, HANDOFF, || registers.read_u32(at) & FIRMWARES == 0).await;
    if given_up.is_err() {
        log::warn!("firmware does not give the USB controller up: it is taken");
        registers.write_u32(at, registers.read_u32(at) & !FIRMWARES | OURS);
    }
    let calls = registers.read_u32(at + 4);
    registers.write_u32(at + 4, calls & !CALLS | CALLED);
}

async fn reset<B: Bus>(bus: &B, layout: &Layout) -> Result<()> {
    let read = |offset| bus.registers().read_u32(layout.operational + offset);
    let write = |offset, value| bus.registers().write_u32(layout.operational + offset, value);
    until(bus, READY, || read(STATUS) & NOT_READY == 0).await?;
    write(COMMAND, read(COMMAND) & !(RUN | INTERRUPTS));
    until(bus, HALT, || read(STATUS) & HALTED != 0).await?;
    write(COMMAND, RESET);
    // Some controllers do not answer in the first millisecond.
    bus.sleep_until(bus.now() + LOOK).await;
    until(bus, READY, || {
        read(COMMAND) & RESET == 0 && read(STATUS) & NOT_READY == 0
    })
    .await
}
