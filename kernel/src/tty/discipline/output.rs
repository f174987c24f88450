//! Output processing (`OPOST`) and echo.

use linux_raw_sys::general as raw;

use super::{Effects, LineDiscipline, is_control};

/// What one byte became, and the cursor after it.
struct Processed {
    bytes: [u8; 8],
    len: usize,
    column: u32,
    line_column: u32,
}

impl LineDiscipline {
    /// Takes bytes that a program writes; returns how many were taken, fewer than given where the buffer is full.
    pub fn write(&mut self, bytes: &[u8]) -> (usize, Effects) {
        let mut taken = 0;
        for &byte in bytes {
            let processed = self.process(byte);
            if processed.len > self.output.room() {
                break;
            }
            self.commit(&processed);
            taken += 1;
        }
        (
            taken,
            Effects {
                output: taken > 0 && self.has_output(),
                ..Effects::default()
            },
        )
    }

    /// Moves what the device is to send into `into`; returns how many bytes. Nothing while output is stopped, but for a
    /// flow-control character.
    pub fn take_output(&mut self, into: &mut [u8]) -> (usize, Effects) {
        let (first, rest) = match into.split_first_mut() {
            Some((first, rest)) if self.urgent.is_some() => (Some(first), rest),
            _ => (None, into),
        };
        let mut count = 0;
        if let (Some(place), Some(urgent)) = (first, self.urgent.take()) {
            *place = urgent;
            count += 1;
        }
        let mut effects = Effects::default();
        if !self.is_stopped() {
            let taken = self.output.take(rest);
            effects.writable = taken > 0;
            count += taken;
        }
        (count, effects)
    }

    /// Whether a writer should try (`POLLOUT`): Linux says so with fewer than 256 bytes waiting.
    pub fn poll_writable(&self) -> bool {
        self.output.len() < 256
    }

    fn process(&self, byte: u8) -> Processed {
        let mut processed = Processed {
            bytes: [byte; 8],
            len: 1,
            column: self.column,
            line_column: self.line_column,
        };
        if !self.termios.output(raw::OPOST) {
            return processed;
        }
        let to_line_start = |processed: &mut Processed| (processed.column, processed.line_column) = (0, 0);
        match byte {
            b'\n' => {
                if self.termios.output(raw::ONLRET) {
                    processed.column = 0;
                }
                if self.termios.output(raw::ONLCR) {
                    (processed.bytes[0], processed.bytes[1], processed.len) = (b'\r', b'\n', 2);
                    processed.column = 0;
                }
                processed.line_column = processed.column;
            }
            b'\r' if self.termios.output(raw::ONOCR) && self.column == 0 => processed.len = 0,
            b'\r' if self.termios.output(raw::OCRNL) => {
                processed.bytes[0] = b'\n';
                if self.termios.output(raw::ONLRET) {
                    to_line_start(&mut processed);
                }
            }
            b'\r' => to_line_start(&mut processed),
            b'\t' => {
                let spaces = 8 - self.column % 8;
                processed.column = self.column.wrapping_add(spaces);
                if self.termios.output(raw::TAB3) {
                    (processed.bytes, processed.len) = ([b' '; 8], spaces as usize);
                }
            }
            0x08 => processed.column = self.column.saturating_sub(1),
            _ if is_control(byte) => {}
            _ => {
                if self.termios.output(raw::OLCUC) {
                    processed.bytes[0] = byte.to_ascii_uppercase();
                }
                if !self.is_continuation(byte) {
                    processed.column = self.column.wrapping_add(1);
                }
            }
        }
        processed
    }

    fn commit(&mut self, processed: &Processed) {
        for &byte in &processed.bytes[..processed.len] {
            self.output.push(byte);
        }
        (self.column, self.line_column) = (processed.column, processed.line_column);
    }

    /// A byte in the middle of a UTF-8 character, where the terminal speaks UTF-8.
    pub(super) fn is_continuation(&self, byte: u8) -> bool {
        self.termios.input(raw::IUTF8) && byte & 0xc0 == 0x80
    }

    /// Echoes one byte as it stands, through output processing. What finds no room even in the reserve is dropped.
    pub(super) fn echo_raw(&mut self, byte: u8, effects: &mut Effects) {
        let processed = self.process(byte);
        if processed.len <= self.output.echo_room() {
            self.commit(&processed);
        }
        effects.output |= self.has_output();
    }

    /// Echoes one byte; a control character but the tab as `^X` under `ECHOCTL`.
    pub(super) fn echo(&mut self, byte: u8, effects: &mut Effects) {
        if !(self.termios.local(raw::ECHOCTL) && is_control(byte) && byte != b'\t') {
            return self.echo_raw(byte, effects);
        }
        if self.output.echo_room() >= 2 {
            self.output.push(b'^');
            self.output.push(byte ^ 0x40);
            self.column = self.column.wrapping_add(2);
        }
        effects.output |= self.has_output();
    }

    /// Moves the cursor `count` columns back.
    pub(super) fn echo_back(&mut self, count: u32, effects: &mut Effects) {
        for _ in 0..count {
            self.output.push(0x08);
            self.column = self.column.saturating_sub(1);
        }
        effects.output |= self.has_output();
    }
}
