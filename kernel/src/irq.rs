//! Interrupts do one thing: they wake.
//!
//! [`dispatch`] acknowledges, masks a level-triggered line, wakes, and ends the interrupt; nothing else runs in interrupt
//! context (invariant I1). A driver owns a [`Line`] and loops over [`Line::wait`], which unmasks the line, so that a level
//! interrupt needs no driver code in the handler.

use core::{
    future::poll_fn,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    task::Poll,
};

use futures_util::task::AtomicWaker;
use hal::{
    arch::{PerCpu, controller},
    traits::{InterruptController, InterruptSource, Message, PerCpuOps, Trigger},
    trap::InterruptToken,
};

use crate::{
    cpu,
    errno::{Errno, Result},
    panic, rt, trace,
};

/// Lines the kernel can own: a GIC has at most 1020, and 256 messages; an x86 machine has fewer.
const LINES: usize = 1280;

struct LineState {
    claimed: AtomicBool,
    /// Interrupts not yet seen by the owner.
    pending: AtomicU32,
    /// Interrupts since boot.
    total: AtomicU32,
    waker: AtomicWaker,
}

static STATES: [LineState; LINES] = [const {
    LineState {
        claimed: AtomicBool::new(false),
        pending: AtomicU32::new(0),
        total: AtomicU32::new(0),
        waker: AtomicWaker::new(),
    }
}; LINES];

/// Handles one interrupt, from kernel or user mode. Called with interrupts masked.
pub fn dispatch(token: InterruptToken) {
    PerCpu::set_in_interrupt(true);
    let began = rt::now();
    rt::executor().interrupted(began);
    dispatch_from(controller(), token, began);
    cpu::interrupts(PerCpu::cpu_id())
        .ns
        .fetch_add(rt::now().saturating_sub(began), Ordering::Relaxed);
    PerCpu::set_in_interrupt(false);
}

fn dispatch_from(controller: &impl InterruptController, token: InterruptToken, began: u64) {
    let counts = cpu::interrupts(PerCpu::cpu_id());
    let Some(interrupt) = controller.acknowledge(token) else {
        counts.spurious.fetch_add(1, Ordering::Relaxed);
        return;
    };
    // Each arm looks for itself whether to record: so nothing has to be kept for it while others are called.
    match interrupt.source {
        InterruptSource::Timer => {
            counts.timer.fetch_add(1, Ordering::Relaxed);
            rt::executor().timer_interrupt();
            trace::interrupt(began, trace::Interrupt::Timer);
        }
        InterruptSource::Ipi => {
            counts.ipi.fetch_add(1, Ordering::Relaxed);
            rt::executor().ipi_interrupt();
            trace::interrupt(began, trace::Interrupt::Ipi);
        }
        InterruptSource::Line(line, trigger) => {
            counts.device.fetch_add(1, Ordering::Relaxed);
            if trigger == Trigger::Level {
                controller.mask(line);
            }
            if let Some(state) = STATES.get(line as usize) {
                state.total.fetch_add(1, Ordering::Relaxed);
                state.pending.fetch_add(1, Ordering::Release);
                state.waker.wake();
            }
            trace::interrupt(began, trace::Interrupt::Line(line));
        }
    }
    controller.end(interrupt);
    panic::stop_if_panicking();
}

/// An interrupt line and the right to wait for it.
#[derive(Debug)]
pub struct Line {
    number: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Masked when it comes, until the next wait.
    Level,
    /// Masked until the first wait, which has been or not.
    Edge { unmasked: bool },
    /// A device's message: never masked.
    Message,
}

impl Line {
    /// Takes a line for the calling driver, routed to the calling CPU and masked until the first [`Line::wait`].
    ///
    /// # Errors
    /// `ENXIO` if there is no such line, `EBUSY` if another driver has it.
    pub fn claim(number: u32, trigger: Trigger) -> Result<Self> {
        let state = STATES.get(number as usize).ok_or(Errno::ENXIO)?;
        if state.claimed.swap(true, Ordering::AcqRel) {
            return Err(Errno::EBUSY);
        }
        controller().configure(number, trigger, PerCpu::cpu_id());
        let kind = match trigger {
            Trigger::Level => Kind::Level,
            Trigger::Edge => Kind::Edge { unmasked: false },
        };
        Ok(Self { number, kind })
    }

    /// Takes a line for a message of a device's, to `cpu`: the device is to be told to write [`Message::data`] to
    /// [`Message::address`], and to stop before the line is dropped. `requester` and `event` are those of
    /// [`InterruptController::allocate_message`].
    ///
    /// # Errors
    /// `ENXIO` where the machine takes no messages, or no more.
    pub fn claim_message(requester: u32, event: u32, cpu: u32) -> Result<(Self, Message)> {
        let allocated = controller().allocate_message(requester, event, cpu);
        let (number, message) = allocated.ok_or(Errno::ENXIO)?;
        match STATES.get(number as usize) {
            Some(state) if !state.claimed.swap(true, Ordering::AcqRel) => {
                let kind = Kind::Message;
                Ok((Self { number, kind }, message))
            }
            _ => {
                controller().free_message(number);
                Err(Errno::ENXIO)
            }
        }
    }

    /// The line's number.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Waits for the next interrupt, or returns at once with those that came since the last call; returns how many.
    ///
    /// Dropping the future loses nothing: the interrupt stays counted, and the line stays unmasked until it comes.
    pub async fn wait(&mut self) -> u32 {
        let state = &STATES[self.number as usize];
        let mut masked = match self.kind {
            Kind::Level => true,
            Kind::Edge { unmasked } => !unmasked,
            Kind::Message => false,
        };
        poll_fn(|context| {
            state.waker.register(context.waker());
            match state.pending.swap(0, Ordering::Acquire) {
                0 => {
                    if core::mem::take(&mut masked) {
                        if let Kind::Edge { unmasked } = &mut self.kind {
                            *unmasked = true;
                        }
                        controller().unmask(self.number);
                    }
                    Poll::Pending
                }
                count => Poll::Ready(count),
            }
        })
        .await
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        match self.kind {
            Kind::Message => controller().free_message(self.number),
            Kind::Level | Kind::Edge { .. } => controller().mask(self.number),
        }
        let state = &STATES[self.number as usize];
        state.pending.store(0, Ordering::Relaxed);
        state.claimed.store(false, Ordering::Release);
    }
}

/// The lines that have an owner, with their interrupts since boot.
pub fn claimed_lines() -> impl Iterator<Item = (u32, u32)> {
    (0..)
        .zip(&STATES)
        .filter(|(_, state)| state.claimed.load(Ordering::Relaxed))
        .map(|(number, state)| {
            let number: u32 = number;
            (number, state.total.load(Ordering::Relaxed))
        })
}
