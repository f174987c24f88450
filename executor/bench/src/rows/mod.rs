//! The rows: one generic program each, run on every peer.

mod tasks;

use crate::run::Plan;

/// Every row, in the order of the table.
pub fn all() -> Vec<Plan> {
    tasks::plans()
}
