//! The driver against a simulated controller, with the devices that there are and some that there should not be.

use core::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use proptest::prelude::*;

use super::{
    controller::Controller,
    device,
    simulated::{Gadget, Reply, Simulated},
};
use crate::{
    drivers::usb::descriptor::tests::SIMPLE,
    errno::{Errno, Result},
    fs::DeviceNumber,
    tty::{Tty, termios::Termios},
};

const DESCRIPTOR: [u8; 18] = [18, 1, 0, 2, 0, 0, 0, 8, 0x27, 6, 1, 0, 0, 0, 1, 2, 3, 1];
const MILLISECOND: u64 = 1_000_000;
const LOW: u32 = 2;
const FULL: u32 = 1;
const HIGH: u32 = 3;
const SUPER: u32 = 4;

/// A keyboard that answers as it should unless `answer` has another idea.
fn gadget(speed: u32, mut answer: impl FnMut([u8; 8]) -> Option<Reply> + Send + 'static) -> Gadget {
    let packet = match speed {
        HIGH => 64,
        SUPER => 9,
        _ => 8,
    };
    let usual = move |request: [u8; 8]| {
        let length = usize::from(u16::from_le_bytes([request[6], request[7]]));
        let mut device = DESCRIPTOR;
        device[7] = packet;
        let data = match (request[0], request[1], request[3]) {
            (0x80, 6, 1) => device.to_vec(),
            (0x80, 6, 2) => SIMPLE.to_vec(),
            (0x80, ..) => return Reply::Stall,
            _ => return Reply::Done,
        };
        Reply::Data(data[..length.min(data.len())].to_vec())
    };
    Gadget {
        speed,
        answer: Box::new(move |request| answer(request).unwrap_or_else(|| usual(request))),
        requests: Vec::new(),
        reports: HashMap::new(),
    }
}

fn keyboard(speed: u32) -> Gadget {
    gadget(speed, |_| None)
}

/// A machine with the controller and the driver's tasks.
struct World {
    machine: Simulated,
    controller: Arc<Controller<Simulated>>,
    tty: Arc<Tty>,
    tasks: Vec<Pin<Box<dyn Future<Output = ()>>>>,
    failed: bool,
}

/// Polls until it is done, letting time pass.
fn drive<T>(machine: &Simulated, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return result;
        }
        machine.state().now += MILLISECOND;
        assert!(machine.state().now < 100_000 * MILLISECOND, "it takes for ever");
    }
}

impl World {
    fn start(machine: Simulated) -> Result<Self> {
        static NUMBER: AtomicU16 = AtomicU16::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let controller = drive(&machine, Controller::start(machine.clone()))?;
        let mut world = Self {
            machine,
            controller,
            tty: Tty::new(
                "ttyU",
                DeviceNumber::new(4, 100 + u32::from(number)),
                Termios::default(),
            ),
            tasks: Vec::new(),
            failed: false,
        };
        let mut appeared = Vec::new();
        world.controller.look(|port| appeared.push(port));
        world.spawn(appeared);
        Ok(world)
    }

    fn spawn(&mut self, ports: Vec<u8>) {
        for port in ports {
            let task = device::serve_port(Arc::clone(&self.controller), port, Arc::clone(&self.tty));
            self.tasks.push(Box::pin(task));
        }
    }

    /// Lets so many milliseconds pass; what was typed.
    fn pass(&mut self, milliseconds: u32) -> String {
        for _ in 0..milliseconds {
            // A device's answers make others: all is done before time goes on.
            for _ in 0..8 {
                let mut appeared = Vec::new();
                match self.controller.serve(|port| appeared.push(port)) {
                    Ok(_) => {}
                    Err(error) => {
                        assert_eq!(error, Errno::EIO);
                        self.failed = true;
                    }
                }
                self.spawn(appeared);
                self.tasks
                    .retain_mut(|task| task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            self.machine.state().now += MILLISECOND;
        }
        let mut bytes = [0; 4096];
        let length = self.tty.take_output(&mut bytes);
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// Presses and releases a key of a simple keyboard.
    fn press(&self, port: u8, usage: u8) {
        self.machine.report(port, 3, Some(&[0, 0, usage, 0, 0, 0, 0, 0]));
        self.machine.report(port, 3, Some(&[0; 8]));
    }
}

fn world(plugged: impl IntoIterator<Item = (u8, Gadget)>) -> World {
    let machine = Simulated::new();
    for (port, gadget) in plugged {
        machine.plug(port, gadget);
    }
    World::start(machine).unwrap()
}

#[test]
fn a_keyboard_of_each_speed_is_made_ready_and_types() {
    for (port, speed, packet) in [(1, LOW, 8), (2, FULL, 8), (1, HIGH, 64), (4, SUPER, 512)] {
        let mut world = world([(port, keyboard(speed))]);
        assert_eq!(world.pass(200), "");
        let requests: Vec<_> = world
            .machine
            .requests(port)
            .iter()
            .map(|request| (request[0], request[1]))
            .collect();
        let expected = [
            (0x80, 6),
            (0x80, 6),
            (0x80, 6),
            (0x80, 6),
            (0, 9),
            (0x21, 11),
            (0x21, 10),
        ];
        assert_eq!(requests, expected, "speed {speed}");
        assert_eq!(world.machine.state().slots[&1].packet, packet);
        for usage in [4, 5, 6] {
            world.press(port, usage);
        }
        assert_eq!(world.pass(1), "abc");
    }
}

#[test]
fn firmware_is_asked_for_the_controller() {
    let world = world([]);
    let [owner, calls] = world.machine.legacy();
    assert_eq!((owner >> 16 & 0x101, calls & 0xe011), (0x100, 0));
    // One that does not answer is waited for a second.
    let machine = Simulated::new();
    machine.state().possessive = true;
    World::start(machine.clone()).unwrap();
    assert!((1000..1200).contains(&(machine.state().now / MILLISECOND)));
    assert_eq!(machine.legacy()[0] >> 16 & 0x101, 0x100);
}

#[test]
fn a_device_with_longer_control_packets_is_asked_in_them() {
    let mut world = world([(
        1,
        gadget(FULL, |request| {
            let mut device = DESCRIPTOR;
            device[7] = 64;
            (request[3] == 1).then(|| Reply::Data(device[..request[6].into()].to_vec()))
        }),
    )]);
    world.pass(200);
    assert_eq!(world.machine.state().slots[&1].packet, 64);
    world.press(1, 4);
    assert_eq!(world.pass(1), "a");
}

#[test]
fn keyboards_come_and_go() {
    let mut world = world([]);
    world.pass(10);
    assert!(world.tasks.is_empty());
    for round in 0..26 {
        let port = 1 + round % 2;
        world.machine.plug(port, keyboard(HIGH));
        world.pass(200);
        world.press(port, 4 + round);
        assert_eq!(world.pass(1), char::from(b'a' + round).to_string());
        world.machine.unplug(port);
        world.pass(20);
        assert!(world.machine.state().slots.is_empty(), "the slot is given back");
    }
    assert_eq!(world.tasks.len(), 2);
}

#[test]
fn a_bouncing_plug_is_one_connection() {
    let mut world = world([]);
    for _ in 0..5 {
        world.machine.plug(1, keyboard(LOW));
        world.pass(50);
        world.machine.unplug(1);
        world.pass(5);
    }
    assert_eq!(world.machine.state().slots.len(), 0);
    world.machine.plug(1, keyboard(LOW));
    world.pass(300);
    world.press(1, 4);
    assert_eq!(world.pass(1), "a");
}

#[test]
fn a_held_key_repeats_until_the_plug_is_pulled() {
    let mut world = world([(1, keyboard(LOW))]);
    world.pass(200);
    world.machine.report(1, 3, Some(&[0, 0, 4, 0, 0, 0, 0, 0]));
    assert_eq!(world.pass(249), "a");
    assert_eq!(world.pass(35), "aa");
    world.machine.report(1, 3, Some(&[0; 8]));
    assert_eq!(world.pass(500), "");
    world.machine.report(1, 3, Some(&[0, 0, 5, 0, 0, 0, 0, 0]));
    assert_eq!(world.pass(10), "b");
    world.machine.unplug(1);
    assert_eq!(world.pass(1000), "");
}

#[test]
fn several_keyboards_type_each_with_its_own_shift() {
    let mut world = world([(1, keyboard(LOW)), (2, keyboard(FULL)), (3, keyboard(SUPER))]);
    world.pass(200);
    world.machine.report(1, 3, Some(&[2, 0, 0, 0, 0, 0, 0, 0]));
    world.machine.report(1, 3, Some(&[2, 0, 4, 0, 0, 0, 0, 0]));
    world.pass(1);
    world.press(2, 4);
    assert_eq!(world.pass(1), "a");
    world.press(3, 5);
    assert_eq!(world.pass(1), "b");
}

#[test]
fn a_device_that_refuses_what_it_may_is_served() {
    let refuses = |request: [u8; 8]| (request[0] == 0x21).then_some(Reply::Stall);
    let mut world = world([(1, gadget(LOW, refuses))]);
    world.pass(200);
    world.press(1, 4);
    assert_eq!(world.pass(1), "a");
}

#[test]
fn a_wrong_device_is_left_alone_and_others_are_served() {
    let answers: [fn([u8; 8]) -> Option<Reply>; 7] = [
        |_| Some(Reply::Silence),
        |_| Some(Reply::Stall),
        |_| Some(Reply::Failure),
        |_| Some(Reply::Done),
        |request| (request[3] == 1).then(|| Reply::Data(vec![18, 1, 0, 2, 0, 0, 0, 77][..].to_vec())),
        |request| (request[3] == 2).then(|| Reply::Data(vec![9, 2, 0xff, 0xff, 1, 1, 0, 0, 0])),
        |request| (request[3] == 2 && request[6] > 9).then(|| Reply::Data(vec![9, 2, 34, 0, 1, 1, 0, 0, 0, 0])),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let mut world = world([(1, gadget(FULL, answer)), (2, keyboard(HIGH))]);
        world.pass(200);
        world.press(2, 4);
        assert_eq!(world.pass(1), "a", "beside {number}");
        world.pass(6000);
        assert!(!world.failed);
        assert_eq!(world.machine.state().slots.len(), 1, "{number} has no slot");
        // What comes after it is served.
        world.machine.unplug(1);
        world.pass(10);
        world.machine.plug(1, keyboard(LOW));
        world.pass(200);
        world.press(1, 5);
        assert_eq!(world.pass(1), "b", "after {number}");
    }
}

#[test]
fn an_endpoint_that_fails_goes_on_a_few_times() {
    let mut world = world([(1, keyboard(LOW))]);
    world.pass(200);
    for usage in 4..20 {
        world.machine.report(1, 3, None);
        world.pass(2);
        world.press(1, usage);
        assert_eq!(world.pass(1), char::from(b'a' + usage - 4).to_string());
    }
    for _ in 0..4 {
        world.machine.report(1, 3, None);
    }
    world.pass(20);
    assert!(world.machine.state().slots.is_empty() && !world.failed);
}

#[test]
fn a_controller_that_breaks_down_ends_everything() {
    let mut world = world([(1, keyboard(LOW)), (2, keyboard(HIGH))]);
    world.pass(200);
    world.machine.break_down();
    world.pass(10);
    assert!(world.failed && world.tasks.is_empty() && world.machine.is_halted());
}

#[test]
fn a_controller_that_does_no_command_is_given_up() {
    let mut world = world([]);
    world.machine.state().deaf = true;
    world.machine.plug(1, keyboard(LOW));
    world.pass(4000);
    assert!(!world.failed);
    world.pass(2000);
    assert!(world.failed && world.tasks.is_empty());
}

#[test]
fn a_controller_that_does_not_halt_is_not_started() {
    let machine = Simulated::new();
    machine.state().restless = true;
    // It runs: firmware has used it.
    super::RegisterBlock::write_u32(&machine, 0x40, 1);
    assert_eq!(World::start(machine).err(), Some(Errno::EIO));
}

#[test]
fn more_events_than_transfers_end_the_device_alone() {
    let mut world = world([(1, keyboard(LOW)), (2, keyboard(HIGH))]);
    world.pass(200);
    for _ in 0..60 {
        world.machine.raise([0, 0, 1 << 24, 1 << 24 | 3 << 16 | 32 << 10]);
    }
    world.pass(10);
    assert_eq!(world.machine.state().slots.len(), 1);
    world.press(2, 4);
    assert_eq!(world.pass(1), "a");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the controller says: the driver goes on or gives it up.
    #[test]
    fn any_events_are_survived(
        events in prop::collection::vec((prop::sample::select(vec![32_u32, 33, 34, 37, 63]), any::<[u32; 3]>(), 0..4_u8, 0..6_u8), 1..80)
    ) {
        let mut world = world([(1, keyboard(LOW))]);
        world.pass(150);
        for (kind, words, slot, endpoint) in events {
            let flags = u32::from(slot) << 24 | u32::from(endpoint) << 16 | kind << 10;
            world.machine.raise([words[0] & 0x0fff_fff0, 0, words[1], flags]);
            world.pass(1);
        }
        world.pass(20);
    }

    /// Whatever a device answers and reports: it is served or not.
    #[test]
    fn any_device_is_survived(
        answers in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..8_u8), 0..6),
        reports in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..12)), 0..20)
    ) {
        let mut number = 0;
        let odd = move |request: [u8; 8]| {
            let length = usize::from(u16::from_le_bytes([request[6], request[7]]));
            let (at, value, kind) = answers.get(number).copied()?;
            number += 1;
            let mut bytes = if request[3] == 1 { DESCRIPTOR.to_vec() } else { SIMPLE.to_vec() };
            let at = at.index(bytes.len());
            bytes[at] = value;
            Some(match kind {
                0 => Reply::Stall,
                1 => Reply::Failure,
                2 => Reply::Done,
                _ => Reply::Data(bytes[..length.min(bytes.len())].to_vec()),
            })
        };
        let mut world = world([(2, gadget(FULL, odd))]);
        world.pass(200);
        for report in reports {
            world.machine.report(2, 3, report.as_deref());
            world.pass(1);
        }
        world.pass(20);
        prop_assert!(!world.failed);
    }
}
