//! Root, working directory and umask: what a process (or several, by `CLONE_FS`) resolves paths by.

use super::mount::Location;
use crate::sync::{Rank, SpinLock};

#[derive(Clone)]
struct State {
    root: Location,
    working: Location,
    umask: u16,
}

/// See the module.
pub struct FsContext {
    state: SpinLock<State>,
}

impl FsContext {
    /// Root and working directory at `root`, umask 022.
    pub fn new(root: Location) -> Self {
        let state = State {
            working: root.clone(),
            root,
            umask: 0o022,
        };
        Self {
            state: SpinLock::new(Rank::FsContext, state),
        }
    }

    /// What `fork` gives the child.
    pub fn fork(&self) -> Self {
        let state = self.state.lock().clone();
        Self {
            state: SpinLock::new(Rank::FsContext, state),
        }
    }

    /// The root directory.
    pub fn root(&self) -> Location {
        self.state.lock().root.clone()
    }

    /// The working directory.
    pub fn working_directory(&self) -> Location {
        self.state.lock().working.clone()
    }

    /// Moves the root directory (`chroot`).
    pub fn set_root(&self, root: Location) {
        let old = core::mem::replace(&mut self.state.lock().root, root);
        drop(old);
    }

    /// Moves the working directory (`chdir`).
    pub fn set_working_directory(&self, directory: Location) {
        let old = core::mem::replace(&mut self.state.lock().working, directory);
        drop(old);
    }

    /// The permission bits that new files do not get.
    pub fn umask(&self) -> u16 {
        self.state.lock().umask
    }

    /// Replaces the umask; the old one is returned.
    pub fn set_umask(&self, umask: u16) -> u16 {
        core::mem::replace(&mut self.state.lock().umask, umask & 0o777)
    }
}
