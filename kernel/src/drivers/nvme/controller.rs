//! An NVMe controller: how it is brought up, at first and after it has failed, and its commands (NVM Express Base 2.0c).

use alloc::vec::Vec;

use hal::{arch::PerCpu, traits::PerCpuOps};

use super::{
    command::{self, Blocks, Entry},
    ring::Ring,
};
use crate::{
    block::{Command, Hardware, MOST_PAGES, Operation, Reset, SECTOR},
    drivers::registers::RegisterBlock,
    errno::{Errno, Result},
    mm::{
        dma::{self, DmaMemory},
        fallible::TryRoomExact,
        frame::Frame,
    },
};

/// Registers (figure 33).
mod register {
    pub const CAPABILITIES: usize = 0x00;
    pub const CONFIGURATION: usize = 0x14;
    pub const STATUS: usize = 0x1c;
    pub const ADMIN_SIZES: usize = 0x24;
    pub const ADMIN_SUBMISSION: usize = 0x28;
    pub const ADMIN_COMPLETION: usize = 0x30;
    pub const DOORBELLS: usize = 0x1000;
}
/// Configuration: enabled, with entries of 64 and 16 bytes, pages of 4096, the NVM command set.
const ENABLE: u32 = 4 << 20 | 6 << 16 | 1 << 0;
/// Status: ready; failed for good.
const READY: u32 = 1 << 0;
const FATAL: u32 = 1 << 1;

const ADMIN_ENTRIES: u16 = 16;
/// Most entries of a queue for transfers: as many as there are commands, and one, so that all can be in one.
const MOST_ENTRIES: u16 = 128;
/// Most queues for transfers.
pub const MOST_QUEUES: usize = 16;
/// The queue of admin commands; those for transfers follow.
const ADMIN: u16 = 0;
/// Bytes of a command's list of pages.
const LIST: usize = 8 * MOST_PAGES;
/// How often what has no interrupt is looked at (ns).
const LOOK: u64 = 100_000;

/// How far the controller has been brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Down,
    Disabling,
    Enabling,
    /// The command of this number of [`Controller::set_up`] is under way.
    Setup(u16),
    Up,
    Failed,
}

/// A controller with a queue for transfers for each CPU, or for several; queue `i` interrupts by vector `i`.
pub struct Controller<M> {
    registers: M,
    /// Bytes from doorbell to doorbell.
    stride: usize,
    /// How long it may take to become ready, or not ready (ns); commands that set it up get as long.
    patience: u64,
    admin: Ring,
    transfers: Vec<Ring>,
    /// A list of pages for each command.
    lists: DmaMemory,
    stage: Stage,
    deadline: u64,
    /// By queue: commands that the controller has not been told of, and completions that it has not been told are taken.
    fresh: u32,
    taken: u32,
    /// By namespace number less one: the logarithm of the sectors of a block.
    shifts: [u8; MOST_NAMESPACES],
}

/// Most namespaces that are used.
pub const MOST_NAMESPACES: usize = 16;
/// Bytes of registers that every controller has.
pub const LEAST_SPAN: usize = register::DOORBELLS;

impl<M: RegisterBlock> Controller<M> {
    /// A controller behind `registers`, not yet brought up, with 1 to [`MOST_QUEUES`] queues for transfers, or as many as it has.
    ///
    /// # Errors
    /// `ENXIO` for one that cannot do with pages of 4096 bytes or has no NVM command set; `ENOMEM`.
    pub fn new(registers: M, queues: usize) -> Result<Self> {
        let capabilities = registers.read_pair(register::CAPABILITIES);
        let smallest_page = capabilities >> 48 & 0xf;
        let knows_nvm = capabilities >> 37 & 1 != 0;
        if smallest_page > 0 || !knows_nvm || capabilities == u64::MAX {
            return Err(Errno::ENXIO);
        }
        let entries = (capabilities as u16).saturating_add(1).clamp(2, MOST_ENTRIES);
        let mut transfers = Vec::new();
        transfers.try_room_exact(queues)?;
        for _ in 0..queues.clamp(1, MOST_QUEUES) {
            transfers.push(Ring::new(entries)?);
        }
        Ok(Self {
            registers,
            stride: 4 << (capabilities >> 32 & 0xf),
            patience: (capabilities >> 24 & 0xff).max(1) * 500_000_000,
            admin: Ring::new(ADMIN_ENTRIES)?,
            transfers,
            lists: DmaMemory::new(usize::from(entries) * LIST)?,
            stage: Stage::Down,
            deadline: 0,
            fresh: 0,
            taken: 0,
            shifts: [0; MOST_NAMESPACES],
        })
    }

    /// Bytes of registers that it has, up to the last doorbell that is used.
    pub const fn span(&self) -> usize {
        register::DOORBELLS + 2 * (MOST_QUEUES + 1) * self.stride
    }

    /// Begins to bring the controller up, from whatever it was, or goes on with it.
    pub fn bring_up(&mut self, now: u64) -> Reset {
        loop {
            let (from, status) = (self.stage, self.registers.read_u32(register::STATUS));
            // All ones: nothing is there any more.
            if status == u32::MAX {
                self.stage = Stage::Failed;
            }
            match self.stage {
                Stage::Down | Stage::Up => {
                    self.registers.write_u32(register::CONFIGURATION, 0);
                    self.stage = Stage::Disabling;
                    self.deadline = now + self.patience;
                }
                Stage::Disabling if status & READY == 0 => self.enable(now),
                Stage::Enabling if status & FATAL != 0 => self.stage = Stage::Failed,
                Stage::Enabling if status & READY != 0 => self.set_up(0, now),
                Stage::Setup(step) => match self.admin_outcome() {
                    Some(Ok(result)) => {
                        if step == 0 {
                            // After a reset it may give fewer than before: the interrupts of the others then stay away.
                            let given = command::queues_given(result).into();
                            self.transfers.truncate(given);
                        }
                        self.set_up(step + 1, now);
                    }
                    Some(Err(_)) => self.stage = Stage::Failed,
                    None => {}
                },
                Stage::Disabling | Stage::Enabling | Stage::Failed => {}
            }
            match self.stage {
                Stage::Up => return Reset::Done,
                Stage::Failed => {
                    // So that a later try begins anew.
                    self.stage = Stage::Down;
                    return Reset::Failed;
                }
                _ if self.stage != from => {}
                _ if now >= self.deadline => self.stage = Stage::Failed,
                _ => return Reset::Until(now + LOOK),
            }
        }
    }

    fn enable(&mut self, now: u64) {
        self.admin.clear();
        self.transfers.iter_mut().for_each(Ring::clear);
        (self.fresh, self.taken) = (0, 0);
        let (submission, completion) = self.admin.addresses();
        let size = u32::from(ADMIN_ENTRIES - 1);
        self.registers.write_u32(register::ADMIN_SIZES, size << 16 | size);
        self.registers.write_pair(register::ADMIN_SUBMISSION, submission);
        self.registers.write_pair(register::ADMIN_COMPLETION, completion);
        dma::before_device();
        self.registers.write_u32(register::CONFIGURATION, ENABLE);
        self.stage = Stage::Enabling;
        self.deadline = now + self.patience;
    }

    /// Asks for queues, then makes each: what becomes of commands, then the commands.
    fn set_up(&mut self, step: u16, now: u64) {
        let entry = if step == 0 {
            command::ask_for_queues(self.transfers.len() as u16)
        } else {
            let (index, is_second) = ((step - 1) / 2, (step - 1) % 2 == 1);
            let Some(ring) = self.transfers.get(usize::from(index)) else {
                self.stage = Stage::Up;
                return;
            };
            let (submission, completion) = ring.addresses();
            if is_second {
                command::create_submission(index + 1, ring.entries(), submission)
            } else {
                command::create_completion(index + 1, ring.entries(), completion, index)
            }
        };
        self.admin_start(&entry);
        self.stage = Stage::Setup(step);
        self.deadline = now + self.patience;
    }

    /// Gives it an admin command; one at a time.
    pub fn admin_start(&mut self, entry: &Entry) {
        self.admin.push(entry);
        dma::before_device();
        self.doorbell(ADMIN, false, self.admin.tail());
    }

    /// What the admin command returned; `None` before it has ended.
    ///
    /// # Errors
    /// `EIO`.
    pub fn admin_outcome(&mut self) -> Option<Result<u32>> {
        let completion = self.admin.pop()?;
        self.doorbell(ADMIN, true, self.admin.head());
        Some(if completion.status == 0 {
            Ok(completion.result)
        } else {
            Err(Errno::EIO)
        })
    }

    /// When an admin command is to be looked at again, and how long it may take (ns).
    pub const fn admin_times(&self) -> (u64, u64) {
        (LOOK, self.patience)
    }

    /// Tells how large blocks of a namespace are, in bytes.
    pub fn set_block(&mut self, namespace: u32, bytes: u32) {
        let shift = (u64::from(bytes) / SECTOR).max(1).ilog2() as u8;
        if let Some(known) = self.shifts.get_mut(namespace as usize - 1) {
            *known = shift;
        }
    }

    fn doorbell(&self, queue: u16, completions: bool, value: u16) {
        let number = 2 * usize::from(queue) + usize::from(completions);
        self.registers
            .write_u32(register::DOORBELLS + number * self.stride, value.into());
    }

    /// The two pointers of a command to its memory (4.1.1): the second page, or a list of all but the first.
    fn pointers(&self, tag: u16, pages: &[Frame]) -> [u64; 2] {
        let address = |page: &Frame| page.address().0;
        match pages {
            [] => [0; 2],
            [only] => [address(only), 0],
            [first, second] => [address(first), address(second)],
            [first, others @ ..] => {
                let start = usize::from(tag) * LIST;
                for (index, page) in others.iter().enumerate() {
                    self.lists.write_u64(start + 8 * index, address(page));
                }
                [address(first), self.lists.address() + start as u64]
            }
        }
    }
}

impl<M: RegisterBlock> Hardware for Controller<M> {
    fn depth(&self) -> u16 {
        self.transfers[0].entries() - 1
    }

    fn sources(&self) -> usize {
        self.transfers.len()
    }

    fn start(&mut self, tag: u16, command: &Command<'_>) {
        let entry = match command.operation {
            Operation::Flush => command::flush(tag, command.unit),
            operation => {
                let shift = self.shifts.get(command.unit as usize - 1).copied().unwrap_or(0);
                let blocks = Blocks {
                    namespace: command.unit,
                    first: command.sector >> shift,
                    count: command.sectors >> shift,
                };
                let pointers = self.pointers(tag, command.pages);
                command::transfer(operation == Operation::Write, tag, blocks, pointers)
            }
        };
        // Where it is asked for it is told of, so that nobody is woken from afar.
        let queue = PerCpu::cpu_id() as usize % self.transfers.len();
        self.transfers[queue].push(&entry);
        self.fresh |= 1 << queue;
    }

    fn ring(&mut self) {
        dma::before_device();
        while self.fresh != 0 {
            let queue = self.fresh.trailing_zeros() as u16;
            self.fresh &= self.fresh - 1;
            self.doorbell(queue + 1, false, self.transfers[usize::from(queue)].tail());
        }
    }

    fn reap(&mut self, source: usize) -> Option<(u16, Result<()>)> {
        let ring = self.transfers.get_mut(source)?;
        match ring.pop() {
            Some(completion) => {
                self.taken |= 1 << source;
                let result = if completion.status == 0 {
                    Ok(())
                } else {
                    Err(Errno::EIO)
                };
                Some((completion.id, result))
            }
            None => {
                if self.taken >> source & 1 != 0 {
                    self.taken &= !(1 << source);
                    let head = ring.head();
                    self.doorbell(source as u16 + 1, true, head);
                }
                None
            }
        }
    }

    fn reset(&mut self, now: u64) -> Reset {
        self.bring_up(now)
    }
}
