//! Key codes of virtio's input devices, which are those of Linux's event interface (virtio 1.2, 5.8; `linux/input-event-codes.h`).

use pc_keyboard::{KeyCode, KeyEvent, ScancodeSet, ScancodeSet1};

/// The last code up to which they are the scancodes of the first PC keyboards; F11 and F12 are behind it, too.
const LIKE_SCANCODES: u16 = 88;

/// The key of a code; `None` for those that no console keyboard has.
pub fn key(code: u16) -> Option<KeyCode> {
    if (1..=LIKE_SCANCODES).contains(&code) {
        let scancode = u8::try_from(code).ok()?;
        let event = ScancodeSet1::new().advance_state(scancode);
        return event.ok().flatten().map(|KeyEvent { code, .. }| code);
    }
    Some(match code {
        96 => KeyCode::NumpadEnter,
        97 => KeyCode::RControl,
        98 => KeyCode::NumpadDivide,
        99 => KeyCode::PrintScreen,
        100 => KeyCode::RAltGr,
        102 => KeyCode::Home,
        103 => KeyCode::ArrowUp,
        104 => KeyCode::PageUp,
        105 => KeyCode::ArrowLeft,
        106 => KeyCode::ArrowRight,
        107 => KeyCode::End,
        108 => KeyCode::ArrowDown,
        109 => KeyCode::PageDown,
        110 => KeyCode::Insert,
        111 => KeyCode::Delete,
        119 => KeyCode::PauseBreak,
        125 => KeyCode::LWin,
        126 => KeyCode::RWin,
        127 => KeyCode::Apps,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_linuxs_header() {
        use KeyCode::{
            A, CapsLock, Escape, F1, F10, F11, F12, Key0, Key1, LAlt, LShift, M, Numpad0, Oem5, Oem7, Q, Return,
        };
        let known = [
            (1, Escape),
            (2, Key1),
            (11, Key0),
            (16, Q),
            (28, Return),
            (30, A),
            (42, LShift),
            (43, Oem7),
            (50, M),
            (56, LAlt),
            (58, CapsLock),
            (59, F1),
            (68, F10),
            (82, Numpad0),
            (86, Oem5),
            (87, F11),
            (88, F12),
            (103, KeyCode::ArrowUp),
        ];
        for (code, expected) in known {
            assert_eq!(key(code), Some(expected), "{code}");
        }
        // None, Zenkaku, a key of the Japanese, a mouse's button, the last.
        for code in [0, 85, 94, 0x110, u16::MAX] {
            assert_eq!(key(code), None, "{code}");
        }
    }
}
