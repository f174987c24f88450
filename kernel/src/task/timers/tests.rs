//! Timers that race with those who set, end and take them.

use core::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    task::{Context, Poll},
};
use std::{
    sync::atomic::AtomicUsize,
    task::{Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use hal::host;

use super::{
    posix::{Notice, Receiver, Start, TimerClock},
    *,
};
use crate::{
    clock::Base,
    errno::Errno,
    task::{
        Thread,
        cpu_clock::CpuClock,
        signal::{
            SignalSet,
            info::code,
            send,
            set::{SIGCHLD, SIGUSR1},
            watch,
        },
        table, testing,
    },
};

/// A process with a thread and a timer of the kind that signals.
fn with_timer(pid: i32) -> (Arc<Thread>, i32) {
    let thread = testing::thread(pid);
    let notice = Notice {
        receiver: Receiver::Process,
        signo: SIGUSR1,
        value: Some(5),
    };
    let clock = TimerClock::Time(Base::Boot, linux_raw_sys::general::CLOCK_MONOTONIC);
    let number = thread.process().create_timer(clock, notice).unwrap();
    (thread, number)
}

/// Arms a timer without its task, which the tests play themselves.
fn arm(process: &Arc<Process>, number: i32, start: Start, interval: u64) {
    let mut timers = process.timers.lock();
    let posix = timers.posix.as_deref_mut().unwrap();
    posix.set(process, number, start, interval);
}

/// When the task is wanted next.
fn deadline(process: &Arc<Process>) -> u64 {
    process.with_keeper(|_, wanted| wanted.deadline)
}

fn take(thread: &Thread) -> Option<SigInfo> {
    send::take_awaited(thread, SignalSet::of(&[SIGUSR1]))
}

#[test]
fn one_signal_is_pending_and_counts_the_rest() {
    host::machine().attach(21);
    let machine = host::machine();
    let (thread, number) = with_timer(9101);
    let process = thread.process();
    let begun = machine.clock();
    arm(process, number, Start::In(100), 10);
    machine.advance_clock(99);
    assert!(!process.expire());
    assert_eq!(take(&thread), None, "never early");
    machine.advance_clock(1);
    process.expire();
    assert_eq!(deadline(process), u64::MAX, "it stands still until the signal is taken");
    machine.advance_clock(95);
    process.expire();
    assert_eq!(take(&thread), Some(SigInfo::timer(SIGUSR1, number, 9, 5)));
    assert_eq!(process.timer_overruns(number), Ok(9));
    assert_eq!(deadline(process), begun + 200, "and then goes on in step");
    assert_eq!(take(&thread), None);
    // A signal that comes too late for the timer changes nothing.
    machine.advance_clock(5);
    process.expire();
    arm(process, number, Start::In(1000), 10);
    assert_eq!(take(&thread).map(|info| info.overrun()), Some(0));
    assert_eq!(deadline(process), machine.clock() + 1000);
    process.delete_timer(number).unwrap();
    assert_eq!(deadline(process), u64::MAX);
    assert_eq!(process.timer_overruns(number), Err(Errno::EINVAL));
}

#[test]
fn no_signal_comes_from_a_timer_that_has_been_disarmed_or_deleted() {
    host::machine().attach(22);
    let machine = host::machine();
    let (thread, number) = with_timer(9102);
    let process = thread.process().clone();
    let over = Arc::new(AtomicBool::new(false));
    let keeper = {
        let (process, over, machine) = (process.clone(), over.clone(), machine.clone());
        thread::spawn(move || {
            machine.attach(23);
            while !over.load(SeqCst) {
                process.expire();
            }
        })
    };
    // Left alone it does expire.
    arm(&process, number, Start::In(1), 0);
    machine.advance_clock(1);
    while take(&thread).is_none() {
        thread::yield_now();
    }
    let end = |number: i32, turn: u64, delete: bool| {
        arm(&process, number, Start::In(1), turn % 2);
        machine.advance_clock(1);
        for _ in 0..turn % 64 {
            core::hint::spin_loop();
        }
        if turn.is_multiple_of(16) {
            // The keeper may have no processor of its own.
            thread::yield_now();
        }
        if delete {
            process.delete_timer(number).unwrap();
        } else {
            arm(&process, number, Start::In(0), 0);
        }
        take(&thread);
        for _ in 0..200 {
            assert_eq!(take(&thread), None, "turn {turn}");
        }
    };
    for turn in 0..3000 {
        end(number, turn, false);
    }
    for turn in 0..1000 {
        let notice = Notice {
            receiver: Receiver::Process,
            signo: SIGUSR1,
            value: None,
        };
        let number = process
            .create_timer(
                TimerClock::Time(Base::Boot, linux_raw_sys::general::CLOCK_MONOTONIC),
                notice,
            )
            .unwrap();
        end(number, turn, true);
    }
    over.store(true, SeqCst);
    keeper.join().unwrap();
}

struct Unpark(thread::Thread, AtomicUsize);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, SeqCst);
        self.0.unpark();
    }
}

/// Polls until it is ready, and only after a wake. One that is lost fails the test.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let wake = Arc::new(Unpark(thread::current(), AtomicUsize::new(0)));
    let waker = Waker::from(wake.clone());
    let mut future = pin!(future);
    let mut seen = 0;
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while wake.1.load(SeqCst) == seen {
            assert!(Instant::now() < deadline, "a wake was lost");
            thread::park_timeout(Duration::from_secs(1));
        }
        seen = wake.1.load(SeqCst);
    }
}

#[test]
fn who_looks_for_a_signal_is_woken_whenever_it_comes() {
    const SIGNALS: u64 = 5000;
    host::machine().attach(24);
    let machine = host::machine();
    let receiver = testing::thread(9103);
    receiver.set_signal_mask(SignalSet::of(&[40]));
    let (taken, sent) = (Arc::new(AtomicUsize::new(0)), SIGNALS as usize);
    // Two who look, one of whom the other takes signals away from.
    let lookers: std::vec::Vec<_> = [25, 26]
        .into_iter()
        .map(|cpu| {
            let (receiver, taken, machine) = (receiver.clone(), taken.clone(), machine.clone());
            thread::spawn(move || {
                machine.attach(cpu);
                loop {
                    let queue = watch::queue(receiver.process().pid()).pollers();
                    let found = wait(queue.wait_until(|| {
                        let info = send::take_awaited(&receiver, SignalSet::of(&[40]));
                        info.map(Some).or((taken.load(SeqCst) == sent).then_some(None))
                    }));
                    if found.is_none() {
                        return;
                    }
                    if taken.fetch_add(1, SeqCst) + 1 == sent {
                        queue.wake_all();
                    }
                }
            })
        })
        .collect();
    for value in 0..SIGNALS {
        let info = SigInfo::from_process(40, code::SI_QUEUE, value as i32, 0);
        send::send_to_process(receiver.process(), info).unwrap();
        if value % 7 == 0 {
            thread::yield_now();
        }
    }
    for looker in lookers {
        looker.join().unwrap();
    }
    assert_eq!(taken.load(SeqCst), sent);
}

#[test]
fn a_clock_that_stands_is_waited_for_until_somebody_runs() {
    host::machine().attach(27);
    let machine = host::machine();
    let thread = testing::thread(9104);
    thread.process().shared.lock().threads.clear();
    table::insert(thread.process(), &thread, SIGCHLD);
    let clock = CpuClock::find(&thread, linux_raw_sys::general::CLOCK_PROCESS_CPUTIME_ID).unwrap();
    let wake = Arc::new(Unpark(thread::current(), AtomicUsize::new(0)));
    let waker = Waker::from(wake.clone());
    let mut reached = pin!(clock.reached(100));
    let mut poll = || reached.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
    assert!(!poll());
    machine.advance_clock(1_000_000);
    assert_eq!(clock.time(), Some(0));
    assert_eq!(wake.1.load(SeqCst), 0, "nothing happens while it stands");
    thread.cpu_time.start(machine.clock());
    machine.advance_clock(200);
    thread.tell_clock_watch();
    assert_eq!(wake.1.load(SeqCst), 1);
    assert!(poll());
    thread.cpu_time.stop(machine.clock());
    assert_eq!(clock.time(), Some(200));
}
