//! Bytes in, cells out: the terminal that programs for `TERM=linux` write to.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use vte::{Params, Parser, Perform};

use super::{
    colour::Pen,
    grid::{Cell, Grid},
};
use crate::{errno::Result, mm::fallible::TryRoomExact};

/// Columns from one tab stop to the next, until a program sets its own.
const TAB: usize = 8;

/// A terminal of a fixed size.
pub struct Terminal {
    parser: Parser,
    /// The first bytes of a character.
    begun: ArrayVec<u8, 4>,
    state: State,
}

/// Where the next character goes, and how.
#[derive(Clone, Copy)]
struct Cursor {
    row: usize,
    column: usize,
    /// The last column has been written to: the next character begins a new line.
    wraps: bool,
    pen: Pen,
    /// Rows count from the top of the region, and the cursor stays in it (DECOM).
    origin: bool,
    /// Which of two sets of characters are line drawings, and which set is in use.
    drawings: [bool; 2],
    set: usize,
}

impl Cursor {
    const HOME: Self = Self {
        row: 0,
        column: 0,
        wraps: false,
        pen: Pen::PLAIN,
        origin: false,
        drawings: [false; 2],
        set: 0,
    };
}

struct State {
    grid: Grid,
    /// What is on the other one of the two screens.
    other: Grid,
    on_other: bool,
    cursor: Cursor,
    saved: Cursor,
    /// The rows that scroll: from the first up to the second.
    region: (usize, usize),
    stops: Vec<bool>,
    /// Whether the last column is followed by the next line (DECAWM).
    wrapping: bool,
    /// Whether characters push others to the right (IRM).
    inserting: bool,
    /// Whether a line feed returns, too (LNM).
    returning: bool,
    cursor_shown: bool,
}

impl Terminal {
    /// An empty one. Both sizes are at least 1.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(rows: usize, columns: usize) -> Result<Self> {
        let blank = Pen::PLAIN.blank();
        let mut stops = Vec::new();
        stops.try_room_exact(columns)?;
        stops.extend((0..columns).map(|column| column.is_multiple_of(TAB)));
        Ok(Self {
            parser: Parser::new(),
            begun: ArrayVec::new(),
            state: State {
                grid: Grid::new(rows, columns, blank)?,
                other: Grid::new(rows, columns, blank)?,
                on_other: false,
                cursor: Cursor::HOME,
                saved: Cursor::HOME,
                region: (0, rows),
                stops,
                wrapping: true,
                inserting: false,
                returning: false,
                cursor_shown: true,
            },
        })
    }

    /// Takes what a program writes. The time that a byte takes is bounded by the sizes.
    pub fn write(&mut self, bytes: &[u8]) {
        // The cursor is part of what is seen.
        self.state.touch_cursor();
        let mut rest = bytes;
        while let Some((&first, others)) = rest.split_first().filter(|_| !self.begun.is_empty()) {
            // A character that the last piece ended in; four bytes are one, or none.
            self.begun.push(first);
            rest = others;
            let begun = core::mem::take(&mut self.begun);
            self.take(&begun);
        }
        self.take(rest);
        self.state.touch_cursor();
    }

    /// Hands whole characters to the parser, which takes those that come in pieces for others than the same at once. What is no
    /// character is a replacement for one.
    fn take(&mut self, mut bytes: &[u8]) {
        while let Err(error) = core::str::from_utf8(bytes) {
            let (whole, rest) = bytes.split_at(error.valid_up_to());
            self.parser.advance(&mut self.state, whole);
            let Some(wrong) = error.error_len() else {
                self.begun = rest.iter().copied().collect();
                return;
            };
            self.parser.advance(&mut self.state, "\u{fffd}".as_bytes());
            bytes = &rest[wrong..];
        }
        self.parser.advance(&mut self.state, bytes);
    }

    /// Copies the next row from `from` on that has changed since it was copied last, as it is seen, and says which it is.
    pub fn take_changed(&mut self, from: usize, into: &mut [Cell]) -> Option<usize> {
        let row = self.state.grid.take_changed(from)?;
        self.copy_row(row, into);
        Some(row)
    }

    /// Copies a row as it is seen.
    pub fn copy_row(&self, row: usize, into: &mut [Cell]) {
        let state = &self.state;
        into.iter_mut()
            .zip(state.grid.row(row))
            .for_each(|(into, cell)| *into = cell);
        let (at, column) = self.cursor();
        if state.cursor_shown && at == row {
            let cell = &mut into[column];
            (cell.ink, cell.paper) = (cell.paper, cell.ink);
        }
    }

    /// Whether any row has changed since it was copied last.
    pub fn is_changed(&self) -> bool {
        self.state.grid.is_changed()
    }

    /// Row and column of the cursor, from 0.
    pub fn cursor(&self) -> (usize, usize) {
        (self.state.cursor.row, self.state.cursor.column)
    }
}

impl State {
    fn rows(&self) -> usize {
        self.grid.rows()
    }

    fn columns(&self) -> usize {
        self.grid.columns()
    }

    fn blank(&self) -> Cell {
        self.cursor.pen.blank()
    }

    fn touch_cursor(&mut self) {
        self.grid.touch(self.cursor.row);
    }

    /// Where the cursor may go by moves that do not scroll: the region from inside, else the screen.
    fn limits(&self) -> (usize, usize) {
        let (top, bottom) = self.region;
        let row = self.cursor.row;
        let rows = self.rows();
        (
            if row >= top { top } else { 0 },
            if row < bottom { bottom } else { rows },
        )
    }

    fn up(&mut self, count: usize) {
        let (top, _) = self.limits();
        self.cursor.row = self.cursor.row.saturating_sub(count).max(top);
        self.cursor.wraps = false;
    }

    fn down(&mut self, count: usize) {
        let (_, bottom) = self.limits();
        self.cursor.row = (self.cursor.row + count).min(bottom - 1);
        self.cursor.wraps = false;
    }

    fn move_to_column(&mut self, column: usize) {
        self.cursor.column = column.min(self.columns() - 1);
        self.cursor.wraps = false;
    }

    /// To a row as programs say it, from 0.
    fn move_to_row(&mut self, row: usize) {
        let (top, bottom) = if self.cursor.origin {
            self.region
        } else {
            (0, self.rows())
        };
        self.cursor.row = top.saturating_add(row).min(bottom - 1);
        self.cursor.wraps = false;
    }

    fn line_feed(&mut self) {
        let (top, bottom) = self.region;
        self.cursor.wraps = false;
        if self.cursor.row + 1 == bottom {
            self.grid.scroll_up(top, bottom, 1, self.blank());
        } else if self.cursor.row + 1 < self.rows() {
            self.cursor.row += 1;
        }
    }

    fn reverse_line_feed(&mut self) {
        let (top, bottom) = self.region;
        self.cursor.wraps = false;
        if self.cursor.row == top {
            self.grid.scroll_down(top, bottom, 1, self.blank());
        } else {
            self.cursor.row = self.cursor.row.saturating_sub(1);
        }
    }

    fn put(&mut self, character: char) {
        if self.cursor.wraps && self.wrapping {
            self.cursor.column = 0;
            self.line_feed();
        }
        let (row, column) = (self.cursor.row, self.cursor.column);
        if self.inserting {
            self.grid.insert(row, column, 1, self.blank());
        }
        self.grid.put(row, column, self.cursor.pen.cell(character));
        if column + 1 == self.columns() {
            self.cursor.wraps = true;
        } else {
            self.cursor.column += 1;
        }
    }

    fn tab(&mut self, count: usize) {
        for _ in 0..count.min(self.columns()) {
            let next = (self.cursor.column + 1..self.columns()).find(|column| self.stops[*column]);
            self.move_to_column(next.unwrap_or(usize::MAX));
        }
    }

    fn tab_back(&mut self, count: usize) {
        for _ in 0..count.min(self.columns()) {
            let stop = (0..self.cursor.column).rev().find(|column| self.stops[*column]);
            self.move_to_column(stop.unwrap_or(0));
        }
    }

    fn erase_display(&mut self, how: u16) {
        let (blank, (row, column), rows) = (self.blank(), (self.cursor.row, self.cursor.column), self.rows());
        let columns = self.columns();
        match how {
            0 => {
                self.grid.erase(row, column, columns, blank);
                self.grid.erase_rows(row + 1, rows, blank);
            }
            1 => {
                self.grid.erase_rows(0, row, blank);
                self.grid.erase(row, 0, column + 1, blank);
            }
            2 | 3 => self.grid.erase_rows(0, rows, blank),
            _ => {}
        }
    }

    fn erase_line(&mut self, how: u16) {
        let column = self.cursor.column;
        let (from, to) = match how {
            0 => (column, self.columns()),
            1 => (0, column + 1),
            2 => (0, self.columns()),
            _ => return,
        };
        self.grid.erase(self.cursor.row, from, to, self.blank());
    }

    /// Lines in or out at the cursor, within the region.
    fn shift_lines(&mut self, count: usize, shift: fn(&mut Grid, usize, usize, usize, Cell)) {
        let (top, bottom) = self.region;
        if (top..bottom).contains(&self.cursor.row) {
            let blank = self.blank();
            shift(&mut self.grid, self.cursor.row, bottom, count, blank);
            self.cursor.wraps = false;
        }
    }

    fn set_region(&mut self, top: usize, bottom: usize) {
        let bottom = bottom.min(self.rows());
        if top + 1 < bottom {
            self.region = (top, bottom);
            self.move_to_row(0);
            self.move_to_column(0);
        }
    }

    fn save(&mut self) {
        self.saved = self.cursor;
    }

    fn restore(&mut self) {
        self.cursor = self.saved;
    }

    fn go_to_other(&mut self, on: bool) {
        if self.on_other != on {
            self.on_other = on;
            core::mem::swap(&mut self.grid, &mut self.other);
            self.grid.touch_all();
        }
    }

    fn set_private_mode(&mut self, mode: u16, on: bool) {
        match mode {
            6 => {
                self.cursor.origin = on;
                self.move_to_row(0);
                self.move_to_column(0);
            }
            7 => self.wrapping = on,
            25 => self.cursor_shown = on,
            47 | 1047 => self.go_to_other(on),
            1048 if on => self.save(),
            1048 => self.restore(),
            1049 if on => {
                self.save();
                self.go_to_other(true);
                self.grid.erase_rows(0, self.rows(), self.blank());
            }
            1049 => {
                self.go_to_other(false);
                self.restore();
            }
            _ => {}
        }
    }

    /// What a program starts with. The screen is left as it is.
    fn reset_modes(&mut self) {
        self.region = (0, self.rows());
        (self.wrapping, self.inserting, self.returning, self.cursor_shown) = (true, false, false, true);
        self.cursor.origin = false;
        self.cursor.wraps = false;
        self.cursor.pen = Pen::PLAIN;
        (self.cursor.drawings, self.cursor.set) = ([false; 2], 0);
        self.saved = Cursor::HOME;
    }

    fn reset(&mut self) {
        self.go_to_other(false);
        self.reset_modes();
        self.cursor = Cursor::HOME;
        for (column, stop) in self.stops.iter_mut().enumerate() {
            *stop = column.is_multiple_of(TAB);
        }
        self.grid.erase_rows(0, self.rows(), self.blank());
    }
}

/// Characters that stand in no place of their own: they change the one before, which this terminal does not do.
const fn has_no_place(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}')
}

/// What DEC's terminals draw for a letter in their set of line drawings.
const fn drawing(letter: char) -> char {
    match letter {
        'j'..='n' | 't'..='w' => match letter {
            'j' => '┘',
            'k' => '┐',
            'l' => '┌',
            'm' => '└',
            'n' => '┼',
            't' => '├',
            'u' => '┤',
            'v' => '┴',
            _ => '┬',
        },
        'q' => '─',
        'x' => '│',
        'f' => '°',
        'g' => '±',
        '~' => '·',
        other => other,
    }
}

impl Perform for State {
    fn print(&mut self, character: char) {
        // Control characters above 0x7f come here or to `execute`, as their bytes come together or apart.
        if has_no_place(character) || character.is_control() {
            return;
        }
        let drawn = self.cursor.drawings[self.cursor.set];
        self.put(if drawn { drawing(character) } else { character });
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            0x08 => self.move_to_column(self.cursor.column.saturating_sub(1)),
            b'\t' => self.tab(1),
            b'\n' | 0x0b | 0x0c => {
                self.line_feed();
                if self.returning {
                    self.move_to_column(0);
                }
            }
            b'\r' => self.move_to_column(0),
            0x0e => self.cursor.set = 1,
            0x0f => self.cursor.set = 0,
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], ignore: bool, byte: u8) {
        match (intermediates, byte) {
            _ if ignore => {}
            ([], b'7') => self.save(),
            ([], b'8') => self.restore(),
            ([], b'D') => self.line_feed(),
            ([], b'E') => {
                self.line_feed();
                self.move_to_column(0);
            }
            ([], b'H') => self.stops[self.cursor.column] = true,
            ([], b'M') => self.reverse_line_feed(),
            ([], b'c') => self.reset(),
            ([set @ (b'(' | b')')], _) => self.cursor.drawings[usize::from(*set - b'(')] = byte == b'0',
            ([b'#'], b'8') => {
                let cell = Pen::PLAIN.cell('E');
                self.region = (0, self.rows());
                (self.cursor.row, self.cursor.column, self.cursor.wraps) = (0, 0, false);
                self.grid.erase_rows(0, self.rows(), cell);
            }
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, parameters: &Params, intermediates: &[u8], ignore: bool, action: char) {
        if ignore {
            return;
        }
        let raw = |index: usize| {
            let parameter = parameters.iter().nth(index);
            parameter.and_then(|parts| parts.first().copied()).unwrap_or(0)
        };
        // Where nothing, or nought, is said, one is meant.
        let count = |index| usize::from(raw(index).max(1));
        let all = || parameters.iter().filter_map(|parts| parts.first().copied());
        match (intermediates, action) {
            ([b'?'], 'h' | 'l') => all().for_each(|mode| self.set_private_mode(mode, action == 'h')),
            ([b'!'], 'p') => self.reset_modes(),
            ([], 'h' | 'l') => {
                for mode in all() {
                    match mode {
                        4 => self.inserting = action == 'h',
                        20 => self.returning = action == 'h',
                        _ => {}
                    }
                }
            }
            ([], 'A') => self.up(count(0)),
            ([], 'B' | 'e') => self.down(count(0)),
            ([], 'C' | 'a') => self.move_to_column(self.cursor.column + count(0)),
            ([], 'D') => self.move_to_column(self.cursor.column.saturating_sub(count(0))),
            ([], 'E' | 'F') => {
                if action == 'E' {
                    self.down(count(0));
                } else {
                    self.up(count(0));
                }
                self.move_to_column(0);
            }
            ([], 'G' | '`') => self.move_to_column(count(0) - 1),
            ([], 'd') => self.move_to_row(count(0) - 1),
            ([], 'H' | 'f') => {
                self.move_to_row(count(0) - 1);
                self.move_to_column(count(1) - 1);
            }
            ([], 'I') => self.tab(count(0)),
            ([], 'Z') => self.tab_back(count(0)),
            ([], 'J') => self.erase_display(raw(0)),
            ([], 'K') => self.erase_line(raw(0)),
            ([], 'X') => {
                let (row, column) = (self.cursor.row, self.cursor.column);
                self.grid.erase(row, column, column + count(0), self.blank());
            }
            ([], 'L') => self.shift_lines(count(0), Grid::scroll_down),
            ([], 'M') => self.shift_lines(count(0), Grid::scroll_up),
            ([], '@') => self
                .grid
                .insert(self.cursor.row, self.cursor.column, count(0), self.blank()),
            ([], 'P') => self
                .grid
                .delete(self.cursor.row, self.cursor.column, count(0), self.blank()),
            ([], 'S') => self
                .grid
                .scroll_up(self.region.0, self.region.1, count(0), self.blank()),
            ([], 'T') => self
                .grid
                .scroll_down(self.region.0, self.region.1, count(0), self.blank()),
            ([], 'g') => match raw(0) {
                0 => self.stops[self.cursor.column] = false,
                3 => self.stops.fill(false),
                _ => {}
            },
            ([], 'm') => self.cursor.pen.change(parameters.iter()),
            ([], 'r') => {
                let bottom = if raw(1) == 0 { usize::MAX } else { usize::from(raw(1)) };
                self.set_region(count(0) - 1, bottom);
            }
            ([], 's') => self.save(),
            ([], 'u') => self.restore(),
            _ => {}
        }
    }
}
