//! A port: how its device is brought up, at first and after it has failed, and the commands that it has (Serial ATA AHCI
//! 1.3.1, 3.3 and 10).

use super::command::{Commands, SLOTS, Transfer};
use crate::{
    block::{Command, Hardware, Operation, Reset, SECTOR},
    drivers::registers::RegisterBlock,
    errno::Result,
};

/// Registers, from the port's first one on.
mod register {
    pub const LIST: usize = 0x00;
    pub const RECEIVED: usize = 0x08;
    pub const INTERRUPTS: usize = 0x10;
    pub const INTERRUPT_ENABLE: usize = 0x14;
    pub const COMMAND: usize = 0x18;
    pub const TASK_FILE: usize = 0x20;
    pub const SIGNATURE: usize = 0x24;
    pub const LINK: usize = 0x28;
    pub const LINK_CONTROL: usize = 0x2c;
    pub const LINK_ERRORS: usize = 0x30;
    pub const QUEUED: usize = 0x34;
    pub const ISSUED: usize = 0x38;
}
/// Registers of the first port, from the controller's on, and bytes from port to port.
const PORTS: usize = 0x100;
const PORT: usize = 0x80;
/// The controller's register of ports that interrupt.
const CONTROLLER_INTERRUPTS: usize = 0x08;

/// Command: started, spun up, powered, receiving, and what of it is so.
const START: u32 = 1 << 0;
const SPIN_UP: u32 = 1 << 1;
const POWER: u32 = 1 << 2;
const RECEIVE: u32 = 1 << 4;
const RECEIVING: u32 = 1 << 14;
const RUNNING: u32 = 1 << 15;
/// Task file: busy, wants data.
const BUSY: u32 = 1 << 7 | 1 << 3;
/// Interrupts: FISes of every kind that end commands; errors, of which the port stops.
const ENDS: u32 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3;
const ERRORS: u32 = 1 << 30 | 1 << 29 | 1 << 28 | 1 << 27 | 1 << 26 | 1 << 24;
/// Link: a device, and talking.
const DETECTED: u32 = 0xf;
const TALKING: u32 = 3;
/// Link control: begin anew; no power saving.
const LINK_RESET: u32 = 1;
const LINK_AWAKE: u32 = 3 << 8;
/// A disk's signature.
const DISK: u32 = 0x0000_0101;

/// Times (ns): for the port to stop (10.1.2), for the link to be reset at least (10.4.2), for a device to be seen, for it to be
/// ready, and for its description.
const STOP: u64 = 500_000_000;
const RESET: u64 = 1_000_000;
const DETECT: u64 = 30_000_000;
const TALK: u64 = 1_000_000_000;
const READY: u64 = 10_000_000_000;
const DESCRIBE: u64 = 5_000_000_000;
/// How often what has no interrupt is looked at.
const LOOK: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Down,
    /// Commands are being stopped, then the receiving of FISes.
    Stopping,
    Deafening,
    /// The link is being reset; then a device is to be seen, and to talk.
    Resetting,
    Detecting,
    Linking,
    /// The device is waited for, then described.
    Busy,
    Describing,
    Up,
    /// There is no disk.
    Empty,
    Failed,
}

/// A port of a controller, and the right to use it.
pub struct Port<M: RegisterBlock> {
    registers: M,
    base: usize,
    number: usize,
    commands: Commands,
    stage: Stage,
    deadline: u64,
    /// Commands that it takes, and whether the device queues them itself.
    depth: u16,
    queued: bool,
    /// The logarithm of the sectors of a block.
    shift: u32,
    /// Slots that have been given to the device; those not yet told of; those that have ended, not yet reported.
    active: u32,
    fresh: u32,
    ended: u32,
    stopped: bool,
}

impl<M: RegisterBlock> Port<M> {
    /// Port `number` of the controller behind `registers`, which takes `slots` commands a port. `coherent`: it looks into caches.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(registers: M, number: usize, slots: u16, coherent: bool) -> Result<Self> {
        Ok(Self {
            registers,
            base: PORTS + number * PORT,
            number,
            commands: Commands::new(coherent)?,
            stage: Stage::Down,
            deadline: 0,
            depth: slots.clamp(1, SLOTS as u16),
            queued: false,
            shift: 0,
            active: 0,
            fresh: 0,
            ended: 0,
            stopped: false,
        })
    }

    /// Bytes of registers up to the end of port `number`'s.
    pub const fn span(number: usize) -> usize {
        PORTS + (number + 1) * PORT
    }

    /// A word of the device's description, once it is up.
    pub fn identity(&self, word: usize) -> u16 {
        self.commands.identity(word)
    }

    /// Tells how large the device's blocks are, and how many commands its own queue takes; 0 without one.
    pub fn set_kind(&mut self, block: u32, queue: usize) {
        self.shift = (block / SECTOR as u32).max(1).ilog2();
        self.queued = queue > 0;
        if self.queued {
            self.depth = self.depth.min(queue as u16);
        }
    }

    /// Its number.
    pub const fn number(&self) -> usize {
        self.number
    }

    /// Whether there is a disk, which works.
    pub fn is_up(&self) -> bool {
        self.stage == Stage::Up
    }

    /// Whether [`Port::bring_up`] failed because there is no disk.
    pub fn is_empty(&self) -> bool {
        self.stage == Stage::Empty
    }

    fn read(&self, register: usize) -> u32 {
        self.registers.read_u32(self.base + register)
    }

    fn write(&self, register: usize, value: u32) {
        self.registers.write_u32(self.base + register, value);
    }

    fn command(&self, clear: u32, set: u32) {
        self.write(register::COMMAND, self.read(register::COMMAND) & !clear | set);
    }

    /// Begins to bring the port's device up, from whatever it was, or goes on with it.
    pub fn bring_up(&mut self, now: u64) -> Reset {
        if matches!(self.stage, Stage::Down | Stage::Up | Stage::Empty | Stage::Failed) {
            self.silence();
            self.command(START, 0);
            self.go(Stage::Stopping, now + STOP);
        }
        loop {
            let from = self.stage;
            self.advance(now);
            match self.stage {
                Stage::Up => return Reset::Done,
                Stage::Empty => return Reset::Failed,
                Stage::Failed => {
                    self.silence();
                    return Reset::Failed;
                }
                _ if self.stage != from => {}
                _ if now >= self.deadline => self.stage = self.too_late(now),
                _ => return Reset::Until(now + LOOK),
            }
        }
    }

    /// One step, where the device lets it happen.
    fn advance(&mut self, now: u64) {
        match self.stage {
            Stage::Stopping if self.read(register::COMMAND) & RUNNING == 0 => {
                self.command(RECEIVE, 0);
                self.go(Stage::Deafening, now + STOP);
            }
            Stage::Deafening if self.read(register::COMMAND) & RECEIVING == 0 => {
                self.listen();
                self.go(Stage::Resetting, now + RESET);
            }
            Stage::Detecting if self.read(register::LINK) & DETECTED != 0 => self.go(Stage::Linking, now + TALK),
            Stage::Linking if self.read(register::LINK) & DETECTED == TALKING => {
                self.write(register::LINK_ERRORS, u32::MAX);
                // Some give the device's first FIS only to those who ask for FISes after the reset.
                self.command(0, RECEIVE);
                self.go(Stage::Busy, now + READY);
            }
            Stage::Busy if self.read(register::TASK_FILE) & BUSY == 0 => self.start_device(now),
            Stage::Describing if self.read(register::ISSUED) & 1 == 0 => self.go_up(),
            Stage::Describing if self.read(register::INTERRUPTS) & ERRORS != 0 => self.stage = Stage::Failed,
            _ => {}
        }
    }

    /// What a stage leads to whose time is up.
    fn too_late(&mut self, now: u64) -> Stage {
        match self.stage {
            Stage::Resetting => {
                self.write(register::LINK_CONTROL, LINK_AWAKE);
                self.deadline = now + DETECT;
                Stage::Detecting
            }
            Stage::Detecting => Stage::Empty,
            _ => Stage::Failed,
        }
    }

    fn go(&mut self, stage: Stage, deadline: u64) {
        (self.stage, self.deadline) = (stage, deadline);
    }

    /// No interrupts; what was under way is forgotten.
    fn silence(&mut self) {
        self.write(register::INTERRUPT_ENABLE, 0);
        (self.active, self.fresh, self.ended, self.stopped) = (0, 0, 0, false);
    }

    /// Tells the port where its memory is, lets it receive, and begins to reset the link.
    fn listen(&self) {
        let (list, received) = self.commands.addresses();
        for (register, address) in [(register::LIST, list), (register::RECEIVED, received)] {
            self.write(register, address as u32);
            self.write(register + 4, (address >> 32) as u32);
        }
        self.command(0, SPIN_UP | POWER | RECEIVE);
        self.write(register::LINK_CONTROL, LINK_AWAKE | LINK_RESET);
    }

    fn start_device(&mut self, now: u64) {
        if self.read(register::SIGNATURE) != DISK {
            self.stage = Stage::Empty;
            return;
        }
        self.write(register::LINK_ERRORS, u32::MAX);
        self.write(register::INTERRUPTS, u32::MAX);
        self.command(0, START);
        self.commands.identify();
        self.write(register::ISSUED, 1);
        self.go(Stage::Describing, now + DESCRIBE);
    }

    fn go_up(&mut self) {
        self.commands.received(0);
        self.write(register::INTERRUPTS, u32::MAX);
        self.registers.write_u32(CONTROLLER_INTERRUPTS, 1 << self.number);
        self.write(register::INTERRUPT_ENABLE, ENDS | ERRORS);
        self.stage = Stage::Up;
    }

    /// Looks at what the port has to say. The controller's bit goes last: a level interrupt then falls, unless there is more.
    fn look(&mut self) {
        let interrupts = self.read(register::INTERRUPTS);
        // All ones: nothing is there any more. What was asked of it gets no answer.
        if interrupts == u32::MAX {
            return;
        }
        self.write(register::INTERRUPTS, interrupts);
        self.registers.write_u32(CONTROLLER_INTERRUPTS, 1 << self.number);
        let busy = self.read(register::ISSUED) | self.read(register::QUEUED);
        self.stopped |= interrupts & ERRORS != 0;
        let ended = self.active & !self.fresh & !busy;
        // Of a command that is not queued, and that the port stopped at, some controllers say that it has ended.
        if !self.stopped || self.queued {
            self.active &= !ended;
            self.ended |= ended;
        }
    }
}

impl<M: RegisterBlock> Drop for Port<M> {
    /// Has the port neither carry out commands nor write to memory. Where its controller is still master of a bus it is no more by
    /// now.
    fn drop(&mut self) {
        self.silence();
        self.command(START | RECEIVE, 0);
    }
}

impl<M: RegisterBlock> Hardware for Port<M> {
    fn depth(&self) -> u16 {
        self.depth
    }

    fn start(&mut self, tag: u16, command: &Command<'_>) {
        let slot = usize::from(tag);
        if command.operation == Operation::Flush {
            self.commands.flush(slot);
        } else {
            let transfer = Transfer {
                operation: command.operation,
                block: command.sector >> self.shift,
                blocks: command.sectors >> self.shift,
                bytes: command.sectors * SECTOR as u32,
                queued: self.queued,
            };
            let pages = command.pages.iter().map(|page| page.address().0);
            self.commands.transfer(slot, &transfer, pages);
            if self.queued {
                self.write(register::QUEUED, 1 << slot);
            }
        }
        self.active |= 1 << slot;
        self.fresh |= 1 << slot;
    }

    fn ring(&mut self) {
        let fresh = core::mem::take(&mut self.fresh);
        self.write(register::ISSUED, fresh);
    }

    fn reap(&mut self, _: usize) -> Option<(u16, Result<()>)> {
        if self.ended == 0 {
            self.look();
        }
        let slot = (self.ended != 0).then(|| self.ended.trailing_zeros())?;
        self.ended &= self.ended - 1;
        self.commands.received(slot as usize);
        Some((slot as u16, Ok(())))
    }

    fn stalled(&self) -> bool {
        self.stopped
    }

    fn flushes_alone(&self) -> bool {
        self.queued
    }

    fn reset(&mut self, now: u64) -> Reset {
        self.bring_up(now)
    }
}
