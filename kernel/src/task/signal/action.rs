//! What a process does about each signal.

use alloc::{boxed::Box, sync::Arc};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::set::*;
use crate::sync::{Rank, SpinLock};

/// `SIG_DFL`.
pub const SIG_DFL: u64 = 0;
/// `SIG_IGN`.
pub const SIG_IGN: u64 = 1;

/// `sa_flags` (`asm-generic/signal-defs.h`; `SA_RESTORER` from `asm/signal.h` of x86).
pub mod flags {
    /// Children that stop send no SIGCHLD.
    pub const SA_NOCLDSTOP: u64 = 1;
    /// Children do not become zombies.
    pub const SA_NOCLDWAIT: u64 = 2;
    /// `sa_restorer` is valid.
    pub const SA_RESTORER: u64 = 0x0400_0000;
    /// Run on the alternate stack.
    pub const SA_ONSTACK: u64 = 0x0800_0000;
    /// Interrupted calls restart.
    pub const SA_RESTART: u64 = 0x1000_0000;
    /// The signal is not blocked while its handler runs.
    pub const SA_NODEFER: u64 = 0x4000_0000;
    /// Back to `SIG_DFL` once delivered.
    pub const SA_RESETHAND: u64 = 0x8000_0000;
}

/// `struct kernel_sigaction`, as programs have it: the same on both machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SigAction {
    /// `SIG_DFL`, `SIG_IGN` or the handler's address.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to, with [`flags::SA_RESTORER`].
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: SignalSet,
}

/// What happens without a handler (`signal(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// The process ends.
    Terminate,
    /// The process ends; Linux would write a core file if limits allow.
    Core,
    /// Nothing.
    Ignore,
    /// The process stops.
    Stop,
    /// The process continues, which sending it has already done.
    Continue,
}

impl DefaultAction {
    /// The default action of a signal.
    pub const fn of(signo: Signo) -> Self {
        match signo {
            SIGCHLD | SIGURG | SIGWINCH => Self::Ignore,
            SIGCONT => Self::Continue,
            SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => Self::Stop,
            SIGQUIT | SIGILL | SIGTRAP | SIGABRT | SIGBUS | SIGFPE | SIGSEGV | SIGXCPU | SIGXFSZ | SIGSYS => Self::Core,
            _ => Self::Terminate,
        }
    }
}

impl SigAction {
    /// Whether delivering `signo` does nothing.
    pub const fn ignores(&self, signo: Signo) -> bool {
        match self.handler {
            SIG_IGN => true,
            SIG_DFL => matches!(
                DefaultAction::of(signo),
                DefaultAction::Ignore | DefaultAction::Continue
            ),
            _ => false,
        }
    }
}

/// The actions of all signals.
#[derive(Clone, Debug)]
pub struct Actions([SigAction; SIGNALS as usize]);

impl Actions {
    /// `SIG_DFL` for all.
    pub const fn new() -> Self {
        Self(
            [SigAction {
                handler: SIG_DFL,
                flags: 0,
                restorer: 0,
                mask: SignalSet::EMPTY,
            }; SIGNALS as usize],
        )
    }

    /// The action of a signal.
    pub const fn get(&self, signo: Signo) -> &SigAction {
        &self.0[signo as usize - 1]
    }

    /// The action of a signal, to change.
    pub const fn get_mut(&mut self, signo: Signo) -> &mut SigAction {
        &mut self.0[signo as usize - 1]
    }

    /// What execve leaves: handlers become `SIG_DFL`, ignored signals stay ignored.
    pub fn reset_for_exec(&mut self) {
        for action in &mut self.0 {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = SigAction {
                handler,
                ..SigAction::default()
            };
        }
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a process keeps its actions. Nearly every process has its own, which then costs one lock to look at.
pub enum ActionTable {
    /// Nobody else has them.
    Own(Box<Actions>),
    /// Other processes have them too (`CLONE_SIGHAND` without `CLONE_THREAD`), or had.
    Shared(Arc<SpinLock<Actions>>),
}

impl ActionTable {
    /// A table of its own.
    pub fn new(actions: Actions) -> Self {
        Self::Own(Box::new(actions))
    }

    /// Another use of the same actions, which this table has in common from now on.
    pub fn share(&mut self) -> Self {
        let shared = match self {
            Self::Own(actions) => Arc::new(SpinLock::new(Rank::SharedActions, Actions::clone(actions))),
            Self::Shared(shared) => shared.clone(),
        };
        *self = Self::Shared(shared.clone());
        Self::Shared(shared)
    }

    /// Where the actions are, which tells tables in common from others.
    pub fn address(&self) -> usize {
        match self {
            Self::Own(actions) => (&raw const **actions).addr(),
            Self::Shared(shared) => Arc::as_ptr(shared).addr(),
        }
    }

    /// Lends the actions. No lock of the signal state may be taken meanwhile.
    #[inline]
    pub fn with<T>(&mut self, look: impl FnOnce(&mut Actions) -> T) -> T {
        match self {
            Self::Own(actions) => look(actions),
            Self::Shared(shared) => look(&mut shared.lock()),
        }
    }

    /// What execve leaves, for this process alone; whoever shares the old ones keeps them.
    pub fn reset_for_exec(&mut self) {
        if let Self::Shared(shared) = self {
            let own = Box::new(shared.lock().clone());
            *self = Self::Own(own);
        }
        self.with(Actions::reset_for_exec);
    }
}
