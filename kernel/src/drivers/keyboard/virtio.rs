//! Virtio's keyboards: input devices (virtio 1.2, 5.8) whose keys are those of a keyboard.

use alloc::sync::Arc;
use core::pin::pin;

use executor::{Class, SpawnOptions};
use futures_util::future::select;

use super::{KeyEvent, KeyState, Keyboard, evdev};
use crate::{
    drivers::{
        pci::{Device, Function},
        registers::RegisterBlock,
        virtio::{self, Buffer, Queue, Transport, transport::Parts},
    },
    errno::{Errno, Result},
    mm::dma::{self, DmaMemory},
    rt,
    tty::Tty,
};

/// The type of device (5).
pub const KIND: u16 = 18;

/// The queue of events (5.8.2).
const EVENTS: u16 = 0;
/// Offsets in the device's configuration (5.8.4): what is shown, of what, how many bytes, and the bytes.
const SELECT: usize = 0;
const OF: usize = 1;
const SIZE: usize = 2;
const SHOWN: usize = 8;
/// What of it is asked for: which events of a type there are. The type: keys (`linux/input-event-codes.h`).
const EVENT_BITS: u8 = 0x11;
const KEYS: u8 = 1;
/// Keys that every keyboard has and no mouse or tablet: 1 and Q, Enter, A and the space bar.
const USUAL: [u8; 5] = [2, 16, 28, 30, 57];

/// Bytes of an event (5.8.6), and events that the device has room for.
const EVENT: usize = 8;
const ROOM: u16 = 64;
/// Events that are taken without a pause.
const BUDGET: usize = 64;

/// Starts the driver of an input device.
///
/// # Errors
/// `ENOMEM`, `EAGAIN` as [`rt::spawn`].
pub fn start(function: &'static Function, tty: &Arc<Tty>) -> Result<()> {
    let served = serve(function, Arc::clone(tty));
    rt::spawn(SpawnOptions::new(Class::Driver, "virtio keyboard"), async {
        match served.await {
            Ok(()) => {}
            Err(Errno::ENODEV) => log::info!("{}: a virtio input device, but no keyboard", function.address),
            Err(error) => log::error!("{}: the virtio keyboard is not served: {error:?}", function.address),
        }
    })
}

/// Serves a function for as long as it keeps to the standard.
///
/// # Errors
/// `ENODEV` if it is no keyboard, `ENXIO` if there are no messages on this machine, else as [`Device::open`],
/// [`virtio::pci::open`] and [`Queue::take`]. The device has been reset then.
async fn serve(function: &'static Function, tty: Arc<Tty>) -> Result<()> {
    let device = Device::open(function)?;
    let mut transport = virtio::pci::open(&device, 0).await?;
    if !is_keyboard(&transport)? {
        return Err(Errno::ENODEV);
    }
    let mut line = device.messages(1)?.pop().ok_or(Errno::ENXIO)?;
    let queue = transport.queue(EVENTS, ROOM, 0)?;
    let mut input = Input {
        transport,
        events: Events::new(queue)?,
    };
    input.transport.start();
    input.events.queue.publish();
    log::info!("{}: a virtio keyboard", function.address);
    let mut keyboard = Keyboard::new(tty, false);
    loop {
        let more = input.events.serve(|event| keyboard.key(event, rt::now()))?;
        keyboard.repeat(rt::now());
        if more {
            rt::yield_now().await;
        } else {
            select(pin!(line.wait()), pin!(keyboard.repeating())).await;
        }
    }
}

/// A device at work. In this order it is reset before its buffers go.
struct Input<P: Parts> {
    transport: Transport<P>,
    events: Events<P::Block>,
}

/// Whether the device's keys are a keyboard's.
fn is_keyboard<P: Parts>(transport: &Transport<P>) -> Result<bool> {
    transport.write_configuration(SELECT, EVENT_BITS)?;
    transport.write_configuration(OF, KEYS)?;
    let [size] = transport.configuration(SIZE)?;
    // The usual ones are in the first eight bytes.
    let bits = u64::from_le_bytes(transport.configuration(SHOWN)?);
    Ok(usize::from(size) >= size_of_val(&bits) && USUAL.iter().all(|key| bits >> key & 1 == 1))
}

/// The queue of events, with the device's room for them.
struct Events<R> {
    queue: Queue<R>,
    memory: DmaMemory,
}

impl<R: RegisterBlock> Events<R> {
    /// Gives the device all the room that there is. The queue is to be published once the device has been started.
    fn new(queue: Queue<R>) -> Result<Self> {
        let mut events = Self {
            memory: DmaMemory::new(usize::from(queue.size()) * EVENT)?,
            queue,
        };
        // Tokens are descriptors, and each event has one: they are handed out in order.
        for expected in 0..events.queue.size() {
            let token = events.give(expected)?;
            debug_assert_eq!(token, expected);
        }
        Ok(events)
    }

    fn give(&mut self, token: u16) -> Result<u16> {
        let address = self.memory.address() + (usize::from(token) * EVENT) as u64;
        self.queue.add(&[Buffer::writable(address, EVENT as u32)])
    }

    /// Takes what has come, no more than the budget, and gives the room back; whether there may be more.
    fn serve(&mut self, mut key: impl FnMut(KeyEvent)) -> Result<bool> {
        for _ in 0..BUDGET {
            let Some(used) = self.queue.take()? else {
                self.queue.publish();
                return Ok(false);
            };
            dma::after_device();
            let mut event = [0; EVENT];
            self.memory.read_bytes(usize::from(used.token) * EVENT, &mut event);
            if used.length as usize == EVENT
                && let Some(event) = decode(event)
            {
                key(event);
            }
            // The descriptor freed last is taken first: the same room again.
            self.give(used.token)?;
        }
        self.queue.publish();
        Ok(true)
    }
}

/// A key's event; `None` for any other, and for what the device repeats by itself.
fn decode(event: [u8; EVENT]) -> Option<KeyEvent> {
    let [KEYS, 0, low, high, value @ ..] = event else {
        return None;
    };
    let state = match u32::from_le_bytes(value) {
        0 => KeyState::Up,
        1 => KeyState::Down,
        _ => return None,
    };
    let key = evdev::key(u16::from_le_bytes([low, high]))?;
    Some(KeyEvent::new(key, state))
}

#[cfg(test)]
mod tests {
    use pc_keyboard::KeyCode;

    use super::*;
    use crate::drivers::virtio::simulated::{Bell, DeviceSide, machine, negotiate, queue};

    #[test]
    fn events_are_keys_or_nothing() {
        assert_eq!(
            decode([1, 0, 30, 0, 1, 0, 0, 0]),
            Some(KeyEvent::new(KeyCode::A, KeyState::Down))
        );
        assert_eq!(
            decode([1, 0, 103, 0, 0, 0, 0, 0]),
            Some(KeyEvent::new(KeyCode::ArrowUp, KeyState::Up))
        );
        // The end of a group, a repetition, a light, a type above 255, a key that there is not.
        for other in [
            [0; 8],
            [1, 0, 30, 0, 2, 0, 0, 0],
            [0x11, 0, 1, 0, 1, 0, 0, 0],
            [1, 1, 30, 0, 1, 0, 0, 0],
            [1, 0, 0, 3, 1, 0, 0, 0],
        ] {
            assert_eq!(decode(other), None);
        }
    }

    fn send(device: &mut DeviceSide, events: &Events<Bell>, event: [u8; 8], length: u32) {
        let (token, buffers) = device.next().expect("the device has room");
        assert_eq!((buffers.len(), buffers[0].length, buffers[0].write), (1, 8, true));
        let offset = buffers[0].address - events.memory.address();
        events.memory.write_bytes(offset.try_into().unwrap(), &event);
        device.give(token.into(), length);
    }

    #[test]
    fn events_are_told_in_order_and_their_room_is_given_back() {
        let (queue, mut device, bell) = queue(4);
        let mut events = Events::new(queue).unwrap();
        events.queue.publish();
        let mut keys = Vec::new();
        for round in 0..50_u8 {
            let (first, second) = (2 + round % 8, 3 + round % 8);
            send(&mut device, &events, [1, 0, first, 0, 1, 0, 0, 0], 8);
            send(&mut device, &events, [0; 8], 8);
            send(&mut device, &events, [1, 0, second, 0, 1, 0, 0, 0], 8);
            // One that was not whole is none.
            send(&mut device, &events, [1, 0, 4, 0, 1, 0, 0, 0], 7);
            keys.clear();
            assert_eq!(events.serve(|event| keys.push(event.code)), Ok(false));
            let expected = [first, second].map(|code| evdev::key(code.into()).unwrap());
            assert_eq!(keys, expected);
            assert_eq!(bell.rings().last(), Some(&3));
        }
    }

    #[test]
    fn a_device_that_never_stops_leaves_others_their_turn() {
        let (queue, mut device, _) = queue(256);
        let mut events = Events::new(queue).unwrap();
        events.queue.publish();
        for _ in 0..100 {
            send(&mut device, &events, [1, 0, 30, 0, 1, 0, 0, 0], 8);
        }
        let mut count = 0;
        assert_eq!(events.serve(|_| count += 1), Ok(true));
        assert_eq!(count, BUDGET);
        assert_eq!(events.serve(|_| count += 1), Ok(false));
        assert_eq!(count, 100);
        device.give(0xffff, 8);
        assert_eq!(events.serve(|_| ()), Err(Errno::EIO));
    }

    #[test]
    fn a_keyboard_is_told_from_a_mouse() {
        let keys = |bytes: [u8; 8], size| {
            let registers = machine(|_| {});
            let transport = negotiate(&registers, 0).unwrap();
            registers.configure(size, &bytes);
            is_keyboard(&transport).unwrap()
        };
        assert!(keys([0xff; 8], 32));
        assert!(!keys([0xff; 8], 7));
        assert!(!keys([0; 8], 40));
        let mut less = [0xff; 8];
        less[7] = 0xfd;
        assert!(!keys(less, 16), "no space bar");
    }
}
