//! Cells to pixels.

use alloc::vec::Vec;

use hal::framebuffer::Framebuffer;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::{
    colour::{Pen, Rgb},
    grid::Cell,
};
use crate::{errno::Result, mm::fallible::TryRoomExact};

/// Pixels across of a cell.
pub const WIDTH: usize = get_raster_width(FontWeight::Regular, RasterHeight::Size16);
/// Pixels down.
pub const HEIGHT: usize = RasterHeight::Size16.val();
/// The pixels' line that underlines.
const UNDERLINE: usize = HEIGHT - 2;
/// Cells that are drawn at once: a few microseconds' work.
const RUN: usize = 16;

/// What can be drawn on.
pub trait Surface {
    /// How it writes a colour.
    fn pixel(&self, colour: Rgb) -> u32;

    /// Puts pixels side by side, from a column of a line on.
    fn put(&self, x: usize, y: usize, pixels: &[u32]);
}

impl Surface for Framebuffer {
    fn pixel(&self, colour: Rgb) -> u32 {
        Framebuffer::pixel(self, colour)
    }

    fn put(&self, x: usize, y: usize, pixels: &[u32]) {
        Framebuffer::put(self, x, y, pixels);
    }
}

/// How dark each pixel of a character is, line by line; of one that the font has not, those of the one that stands for all such.
fn raster(character: char) -> &'static [u8] {
    let shown = match character {
        // The font has no lines: these are what comes near them.
        '─' | '━' | '═' => '-',
        '│' | '┃' | '║' => '|',
        '\u{2500}'..='\u{257f}' => '+',
        '\u{2588}' => '#',
        '\u{2580}'..='\u{259f}' => ':',
        '‘' | '’' => '\'',
        '“' | '”' => '"',
        '‐'..='―' => '-',
        '•' => '·',
        other => other,
    };
    [shown, char::REPLACEMENT_CHARACTER, '?', ' ']
        .into_iter()
        .find_map(|character| get_raster(character, FontWeight::Regular, RasterHeight::Size16))
        .map_or(&[], |raster| raster.pixels())
}

/// A colour on the way from paper to ink.
fn mix(paper: Rgb, ink: Rgb, darkness: u8) -> Rgb {
    let part = |at: usize| {
        let (paper, ink, darkness) = (u16::from(paper[at]), u16::from(ink[at]), u16::from(darkness));
        ((paper * (255 - darkness) + ink * darkness) / 255) as u8
    };
    [part(0), part(1), part(2)]
}

/// Draws cells side by side, at most [`RUN`] of them; the others are left out.
fn draw(surface: &impl Surface, row: usize, column: usize, cells: &[Cell]) {
    let cells = &cells[..cells.len().min(RUN)];
    let mut rasters: [&[u8]; RUN] = [&[]; RUN];
    let mut colours = [(0, 0); RUN];
    for (at, cell) in cells.iter().enumerate() {
        rasters[at] = raster(cell.character);
        colours[at] = (surface.pixel(cell.paper), surface.pixel(cell.ink));
    }
    for line in 0..HEIGHT {
        let mut pixels = [0; RUN * WIDTH];
        for (at, cell) in cells.iter().enumerate() {
            let (paper, ink) = colours[at];
            for (x, pixel) in pixels[at * WIDTH..(at + 1) * WIDTH].iter_mut().enumerate() {
                let darkness = if cell.underlined && line == UNDERLINE {
                    u8::MAX
                } else {
                    rasters[at].get(line * WIDTH + x).copied().unwrap_or(0)
                };
                *pixel = match darkness {
                    0 => paper,
                    u8::MAX => ink,
                    between => surface.pixel(mix(cell.paper, cell.ink, between)),
                };
            }
        }
        surface.put(column * WIDTH, row * HEIGHT + line, &pixels[..cells.len() * WIDTH]);
    }
}

/// Draws text without keeping what it has drawn: for reports that nothing follows.
pub fn draw_character(surface: &impl Surface, row: usize, column: usize, cell: Cell) {
    draw(surface, row, column, &[cell]);
}

/// What is drawn, cell by cell, and the means to make it what it should be.
pub struct Painter<S> {
    surface: S,
    columns: usize,
    shown: Vec<Cell>,
    /// The row that is being drawn.
    pub wanted: Vec<Cell>,
}

impl<S: Surface> Painter<S> {
    /// For a surface that is all plain paper.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(surface: S, rows: usize, columns: usize) -> Result<Self> {
        let blank = Pen::PLAIN.blank();
        let (mut shown, mut wanted) = (Vec::new(), Vec::new());
        shown.try_room_exact(rows * columns)?;
        shown.resize(rows * columns, blank);
        wanted.try_room_exact(columns)?;
        wanted.resize(columns, blank);
        Ok(Self {
            surface,
            columns,
            shown,
            wanted,
        })
    }

    /// Draws, of the row's wanted cells from a column on, the first few that are not shown yet. Returns from where on there may be
    /// more.
    pub fn draw_some(&mut self, row: usize, from: usize) -> Option<usize> {
        let shown = &mut self.shown[row * self.columns..(row + 1) * self.columns];
        let differs = |column: &usize| shown[*column] != self.wanted[*column];
        let start = (from..self.columns).find(differs)?;
        let end = (start..self.columns.min(start + RUN))
            .find(|column| !differs(column))
            .unwrap_or(self.columns.min(start + RUN));
        draw(&self.surface, row, start, &self.wanted[start..end]);
        shown[start..end].copy_from_slice(&self.wanted[start..end]);
        Some(end)
    }

    /// What is drawn on.
    pub fn surface(&self) -> &S {
        &self.surface
    }
}
