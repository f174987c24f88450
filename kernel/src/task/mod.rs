//! Processes and threads.
//!
//! A [`Thread`] is what others see of a user thread; its registers live in its future, [`run`]. A [`Process`] is what its
//! threads share. [`table`] knows who there is and who is whose child, in which group and session.
//!
//! Locks, outermost first: the [`table`] (`Rank::ProcessTable`), a process's `shared` (`Rank::Process`), then one of the
//! small leaves (`Rank::Signals`): a thread's signal state, a descriptor-table pointer, credentials, and so on.

pub mod boot;
pub mod capabilities;
pub mod clone;
pub mod cpu_clock;
pub mod credentials;
pub mod current;
pub mod deadline;
pub mod exec;
pub mod exit;
mod fault;
pub mod file_capabilities;
pub(crate) mod fp;
pub mod futex;
pub mod interruptible;
mod kin;
pub mod limits;
pub mod oom;
pub mod pid;
pub mod process;
pub mod ptrace;
mod robust;
pub mod rseq;
pub(crate) mod run;
pub mod schedule;
pub mod seccomp;
pub mod shutdown;
pub mod signal;
mod stop;
pub mod table;
#[cfg(test)]
pub mod testing;
pub mod thread;
pub mod thread_list;
pub mod timers;
pub mod wait;

pub use capabilities::Capability;
pub use credentials::Credentials;
pub use interruptible::{Interrupted, Restart};
pub use pid::Pid;
pub use process::{Process, WaitStatus};
pub use signal::signal_process_group;
pub use table::{Session, group_members, is_orphaned_group, process, processes, thread};
pub use thread::{Thread, attention};
