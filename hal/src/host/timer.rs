//! The virtual clock and the simulated CPU's one-shot timer.

use super::machine;
use vdso::Counter;

use crate::traits::TimerOps;

/// The machine's clock. It stands still but for [`Machine::advance_clock`](super::Machine::advance_clock) and
/// [`Machine::set_clock`](super::Machine::set_clock), and for an idle CPU, which jumps to the next deadline.
pub struct Timer;

impl TimerOps for Timer {
    fn now() -> u64 {
        machine::with_machine(|machine| machine.clock())
    }

    fn ticks() -> u64 {
        Self::now()
    }

    fn nanoseconds(ticks: u64) -> u64 {
        ticks
    }

    fn frequency_hz() -> u64 {
        1_000_000_000
    }

    fn user_counter() -> Option<Counter> {
        None
    }

    fn arm(deadline: u64) {
        machine::with_machine(|machine| {
            machine.with_cpu(machine::cpu_id(), |cpu| cpu.deadline = Some(deadline));
            machine.notify();
        });
    }

    fn disarm() {
        machine::with_cpu(|cpu| cpu.deadline = None);
    }
}
