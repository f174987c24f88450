//! Waiting for memory: who stands in line, who is nudged, and that no wake is lost. A process of its own, because it takes
//! all memory away.

mod common;

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use common::{now, turn};
use hal::host;
use kernel::mm::{
    Frame, frame,
    shortage::{self, Keeper, Need, State, Verdict},
};

/// All frames that a user may have.
fn take_all() -> Vec<Frame> {
    let mut taken: Vec<Frame> = core::iter::from_fn(|| frame::allocate().ok()).collect();
    // Not one's own magazine alone: a frame in it would come back without a look.
    taken.shrink_to_fit();
    taken
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

fn look(keeper: &mut Keeper) -> Poll<State> {
    poll(pin!(keeper.look()), Waker::noop())
}

#[test]
fn the_line_goes_on_when_the_mark_is_reached() {
    let _turn = turn();
    let mut taken = take_all();
    let mut keeper = Keeper::new().unwrap();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut wait = pin!(shortage::wait(Need::Ordinary, |_| false));
    assert_eq!(poll(wait.as_mut(), &waker), Poll::Pending);
    assert_eq!(look(&mut keeper), Poll::Ready(State::Short), "an arrival is a nudge");

    let missing = shortage::mark() - frame::stats().free;
    taken.truncate(taken.len() - (missing - 1));
    assert_eq!(look(&mut keeper), Poll::Pending, "one frame is missing");
    taken.pop();
    assert_eq!(look(&mut keeper), Poll::Ready(State::Over));
    assert_eq!((wakes.0.load(SeqCst), poll(wait.as_mut(), &waker)), (0, Poll::Pending));
    keeper.let_go();
    assert_eq!(wakes.0.load(SeqCst), 1);
    assert_eq!(poll(wait.as_mut(), &waker), Poll::Ready(Verdict::TryAgain));
    drop(taken);
    assert_eq!(look(&mut keeper), Poll::Pending, "nobody waits: frees nudge nobody");
}

#[test]
fn the_desperate_are_short_whatever_is_free() {
    let _turn = turn();
    let mut keeper = Keeper::new().unwrap();
    let mut wait = pin!(shortage::wait(Need::Desperate, |_| false));
    assert_eq!(poll(wait.as_mut(), Waker::noop()), Poll::Pending);
    assert!(shortage::is_over());
    assert_eq!(look(&mut keeper), Poll::Ready(State::Short));
    keeper.acts();
    shortage::nudge();
    assert_eq!(look(&mut keeper), Poll::Ready(State::Over));
    keeper.refuse();
    assert_eq!(poll(wait.as_mut(), Waker::noop()), Poll::Ready(Verdict::Hopeless));
}

#[test]
fn a_waiter_with_a_reason_ends_and_leaves_the_line() {
    let _turn = turn();
    let mut keeper = Keeper::new().unwrap();
    let mut end = false;
    {
        let mut wait = pin!(shortage::wait(Need::Ordinary, |_| core::mem::replace(&mut end, true)));
        assert_eq!(poll(wait.as_mut(), Waker::noop()), Poll::Pending);
        assert_eq!(poll(wait.as_mut(), Waker::noop()), Poll::Ready(Verdict::Ended));
    }
    // Dropped while it waits, and before its first poll.
    {
        let mut wait = pin!(shortage::wait(Need::Ordinary, |_| false));
        assert_eq!(poll(wait.as_mut(), Waker::noop()), Poll::Pending);
    }
    drop(shortage::wait(Need::Ordinary, |_| false));
    assert_eq!(look(&mut keeper), Poll::Ready(State::Quiet));
}

#[test]
fn without_a_keeper_there_is_no_hope() {
    let _turn = turn();
    assert_eq!(now(shortage::wait(Need::Ordinary, |_| false)), Verdict::Hopeless);
    let keeper = Keeper::new();
    assert!(keeper.is_some() && Keeper::new().is_none());
}

#[test]
fn whoever_ends_may_use_the_reserve() {
    let _turn = turn();
    let taken = take_all();
    assert!(frame::allocate().is_err());
    frame::entitle(true);
    let last = frame::allocate();
    frame::entitle(false);
    assert!(last.is_ok() && frame::allocate().is_err());
    drop(taken);
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls to the end on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = poll(future.as_mut(), &waker) {
            return value;
        }
        thread::park();
    }
}

/// Threads that take what others give back, with nothing in between that could make up for a wake that is lost: then this
/// never ends.
#[test]
fn no_wake_is_lost() {
    const WAITERS: u32 = 3;
    const ROUNDS: usize = 150;
    let _turn = turn();
    let machine = host::machine();
    let pool = Mutex::new(take_all());
    let left = AtomicUsize::new(WAITERS as usize * ROUNDS);
    let mut keeper = Keeper::new().unwrap();
    thread::scope(|scope| {
        for cpu in 1..=WAITERS {
            let (machine, pool, left) = (machine.clone(), &pool, &left);
            scope.spawn(move || {
                machine.attach(cpu);
                for _ in 0..ROUNDS {
                    // All that the others have let go of, one by one, until there is none; then wait.
                    loop {
                        match frame::allocate() {
                            Ok(frame) => pool.lock().unwrap().push(frame),
                            Err(_) => {
                                if block_on(shortage::wait(Need::Ordinary, |_| false)) == Verdict::TryAgain {
                                    break;
                                }
                            }
                        }
                    }
                    left.fetch_sub(1, SeqCst);
                    shortage::nudge();
                }
            });
        }
        let (machine, pool, left) = (machine.clone(), &pool, &left);
        scope.spawn(move || {
            machine.attach(WAITERS + 1);
            while left.load(SeqCst) > 0 {
                match block_on(keeper.look()) {
                    State::Over => keeper.let_go(),
                    // What the killer does: memory comes back, frame by frame, and the frees themselves must nudge.
                    State::Short => {
                        let missing = (shortage::mark() + 64).saturating_sub(frame::stats().free);
                        let mut pool = pool.lock().unwrap();
                        let keep = pool.len() - missing;
                        let freed = pool.split_off(keep);
                        drop(pool);
                        drop(freed);
                    }
                    State::Quiet | State::Ebb => {}
                }
            }
        });
    });
}
