//! Transfer request blocks: what the controller is asked for and what it says (xHCI 1.2, 6.4).

/// Bytes of one.
pub const BYTES: usize = 16;

/// Types (table 6-91).
const NORMAL: u32 = 1;
const SETUP_STAGE: u32 = 2;
const DATA_STAGE: u32 = 3;
const STATUS_STAGE: u32 = 4;
const LINK: u32 = 6;
const ENABLE_SLOT: u32 = 9;
const DISABLE_SLOT: u32 = 10;
const ADDRESS_DEVICE: u32 = 11;
const CONFIGURE_ENDPOINT: u32 = 12;
const EVALUATE_CONTEXT: u32 = 13;
const RESET_ENDPOINT: u32 = 14;
const SET_DEQUEUE: u32 = 16;
const TRANSFER_EVENT: u32 = 32;
const COMMAND_COMPLETION: u32 = 33;
const PORT_STATUS_CHANGE: u32 = 34;

/// Flags of the last word. The first toggles in place of being set: see [`super::ring`].
pub const CYCLE: u32 = 1 << 0;
const TOGGLE_CYCLE: u32 = 1 << 1;
/// An event when less has come than there is room for, and when it is done; the data are in the block itself.
const SHORT: u32 = 1 << 2;
const COMPLETION: u32 = 1 << 5;
const IMMEDIATE: u32 = 1 << 6;
/// Of a data or status stage: from the device.
const IN: u32 = 1 << 16;

/// What became of it (table 6-90).
pub mod code {
    /// All well.
    pub const SUCCESS: u8 = 1;
    /// The device sent more than there was room for.
    pub const BABBLE: u8 = 3;
    /// Nobody answered, or wrongly.
    pub const TRANSACTION: u8 = 4;
    /// The device refuses.
    pub const STALL: u8 = 6;
    /// Well, but less has come than there was room for.
    pub const SHORT_PACKET: u8 = 13;
}

/// A request of a control endpoint (USB 2.0, 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// To whom, of what kind, and in which direction.
    pub kind: u8,
    /// Which.
    pub request: u8,
    /// A parameter.
    pub value: u16,
    /// Another: often an interface or endpoint.
    pub index: u16,
    /// Bytes that follow.
    pub length: u16,
}

/// Of a request's kind: data come from the device.
pub const FROM_DEVICE: u8 = 0x80;

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trb(pub [u32; 4]);

impl Trb {
    const fn new(kind: u32, pointer: u64, status: u32, flags: u32) -> Self {
        Self([pointer as u32, (pointer >> 32) as u32, status, kind << 10 | flags])
    }

    /// Its type.
    pub const fn kind(self) -> u32 {
        self.0[3] >> 10 & 0x3f
    }

    const fn pointer(self) -> u64 {
        self.0[0] as u64 | (self.0[1] as u64) << 32
    }

    /// Room for a packet from the device, with an event whatever comes (6.4.1.1).
    pub const fn normal(address: u64, length: u16) -> Self {
        Self::new(NORMAL, address, length as u32, COMPLETION | SHORT)
    }

    /// The first stage of a control transfer (6.4.1.2.1).
    pub const fn setup(request: Request) -> Self {
        let Request {
            kind,
            request,
            value,
            index,
            length,
        } = request;
        let transfer: u32 = match (length, kind & FROM_DEVICE) {
            (0, _) => 0,
            (_, 0) => 2,
            _ => 3,
        };
        let low = kind as u32 | (request as u32) << 8 | (value as u32) << 16;
        let high = index as u32 | (length as u32) << 16;
        let flags = SETUP_STAGE << 10 | IMMEDIATE | transfer << 16;
        Self([low, high, 8, flags])
    }

    /// The second, where there are data from the device (6.4.1.2.2).
    pub const fn data_in(address: u64, length: u16) -> Self {
        Self::new(DATA_STAGE, address, length as u32, COMPLETION | SHORT | IN)
    }

    /// The last, of a transfer with or without data from the device (6.4.1.2.3): it goes the other way.
    pub const fn status(has_data: bool) -> Self {
        Self::new(STATUS_STAGE, 0, 0, COMPLETION | if has_data { 0 } else { IN })
    }

    /// The end of a ring, which goes on at its beginning with the other cycle (6.4.4.1).
    pub const fn link(address: u64) -> Self {
        Self::new(LINK, address, 0, TOGGLE_CYCLE)
    }

    /// Asks for a slot for a device at a port of this slot type (6.4.3.2).
    pub const fn enable_slot(slot_type: u8) -> Self {
        Self::new(ENABLE_SLOT, 0, 0, (slot_type as u32 & 0x1f) << 16)
    }

    /// Gives it back (6.4.3.3).
    pub const fn disable_slot(slot: u8) -> Self {
        Self::new(DISABLE_SLOT, 0, 0, (slot as u32) << 24)
    }

    /// Gives the device an address (6.4.3.4).
    pub const fn address_device(input: u64, slot: u8) -> Self {
        Self::new(ADDRESS_DEVICE, input, 0, (slot as u32) << 24)
    }

    /// Adds endpoints (6.4.3.5).
    pub const fn configure_endpoint(input: u64, slot: u8) -> Self {
        Self::new(CONFIGURE_ENDPOINT, input, 0, (slot as u32) << 24)
    }

    /// Changes the control endpoint's packets (6.4.3.6).
    pub const fn evaluate_context(input: u64, slot: u8) -> Self {
        Self::new(EVALUATE_CONTEXT, input, 0, (slot as u32) << 24)
    }

    /// Takes an endpoint out of its halt (6.4.3.7).
    pub const fn reset_endpoint(slot: u8, endpoint: u8) -> Self {
        Self::new(RESET_ENDPOINT, 0, 0, (slot as u32) << 24 | (endpoint as u32) << 16)
    }

    /// Says where an endpoint's ring goes on, with the cycle in the lowest bit (6.4.3.9).
    pub const fn set_dequeue(slot: u8, endpoint: u8, dequeue: u64) -> Self {
        Self::new(SET_DEQUEUE, dequeue, 0, (slot as u32) << 24 | (endpoint as u32) << 16)
    }
}

/// A transfer's end, or that of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The address of the block that it is about.
    pub block: u64,
    /// See [`code`].
    pub code: u8,
    /// Bytes of room that are left.
    pub left: u32,
    /// Whose it is.
    pub slot: u8,
    /// The endpoint's index in its device's context.
    pub endpoint: u8,
}

/// A command's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The address of the block that it is about.
    pub block: u64,
    /// See [`code`].
    pub code: u8,
    /// The slot that it was for, or that it has given.
    pub slot: u8,
}

/// What the controller has to say (6.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A transfer has ended.
    Transfer(Transfer),
    /// A command has.
    Command(Completion),
    /// Something has changed at this port, counted from 1.
    Port(u8),
    /// What is of no use here.
    Other(u32),
}

impl From<Trb> for Event {
    fn from(trb: Trb) -> Self {
        let [_, _, status, flags] = trb.0;
        let (code, slot) = ((status >> 24) as u8, (flags >> 24) as u8);
        match trb.kind() {
            TRANSFER_EVENT => Self::Transfer(Transfer {
                block: trb.pointer(),
                code,
                left: status & 0xff_ffff,
                slot,
                endpoint: (flags >> 16) as u8 & 0x1f,
            }),
            COMMAND_COMPLETION => Self::Command(Completion {
                block: trb.pointer(),
                code,
                slot,
            }),
            PORT_STATUS_CHANGE => Self::Port((trb.0[0] >> 24) as u8),
            other => Self::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_the_standard_draws_them() {
        let request = Request {
            kind: 0x80,
            request: 6,
            value: 0x0100,
            index: 0x0203,
            length: 18,
        };
        assert_eq!(
            Trb::setup(request).0,
            [0x0100_0680, 0x0012_0203, 8, 3 << 16 | 2 << 10 | 1 << 6]
        );
        let nothing = Request { length: 0, ..request };
        assert_eq!(Trb::setup(nothing).0[3] >> 16, 0);
        assert_eq!(
            Trb::data_in(0x1_0000_2000, 18).0,
            [0x2000, 1, 18, 1 << 16 | 3 << 10 | 1 << 5 | 1 << 2]
        );
        assert_eq!(Trb::status(true).0, [0, 0, 0, 4 << 10 | 1 << 5]);
        assert_eq!(Trb::status(false).0, [0, 0, 0, 1 << 16 | 4 << 10 | 1 << 5]);
        assert_eq!(Trb::normal(0x3000, 8).0, [0x3000, 0, 8, 1 << 10 | 1 << 5 | 1 << 2]);
        assert_eq!(Trb::link(0x4000).0, [0x4000, 0, 0, 6 << 10 | 1 << 1]);
        assert_eq!(Trb::enable_slot(7).0, [0, 0, 0, 7 << 16 | 9 << 10]);
        assert_eq!(Trb::address_device(0x5000, 3).0, [0x5000, 0, 0, 3 << 24 | 11 << 10]);
        assert_eq!(
            Trb::set_dequeue(3, 5, 0x6001).0,
            [0x6001, 0, 0, 3 << 24 | 5 << 16 | 16 << 10]
        );
        assert_eq!(Trb::reset_endpoint(3, 5).0, [0, 0, 0, 3 << 24 | 5 << 16 | 14 << 10]);
    }

    #[test]
    fn events_are_told_apart() {
        let transfer = Trb([0x2000, 1, 13 << 24 | 10, 2 << 24 | 3 << 16 | 32 << 10 | 1]);
        let expected = Transfer {
            block: 0x1_0000_2000,
            code: code::SHORT_PACKET,
            left: 10,
            slot: 2,
            endpoint: 3,
        };
        assert_eq!(Event::from(transfer), Event::Transfer(expected));
        let command = Trb([0x3000, 0, 1 << 24, 4 << 24 | 33 << 10]);
        let expected = Completion {
            block: 0x3000,
            code: code::SUCCESS,
            slot: 4,
        };
        assert_eq!(Event::from(command), Event::Command(expected));
        assert_eq!(Event::from(Trb([5 << 24, 0, 1 << 24, 34 << 10])), Event::Port(5));
        assert_eq!(Event::from(Trb([0, 0, 0, 39 << 10])), Event::Other(39));
    }
}
