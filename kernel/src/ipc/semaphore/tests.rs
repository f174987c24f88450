//! Who waits, who leaves, and what nobody may lose by it.

use core::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use super::*;
use crate::{
    clock::{Base, Moment},
    ipc::{
        FIRST, IPC_PRIVATE,
        line::{self, Over},
    },
    task::testing,
};

fn set(count: i32) -> Arc<Object<Set>> {
    let credentials = Credentials::root();
    let request = Request {
        key: IPC_PRIVATE,
        flags: 0o600,
        credentials: &credentials,
    };
    FIRST.sets.get(get(&FIRST, &request, count).unwrap()).unwrap()
}

fn operations(changes: &[(u16, i16)]) -> Operations {
    let operation = |&(number, change)| Operation {
        number,
        change,
        flags: 0,
    };
    changes.iter().map(operation).collect()
}

/// A wait for operations that cannot be done yet.
fn waits<'a>(
    object: &'a Object<Set>,
    thread: &'a Arc<Thread>,
    changes: &[(u16, i16)],
    deadline: Option<u64>,
) -> impl Future<Output = core::result::Result<Result<()>, Over>> + use<'a> {
    let Ok(Attempted::Waits(line, ticket)) = operate(object, thread, &operations(changes), Some(thread)) else {
        panic!("it need not wait")
    };
    let at = deadline.map(|time| Moment { base: Base::Boot, time });
    async move { line::wait(thread, &line, ticket, at).await }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn change(object: &Object<Set>, thread: &Thread, changes: &[(u16, i16)]) {
    let done = operate(object, thread, &operations(changes), None);
    assert!(matches!(done, Ok(Attempted::Done)));
}

fn values(object: &Object<Set>) -> Vec<i32> {
    let state = object.lock_even_if_gone();
    state
        .body
        .semaphores()
        .iter()
        .map(|semaphore| semaphore.value)
        .collect()
}

#[test]
fn what_is_done_for_a_waiter_is_its_own_whoever_looks_first() {
    hal::host::machine().attach(0);
    let threads = [9101, 9102, 9103].map(testing::thread);
    let object = set(2);
    let mut first = pin!(waits(&object, &threads[0], &[(0, -2)], None));
    let mut second = pin!(waits(&object, &threads[1], &[(0, -1), (1, 1)], None));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    change(&object, &threads[2], &[(0, 3)]);
    // Both are done with although neither has run; nobody else takes what is theirs.
    assert_eq!(values(&object), [0, 1]);
    assert_eq!(poll(second.as_mut()), Poll::Ready(Ok(Ok(()))));
    assert_eq!(poll(first.as_mut()), Poll::Ready(Ok(Ok(()))));
    remove(&FIRST, object.id(), &Credentials::root()).unwrap();
}

#[test]
fn who_leaves_leaves_the_line_and_nothing_else() {
    hal::host::machine().attach(0);
    let threads = [9111, 9112, 9113].map(testing::thread);
    let object = set(1);
    {
        let mut gone = pin!(waits(&object, &threads[0], &[(0, -1)], None));
        assert!(poll(gone.as_mut()).is_pending());
        assert_eq!(object.lock().unwrap().body.count(0, false), 1);
    }
    assert_eq!(object.lock().unwrap().body.count(0, false), 0);
    let mut stays = pin!(waits(&object, &threads[1], &[(0, -1)], None));
    assert!(poll(stays.as_mut()).is_pending());
    change(&object, &threads[2], &[(0, 1)]);
    assert_eq!(poll(stays.as_mut()), Poll::Ready(Ok(Ok(()))));
    remove(&FIRST, object.id(), &Credentials::root()).unwrap();
}

#[test]
fn an_outcome_is_worth_more_than_a_deadline() {
    hal::host::machine().attach(0);
    let threads = [9121, 9122].map(testing::thread);
    let object = set(1);
    let mut late = pin!(waits(&object, &threads[0], &[(0, -1)], Some(0)));
    change(&object, &threads[1], &[(0, 1)]);
    assert_eq!(poll(late.as_mut()), Poll::Ready(Ok(Ok(()))));
    assert_eq!(values(&object), [0]);
    remove(&FIRST, object.id(), &Credentials::root()).unwrap();
}

#[test]
fn a_removal_reaches_all_that_wait() {
    hal::host::machine().attach(0);
    let threads = [9131, 9132].map(testing::thread);
    let object = set(1);
    change(&object, &threads[0], &[(0, 1)]);
    let mut more = pin!(waits(&object, &threads[0], &[(0, -2)], None));
    let mut zero = pin!(waits(&object, &threads[1], &[(0, 0)], None));
    assert!(poll(more.as_mut()).is_pending() && poll(zero.as_mut()).is_pending());
    remove(&FIRST, object.id(), &Credentials::root()).unwrap();
    assert_eq!(poll(more.as_mut()), Poll::Ready(Ok(Err(Errno::EIDRM))));
    assert_eq!(poll(zero.as_mut()), Poll::Ready(Ok(Err(Errno::EIDRM))));
    assert!(operate(&object, &threads[0], &operations(&[(0, 1)]), None).is_err());
}

#[test]
fn who_waits_for_zero_goes_before_those_who_take_it_away() {
    hal::host::machine().attach(0);
    let threads = [9141, 9142, 9143].map(testing::thread);
    let object = set(2);
    change(&object, &threads[2], &[(0, 2), (1, 1)]);
    // The elder makes it one again as soon as it is zero; who only waits for zero sees it nevertheless.
    let mut taker = pin!(waits(&object, &threads[0], &[(0, 0), (0, 1)], None));
    let mut zero = pin!(waits(&object, &threads[1], &[(0, 0)], None));
    assert!(poll(taker.as_mut()).is_pending() && poll(zero.as_mut()).is_pending());
    change(&object, &threads[2], &[(0, -2)]);
    assert_eq!(poll(zero.as_mut()), Poll::Ready(Ok(Ok(()))));
    assert_eq!(poll(taker.as_mut()), Poll::Ready(Ok(Ok(()))));
    assert_eq!(values(&object), [1, 1]);
    remove(&FIRST, object.id(), &Credentials::root()).unwrap();
}
