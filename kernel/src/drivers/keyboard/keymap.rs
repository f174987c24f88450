//! What keys mean: the layout of the United States, and the sequences that programs expect with `TERM=linux` (`console_codes(4)`;
//! the default map and strings of Linux's console, as `dumpkeys(1)` lists them).

use arrayvec::ArrayVec;
use pc_keyboard::{
    DecodedKey, HandleControl, KeyCode, KeyEvent, KeyState, Modifiers, PS2Keyboard, ScancodeSet1, layouts::Us104Key,
};

/// What one key types: Alt's prefix and the longest sequence fit.
pub type Typed = ArrayVec<u8, 8>;

const ESCAPE: u8 = 0x1b;
const DELETE: &[u8] = b"\x1b[3~";

/// F1 to F20: the last ten, and two before them, are reached by Shift.
const FUNCTION: [&[u8]; 20] = [
    b"\x1b[[A",
    b"\x1b[[B",
    b"\x1b[[C",
    b"\x1b[[D",
    b"\x1b[[E",
    b"\x1b[17~",
    b"\x1b[18~",
    b"\x1b[19~",
    b"\x1b[20~",
    b"\x1b[21~",
    b"\x1b[23~",
    b"\x1b[24~",
    b"\x1b[25~",
    b"\x1b[26~",
    b"\x1b[28~",
    b"\x1b[29~",
    b"\x1b[31~",
    b"\x1b[32~",
    b"\x1b[33~",
    b"\x1b[34~",
];

/// Modifiers, locks, and a scancode half received.
pub struct KeyMap {
    keys: PS2Keyboard<Us104Key, ScancodeSet1>,
}

impl Default for KeyMap {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyMap {
    /// All keys up, Num Lock on.
    pub const fn new() -> Self {
        Self {
            keys: PS2Keyboard::new(ScancodeSet1::new(), Us104Key, HandleControl::Ignore),
        }
    }

    /// What a key types that goes down; nothing when one goes up.
    pub fn key(&mut self, event: KeyEvent) -> Typed {
        let (key, state) = (event.code, event.state);
        let decoded = self.keys.process_keyevent(event);
        let mut typed = Typed::new();
        if state != KeyState::Down {
            return typed;
        }
        let modifiers = self.keys.get_modifiers();
        match (key, decoded) {
            (_, None) => {}
            (KeyCode::Backspace, _) if modifiers.is_ctrl() => typed.push(0x08),
            (KeyCode::Backspace, _) => typed.push(0x7f),
            (KeyCode::Return | KeyCode::NumpadEnter, _) => typed.push(b'\r'),
            (KeyCode::Tab, _) if modifiers.is_shifted() => extend(&mut typed, b"\x1b\t"),
            // The key beside the left Shift of European keyboards.
            (KeyCode::Oem5, _) => typed.push(if modifiers.is_shifted() { b'>' } else { b'<' }),
            (KeyCode::Delete | KeyCode::NumpadPeriod, Some(DecodedKey::Unicode('\x7f'))) => extend(&mut typed, DELETE),
            (_, Some(DecodedKey::Unicode(character))) => {
                if let Ok(character) = u8::try_from(character) {
                    typed.push(if modifiers.is_ctrl() {
                        control(character)
                    } else {
                        character
                    });
                }
            }
            (_, Some(DecodedKey::RawKey(key))) => extend(&mut typed, sequence(key, modifiers)),
        }
        if modifiers.is_alt() && !typed.is_empty() {
            typed.insert(0, ESCAPE);
        }
        typed
    }
}

/// Appends what is known to fit.
fn extend(typed: &mut Typed, bytes: &[u8]) {
    typed.extend(bytes.iter().copied());
}

/// What a character becomes with Ctrl, as on DEC's terminals since the VT220 (Programmer Reference Manual, table 3-5); the same
/// character where there is nothing.
const fn control(character: u8) -> u8 {
    match character {
        b' ' | b'2' => 0,
        b'@'..=b'_' | b'a'..=b'z' => character & 0x1f,
        b'3'..=b'7' => character - b'3' + 0x1b,
        b'/' | b'-' => 0x1f,
        b'8' | b'?' => 0x7f,
        b'`' | b'~' => b'~' & 0x1f,
        _ => character,
    }
}

/// What a key without a character types.
fn sequence(key: KeyCode, modifiers: &Modifiers) -> &'static [u8] {
    match key {
        KeyCode::ArrowUp => b"\x1b[A",
        KeyCode::ArrowDown => b"\x1b[B",
        KeyCode::ArrowRight => b"\x1b[C",
        KeyCode::ArrowLeft => b"\x1b[D",
        KeyCode::Home => b"\x1b[1~",
        KeyCode::Insert => b"\x1b[2~",
        KeyCode::End => b"\x1b[4~",
        KeyCode::PageUp => b"\x1b[5~",
        KeyCode::PageDown => b"\x1b[6~",
        KeyCode::PauseBreak => b"\x1b[P",
        _ => {
            let keys = [
                KeyCode::F1,
                KeyCode::F2,
                KeyCode::F3,
                KeyCode::F4,
                KeyCode::F5,
                KeyCode::F6,
                KeyCode::F7,
                KeyCode::F8,
                KeyCode::F9,
                KeyCode::F10,
                KeyCode::F11,
                KeyCode::F12,
            ];
            let number = keys.iter().position(|known| *known == key);
            let shift = if modifiers.is_shifted() { 10 } else { 0 };
            number.map_or(b"", |number| FUNCTION.get(number + shift).unwrap_or(&FUNCTION[number]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What these keys type, each pressed and released while `held` are down.
    fn with(held: &[KeyCode], keys: &[KeyCode]) -> String {
        let mut map = KeyMap::new();
        for key in held {
            assert_eq!(map.key(KeyEvent::new(*key, KeyState::Down)).as_slice(), b"");
        }
        let mut typed = String::new();
        for key in keys {
            typed.extend(
                map.key(KeyEvent::new(*key, KeyState::Down))
                    .iter()
                    .copied()
                    .map(char::from),
            );
            assert_eq!(map.key(KeyEvent::new(*key, KeyState::Up)).as_slice(), b"");
        }
        typed
    }

    #[test]
    fn letters_and_symbols_heed_shift_and_caps_lock() {
        use KeyCode::{A, CapsLock, Key2, LShift, Oem2, Oem5, Oem7, RShift, Spacebar, Z};
        let keys = [A, Z, Key2, Oem2, Oem5, Oem7, Spacebar];
        assert_eq!(with(&[], &keys), "az2/<\\ ");
        assert_eq!(with(&[LShift], &keys), "AZ@?>| ");
        assert_eq!(with(&[CapsLock], &keys), "AZ2/<\\ ");
        assert_eq!(with(&[CapsLock, RShift], &keys), "az@?>| ");
        assert_eq!(with(&[], &[A, CapsLock, A, CapsLock, A]), "aAa");
    }

    #[test]
    fn keys_that_end_and_mend_lines() {
        use KeyCode::{Backspace, Delete, LControl, LShift, NumpadEnter, Return, Tab};
        assert_eq!(with(&[], &[Return, NumpadEnter, Backspace, Tab]), "\r\r\x7f\t");
        assert_eq!(with(&[], &[Delete]), "\x1b[3~");
        assert_eq!(with(&[LControl], &[Backspace]), "\x08");
        assert_eq!(with(&[LShift], &[Tab]), "\x1b\t");
    }

    #[test]
    fn ctrl_makes_control_characters() {
        use KeyCode::{
            C, CapsLock, Key2, Key6, LControl, LShift, Oem2, Oem4, Oem6, Oem7, OemMinus, RControl, Spacebar, Z,
        };
        let keys = [C, Z, Spacebar, Oem4, Oem7, Oem6];
        assert_eq!(with(&[LControl], &keys), "\x03\x1a\0\x1b\x1c\x1d");
        assert_eq!(with(&[RControl, CapsLock], &keys), "\x03\x1a\0\x1b\x1c\x1d");
        assert_eq!(with(&[RControl], &[Key2, Key6, OemMinus, Oem2]), "\0\x1e\x1f\x1f");
        assert_eq!(
            with(&[RControl, LShift], &[Key2, Key6, OemMinus, Oem2]),
            "\0\x1e\x1f\x7f"
        );
    }

    #[test]
    fn alt_prefixes_with_escape() {
        use KeyCode::{ArrowLeft, B, C, LAlt, LControl, LShift, RAltGr};
        assert_eq!(with(&[LAlt], &[B, ArrowLeft, LShift]), "\x1bb\x1b\x1b[D");
        assert_eq!(with(&[RAltGr], &[B]), "\x1bb");
        assert_eq!(with(&[LAlt, LControl], &[C]), "\x1b\x03");
    }

    #[test]
    fn keys_without_characters_type_what_linuxs_console_does() {
        use KeyCode::{
            Apps, ArrowDown, ArrowLeft, ArrowRight, ArrowUp, End, F1, F5, F6, F10, F11, F12, Home, Insert, LShift,
            LWin, PageDown, PageUp, PauseBreak, PrintScreen, ScrollLock,
        };
        assert_eq!(
            with(&[], &[ArrowUp, ArrowDown, ArrowRight, ArrowLeft]),
            "\x1b[A\x1b[B\x1b[C\x1b[D"
        );
        let block = [Home, Insert, End, PageUp, PageDown];
        assert_eq!(with(&[], &block), "\x1b[1~\x1b[2~\x1b[4~\x1b[5~\x1b[6~");
        assert_eq!(
            with(&[], &[F1, F5, F6, F10, F11, F12]),
            "\x1b[[A\x1b[[E\x1b[17~\x1b[21~\x1b[23~\x1b[24~"
        );
        assert_eq!(with(&[LShift], &[F1, F10, F11]), "\x1b[23~\x1b[34~\x1b[23~");
        assert_eq!(with(&[], &[PauseBreak]), "\x1b[P");
        assert_eq!(with(&[], &[LWin, Apps, PrintScreen, ScrollLock]), "");
    }

    #[test]
    fn the_keypad_heeds_num_lock() {
        use KeyCode::{Numpad4, Numpad7, NumpadAdd, NumpadDivide, NumpadLock, NumpadPeriod};
        let keys = [Numpad7, Numpad4, NumpadPeriod, NumpadAdd, NumpadDivide];
        assert_eq!(with(&[], &keys), "74.+/");
        assert_eq!(with(&[NumpadLock], &keys), "\x1b[1~\x1b[D\x1b[3~+/");
    }

    #[test]
    fn every_key_types_what_fits() {
        for held in [
            &[][..],
            &[KeyCode::LAlt],
            &[KeyCode::LAlt, KeyCode::LControl, KeyCode::LShift],
        ] {
            for code in 0..=u8::MAX {
                for key in [super::super::hid::key(code), super::super::evdev::key(code.into())] {
                    let mut map = KeyMap::new();
                    held.iter()
                        .for_each(|key| _ = map.key(KeyEvent::new(*key, KeyState::Down)));
                    if let Some(key) = key {
                        assert!(map.key(KeyEvent::new(key, KeyState::Down)).len() < 8);
                    }
                }
            }
        }
    }
}
