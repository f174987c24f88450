//! Under construction.

/// Stands in for the descriptor table.
#[derive(Debug, Default)]
pub struct FdTable;

/// Stands in for root, working directory and umask.
#[derive(Debug, Default)]
pub struct FsContext;
