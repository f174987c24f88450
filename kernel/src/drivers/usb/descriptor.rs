//! What a USB device says of itself (USB 2.0, 9.6), as far as keyboards need it. Nothing of it is believed beyond the bytes that
//! have come.

use arrayvec::ArrayVec;

use crate::errno::{Errno, Result};

/// Bytes of a device descriptor (9.6.1).
pub const DEVICE: usize = 18;
/// Bytes of the head of a configuration (9.6.3).
pub const CONFIGURATION: usize = 9;
/// Most bytes of a configuration that are read: a device that says more is left alone.
pub const MOST: usize = 4096;

/// Kinds of descriptors (table 9-5).
pub mod kind {
    /// The device.
    pub const DEVICE: u8 = 1;
    /// A configuration.
    pub const CONFIGURATION: u8 = 2;
    /// An interface of a configuration.
    pub const INTERFACE: u8 = 4;
    /// An endpoint of an interface.
    pub const ENDPOINT: u8 = 5;
}

/// Class of hubs (USB 2.0, 11.23.1).
pub const HUB: u8 = 9;
/// Class, subclass and protocol of keyboards that know the boot protocol (HID 1.11, 4.1 to 4.3).
const KEYBOARD: [u8; 3] = [3, 1, 1];
/// Of an endpoint (9.6.6): from the device; its number; interrupt transfers.
const IN: u8 = 0x80;
const NUMBER: u8 = 0x0f;
const TYPE: u8 = 3;
const INTERRUPT: u8 = 3;
/// Bytes of a packet (9.6.6), and the most that one of an interrupt endpoint has.
const PACKET: u16 = 0x7ff;
const LARGEST: u16 = 1024;

/// Keyboards of one device that are served.
pub const KEYBOARDS: usize = 4;

/// A device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its class; 0 where its interfaces have their own.
    pub class: u8,
    /// Bytes of a packet of its control endpoint: for a device of SuperSpeed, their logarithm.
    pub packet: u8,
    /// Who made it.
    pub vendor: u16,
    /// What the maker calls it.
    pub product: u16,
    /// How many configurations it has.
    pub configurations: u8,
}

impl Device {
    /// Reads a device descriptor.
    ///
    /// # Errors
    /// `EIO` if it is none.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        if bytes.len() < DEVICE || usize::from(bytes[0]) < DEVICE || bytes[1] != kind::DEVICE {
            return Err(Errno::EIO);
        }
        Ok(Self {
            class: bytes[4],
            packet: bytes[7],
            vendor: word(8),
            product: word(10),
            configurations: bytes[17],
        })
    }
}

/// A keyboard of a configuration: an interface with an endpoint that interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyboard {
    /// The interface's number.
    pub interface: u8,
    /// The endpoint's, 1 to 15.
    pub endpoint: u8,
    /// Bytes of its packets, 1 to 1024.
    pub packet: u16,
    /// How often it is asked, in the unit of the device's speed; not 0.
    pub interval: u8,
}

/// A configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// What selects it.
    pub value: u8,
    /// Its keyboards: those beyond the room are left out.
    pub keyboards: ArrayVec<Keyboard, KEYBOARDS>,
}

impl Configuration {
    /// The length that a configuration's head states, and how many bytes of it to read.
    ///
    /// # Errors
    /// `EIO` if it is no such head, or one of more than [`MOST`] bytes.
    pub fn length(head: &[u8]) -> Result<usize> {
        if head.len() < CONFIGURATION || usize::from(head[0]) < CONFIGURATION || head[1] != kind::CONFIGURATION {
            return Err(Errno::EIO);
        }
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        (CONFIGURATION..=MOST)
            .contains(&length)
            .then_some(length)
            .ok_or(Errno::EIO)
    }

    /// Reads a configuration with all that belongs to it.
    ///
    /// # Errors
    /// `EIO` if a descriptor in it is shorter than its kind's or does not end within it, or two keyboards have one endpoint.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let length = Self::length(bytes)?;
        let mut rest = bytes.get(..length).ok_or(Errno::EIO)?;
        let mut found = Self {
            value: bytes[5],
            keyboards: ArrayVec::new(),
        };
        // The keyboard's interface that endpoints belong to at the moment, until it has one.
        let mut interface = None;
        while !rest.is_empty() {
            let length = usize::from(rest[0]);
            if length < 2 || length > rest.len() {
                return Err(Errno::EIO);
            }
            let (descriptor, behind) = rest.split_at(length);
            rest = behind;
            match descriptor {
                [_, kind::INTERFACE, number, alternate, _, class, subclass, protocol, ..] => {
                    let is_keyboard = [*class, *subclass, *protocol] == KEYBOARD && *alternate == 0;
                    interface = is_keyboard.then_some(*number);
                }
                [_, kind::ENDPOINT, address, attributes, low, high, interval, ..] => {
                    if attributes & TYPE != INTERRUPT || address & IN == 0 {
                        continue;
                    }
                    let Some(interface) = interface.take() else { continue };
                    found.add(Keyboard {
                        interface,
                        endpoint: address & NUMBER,
                        packet: u16::from_le_bytes([*low, *high]) & PACKET,
                        interval: (*interval).max(1),
                    })?;
                }
                [_, kind::INTERFACE | kind::ENDPOINT, ..] => return Err(Errno::EIO),
                _ => {}
            }
        }
        Ok(found)
    }

    fn add(&mut self, keyboard: Keyboard) -> Result<()> {
        let taken = self.keyboards.iter().any(|other| other.endpoint == keyboard.endpoint);
        if taken || keyboard.endpoint == 0 || !(1..=LARGEST).contains(&keyboard.packet) {
            return Err(Errno::EIO);
        }
        // Without room it is left out.
        _ = self.keyboards.try_push(keyboard);
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A keyboard with a boot interface (HID 1.11, appendix E).
    pub const SIMPLE: [u8; 34] = [
        9, 2, 34, 0, 1, 1, 0, 0xa0, 50, 9, 4, 0, 0, 1, 3, 1, 1, 0, 9, 0x21, 0x11, 1, 0, 1, 0x22, 63, 0, 7, 5, 0x81, 3,
        8, 0, 10,
    ];

    /// A mouse, a keyboard whose other setting comes first, an output endpoint before its own, and one more keyboard.
    fn composite() -> Vec<u8> {
        let mut bytes = vec![9, 2, 0, 0, 3, 2, 0, 0x80, 50];
        bytes.extend([9, 4, 0, 0, 1, 3, 1, 2, 0, 7, 5, 0x81, 3, 4, 0, 10]);
        bytes.extend([9, 4, 1, 1, 1, 3, 1, 1, 0, 7, 5, 0x85, 3, 64, 0, 1]);
        bytes.extend([9, 4, 1, 0, 2, 3, 1, 1, 0, 9, 0x21, 0x11, 1, 0, 1, 0x22, 63, 0]);
        bytes.extend([7, 5, 0x02, 3, 8, 0, 1, 7, 5, 0x82, 3, 8, 0, 0]);
        bytes.extend([7, 5, 0x84, 3, 8, 0, 7]);
        bytes.extend([
            9, 4, 2, 0, 1, 3, 1, 1, 0, 7, 5, 0x83, 3, 0x10, 0x08, 4, 6, 0x30, 0, 0, 8, 0,
        ]);
        let length = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    fn keyboard(interface: u8, endpoint: u8, packet: u16, interval: u8) -> Keyboard {
        Keyboard {
            interface,
            endpoint,
            packet,
            interval,
        }
    }

    #[test]
    fn keyboards_are_found_among_other_interfaces() {
        let simple = Configuration::read(&SIMPLE).unwrap();
        assert_eq!((simple.value, &simple.keyboards[..]), (1, &[keyboard(0, 1, 8, 10)][..]));
        let composite = Configuration::read(&composite()).unwrap();
        let expected = [keyboard(1, 2, 8, 1), keyboard(2, 3, 16, 4)];
        assert_eq!((composite.value, &composite.keyboards[..]), (2, &expected[..]));
    }

    #[test]
    fn broken_configurations_are_errors() {
        let with = |at: usize, value: u8| {
            let mut bytes = SIMPLE;
            bytes[at] = value;
            Configuration::read(&bytes)
        };
        // Not a configuration; longer than what has come, shorter than its head, more than is read; a descriptor of no bytes, one
        // that ends elsewhere, an endpoint cut off; endpoint zero, no bytes a packet, too many.
        for (at, value) in [
            (1, 4),
            (2, 35),
            (2, 8),
            (3, 0x80),
            (9, 0),
            (9, 200),
            (27, 6),
            (29, 0x80),
            (31, 0),
            (32, 5),
        ] {
            assert_eq!(with(at, value), Err(Errno::EIO), "byte {at} as {value}");
        }
        assert_eq!(with(30, 2).unwrap().keyboards.len(), 0, "a bulk endpoint");
        assert_eq!(Configuration::read(&SIMPLE[..33]), Err(Errno::EIO));
        assert_eq!(Configuration::read(&[]), Err(Errno::EIO));
        let mut twice = composite();
        let at = twice.iter().position(|byte| *byte == 0x83).unwrap();
        twice[at] = 0x82;
        assert_eq!(Configuration::read(&twice), Err(Errno::EIO));
    }

    #[test]
    fn a_device_descriptor_is_read_whole() {
        let bytes = [18, 1, 0, 2, 0, 0, 0, 8, 0x27, 6, 1, 0, 0, 0, 1, 2, 3, 1];
        let device = Device::read(&bytes).unwrap();
        let expected = Device {
            class: 0,
            packet: 8,
            vendor: 0x627,
            product: 1,
            configurations: 1,
        };
        assert_eq!(device, expected);
        assert_eq!(Device::read(&bytes[..17]), Err(Errno::EIO));
        assert_eq!(Device::read(&SIMPLE), Err(Errno::EIO));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            _ = Device::read(&bytes);
            _ = Configuration::read(&bytes);
        }

        /// Small changes of a good one: what is found is always sound.
        #[test]
        fn what_is_found_is_sound(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
            let mut bytes = composite();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(found) = Configuration::read(&bytes) {
                for (index, keyboard) in found.keyboards.iter().enumerate() {
                    prop_assert!((1..=15).contains(&keyboard.endpoint) && (1..=1024).contains(&keyboard.packet));
                    prop_assert!(keyboard.interval > 0);
                    prop_assert!(found.keyboards[..index].iter().all(|other| other.endpoint != keyboard.endpoint));
                }
            }
        }
    }
}
