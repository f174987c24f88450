//! One terminal as the rest of the kernel sees it.

use alloc::{string::String, sync::Arc};

use super::{
    discipline::{Effects, LineDiscipline},
    termios::{Termios, WindowSize},
};
use crate::sync::{Rank, SpinLock};

/// A terminal. Shared as `Arc<Tty>` between its driver, the open files on it and the session that it controls.
pub struct Tty {
    name: String,
    state: SpinLock<State>,
}

struct State {
    discipline: LineDiscipline,
    window: WindowSize,
}

impl Tty {
    /// A terminal with a serial console's settings, known as `/dev/<name>`.
    pub fn new(name: &str) -> Arc<Self> {
        let window = WindowSize {
            ws_row: 0,
            ws_col: 0,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Arc::new(Self {
            name: String::from(name),
            state: SpinLock::new(
                Rank::Tty,
                State {
                    discipline: LineDiscipline::new(Termios::default()),
                    window,
                },
            ),
        })
    }

    /// The device's name in `/dev`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Driver side: takes received bytes; returns how many were taken. The rest is to be offered again once a reader has made
    /// room.
    pub fn input(&self, bytes: &[u8]) -> usize {
        let (taken, effects) = self.state.lock().discipline.receive(bytes);
        self.apply(effects);
        taken
    }

    /// Driver side: moves bytes to send into `into`; returns how many.
    pub fn take_output(&self, into: &mut [u8]) -> usize {
        let (count, effects) = self.state.lock().discipline.take_output(into);
        self.apply(effects);
        count
    }

    /// The window's size.
    pub fn window_size(&self) -> WindowSize {
        self.state.lock().window
    }

    /// Wakes and signals, with the lock released.
    fn apply(&self, _effects: Effects) {}
}
