//! Contexts: what the controller is told of a device and its endpoints (xHCI 1.2, 6.2).

use crate::mm::dma::{self, DmaMemory};

/// How fast a device is (7.2.2.1.1): the values of a port's register and of a slot's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// 12 Mbit/s.
    Full = 1,
    /// 1.5 Mbit/s.
    Low = 2,
    /// 480 Mbit/s.
    High = 3,
    /// 5 Gbit/s, and what is faster.
    Super = 4,
}

impl Speed {
    /// By the number in a port's register; `None` for those that a maker defines.
    pub const fn from_port(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Full,
            2 => Self::Low,
            3 => Self::High,
            4..=7 => Self::Super,
            _ => return None,
        })
    }

    /// Bytes of a packet of the control endpoint before the device has been asked (USB 2.0, 5.5.3; USB 3.2, 9.6.1).
    pub const fn first_packet(self) -> u16 {
        match self {
            Self::Low | Self::Full => 8,
            Self::High => 64,
            Self::Super => 512,
        }
    }

    /// The same once it has; `None` if it cannot be. `stated` is its device descriptor's.
    pub const fn packet(self, stated: u8) -> Option<u16> {
        match (self, stated) {
            (Self::Low, 8) | (Self::Full, 8 | 16 | 32 | 64) | (Self::High, 64) => Some(stated as u16),
            (Self::Super, 9) => Some(512),
            _ => None,
        }
    }

    /// How often an interrupt endpoint is asked, as the exponent of a time in 125 µs (table 6-12), by its descriptor's interval.
    pub const fn interval(self, stated: u8) -> u8 {
        match self {
            // Frames of a millisecond, rounded down to a power of two.
            Self::Low | Self::Full => {
                let milliseconds = if stated == 0 { 1 } else { stated };
                3 + milliseconds.ilog2() as u8
            }
            Self::High | Self::Super => match stated {
                0 => 0,
                1..=16 => stated - 1,
                _ => 15,
            },
        }
    }
}

/// Kinds of endpoints (table 6-9).
const CONTROL: u32 = 4;
const INTERRUPT_IN: u32 = 7;
/// Attempts before an endpoint halts.
const ERRORS: u32 = 3;
/// What a control transfer has on average (4.14.1.1).
const CONTROL_AVERAGE: u32 = 8;
/// An interval's most.
const LONGEST: u8 = 15;

/// The control endpoint's index.
pub const CONTROL_ENDPOINT: u8 = 1;

/// The index of the endpoint of this number that sends to the host (4.5.1).
pub const fn index_in(endpoint: u8) -> u8 {
    2 * endpoint + 1
}

/// An interrupt endpoint to be added.
#[derive(Clone, Copy, Debug)]
pub struct Interrupting {
    /// Its index.
    pub index: u8,
    /// Bytes of a packet.
    pub packet: u16,
    /// See [`Speed::interval`].
    pub interval: u8,
    /// Its ring's [`super::ring::Producer::dequeue`].
    pub dequeue: u64,
}

/// The input of a command, written anew for each. Its memory is a page: 33 contexts of at most 64 bytes.
pub struct Input<'a> {
    memory: &'a DmaMemory,
    /// Bytes of a context: 32 or 64.
    size: usize,
    added: u32,
}

impl<'a> Input<'a> {
    /// An input with nothing in it.
    pub fn new(memory: &'a DmaMemory, size: usize) -> Self {
        for at in (0..33 * size).step_by(4) {
            memory.write_u32(at, 0);
        }
        Self { memory, size, added: 0 }
    }

    /// Writes a word of the context of this index: the slot's is 0.
    fn write(&self, index: u8, word: usize, value: u32) {
        self.memory
            .write_u32((usize::from(index) + 1) * self.size + 4 * word, value);
    }

    fn add(&mut self, index: u8) {
        self.added |= 1 << index;
    }

    /// The slot: a device at a port of the controller itself, counted from 1, whose last endpoint is `last` (6.2.2).
    #[must_use]
    pub fn slot(mut self, speed: Speed, port: u8, last: u8) -> Self {
        self.write(0, 0, u32::from(last) << 27 | (speed as u32) << 20);
        self.write(0, 1, u32::from(port) << 16);
        self.add(0);
        self
    }

    /// The control endpoint (6.2.3).
    #[must_use]
    pub fn control(mut self, packet: u16, dequeue: u64) -> Self {
        self.write(1, 1, u32::from(packet) << 16 | CONTROL << 3 | ERRORS << 1);
        self.write(1, 2, dequeue as u32);
        self.write(1, 3, (dequeue >> 32) as u32);
        self.write(1, 4, CONTROL_AVERAGE);
        self.add(1);
        self
    }

    /// An interrupt endpoint (6.2.3).
    #[must_use]
    pub fn interrupting(mut self, endpoint: Interrupting) -> Self {
        let Interrupting {
            index,
            packet,
            interval,
            dequeue,
        } = endpoint;
        let packet = u32::from(packet);
        self.write(index, 0, u32::from(interval.min(LONGEST)) << 16);
        self.write(index, 1, packet << 16 | INTERRUPT_IN << 3 | ERRORS << 1);
        self.write(index, 2, dequeue as u32);
        self.write(index, 3, (dequeue >> 32) as u32);
        self.write(index, 4, packet << 16 | packet);
        self.add(index);
        self
    }

    /// Done; its address. Only what was added is looked at (6.2.5.1).
    pub fn finish(self) -> u64 {
        self.memory.write_u32(4, self.added);
        dma::before_device();
        self.memory.address()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_powers_of_two_of_125_microseconds() {
        let of = |speed: Speed, values: &[u8]| values.iter().map(|value| speed.interval(*value)).collect::<Vec<_>>();
        assert_eq!(of(Speed::Low, &[0, 1, 2, 8, 10, 16, 255]), [3, 3, 4, 6, 6, 7, 10]);
        assert_eq!(of(Speed::Full, &[10]), [6]);
        assert_eq!(of(Speed::High, &[0, 1, 4, 7, 16, 17, 255]), [0, 0, 3, 6, 15, 15, 15]);
        assert_eq!(of(Speed::Super, &[4]), [3]);
    }

    #[test]
    fn packets_of_the_control_endpoint_are_those_of_the_speed() {
        assert_eq!(Speed::Full.packet(64), Some(64));
        assert_eq!(Speed::Super.packet(9), Some(512));
        for (speed, stated) in [
            (Speed::Low, 64),
            (Speed::Full, 0),
            (Speed::Full, 9),
            (Speed::High, 8),
            (Speed::Super, 64),
        ] {
            assert_eq!(speed.packet(stated), None, "{speed:?} {stated}");
        }
        let speeds = [0, 1, 2, 3, 4, 5, 8, 15].map(Speed::from_port);
        let faster = Some(Speed::Super);
        let others = [Some(Speed::Full), Some(Speed::Low), Some(Speed::High)];
        assert_eq!(
            speeds,
            [None, others[0], others[1], others[2], faster, faster, None, None]
        );
    }

    #[test]
    fn an_input_has_what_was_added_and_nothing_of_the_last() {
        for size in [32, 64] {
            let memory = DmaMemory::new(4096).unwrap();
            let word = |index: usize, word: usize| memory.read_u32(index * size + 4 * word);
            let endpoint = Interrupting {
                index: index_in(1),
                packet: 8,
                interval: 6,
                dequeue: 0x1_0000_3001,
            };
            let address = Input::new(&memory, size)
                .slot(Speed::Low, 5, 3)
                .interrupting(endpoint)
                .finish();
            assert_eq!((address, word(0, 0), word(0, 1)), (memory.address(), 0, 1 << 3 | 1));
            assert_eq!([word(1, 0), word(1, 1)], [3 << 27 | 2 << 20, 5 << 16]);
            let expected = [6 << 16, 8 << 16 | 7 << 3 | 3 << 1, 0x3001, 1, 8 << 16 | 8];
            assert_eq!([0, 1, 2, 3, 4].map(|at| word(4, at)), expected);
            Input::new(&memory, size).control(64, 0x4001).finish();
            assert_eq!((word(0, 1), word(1, 0), word(4, 1)), (2, 0, 0));
            assert_eq!([1, 2, 4].map(|at| word(2, at)), [64 << 16 | 4 << 3 | 3 << 1, 0x4001, 8]);
        }
    }
}
