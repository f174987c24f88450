//! The rows: one generic program each, run on every peer.

/// maitake's cell, where it is built in.
#[cfg(maitake)]
macro_rules! maitake {
    ($function:ident($($argument:expr),*)) => {
        crate::run::Cell {
            peer: "maitake",
            case: Ok($function::<crate::peers::maitake::Maitake>($($argument),*)),
        }
    };
}

/// maitake's cell: it says why it is empty.
#[cfg(not(maitake))]
macro_rules! maitake {
    ($function:ident($($argument:expr),*)) => {
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

use crate::run::{Case, Cell, Plan};
use anyhow::Context;

/// Every row, in the order of the table.
pub fn all() -> Vec<Plan> {
    [tasks::plans(), sharing::plans(), timers::plans(), cpus::plans()]
        .into_iter()
        .flatten()
        .collect()
}

/// Has a cell say how often it allocates, not how long it takes.
fn allocations_of(cell: &mut Cell) {
    let case = std::mem::replace(&mut cell.case, Err("being replaced"));
    cell.case = case.map(|mut case| -> Case {
        Box::new(move || {
            let mut sample = case()?;
            sample.value = sample.allocations.context("allocations were not counted")?;
            Ok(sample)
        })
    });
}
