//! A keyboard at a PC's keyboard controller, or what passes for one (IBM PS/2 Hardware Interface Technical Reference, keyboard and
//! auxiliary device controller; 101- and 102-key keyboards).

use alloc::sync::Arc;

use executor::{Class, SpawnOptions};
use hal::{ps2::KeyboardController, traits::Trigger};
use pc_keyboard::{KeyEvent, ScancodeSet, ScancodeSet1};

use super::Keyboard;
use crate::{
    errno::{Errno, Result},
    irq::Line,
    rt,
    tty::Tty,
};

/// Of the status: there is a byte for us; the last of ours has not been taken; the byte is the mouse's.
const FULL: u8 = 1 << 0;
const TAKING: u8 = 1 << 1;
const MOUSE: u8 = 1 << 5;
/// What a port without anything behind it reads.
const NOTHING: u8 = 0xff;

/// Commands to the controller: its configuration; the mouse off; the keyboard off and on.
const READ_CONFIGURATION: u8 = 0x20;
const WRITE_CONFIGURATION: u8 = 0x60;
const MOUSE_OFF: u8 = 0xa7;
const KEYBOARD_OFF: u8 = 0xad;
const KEYBOARD_ON: u8 = 0xae;
/// Of the configuration: interrupts of the keyboard and of the mouse; the keyboard's clock stands; scancodes become those of the
/// first PC.
const INTERRUPT: u8 = 1 << 0;
const MOUSE_INTERRUPT: u8 = 1 << 1;
const STOPPED: u8 = 1 << 4;
const TRANSLATED: u8 = 1 << 6;
/// Commands to the keyboard: how fast held keys repeat, with an operand; go on. Its answer.
const RATE: u8 = 0xf3;
const GO_ON: u8 = 0xf4;
const ACKNOWLEDGED: u8 = 0xfa;
/// After 250 ms, 30 times a second.
const FASTEST: u8 = 0;

/// Bytes that may be waiting from before.
const LEFT_OVER: usize = 64;
/// How long (ns) the controller, and the keyboard, may take for a byte; and from one look to the next.
const LIMIT: u64 = 200_000_000;
const LOOK: u64 = 1_000_000;
/// Bytes that are taken without a pause.
const BUDGET: usize = 64;

/// Starts the driver of the controller.
///
/// # Errors
/// `ENOMEM`, `EAGAIN` as [`rt::spawn`].
pub fn start(ports: &'static dyn KeyboardController, tty: &Arc<Tty>) -> Result<()> {
    let served = run(ports, Arc::clone(tty));
    rt::spawn(SpawnOptions::new(Class::Driver, "ps2"), async {
        match served.await {
            Ok(()) | Err(Errno::ENODEV) => {}
            Err(error) => log::error!("the PS/2 keyboard is not served: {error:?}"),
        }
    })
}

/// Serves the keyboard for ever.
///
/// # Errors
/// `ENODEV` if there is no controller, `EIO` if it does not answer, else what [`Line::claim`] returns.
async fn run(ports: &'static dyn KeyboardController, tty: Arc<Tty>) -> Result<()> {
    if ports.status() == NOTHING {
        return Err(Errno::ENODEV);
    }
    let mut line = Line::claim(ports.line(), Trigger::Edge)?;
    let answers = set_up(ports).await?;
    log::info!(
        "a PS/2 keyboard{}",
        if answers { "" } else { ", which says nothing yet" }
    );
    let mut keyboard = Keyboard::new(tty, true);
    let mut scancodes = ScancodeSet1::new();
    loop {
        // The line is an edge: it comes again only after all has been taken.
        if take(ports, &mut scancodes, |event| keyboard.key(event, rt::now())) {
            rt::yield_now().await;
        } else {
            line.wait().await;
        }
    }
}

/// Sets the controller up, and the keyboard; whether that answers.
async fn set_up(ports: &dyn KeyboardController) -> Result<bool> {
    command(ports, KEYBOARD_OFF).await?;
    command(ports, MOUSE_OFF).await?;
    for _ in 0..LEFT_OVER {
        if ports.status() & FULL == 0 {
            break;
        }
        ports.read();
    }
    command(ports, READ_CONFIGURATION).await?;
    let configuration = answer(ports).await?;
    let configuration = configuration & !(MOUSE_INTERRUPT | STOPPED) | INTERRUPT | TRANSLATED;
    command(ports, WRITE_CONFIGURATION).await?;
    send(ports, configuration).await?;
    command(ports, KEYBOARD_ON).await?;
    let mut answers = true;
    for byte in [RATE, FASTEST, GO_ON] {
        send(ports, byte).await?;
        answers &= answer(ports).await == Ok(ACKNOWLEDGED);
    }
    Ok(answers)
}

/// Looks until the status is as wanted.
async fn until(ports: &dyn KeyboardController, mask: u8, value: u8) -> Result<()> {
    let deadline = rt::now() + LIMIT;
    while ports.status() & mask != value {
        if rt::now() > deadline {
            return Err(Errno::EIO);
        }
        rt::sleep_until(rt::now() + LOOK).await;
    }
    Ok(())
}

async fn command(ports: &dyn KeyboardController, byte: u8) -> Result<()> {
    until(ports, TAKING, 0).await?;
    ports.command(byte);
    Ok(())
}

async fn send(ports: &dyn KeyboardController, byte: u8) -> Result<()> {
    until(ports, TAKING, 0).await?;
    ports.write(byte);
    Ok(())
}

async fn answer(ports: &dyn KeyboardController) -> Result<u8> {
    until(ports, FULL, FULL).await?;
    Ok(ports.read())
}

/// Takes what there is, no more than the budget; whether there may be more.
fn take(ports: &dyn KeyboardController, scancodes: &mut ScancodeSet1, mut key: impl FnMut(KeyEvent)) -> bool {
    for _ in 0..BUDGET {
        let status = ports.status();
        if status & FULL == 0 || status == NOTHING {
            return false;
        }
        let byte = ports.read();
        if status & MOUSE == 0
            && let Ok(Some(event)) = scancodes.advance_state(byte)
        {
            key(event);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use core::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };
    use std::{collections::VecDeque, sync::Mutex};

    use pc_keyboard::{KeyCode, KeyState};

    use super::*;

    /// A controller with a keyboard that has been used.
    #[derive(Default)]
    struct Fake {
        output: Mutex<VecDeque<(u8, bool)>>,
        sent: Mutex<Vec<(char, u8)>>,
    }

    impl KeyboardController for Fake {
        fn line(&self) -> u32 {
            1
        }

        fn status(&self) -> u8 {
            match self.output.lock().unwrap().front() {
                Some((_, true)) => FULL | MOUSE,
                Some(_) => FULL,
                None => 0,
            }
        }

        fn read(&self) -> u8 {
            self.output.lock().unwrap().pop_front().map_or(0, |(byte, _)| byte)
        }

        fn write(&self, byte: u8) {
            let mut sent = self.sent.lock().unwrap();
            let is_operand = sent.last() == Some(&('c', WRITE_CONFIGURATION));
            sent.push(('d', byte));
            if !is_operand {
                self.output.lock().unwrap().push_back((ACKNOWLEDGED, false));
            }
        }

        fn command(&self, byte: u8) {
            self.sent.lock().unwrap().push(('c', byte));
            if byte == READ_CONFIGURATION {
                self.output.lock().unwrap().push_back((0x32, false));
            }
        }
    }

    #[test]
    fn the_controller_and_the_keyboard_are_set_up() {
        let fake = Fake::default();
        fake.output
            .lock()
            .unwrap()
            .extend([(0x1c, false), (0x9c, false), (1, true)]);
        let mut set_up = pin!(set_up(&fake));
        let result = set_up.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(result, Poll::Ready(Ok(true)));
        let expected = [
            ('c', 0xad),
            ('c', 0xa7),
            ('c', 0x20),
            ('c', 0x60),
            ('d', 0x61),
            ('c', 0xae),
            ('d', 0xf3),
            ('d', 0),
            ('d', 0xf4),
        ];
        assert_eq!(*fake.sent.lock().unwrap(), expected);
        assert!(fake.output.lock().unwrap().is_empty());
    }

    #[test]
    fn scancodes_are_keys_and_the_mouse_is_none() {
        let fake = Fake::default();
        let mut scancodes = ScancodeSet1::new();
        let mut keys = Vec::new();
        let all = [
            (0x1e, false),
            (0x1e, true),
            (0x9e, false),
            (0xe0, false),
            (0x48, false),
            (0xfa, false),
            (0x77, false),
        ];
        fake.output.lock().unwrap().extend(all);
        assert!(!take(&fake, &mut scancodes, |event| keys.push((event.code, event.state))));
        let expected = [
            (KeyCode::A, KeyState::Down),
            (KeyCode::A, KeyState::Up),
            (KeyCode::ArrowUp, KeyState::Down),
        ];
        assert_eq!(keys, expected);
        fake.output.lock().unwrap().extend([(0x1e, false); 100]);
        assert!(take(&fake, &mut scancodes, |_| ()));
        assert_eq!(fake.output.lock().unwrap().len(), 100 - BUDGET);
    }

    /// What reads as all ones always would never end otherwise.
    #[test]
    fn a_controller_that_goes_away_is_not_read_for_ever() {
        struct Gone;
        impl KeyboardController for Gone {
            fn line(&self) -> u32 {
                1
            }
            fn status(&self) -> u8 {
                NOTHING
            }
            fn read(&self) -> u8 {
                NOTHING
            }
            fn write(&self, _: u8) {}
            fn command(&self, _: u8) {}
        }
        assert!(!take(&Gone, &mut ScancodeSet1::new(), |_| panic!("no key")));
    }
}
