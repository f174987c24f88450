//! The trace as a file: lines of one length, so that any part of it can be made when it is read, and nothing of it is kept.

use alloc::boxed::Box;
use core::{fmt::Write, sync::atomic::Ordering};

use arrayvec::ArrayString;
use hal::{MAX_CPUS, arch::ABI};

use super::{RINGS, TRACES, event::Event, ring::Ring, stop};
use crate::{
    errno::{Errno, Result},
    syscall::table::{ENTRIES, Entry},
};

/// Bytes of a line, its end included.
pub const LINE: usize = 76;
/// The version of the format.
const VERSION: u32 = 1;

/// The CPUs that have a ring.
fn rings() -> impl Iterator<Item = (usize, &'static Ring)> {
    RINGS
        .iter()
        .enumerate()
        .filter_map(|(cpu, ring)| Some((cpu, ring.get()?)))
}

/// The calls of this architecture.
fn calls() -> impl Iterator<Item = (u16, &'static Entry)> {
    ENTRIES.iter().filter_map(|entry| Some((entry.number(ABI)?, entry)))
}

/// What there is to be read, as it was when it was looked at.
pub struct Snapshot {
    /// Which trace.
    trace: u64,
    /// Records begun on each CPU.
    begun: Box<[u64; MAX_CPUS]>,
}

impl Snapshot {
    /// Stops the trace, and notes what there is.
    pub fn take() -> Self {
        stop();
        let mut begun = Box::new([0; MAX_CPUS]);
        rings().for_each(|(cpu, ring)| begun[cpu] = ring.begun());
        Self {
            trace: TRACES.load(Ordering::Relaxed),
            begun,
        }
    }

    fn kept(&self, cpu: usize, ring: &Ring) -> u64 {
        self.begun[cpu].min(ring.capacity())
    }

    /// Line `number`, with its end; `None` behind the last.
    ///
    /// # Errors
    /// `ESTALE` if another trace has begun since.
    pub fn line(&self, number: u64) -> Result<Option<ArrayString<LINE>>> {
        if self.trace != TRACES.load(Ordering::Relaxed) {
            return Err(Errno::ESTALE);
        }
        let mut line = ArrayString::new();
        // All of them fit.
        let written = self.write(number, &mut line).map_err(|_| Errno::EIO)?;
        while line.len() < LINE - 1 {
            line.push(' ');
        }
        line.push('\n');
        Ok(written.then_some(line))
    }

    /// The head, a line for each CPU, one for each call, the records of each CPU from the oldest to the newest, the end.
    fn write(&self, number: u64, out: &mut ArrayString<LINE>) -> core::result::Result<bool, core::fmt::Error> {
        let cpus = rings().count() as u64;
        let names = calls().count() as u64;
        let Some(mut left) = number.checked_sub(1) else {
            write!(out, "BREENIX-TRACE {VERSION} cpus {cpus} calls {names}")?;
            return Ok(true);
        };
        if let Some((cpu, ring)) = rings().nth(left.min(cpus) as usize) {
            write!(
                out,
                "R {cpu:02x} {:016x} {:016x}",
                self.begun[cpu],
                self.kept(cpu, ring)
            )?;
            return Ok(true);
        }
        left -= cpus;
        if let Some((number, entry)) = calls().nth(left.min(names) as usize) {
            write!(out, "N {number:04x} {}", entry.name)?;
            return Ok(true);
        }
        left -= names;
        let mut records = 0;
        for (cpu, ring) in rings() {
            let kept = self.kept(cpu, ring);
            if left < kept {
                let words = ring.get(self.begun[cpu] - kept + left).unwrap_or_default();
                let (at, kind) = Event::stamp(words);
                let letter = Event::letter(kind) as char;
                let [_, a, b, c] = words;
                write!(out, "E {cpu:02x} {letter} {at:016x} {a:016x} {b:016x} {c:016x}")?;
                return Ok(true);
            }
            left -= kept;
            records += kept;
        }
        write!(out, "BREENIX-TRACE-END {records:016x}")?;
        Ok(left == 0)
    }
}
