//! Colours, and what a program says of how it wants its text (SGR of ECMA-48, with the colours of xterm).

use super::grid::Cell;

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// The sixteen colours that have been on consoles since the CGA.
const SIXTEEN: [Rgb; 16] = [
    [0x00, 0x00, 0x00],
    [0xaa, 0x00, 0x00],
    [0x00, 0xaa, 0x00],
    [0xaa, 0x55, 0x00],
    [0x00, 0x00, 0xaa],
    [0xaa, 0x00, 0xaa],
    [0x00, 0xaa, 0xaa],
    [0xaa, 0xaa, 0xaa],
    [0x55, 0x55, 0x55],
    [0xff, 0x55, 0x55],
    [0x55, 0xff, 0x55],
    [0xff, 0xff, 0x55],
    [0x55, 0x55, 0xff],
    [0xff, 0x55, 0xff],
    [0x55, 0xff, 0xff],
    [0xff, 0xff, 0xff],
];
const GREY: u8 = 7;
const BLACK: u8 = 0;
const BRIGHT: u8 = 8;

/// A colour as a program says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colour {
    Number(u8),
    Exact(Rgb),
}

impl Colour {
    fn rgb(self) -> Rgb {
        match self {
            Self::Exact(rgb) => rgb,
            Self::Number(number @ 0..16) => SIXTEEN[usize::from(number)],
            // A cube of six steps a side.
            Self::Number(number @ 16..232) => {
                let level = |digit: u8| if digit == 0 { 0 } else { 55 + 40 * digit };
                let number = number - 16;
                [level(number / 36), level(number / 6 % 6), level(number % 6)]
            }
            Self::Number(number) => [8 + 10 * (number - 232); 3],
        }
    }
}

/// How text is written from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pen {
    ink: Colour,
    paper: Colour,
    bold: bool,
    faint: bool,
    underlined: bool,
    swapped: bool,
    hidden: bool,
}

impl Pen {
    /// Grey on black, and nothing else.
    pub const PLAIN: Self = Self {
        ink: Colour::Number(GREY),
        paper: Colour::Number(BLACK),
        bold: false,
        faint: false,
        underlined: false,
        swapped: false,
        hidden: false,
    };

    /// A character as this pen writes it.
    pub fn cell(&self, character: char) -> Cell {
        let mut ink = match self.ink {
            Colour::Number(number @ 0..BRIGHT) if self.bold => Colour::Number(number + BRIGHT),
            other => other,
        }
        .rgb();
        let mut paper = self.paper.rgb();
        if self.faint {
            ink = ink.map(|part| part / 2);
        }
        if self.swapped {
            (ink, paper) = (paper, ink);
        }
        if self.hidden {
            ink = paper;
        }
        Cell {
            character,
            ink,
            paper,
            underlined: self.underlined,
        }
    }

    /// What it leaves where it erases: its paper.
    pub fn blank(&self) -> Cell {
        Pen {
            paper: self.paper,
            ..Pen::PLAIN
        }
        .cell(' ')
    }

    /// Takes the parameters of one SGR, each with its parts.
    pub fn change<'a>(&mut self, mut parameters: impl Iterator<Item = &'a [u16]>) {
        while let Some(parameter) = parameters.next() {
            match parameter.first().copied().unwrap_or(0) {
                0 => *self = Self::PLAIN,
                1 => self.bold = true,
                2 => self.faint = true,
                4 => self.underlined = parameter.get(1) != Some(&0),
                7 => self.swapped = true,
                8 => self.hidden = true,
                21 => self.underlined = true,
                22 => (self.bold, self.faint) = (false, false),
                24 => self.underlined = false,
                27 => self.swapped = false,
                28 => self.hidden = false,
                code @ 30..=37 => self.ink = Colour::Number((code - 30) as u8),
                38 => self.ink = chosen(parameter, &mut parameters).unwrap_or(self.ink),
                39 => self.ink = Self::PLAIN.ink,
                code @ 40..=47 => self.paper = Colour::Number((code - 40) as u8),
                48 => self.paper = chosen(parameter, &mut parameters).unwrap_or(self.paper),
                49 => self.paper = Self::PLAIN.paper,
                code @ 90..=97 => self.ink = Colour::Number((code - 90) as u8 + BRIGHT),
                code @ 100..=107 => self.paper = Colour::Number((code - 100) as u8 + BRIGHT),
                _ => {}
            }
        }
    }
}

/// The colour behind a 38 or 48: its own parts (`38:2:…`), or the parameters that follow (`38;2;…`).
fn chosen<'a>(own: &[u16], next: &mut impl Iterator<Item = &'a [u16]>) -> Option<Colour> {
    let part = |value: u16| u8::try_from(value).ok();
    match own {
        [_, 5, number, ..] => return part(*number).map(Colour::Number),
        // With a colour space, or, as many write it, without.
        [_, 2, _, red, green, blue, ..] | [_, 2, red, green, blue] => {
            return Some(Colour::Exact([part(*red)?, part(*green)?, part(*blue)?]));
        }
        [_] => {}
        _ => return None,
    }
    let mut value = || next.next().and_then(|parameter| parameter.first().copied());
    match value()? {
        5 => value().and_then(part).map(Colour::Number),
        2 => {
            let (red, green, blue) = (value()?, value()?, value()?);
            Some(Colour::Exact([part(red)?, part(green)?, part(blue)?]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pen(parameters: &[&[u16]]) -> Cell {
        let mut pen = Pen::PLAIN;
        pen.change(parameters.iter().copied());
        pen.cell('x')
    }

    #[test]
    fn colours_are_those_of_xterm() {
        let ink = |number: u8| Colour::Number(number).rgb();
        assert_eq!(ink(16), [0, 0, 0]);
        assert_eq!(ink(231), [255, 255, 255]);
        assert_eq!(ink(16 + 36 * 5 + 6 * 2 + 1), [255, 135, 95]);
        assert_eq!((ink(232), ink(255)), ([8; 3], [238; 3]));
    }

    #[test]
    fn both_ways_to_say_a_colour_are_one() {
        assert_eq!(pen(&[&[38], &[2], &[1], &[2], &[3]]).ink, [1, 2, 3]);
        assert_eq!(pen(&[&[38, 2, 1, 2, 3]]).ink, [1, 2, 3]);
        assert_eq!(pen(&[&[38, 2, 0, 1, 2, 3]]).ink, [1, 2, 3]);
        assert_eq!(pen(&[&[48], &[5], &[196], &[1]]).paper, [255, 0, 0]);
        assert_eq!(pen(&[&[48, 5, 196]]).paper, [255, 0, 0]);
        // What is no colour changes none.
        assert_eq!(pen(&[&[38], &[2], &[1], &[2], &[300]]), Pen::PLAIN.cell('x'));
        assert_eq!(pen(&[&[38], &[9]]), Pen::PLAIN.cell('x'));
    }

    #[test]
    fn attributes_come_and_go() {
        assert_eq!(pen(&[&[1], &[31]]).ink, SIXTEEN[9]);
        assert_eq!(pen(&[&[7]]).paper, SIXTEEN[7]);
        assert_eq!(pen(&[&[1], &[4], &[7], &[31], &[45], &[0]]), Pen::PLAIN.cell('x'));
        assert_eq!(
            pen(&[
                &[1],
                &[2],
                &[4],
                &[7],
                &[8],
                &[95],
                &[104],
                &[22],
                &[24],
                &[27],
                &[28],
                &[39],
                &[49]
            ]),
            Pen::PLAIN.cell('x')
        );
    }
}
