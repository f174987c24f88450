//! One terminal: the line discipline behind a lock, and those who wait for it.

use alloc::{
    collections::VecDeque,
    string::String,
    sync::{Arc, Weak},
    vec::Vec,
};
use core::pin::pin;

use futures_util::future::{Either, select};

use super::{
    discipline::{Effects, LineDiscipline, read::Readiness},
    termios::{Termios, WindowSize},
};
use crate::{
    fs::{self, DeviceNumber, poll_queue::PollQueue},
    rt,
    sync::{Rank, SpinLock, WaitQueue},
    task::{Pid, Session, signal},
};

/// A terminal. Shared as `Arc<Tty>` between its driver, the open files on it and the session that it controls.
pub struct Tty {
    name: String,
    device: DeviceNumber,
    pub(super) state: SpinLock<State>,
    pub(super) readers: WaitQueue,
    pub(super) writers: WaitQueue,
    pub(super) pollers: PollQueue,
    output: WaitQueue,
    input_wanted: WaitQueue,
    timer_changed: WaitQueue,
}

/// What the lock guards.
pub(super) struct State {
    pub discipline: LineDiscipline,
    pub window: WindowSize,
    /// The session whose controlling terminal this is.
    pub session: Option<Weak<Session>>,
    /// The foreground process group.
    pub foreground: Option<Pid>,
    /// Counts hang-ups: files opened before the last one are dead.
    pub generation: u64,
    /// Received bytes that the discipline has no room for yet.
    backlog: VecDeque<u8>,
    /// When the last byte arrived, in ns.
    last_input: u64,
    /// Readers that `VTIME` limits, by thread, and when each began.
    timed: Vec<(Pid, u64)>,
    /// When the next of them is to look again.
    deadline: Option<u64>,
}

/// How long after its time a timed reader still counts as waiting, in ns. A later one was interrupted, and this is a new read.
const TIMED_READ_GRACE: u64 = 100_000_000;

impl Tty {
    /// A terminal with these settings, known as `/dev/<name>`. Reads with `VTIME` need its [`Tty::run_timer`].
    pub fn new(name: &str, device: DeviceNumber, termios: Termios) -> Arc<Self> {
        Arc::new(Self {
            name: String::from(name),
            device,
            state: SpinLock::new(
                Rank::Tty,
                State {
                    discipline: LineDiscipline::new(termios),
                    window: WindowSize {
                        ws_row: 0,
                        ws_col: 0,
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    },
                    session: None,
                    foreground: None,
                    generation: 0,
                    backlog: VecDeque::new(),
                    last_input: 0,
                    timed: Vec::new(),
                    deadline: None,
                },
            ),
            readers: WaitQueue::new(),
            writers: WaitQueue::new(),
            pollers: PollQueue::new(),
            output: WaitQueue::new(),
            input_wanted: WaitQueue::new(),
            timer_changed: WaitQueue::new(),
        })
    }

    /// The device's name in `/dev`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device's number.
    pub fn device(&self) -> DeviceNumber {
        self.device
    }

    /// The foreground process group, where there is one.
    pub fn foreground_group(&self) -> Option<Pid> {
        self.state.lock().foreground
    }

    /// Driver side: takes received bytes, all of them. A driver that can make its device wait does so while
    /// [`Tty::accepts_input`] is false.
    pub fn input(&self, bytes: &[u8]) {
        let effects = {
            let mut state = self.state.lock();
            state.last_input = rt::now();
            state.backlog.extend(bytes);
            state.drain_backlog()
        };
        self.apply(effects);
    }

    /// Driver side: whether a reader keeps up; false while received bytes wait for room.
    pub fn accepts_input(&self) -> bool {
        self.state.lock().backlog.is_empty()
    }

    /// Driver side: waits until [`Tty::accepts_input`] is true. Cancel-safe.
    pub async fn input_wanted(&self) {
        self.input_wanted
            .wait_until(|| self.accepts_input().then_some(()))
            .await;
    }

    /// Driver side: moves bytes to send into `into`; returns how many.
    pub fn take_output(&self, into: &mut [u8]) -> usize {
        let (count, effects) = self.state.lock().discipline.take_output(into);
        self.apply(effects);
        count
    }

    /// Driver side: whether [`Tty::take_output`] would give something.
    pub fn has_output(&self) -> bool {
        self.state.lock().discipline.has_output()
    }

    /// Driver side: waits until [`Tty::take_output`] would give something. Cancel-safe.
    pub async fn output_ready(&self) {
        self.output.wait_until(|| self.has_output().then_some(())).await;
    }

    /// Waits until what had been put out at the time of the call has left for the device. What is held back, by `VSTOP` or
    /// `TCXONC`, is not waited for. Cancel-safe.
    pub async fn output_taken(&self) {
        let (until, _) = self.state.lock().discipline.output_positions();
        let is_gone = || {
            let discipline = &self.state.lock().discipline;
            discipline.is_stopped() || discipline.output_positions().1 >= until
        };
        self.writers.wait_until(|| is_gone().then_some(())).await;
    }

    /// The window's size.
    pub fn window_size(&self) -> WindowSize {
        self.state.lock().window
    }

    /// Sets the window's size, rows and columns, before any program has asked for it.
    pub fn set_first_size(&self, (rows, columns): (u16, u16)) {
        let mut state = self.state.lock();
        (state.window.ws_row, state.window.ws_col) = (rows, columns);
    }

    /// Wakes readers whose `VTIME` is over, for ever. One task per terminal runs it.
    pub async fn run_timer(self: Arc<Self>) {
        loop {
            let mut changed = pin!(self.timer_changed.wait());
            changed.as_mut().enable();
            let deadline = self.state.lock().deadline;
            match deadline {
                None => changed.await,
                Some(deadline) => {
                    if let Either::Left(_) = select(pin!(rt::sleep_until(deadline)), changed).await {
                        self.state.lock().deadline = None;
                        self.readers.wake_all();
                    }
                }
            }
        }
    }

    /// What a read of `length` bytes by `reader` may do now: the bytes for it and those that leave the input. `None`: wait.
    pub(super) fn read_readiness(&self, state: &mut State, reader: Pid, length: usize) -> Option<(usize, usize)> {
        let now = rt::now();
        let mut times = super::discipline::read::ReadTimes {
            now,
            started: now,
            last_input: state.last_input,
        };
        let limit = u64::from(state.discipline.termios().character(linux_raw_sys::general::VTIME)) * 100_000_000;
        let fresh = |started: u64| now <= started.saturating_add(limit).saturating_add(TIMED_READ_GRACE);
        state.timed.retain(|(_, started)| fresh(*started));
        let known = state.timed.iter().position(|(tid, _)| *tid == reader);
        if let Some(known) = known {
            times.started = state.timed[known].1;
        }
        let readiness = state.discipline.readiness(length, times);
        match readiness {
            Readiness::WaitUntil(deadline) => {
                if known.is_none() {
                    state.timed.push((reader, now));
                }
                if state.deadline.is_none_or(|earliest| deadline < earliest) {
                    state.deadline = Some(deadline);
                    self.timer_changed.wake_all();
                }
                None
            }
            Readiness::Wait => None,
            Readiness::Ready { copy, consume } => {
                if let Some(known) = known {
                    state.timed.swap_remove(known);
                }
                Some((copy, consume))
            }
        }
    }

    /// Ends the life of every open file on this terminal, and tells the foreground group (`vhangup`).
    pub fn hang_up(&self) {
        let foreground = {
            let mut state = self.state.lock();
            state.generation += 1;
            // What has been written is still sent: the line itself has not gone.
            state.discipline.flush(super::discipline::Flush::Input);
            state.backlog.clear();
            state.foreground.take()
        };
        if let Some(group) = foreground {
            signal::signal_process_group(group, signal::set::SIGHUP);
            signal::signal_process_group(group, signal::set::SIGCONT);
        }
        self.apply(Effects {
            readable: true,
            writable: true,
            ..Effects::default()
        });
        self.pollers.wake_everybody();
        self.input_wanted.wake_all();
    }

    /// Wakes and signals. The lock must not be held.
    pub(super) fn apply(&self, effects: Effects) {
        if effects.signals != 0 {
            let foreground = self.state.lock().foreground;
            for signo in (1..=31).filter(|signo| effects.signals >> signo & 1 == 1) {
                if let Some(group) = foreground {
                    signal::signal_process_group(group, signo);
                }
            }
        }
        if effects.output {
            self.output.wake_all();
        }
        if effects.readable {
            self.readers.wake_all();
        }
        if effects.writable {
            self.writers.wake_all();
        }
        if effects.readable {
            self.pollers.wake(fs::Readiness::READABLE);
        }
        if effects.writable {
            self.pollers.wake(fs::Readiness::WRITABLE);
        }
    }

    /// After a reader took something: gives the discipline what waited for room.
    pub(super) fn refill(&self) {
        let (effects, accepts) = {
            let mut state = self.state.lock();
            if state.backlog.is_empty() {
                return;
            }
            let effects = state.drain_backlog();
            (effects, state.backlog.is_empty())
        };
        self.apply(effects);
        if accepts {
            self.input_wanted.wake_all();
        }
    }
}

impl State {
    fn drain_backlog(&mut self) -> Effects {
        let bytes = self.backlog.make_contiguous();
        let (taken, effects) = self.discipline.receive(bytes);
        self.backlog.drain(..taken);
        effects
    }
}
