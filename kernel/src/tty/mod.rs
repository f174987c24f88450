//! Terminals.
//!
//! Layers, each ignorant of the ones above:
//!
//! - [`buffer`], [`termios`] and [`discipline`] are the line discipline: a state machine without locks, tasks or time.
//! - [`Tty`] puts one machine behind a lock and wakes and signals what the machine's effects name. Its driver task moves bytes:
//!   [`Tty::input`] with what the device received, [`Tty::take_output`] for what it is to send.
//! - `job` knows sessions: whose terminal it is, which group is in front, who is stopped for reading from behind.
//! - [`TtyFile`] is an open file on one: reads, writes, `ioctl`, `poll`. [`device`] finds the terminal that a device node means.

mod buffer;
pub mod device;
pub mod discipline;
mod file;
mod ioctl;
mod job;
mod terminal;
pub mod termios;

#[cfg(test)]
mod tests;

pub use file::TtyFile;
pub use job::session_leader_ended;
pub use terminal::Tty;
