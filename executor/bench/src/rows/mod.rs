//! The rows: one generic program each, run on every peer.

/// A cell for each of these peers, and for maitake, by the same generic function.
macro_rules! cells {
    ($function:ident $arguments:tt: $($peer:ty),*) => {
        vec![
            $(super::cell::<$peer>($function::<$peer> $arguments),)*
            maitake!($function $arguments),
        ]
    };
}

/// maitake's cell, where it is built in.
#[cfg(maitake)]
macro_rules! maitake {
    ($function:ident $arguments:tt) => {
        super::cell::<crate::peers::maitake::Maitake>($function::<crate::peers::maitake::Maitake> $arguments)
    };
}

/// maitake's cell: it says why it is empty.
#[cfg(not(maitake))]
macro_rules! maitake {
    ($function:ident $arguments:tt) => {
        crate::run::Cell {
            peer: "maitake",
            case: Err("in no registry, only in a git repository: scripts/bench executor --maitake"),
        }
    };
}

mod cpus;
mod sharing;
mod tasks;
mod timers;

use crate::{
    peers::Named,
    run::{Bar, Case, Cell, Plan, Row},
};
use anyhow::Context;

/// Every row, in the order of the table.
pub fn all() -> Vec<Plan> {
    [tasks::plans(), sharing::plans(), timers::plans(), cpus::plans()]
        .into_iter()
        .flatten()
        .collect()
}

fn cell<P: Named>(case: Case) -> Cell {
    Cell {
        peer: P::NAME,
        case: Ok(case),
    }
}

/// A row that has its cells say how often they allocate, not how long they take.
fn allocations(name: String, cells: Vec<Cell>) -> Row {
    let counting = |mut case: Case| -> Case {
        Box::new(move || {
            let mut sample = case()?;
            sample.value = sample.allocations.context("allocations were not counted")?;
            Ok(sample)
        })
    };
    let cells = cells.into_iter().map(|cell| Cell {
        case: cell.case.map(counting),
        ..cell
    });
    Row {
        name,
        unit: "calls",
        bar: Bar::Most(0.0),
        share: 8,
        cells: cells.collect(),
        ..Row::default()
    }
}
