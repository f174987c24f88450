//! Calls on files.
