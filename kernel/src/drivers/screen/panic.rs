//! The last words on the screen: no lock, no allocation, nothing but stores.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{
    SURFACE,
    colour::{Pen, Rgb},
    grid::Cell,
    paint::{HEIGHT, Surface, WIDTH, draw_character},
};

const PAPER: Rgb = [0x70, 0, 0];
const INK: Rgb = [0xff; 3];

/// Where the next character goes, in cells from the first on.
static PLACE: AtomicUsize = AtomicUsize::new(0);
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Whether the screen is a panic's.
pub(super) fn has_screen() -> bool {
    BEGUN.load(Ordering::Relaxed)
}

/// Whether there is a screen on which somebody may read what is said last.
pub fn is_seen() -> bool {
    SURFACE.get().is_some()
}

/// Adds to what the panicking CPU says. What finds no room below is left out: the beginning says the most.
pub fn write(text: &str) {
    let Some(surface) = SURFACE.get() else { return };
    let (rows, columns) = (surface.height() / HEIGHT, surface.width() / WIDTH);
    if !BEGUN.swap(true, Ordering::Relaxed) {
        surface.fill(0, 0, surface.width(), surface.height(), surface.pixel(PAPER));
    }
    let place = write_at(surface, rows, columns, PLACE.load(Ordering::Relaxed), text);
    PLACE.store(place, Ordering::Relaxed);
    surface.flush();
}

/// Draws `text` from a place on; returns the place behind it.
pub(super) fn write_at(surface: &impl Surface, rows: usize, columns: usize, mut place: usize, text: &str) -> usize {
    for character in text.chars() {
        if place >= rows * columns {
            break;
        }
        if character == '\n' {
            place = (place / columns + 1) * columns;
            continue;
        }
        let cell = Cell {
            ink: INK,
            paper: PAPER,
            ..Pen::PLAIN.cell(character)
        };
        draw_character(surface, place / columns, place % columns, cell);
        place += 1;
    }
    place
}
