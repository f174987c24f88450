//! What comes between a stop and its end.

use alloc::sync::Arc;
use core::{
    future::Future,
    pin::pin,
    task::{Context, Poll},
};
use std::task::Waker;

use hal::{
    arch::UserContext,
    traits::{InterruptFrame, SyscallFrame},
};

use super::{Mode, Stop, Tracee, link, stop};
use crate::task::{
    exit::After,
    fp::OnCpu,
    signal::{
        SigInfo,
        deliver::{self, Outcome},
        send,
        set::{SIGCONT, SIGKILL, SIGSTOP, SIGTRAP, SIGUSR1, SIGUSR2},
    },
    table::TABLE,
    testing,
    thread::{Thread, attention},
};

/// A tracer, a thread that it traces, and its stop at a signal.
fn pair(cpu: u32, pid: i32) -> (Arc<Thread>, Arc<Thread>, Arc<Tracee>, Stop) {
    pair_by(cpu, pid, false)
}

fn pair_by(cpu: u32, pid: i32, seized: bool) -> (Arc<Thread>, Arc<Thread>, Arc<Tracee>, Stop) {
    hal::host::machine().attach(cpu);
    let (tracer, thread) = (testing::thread(pid), testing::thread(pid + 1));
    let tracee = link::link(&mut TABLE.lock(), &thread, &tracer, seized, 0).unwrap();
    let stop = Stop {
        code: SIGUSR1,
        info: Some(SigInfo::kernel(SIGUSR1)),
        of_group: false,
    };
    (tracer, thread, tracee, stop)
}

fn poll<F: Future>(future: core::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn the_registers_are_the_tracers_during_a_stop() {
    let (tracer, thread, tracee, at) = pair(31, 9100);
    let mut context = UserContext::new_user(0x1000, 0x2000);
    {
        let mut stand = pin!(stop::stand(&thread, &tracee, &mut context, at));
        assert!(poll(stand.as_mut()).is_pending());
        assert!(tracee.with(|state| state.stands() && state.unreported));
        assert!(tracer.pending_signals().is_empty(), "SIGCHLD is ignored");
        tracee.with(|state| {
            state.context.set_return_value(7);
            state.go_on(Mode::default(), SIGUSR2);
        });
        assert_eq!(poll(stand.as_mut()), Poll::Ready(Some(SIGUSR2)));
    }
    assert_eq!((context.return_value(), context.instruction_pointer()), (7, 0x1000));
    link::tracer_ends(&mut TABLE.lock(), &tracer, &mut After::default());
}

#[test]
fn a_stop_ends_with_the_tracer() {
    for (number, reported) in [false, true].into_iter().enumerate() {
        let (tracer, thread, tracee, at) = pair(32, 9110 + number as i32 * 10);
        let mut context = UserContext::new_user(0x1000, 0x2000);
        let mut stand = pin!(stop::stand(&thread, &tracee, &mut context, at));
        assert!(poll(stand.as_mut()).is_pending());
        tracee.with(|state| state.unreported = !reported);
        link::tracer_ends(&mut TABLE.lock(), &tracer, &mut After::default());
        // A signal of which the tracer had not heard is delivered.
        let signal = if reported { 0 } else { SIGUSR1 };
        assert_eq!(poll(stand.as_mut()), Poll::Ready(Some(signal)));
        assert!(thread.tracee().is_none() && !thread.is_traced());
        assert!(!TABLE.lock().tracees.contains_key(&thread.tid()));
    }
}

#[test]
fn a_stop_ends_with_its_thread() {
    let (tracer, thread, tracee, at) = pair(33, 9130);
    let mut context = UserContext::new_user(0x1000, 0x2000);
    let mut stand = pin!(stop::stand(&thread, &tracee, &mut context, at));
    assert!(poll(stand.as_mut()).is_pending());
    thread.kick(attention::EXIT);
    assert_eq!(poll(stand.as_mut()), Poll::Ready(Some(0)));
    // Who has to end does not stop again, but for its end.
    let mut context = UserContext::new_user(0, 0);
    assert_eq!(
        poll(pin!(stop::stand(&thread, &tracee, &mut context, at))),
        Poll::Ready(None)
    );
    let mut last = pin!(stop::stand_before_end(&thread, &tracee, &mut context, at));
    assert!(poll(last.as_mut()).is_pending());
    // By exec, which has nothing to do with how the process ends.
    super::end(&thread);
    assert!(poll(last.as_mut()).is_ready());
    link::tracer_ends(&mut TABLE.lock(), &tracer, &mut After::default());
}

#[test]
fn a_tracers_end_may_end_the_traced() {
    let (tracer, thread, tracee, _) = pair(34, 9140);
    tracee.with(|state| state.options = super::options::EXITKILL);
    let mut after = After::default();
    link::tracer_ends(&mut TABLE.lock(), &tracer, &mut after);
    assert_eq!(after.signals.len(), 1);
    assert_eq!(after.signals[0].1.signo(), SIGKILL);
    after.send();
    assert!(thread.must_exit());
}

#[test]
fn one_thread_has_one_tracer() {
    let (tracer, thread, _, _) = pair(35, 9150);
    let other = testing::thread(9155);
    assert!(link::link(&mut TABLE.lock(), &thread, &other, true, 0).is_err());
    link::tracer_ends(&mut TABLE.lock(), &other, &mut After::default());
    assert!(thread.is_traced(), "it was not its");
    let mut after = After::default();
    link::tracer_ends(&mut TABLE.lock(), &tracer, &mut after);
    assert!(after.signals.is_empty());
    let again = link::link(&mut TABLE.lock(), &thread, &other, true, 0);
    assert!(again.is_ok(), "it is free again");
    link::tracer_ends(&mut TABLE.lock(), &other, &mut After::default());
}

/// The tracer is there and has sent the signal with which it attaches, but not yet said that it is there.
#[test]
fn the_signal_of_a_tracer_is_no_untraced_threads() {
    let (tracer, thread, _, _) = pair(36, 9160);
    let _sent = send::send_to_thread(&thread, SigInfo::kernel(SIGSTOP));
    let mut context = UserContext::new_user(0x1000, 0x2000);
    let mut on_cpu = OnCpu::new(&thread);
    let mut interrupted = None;
    let delivered = pin!(deliver::deliver::<false>(
        &thread,
        &mut context,
        &mut on_cpu,
        &mut interrupted
    ));
    assert_eq!(poll(delivered), Poll::Ready(Outcome::Traced));
    assert!(thread.pending_signals().contains(SIGSTOP));
    assert_ne!(thread.attention() & attention::SIGNAL, 0);
    assert!(thread.process().shared.lock().stop.is_none());
    link::tracer_ends(&mut TABLE.lock(), &tracer, &mut After::default());
}

/// A tracer that is told of a stop which is over by then listens for what comes next: that has come already.
#[test]
fn a_continuation_that_comes_before_the_stop_is_told_is_heard() {
    let (tracer, thread, tracee, _) = pair_by(37, 9170, true);
    crate::task::stop::begin(thread.process(), SIGSTOP);
    let told = stop::news(&thread, &tracee).expect("its process stops");
    assert_eq!(told.stop.code & 0x7f, SIGSTOP);
    send::send_to_process(thread.process(), SigInfo::kernel(SIGCONT)).unwrap();
    let mut context = UserContext::new_user(0x1000, 0x2000);
    {
        let mut stand = pin!(stop::stand(&thread, &tracee, &mut context, told.stop));
        assert!(poll(stand.as_mut()).is_pending());
        tracee.with(|state| state.listening = true);
        assert_eq!(poll(stand.as_mut()), Poll::Ready(Some(0)));
    }
    let next = stop::news(&thread, &tracee).expect("it has continued");
    assert_eq!(next.stop.code & 0x7f, SIGTRAP);
    assert!(stop::news(&thread, &tracee).is_none());
    link::tracer_ends(&mut TABLE.lock(), &tracer, &mut After::default());
}
