//! User program.

fn main() {}
