//! Bytes for the guest's console, as fast as it takes them, from when it asks for them until it has enough: so that its serial port
//! interrupts all the time. See `user/bench/src/flood.rs`.

use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What the guest says, each on a line of its own.
const BEGIN: &str = "FLOOD begin";
const END: &str = "FLOOD end";
const OVER: &str = "FLOOD over";

/// Bytes of the flood, and the one after the last.
const BYTE: u8 = b'.';
const LAST: u8 = b'!';
/// Of one read: few, so that not much is on its way when the guest has enough.
const CHUNK: usize = 64;
/// How often the last byte is sent again, in case a buffer of the guest's was full.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is wanted.
    Shut,
    /// Everything is.
    Open,
    /// The last byte, and how often it was sent.
    Ending(u32),
    /// The guest is gone.
    Gone,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// What is fed to the guest.
pub struct Flood(Shared);

/// What hears the guest, and ends the flood with it.
pub struct Valve(Shared);

/// Both, shut.
pub fn new() -> (Flood, Valve) {
    let shared = Shared::new((Mutex::new(State::Shut), Condvar::new()));
    (Flood(shared.clone()), Valve(shared))
}

impl Valve {
    /// A line that the guest said.
    pub fn heard(&self, line: &str) {
        match line.trim_end() {
            BEGIN => self.set(State::Open),
            END => self.set(State::Ending(0)),
            OVER => self.set(State::Shut),
            _ => {}
        }
    }

    fn set(&self, state: State) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.0.1.notify_all();
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.set(State::Gone);
    }
}

impl Read for Flood {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *state {
                State::Shut => state = changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                State::Open => {
                    let length = room.len().min(CHUNK);
                    room[..length].fill(BYTE);
                    return Ok(length);
                }
                State::Ending(times) => {
                    if times > 0 {
                        let ending = |state: &mut State| matches!(state, State::Ending(_));
                        let waited = changed.wait_timeout_while(state, AGAIN, ending);
                        state = waited.unwrap_or_else(PoisonError::into_inner).0;
                        if !ending(&mut state) {
                            continue;
                        }
                    }
                    *state = State::Ending(times + 1);
                    room[0] = LAST;
                    return Ok(1);
                }
                State::Gone => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_flows_from_begin_to_end() {
        let (mut flood, valve) = new();
        let mut room = [0; 8];
        valve.heard("BENCH idle.max 1 7 ns");
        valve.heard("FLOOD begin\r");
        assert_eq!((flood.read(&mut room).unwrap(), room), (8, [BYTE; 8]));
        valve.heard("FLOOD end");
        assert_eq!((flood.read(&mut room).unwrap(), room[0]), (1, LAST));
        assert_eq!(flood.read(&mut room).unwrap(), 1);
        valve.heard("FLOOD over");
        drop(valve);
        assert_eq!(flood.read(&mut room).unwrap(), 0);
    }
}
