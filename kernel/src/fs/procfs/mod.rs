//! x
use alloc::sync::Arc;
use super::Inode;
/// x
pub fn root() -> Arc<dyn Inode> { unreachable!() }
