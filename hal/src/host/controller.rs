//! The simulated interrupt controller: lines with a level, an edge latch and a mask, one IPI flag a CPU, the timers.

use std::collections::BTreeMap;

use super::machine::{self, lock};
use crate::{
    traits::{Interrupt, InterruptController, InterruptSource, MAX_EVENTS, Message, Trigger},
    trap::InterruptToken,
};

/// Lines of messages, for as many devices as have numbers below 8.
const FIRST_MESSAGE: u32 = 512;
const MESSAGES: u32 = 8 * MAX_EVENTS;
const RAW_IPI: u32 = u32::MAX;
const RAW_TIMER: u32 = u32::MAX - 1;

struct Line {
    trigger: Trigger,
    cpu: u32,
    masked: bool,
    level: bool,
    latched: bool,
    // Acknowledged and not ended: not signalled again.
    active: bool,
}

#[derive(Default)]
pub(super) struct Lines(BTreeMap<u32, Line>);

impl Lines {
    fn line(&mut self, line: u32) -> &mut Line {
        self.0.entry(line).or_insert(Line {
            trigger: Trigger::Level,
            cpu: 0,
            masked: true,
            level: false,
            latched: false,
            active: false,
        })
    }

    pub(super) fn raise(&mut self, line: u32, on: bool) {
        let line = self.line(line);
        line.latched |= on && !line.level;
        line.level = on;
    }

    /// The lowest line that is signalled to `cpu`.
    pub(super) fn pending(&self, cpu: u32) -> Option<u32> {
        let signalled = |line: &Line| match line.trigger {
            Trigger::Level => line.level,
            Trigger::Edge => line.latched,
        };
        self.0
            .iter()
            .find(|(_, line)| line.cpu == cpu && !line.masked && !line.active && signalled(line))
            .map(|(&number, _)| number)
    }
}

/// The interrupt controller of whatever machine the calling thread belongs to.
pub struct Controller;

/// The interrupt controller.
pub fn controller() -> &'static Controller {
    &Controller
}

impl InterruptController for Controller {
    fn acknowledge(&self, _: InterruptToken) -> Option<Interrupt> {
        let machine = machine::machine();
        let (now, cpu) = (machine.clock(), machine::cpu_id());
        let own = machine.with_cpu(cpu, |state| {
            if std::mem::take(&mut state.ipi) {
                return Some(Interrupt {
                    source: InterruptSource::Ipi,
                    raw: RAW_IPI,
                });
            }
            state.deadline.take_if(|deadline| *deadline <= now)?;
            Some(Interrupt {
                source: InterruptSource::Timer,
                raw: RAW_TIMER,
            })
        });
        own.or_else(|| {
            let mut lines = lock(&machine.lines);
            let number = lines.pending(cpu)?;
            let line = lines.line(number);
            line.active = true;
            line.latched = false;
            Some(Interrupt {
                source: InterruptSource::Line(number, line.trigger),
                raw: number,
            })
        })
    }

    fn end(&self, interrupt: Interrupt) {
        if let InterruptSource::Line(number, _) = interrupt.source {
            machine::with_machine(|machine| lock(&machine.lines).line(number).active = false);
        }
    }

    fn configure(&self, line: u32, trigger: Trigger, cpu: u32) {
        machine::with_machine(|machine| {
            let mut lines = lock(&machine.lines);
            let line = lines.line(line);
            (line.trigger, line.cpu, line.masked) = (trigger, cpu, true);
        });
    }

    fn mask(&self, line: u32) {
        machine::with_machine(|machine| lock(&machine.lines).line(line).masked = true);
    }

    fn unmask(&self, line: u32) {
        machine::with_machine(|machine| {
            lock(&machine.lines).line(line).masked = false;
            machine.notify();
        });
    }

    fn allocate_message(&self, requester: u32, event: u32, cpu: u32) -> Option<(u32, Message)> {
        let line = FIRST_MESSAGE + requester * MAX_EVENTS + event;
        (event < MAX_EVENTS && line < FIRST_MESSAGE + MESSAGES).then(|| {
            self.configure(line, Trigger::Edge, cpu);
            self.unmask(line);
            let message = Message {
                address: 0xfee0_0000,
                data: line,
            };
            (line, message)
        })
    }

    fn free_message(&self, line: u32) {
        self.mask(line);
    }

    fn raise(&self, line: u32) -> bool {
        machine::with_machine(|machine| {
            lock(&machine.lines).line(line).latched = true;
            machine.notify();
        });
        true
    }

    fn send_ipi(&self, cpu: u32) {
        machine::with_machine(|machine| {
            machine.with_cpu(cpu, |state| state.ipi = true);
            machine.notify();
        });
    }
}
