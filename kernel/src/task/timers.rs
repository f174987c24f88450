//! Timers of a process: `setitimer`, `alarm`, `timer_create`.

/// All timers of one process.
#[derive(Default)]
pub struct Timers {}
