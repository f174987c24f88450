//! The queue of a device: tags, those that wait for one, deadlines.

use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};
use core::{future::poll_fn, mem, task::Poll};

use arrayvec::ArrayVec;
use futures_util::task::AtomicWaker;

use super::{Command, Hardware, Name, Operation, Request, Reset, pages_of};
use crate::{
    errno::{Errno, Result},
    mm::fallible::{TryRoom, TryRoomExact},
    rt,
    sync::{Rank, SpinLock},
};

/// How long a request may take (ns), unless the queue is told otherwise: Linux's 30 s.
const TIMEOUT: u64 = 30_000_000_000;
/// Requests completed before others are let run.
const BATCH: usize = 16;

/// The requests of one device, for however many disks it has.
pub struct Queue {
    name: Name,
    timeout: u64,
    state: SpinLock<State>,
    /// The watching task, while it waits for something to watch over.
    watcher: AtomicWaker,
}

struct State {
    hardware: Box<dyn Hardware>,
    /// By tag.
    active: Vec<Option<Active>>,
    free: Vec<u16>,
    /// Those that have no tag yet, in order.
    backlog: VecDeque<Waiting>,
    life: Life,
    /// The watching task knows that there is something to watch over.
    watched: bool,
}

struct Waiting {
    unit: u32,
    request: Request,
}

struct Active {
    request: Request,
    deadline: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Works,
    Resetting,
    Lost,
}

/// Requests that have ended, with whom to tell.
type Ended = ArrayVec<(Request, Result<()>), BATCH>;

impl Queue {
    /// A queue over `hardware`, called `name` in messages.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for hardware that takes no command.
    pub fn new(name: Name, hardware: Box<dyn Hardware>) -> Result<Arc<Self>> {
        Self::with_timeout(name, hardware, TIMEOUT)
    }

    /// As [`Queue::new`]; requests may take `timeout` ns.
    ///
    /// # Errors
    /// As [`Queue::new`].
    pub fn with_timeout(name: Name, hardware: Box<dyn Hardware>, timeout: u64) -> Result<Arc<Self>> {
        let depth = hardware.depth();
        if depth == 0 {
            return Err(Errno::EINVAL);
        }
        let (mut active, mut free) = (Vec::new(), Vec::new());
        active.try_room_exact(depth.into())?;
        active.resize_with(depth.into(), || None);
        free.try_room_exact(depth.into())?;
        free.extend((0..depth).rev());
        let state = State {
            hardware,
            active,
            free,
            backlog: VecDeque::new(),
            life: Life::Works,
            watched: false,
        };
        Ok(Arc::new(Self {
            name,
            timeout,
            state: SpinLock::new(Rank::Device, state),
            watcher: AtomicWaker::new(),
        }))
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As [`Disk::submit`](super::Disk::submit), which has checked the request.
    pub(super) fn submit(&self, unit: u32, request: Request) -> Result<()> {
        let mut state = self.state.lock();
        if state.life == Life::Lost {
            return Err(Errno::EIO);
        }
        // In front of nobody: those that wait have come before.
        if state.life == Life::Works && state.backlog.is_empty() && !state.free.is_empty() {
            state.start(unit, request, rt::now() + self.timeout);
            state.hardware.ring();
        } else {
            state.backlog.try_room(1)?;
            state.backlog.push_back(Waiting { unit, request });
        }
        let watched = mem::replace(&mut state.watched, true);
        drop(state);
        if !watched {
            self.watcher.wake();
        }
        Ok(())
    }

    /// Completes what has ended, and starts what waits for a tag. One helping; true where there may be more.
    pub fn reap(&self) -> bool {
        let mut ended = Ended::new();
        let mut state = self.state.lock();
        if state.life == Life::Works {
            state.collect(&mut ended);
            state.start_waiting(rt::now() + self.timeout);
        }
        drop(state);
        let more = ended.is_full();
        for (request, result) in ended {
            let Request { pages, done, token, .. } = request;
            done.complete(token, result.map(|()| pages));
        }
        more
    }

    /// Waits until a request has been with the device for too long. For one watcher.
    pub(super) async fn overdue(&self) {
        loop {
            let deadline = poll_fn(|context| {
                self.watcher.register(context.waker());
                let mut state = self.state.lock();
                let oldest = state.oldest();
                state.watched = oldest.is_some();
                oldest.map_or(Poll::Pending, Poll::Ready)
            })
            .await;
            if deadline <= rt::now() {
                return;
            }
            rt::sleep_until(deadline).await;
        }
    }

    /// Whether one has been for too long.
    pub(super) fn is_overdue(&self) -> bool {
        self.state.lock().oldest().is_some_and(|deadline| deadline <= rt::now())
    }

    /// Resets the device and fails every request that was with it. Requests that come meanwhile wait.
    pub(super) async fn recover(&self) {
        log::error!("{}: a request got no answer: the device is reset", self.name);
        let lost = loop {
            match self.reset_step() {
                Reset::Until(when) => rt::sleep_until(when).await,
                Reset::Done => break false,
                Reset::Failed => break true,
            }
        };
        if lost {
            log::error!("{}: it does not come back, and is not used any more", self.name);
        }
        self.fail(lost);
    }

    fn reset_step(&self) -> Reset {
        let mut state = self.state.lock();
        state.life = Life::Resetting;
        state.hardware.reset(rt::now())
    }

    /// Fails the requests that the device had, and where it is `lost`, all others as well.
    fn fail(&self, lost: bool) {
        let mut state = self.state.lock();
        state.life = if lost { Life::Lost } else { Life::Works };
        for tag in 0..state.active.len() {
            let Some(active) = state.finish(tag as u16) else {
                continue;
            };
            drop(state);
            let Request { pages, done, token, .. } = active.request;
            if lost {
                // The device may still write to them.
                mem::forget(pages);
            }
            done.complete(token, Err(Errno::EIO));
            state = self.state.lock();
        }
        while lost && let Some(Waiting { request, .. }) = state.backlog.pop_front() {
            drop(state);
            request.done.complete(request.token, Err(Errno::EIO));
            state = self.state.lock();
        }
        if !lost {
            state.start_waiting(rt::now() + self.timeout);
        }
    }
}

impl State {
    /// The deadline of the request that the device has had for longest.
    fn oldest(&self) -> Option<u64> {
        self.active.iter().flatten().map(|active| active.deadline).min()
    }

    /// Gives a request to the hardware; there is a free tag.
    fn start(&mut self, unit: u32, request: Request, deadline: u64) {
        let Some(tag) = self.free.pop() else {
            unreachable!("asked for only where a tag is free")
        };
        let pages = match request.operation {
            Operation::Flush => 0,
            Operation::Read | Operation::Write => pages_of(request.sectors),
        };
        let command = Command {
            unit,
            operation: request.operation,
            sector: request.sector,
            sectors: request.sectors,
            pages: &request.pages[..pages],
        };
        self.hardware.start(tag, &command);
        self.active[usize::from(tag)] = Some(Active { request, deadline });
    }

    fn start_waiting(&mut self, deadline: u64) {
        let mut started = false;
        while !self.free.is_empty()
            && let Some(Waiting { unit, request }) = self.backlog.pop_front()
        {
            self.start(unit, request, deadline);
            started = true;
        }
        if started {
            self.hardware.ring();
        }
    }

    fn collect(&mut self, ended: &mut Ended) {
        while !ended.is_full()
            && let Some((tag, result)) = self.hardware.reap()
        {
            // A device may name what nobody asked for.
            if let Some(active) = self.finish(tag) {
                ended.push((active.request, result));
            }
        }
    }

    /// Takes a tag's request, and the tag back.
    fn finish(&mut self, tag: u16) -> Option<Active> {
        let active = self.active.get_mut(usize::from(tag))?.take()?;
        // There is room: as many as there are tags.
        self.free.push(tag);
        Some(active)
    }
}
