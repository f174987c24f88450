//! Open texts. What is short is made when it is read at position 0; what can be long is made in steps as it is read, and then kept as
//! well, so that each part is of one moment.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

use super::{Kind, Node, Walk, areas::Areas, descriptor::Info, process, seek, set_by_line};
use crate::{
    errno::{Errno, Result},
    fs::{
        file::{Attempt, Direction, File, Positioning, Stop, Transfer, Whence},
        io::{Sink, Source},
    },
    mm::fallible::TryRoom,
    sync::{Rank, SpinLock, WaitQueue},
    task::{Pid, Process},
};

/// Steps in one poll.
const STEPS: usize = 4;

/// Makes a long text.
enum Walker {
    Areas(Areas),
    Info(Info),
}

impl Walker {
    fn new(pid: Pid, walk: Walk) -> Result<Self> {
        let process = process::find(pid).map_err(|_| Errno::ESRCH)?;
        Ok(match walk {
            Walk::DescriptorInfo(fd) => Self::Info(Info::new(&process, fd)?),
            _ => Self::Areas(Areas::new(&process, walk)),
        })
    }

    /// Makes a little more; whether there is still more to come. Every step is short.
    fn step(&mut self, out: &mut String) -> Result<bool> {
        match self {
            Self::Areas(areas) => areas.step(out),
            Self::Info(info) => info.step(out),
        }
    }
}

/// How far a text has been made.
enum Rest {
    /// As far as it goes.
    None,
    /// The walker makes more.
    Walks(Box<Walker>),
    /// A reader is at it.
    Busy,
}

struct State {
    made: Vec<u8>,
    rest: Rest,
    /// How often it has been begun.
    beginnings: u64,
}

impl State {
    /// Whether what is at `position` is there, or never will be.
    fn has(&self, position: u64) -> bool {
        position < self.made.len() as u64 || matches!(self.rest, Rest::None)
    }
}

/// An open text.
pub(super) struct Text {
    node: Arc<Node>,
    /// The process that is set something in: found at the opening, for a write is made with the position's lock held.
    set_in: Option<Arc<Process>>,
    state: SpinLock<State>,
    /// Woken when there is more.
    more: WaitQueue,
}

/// Reading `text` from where the transfer stands.
pub(super) fn read(text: &[u8], transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
    let rest = usize::try_from(*transfer.position)
        .ok()
        .and_then(|position| text.get(position..))
        .unwrap_or(&[]);
    let before = sink.done();
    let result = sink.put(rest);
    *transfer.position += (sink.done() - before) as u64;
    result?;
    Ok(())
}

impl Text {
    pub(super) fn new(node: Arc<Node>) -> Self {
        let state = State {
            made: Vec::new(),
            rest: Rest::None,
            beginnings: 0,
        };
        let set_in = match node.kind {
            Kind::ProcessSetting(pid, ..) => process::find(pid).ok(),
            _ => None,
        };
        Self {
            node,
            set_in,
            state: SpinLock::new(Rank::Inode, state),
            more: WaitQueue::new(),
        }
    }

    fn begin(&self) -> Result<(Vec<u8>, Rest)> {
        let of = |pid| process::find(pid).map_err(|_| Errno::ESRCH);
        let mut text = String::new();
        let made = match self.node.kind {
            Kind::Global(make) | Kind::Setting(make, _) => {
                make(&mut text).map_err(|_| Errno::EIO)?;
                text.into_bytes()
            }
            Kind::About(number, make) => {
                make(number, &mut text).map_err(|_| Errno::EIO)?;
                text.into_bytes()
            }
            Kind::OfProcess(pid, make) | Kind::Private(pid, make) | Kind::ProcessSetting(pid, make, _) => {
                make(&of(pid)?)?
            }
            Kind::Status(pid) => process::status(pid)?,
            Kind::Walk(pid, walk) => {
                return Ok((Vec::new(), Rest::Walks(Box::new(Walker::new(pid, walk)?))));
            }
            Kind::Command(_) => return Err(Errno::EIO),
            _ => return Err(Errno::EINVAL),
        };
        Ok((made, Rest::None))
    }

    /// Whether nothing that has been made so far was there to be read: then reading at position 0 goes on with it.
    fn has_only_begun(&self) -> bool {
        let state = self.state.lock();
        state.made.is_empty() && !matches!(state.rest, Rest::None)
    }

    /// Makes a step, if what is at `position` needs one and nobody else is at it; false if there was none to make.
    fn step(&self, position: u64) -> Result<bool> {
        let (mut walker, beginnings) = {
            let mut state = self.state.lock();
            if state.has(position) {
                return Ok(false);
            }
            match core::mem::replace(&mut state.rest, Rest::Busy) {
                Rest::Walks(walker) => (walker, state.beginnings),
                Rest::None | Rest::Busy => return Ok(false),
            }
        };
        let mut text = String::new();
        let more = walker.step(&mut text);
        let mut state = self.state.lock();
        // Unless a reader has begun anew meanwhile.
        if state.beginnings == beginnings {
            state.rest = Rest::None;
            state.made.try_room(text.len())?;
            state.made.extend_from_slice(text.as_bytes());
            if more? {
                state.rest = Rest::Walks(walker);
            }
        }
        Ok(true)
    }
}

impl File for Text {
    /// Makes what is to be read, outside of all locks.
    fn prepare(&self, position: &dyn Fn() -> u64) -> Result<()> {
        let position = position();
        if position == 0 && !self.has_only_begun() {
            let begun = self.begin()?;
            let mut state = self.state.lock();
            state.beginnings += 1;
            let old = (
                core::mem::replace(&mut state.made, begun.0),
                core::mem::replace(&mut state.rest, begun.1),
            );
            drop(state);
            drop(old);
        }
        for _ in 0..STEPS {
            let made = self.step(position);
            self.more.wake_all();
            if !made? {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        let state = self.state.lock();
        if state.has(*transfer.position) {
            return read(&state.made, transfer, sink);
        }
        // The poll has been long enough, or another reader is at it, who wakes.
        let goes_on = matches!(state.rest, Rest::Walks(_));
        drop(state);
        if goes_on {
            self.more.wake_all();
        }
        Err(Stop::WouldBlock)
    }

    fn write(&self, transfer: &mut Transfer<'_>, source: &mut Source<'_>) -> Attempt<()> {
        match self.node.kind {
            Kind::Setting(_, set) | Kind::Command(set) => set_by_line(transfer, source, set),
            Kind::ProcessSetting(_, _, set) => {
                let process = self.set_in.clone().ok_or(Errno::ESRCH)?;
                let caller = transfer.caller.ok_or(Errno::ESRCH)?;
                set_by_line(transfer, source, |line| set(&process, caller, line))
            }
            _ => Err(Errno::EINVAL.into()),
        }
    }

    fn wait_queue(&self, direction: Direction) -> Option<&WaitQueue> {
        (direction == Direction::Read && matches!(self.node.kind, Kind::Walk(..))).then_some(&self.more)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Lent
    }

    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        seek(position, offset, whence)
    }
}
