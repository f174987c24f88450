//! Terminals.
//!
//! Three layers, each ignorant of the one above:
//!
//! - [`buffer`], [`termios`] and [`discipline`] are the line discipline: a state machine without locks, tasks or time.
//! - [`Tty`] puts one machine behind a lock, wakes and signals what the machine's effects name, and holds the foreground group
//!   and the window size.
//! - A driver task moves bytes: [`Tty::input`] with what the device received, [`Tty::take_output`] for what it is to send.

pub mod buffer;
pub mod discipline;
mod terminal;
pub mod termios;

pub use terminal::Tty;
