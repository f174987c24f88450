//! What a suite measured, and what follows from it.

use serde::{Deserialize, Serialize};

/// The contender that the others are compared with.
pub const OURS: &str = "ours";

/// A suite's samples.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Suite {
    /// Its name.
    pub suite: String,
    /// How guests ran; nothing where there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// The host's CPUs.
    pub cpus: usize,
    /// Rounds asked for.
    pub rounds: usize,
    /// What was measured.
    pub rows: Vec<Row>,
}

impl Suite {
    /// The geometric mean of our ratios to the best peer; `None` where there are none.
    pub fn mean(&self) -> Option<f64> {
        let ratios = self.rows.iter().filter_map(|row| Some(row.verdict()?.ratios()?.0));
        let logarithms: Vec<f64> = ratios.filter(|ratio| *ratio > 0.0).map(f64::ln).collect();
        (!logarithms.is_empty()).then(|| (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp())
    }
}

/// One operation.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// A short name.
    pub id: String,
    /// What is done.
    pub name: String,
    /// What the samples are in.
    pub unit: String,
    /// Whether it was timed by the wall clock. Then whatever else ran on the machine is in the samples, and it is the
    /// minimum that says how long the operation takes; else the median does.
    #[serde(default)]
    pub wall: bool,
    /// What is asked of it.
    pub bar: Option<Bar>,
    /// The contenders.
    pub cells: Vec<Cell>,
}

/// What is asked of a row.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bar {
    /// Our figure divided by the best peer's is at most this.
    Ratio(f64),
    /// Our figure is at most this.
    Most(f64),
}

/// One contender's samples of one operation, or why there are none.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Cell {
    /// Who.
    pub peer: String,
    /// One for each round.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<f64>,
    /// Allocations for one operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocations: Option<f64>,
    /// Operations of a round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<u64>,
    /// Why it cannot do this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// How it went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Cell {
    /// The samples' median and minimum.
    pub fn figures(&self) -> Option<Figures> {
        Figures::of(&self.samples)
    }
}

/// What stands for many samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Half of the samples are at most this.
    pub median: f64,
    /// The least disturbed one.
    pub minimum: f64,
    /// The most disturbed one.
    pub maximum: f64,
}

impl Figures {
    fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (minimum, maximum) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            minimum,
            maximum,
        })
    }

    /// How far apart the samples lie, as a share of their median; `None` where that is nothing.
    pub fn spread(&self) -> Option<f64> {
        (self.median > 0.0).then(|| (self.maximum - self.minimum) / self.median)
    }
}

/// A row's outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Ours.
    pub ours: Figures,
    /// The peer with the least figure, and its figures.
    pub best: Option<(String, Figures)>,
    /// Whether the bar is kept; `None` without a bar.
    pub kept: Option<bool>,
}

impl Verdict {
    /// Our median to the best peer's, and our minimum to its minimum.
    pub fn ratios(&self) -> Option<(f64, f64)> {
        let (_, best) = self.best.as_ref()?;
        let divide = |ours: f64, theirs: f64| (theirs > 0.0).then(|| ours / theirs);
        Some((
            divide(self.ours.median, best.median)?,
            divide(self.ours.minimum, best.minimum)?,
        ))
    }
}

impl Row {
    /// Whether less is better. What there was of a load for each wake is told beside the figures, and is no figure itself.
    fn compares(&self) -> bool {
        !self.unit.ends_with("/wake")
    }

    /// The figure that counts.
    pub fn decisive(&self, figures: &Figures) -> f64 {
        if self.wall { figures.minimum } else { figures.median }
    }

    /// The peer with the least figure, and its figures.
    pub fn best(&self) -> Option<(String, Figures)> {
        let peers = self.cells.iter().filter(|cell| cell.peer != OURS);
        peers
            .filter_map(|cell| Some((cell.peer.clone(), cell.figures()?)))
            .min_by(|(_, a), (_, b)| self.decisive(a).total_cmp(&self.decisive(b)))
    }

    /// How ours did against the best of the others; `None` if ours was not measured.
    pub fn verdict(&self) -> Option<Verdict> {
        let ours = self.cells.iter().find(|cell| cell.peer == OURS)?.figures()?;
        let mut verdict = Verdict {
            ours,
            best: self.best().filter(|_| self.compares()),
            kept: None,
        };
        verdict.kept = match self.bar {
            Some(Bar::Ratio(most)) => verdict
                .ratios()
                .map(|(median, minimum)| if self.wall { minimum } else { median } <= most),
            Some(Bar::Most(most)) => Some(self.decisive(&ours) <= most),
            None => None,
        };
        Some(verdict)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn cell(peer: &str, samples: &[f64]) -> Cell {
        Cell {
            peer: peer.into(),
            samples: samples.into(),
            ..Cell::default()
        }
    }

    pub fn row(bar: Option<Bar>, cells: Vec<Cell>) -> Row {
        Row {
            id: "id".into(),
            name: "some operation".into(),
            unit: "ns".into(),
            wall: false,
            bar,
            cells,
        }
    }

    #[test]
    fn a_median_is_the_middle_or_between_the_middles() {
        let figures = |samples: &[f64]| Figures::of(samples).map(|figures| (figures.median, figures.minimum));
        assert_eq!(figures(&[]), None);
        assert_eq!(figures(&[5.0]), Some((5.0, 5.0)));
        assert_eq!(figures(&[9.0, 1.0, 4.0]), Some((4.0, 1.0)));
        assert_eq!(figures(&[9.0, 2.0, 4.0, 3.0]), Some((3.5, 2.0)));
    }

    #[test]
    fn a_spread_is_a_share_of_the_median() {
        let spread = |samples: &[f64]| Figures::of(samples).and_then(|figures| figures.spread());
        assert_eq!(spread(&[5.0, 4.0, 6.0]), Some(0.4));
        assert_eq!(spread(&[5.0]), Some(0.0));
        assert_eq!(spread(&[0.0, 0.0]), None);
    }

    #[test]
    fn the_best_peer_is_the_one_with_the_least_median() {
        let cells = vec![
            cell("a", &[10.0, 12.0, 11.0]),
            cell(OURS, &[5.0, 6.0, 4.0]),
            cell("b", &[1.0, 20.0, 20.0]),
        ];
        let verdict = row(Some(Bar::Ratio(0.5)), cells).verdict().expect("ours is there");
        assert_eq!(verdict.best.as_ref().map(|(peer, _)| peer.as_str()), Some("a"));
        assert_eq!(verdict.ratios(), Some((5.0 / 11.0, 0.4)));
        assert_eq!(verdict.kept, Some(true));
    }

    #[test]
    fn by_the_wall_clock_it_is_the_minimum_that_counts() {
        let cells = vec![
            cell("a", &[10.0, 11.0]),
            cell(OURS, &[4.0, 90.0]),
            cell("b", &[8.0, 50.0]),
        ];
        let mut row = row(Some(Bar::Ratio(0.5)), cells);
        assert_eq!(row.verdict().and_then(|verdict| verdict.kept), Some(false));
        row.wall = true;
        let verdict = row.verdict().expect("ours is there");
        assert_eq!(verdict.best.as_ref().map(|(peer, _)| peer.as_str()), Some("b"));
        assert_eq!(verdict.kept, Some(true));
    }

    #[test]
    fn a_bar_is_kept_up_to_its_value_and_no_further() {
        let kept = |bar, ours| {
            row(bar, vec![cell(OURS, &[ours]), cell("a", &[10.0])])
                .verdict()
                .and_then(|it| it.kept)
        };
        assert_eq!(kept(Some(Bar::Ratio(0.5)), 5.0), Some(true));
        assert_eq!(kept(Some(Bar::Ratio(0.5)), 5.1), Some(false));
        assert_eq!(kept(Some(Bar::Most(0.0)), 0.0), Some(true));
        assert_eq!(kept(Some(Bar::Most(0.0)), 0.01), Some(false));
        assert_eq!(kept(None, 1.0), None);
    }

    #[test]
    fn a_load_is_told_and_not_compared() {
        let mut load = row(None, vec![cell(OURS, &[4.0]), cell("a", &[8.0])]);
        load.unit = "bytes/wake".into();
        assert_eq!(load.verdict().and_then(|verdict| verdict.ratios()), None);
        assert!(load.best().is_some());
    }

    #[test]
    fn nothing_is_concluded_from_what_was_not_measured() {
        assert_eq!(row(Some(Bar::Ratio(0.5)), vec![cell("a", &[1.0])]).verdict(), None);
        let alone = row(Some(Bar::Ratio(0.5)), vec![cell(OURS, &[1.0]), cell("a", &[])]).verdict();
        assert_eq!(alone.expect("ours is there").kept, None);
        let free = row(Some(Bar::Ratio(0.5)), vec![cell(OURS, &[1.0]), cell("a", &[0.0])]).verdict();
        assert_eq!(free.expect("ours is there").ratios(), None);
    }
}
