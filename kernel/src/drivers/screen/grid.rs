//! The cells of a screen: truth, of which what is drawn is a late copy.
//!
//! Nothing here takes longer than moving one line's cells or the list of lines: a line knows how many of its cells have been written
//! and what all others are, so that erasing and scrolling touch no cells.

use alloc::vec::Vec;

use super::colour::Rgb;
use crate::{errno::Result, mm::fallible::TryRoomExact};

/// What stands in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The character.
    pub character: char,
    /// The colour it is drawn in.
    pub ink: Rgb,
    /// The colour around it.
    pub paper: Rgb,
    /// Whether there is a line under it.
    pub underlined: bool,
}

#[derive(Clone, Copy)]
struct Line {
    /// Where its cells are.
    start: usize,
    /// How many of them, from the first on, mean something.
    written: usize,
    /// What the others are.
    rest: Cell,
}

/// Lines of cells.
pub struct Grid {
    cells: Vec<Cell>,
    lines: Vec<Line>,
    changed: Vec<bool>,
    columns: usize,
}

impl Grid {
    /// A grid full of `blank`, of at least one row and column.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(rows: usize, columns: usize, blank: Cell) -> Result<Self> {
        let (mut cells, mut lines, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        cells.try_room_exact(rows * columns)?;
        lines.try_room_exact(rows)?;
        changed.try_room_exact(rows)?;
        cells.resize(rows * columns, blank);
        lines.extend((0..rows).map(|row| Line {
            start: row * columns,
            written: 0,
            rest: blank,
        }));
        changed.resize(rows, true);
        Ok(Self {
            cells,
            lines,
            changed,
            columns,
        })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.lines.len()
    }

    /// How many columns there are.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The cells of a row; those beyond what has been written are the last one, again and again.
    pub fn row(&self, row: usize) -> impl Iterator<Item = Cell> + '_ {
        let line = &self.lines[row];
        self.cells[line.start..line.start + line.written]
            .iter()
            .copied()
            .chain(core::iter::repeat_n(line.rest, self.columns - line.written))
    }

    /// Says that a row is to be looked at.
    pub fn touch(&mut self, row: usize) {
        self.changed[row] = true;
    }

    /// Says that all are.
    pub fn touch_all(&mut self) {
        self.changed.fill(true);
    }

    /// The first row from `from` on that is to be looked at; it no longer is.
    pub fn take_changed(&mut self, from: usize) -> Option<usize> {
        let row = from + self.changed.get(from..)?.iter().position(|changed| *changed)?;
        self.changed[row] = false;
        Some(row)
    }

    /// Whether any is to be looked at.
    pub fn is_changed(&self) -> bool {
        self.changed.contains(&true)
    }

    /// Makes the first `length` cells of a row mean something.
    fn write_out(&mut self, row: usize, length: usize) -> &mut [Cell] {
        self.changed[row] = true;
        let line = &mut self.lines[row];
        let cells = &mut self.cells[line.start..line.start + self.columns];
        if line.written < length {
            cells[line.written..length].fill(line.rest);
            line.written = length;
        }
        cells
    }

    /// Puts one cell.
    pub fn put(&mut self, row: usize, column: usize, cell: Cell) {
        self.write_out(row, column + 1)[column] = cell;
    }

    /// Makes the cells from column `from` up to `to` blank.
    pub fn erase(&mut self, row: usize, from: usize, to: usize, blank: Cell) {
        let to = to.min(self.columns);
        if from >= to {
            return;
        }
        if to < self.columns {
            self.write_out(row, to)[from..to].fill(blank);
            return;
        }
        if self.lines[row].written < from {
            self.write_out(row, from);
        }
        self.changed[row] = true;
        let line = &mut self.lines[row];
        (line.written, line.rest) = (from, blank);
    }

    /// Makes the rows from `from` up to `to` blank.
    pub fn erase_rows(&mut self, from: usize, to: usize, blank: Cell) {
        for row in from..to {
            self.erase(row, 0, self.columns, blank);
        }
    }

    /// Moves the rows from `top` up to `bottom` up by `count`; blank ones come from below.
    pub fn scroll_up(&mut self, top: usize, bottom: usize, count: usize, blank: Cell) {
        let count = count.min(bottom - top);
        self.lines[top..bottom].rotate_left(count);
        self.changed[top..bottom].fill(true);
        self.erase_rows(bottom - count, bottom, blank);
    }

    /// Moves them down; blank ones come from above.
    pub fn scroll_down(&mut self, top: usize, bottom: usize, count: usize, blank: Cell) {
        let count = count.min(bottom - top);
        self.lines[top..bottom].rotate_right(count);
        self.changed[top..bottom].fill(true);
        self.erase_rows(top, top + count, blank);
    }

    /// Moves the cells from a place on to the right; blank ones come in there, and the last ones are lost.
    pub fn insert(&mut self, row: usize, column: usize, count: usize, blank: Cell) {
        let columns = self.columns;
        let count = count.min(columns - column);
        let cells = self.write_out(row, columns);
        cells.copy_within(column..columns - count, column + count);
        cells[column..column + count].fill(blank);
    }

    /// Takes cells out; those to the right close up, and blank ones come in at the end.
    pub fn delete(&mut self, row: usize, column: usize, count: usize, blank: Cell) {
        let columns = self.columns;
        let count = count.min(columns - column);
        let cells = self.write_out(row, columns);
        cells.copy_within(column + count..columns, column);
        cells[columns - count..columns].fill(blank);
    }
}
