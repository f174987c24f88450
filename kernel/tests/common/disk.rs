//! A simulated disk: it answers when a test says so, in the order that the test says, or not at all.

use std::{
    collections::{BTreeSet, VecDeque},
    future::Future,
    ops::Range,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use kernel::{
    block::{Command, Disk, Geometry, Hardware, Name, Operation, Reset},
    errno::{Errno, Result},
    mm::Frame,
};

/// A command that the disk has not answered.
struct Pending {
    tag: u16,
    operation: Operation,
    sector: u64,
    sectors: u32,
    pages: Vec<Frame>,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    pending: VecDeque<Pending>,
    ended: VecDeque<(u16, Result<()>)>,
    bad: BTreeSet<u64>,
    /// What was read, in sectors.
    reads: Vec<Range<u64>>,
    flushes: usize,
}

/// What the disk's hardware is, as a test holds it.
pub struct Drive {
    state: Arc<Mutex<State>>,
    disk: Arc<Disk>,
}

impl Drop for Drive {
    fn drop(&mut self) {
        // What is on its way holds memory, and the cache that wants it.
        if !std::thread::panicking() {
            self.answer_all();
        }
    }
}

struct Simulated {
    state: Arc<Mutex<State>>,
    depth: u16,
}

impl Hardware for Simulated {
    fn depth(&self) -> u16 {
        self.depth
    }

    fn start(&mut self, tag: u16, command: &Command<'_>) {
        self.state.lock().unwrap().pending.push_back(Pending {
            tag,
            operation: command.operation,
            sector: command.sector,
            sectors: command.sectors,
            pages: command.pages.to_vec(),
        });
    }

    fn ring(&mut self) {}

    fn reap(&mut self, _: usize) -> Option<(u16, Result<()>)> {
        self.state.lock().unwrap().ended.pop_front()
    }

    fn reset(&mut self, _: u64) -> Reset {
        let mut state = self.state.lock().unwrap();
        state.pending.clear();
        state.ended.clear();
        Reset::Done
    }
}

/// What a simulated disk is like.
#[derive(Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    pub block: u32,
    pub depth: u16,
    pub most_pages: usize,
    pub read_only: bool,
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            name: "vda",
            block: 512,
            depth: 8,
            most_pages: 32,
            read_only: false,
        }
    }
}

impl Drive {
    /// A disk with these bytes.
    pub fn new(kind: Kind, bytes: Vec<u8>) -> Self {
        let geometry = Geometry {
            sectors: bytes.len() as u64 / 512,
            block: kind.block,
            most_pages: kind.most_pages,
            read_only: kind.read_only,
            write_cache: true,
        };
        let state = Arc::new(Mutex::new(State {
            bytes,
            ..State::default()
        }));
        let hardware = Simulated {
            state: state.clone(),
            depth: kind.depth,
        };
        let disk = Disk::new(Name::from(kind.name).unwrap(), geometry, Box::new(hardware)).unwrap();
        Self { state, disk }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The disk over it.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Reading or writing these sectors fails from now on.
    pub fn spoil(&self, sectors: Range<u64>) {
        self.state().bad.extend(sectors);
    }

    /// No sector fails any more.
    pub fn mend(&self) {
        self.state().bad.clear();
    }

    /// What was read since this was last asked, in sectors.
    pub fn take_reads(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.state().reads)
    }

    /// How often it was flushed.
    pub fn flushes(&self) -> usize {
        self.state().flushes
    }

    /// Commands that it has not answered.
    pub fn pending(&self) -> usize {
        self.state().pending.len()
    }

    /// What it holds.
    pub fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    /// Answers the `number`th of the commands; false if there are not so many.
    pub fn answer(&self, number: usize) -> bool {
        let mut state = self.state();
        let Some(command) = state.pending.remove(number) else {
            return false;
        };
        let sectors = command.sector..command.sector + u64::from(command.sectors);
        let fails = state.bad.range(sectors.clone()).next().is_some();
        match command.operation {
            Operation::Flush => state.flushes += 1,
            _ if fails => {}
            operation => {
                let start = command.sector as usize * 512;
                let length = command.sectors as usize * 512;
                let bytes = &mut state.bytes[start..start + length];
                for (frame, bytes) in command.pages.iter().zip(bytes.chunks_mut(4096)) {
                    match operation {
                        Operation::Read => frame.write(0, bytes),
                        _ => frame.read(0, bytes),
                    }
                }
            }
        }
        if command.operation == Operation::Read {
            state.reads.push(sectors);
        }
        state
            .ended
            .push_back((command.tag, if fails { Err(Errno::EIO) } else { Ok(()) }));
        drop(state);
        while self.disk().queue().reap(0) {}
        true
    }

    /// Answers everything, in order, what comes meanwhile as well.
    pub fn answer_all(&self) {
        while self.answer(0) {}
    }

    /// Polls futures when they are woken, and answers a command when none of them is, always the one that `choose` says of so
    /// many.
    ///
    /// # Panics
    /// If nobody is woken and there is nothing to answer: a wake was lost.
    pub fn run<T>(
        &self,
        futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>,
        mut choose: impl FnMut(usize) -> usize,
    ) -> Vec<T> {
        let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
        let mut tasks: Vec<_> = futures
            .into_iter()
            .map(|future| (Some(future), Arc::new(Woken(AtomicBool::new(true)))))
            .collect();
        loop {
            let mut polled = false;
            for ((task, woken), result) in tasks.iter_mut().zip(&mut results) {
                if let Some(future) = task
                    && woken.0.swap(false, SeqCst)
                {
                    polled = true;
                    let waker = Waker::from(woken.clone());
                    if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                        *result = Some(value);
                        *task = None;
                    }
                }
            }
            if tasks.iter().all(|(task, _)| task.is_none()) {
                return results.into_iter().flatten().collect();
            }
            if !polled {
                let pending = self.pending();
                assert!(pending > 0, "somebody waits for nothing");
                self.answer(choose(pending) % pending);
            }
        }
    }

    /// Runs one future, commands being answered in order.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.run(vec![Box::pin(future)], |_| 0).pop().unwrap()
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// Bytes that tell where they stand.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}
