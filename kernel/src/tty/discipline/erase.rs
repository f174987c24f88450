//! Taking back what was typed, on the line and on the screen (`VERASE`, `VWERASE`, `VKILL`).

use linux_raw_sys::general as raw;

use super::{Effects, LineDiscipline, is_control};

/// How far back one key erases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Character,
    Word,
    Line,
}

/// A letter or digit, as the kernel's Latin-1 `isalnum` has it, or `_`.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7)
}

impl LineDiscipline {
    /// Handles the erasing character `key`.
    pub(super) fn erase(&mut self, key: u8, effects: &mut Effects) {
        if self.input.edited_len() == 0 {
            return;
        }
        let reach = if self.termios.is(key, raw::VERASE) {
            Reach::Character
        } else if self.termios.is(key, raw::VWERASE) && self.termios.local(raw::IEXTEN) {
            Reach::Word
        } else {
            Reach::Line
        };
        if reach == Reach::Line && !self.termios.local(raw::ECHO | raw::ECHOK | raw::ECHOKE | raw::ECHOE) {
            return self.kill_without_erasing(key, effects);
        }
        self.erase_back(reach, effects);
        if self.input.edited_len() == 0 && self.termios.local(raw::ECHO) {
            self.finish_erasing(effects);
        }
    }

    fn kill_without_erasing(&mut self, key: u8, effects: &mut Effects) {
        self.input.truncate_edited(0);
        if !self.termios.local(raw::ECHO) {
            return;
        }
        self.finish_erasing(effects);
        self.echo(key, effects);
        if self.termios.local(raw::ECHOK) {
            self.echo_raw(b'\n', effects);
        }
    }

    fn erase_back(&mut self, reach: Reach, effects: &mut Effects) {
        let mut in_word = false;
        while self.input.edited_len() > 0 {
            let end = self.input.edited_len();
            let mut start = end - 1;
            while start > 0 && self.is_continuation(self.input.edited(start)) {
                start -= 1;
            }
            let byte = self.input.edited(start);
            if self.is_continuation(byte) {
                break; // The rest is no character: leave it.
            }
            if reach == Reach::Word {
                if is_word(byte) {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            if self.termios.local(raw::ECHO) {
                self.erase_on_screen(reach, start, end, effects);
            }
            self.input.truncate_edited(start);
            if reach == Reach::Character {
                break;
            }
        }
    }

    /// Shows that the character in `start..end` of the edited line is gone.
    fn erase_on_screen(&mut self, reach: Reach, start: usize, end: usize, effects: &mut Effects) {
        let byte = self.input.edited(start);
        if self.termios.local(raw::ECHOPRT) {
            if !core::mem::replace(&mut self.erasing, true) {
                self.echo_raw(b'\\', effects);
            }
            self.echo(byte, effects);
            for index in start + 1..end {
                self.echo_raw(self.input.edited(index), effects);
            }
        } else if reach == Reach::Character && !self.termios.local(raw::ECHOE) {
            self.echo(self.termios.character(raw::VERASE), effects);
        } else if byte == b'\t' {
            let width = self.tab_width(start);
            self.echo_back(width, effects);
        } else {
            let columns = match (is_control(byte), self.termios.local(raw::ECHOCTL)) {
                (true, true) => 2,
                (true, false) => 0,
                (false, _) => 1,
            };
            for _ in 0..columns {
                self.echo_raw(0x08, effects);
                self.echo_raw(b' ', effects);
                self.echo_raw(0x08, effects);
            }
        }
    }

    /// How many columns the tab at `index` of the edited line took: counted back to the tab before it or the line's start.
    fn tab_width(&self, index: usize) -> u32 {
        let mut columns = 0;
        for before in (0..index).rev() {
            let byte = self.input.edited(before);
            if byte == b'\t' {
                return 8 - columns % 8;
            } else if is_control(byte) {
                columns += if self.termios.local(raw::ECHOCTL) { 2 } else { 0 };
            } else if !self.is_continuation(byte) {
                columns += 1;
            }
        }
        8 - self.line_column.wrapping_add(columns) % 8
    }

    /// Closes an `ECHOPRT` erasure.
    pub(super) fn finish_erasing(&mut self, effects: &mut Effects) {
        if core::mem::take(&mut self.erasing) {
            self.echo_raw(b'/', effects);
        }
    }
}
