//! Under construction.

/// Stands in for the terminal.
#[derive(Debug)]
pub struct Tty;
