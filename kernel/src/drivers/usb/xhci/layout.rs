//! Where a controller's registers are and what it can do (xHCI 1.2, 5.3 and chapter 7).

use alloc::vec::Vec;

use crate::{
    drivers::registers::RegisterBlock,
    errno::{Errno, Result},
    mm::fallible::TryRoom,
};

/// Offsets in the capability registers (5.3).
const LENGTH: usize = 0x00;
const STRUCTURAL_1: usize = 0x04;
const STRUCTURAL_2: usize = 0x08;
const CAPABILITIES_1: usize = 0x10;
const DOORBELLS: usize = 0x14;
const RUNTIME: usize = 0x18;
/// Bytes of them at least.
const LEAST: usize = 0x20;

/// Of the first capability word (5.3.6): addresses have 64 bits; contexts have 64 bytes; ports have switches for their power.
const WIDE: u32 = 1 << 0;
const LARGE_CONTEXTS: u32 = 1 << 2;
const POWER: u32 = 1 << 3;

/// Where the ports' registers begin in the operational ones, and bytes of each.
const PORTS: usize = 0x400;
const PORT: usize = 0x10;
/// Where the first interrupter's registers begin in the runtime ones, and their end.
const INTERRUPTER: usize = 0x20;
const INTERRUPTER_END: usize = 0x40;

/// Kinds of extended capabilities (table 7-1).
const LEGACY: u8 = 1;
const PROTOCOL: u8 = 2;
/// Longer lists run in circles.
const MOST_CAPABILITIES: usize = 64;

/// What a controller has, and where: offsets in bytes from the beginning of its registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The operational registers (5.4).
    pub operational: usize,
    /// The first interrupter's (5.5.2).
    pub interrupter: usize,
    /// The doorbells (5.6).
    pub doorbells: usize,
    /// How many devices there may be.
    pub slots: u8,
    /// How many ports there are.
    pub ports: u8,
    /// Pages that the controller wants for itself.
    pub scratchpads: u16,
    /// Bytes of a context: 32 or 64.
    pub context: usize,
    /// It reaches memory above 4 GiB.
    pub wide: bool,
    /// Its ports may have to be switched on.
    pub has_power: bool,
    /// What firmware uses to say that the controller is its own (7.1), where it may.
    pub legacy: Option<usize>,
    /// What its ports speak.
    pub protocols: Vec<Protocol>,
}

/// What some ports speak (7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// The version of USB, without what is behind the point.
    pub major: u8,
    /// The first of the ports, counted from 1.
    pub first: u8,
    /// How many.
    pub count: u8,
    /// What slots for their devices are asked for with.
    pub slot_type: u8,
}

impl Layout {
    /// Reads the registers, of which there are `length` bytes.
    ///
    /// # Errors
    /// `ENXIO` if some are not where they can be, `ENOMEM`.
    pub fn read(registers: &impl RegisterBlock, length: usize) -> Result<Self> {
        if length < LEAST {
            return Err(Errno::ENXIO);
        }
        let operational = usize::from(registers.read_u32(LENGTH) as u8);
        let (structural, more) = (registers.read_u32(STRUCTURAL_1), registers.read_u32(STRUCTURAL_2));
        let capabilities = registers.read_u32(CAPABILITIES_1);
        let (slots, ports) = (structural as u8, (structural >> 24) as u8);
        let doorbells = (registers.read_u32(DOORBELLS) & !3) as usize;
        let runtime = (registers.read_u32(RUNTIME) & !0x1f) as usize;
        let ends = [
            operational + PORTS + usize::from(ports) * PORT,
            doorbells + 4 * (usize::from(slots) + 1),
            runtime + INTERRUPTER_END,
        ];
        let fits = ends.into_iter().all(|end| end <= length);
        if slots == 0 || ports == 0 || operational < LEAST || !operational.is_multiple_of(4) || !fits {
            return Err(Errno::ENXIO);
        }
        let mut layout = Self {
            operational,
            interrupter: runtime + INTERRUPTER,
            doorbells,
            slots,
            ports,
            scratchpads: ((more >> 21 & 0x1f) << 5 | more >> 27) as u16,
            context: if capabilities & LARGE_CONTEXTS != 0 { 64 } else { 32 },
            wide: capabilities & WIDE != 0,
            has_power: capabilities & POWER != 0,
            legacy: None,
            protocols: Vec::new(),
        };
        layout.read_extended(registers, length, (capabilities >> 16) as usize * 4)?;
        Ok(layout)
    }

    fn read_extended(&mut self, registers: &impl RegisterBlock, length: usize, first: usize) -> Result<()> {
        let mut at = first;
        for _ in 0..MOST_CAPABILITIES {
            if at == 0 || at + 16 > length {
                break;
            }
            let head = registers.read_u32(at);
            match head as u8 {
                LEGACY => self.legacy = self.legacy.or(Some(at)),
                PROTOCOL => {
                    let ports = registers.read_u32(at + 8);
                    self.protocols.try_room(1)?;
                    self.protocols.push(Protocol {
                        major: (head >> 24) as u8,
                        first: ports as u8,
                        count: (ports >> 8) as u8,
                        slot_type: registers.read_u32(at + 12) as u8 & 0x1f,
                    });
                }
                _ => {}
            }
            at = match (head >> 8) as u8 {
                0 => break,
                next => at + usize::from(next) * 4,
            };
        }
        Ok(())
    }

    /// What a port, counted from 1, speaks: USB 2 where the controller does not say.
    pub fn protocol(&self, port: u8) -> Protocol {
        let found = self.protocols.iter().find(|protocol| {
            let (first, port) = (u16::from(protocol.first), u16::from(port));
            (first..first + u16::from(protocol.count)).contains(&port)
        });
        found.copied().unwrap_or(Protocol {
            major: 2,
            first: port,
            count: 1,
            slot_type: 0,
        })
    }

    /// Where a port's register is (5.4.8). The port is counted from 1.
    pub const fn port(&self, port: u8) -> usize {
        self.operational + PORTS + (port as usize - 1) * PORT
    }

    /// Where a slot's doorbell is; 0 is that of commands.
    pub const fn doorbell(&self, slot: u8) -> usize {
        self.doorbells + 4 * slot as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::simulated::Words, *};

    fn controller() -> Words {
        let words = Words::new(0x4000);
        for (at, value) in [
            (0x00, 0x0100_0040),
            (0x04, 8 << 24 | 1 << 8 | 64),
            (0x08, 3 << 27 | 1 << 21 | 0xf << 4),
            (0x10, 0x20 << 16 | 0xd),
            (0x14, 0x2000),
            (0x18, 0x1000),
            (0x80, 0x0200_0402),
            (0x84, 0x2042_5355),
            (0x88, 0x0000_0405),
            (0x90, 0x0300_0402),
            (0x98, 0x1000_0401),
            (0x9c, 3),
            (0xa0, 0x0001_0001),
        ] {
            words.write_u32(at, value);
        }
        words
    }

    #[test]
    fn a_controller_is_read() {
        let layout = Layout::read(&controller(), 0x4000).unwrap();
        assert_eq!(
            (layout.operational, layout.interrupter, layout.doorbells),
            (0x40, 0x1020, 0x2000)
        );
        assert_eq!(
            (layout.slots, layout.ports, layout.scratchpads, layout.context),
            (64, 8, 35, 64)
        );
        assert!(layout.wide && layout.has_power);
        assert_eq!(layout.legacy, Some(0xa0));
        let of = |port| (layout.protocol(port).major, layout.protocol(port).slot_type);
        assert_eq!([4, 5, 8, 9].map(of), [(3, 3), (2, 0), (2, 0), (2, 0)]);
        assert_eq!(
            (layout.port(1), layout.port(8), layout.doorbell(64)),
            (0x440, 0x4b0, 0x2100)
        );
    }

    #[test]
    fn registers_that_are_not_there_are_refused() {
        let refused = |at, value| {
            let words = controller();
            words.write_u32(at, value);
            assert_eq!(Layout::read(&words, 0x4000), Err(Errno::ENXIO), "{at:#x}: {value:#x}");
        };
        for (at, value) in [
            (0x00, 0x10),
            (0x04, 8 << 24),
            (0x04, 64),
            (0x14, 0x3f00),
            (0x14, u32::MAX),
            (0x18, 0x3fe0),
        ] {
            refused(at, value);
        }
        assert_eq!(Layout::read(&controller(), 0x4af), Err(Errno::ENXIO));
        assert_eq!(Layout::read(&Words::new(0), 0), Err(Errno::ENXIO));
    }

    proptest! {
        #[test]
        fn any_registers_are_survived(values in prop::collection::vec(any::<u32>(), 64), small in any::<bool>()) {
            let words = Words::new(0x4000);
            for (index, value) in values.into_iter().enumerate() {
                words.write_u32(index * 4, if small { value & 0x00ff_003f } else { value });
            }
            if let Ok(layout) = Layout::read(&words, 0x4000) {
                for port in 1..=layout.ports {
                    words.read_u32(layout.port(port));
                    layout.protocol(port);
                }
                words.read_u32(layout.doorbell(layout.slots));
                prop_assert!(layout.legacy.is_none_or(|at| at + 8 <= 0x4000));
                prop_assert!(layout.protocols.len() <= 64);
            }
        }
    }
}
