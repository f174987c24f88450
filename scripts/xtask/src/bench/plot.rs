//! Ratios to the best peer as a drawing: one line a row, a dot for every contender, the bar marked.

use super::report::{Bar, OURS, Row, Suite};
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const WIDTH: u32 = 1100;
const LINE: i32 = 26;
const TOP: i32 = 60;
/// Where the scale begins and ends.
const LEFT: i32 = 400;
const RIGHT: i32 = 1060;
/// The scale's ends, as ratios.
const LEAST: f64 = 0.02;
const MOST: f64 = 20.0;

const GREEN: RGBColor = RGBColor(30, 130, 60);
const ORANGE: RGBColor = RGBColor(200, 90, 20);
const GREY: RGBColor = RGBColor(150, 150, 150);

/// Where a ratio stands; the scale is logarithmic, and what is off it stands at its end.
fn place(ratio: f64) -> i32 {
    let span = (MOST / LEAST).ln();
    let share = (ratio.clamp(LEAST, MOST) / LEAST).ln() / span;
    LEFT + (share * f64::from(RIGHT - LEFT)).round() as i32
}

/// Rows with a ratio, in the suite's order.
fn comparable(suite: &Suite) -> Vec<(&Row, f64)> {
    let best = |row: &Row| {
        row.verdict()?
            .best
            .map(|(_, best)| row.decisive(&best))
            .filter(|figure| *figure > 0.0)
    };
    suite.rows.iter().filter_map(|row| Some((row, best(row)?))).collect()
}

/// Draws the suite to an SVG file.
///
/// # Errors
/// The file cannot be written.
pub fn draw(suite: &Suite, path: &Path) -> Result<()> {
    let mut text = String::new();
    render(suite, &mut text).map_err(|error| anyhow!("the plot failed: {error}"))?;
    Ok(std::fs::write(path, text)?)
}

fn render(suite: &Suite, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let rows = comparable(suite);
    let bottom = TOP + LINE * rows.len() as i32;
    let root = SVGBackend::with_string(text, (WIDTH, (bottom + 40) as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let font = |size: i32, color: RGBColor, to: HPos| {
        let style = ("sans-serif", size).into_font().color(&color);
        style.pos(Pos::new(to, VPos::Center))
    };
    let title = format!(
        "{}: a multiple of the best peer's figure ({} rounds)",
        suite.suite, suite.rounds
    );
    root.draw(&Text::new(title, (20, 20), font(16, BLACK, HPos::Left)))?;
    for ratio in [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0] {
        let x = place(ratio);
        let color = if ratio == 1.0 { BLACK } else { RGBColor(225, 225, 225) };
        root.draw(&PathElement::new([(x, TOP - 10), (x, bottom)], color))?;
        root.draw(&Text::new(
            ratio.to_string(),
            (x, bottom + 12),
            font(12, BLACK, HPos::Center),
        ))?;
    }
    for (index, (row, best)) in rows.iter().enumerate() {
        let y = TOP + LINE * index as i32 + LINE / 2;
        root.draw(&Text::new(
            row.name.as_str(),
            (LEFT - 12, y),
            font(13, BLACK, HPos::Right),
        ))?;
        for cell in row.cells.iter().filter(|cell| cell.peer != OURS) {
            if let Some(figures) = cell.figures() {
                root.draw(&Circle::new(
                    (place(row.decisive(&figures) / best), y),
                    3,
                    GREY.filled(),
                ))?;
            }
        }
        let Some(verdict) = row.verdict() else { continue };
        if let Some(Bar::Ratio(most)) = row.bar {
            let x = place(most);
            root.draw(&PathElement::new([(x, y - 9), (x, y + 9)], BLUE.stroke_width(2)))?;
        }
        let color = if verdict.kept == Some(false) { ORANGE } else { GREEN };
        if let Some((median, minimum)) = verdict.ratios() {
            let ratio = if row.wall { minimum } else { median };
            root.draw(&Circle::new((place(ratio), y), 6, color.filled()))?;
            root.draw(&Text::new(
                format!("{ratio:.2}"),
                (place(ratio), y - 11),
                font(10, color, HPos::Center),
            ))?;
        }
    }
    let legend = "large: ours (orange: above its bar)   small: peers   blue: the bar";
    root.draw(&Text::new(legend, (20, 40), font(12, BLACK, HPos::Left)))?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{cell, row};
    use super::*;

    #[test]
    fn the_scale_is_logarithmic_and_holds_everything() {
        assert_eq!(place(LEAST), LEFT);
        assert_eq!(place(MOST), RIGHT);
        assert_eq!(place(0.0), LEFT);
        assert_eq!(place(1e9), RIGHT);
        assert_eq!(place(0.2) - place(0.1), place(2.0) - place(1.0));
    }

    #[test]
    fn every_row_with_a_peer_is_drawn_with_its_bar() {
        let mut slow = row(Some(Bar::Ratio(0.5)), vec![cell(OURS, &[2.0]), cell("a", &[1.0])]);
        slow.name = "slow one".into();
        let fast = row(Some(Bar::Ratio(0.5)), vec![cell(OURS, &[0.1]), cell("a", &[1.0])]);
        let mut alone = row(None, vec![cell(OURS, &[1.0])]);
        alone.name = "nobody else".into();
        let suite = Suite {
            suite: "executor".into(),
            mode: String::new(),
            cpus: 1,
            rounds: 1,
            rows: vec![slow, fast, alone],
        };
        let mut text = String::new();
        render(&suite, &mut text).expect("drawn in memory");
        assert!(text.contains("slow one") && text.contains("some operation"), "{text}");
        assert!(!text.contains("nobody else"), "{text}");
        // Two peers, ours once kept and once not, two bars.
        let count = |what: &str| text.matches(what).count();
        assert_eq!((count("#969696"), count("#0000FF")), (2, 2), "{text}");
        assert!(count("#1E823C") >= 1 && count("#C85A14") >= 1, "{text}");
    }
}
