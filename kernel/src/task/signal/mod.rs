//! Signals, exactly as Linux has them.

pub mod action;
pub mod info;
pub mod pending;
pub mod set;

pub use info::SigInfo;
pub use set::{SignalSet, Signo};
