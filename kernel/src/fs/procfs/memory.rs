//! `/proc/<pid>/mem`: the memory of a process, for its debugger.
//!
//! The space is that of the moment of opening. An attempt copies what is there; a page that is not is brought, or made the
//! process's own where it may not write it itself, by a task, at whose end the attempt is made again.

use alloc::sync::Arc;

use executor::{Class, SpawnOptions};
use hal::PAGE_SIZE;

use super::{process, seek};
use crate::{
    errno::{Errno, Result},
    fs::{
        file::{Attempt, Direction, File, Positioning, Stop, Transfer, Whence},
        io::{Sink, Source},
    },
    mm::AddressSpace,
    rt,
    sync::{Rank, SpinLock, WaitQueue},
    task::{self, Pid, ptrace::link},
};

/// Bytes that are copied at a time.
const CHUNK: usize = 256;

/// A page, and whether it is to be written to.
type Want = (u64, bool);

/// What is done outside of an attempt.
#[derive(Default)]
struct Work {
    /// A task brings it.
    under_way: Option<Want>,
    /// It could not be had.
    failed: Option<Want>,
}

struct Shared {
    space: Arc<AddressSpace>,
    work: SpinLock<Work>,
    done: WaitQueue,
}

/// The open file.
pub(super) struct Memory {
    shared: Arc<Shared>,
}

impl Memory {
    /// Opens the memory of a process that the calling thread may trace.
    ///
    /// # Errors
    /// `ENOENT` if it has ended, `EACCES`.
    pub(super) fn open(pid: Pid) -> Result<Arc<Self>> {
        let process = process::find(pid)?;
        let caller = task::current::tid().and_then(task::thread);
        if !caller.is_some_and(|caller| link::may_trace(&caller, &process)) {
            return Err(Errno::EACCES);
        }
        Ok(Arc::new(Self {
            shared: Arc::new(Shared {
                space: process.mm(),
                work: SpinLock::new(Rank::Inode, Work::default()),
                done: WaitQueue::new(),
            }),
        }))
    }

    /// What comes of an attempt that finds a page missing after `some` bytes or none.
    fn miss(&self, want: Want, some: bool) -> Attempt<()> {
        let mut work = self.shared.work.lock();
        if work.failed.take_if(|failed| *failed == want).is_some() {
            return if some { Ok(()) } else { Err(Errno::EIO.into()) };
        }
        if work.under_way.is_none() {
            work.under_way = Some(want);
            drop(work);
            let bring = bring(self.shared.clone(), want);
            match rt::executor().spawn(SpawnOptions::new(Class::Service, "proc-mem"), bring) {
                Ok(task) => task.detach(),
                Err(_) => {
                    self.shared.work.lock().under_way = None;
                    return Err(Errno::ENOMEM.into());
                }
            }
        }
        Err(Stop::WouldBlock)
    }
}

async fn bring(shared: Arc<Shared>, want: Want) {
    let brought = shared.space.prepare_remote(want.0, want.1).await;
    {
        let mut work = shared.work.lock();
        work.under_way = None;
        if brought.is_err() {
            work.failed = Some(want);
        }
    }
    shared.done.wake_all();
}

/// The page of an address, and how many of `most` bytes are in it.
fn piece(at: u64, most: usize) -> (u64, usize) {
    let offset = (at % PAGE_SIZE as u64) as usize;
    (at - offset as u64, most.min(CHUNK).min(PAGE_SIZE - offset))
}

impl File for Memory {
    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        let start = sink.done();
        while sink.remaining() > 0 && self.shared.space.users() > 0 {
            let mut bytes = [0; CHUNK];
            let (page, length) = piece(*transfer.position, sink.remaining());
            if !self.shared.space.peek(*transfer.position, &mut bytes[..length]) {
                return self.miss((page, false), sink.done() > start);
            }
            let before = sink.done();
            let result = sink.put(&bytes[..length]);
            *transfer.position += (sink.done() - before) as u64;
            result?;
        }
        Ok(())
    }

    fn write(&self, transfer: &mut Transfer<'_>, source: &mut Source<'_>) -> Attempt<()> {
        let start = source.done();
        while source.remaining() > 0 && self.shared.space.users() > 0 {
            let mut bytes = [0; CHUNK];
            let (page, length) = piece(*transfer.position, source.remaining());
            let before = source.done();
            source.take(&mut bytes[..length])?;
            if !self.shared.space.poke_at_once(*transfer.position, &bytes[..length]) {
                source.rewind(before);
                return self.miss((page, true), before > start);
            }
            *transfer.position += length as u64;
        }
        Ok(())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Offsets
    }

    fn wait_queue(&self, _: Direction) -> Option<&WaitQueue> {
        Some(&self.shared.done)
    }

    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        seek(position, offset, whence)
    }
}
