//! The queue of a device: tags, those that wait for one, deadlines.

use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};
use core::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    task::Poll,
};

use arrayvec::ArrayVec;
use futures_util::task::AtomicWaker;

use super::{Command, Hardware, Name, Operation, Request, Reset, pages_of};
use crate::{
    command_line,
    errno::{Errno, Result},
    mm::fallible::{TryRoom, TryRoomExact},
    rt,
    sync::{Rank, SpinLock},
};

/// How long a request may take (ns), unless the command line says `disk_timeout=SECONDS`: Linux's 30 s.
const TIMEOUT: u64 = 30_000_000_000;
/// Requests completed before others are let run.
const BATCH: usize = 16;

/// The requests of one device, for however many disks it has.
pub struct Queue {
    name: Name,
    timeout: u64,
    /// As [`Hardware::sources`].
    sources: usize,
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
    /// How many at the front of the backlog the device had when it failed. Each is tried by itself.
    again: usize,
    /// The one request that is with the device is to stay alone.
    alone: bool,
    life: Life,
    /// The watching task knows that there is something to watch over.
    watched: bool,
}

struct Waiting {
    unit: u32,
    request: Request,
    /// Until when, for one that the device had before.
    deadline: Option<u64>,
}

struct Active {
    unit: u32,
    request: Request,
    deadline: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Works,
    /// The device has stopped and says so.
    Stalled,
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
        let stated = command_line::value("disk_timeout").and_then(|seconds| seconds.parse::<u32>().ok());
        let timeout = stated.map_or(TIMEOUT, |seconds| u64::from(seconds) * 1_000_000_000);
        Self::with_timeout(name, hardware, timeout.max(1))
    }

    /// As [`Queue::new`]; requests may take `timeout` ns.
    ///
    /// # Errors
    /// As [`Queue::new`].
    pub fn with_timeout(name: Name, hardware: Box<dyn Hardware>, timeout: u64) -> Result<Arc<Self>> {
        let (depth, sources) = (hardware.depth(), hardware.sources());
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
            again: 0,
            alone: false,
            life: Life::Works,
            watched: false,
        };
        Ok(Arc::new(Self {
            name,
            timeout,
            sources,
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
        if state.life == Life::Works && state.backlog.is_empty() && state.may_start(request.operation) {
            state.start(unit, request, rt::now() + self.timeout);
            state.hardware.ring();
        } else {
            state.backlog.try_room(1)?;
            state.backlog.push_back(Waiting {
                unit,
                request,
                deadline: None,
            });
        }
        let watched = mem::replace(&mut state.watched, true);
        drop(state);
        if !watched {
            self.watcher.wake();
        }
        Ok(())
    }

    /// Completes all that has ended, whatever interrupt tells of it. One helping; true where there may be more.
    pub(super) fn reap_all(&self) -> bool {
        let mut more = false;
        for source in 0..self.sources {
            more |= self.reap(source);
        }
        more
    }

    /// Completes what has ended, of that which interrupt `source` tells of, and starts what waits for a tag. One helping; true where
    /// there may be more.
    pub fn reap(&self, source: usize) -> bool {
        let mut ended = Ended::new();
        let mut state = self.state.lock();
        if state.life == Life::Works {
            state.collect(source, &mut ended);
            if state.hardware.stalled() {
                state.life = Life::Stalled;
            } else {
                state.start_waiting(rt::now() + self.timeout);
            }
        }
        let stalled = state.life == Life::Stalled;
        drop(state);
        if stalled {
            self.watcher.wake();
        }
        let more = ended.is_full();
        for (request, result) in ended {
            let Request { pages, done, token, .. } = request;
            done.complete(token, result.map(|()| pages));
        }
        more
    }

    /// Waits until the device has stopped, or a request has been with it for too long. For one watcher.
    pub(super) async fn failure(&self) {
        let mut sleep = pin!(None);
        poll_fn(|context| {
            self.watcher.register(context.waker());
            let mut state = self.state.lock();
            let oldest = state.oldest();
            state.watched = oldest.is_some();
            if state.needs_recovery(rt::now()) {
                return Poll::Ready(());
            }
            drop(state);
            // The oldest of all only gets younger: it is looked at again when its time has come.
            while let Some(deadline) = oldest {
                if sleep.is_none() {
                    sleep.set(Some(rt::sleep_until(deadline)));
                }
                let Some(running) = sleep.as_mut().as_pin_mut() else {
                    break;
                };
                if running.poll(context).is_pending() {
                    break;
                }
                sleep.set(None);
                if deadline <= rt::now() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Whether there is something that only a reset helps against.
    pub fn needs_recovery(&self) -> bool {
        self.state.lock().needs_recovery(rt::now())
    }

    /// Whether the device has stopped at an error.
    pub(super) fn is_stalled(&self) -> bool {
        self.state.lock().life == Life::Stalled
    }

    /// Resets the device. Of the requests that were with it, those whose time is up fail, and the one that was alone when the
    /// device stopped; the others are tried again, each by itself. Requests that come meanwhile wait.
    pub async fn recover(&self) {
        let stalled = self.is_stalled();
        if stalled {
            log::warn!("{}: the device has stopped at an error, and is reset", self.name);
        } else {
            log::error!("{}: a request got no answer: the device is reset", self.name);
        }
        let lost = loop {
            match self.reset_step() {
                Reset::Until(when) => rt::sleep_until(when).await,
                Reset::Done => break false,
                Reset::Failed => break true,
            }
        };
        if lost {
            log::error!("{}: it does not come back, and is not used any more", self.name);
            self.give_up();
        } else {
            self.resume(stalled);
        }
    }

    pub(super) fn reset_step(&self) -> Reset {
        let mut state = self.state.lock();
        state.life = Life::Resetting;
        state.hardware.reset(rt::now())
    }

    /// Fails every request: the device is lost.
    pub(super) fn give_up(&self) {
        let mut state = self.state.lock();
        state.life = Life::Lost;
        for tag in 0..state.active.len() {
            let Some(active) = state.finish(tag as u16) else {
                continue;
            };
            drop(state);
            let Request { pages, done, token, .. } = active.request;
            // The device may still write to them.
            mem::forget(pages);
            done.complete(token, Err(Errno::EIO));
            state = self.state.lock();
        }
        while let Some(Waiting { request, .. }) = state.backlog.pop_front() {
            drop(state);
            request.done.complete(request.token, Err(Errno::EIO));
            state = self.state.lock();
        }
    }

    /// Goes on after a reset, by which the device has forgotten every request.
    pub(super) fn resume(&self, stalled: bool) {
        let now = rt::now();
        let mut state = self.state.lock();
        let at_fault = stalled && state.alone;
        // Those that were to be tried again and have not been, while their time went by.
        while let Some(late) = state.take_late(now) {
            drop(state);
            late.done.complete(late.token, Err(Errno::EIO));
            state = self.state.lock();
        }
        for tag in (0..state.active.len()).rev() {
            let Some(active) = state.finish(tag as u16) else {
                continue;
            };
            let Active {
                unit,
                request,
                deadline,
            } = active;
            if at_fault || deadline <= now || state.backlog.try_room(1).is_err() {
                drop(state);
                request.done.complete(request.token, Err(Errno::EIO));
                state = self.state.lock();
            } else {
                state.backlog.push_front(Waiting {
                    unit,
                    request,
                    deadline: Some(deadline),
                });
                state.again += 1;
            }
        }
        state.life = Life::Works;
        state.start_waiting(rt::now() + self.timeout);
    }
}

impl State {
    /// The deadline of the request that the device has had for longest.
    fn oldest(&self) -> Option<u64> {
        self.active.iter().flatten().map(|active| active.deadline).min()
    }

    fn needs_recovery(&self, now: u64) -> bool {
        match self.life {
            Life::Stalled => true,
            Life::Works => self.oldest().is_some_and(|deadline| deadline <= now),
            Life::Resetting | Life::Lost => false,
        }
    }

    /// Whether the device may be given a request like this one now.
    fn may_start(&self, operation: Operation) -> bool {
        let idle = self.free.len() == self.active.len();
        let wants_to_be_alone = self.again > 0 || operation == Operation::Flush && self.hardware.flushes_alone();
        idle || !self.alone && !wants_to_be_alone && !self.free.is_empty()
    }

    /// Gives a request to the hardware, which may have it.
    fn start(&mut self, unit: u32, request: Request, deadline: u64) {
        let Some(tag) = self.free.pop() else {
            unreachable!("asked for only where a tag is free")
        };
        let again = self.again > 0;
        self.again -= usize::from(again);
        self.alone = again || request.operation == Operation::Flush && self.hardware.flushes_alone();
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
        self.active[usize::from(tag)] = Some(Active {
            unit,
            request,
            deadline,
        });
    }

    fn start_waiting(&mut self, deadline: u64) {
        let mut started = false;
        while let Some(first) = self.backlog.front()
            && self.may_start(first.request.operation)
            && let Some(next) = self.backlog.pop_front()
        {
            self.start(next.unit, next.request, next.deadline.unwrap_or(deadline));
            started = true;
        }
        if started {
            self.hardware.ring();
        }
    }

    /// Takes a request that is to be tried again and whose time is up.
    fn take_late(&mut self, now: u64) -> Option<Request> {
        let mut again = self.backlog.iter().take(self.again);
        let late = again.position(|waiting| waiting.deadline.is_some_and(|deadline| deadline <= now))?;
        self.again -= 1;
        self.backlog.remove(late).map(|waiting| waiting.request)
    }

    fn collect(&mut self, source: usize, ended: &mut Ended) {
        while !ended.is_full()
            && let Some((tag, result)) = self.hardware.reap(source)
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
        self.alone = false;
        // There is room: as many as there are tags.
        self.free.push(tag);
        Some(active)
    }
}
