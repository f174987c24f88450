//! What few threads have: an undo list, namespaces of their own.

use alloc::{boxed::Box, sync::Arc};
use core::sync::atomic::Ordering;

use super::{Thread, ThreadSignals};
use crate::{ipc::semaphore::undo::UndoList, namespace::Namespaces};

/// What few threads have.
#[derive(Default)]
pub(super) struct Seldom {
    /// What is taken back at the thread's end, where there is something; in common with threads cloned by `CLONE_SYSVSEM`.
    undo: Option<Arc<UndoList>>,
    /// What it is in; `None` for what was there from the beginning.
    namespaces: Option<Arc<Namespaces>>,
}

impl Seldom {
    pub fn with_namespaces(namespaces: Arc<Namespaces>) -> Box<Self> {
        Box::new(Self {
            undo: None,
            namespaces: Some(namespaces),
        })
    }
}

impl ThreadSignals {
    fn undo(&mut self) -> Option<&mut Arc<UndoList>> {
        self.seldom.as_mut()?.undo.as_mut()
    }

    fn namespaces(&mut self) -> Option<&mut Arc<Namespaces>> {
        self.seldom.as_mut()?.namespaces.as_mut()
    }
}

impl Thread {
    /// What is taken back at its end, made if there is none.
    pub fn undo_list(&self) -> Arc<UndoList> {
        let mut signals = self.signals.lock();
        let seldom = signals.seldom.get_or_insert_default();
        seldom.undo.get_or_insert_with(UndoList::new).clone()
    }

    /// Where the list of what is taken back at its end is; 0 if there is none.
    pub fn undo_address(&self) -> usize {
        let mut signals = self.signals.lock();
        signals.undo().map_or(0, |list| Arc::as_ptr(list).addr())
    }

    /// Has in common with another what is taken back at the end of both (`CLONE_SYSVSEM`).
    pub(in crate::task) fn share_undo_list(&self, with: &Self) {
        let list = self.undo_list();
        with.signals.lock().seldom.get_or_insert_default().undo = Some(list);
    }

    /// Its use of the list ends.
    pub(crate) fn take_undo_list(&self) -> Option<Arc<UndoList>> {
        self.signals.lock().seldom.as_mut()?.undo.take()
    }

    /// What it is in, besides its user namespace.
    pub fn namespaces(&self) -> Arc<Namespaces> {
        let own = self.signals.lock().namespaces().cloned();
        own.unwrap_or_else(|| Namespaces::first().clone())
    }

    /// Whether it may be in other namespaces than those that were there from the beginning.
    #[inline]
    pub fn is_apart(&self) -> bool {
        self.apart.load(Ordering::Relaxed)
    }

    /// Moves it into others. What it was in is returned, if that was not there from the beginning.
    pub fn set_namespaces(&self, new: Arc<Namespaces>) -> Option<Arc<Namespaces>> {
        self.apart.store(true, Ordering::Relaxed);
        self.signals
            .lock()
            .seldom
            .get_or_insert_default()
            .namespaces
            .replace(new)
    }

    /// Takes it out of all that was not there from the beginning, at its end.
    pub(in crate::task) fn leave_namespaces(&self) -> Option<Arc<Namespaces>> {
        self.signals.lock().seldom.as_mut()?.namespaces.take()
    }
}
