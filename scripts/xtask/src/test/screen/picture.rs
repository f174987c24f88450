//! A picture of a guest's screen, read cell by cell with the font that the kernel draws with.

use anyhow::{Context, Result, ensure};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// Pixels across and down of a cell.
const WIDTH: usize = get_raster_width(FontWeight::Regular, RasterHeight::Size16);
const HEIGHT: usize = RasterHeight::Size16.val();

/// A colour of text and of what is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colours {
    pub ink: Rgb,
    pub paper: Rgb,
}

impl Colours {
    /// Of a terminal that was told nothing.
    pub const PLAIN: Self = Self {
        ink: [0xaa; 3],
        paper: [0; 3],
    };
}

/// What QEMU's `screendump` writes.
pub struct Picture {
    width: usize,
    pixels: Vec<Rgb>,
}

/// Takes the next word of a PPM's head off its bytes.
fn word<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let rest = &bytes[start..];
    let end = rest.iter().position(u8::is_ascii_whitespace)?;
    // One byte of white space ends the head.
    *bytes = &rest[end + 1..];
    str::from_utf8(&rest[..end]).ok()
}

impl Picture {
    /// Reads a PPM of kind `P6`.
    ///
    /// # Errors
    /// It is none, or not all of one.
    pub fn read(mut bytes: &[u8]) -> Result<Self> {
        let mut head = || word(&mut bytes).context("the picture has no whole head");
        ensure!(head()? == "P6", "no PPM of colours");
        let (width, height): (usize, usize) = (head()?.parse()?, head()?.parse()?);
        ensure!(head()? == "255", "not 8 bits a colour");
        let (pixels, _) = bytes.as_chunks();
        ensure!(
            width > 0 && pixels.len() == width * height,
            "{} pixels of {width}x{height}",
            pixels.len()
        );
        Ok(Self {
            width,
            pixels: pixels.to_vec(),
        })
    }

    /// Rows and columns of cells.
    pub fn size(&self) -> (usize, usize) {
        (self.pixels.len() / self.width / HEIGHT, self.width / WIDTH)
    }

    fn cell(&self, row: usize, column: usize) -> impl Iterator<Item = Rgb> + '_ {
        (0..HEIGHT).flat_map(move |y| {
            let start = (row * HEIGHT + y) * self.width + column * WIDTH;
            self.pixels[start..start + WIDTH].iter().copied()
        })
    }

    /// Whether a place shows exactly this character.
    fn is(&self, (row, column): (usize, usize), character: char, colours: Colours) -> bool {
        let Some(raster) = get_raster(character, FontWeight::Regular, RasterHeight::Size16) else {
            return false;
        };
        let drawn = raster.pixels().iter().map(|darkness| {
            let (paper, ink) = (colours.paper, colours.ink);
            std::array::from_fn(|part| {
                let darkness = u32::from(*darkness);
                ((u32::from(paper[part]) * (255 - darkness) + u32::from(ink[part]) * darkness) / 255) as u8
            })
        });
        drawn.eq(self.cell(row, column))
    }

    /// What a row says in these colours, without blanks at its end; `�` where nothing in ASCII looks so.
    pub fn row(&self, row: usize, colours: Colours) -> String {
        let (_, columns) = self.size();
        let read = |column| {
            (' '..='~')
                .find(|character| self.is((row, column), *character, colours))
                .unwrap_or('\u{fffd}')
        };
        let text: String = (0..columns).map(read).collect();
        text.trim_end().to_owned()
    }

    /// All rows.
    pub fn rows(&self, colours: Colours) -> Vec<String> {
        (0..self.size().0).map(|row| self.row(row, colours)).collect()
    }

    /// Whether a row shows exactly these pieces one after the other, and plain blanks behind them.
    ///
    /// # Errors
    /// It does not: where.
    pub fn check_row(&self, row: usize, pieces: &[(&str, Colours)]) -> Result<()> {
        let expected = pieces
            .iter()
            .flat_map(|(text, colours)| text.chars().map(|character| (character, *colours)))
            .chain(std::iter::repeat((' ', Colours::PLAIN)));
        for (column, (character, colours)) in (0..self.size().1).zip(expected) {
            ensure!(
                self.is((row, column), character, colours),
                "row {row}, column {column}: not {character:?}; plainly read, the row is {:?}",
                self.row(row, Colours::PLAIN)
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Colours = Colours {
        ink: [255, 0, 0],
        paper: [0, 0, 255],
    };

    /// A picture of one row of characters.
    fn picture(text: &[(char, Colours)]) -> Picture {
        let width = text.len() * WIDTH;
        let mut pixels = vec![[0; 3]; width * HEIGHT];
        for (column, (character, colours)) in text.iter().enumerate() {
            let raster = get_raster(*character, FontWeight::Regular, RasterHeight::Size16).unwrap();
            for (at, darkness) in raster.pixels().iter().enumerate() {
                let (x, y) = (at % WIDTH, at / WIDTH);
                let part = |part: usize| {
                    let (paper, ink) = (u32::from(colours.paper[part]), u32::from(colours.ink[part]));
                    ((paper * u32::from(255 - darkness) + ink * u32::from(*darkness)) / 255) as u8
                };
                pixels[y * width + column * WIDTH + x] = [part(0), part(1), part(2)];
            }
        }
        Picture { width, pixels }
    }

    #[test]
    fn characters_are_told_apart() {
        for character in '!'..='~' {
            let picture = picture(&[(character, Colours::PLAIN), (' ', Colours::PLAIN)]);
            assert_eq!(picture.row(0, Colours::PLAIN), character.to_string());
        }
    }

    #[test]
    fn every_pixel_counts() {
        let mut picture = picture(&[('a', RED), ('b', Colours::PLAIN), (' ', Colours::PLAIN)]);
        picture.check_row(0, &[("a", RED), ("b", Colours::PLAIN)]).unwrap();
        assert!(picture.check_row(0, &[("ab", Colours::PLAIN)]).is_err());
        picture.pixels[HEIGHT / 2 * picture.width + 2 * WIDTH + 1][2] = 1;
        let error = picture.check_row(0, &[("a", RED), ("b", Colours::PLAIN)]).unwrap_err();
        assert!(error.to_string().contains("row 0, column 2: not ' '"), "{error}");
        assert_eq!(picture.row(0, Colours::PLAIN), "\u{fffd}b\u{fffd}");
    }

    #[test]
    fn pictures_are_read_whole() {
        let picture = Picture::read(b"P6\n2 1\n255\nabcdef").unwrap();
        assert_eq!(picture.pixels, [*b"abc", *b"def"]);
        assert!(Picture::read(b"P6\n2 1\n255\nabcde").is_err());
        assert!(Picture::read(b"P5\n2 1\n255\nabcdef").is_err());
        assert!(Picture::read(b"P6\n2").is_err());
    }
}
