//! The controller at work: its ports, commands and events (xHCI 1.2, 4.6, 4.9 and 4.19).

mod startup;

use alloc::{sync::Arc, vec::Vec};
use core::pin::pin;

use arrayvec::ArrayVec;
use futures_util::future::{Either, select};

use self::startup::{memory, until};
use super::{
    Bus,
    layout::Layout,
    port::Port,
    ring::{Consumer, Producer},
    trb::{Completion, Event, Transfer, Trb, code},
};
use crate::{
    drivers::registers::RegisterBlock,
    errno::{Errno, Result},
    mm::dma::{self, DmaMemory},
    sync::{SpinLock, WaitQueue},
};

/// Offsets in the operational registers (5.4).
const COMMAND: usize = 0x00;
const STATUS: usize = 0x04;
/// Offsets in an interrupter's registers (5.5.2).
const MANAGEMENT: usize = 0x00;
const DEQUEUE: usize = 0x18;

/// Of the status: halted; errors of the bus and of the controller itself; an interrupt.
const HALTED: u32 = 1 << 0;
const BUS_ERROR: u32 = 1 << 2;
const INTERRUPT: u32 = 1 << 3;
const CONTROLLER_ERROR: u32 = 1 << 12;
/// Of the interrupter: an interrupt is pending, which one forgets by writing it, and may be. Of its ring's place: it is being served,
/// likewise.
const PENDING: u32 = 1 << 0;
const ENABLED: u32 = 1 << 1;
const BUSY: u64 = 1 << 3;

/// How long (ns) it may take to halt.
const HALT: u64 = 100_000_000;
/// How long a command may take: the slowest asks a device for its attention three times.
const COMMAND_LIMIT: u64 = 5_000_000_000;
/// Events taken without a pause.
const BUDGET: usize = 64;
/// Transfers' ends that wait for their device's task: it has fewer on their way.
const TRANSFERS: usize = 32;

/// What is known of a port.
#[derive(Default)]
struct AtPort {
    /// Counts what has left: a device is there while it is what it was.
    epoch: u32,
    /// Its task has been asked for.
    served: bool,
    command: Option<Completion>,
    transfers: ArrayVec<Transfer, TRANSFERS>,
    /// More transfers have ended than there were on their way.
    flooded: bool,
}

struct State {
    commands: Producer,
    events: Consumer,
    /// The commands on their way: the block, and whose it is.
    pending: Vec<(u64, u8)>,
    /// Whose each slot is; 0 where it is nobody's.
    slots: Vec<u8>,
    /// By port; the first is none.
    ports: Vec<AtPort>,
    dead: bool,
}

/// A controller at work. Shared by the task that takes its events and those of the devices at its ports.
pub struct Controller<B: Bus> {
    bus: B,
    layout: Layout,
    state: SpinLock<State>,
    /// By port: its task. The first is nobody's port: who waits for the controller's end.
    queues: Vec<WaitQueue>,
    /// The devices' contexts, by slot, and the table of the events' ring.
    contexts: Arc<DmaMemory>,
    /// What else the controller has of the kernel's.
    memory: Vec<Arc<DmaMemory>>,
}

impl<B: Bus> Controller<B> {
    fn registers(&self) -> &B::Registers {
        self.bus.registers()
    }

    fn read(&self, offset: usize) -> u32 {
        self.registers().read_u32(self.layout.operational + offset)
    }

    fn write(&self, offset: usize, value: u32) {
        self.registers().write_u32(self.layout.operational + offset, value);
    }

    /// The machine's side.
    pub fn bus(&self) -> &B {
        &self.bus
    }

    /// What the controller has.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The ports' numbers.
    pub fn ports(&self) -> core::ops::RangeInclusive<u8> {
        1..=self.layout.ports
    }

    /// What a port says.
    pub fn port(&self, number: u8) -> Port {
        Port(self.registers().read_u32(self.layout.port(number)))
    }

    /// Writes to its register.
    pub fn write_port(&self, number: u8, value: u32) {
        self.registers().write_u32(self.layout.port(number), value);
    }

    /// Memory that the controller reaches.
    ///
    /// # Errors
    /// `ENOMEM`, `ENXIO` if it is where the controller does not reach.
    pub fn memory(&self, bytes: usize) -> Result<Arc<DmaMemory>> {
        memory(&self.bus, &self.layout, bytes)
    }

    /// Looks at every port, as if it had just changed, and names those with something at them that no task serves yet.
    pub fn look(&self, mut appeared: impl FnMut(u8)) {
        for number in self.ports() {
            self.port_changed(number, &mut appeared);
        }
    }

    /// Takes events, no more than a budget, and wakes whom they are for; names ports as [`Controller::look`] does. Whether there may be
    /// more.
    ///
    /// # Errors
    /// `EIO` if the controller has failed: everything that waits for it fails, too.
    pub fn serve(&self, mut appeared: impl FnMut(u8)) -> Result<bool> {
        let status = self.read(STATUS);
        if status & (BUS_ERROR | CONTROLLER_ERROR | HALTED) != 0 {
            self.fail();
        }
        if self.state.lock().dead {
            return Err(Errno::EIO);
        }
        // Before the ring is looked at, so that what comes later interrupts again.
        self.write(STATUS, INTERRUPT);
        let management = self.layout.interrupter + MANAGEMENT;
        self.registers().write_u32(management, PENDING | ENABLED);
        let mut taken = 0;
        while taken < BUDGET
            && let Some(event) = self.next_event()
        {
            taken += 1;
            match event {
                Event::Transfer(transfer) => self.transferred(transfer),
                Event::Command(completion) => self.completed(completion),
                Event::Port(port) if self.ports().contains(&port) => self.port_changed(port, &mut appeared),
                Event::Port(_) | Event::Other(_) => {}
            }
        }
        let dequeue = self.state.lock().events.dequeue();
        self.registers()
            .write_pair(self.layout.interrupter + DEQUEUE, dequeue | BUSY);
        Ok(taken == BUDGET)
    }

    fn next_event(&self) -> Option<Event> {
        self.state.lock().events.pop().map(Event::from)
    }

    fn transferred(&self, transfer: Transfer) {
        let port = {
            let state = &mut *self.state.lock();
            let port = state.slots.get(usize::from(transfer.slot)).copied().unwrap_or(0);
            if port == 0 {
                return;
            }
            let at = &mut state.ports[usize::from(port)];
            at.flooded |= at.transfers.try_push(transfer).is_err();
            port
        };
        self.queues[usize::from(port)].wake_all();
    }

    fn completed(&self, completion: Completion) {
        let port = {
            let state = &mut *self.state.lock();
            let Some(place) = state.pending.iter().position(|(block, _)| *block == completion.block) else {
                return;
            };
            let (_, port) = state.pending.swap_remove(place);
            state.ports[usize::from(port)].command = Some(completion);
            port
        };
        self.queues[usize::from(port)].wake_all();
    }

    fn port_changed(&self, number: u8, appeared: &mut impl FnMut(u8)) {
        let port = self.port(number);
        self.write_port(number, port.acknowledged());
        let is_new = {
            let at = &mut self.state.lock().ports[usize::from(number)];
            if port.has_left() {
                at.epoch = at.epoch.wrapping_add(1);
            }
            let is_new = port.is_connected() && !at.served;
            at.served |= is_new;
            is_new
        };
        self.queues[usize::from(number)].wake_all();
        if is_new {
            appeared(number);
        }
    }

    /// Says that there is no task for a port after all; the next change asks for one again.
    pub fn unserved(&self, port: u8) {
        self.state.lock().ports[usize::from(port)].served = false;
    }

    /// Gives the controller up.
    pub fn fail(&self) {
        if core::mem::replace(&mut self.state.lock().dead, true) {
            return;
        }
        self.write(COMMAND, 0);
        for queue in &self.queues {
            queue.wake_all();
        }
    }

    /// Waits until the controller has been given up. Dropping it loses nothing.
    pub async fn failed(&self) {
        self.queues[0].wait_until(|| self.state.lock().dead.then_some(())).await;
    }

    /// Waits until the controller has halted after [`Controller::fail`], so that it touches no memory any more; whether it has.
    pub async fn halted(&self) -> bool {
        let halted = || self.read(STATUS) & HALTED != 0;
        until(&self.bus, HALT, halted).await.is_ok()
    }

    /// Waits for what `look` finds in a port's state. Dropping it loses nothing.
    ///
    /// # Errors
    /// `EIO` if the controller has failed; `ETIMEDOUT` after `limit` ns, if there is one.
    async fn wait<T>(&self, port: u8, limit: Option<u64>, mut look: impl FnMut(&mut AtPort) -> Option<T>) -> Result<T> {
        let attempt = || {
            let state = &mut *self.state.lock();
            if state.dead {
                return Some(Err(Errno::EIO));
            }
            look(&mut state.ports[usize::from(port)]).map(Ok)
        };
        let found = self.queues[usize::from(port)].wait_until(attempt);
        let Some(limit) = limit else { return found.await };
        let late = self.bus.sleep_until(self.bus.now().saturating_add(limit));
        match select(pin!(found), pin!(late)).await {
            Either::Left((found, _)) => found,
            Either::Right(_) => Err(Errno::ETIMEDOUT),
        }
    }

    /// Waits until something is at a port: its epoch.
    ///
    /// # Errors
    /// `EIO` if the controller has failed.
    pub async fn connected(&self, port: u8) -> Result<u32> {
        let is_there = |at: &mut AtPort| self.port(port).is_connected().then_some(at.epoch);
        self.wait(port, None, is_there).await
    }

    /// Waits until what was there has left.
    ///
    /// # Errors
    /// As [`Controller::connected`].
    pub async fn left(&self, port: u8, epoch: u32) -> Result<()> {
        self.wait(port, None, |at| (at.epoch != epoch).then_some(())).await
    }

    /// What is at a port, as if it had come just now: what its reset has changed is no reason to look at it anew.
    pub fn epoch(&self, port: u8) -> u32 {
        self.state.lock().ports[usize::from(port)].epoch
    }

    /// Waits until a port says what is wanted.
    ///
    /// # Errors
    /// `EIO` if the controller has failed, `ETIMEDOUT` after `limit` ns.
    pub async fn port_is(&self, port: u8, limit: u64, is: impl Fn(Port) -> bool) -> Result<()> {
        self.wait(port, Some(limit), |_| is(self.port(port)).then_some(()))
            .await
    }

    /// Has a command done, for the task of a port, which has no other on its way.
    ///
    /// # Errors
    /// `EIO` if it fails; if it does not end at all, the controller is given up.
    pub async fn command(&self, port: u8, trb: Trb) -> Result<Completion> {
        let block = {
            let state = &mut *self.state.lock();
            if state.dead {
                return Err(Errno::EIO);
            }
            let block = state.commands.push(trb);
            state.pending.push((block, port));
            block
        };
        self.ring(0, 0);
        let own = |completion: &mut Completion| completion.block == block;
        let done = self.wait(port, Some(COMMAND_LIMIT), |at| at.command.take_if(own)).await;
        match done {
            Ok(completion) if completion.code == code::SUCCESS => Ok(completion),
            Ok(completion) => {
                let kind = trb.kind();
                log::debug!("USB port {port}: command {kind} ends with {}", completion.code);
                Err(Errno::EIO)
            }
            Err(error) => {
                if error == Errno::ETIMEDOUT {
                    log::error!("the USB controller does not do what it is told to: it is given up");
                    self.fail();
                }
                Err(Errno::EIO)
            }
        }
    }

    /// Tells the controller that there is something new for an endpoint of a slot, or among the commands, which are slot 0's.
    pub fn ring(&self, slot: u8, endpoint: u8) {
        dma::before_device();
        self.registers().write_u32(self.layout.doorbell(slot), endpoint.into());
    }

    /// Gives a port's device its slot: it is told of what ends there. `context` is what the controller writes of it.
    ///
    /// # Errors
    /// `EIO` if there is no such slot, or it is somebody's.
    pub fn take_slot(&self, port: u8, slot: u8, context: &DmaMemory) -> Result<()> {
        let state = &mut *self.state.lock();
        match state.slots.get_mut(usize::from(slot)) {
            Some(owner) if *owner == 0 && slot != 0 => *owner = port,
            _ => return Err(Errno::EIO),
        }
        let at = &mut state.ports[usize::from(port)];
        at.transfers.clear();
        at.flooded = false;
        self.contexts.write_u64(usize::from(slot) * 8, context.address());
        Ok(())
    }

    /// Takes it back, after the controller has.
    pub fn release_slot(&self, slot: u8) {
        self.contexts.write_u64(usize::from(slot) * 8, 0);
        self.state.lock().slots[usize::from(slot)] = 0;
    }

    /// Waits for the next end of a transfer of a port's device that is `wanted`; others stay. Dropping it loses nothing.
    ///
    /// # Errors
    /// `ENODEV` if the device has left, `EIO` if it or the controller has failed, `ETIMEDOUT` after `limit` ns, if there is one.
    pub async fn transfer(
        &self,
        port: u8,
        epoch: u32,
        limit: Option<u64>,
        wanted: impl Fn(&Transfer) -> bool,
    ) -> Result<Transfer> {
        let look = |at: &mut AtPort| {
            if at.epoch != epoch {
                return Some(Err(Errno::ENODEV));
            }
            if at.flooded {
                return Some(Err(Errno::EIO));
            }
            let place = at.transfers.iter().position(&wanted)?;
            Some(Ok(at.transfers.remove(place)))
        };
        self.wait(port, limit, look).await?
    }
}

impl<B: Bus> Drop for Controller<B> {
    fn drop(&mut self) {
        self.write(COMMAND, 0);
        // What runs on although it was told to halt may write to memory that is somebody else's then.
        if self.read(STATUS) & HALTED == 0 {
            log::error!("a USB controller does not halt: its memory is given up");
            core::mem::forget(core::mem::take(&mut self.memory));
        }
    }
}
