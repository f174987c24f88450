//! The intrusive list of waiters under every primitive.
//!
//! A [`Node`] lives in a pinned future. Its contents belong to the list's lock as long as it may be linked; they are
//! reached through the list only, so that holding `&mut List` is the proof that the lock is held.

#![expect(unsafe_code, reason = "intrusive nodes in pinned futures")]

use core::{cell::UnsafeCell, marker::PhantomPinned, pin::Pin, ptr::NonNull, task::Waker};

use crate::prim::{
    AtomicU32,
    Ordering::{Acquire, Release},
    const_fn,
};

/// How far a waiter has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Progress {
    /// Not queued, given nothing.
    Idle,
    /// Queued.
    Waiting,
    /// Taken from the queue and given a wake of its own, which is not to be lost.
    Given,
    /// Taken from the queue together with everybody else.
    GivenToAll,
}

impl Progress {
    const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Idle,
            1 => Self::Waiting,
            2 => Self::Given,
            _ => Self::GivenToAll,
        }
    }

    /// Whether a wake has come, with which the list has done with the node.
    pub const fn is_given(self) -> bool {
        matches!(self, Self::Given | Self::GivenToAll)
    }
}

/// A waiter: part of a pinned future.
pub struct Node<K> {
    /// A [`Progress`]. Written under the list's lock, and by the owner while the node is not queued. Whoever gives a wake writes it
    /// last of all: from then on the node is its owner's, who may see it without the lock.
    progress: AtomicU32,
    inner: UnsafeCell<Inner<K>>,
    _pinned: PhantomPinned,
}

struct Inner<K> {
    key: K,
    waker: Option<Waker>,
    ticket: u64,
    next: Link<K>,
    previous: Link<K>,
}

type Link<K> = Option<NonNull<Node<K>>>;

// SAFETY: the contents are reached under the list's lock only (see the module).
unsafe impl<K: Send> Send for Node<K> {}
// SAFETY: as above.
unsafe impl<K: Send> Sync for Node<K> {}

impl<K> Node<K> {
    const_fn! {
        pub fn new(key: K) -> Self {
            let inner = Inner {
                key,
                waker: None,
                ticket: 0,
                next: None,
                previous: None,
            };
            Self {
                progress: AtomicU32::new(Progress::Idle as u32),
                inner: UnsafeCell::new(inner),
                _pinned: PhantomPinned,
            }
        }
    }

    fn progress(&self) -> Progress {
        Progress::from_number(self.progress.load(Acquire))
    }

    fn set_progress(&self, progress: Progress) {
        self.progress.store(progress as u32, Release);
    }

    /// Takes the wake, if one has come: the node is idle again then. By its owner, without the list's lock.
    #[inline]
    pub fn take_given(&self) -> bool {
        let given = self.progress().is_given();
        if given {
            self.set_progress(Progress::Idle);
        }
        given
    }
}

/// Waiters in order of arrival. The owner of every node takes it out ([`List::remove`]) before it is dropped.
pub struct List<K> {
    head: Link<K>,
    tail: Link<K>,
    tickets: u64,
}

// SAFETY: nodes stay valid while linked, whichever thread works on the list.
unsafe impl<K: Send> Send for List<K> {}

/// # Safety
/// The list that the node belongs to is locked, and no other such reference to the node is alive.
unsafe fn inner<'a, K>(node: NonNull<Node<K>>) -> &'a mut Inner<K> {
    // SAFETY: the node is alive: linked nodes are by `push_back`'s contract, others are the caller's.
    unsafe { &mut *node.as_ref().inner.get() }
}

impl<K> List<K> {
    pub const fn new() -> Self {
        Self {
            head: None,
            tail: None,
            tickets: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// The ticket that the next waiter will get; earlier waiters have lower ones.
    pub fn tickets(&self) -> u64 {
        self.tickets
    }

    /// Queues a node that is idle.
    ///
    /// # Safety
    /// The node is used with this list only, and [`List::remove`] is called before it is dropped.
    pub unsafe fn push_back(&mut self, node: Pin<&Node<K>>, waker: Option<Waker>) {
        let pointer = NonNull::from(node.get_ref());
        // SAFETY: `&mut self` is the lock; one reference at a time.
        unsafe {
            let inner = inner(pointer);
            debug_assert_eq!(node.progress(), Progress::Idle);
            node.set_progress(Progress::Waiting);
            inner.waker = waker;
            inner.ticket = self.tickets;
            inner.previous = self.tail;
            inner.next = None;
        }
        self.tickets += 1;
        match self.tail.replace(pointer) {
            // SAFETY: as above; the tail is linked and another node.
            Some(tail) => unsafe { inner(tail).next = Some(pointer) },
            None => self.head = Some(pointer),
        }
    }

    /// How far the node has got.
    pub fn progress(&self, node: Pin<&Node<K>>) -> Progress {
        node.progress()
    }

    /// Has a queued node's waiter be woken by `waker`; the old waker is returned, to be dropped outside the lock.
    pub fn set_waker(&mut self, node: Pin<&Node<K>>, waker: &Waker) -> Option<Waker> {
        // SAFETY: `&mut self` is the lock; one reference.
        let inner = unsafe { inner(NonNull::from(node.get_ref())) };
        match &inner.waker {
            Some(old) if old.will_wake(waker) => None,
            _ => inner.waker.replace(waker.clone()),
        }
    }

    /// Takes the node out, if it is queued, and makes it idle; how far it had got, and its waker, to be dropped outside
    /// the lock.
    pub fn remove(&mut self, node: Pin<&Node<K>>) -> (Progress, Option<Waker>) {
        let pointer = NonNull::from(node.get_ref());
        let progress = node.progress();
        if progress == Progress::Waiting {
            self.unlink(pointer);
        }
        node.set_progress(Progress::Idle);
        // SAFETY: `&mut self` is the lock; one reference at a time.
        (progress, unsafe { inner(pointer) }.waker.take())
    }

    /// Gives the first waiter for which `choose` says yes its wake, and takes it out. `choose` gets key and ticket; at its
    /// first `None` the search ends. The outer `None`: nobody was chosen. The inner one: the chosen has left no waker yet,
    /// and will find its wake when it looks.
    pub fn give(&mut self, how: Progress, mut choose: impl FnMut(&K, u64) -> Option<bool>) -> Option<Option<Waker>> {
        let mut next = self.head;
        while let Some(pointer) = next {
            let chosen = {
                // SAFETY: `&mut self` is the lock; linked nodes are alive.
                let inner = unsafe { inner(pointer) };
                next = inner.next;
                choose(&inner.key, inner.ticket)?
            };
            if chosen {
                self.unlink(pointer);
                // SAFETY: as above; nobody else has it.
                let waker = unsafe { inner(pointer) }.waker.take();
                // SAFETY: still alive, until its owner sees this, which is the last use of it.
                unsafe { pointer.as_ref() }.set_progress(how);
                return Some(waker);
            }
        }
        None
    }

    /// Gives the first `limit` waiters with the key `from` the key `to`, and a place behind all others, in their order; how
    /// many.
    pub fn rekey(&mut self, limit: usize, from: &K, to: &K) -> usize
    where
        K: Clone + PartialEq,
    {
        let (before, mut moved, mut next) = (self.tickets, 0, self.head);
        while let Some(pointer) = next.filter(|_| moved < limit) {
            // SAFETY: `&mut self` is the lock; linked nodes are alive.
            let found = unsafe {
                let inner = inner(pointer);
                next = inner.next;
                if inner.ticket >= before {
                    break;
                }
                inner.key == *from
            };
            if !found {
                continue;
            }
            self.unlink(pointer);
            // SAFETY: as above; one reference at a time, and the tail is another node.
            unsafe {
                let inner = inner(pointer);
                inner.key = to.clone();
                inner.ticket = self.tickets;
                inner.previous = self.tail;
            }
            self.tickets += 1;
            match self.tail.replace(pointer) {
                // SAFETY: as above.
                Some(tail) => unsafe { inner(tail).next = Some(pointer) },
                None => self.head = Some(pointer),
            }
            moved += 1;
        }
        moved
    }

    fn unlink(&mut self, pointer: NonNull<Node<K>>) {
        // SAFETY: `&mut self` is the lock; the node and its neighbours are linked, alive, and distinct.
        unsafe {
            let (next, previous) = {
                let inner = inner(pointer);
                (inner.next.take(), inner.previous.take())
            };
            match previous {
                Some(previous) => inner(previous).next = next,
                None => self.head = next,
            }
            match next {
                Some(next) => inner(next).previous = previous,
                None => self.tail = previous,
            }
        }
    }
}

impl<K: Clone> Node<K> {
    /// The key, of a node that is not linked: nobody else writes it then.
    pub fn key(&self) -> K {
        // SAFETY: the key of a node that is not linked is its owner's; no reference to the whole is made.
        unsafe { (*core::ptr::addr_of!((*self.inner.get()).key)).clone() }
    }
}
