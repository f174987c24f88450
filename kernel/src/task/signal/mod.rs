//! Signals, exactly as Linux has them.
//!
//! [`send`] queues and wakes ([`watch`] those who only look), [`deliver`] acts before the next entry to user mode; [`pending`], [`action`], [`info`] and
//! [`set`] are the nouns.

pub mod action;
pub mod deliver;
pub mod info;
pub mod pending;
pub mod send;
pub mod set;
pub mod watch;

pub use info::SigInfo;
pub use send::{force, kill, send_to_process, send_to_thread, signal_process_group};
pub use set::{SIGPIPE, SignalSet, Signo};
