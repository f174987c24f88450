//! A window of a trace as a drawing: three rows for each CPU (polls and sleep; user mode and calls; interrupts), arrows from
//! wakes to the polls that they led to.

use super::timeline::{Kind, Slice, Timeline, Wake};
use anyhow::{Result, anyhow, ensure};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;
use std::str::FromStr;

const WIDTH: i32 = 1400;
const LEFT: i32 = 70;
const RIGHT: i32 = WIDTH - 20;
const TOP: i32 = 70;
/// A row, a CPU's three with what divides it from the next.
const ROW: i32 = 18;
const LANE: i32 = 3 * ROW + 14;
/// Pixels of a character in a slice.
const CHARACTER: i32 = 6;
/// More arrows would hide what they are between.
const ARROWS: usize = 400;

/// A part of a trace: milliseconds since it began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    from: f64,
    to: f64,
}

impl FromStr for Window {
    type Err = anyhow::Error;

    /// `FROM..TO`; either may be left out.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || anyhow!("a window is FROM..TO in milliseconds, such as 1.5..3 or 2..");
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        let bound = |text: &str, otherwise: f64| {
            if text.is_empty() {
                return Ok(otherwise);
            }
            text.parse::<f64>().map_err(|_| wrong())
        };
        let window = Self {
            from: bound(from, 0.0)?,
            to: bound(to, f64::INFINITY)?,
        };
        ensure!(0.0 <= window.from && window.from < window.to, wrong());
        Ok(window)
    }
}

impl Window {
    /// In nanoseconds, as far as the trace goes.
    fn of(self, timeline: &Timeline) -> Result<(u64, u64)> {
        let nanos = |millis: f64| (millis * 1e6).min(timeline.length as f64) as u64;
        let (from, to) = (nanos(self.from), nanos(self.to));
        let length = timeline.length as f64 / 1e6;
        ensure!(
            from < to,
            "the window lies behind the trace, which is {length:.3} ms long"
        );
        Ok((from, to))
    }
}

const fn color(kind: Kind) -> RGBColor {
    match kind {
        Kind::Poll => RGBColor(120, 170, 220),
        Kind::Executor => RGBColor(190, 170, 215),
        Kind::Idle => RGBColor(232, 232, 232),
        Kind::User => RGBColor(140, 200, 140),
        Kind::Call => RGBColor(245, 190, 100),
        Kind::Fault => RGBColor(225, 215, 90),
        Kind::Interrupt => RGBColor(220, 90, 90),
    }
}

const fn row(kind: Kind) -> i32 {
    match kind {
        Kind::Poll | Kind::Executor | Kind::Idle => 0,
        Kind::User | Kind::Call | Kind::Fault => 1,
        Kind::Interrupt => 2,
    }
}

/// Draws the window to an SVG file.
///
/// # Errors
/// The window is empty, or the file cannot be written.
pub fn draw(timeline: &Timeline, window: Option<Window>, title: &str, path: &Path) -> Result<()> {
    let whole = Window {
        from: 0.0,
        to: f64::INFINITY,
    };
    let window = window.unwrap_or(whole).of(timeline)?;
    let mut text = String::new();
    render(timeline, window, title, &mut text).map_err(|error| anyhow!("the drawing failed: {error}"))?;
    Ok(std::fs::write(path, text)?)
}

/// Where times and CPUs stand.
struct Scale<'a> {
    cpus: &'a [u32],
    from: u64,
    to: u64,
}

impl Scale<'_> {
    fn x(&self, at: u64) -> i32 {
        let share = (at.clamp(self.from, self.to) - self.from) as f64 / (self.to - self.from) as f64;
        LEFT + (share * f64::from(RIGHT - LEFT)).round() as i32
    }

    fn contains(&self, at: u64) -> bool {
        (self.from..=self.to).contains(&at)
    }

    /// The top of a CPU's row.
    fn y(&self, cpu: u32, row: i32) -> i32 {
        let lane = self.cpus.iter().position(|other| *other == cpu).unwrap_or(0);
        TOP + lane as i32 * LANE + row * ROW
    }

    fn bottom(&self) -> i32 {
        TOP + self.cpus.len() as i32 * LANE
    }

    /// The distance of marks, and the unit they are written in: a number of nanoseconds, and its name.
    fn marks(&self) -> (u64, u64, &'static str) {
        let least = (self.to - self.from).div_ceil(12).max(1);
        let mut step = 10_u64.pow(least.ilog10());
        for factor in [1, 2, 5, 10] {
            if step * factor >= least {
                step *= factor;
                break;
            }
        }
        let (unit, name) = if step >= 1_000_000 {
            (1_000_000, "ms")
        } else {
            (1000, "µs")
        };
        (step, unit, name)
    }
}

type Drawn = Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn font(size: i32, to: HPos) -> TextStyle<'static> {
    let style = ("sans-serif", size).into_font().color(&BLACK);
    style.pos(Pos::new(to, VPos::Center))
}

fn render(timeline: &Timeline, (from, to): (u64, u64), title: &str, text: &mut String) -> Drawn {
    let cpus = &timeline.cpus;
    let scale = Scale { cpus, from, to };
    let root = SVGBackend::with_string(text, (WIDTH as u32, (scale.bottom() + 40) as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(title.to_owned(), (20, 20), font(15, HPos::Left)))?;
    let mut x = LEFT;
    for kind in Kind::ALL {
        root.draw(&Rectangle::new([(x, 36), (x + 12, 48)], color(kind).filled()))?;
        root.draw(&Text::new(kind.word(), (x + 18, 42), font(12, HPos::Left)))?;
        x += 90;
    }
    root.draw(&Text::new(
        "arrows: from a wake to its poll",
        (x, 42),
        font(12, HPos::Left),
    ))?;
    axis(&root, &scale)?;
    draw_slices(&root, &scale, &timeline.slices)?;
    let shown = |wake: &&Wake| scale.contains(wake.at) && wake.poll.is_some_and(|(_, at)| scale.contains(at));
    for wake in timeline.wakes.iter().filter(shown).take(ARROWS) {
        arrow(&root, &scale, wake)?;
    }
    root.present()?;
    Ok(())
}

fn axis(root: &Area<'_>, scale: &Scale<'_>) -> Drawn {
    let (step, unit, name) = scale.marks();
    let mut at = scale.from.next_multiple_of(step);
    while at <= scale.to {
        let x = scale.x(at);
        root.draw(&PathElement::new(
            [(x, TOP - 6), (x, scale.bottom())],
            RGBColor(225, 225, 225),
        ))?;
        let label = format!("{} {name}", at as f64 / unit as f64);
        root.draw(&Text::new(label, (x, scale.bottom() + 12), font(11, HPos::Center)))?;
        at += step;
    }
    for cpu in scale.cpus {
        let y = scale.y(*cpu, 1) + ROW / 2;
        root.draw(&Text::new(format!("CPU {cpu}"), (LEFT - 10, y), font(13, HPos::Right)))?;
    }
    Ok(())
}

/// Slices that would stand where one of the same kind stands already are left out: they are narrower than a pixel.
fn draw_slices(root: &Area<'_>, scale: &Scale<'_>, slices: &[Slice]) -> Drawn {
    let mut last = std::collections::BTreeMap::new();
    for slice in slices
        .iter()
        .filter(|slice| slice.begin <= scale.to && slice.end >= scale.from)
    {
        let (left, right) = (scale.x(slice.begin), scale.x(slice.end).max(scale.x(slice.begin) + 1));
        if last.insert((slice.cpu, slice.kind), right) >= Some(right) {
            continue;
        }
        let y = scale.y(slice.cpu, row(slice.kind));
        let corners = [(left, y), (right, y + ROW - 2)];
        root.draw(&Rectangle::new(corners, color(slice.kind).filled()))?;
        // Its length in characters, with room on both sides.
        if slice.name.len() as i32 * CHARACTER + 4 <= right - left {
            let middle = ((left + right) / 2, y + ROW / 2 - 1);
            root.draw(&Text::new(slice.name.as_str(), middle, font(10, HPos::Center)))?;
        }
    }
    Ok(())
}

fn arrow(root: &Area<'_>, scale: &Scale<'_>, wake: &Wake) -> Drawn {
    let Some((cpu, at)) = wake.poll else { return Ok(()) };
    let from = (scale.x(wake.at), scale.y(wake.cpu, 0) + ROW / 2);
    let to = (scale.x(at), scale.y(cpu, 0) + ROW / 2);
    let style = RGBColor(60, 60, 60);
    root.draw(&PathElement::new([from, to], style))?;
    root.draw(&Circle::new(from, 2, style.filled()))?;
    let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
    let length = dx.hypot(dy);
    if length < 6.0 {
        return Ok(());
    }
    let (dx, dy) = (dx / length, dy / length);
    // Five pixels back, and two to either side.
    let point = |side: f64| {
        let x = f64::from(to.0) - 6.0 * dx - side * dy;
        let y = f64::from(to.1) - 6.0 * dy + side * dx;
        (x.round() as i32, y.round() as i32)
    };
    root.draw(&Polygon::new([to, point(2.5), point(-2.5)], style.filled()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_two_ends_or_fewer() {
        let window = |text: &str| text.parse::<Window>();
        assert_eq!(window("1.5..3").unwrap(), Window { from: 1.5, to: 3.0 });
        assert_eq!(window("..3").unwrap(), Window { from: 0.0, to: 3.0 });
        assert_eq!(window("2..").unwrap().to, f64::INFINITY);
        for wrong in ["", "3", "3..2", "2..2", "-1..2", "a..b", "1..NaN"] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
        let timeline = Timeline {
            length: 2_000_000,
            ..Timeline::default()
        };
        assert_eq!(window("0.5..").unwrap().of(&timeline).unwrap(), (500_000, 2_000_000));
        assert!(window("2..3").unwrap().of(&timeline).is_err());
    }

    #[test]
    fn what_lies_in_the_window_is_drawn() {
        let slice = |name: &str, cpu, kind, begin, end| Slice {
            cpu,
            kind,
            name: name.to_owned(),
            begin,
            end,
            depth: 0,
            facts: Vec::new(),
        };
        let wake = |cpu, at| Wake {
            cpu: 0,
            at,
            name: String::new(),
            by: String::new(),
            poll: Some((cpu, at + 1000)),
        };
        let timeline = Timeline {
            cpus: vec![0, 3],
            slices: vec![
                slice("before", 0, Kind::Poll, 0, 900),
                slice("within", 0, Kind::Poll, 1000, 3000),
                slice("narrow", 3, Kind::Call, 2000, 2001),
                slice("narrower", 3, Kind::Call, 2001, 2001),
                slice("behind", 3, Kind::Poll, 9000, 9999),
            ],
            wakes: vec![wake(3, 1500), wake(3, 7500)],
            length: 10_000,
            ..Timeline::default()
        };
        let mut text = String::new();
        render(&timeline, (1000, 8000), "a title", &mut text).unwrap();
        for shown in ["within", "a title", "CPU 3", "µs"] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
        assert!(!text.contains("before") && !text.contains("behind"), "{text}");
        // The legend's, and one for the two that stand in one place.
        assert_eq!(text.matches("#F5BE64").count(), 2, "{text}");
        assert_eq!(text.matches("<polygon").count(), 1, "{text}");
    }

    #[test]
    fn marks_are_round_numbers() {
        let marks = |to| {
            let cpus = &[];
            Scale { cpus, from: 0, to }.marks()
        };
        assert_eq!(marks(12_000_000), (1_000_000, 1_000_000, "ms"));
        assert_eq!(marks(15_000), (2000, 1000, "µs"));
        assert_eq!(marks(1), (1, 1000, "µs"));
    }
}
