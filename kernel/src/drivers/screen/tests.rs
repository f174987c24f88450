//! The console on the host: bytes in, cells and pixels out.

use core::cell::RefCell;

use proptest::prelude::*;

use super::{
    Screen,
    colour::{Pen, Rgb},
    grid::Cell,
    paint::{HEIGHT, Painter, Surface, WIDTH},
    panic::write_at,
    terminal::Terminal,
};

fn blank_row(columns: usize) -> Vec<Cell> {
    vec![Pen::PLAIN.blank(); columns]
}

fn after(rows: usize, columns: usize, bytes: &[u8]) -> Terminal {
    let mut terminal = Terminal::new(rows, columns).unwrap();
    terminal.write(bytes);
    terminal
}

/// The cells of a row without the cursor.
fn cells(terminal: &Terminal, columns: usize, row: usize) -> Vec<Cell> {
    let mut cells = blank_row(columns);
    terminal.copy_row(row, &mut cells);
    let (at, column) = terminal.cursor();
    if at == row && cells[column].ink == Pen::PLAIN.blank().paper {
        let cell = &mut cells[column];
        (cell.ink, cell.paper) = (cell.paper, cell.ink);
    }
    cells
}

fn text(terminal: &Terminal, rows: usize, columns: usize) -> Vec<String> {
    let row = |row| {
        let cells = cells(terminal, columns, row);
        let text: String = cells.iter().map(|cell| cell.character).collect();
        text.trim_end().to_owned()
    };
    (0..rows).map(row).collect()
}

/// What 4 rows of 10 columns show.
fn shows(bytes: &str) -> Vec<String> {
    text(&after(4, 10, bytes.as_bytes()), 4, 10)
}

#[test]
fn lines_wrap_and_scroll() {
    assert_eq!(shows("one\r\ntwo"), ["one", "two", "", ""]);
    assert_eq!(shows("0123456789ab"), ["0123456789", "ab", "", ""]);
    // The last column is full, and the next line is not begun yet.
    assert_eq!(shows("0123456789\r\nab"), ["0123456789", "ab", "", ""]);
    assert_eq!(shows("1\r\n2\r\n3\r\n4\r\n5\r\n6"), ["3", "4", "5", "6"]);
    assert_eq!(shows("\x1b[?7l0123456789ab"), ["012345678b", "", "", ""]);
    assert_eq!(shows("a\tb\x08c"), ["a       c", "", "", ""]);
}

#[test]
fn a_region_scrolls_alone() {
    assert_eq!(shows("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[3;1H\n5"), ["1", "3", "5", "4"]);
    assert_eq!(shows("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[2;1H\x1bM5"), ["1", "5", "2", "4"]);
    assert_eq!(shows("1\r\n2\r\n3\r\n4\x1b[2H\x1b[L"), ["1", "", "2", "3"]);
    assert_eq!(shows("1\r\n2\r\n3\r\n4\x1b[2H\x1b[2M"), ["1", "4", "", ""]);
    assert_eq!(shows("1\r\n2\r\n3\r\n4\x1b[S\x1b[2T"), ["", "", "2", "3"]);
    assert_eq!(shows("\x1b[2;3r\x1b[?6h\x1b[9;9HX"), ["", "", "        X", ""]);
}

#[test]
fn cells_come_and_go_in_a_line() {
    assert_eq!(shows("abcdef\x1b[3G\x1b[2@"), ["ab  cdef", "", "", ""]);
    assert_eq!(shows("abcdef\x1b[3G\x1b[2P"), ["abef", "", "", ""]);
    assert_eq!(shows("abcdef\x1b[3G\x1b[2X"), ["ab  ef", "", "", ""]);
    assert_eq!(shows("abcdef\x1b[3G\x1b[K"), ["ab", "", "", ""]);
    assert_eq!(shows("abcdef\x1b[3G\x1b[1K"), ["   def", "", "", ""]);
    assert_eq!(shows("abcdef\x1b[3G\x1b[4hXY"), ["abXYcdef", "", "", ""]);
    assert_eq!(shows("ab\r\ncd\r\nef\x1b[2;2H\x1b[J"), ["ab", "c", "", ""]);
    assert_eq!(shows("ab\r\ncd\r\nef\x1b[2;1H\x1b[1J"), ["", " d", "ef", ""]);
    assert_eq!(shows("ab\r\ncd\x1b[2Jx"), ["", "  x", "", ""]);
}

#[test]
fn what_was_is_there_again() {
    assert_eq!(shows("ab\x1b7\x1b[4;9Hc\x1b8d"), ["abd", "", "", "        c"]);
    assert_eq!(shows("ab\x1b[?1049hother\x1b[?1049lc"), ["abc", "", "", ""]);
    assert_eq!(shows("ab\x1b[?1049hother"), ["  other", "", "", ""]);
    assert_eq!(shows("ab\x1b[5mc\x1bcd"), ["d", "", "", ""]);
}

#[test]
fn characters_are_read_as_utf8() {
    assert_eq!(shows("gr\u{fc}\u{df} \u{4e2d}"), ["grüß 中", "", "", ""]);
    assert_eq!(shows("a\u{301}b"), ["ab", "", "", ""]);
    let terminal = after(1, 4, b"a\xffb");
    assert_eq!(text(&terminal, 1, 4), ["a\u{fffd}b"]);
    assert_eq!(shows("\x1b(0lqk\x1b(Blqk"), ["┌─┐lqk", "", "", ""]);
}

#[test]
fn the_cursor_is_seen_where_it_is() {
    let terminal = after(2, 3, b"ab");
    let mut row = blank_row(3);
    terminal.copy_row(0, &mut row);
    let plain = Pen::PLAIN.blank();
    assert_eq!((row[2].ink, row[2].paper), (plain.paper, plain.ink));
    assert_eq!(row[0], Pen::PLAIN.cell('a'));
    let terminal = after(2, 3, b"ab\x1b[?25l");
    terminal.copy_row(0, &mut row);
    assert_eq!(row[2], plain);
}

/// Pixels in memory.
struct Picture {
    width: usize,
    pixels: RefCell<Vec<u32>>,
}

impl Picture {
    fn new(rows: usize, columns: usize) -> Self {
        let paper = Picture::number(Pen::PLAIN.blank().paper);
        Self {
            width: columns * WIDTH,
            pixels: RefCell::new(vec![paper; rows * columns * WIDTH * HEIGHT]),
        }
    }

    fn number([red, green, blue]: Rgb) -> u32 {
        u32::from_be_bytes([0, red, green, blue])
    }
}

impl Surface for &Picture {
    fn pixel(&self, colour: Rgb) -> u32 {
        Picture::number(colour)
    }

    fn put(&self, x: usize, y: usize, pixels: &[u32]) {
        assert!(x + pixels.len() <= self.width);
        let start = y * self.width + x;
        self.pixels.borrow_mut()[start..start + pixels.len()].copy_from_slice(pixels);
    }
}

/// Draws what has changed, as the task does.
fn draw(terminal: &mut Terminal, painter: &mut Painter<&Picture>) {
    let mut row = 0;
    while let Some(changed) = terminal.take_changed(row, &mut painter.wanted) {
        let mut column = 0;
        while let Some(next) = painter.draw_some(changed, column) {
            column = next;
        }
        row = changed + 1;
    }
}

#[test]
fn a_character_is_drawn_in_its_colours() {
    let picture = Picture::new(1, 3);
    let mut terminal = after(1, 3, b"\x1b[?25l\x1b[97;44mM\x1b[4m ");
    draw(&mut terminal, &mut Painter::new(&picture, 1, 3).unwrap());
    let pixels = picture.pixels.borrow();
    let (white, blue, black) = (0xff_ffff, 0x00_00aa, 0);
    let cell =
        |column: usize| (0..HEIGHT).flat_map(move |y| (0..WIDTH).map(move |x| (y, y * 3 * WIDTH + column * WIDTH + x)));
    let letter: Vec<u32> = cell(0).map(|(_, at)| pixels[at]).collect();
    assert!(letter.contains(&blue) && !letter.contains(&black));
    assert!(letter.iter().any(|pixel| *pixel > white / 2));
    for (y, at) in cell(1) {
        assert_eq!(pixels[at], if y == HEIGHT - 2 { white } else { blue });
    }
    assert!(cell(2).all(|(_, at)| pixels[at] == black));
}

#[test]
fn last_words_stay_on_the_screen() {
    let picture = Picture::new(2, 4);
    let place = write_at(&&picture, 2, 4, 0, "ab\ncdefghij\n");
    assert_eq!(place, 8);
    assert_eq!(write_at(&&picture, 2, 4, place, "more"), 8);
    assert_eq!(write_at(&&picture, 2, 4, 0, "abcde"), 5);
    // A screen smaller than a character shows none.
    assert_eq!(write_at(&&picture, 0, 0, 0, "\nx"), 0);
}

#[test]
fn who_writes_does_not_wait_for_who_draws() {
    let screen = Screen::new(3, 20).unwrap();
    (0..1000).for_each(|number| screen.write(format!("line {number}\r\n").as_bytes()));
    let terminal = screen.terminal.lock();
    assert_eq!(text(&terminal, 3, 20), ["line 998", "line 999", ""]);
}

/// What programs write: text, and sequences with small numbers.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let sequence =
        ("[?]{0,1}", prop::collection::vec(0u16..12, 0..4), "[@A-Za-z`]").prop_map(|(private, parameters, action)| {
            let parameters: Vec<String> = parameters.iter().map(u16::to_string).collect();
            format!("\x1b[{private}{}{action}", parameters.join(";")).into_bytes()
        });
    let mode = (
        prop::sample::select(vec![1u16, 4, 6, 7, 25, 47, 1047, 1048, 1049]),
        "[?]{0,1}",
        "[hl]",
    )
        .prop_map(|(mode, private, action)| format!("\x1b[{private}{mode}{action}").into_bytes());
    let piece = prop_oneof![
        4 => "[ -~]{1,12}".prop_map(String::into_bytes),
        2 => "[\r\n\t\x08\x0e\x0f]{1,4}".prop_map(String::into_bytes),
        4 => sequence,
        1 => mode,
        1 => "\x1b[78DEHMc()0B#]{1,2}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..8),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_taken(rows in 1usize..5, columns in 1usize..12, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        after(rows, columns, &bytes);
    }

    #[test]
    fn sequences_are_taken_in_pieces_as_whole(
        rows in 1usize..6,
        columns in 1usize..14,
        bytes in output(),
        piece in 1usize..9,
    ) {
        let whole = after(rows, columns, &bytes);
        let mut parts = Terminal::new(rows, columns).unwrap();
        bytes.chunks(piece).for_each(|bytes| parts.write(bytes));
        let (row, column) = whole.cursor();
        prop_assert!(row < rows && column < columns);
        prop_assert_eq!((row, column), parts.cursor());
        for row in 0..rows {
            prop_assert_eq!(cells(&whole, columns, row), cells(&parts, columns, row));
        }
    }

    /// However what is written and what is drawn come after each other, the picture is that of the cells.
    #[test]
    fn what_is_drawn_is_what_is_there(
        rows in 1usize..6,
        columns in 1usize..40,
        writes in prop::collection::vec(output(), 1..4),
    ) {
        let picture = Picture::new(rows, columns);
        let mut painter = Painter::new(&picture, rows, columns).unwrap();
        let mut terminal = Terminal::new(rows, columns).unwrap();
        for bytes in &writes {
            terminal.write(bytes);
            draw(&mut terminal, &mut painter);
        }
        // The same, at once, on another screen.
        let fresh = Picture::new(rows, columns);
        let mut painter = Painter::new(&fresh, rows, columns).unwrap();
        let mut whole = Terminal::new(rows, columns).unwrap();
        writes.iter().for_each(|bytes| whole.write(bytes));
        draw(&mut whole, &mut painter);
        prop_assert!(*picture.pixels.borrow() == *fresh.pixels.borrow());
    }

    /// Text, moves and erasing come out as in another's terminal; without regions, about which terminals differ.
    #[test]
    fn cells_are_those_of_another_terminal(
        pieces in prop::collection::vec(prop_oneof![
            // With a return: at the margin the other one stands behind the last column, we and Linux's console on it.
            4 => "[ -~]{1,12}\r",
            2 => "[\r\n\x08]{1,3}",
            3 => (0u16..9, "[ABCDGdJKXLMP@]").prop_map(|(count, action)| {
                let count = if matches!(action.as_str(), "J" | "K") { count % 3 } else { count };
                format!("\x1b[{count}{action}")
            }),
            2 => (0u16..9, 0u16..14).prop_map(|(row, column)| format!("\x1b[{row};{column}H")),
            1 => Just("\x1bM".to_owned()),
        ], 0..40),
    ) {
        const ROWS: usize = 7;
        const COLUMNS: usize = 13;
        let bytes = pieces.concat();
        let ours = after(ROWS, COLUMNS, bytes.as_bytes());
        let mut theirs = vt100::Parser::new(7.try_into().unwrap(), 13.try_into().unwrap(), 0);
        theirs.process(bytes.as_bytes());
        let rows: Vec<String> = theirs.screen().rows(0, 13.try_into().unwrap()).map(|row| row.trim_end().to_owned()).collect();
        prop_assert_eq!(text(&ours, ROWS, COLUMNS), rows);
    }
}

/// As on Linux's console (`drivers/tty/vt/vt.c`, `ri`): above the region nothing scrolls, at its top it does.
#[test]
fn a_reverse_line_feed_scrolls_the_region_from_its_top() {
    let above = after(4, 4, b"a\r\nb\r\nc\x1b[2;3r\x1b[H\x1bM");
    assert_eq!(
        (text(&above, 4, 4), above.cursor()),
        (rows(&["a", "b", "c", ""]), (0, 0))
    );
    let top = after(4, 4, b"a\r\nb\r\nc\x1b[2;3r\x1b[2H\x1bM");
    assert_eq!((text(&top, 4, 4), top.cursor()), (rows(&["a", "", "b", ""]), (1, 0)));
}

fn rows(rows: &[&str]) -> Vec<String> {
    rows.iter().map(|row| (*row).to_owned()).collect()
}
