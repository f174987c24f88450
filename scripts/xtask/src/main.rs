//! The host tool behind `scripts/`.

fn main() {}
