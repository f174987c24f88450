//! Processes and threads.

pub mod credentials;
pub use credentials::Credentials;
