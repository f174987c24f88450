//! A controller for tests, as the standard has it: it reads the rings that the driver writes, and nothing but memory that it was
//! given.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

mod machine;
mod words;

pub use self::words::Words;

use self::words::words_only;
use crate::{drivers::registers::RegisterBlock, mm::dma::DmaMemory};

const LENGTH: usize = 0x4000;
const OPERATIONAL: usize = 0x40;
const STATUS: usize = OPERATIONAL + 4;
const PORTS: usize = OPERATIONAL + 0x400;
const INTERRUPTER: usize = 0x1020;
const DOORBELLS: usize = 0x2000;
const EXTENDED: usize = 0x3000;
/// Ports 1 and 2 speak USB 2, 3 and 4 USB 3.
pub const PORT_COUNT: u8 = 4;
pub const SLOTS: u8 = 8;
/// Bytes of a context.
const CONTEXT: usize = 64;

const CONNECTED: u32 = 1;
const ENABLED: u32 = 2;
const CONNECTION_CHANGED: u32 = 1 << 17;
const RESET_CHANGED: u32 = 1 << 21;
const CHANGES: u32 = 0x7f << 17;

/// What a device answers to a request.
pub enum Reply {
    Data(Vec<u8>),
    Done,
    Stall,
    Failure,
    Silence,
}

/// A device at a port.
pub struct Gadget {
    pub speed: u32,
    pub answer: Box<dyn FnMut([u8; 8]) -> Reply + Send>,
    /// The requests so far.
    pub requests: Vec<[u8; 8]>,
    /// What is to be sent, by endpoint's index: nothing for a failure.
    pub reports: HashMap<u8, VecDeque<Option<Vec<u8>>>>,
}

/// A place in a ring.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    at: u64,
    cycle: bool,
}

impl Place {
    const fn new(word: u64) -> Self {
        Self {
            at: word & !0xf,
            cycle: word & 1 != 0,
        }
    }
}

#[derive(Default)]
struct Pipe {
    place: Place,
    halted: bool,
    request: [u8; 8],
    reply: Option<Reply>,
}

#[derive(Default)]
pub struct Slot {
    pub port: u8,
    pipes: HashMap<u8, Pipe>,
    /// Bytes of a packet of the control endpoint.
    pub packet: u32,
}

pub struct State {
    words: Vec<u32>,
    memory: Vec<Arc<DmaMemory>>,
    pub now: u64,
    commands: Place,
    events: usize,
    events_cycle: bool,
    pub gadgets: [Option<Gadget>; PORT_COUNT as usize + 1],
    pub slots: HashMap<u8, Slot>,
    /// Commands are not done.
    pub deaf: bool,
    /// Firmware does not let go.
    pub possessive: bool,
    /// It does not halt.
    pub restless: bool,
    /// Events that were raised.
    pub raised: usize,
}

/// The controller and its machine.
#[derive(Clone)]
pub struct Simulated(Arc<Mutex<State>>);

impl Simulated {
    pub fn new() -> Self {
        let mut words = vec![0; LENGTH / 4];
        for (at, value) in [
            (0x00, 0x0120_0040),
            (0x04, u32::from(PORT_COUNT) << 24 | 1 << 8 | u32::from(SLOTS)),
            // Two pages for itself.
            (0x08, 2 << 27),
            (0x10, (EXTENDED as u32 / 4) << 16 | 1 << 3 | 1 << 2 | 1),
            (0x14, DOORBELLS as u32),
            (0x18, 0x1000),
            (STATUS, 1),
            (OPERATIONAL + 8, 1),
            (EXTENDED, 0x0001_0401),
            (EXTENDED + 4, 0x0000_e011),
            (EXTENDED + 0x10, 0x0200_0402),
            (EXTENDED + 0x18, 0x0000_0201),
            (EXTENDED + 0x20, 0x0300_0002),
            (EXTENDED + 0x28, 0x0000_0203),
        ] {
            words[at / 4] = value;
        }
        Self(Arc::new(Mutex::new(State {
            words,
            memory: Vec::new(),
            now: 0,
            commands: Place::default(),
            events: 0,
            events_cycle: true,
            gadgets: Default::default(),
            slots: HashMap::new(),
            deaf: false,
            possessive: false,
            restless: false,
            raised: 0,
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn plug(&self, port: u8, gadget: Gadget) {
        let state = &mut *self.state();
        state.gadgets[usize::from(port)] = Some(gadget);
        let speed = state.gadgets[usize::from(port)].as_ref().unwrap().speed;
        // Links of USB 3 train by themselves.
        let enabled = if port > 2 { ENABLED } else { 0 };
        state.port_status(port, |status| {
            status & 0x200 | CONNECTED | enabled | speed << 10 | CONNECTION_CHANGED
        });
    }

    pub fn unplug(&self, port: u8) {
        let state = &mut *self.state();
        state.gadgets[usize::from(port)] = None;
        state.port_status(port, |status| status & 0x200 | CONNECTION_CHANGED);
    }

    /// Has a device report.
    pub fn report(&self, port: u8, endpoint: u8, report: Option<&[u8]>) {
        let state = &mut *self.state();
        let gadget = state.gadgets[usize::from(port)].as_mut().unwrap();
        let reports = gadget.reports.entry(endpoint).or_default();
        reports.push_back(report.map(<[u8]>::to_vec));
        let slot = state.slots.iter().find(|(_, slot)| slot.port == port);
        if let Some((&slot, _)) = slot {
            state.pump(slot, endpoint);
        }
    }

    pub fn requests(&self, port: u8) -> Vec<[u8; 8]> {
        self.state().gadgets[usize::from(port)]
            .as_ref()
            .unwrap()
            .requests
            .clone()
    }

    /// An event of any kind.
    pub fn raise(&self, words: [u32; 4]) {
        self.state().event(words);
    }

    /// Breaks.
    pub fn break_down(&self) {
        self.state().words[STATUS / 4] |= 1 << 12;
    }

    pub fn is_halted(&self) -> bool {
        self.state().words[STATUS / 4] & 1 != 0
    }

    pub fn legacy(&self) -> [u32; 2] {
        let state = self.state();
        [state.words[EXTENDED / 4], state.words[EXTENDED / 4 + 1]]
    }
}

impl State {
    fn find(&self, address: u64) -> (&DmaMemory, usize) {
        let is_in =
            |memory: &&Arc<DmaMemory>| (memory.address()..memory.address() + memory.len() as u64).contains(&address);
        let memory = self.memory.iter().find(is_in);
        let memory = memory.unwrap_or_else(|| panic!("{address:#x} is not the controller's"));
        (memory, (address - memory.address()) as usize)
    }

    fn word(&self, address: u64) -> u32 {
        let (memory, offset) = self.find(address);
        memory.read_u32(offset)
    }

    fn pair(&self, address: u64) -> u64 {
        u64::from(self.word(address)) | u64::from(self.word(address + 4)) << 32
    }

    fn register_pair(&self, at: usize) -> u64 {
        u64::from(self.words[at / 4]) | u64::from(self.words[at / 4 + 1]) << 32
    }

    fn block(&self, place: Place) -> Option<[u32; 4]> {
        let words = [0, 4, 8, 12].map(|offset| self.word(place.at + offset));
        ((words[3] & 1 != 0) == place.cycle).then_some(words)
    }

    /// The next block that is no link, and where it is; the place moves on.
    fn take(&self, place: &mut Place) -> Option<(u64, [u32; 4])> {
        loop {
            let words = self.block(*place)?;
            if words[3] >> 10 & 63 != 6 {
                let at = place.at;
                place.at += 16;
                return Some((at, words));
            }
            place.at = u64::from(words[0]) | u64::from(words[1]) << 32;
            place.cycle ^= words[3] & 2 != 0;
        }
    }

    fn event(&mut self, mut words: [u32; 4]) {
        let table = self.register_pair(INTERRUPTER + 0x10);
        let (ring, size) = (self.pair(table), self.word(table + 8) as usize);
        words[3] = words[3] & !1 | u32::from(self.events_cycle);
        let (memory, offset) = self.find(ring + 16 * self.events as u64);
        for (index, word) in words.into_iter().enumerate() {
            memory.write_u32(offset + 4 * index, word);
        }
        self.raised += 1;
        self.events += 1;
        if self.events == size {
            self.events = 0;
            self.events_cycle = !self.events_cycle;
        }
    }

    fn runs(&self) -> bool {
        self.words[STATUS / 4] & 1 == 0
    }

    fn port_status(&mut self, port: u8, change: impl FnOnce(u32) -> u32) {
        let at = PORTS / 4 + (usize::from(port) - 1) * 4;
        self.words[at] = change(self.words[at]);
        if self.runs() {
            self.event([u32::from(port) << 24, 0, 1 << 24, 34 << 10]);
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        let word = offset / 4;
        match offset {
            0x40 => {
                if value & 2 != 0 {
                    self.words[STATUS / 4] = 1;
                    self.words[word] = 0;
                } else {
                    self.words[word] = value;
                    let halted = value & 1 == 0 && !self.restless;
                    self.words[STATUS / 4] = self.words[STATUS / 4] & !1 | u32::from(halted);
                }
            }
            STATUS => self.words[word] &= !(value & 0x41c),
            0x58 => {
                self.words[word] = value;
                self.commands = Place::new(self.register_pair(0x58));
            }
            0x5c => {
                self.words[word] = value;
                self.commands = Place::new(self.register_pair(0x58));
            }
            PORTS..0x480 if offset.is_multiple_of(16) => {
                let status = self.words[word];
                self.words[word] = (status & !(value & CHANGES)) & !0x200 | value & 0x200;
                if value & 2 != 0 {
                    self.words[word] &= !ENABLED;
                }
                let port = ((offset - PORTS) / 16 + 1) as u8;
                if value & (1 << 4 | 1 << 31) != 0 && status & CONNECTED != 0 {
                    self.port_status(port, |status| status | ENABLED | RESET_CHANGED);
                }
            }
            DOORBELLS => {
                assert_eq!(value, 0);
                if !self.deaf {
                    self.do_commands();
                }
            }
            _ if offset > DOORBELLS && offset <= DOORBELLS + 4 * usize::from(SLOTS) => {
                self.pump(((offset - DOORBELLS) / 4) as u8, value as u8);
            }
            EXTENDED if !self.possessive && value & 1 << 24 != 0 => self.words[word] = value & !(1 << 16),
            _ => self.words[word] = value,
        }
    }

    fn do_commands(&mut self) {
        let mut place = self.commands;
        while let Some((at, words)) = self.take(&mut place) {
            let (slot, endpoint) = ((words[3] >> 24) as u8, (words[3] >> 16) as u8 & 31);
            let pointer = u64::from(words[0]) | u64::from(words[1]) << 32;
            let (code, slot) = match words[3] >> 10 & 63 {
                9 => match (1..=SLOTS).find(|slot| !self.slots.contains_key(slot)) {
                    Some(slot) => {
                        self.slots.insert(slot, Slot::default());
                        (1, slot)
                    }
                    None => (9, 0),
                },
                10 => (if self.slots.remove(&slot).is_some() { 1 } else { 11 }, slot),
                11 => (self.address(slot, pointer), slot),
                12 => (self.configure(slot, pointer), slot),
                13 => {
                    assert_eq!(self.word(pointer + 4), 2, "only the control endpoint is evaluated");
                    self.slots.get_mut(&slot).unwrap().packet = 0;
                    let packet = self.word(pointer + 2 * CONTEXT as u64 + 4) >> 16;
                    self.slots.get_mut(&slot).unwrap().packet = packet;
                    (1, slot)
                }
                kind @ (14 | 16) => {
                    let pipe = self.slots.get_mut(&slot).and_then(|slot| slot.pipes.get_mut(&endpoint));
                    let code = match pipe {
                        Some(pipe) if kind == 14 && pipe.halted => {
                            pipe.halted = false;
                            1
                        }
                        Some(pipe) if kind == 16 && !pipe.halted => {
                            pipe.place = Place::new(pointer);
                            pipe.reply = None;
                            1
                        }
                        _ => 19,
                    };
                    (code, slot)
                }
                other => panic!("command {other}"),
            };
            self.event([
                at as u32,
                (at >> 32) as u32,
                code << 24,
                u32::from(slot) << 24 | 33 << 10,
            ]);
        }
        self.commands = place;
    }

    fn address(&mut self, number: u8, input: u64) -> u32 {
        let context = CONTEXT as u64;
        assert_eq!((self.word(input), self.word(input + 4)), (0, 3));
        let (first, second) = (self.word(input + context), self.word(input + context + 4));
        let port = (second >> 16) as u8;
        let gadget = self.gadgets[usize::from(port)].as_ref();
        // The device's context is where the table says.
        let table = self.register_pair(0x70);
        self.find(self.pair(table + 8 * u64::from(number)));
        let Some(gadget) = gadget else { return 4 };
        assert_eq!(first, 1 << 27 | gadget.speed << 20);
        assert_eq!(self.word(input + 2 * context + 4) >> 3 & 7, 4);
        let pipe = Pipe {
            place: Place::new(self.pair(input + 2 * context + 8)),
            ..Pipe::default()
        };
        let packet = self.word(input + 2 * context + 4) >> 16;
        let slot = self.slots.get_mut(&number).unwrap();
        (slot.port, slot.packet) = (port, packet);
        slot.pipes.insert(1, pipe);
        1
    }

    fn configure(&mut self, number: u8, input: u64) -> u32 {
        let context = CONTEXT as u64;
        let added = self.word(input + 4);
        let last = 31 - added.leading_zeros();
        assert_eq!((added & 3, self.word(input + context) >> 27), (1, last));
        for index in (2..=31_u8).filter(|index| added >> index & 1 == 1) {
            let at = input + (u64::from(index) + 1) * context;
            assert_eq!(self.word(at + 4) >> 3 & 7, 7, "interrupts, to the host");
            let pipe = Pipe {
                place: Place::new(self.pair(at + 8)),
                ..Pipe::default()
            };
            self.slots.get_mut(&number).unwrap().pipes.insert(index, pipe);
        }
        1
    }

    /// Does what an endpoint's ring asks for, as far as its device goes along.
    fn pump(&mut self, number: u8, endpoint: u8) {
        let Some(mut slot) = self.slots.remove(&number) else {
            return;
        };
        let port = slot.port;
        if let Some(pipe) = slot.pipes.get_mut(&endpoint) {
            while !pipe.halted {
                let mut place = pipe.place;
                let Some((at, words)) = self.take(&mut place) else {
                    break;
                };
                let Some((code, left)) = self.transfer(port, endpoint, pipe, words) else {
                    break;
                };
                pipe.place = place;
                pipe.halted = matches!(code, 3 | 4 | 6);
                if words[3] & 1 << 5 != 0 || pipe.halted {
                    let flags = u32::from(number) << 24 | u32::from(endpoint) << 16 | 32 << 10;
                    self.event([at as u32, (at >> 32) as u32, code << 24 | left, flags]);
                }
            }
        }
        self.slots.insert(number, slot);
    }

    /// The code and the room left of one block; nothing while the device keeps it waiting.
    fn transfer(&mut self, port: u8, endpoint: u8, pipe: &mut Pipe, words: [u32; 4]) -> Option<(u32, u32)> {
        let Some(gadget) = &mut self.gadgets[usize::from(port)] else {
            return Some((4, 0));
        };
        let room = words[2] & 0x1_ffff;
        let data = match words[3] >> 10 & 63 {
            1 => {
                let report = gadget.reports.get_mut(&endpoint)?.pop_front()?;
                let Some(report) = report else { return Some((4, room)) };
                report
            }
            2 => {
                pipe.request[..4].copy_from_slice(&words[0].to_le_bytes());
                pipe.request[4..].copy_from_slice(&words[1].to_le_bytes());
                gadget.requests.push(pipe.request);
                pipe.reply = Some((gadget.answer)(pipe.request));
                return Some((1, 0));
            }
            3 => match pipe.reply.as_ref()? {
                Reply::Data(data) => data.clone(),
                Reply::Done => Vec::new(),
                Reply::Stall => return Some((6, room)),
                Reply::Failure => return Some((4, room)),
                Reply::Silence => return None,
            },
            4 => {
                return match pipe.reply.take()? {
                    Reply::Stall => Some((6, 0)),
                    Reply::Failure => Some((4, 0)),
                    Reply::Silence => {
                        pipe.reply = Some(Reply::Silence);
                        None
                    }
                    Reply::Data(_) | Reply::Done => Some((1, 0)),
                };
            }
            other => panic!("transfer {other}"),
        };
        let length = data.len().min(room as usize);
        let (memory, offset) = self.find(u64::from(words[0]) | u64::from(words[1]) << 32);
        memory.write_bytes(offset, &data[..length]);
        let left = room - length as u32;
        Some((if left > 0 { 13 } else { 1 }, left))
    }
}

impl RegisterBlock for Simulated {
    words_only!();

    fn read_u32(&self, offset: usize) -> u32 {
        self.state().words[offset / 4]
    }

    fn write_u32(&self, offset: usize, value: u32) {
        self.state().write(offset, value);
    }
}
