//! Virtio over PCI: where a function has its registers (virtio 1.2, 4.1.4).

use arrayvec::ArrayVec;
use hal::mmio::Registers;

use super::transport::{Parts, Transport, common};
use crate::{
    drivers::pci::{Capability, Device, Function},
    errno::{Errno, Result},
};

/// PCI's identifier of a capability of the vendor's.
const VENDOR_SPECIFIC: u8 = 0x09;
/// What a capability describes (4.1.4).
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const OWN: u8 = 4;
/// Blocks of registers that a function may describe of each kind; the first that can be reached is taken.
const MOST: usize = 8;

/// One block of registers, as a capability describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub kind: u8,
    pub bar: u8,
    pub offset: u32,
    pub length: u32,
    /// The word after, which the notifications' capability has.
    pub multiplier: u32,
}

/// The blocks of a kind that the function describes, in the order of preference. `read` reads a word of its configuration space.
pub(super) fn places(capabilities: &[Capability], kind: u8, read: impl Fn(u16) -> u32) -> impl Iterator<Item = Place> {
    let place = move |capability: &Capability| {
        let at = u16::from(capability.offset);
        let head = read(at);
        let (length, found) = ((head >> 16) as u8, (head >> 24) as u8);
        // The extra word has to be there for the one kind that has it, and all of it within a function's 256 bytes.
        let needed = if kind == NOTIFY { 20 } else { 16 };
        if found != kind || length < needed || at + u16::from(needed) > 256 {
            return None;
        }
        Some(Place {
            kind,
            bar: read(at + 4) as u8,
            offset: read(at + 8),
            length: read(at + 12),
            multiplier: if kind == NOTIFY { read(at + 16) } else { 0 },
        })
    };
    let vendors = |capability: &&Capability| capability.id == VENDOR_SPECIFIC;
    capabilities.iter().filter(vendors).take(MOST).filter_map(place)
}

/// A function's registers.
#[derive(Debug)]
pub struct PciParts {
    common: Registers,
    notify: Registers,
    multiplier: usize,
    own: Option<Registers>,
}

impl PciParts {
    fn find(device: &Device) -> Result<Self> {
        // Each is mapped once, whatever the capabilities say how often.
        let mut mapped = ArrayVec::<_, 6>::new();
        let mut find = |kind, least| {
            let capabilities = &device.function().capabilities;
            places(capabilities, kind, |offset| device.read(offset)).find_map(|place| {
                let at = mapped.iter().position(|(bar, _)| *bar == place.bar).or_else(|| {
                    let registers = device.registers(place.bar.into()).ok()?;
                    mapped.try_push((place.bar, registers)).ok()?;
                    Some(mapped.len() - 1)
                })?;
                let (offset, length) = (usize::try_from(place.offset).ok()?, usize::try_from(place.length).ok()?);
                let registers = mapped[at].1.part(offset, length)?;
                (length >= least && offset.is_multiple_of(4)).then_some((registers, place.multiplier))
            })
        };
        let (common, _) = find(COMMON, common::LENGTH).ok_or(Errno::ENXIO)?;
        let (notify, multiplier) = find(NOTIFY, 2).ok_or(Errno::ENXIO)?;
        Ok(Self {
            common,
            notify,
            multiplier: usize::try_from(multiplier).map_err(|_| Errno::ENXIO)?,
            own: find(OWN, 1).map(|(own, _)| own),
        })
    }
}

impl Parts for PciParts {
    type Block = Registers;

    fn common(&self) -> &Registers {
        &self.common
    }

    fn doorbell(&self, offset: u16) -> Option<Registers> {
        let offset = usize::from(offset).checked_mul(self.multiplier)?;
        self.notify.part(offset, 2).filter(|_| offset.is_multiple_of(2))
    }

    fn own(&self) -> Option<(&Registers, usize)> {
        self.own.as_ref().map(|own| (own, own.len()))
    }
}

/// Whether a function is a virtio device of this type (5) that has the registers of the present version (4.1.2): those of
/// devices which also speak the old one have other numbers.
pub fn is(function: &Function, kind: u16) -> bool {
    let old = match kind {
        1 => Some(0x1000),
        2 => Some(0x1001),
        4 => Some(0x1005),
        _ => None,
    };
    let number = function.device;
    function.vendor == super::VENDOR && (number == super::DEVICE + kind || old == Some(number))
}

/// Makes an opened function ready: its registers are found and it can reach memory, and features are agreed on, those of
/// `wanted` that it offers.
///
/// # Errors
/// As [`Transport::negotiate`]; `ENXIO` also where the function does not describe its registers, or not where they can be reached.
pub async fn open(device: &Device, wanted: u64) -> Result<Transport<PciParts>> {
    device.enable();
    Transport::negotiate(PciParts::find(device)?, wanted).await
}
