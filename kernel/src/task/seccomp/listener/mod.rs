//! Listeners (`SECCOMP_FILTER_FLAG_NEW_LISTENER`): a filter asks another program what becomes of a call.
//!
//! A call that is asked about is a *question* of the listener's, kept there while its thread waits. It is asked, then received, then
//! answered, all under the listener's lock; the thread takes it away when it has seen the answer or waits no longer. So an answer
//! either reaches the thread or finds no question, and a descriptor that a supervisor adds is added while the thread waits.

#[cfg(test)]
mod tests;

use alloc::{sync::Arc, vec::Vec};
use core::{
    future::poll_fn,
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
};

use super::bpf::WORDS;
use crate::{
    errno::{Errno, Result},
    fs::{
        FdTable, OpenFile,
        fd_table::OnExec,
        file::{Attempt, Direction, File, Readiness, Stop},
        poll_queue::PollQueue,
    },
    mm::fallible::TryRoom,
    random,
    sync::{Rank, SpinLock, WaitQueue},
    task::{
        limits::Resource,
        pid::Pid,
        thread::{Thread, attention},
    },
};

/// What becomes of a call that was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is not made, and returns this.
    Returns(i64),
    /// It is made.
    Make,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Asked,
    Received,
    Answered(Answer),
}

struct Question {
    id: u64,
    phase: Phase,
    asker: Arc<Thread>,
    data: [u32; WORDS],
}

/// A question as a supervisor receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Its number, which no other of the listener has.
    pub id: u64,
    /// The thread that waits.
    pub tid: Pid,
    /// `struct seccomp_data`.
    pub data: [u32; WORDS],
}

struct State {
    /// The next question's number.
    next: u64,
    /// Whether there is a descriptor.
    is_open: bool,
    /// In ascending order of their numbers.
    questions: Vec<Question>,
}

impl State {
    fn place(&self, id: u64) -> Option<usize> {
        self.questions.binary_search_by_key(&id, |question| question.id).ok()
    }

    fn find(&mut self, id: u64) -> Result<&mut Question> {
        let place = self.place(id).ok_or(Errno::ENOENT)?;
        Ok(&mut self.questions[place])
    }

    /// A question that has been received and not answered.
    ///
    /// # Errors
    /// `ENOENT` if there is none of the number, `EINPROGRESS` if it is not that far, or farther.
    fn find_received(&mut self, id: u64) -> Result<&mut Question> {
        let question = self.find(id)?;
        match question.phase {
            Phase::Received => Ok(question),
            Phase::Asked | Phase::Answered(_) => Err(Errno::EINPROGRESS),
        }
    }
}

/// What a filter and the file of its supervisor have in common.
pub struct Listener {
    state: SpinLock<State>,
    receivers: WaitQueue,
    pollers: PollQueue,
    /// No thread has the filter any more.
    orphaned: AtomicBool,
    /// Whether a thread whose question has been received waits for the answer whatever signal comes, unless it has to end
    /// (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`).
    patient: bool,
}

impl core::fmt::Debug for Listener {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Listener")
    }
}

impl Listener {
    /// One with a descriptor, which is to be closed by [`Listener::close`].
    pub fn new(patient: bool) -> Self {
        let mut first = [0; 8];
        random::fill(&mut first);
        Self {
            state: SpinLock::new(
                Rank::Listener,
                State {
                    // By far not so many that the numbers begin anew.
                    next: u64::from_ne_bytes(first) >> 1,
                    is_open: true,
                    questions: Vec::new(),
                },
            ),
            receivers: WaitQueue::new(),
            pollers: PollQueue::new(),
            orphaned: AtomicBool::new(false),
            patient,
        }
    }

    /// Whether there is somebody who may answer.
    pub fn is_open(&self) -> bool {
        self.state.lock().is_open
    }

    /// Asks, and waits for the answer. `None` where nobody listens, before or meanwhile. Must be awaited by the thread's own task. Dropping
    /// the future takes the question back.
    ///
    /// # Errors
    /// `ERESTARTSYS` if a signal ends the wait, `ENOMEM`.
    pub async fn ask(&self, thread: &Arc<Thread>, data: [u32; WORDS]) -> Result<Option<Answer>> {
        let Some(asked) = Asked::new(self, thread, data)? else {
            return Ok(None);
        };
        poll_fn(|cx| {
            thread.store_waker(cx.waker());
            let phase = asked.phase();
            let ends_at = match phase {
                Phase::Answered(answer) => return Poll::Ready(Ok(Some(answer))),
                Phase::Received if self.patient => attention::EXIT,
                Phase::Asked | Phase::Received => attention::ANY,
            };
            if thread.attention() & ends_at != 0 {
                Poll::Ready(Err(Errno::ERESTARTSYS))
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// Receives the oldest question that nobody has received, if `copy` can be made of it.
    ///
    /// # Errors
    /// `copy`'s: the question stays. That there is none; `ENOENT` if there will be none.
    pub fn receive(&self, copy: impl FnOnce(&Notification) -> Attempt<()>) -> Attempt<()> {
        let copied = {
            let mut state = self.state.lock();
            let found = state
                .questions
                .iter_mut()
                .find(|question| question.phase == Phase::Asked);
            let Some(question) = found else {
                let ended = self.orphaned.load(Ordering::SeqCst);
                return Err(if ended { Errno::ENOENT.into() } else { Stop::WouldBlock });
            };
            let copied = copy(&Notification {
                id: question.id,
                tid: question.asker.tid(),
                data: question.data,
            });
            if copied.is_ok() {
                question.phase = Phase::Received;
            }
            copied
        };
        match copied {
            Ok(()) => self.pollers.wake(Readiness::WRITABLE),
            // Whoever woke this receiver is not to have done so in vain.
            Err(_) => {
                self.receivers.wake_one();
            }
        }
        copied
    }

    /// Answers a question.
    ///
    /// # Errors
    /// `ENOENT` if nobody waits for it, `EINPROGRESS` if it has not been received or has been answered.
    pub fn answer(&self, id: u64, answer: Answer) -> Result<()> {
        let mut state = self.state.lock();
        let question = state.find_received(id)?;
        question.phase = Phase::Answered(answer);
        question.asker.wake();
        Ok(())
    }

    /// Whether a question is one that can be answered.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn check(&self, id: u64) -> Result<()> {
        self.state.lock().find_received(id).map_err(|_| Errno::ENOENT)?;
        Ok(())
    }

    /// Gives whoever asked a descriptor of `file`, `at` that number or the lowest that is free: which. With `answers` it is the
    /// answer as well.
    ///
    /// # Errors
    /// As [`Listener::answer`]; `EMFILE`, `EBADF` for a number that is too large, `ENOMEM`.
    pub fn add_file(
        &self,
        id: u64,
        file: Arc<OpenFile>,
        at: Option<i32>,
        on_exec: OnExec,
        answers: bool,
    ) -> Result<i32> {
        let asker = self.state.lock().find_received(id)?.asker.clone();
        let (files, limit) = (asker.files(), asker.process().limit(Resource::OpenFiles));
        let (added, replaced) = {
            // It waits while this is held.
            let mut state = self.state.lock();
            let question = state.find_received(id)?;
            let (added, replaced) = put(&files, file, at, on_exec, limit)?;
            if answers {
                question.phase = Phase::Answered(Answer::Returns(added.into()));
            }
            (added, replaced)
        };
        drop(replaced);
        if answers {
            asker.wake();
        }
        Ok(added)
    }

    /// The descriptor is gone: whoever waits need not any longer.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.is_open = false;
        for question in &mut state.questions {
            if !matches!(question.phase, Phase::Answered(_)) {
                question.phase = Phase::Answered(Answer::Returns(Errno::ENOSYS.as_return_value()));
                question.asker.wake();
            }
        }
    }

    fn orphan(&self) {
        self.orphaned.store(true, Ordering::SeqCst);
        self.receivers.wake_all();
        self.pollers.wake(Readiness::HUP);
    }
}

fn put(
    files: &FdTable,
    file: Arc<OpenFile>,
    at: Option<i32>,
    on_exec: OnExec,
    limit: u64,
) -> Result<(i32, Option<Arc<OpenFile>>)> {
    match at {
        None => Ok((files.insert(file, on_exec, limit)?, None)),
        Some(at) => Ok((at, files.replace(at, file, on_exec, limit)?)),
    }
}

/// A question that is taken back when its thread waits no longer.
struct Asked<'a> {
    listener: &'a Listener,
    id: u64,
}

impl<'a> Asked<'a> {
    fn new(listener: &'a Listener, thread: &Arc<Thread>, data: [u32; WORDS]) -> Result<Option<Self>> {
        let id = {
            let mut state = listener.state.lock();
            if !state.is_open {
                return Ok(None);
            }
            state.questions.try_room(1)?;
            let id = state.next;
            state.next += 1;
            state.questions.push(Question {
                id,
                phase: Phase::Asked,
                asker: thread.clone(),
                data,
            });
            id
        };
        listener.receivers.wake_one();
        listener.pollers.wake(Readiness::READABLE);
        Ok(Some(Self { listener, id }))
    }

    fn phase(&self) -> Phase {
        // Nobody else takes it away.
        self.listener
            .state
            .lock()
            .find(self.id)
            .map_or(Phase::Asked, |question| question.phase)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut state = self.listener.state.lock();
        let question = state.place(self.id).map(|place| state.questions.remove(place));
        drop(state);
        drop(question);
    }
}

/// A filter's share in its listener. Once it is gone no thread has the filter.
#[derive(Debug)]
pub struct Asking(pub Arc<Listener>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.orphan();
    }
}

/// The file of a listener. What can be done with it, but to wait for it, are calls of `ioctl`.
pub struct ListenerFile {
    listener: Arc<Listener>,
    control: fn(&Listener, &Thread, u32, u64) -> Attempt<u64>,
}

impl ListenerFile {
    /// For a listener that has no other; `control` is what its `ioctl` does.
    pub fn new(listener: Arc<Listener>, control: fn(&Listener, &Thread, u32, u64) -> Attempt<u64>) -> Self {
        Self { listener, control }
    }
}

impl Drop for ListenerFile {
    fn drop(&mut self) {
        self.listener.close();
    }
}

impl File for ListenerFile {
    fn control(&self, caller: &Thread, request: u32, argument: u64) -> Attempt<u64> {
        (self.control)(&self.listener, caller, request, argument)
    }

    fn control_interrupted(&self) -> Errno {
        Errno::EINTR
    }

    fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::empty();
        for question in &self.listener.state.lock().questions {
            readiness |= match question.phase {
                Phase::Asked => Readiness::READABLE,
                Phase::Received => Readiness::WRITABLE,
                Phase::Answered(_) => Readiness::empty(),
            };
        }
        if self.listener.orphaned.load(Ordering::SeqCst) {
            readiness |= Readiness::HUP;
        }
        readiness
    }

    fn wait_queue(&self, direction: Direction) -> Option<&WaitQueue> {
        (direction == Direction::Write).then_some(&self.listener.receivers)
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.listener.pollers)
    }
}
