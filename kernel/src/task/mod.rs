//! Processes and threads.

pub mod credentials;
pub use credentials::Credentials;

/// Replaced by the branch that builds threads.
pub struct Thread;
