//! Futures that are polled and dropped by hand.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Who a task is.
pub type Id = usize;

/// Counts wakes.
#[derive(Default)]
pub struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Wakes {
    /// How many there were since the last look.
    pub fn take(&self) -> usize {
        self.0.swap(0, SeqCst)
    }
}

struct Task<'a, T> {
    id: Id,
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
    woken: Arc<Wakes>,
}

/// Tasks, in no order.
pub struct Tasks<'a, T> {
    tasks: Vec<Task<'a, T>>,
    next: Id,
}

impl<'a, T> Tasks<'a, T> {
    pub fn new() -> Self {
        Self {
            tasks: Vec::new(),
            next: 0,
        }
    }

    /// A new task, not yet polled; `make` is told who it is.
    pub fn spawn<F: Future<Output = T> + 'a>(&mut self, make: impl FnOnce(Id) -> F) -> Id {
        let id = self.next;
        self.next += 1;
        self.tasks.push(Task {
            id,
            future: Box::pin(make(id)),
            woken: Arc::new(Wakes(AtomicUsize::new(1))),
        });
        id
    }

    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub fn ids(&self) -> impl Iterator<Item = Id> {
        self.tasks.iter().map(|task| task.id)
    }

    fn at(&self, which: usize) -> Option<usize> {
        (!self.tasks.is_empty()).then(|| which % self.tasks.len())
    }

    /// Who that would be, if there are any.
    pub fn pick(&self, which: usize) -> Option<Id> {
        self.at(which).map(|at| self.tasks[at].id)
    }

    fn task(&self, id: Id) -> Option<&Task<'a, T>> {
        self.tasks.iter().find(|task| task.id == id)
    }

    pub fn is_woken(&self, id: Id) -> bool {
        self.task(id).is_some_and(|task| task.woken.0.load(SeqCst) != 0)
    }

    /// Polls, woken or not; gone if ready.
    pub fn poll(&mut self, id: Id) -> Poll<T> {
        let at = self
            .tasks
            .iter()
            .position(|task| task.id == id)
            .expect("polled after its end");
        let task = &mut self.tasks[at];
        task.woken.take();
        let waker = Waker::from(task.woken.clone());
        let output = task.future.as_mut().poll(&mut Context::from_waker(&waker));
        if output.is_ready() {
            self.tasks.swap_remove(at);
        }
        output
    }

    /// Polls with another waker than before, as if it went to another task: whom the old one wakes does not count.
    pub fn poll_anew(&mut self, id: Id) -> Poll<T> {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
            task.woken = Arc::default();
        }
        self.poll(id)
    }

    pub fn drop(&mut self, id: Id) {
        self.tasks.retain(|task| task.id != id);
    }

    /// One that is woken, and so is to be polled; of several the one that `which` says.
    pub fn ready(&self, which: usize) -> Option<Id> {
        let ready: Vec<_> = self.ids().filter(|id| self.is_woken(*id)).collect();
        (!ready.is_empty()).then(|| ready[which % ready.len()])
    }

    /// Polls whoever is woken until nobody is; what those that ended gave.
    pub fn settle(&mut self) -> Vec<T> {
        let mut ended = Vec::new();
        while let Some(id) = self.ready(0) {
            if let Poll::Ready(value) = self.poll(id) {
                ended.push(value);
            }
        }
        ended
    }
}
