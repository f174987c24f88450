//! Keyboards: from keys to bytes for the console's terminal.
//!
//! A keyboard's driver tells a [`Keyboard`] which keys go down and up, by the names that the crate `pc-keyboard` has for them;
//! it knows the modifiers, repeats what is held, and types. What keys mean is [`keymap`]'s business; [`hid`] and [`evdev`]
//! translate reports of USB keyboards and the key codes of virtio's.
//!
//! Each keyboard has modifiers and a Caps Lock of its own, and Num Lock begins on. Their lights are left alone. A keyboard cannot
//! be told to wait: what is typed while the terminal takes no more is dropped.

pub mod evdev;
pub mod hid;
pub mod keymap;
pub mod ps2;
pub mod virtio;

use alloc::sync::Arc;
use core::future::pending;

pub use pc_keyboard::{KeyCode, KeyEvent, KeyState};

use self::keymap::KeyMap;
use crate::{rt, tty::Tty};

/// How long a key is held (ns) before it repeats, and from then on from one time to the next: as on Linux.
const DELAY: u64 = 250_000_000;
const PERIOD: u64 = 33_000_000;

/// A key that is held, and when it is next typed by itself, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    key: KeyCode,
    next: u64,
}

/// One keyboard at a terminal.
pub struct Keyboard {
    tty: Arc<Tty>,
    map: KeyMap,
    /// The device sends a held key again and again by itself.
    repeats: bool,
    held: Option<Held>,
}

impl Keyboard {
    /// A keyboard, all keys up, at `tty`. Where the device does not repeat what is held, its driver has to call [`Keyboard::repeat`]
    /// each time that [`Keyboard::repeating`] ends.
    pub const fn new(tty: Arc<Tty>, device_repeats: bool) -> Self {
        Self {
            tty,
            map: KeyMap::new(),
            repeats: !device_repeats,
            held: None,
        }
    }

    /// A key has gone down or up, at `now` (ns since boot).
    pub fn key(&mut self, event: KeyEvent, now: u64) {
        let key = event.code;
        if event.state == KeyState::Up {
            self.held = self.held.filter(|held| held.key != key);
        }
        let bytes = self.map.key(event);
        if !bytes.is_empty() {
            self.type_in(&bytes);
            self.held = self.repeats.then_some(Held { key, next: now + DELAY });
        }
    }

    /// Types the held key again, if it is time.
    pub fn repeat(&mut self, now: u64) {
        let Some(held) = &mut self.held else { return };
        if held.next > now {
            return;
        }
        let key = held.key;
        // Not more often because it was late.
        held.next = (held.next + PERIOD).max(now);
        let bytes = self.map.key(KeyEvent::new(key, KeyState::Down));
        self.type_in(&bytes);
    }

    /// Waits until the held key is to be typed again; for ever while there is none. Dropping it loses nothing.
    pub async fn repeating(&self) {
        match self.held {
            Some(held) => rt::sleep_until(held.next).await,
            None => pending().await,
        }
    }

    /// When that is, in ns since boot.
    pub fn next_repeat(&self) -> Option<u64> {
        self.held.map(|held| held.next)
    }

    fn type_in(&self, bytes: &[u8]) {
        if self.tty.accepts_input() {
            self.tty.input(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fs::DeviceNumber, tty::termios::Termios};

    fn tty() -> Arc<Tty> {
        Tty::new("ttyK", DeviceNumber::new(4, 69), Termios::default())
    }

    fn down(key: KeyCode) -> KeyEvent {
        KeyEvent::new(key, KeyState::Down)
    }

    fn up(key: KeyCode) -> KeyEvent {
        KeyEvent::new(key, KeyState::Up)
    }

    /// What the terminal has echoed since the last time.
    fn echo(tty: &Tty) -> String {
        let mut bytes = [0; 256];
        let length = tty.take_output(&mut bytes);
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_held_key_repeats_after_a_while_and_then_faster() {
        let tty = tty();
        let mut keyboard = Keyboard::new(Arc::clone(&tty), false);
        keyboard.key(down(KeyCode::A), 1000);
        assert_eq!(echo(&tty), "a");
        keyboard.repeat(1000 + DELAY - 1);
        assert_eq!(echo(&tty), "");
        keyboard.repeat(1000 + DELAY);
        assert_eq!(echo(&tty), "a");
        assert_eq!(keyboard.next_repeat(), Some(1000 + DELAY + PERIOD));
        // Late by far: once, and the next is not due at once for ever.
        keyboard.repeat(1000 + 100 * DELAY);
        assert_eq!(echo(&tty), "a");
        keyboard.key(up(KeyCode::A), 1000 + 101 * DELAY);
        assert_eq!(keyboard.next_repeat(), None);
    }

    #[test]
    fn the_last_key_is_the_one_that_repeats() {
        let tty = tty();
        let mut keyboard = Keyboard::new(Arc::clone(&tty), false);
        keyboard.key(down(KeyCode::A), 0);
        keyboard.key(down(KeyCode::B), 10);
        keyboard.key(up(KeyCode::A), 20);
        keyboard.repeat(10 + DELAY);
        assert_eq!(echo(&tty), "abb");
        // With the modifiers of the moment.
        keyboard.key(down(KeyCode::LShift), 10 + DELAY);
        keyboard.repeat(10 + DELAY + PERIOD);
        assert_eq!(echo(&tty), "B");
    }

    #[test]
    fn what_the_device_repeats_is_typed_as_it_comes() {
        let tty = tty();
        let mut keyboard = Keyboard::new(Arc::clone(&tty), true);
        keyboard.key(down(KeyCode::A), 0);
        keyboard.key(down(KeyCode::A), 10);
        assert_eq!((echo(&tty).as_str(), keyboard.next_repeat()), ("aa", None));
    }

    /// Nobody reads: the lines fill the terminal's buffer, and what comes then is gone, but no memory with it.
    #[test]
    fn what_nobody_reads_is_dropped() {
        let tty = tty();
        let mut keyboard = Keyboard::new(Arc::clone(&tty), true);
        let mut typed = 0;
        for _ in 0..100_000 {
            keyboard.key(down(KeyCode::Return), 0);
            typed += echo(&tty).len();
        }
        assert!(!tty.accepts_input());
        assert!(typed < 10_000, "{typed} bytes were echoed");
    }
}
