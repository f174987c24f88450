//! What every CPU does, recorded as it happens: polls, wakes, interrupts, calls, user mode, sleep. `docs/TRACING.md` says how
//! to use it.
//!
//! Off until the command line says `trace`, or somebody writes `on` to `/proc/breenix/trace`; while it is off each of the
//! places that record looks at one word. Each CPU has a [`Ring`] of its own. Reading the file stops the trace first, so
//! that what is read holds still, and does not show its own reading.

mod event;
mod ring;
mod text;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use executor::Event as OfExecutor;
use hal::{
    MAX_CPUS,
    arch::{Cpu, PerCpu, UserContext},
    traits::{CpuOps, InterruptFrame, PerCpuOps, SyscallFrame},
    trap::{Fault, Trap},
};
use spin::Once;

pub(crate) use self::event::Interrupt;
pub use self::text::{LINE, Snapshot};
use self::{
    event::{Event, Left},
    ring::Ring,
};
use crate::{
    command_line, cpu,
    errno::{Errno, Result},
    rt,
    task::Pid,
};

/// Records that a CPU keeps, unless another number is asked for.
pub const DEFAULT_RECORDS: usize = 16384;
/// The fewest and the most that it may be.
const RECORDS: core::ops::RangeInclusive<usize> = 64..=1 << 20;
/// Events of each CPU that a panic prints.
const LAST: u64 = 16;

static ON: AtomicBool = AtomicBool::new(false);
/// How often it was switched on: what was read before belongs to another trace.
static TRACES: AtomicU64 = AtomicU64::new(0);
/// Made when the trace is first switched on, and then kept.
static RINGS: [Once<Ring>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

/// Whether it is on.
#[inline]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Starts it, if the command line says `trace` or `trace=<records of each CPU>`.
///
/// # Errors
/// `EINVAL` for a number that is none, or too small or large; `ENOMEM`.
pub fn start_at_boot(cpus: u32) -> Result<()> {
    let records = match command_line::value("trace") {
        Some(number) => parse(number)?,
        None if command_line::has("trace") => DEFAULT_RECORDS,
        None => return Ok(()),
    };
    start(records, 0..cpus)
}

/// Does what a line written to `/proc/breenix/trace` says: `on`, `on <records of each CPU>` (rounded up to a power of two),
/// `off`. What was recorded before is forgotten by `on`.
///
/// # Errors
/// `EINVAL` for any other line, or a number that is too small or large; `EBUSY` for another number than that of an earlier
/// trace, whose memory is kept; `ENOMEM`.
pub fn command(line: &[u8]) -> Result<()> {
    let line = core::str::from_utf8(line).map_err(|_| Errno::EINVAL)?;
    let mut words = line.split_ascii_whitespace();
    let (word, number) = (words.next(), words.next());
    match (word, number, words.next()) {
        (Some("on"), None, None) => {
            let capacity = RINGS.iter().find_map(|ring| ring.get()).map(Ring::capacity);
            start(
                capacity.map_or(DEFAULT_RECORDS, |records| records as usize),
                cpu::online_cpus(),
            )
        }
        (Some("on"), Some(number), None) => start(parse(number)?, cpu::online_cpus()),
        (Some("off"), None, None) => {
            stop();
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

fn parse(number: &str) -> Result<usize> {
    let records = number.parse().map_err(|_| Errno::EINVAL)?;
    RECORDS.contains(&records).then_some(records).ok_or(Errno::EINVAL)
}

fn start(records: usize, cpus: impl Iterator<Item = u32>) -> Result<()> {
    let records = records.next_power_of_two();
    stop();
    for cpu in cpus {
        let ring = RINGS[cpu as usize].try_call_once(|| Ring::new(records))?;
        if ring.capacity() != records as u64 {
            return Err(Errno::EBUSY);
        }
    }
    RINGS.iter().filter_map(|ring| ring.get()).for_each(Ring::clear);
    TRACES.fetch_add(1, Ordering::Relaxed);
    ON.store(true, Ordering::Release);
    rt::executor().set_tracing(true);
    Ok(())
}

/// Stops it. What was recorded is kept.
pub fn stop() {
    rt::executor().set_tracing(false);
    ON.store(false, Ordering::Release);
}

/// Adds a record to the calling CPU's ring, if the trace is on: others than the CPU itself may see it on a little longer.
#[cold]
fn record(at: u64, event: Event) {
    if is_on()
        && let Some(ring) = RINGS[PerCpu::cpu_id() as usize].get()
    {
        ring.push(event.encode(at));
    }
}

/// Records what the executor tells of. Any context.
pub fn of_executor(event: OfExecutor) {
    let event = match event {
        OfExecutor::PollBegan { task, name } => Event::PollBegan {
            task: task.as_u64(),
            name: name.words(),
        },
        OfExecutor::PollEnded { task, finished } => Event::PollEnded {
            task: task.as_u64(),
            finished,
        },
        OfExecutor::Woken { task } => Event::Woken {
            task: task.as_u64(),
            by: rt::executor().current().map_or(0, executor::TaskId::as_u64),
            in_interrupt: PerCpu::in_interrupt(),
        },
    };
    record(rt::now(), event);
}

/// An interrupt arrived at `began`, in nanoseconds since boot, and has been dealt with. Both are recorded now, when it is known
/// what it was: its wakes stand before it.
#[inline]
pub(crate) fn interrupt(began: u64, what: Interrupt) {
    if is_on() {
        record_interrupt(began, what);
    }
}

#[cold]
#[inline(never)]
fn record_interrupt(began: u64, what: Interrupt) {
    record(began, Event::InterruptBegan);
    record(rt::now(), Event::InterruptEnded(what));
}

/// A thread enters user mode.
pub(crate) fn user_began(at: u64, tid: Pid) {
    record(at, Event::UserBegan { tid });
}

/// It has come back.
pub(crate) fn user_ended(trap: Trap, context: &UserContext) {
    let why = match trap {
        Trap::Syscall => Left::Call,
        Trap::Interrupt(_) => Left::Interrupt,
        Trap::Fault => match context.fault() {
            Fault::Page { .. } => Left::PageFault,
            Fault::Exception { .. } => Left::Exception,
        },
    };
    record(rt::now(), Event::UserEnded(why));
}

/// It has come back for a call.
pub(crate) fn call_began(context: &UserContext, tid: Pid) {
    let number = context.syscall_number();
    record(rt::now(), Event::CallBegan { number, tid });
}

/// The call that began has been made; `interrupted` is the restart code if a signal ended it.
pub(crate) fn call_ended(context: &UserContext, interrupted: Option<Errno>) {
    let result = interrupted.map_or(context.return_value(), Errno::as_return_value);
    record(rt::now(), Event::CallEnded { result });
}

/// Lets the CPU sleep until an interrupt, and records it. Interrupts masked.
#[cold]
#[inline(never)]
pub(crate) fn idle() {
    record(rt::now(), Event::IdleBegan);
    Cpu::idle();
    record(rt::now(), Event::IdleEnded);
}

/// Writes the last events of every CPU, for a panic: nothing, if nothing was ever traced. Stops the trace.
///
/// # Errors
/// The writer's own.
pub fn write_last(out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    stop();
    for (cpu, ring) in RINGS.iter().enumerate() {
        let Some(ring) = ring.get() else { continue };
        let begun = ring.begun();
        let first = begun.saturating_sub(LAST.min(ring.capacity()));
        writeln!(out, "CPU {cpu}: the last {} of {begun} events", begun - first)?;
        for words in (first..begun).filter_map(|number| ring.get(number)) {
            if let Some((at, event)) = Event::decode(words) {
                writeln!(out, "  {:6}.{:09} {event}", at / 1_000_000_000, at % 1_000_000_000)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
