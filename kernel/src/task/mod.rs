//! Processes and threads.
//!
//! A [`Thread`] is what others see of a user thread; its registers live in its future, [`run`]. A [`Process`] is what its
//! threads share. [`table`] knows who there is and who is whose child, in which group and session.
//!
//! Locks, outermost first: the [`table`] (`Rank::ProcessTable`), a process's `shared` (`Rank::Process`), then one of the
//! small leaves (`Rank::Signals`): a thread's signal state, a descriptor-table pointer, credentials, and so on.

pub mod credentials;
pub mod limits;
pub mod pid;
pub mod process;
pub mod signal;
pub mod table;
pub mod thread;
pub mod timers;

pub use credentials::Credentials;
pub use pid::Pid;
pub use process::{Process, WaitStatus};
pub use table::{Session, process, processes, thread};
pub use thread::{Interrupted, Restart, Thread};
