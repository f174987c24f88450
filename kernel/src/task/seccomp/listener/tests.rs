//! Askers, receivers and supervisors in every order.

use core::{
    future::Future,
    pin::{Pin, pin},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Context, Poll},
};
use std::task::{Wake, Waker};

use super::*;
use crate::task::testing;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn poll<T>(future: Pin<&mut impl Future<Output = T>>, count: &Arc<Count>) -> Poll<T> {
    future.poll(&mut Context::from_waker(&Waker::from(count.clone())))
}

fn receive(listener: &Listener) -> Option<Notification> {
    let mut got = None;
    listener
        .receive(|notification| {
            got = Some(*notification);
            Ok(())
        })
        .ok()?;
    got
}

const DATA: [u32; WORDS] = [7; WORDS];

#[test]
fn an_answer_wakes_who_asked() {
    hal::host::machine().attach(31);
    for answer in [Answer::Make, Answer::Returns(-5), Answer::Returns(9)] {
        let (listener, thread, count) = (Listener::new(false), testing::thread(9310), Arc::default());
        let mut asking = pin!(listener.ask(&thread, DATA));
        assert!(receive(&listener).is_none());
        assert!(poll(asking.as_mut(), &count).is_pending());
        let Notification { id, tid, data } = receive(&listener).unwrap();
        assert_eq!((tid, data), (9310, DATA));
        assert!(receive(&listener).is_none(), "once is enough");
        assert!(poll(asking.as_mut(), &count).is_pending());
        let before = count.0.load(SeqCst);
        assert_eq!(listener.answer(id, answer), Ok(()));
        assert!(count.0.load(SeqCst) > before);
        assert_eq!(listener.answer(id, Answer::Make), Err(Errno::EINPROGRESS));
        assert_eq!(listener.check(id), Err(Errno::ENOENT));
        assert_eq!(poll(asking.as_mut(), &count), Poll::Ready(Ok(Some(answer))));
        assert_eq!(listener.answer(id, Answer::Make), Err(Errno::ENOENT));
        assert!(listener.state.lock().questions.is_empty());
    }
}

#[test]
fn who_waits_no_longer_leaves_nothing() {
    hal::host::machine().attach(31);
    let (listener, count) = (Listener::new(false), Arc::default());
    let threads = [testing::thread(9320), testing::thread(9321)];
    for steps in 0..3 {
        let mut other = pin!(listener.ask(&threads[1], DATA));
        let id = {
            let mut asking = Box::pin(listener.ask(&threads[0], DATA));
            assert!(poll(asking.as_mut(), &count).is_pending());
            assert!(poll(other.as_mut(), &count).is_pending());
            let id = listener.state.lock().questions[0].id;
            if steps > 0 {
                assert_eq!(receive(&listener).unwrap().id, id);
            }
            if steps > 1 {
                listener.answer(id, Answer::Make).unwrap();
            }
            id
        };
        assert_eq!(listener.answer(id, Answer::Make), Err(Errno::ENOENT));
        let next = receive(&listener).unwrap();
        assert_eq!(next.tid, 9321, "the other's is still there");
        listener.answer(next.id, Answer::Returns(1)).unwrap();
        assert!(poll(other.as_mut(), &count).is_ready());
    }
}

#[test]
fn a_receiver_is_woken_whoever_goes_first() {
    hal::host::machine().attach(31);
    let (listener, asks, receives) = (Listener::new(false), Arc::default(), Arc::<Count>::default());
    let threads = [testing::thread(9330), testing::thread(9331)];
    let mut waits = [pin!(listener.receivers.wait()), pin!(listener.receivers.wait())];
    for wait in &mut waits {
        assert!(poll(wait.as_mut(), &receives).is_pending());
    }
    let mut first = Box::pin(listener.ask(&threads[0], DATA));
    assert!(poll(first.as_mut(), &asks).is_pending());
    assert!(poll(waits[0].as_mut(), &receives).is_ready());
    // What the first receiver cannot copy is the second's.
    let fault = listener.receive(|_| Err(Errno::EFAULT.into()));
    assert!(fault.is_err());
    assert!(poll(waits[1].as_mut(), &receives).is_ready());
    assert!(receive(&listener).is_some());
    // A question that was taken back has woken somebody; the next wakes somebody again.
    drop(first);
    let mut wait = pin!(listener.receivers.wait());
    assert!(poll(wait.as_mut(), &receives).is_pending());
    let mut second = pin!(listener.ask(&threads[1], DATA));
    assert!(poll(second.as_mut(), &asks).is_pending());
    assert!(poll(wait.as_mut(), &receives).is_ready());
}

#[test]
fn nobody_waits_for_who_has_closed() {
    hal::host::machine().attach(31);
    let (listener, thread, count) = (Arc::new(Listener::new(true)), testing::thread(9340), Arc::default());
    for received in [false, true] {
        let listener = Arc::new(Listener::new(received));
        let file = ListenerFile::new(listener.clone(), |_, _, _, _| Ok(0));
        let mut asking = pin!(listener.ask(&thread, DATA));
        assert!(poll(asking.as_mut(), &count).is_pending());
        assert_eq!(file.readiness(), Readiness::READABLE);
        if received {
            receive(&listener).unwrap();
            assert_eq!(file.readiness(), Readiness::WRITABLE);
        }
        drop(file);
        let gone = Answer::Returns(Errno::ENOSYS.as_return_value());
        assert_eq!(poll(asking.as_mut(), &count), Poll::Ready(Ok(Some(gone))));
        assert_eq!(poll(pin!(listener.ask(&thread, DATA)), &count), Poll::Ready(Ok(None)));
    }
    let file = ListenerFile::new(listener.clone(), |_, _, _, _| Ok(0));
    drop(Asking(listener.clone()));
    assert_eq!(file.readiness(), Readiness::HUP);
    assert!(matches!(listener.receive(|_| Ok(())), Err(Stop::Errno(Errno::ENOENT))));
}

#[test]
fn signals_end_the_wait_unless_it_is_patient() {
    hal::host::machine().attach(31);
    for (patient, received) in [(false, false), (false, true), (true, false), (true, true)] {
        let (listener, thread, count) = (Listener::new(patient), testing::thread(9350), Arc::default());
        let mut asking = pin!(listener.ask(&thread, DATA));
        assert!(poll(asking.as_mut(), &count).is_pending());
        if received {
            receive(&listener).unwrap();
        }
        thread.kick(attention::SIGNAL);
        let polled = poll(asking.as_mut(), &count);
        if patient && received {
            assert!(polled.is_pending());
            thread.kick(attention::EXIT);
            assert_eq!(poll(asking.as_mut(), &count), Poll::Ready(Err(Errno::ERESTARTSYS)));
        } else {
            assert_eq!(polled, Poll::Ready(Err(Errno::ERESTARTSYS)));
        }
        assert!(listener.state.lock().questions.is_empty());
    }
}
