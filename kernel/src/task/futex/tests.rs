//! Waits in every order and cancelled in every state, on simulated memory.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
    vec::Vec,
};

use linux_raw_sys::general::{FUTEX_OWNER_DIED, FUTEX_WAITERS, SCHED_FIFO};

use super::{
    vector::{self, Word},
    *,
};
use crate::{
    mm::{Map, Prot},
    task::{attention, schedule::Policy, table::TABLE, testing, thread::ThreadParts},
};

/// Threads of one process and words of its memory.
struct Scene {
    threads: Vec<Arc<Thread>>,
    words: u64,
    _turn: MutexGuard<'static, ()>,
}

const THREADS: usize = 5;

impl Scene {
    fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        hal::host::machine().attach(33);
        let first = testing::thread(21_000);
        let mut threads = Vec::from([first.clone()]);
        for number in 1..THREADS as i32 {
            threads.push(Arc::new(Thread::new(ThreadParts {
                tid: 21_000 + number,
                process: first.process().clone(),
                files: first.files(),
                fs: first.fs(),
                credentials: first.credentials(),
                namespaces: None,
                comm: [0; 16],
            })));
        }
        for thread in &threads {
            TABLE.lock().threads.insert(thread.tid(), thread.clone());
        }
        let mm = first.mm();
        let words = now(mm.mmap(Map::anonymous(4096, Prot::READ | Prot::WRITE))).unwrap();
        now(mm.write_bytes(words, &[0; 4096])).unwrap();
        mm.activate();
        Self {
            threads,
            words,
            _turn: turn,
        }
    }

    fn at(&self, word: u64) -> u64 {
        self.words + 4 * word
    }

    fn word(&self, word: u64) -> u32 {
        user::load_u32(self.at(word)).unwrap()
    }

    fn tid(&self, thread: usize) -> u32 {
        self.threads[thread].tid() as u32
    }

    fn lock(&self, thread: usize, word: u64) -> impl Future<Output = Result<()>> + '_ {
        pi::lock(&self.threads[thread], self.at(word), Scope::Process, None, false)
    }

    fn unlock(&self, thread: usize, word: u64) -> Result<()> {
        now(pi::unlock(&self.threads[thread], self.at(word), Scope::Process))
    }

    fn urgent(&self, thread: usize, priority: u32) {
        let policy = Policy {
            number: SCHED_FIFO,
            priority,
            reset_on_fork: false,
        };
        self.threads[thread].policy.set(policy);
        schedule::apply(&self.threads[thread]);
    }

    fn priority(&self, thread: usize) -> u8 {
        schedule::priority(&self.threads[thread])
    }

    fn wake(&self, word: u64, limit: usize) -> Result<usize> {
        let key = Key::new(&self.threads[0].mm(), self.at(word), Scope::Process)?;
        wake(key, limit, u32::MAX)
    }

    /// A signal for a thread comes, and goes.
    fn interrupted<T>(&self, thread: usize, during: impl FnOnce() -> T) -> T {
        self.threads[thread].kick(attention::SIGNAL);
        let result = during();
        self.threads[thread].clear_attention(attention::SIGNAL);
        result
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for thread in &self.threads {
            TABLE.lock().threads.remove(&thread.tid());
        }
        AddressSpace::deactivate_current();
        self.threads[0].mm().leave();
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match poll(pin!(future)) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn a_lock_goes_from_owner_to_owner() {
    let scene = Scene::new();
    now(scene.lock(0, 0)).unwrap();
    assert_eq!(scene.word(0), scene.tid(0));
    scene.urgent(2, 9);
    let (mut fair, mut urgent) = (pin!(scene.lock(1, 0)), pin!(scene.lock(2, 0)));
    assert!(poll(fair.as_mut()).is_pending());
    assert!(poll(urgent.as_mut()).is_pending());
    assert_eq!(scene.priority(0), 9);
    scene.unlock(0, 0).unwrap();
    assert_eq!(scene.word(0), scene.tid(2) | FUTEX_WAITERS);
    assert_eq!((scene.priority(0), poll(fair.as_mut())), (0, Poll::Pending));
    assert_eq!(poll(urgent.as_mut()), Poll::Ready(Ok(())));
    scene.unlock(2, 0).unwrap();
    assert_eq!(poll(fair.as_mut()), Poll::Ready(Ok(())));
    scene.unlock(1, 0).unwrap();
    assert!(scene.word(0) == 0 && !inherit::is_used());
}

#[test]
fn whoever_gives_up_in_line_takes_nothing_along() {
    let scene = Scene::new();
    now(scene.lock(0, 0)).unwrap();
    scene.urgent(1, 7);
    {
        let mut dropped = pin!(scene.lock(1, 0));
        assert!(poll(dropped.as_mut()).is_pending());
        assert_eq!(scene.priority(0), 7);
    }
    assert!(scene.priority(0) == 0 && !inherit::is_used());
    let mut waits = pin!(scene.lock(1, 0));
    assert!(poll(waits.as_mut()).is_pending());
    let ended = scene.interrupted(1, || poll(waits.as_mut()));
    assert_eq!(ended, Poll::Ready(Err(Errno::ERESTARTNOINTR)));
    assert!(scene.priority(0) == 0 && !inherit::is_used());
    scene.unlock(0, 0).unwrap();
    assert_eq!(scene.word(0), 0);
}

#[test]
fn a_lock_that_was_given_is_kept_whatever_ends_the_wait() {
    let scene = Scene::new();
    for drops in [false, true] {
        now(scene.lock(0, 0)).unwrap();
        {
            let mut waits = pin!(scene.lock(1, 0));
            assert!(poll(waits.as_mut()).is_pending());
            scene.unlock(0, 0).unwrap();
            if !drops {
                let ended = scene.interrupted(1, || poll(waits.as_mut()));
                assert_eq!(ended, Poll::Ready(Ok(())));
            }
        }
        assert_eq!(scene.word(0), scene.tid(1) | FUTEX_WAITERS);
        // Who comes waits for it, and gets it when it is freed, or its owner ends.
        let mut next = pin!(scene.lock(2, 0));
        assert!(poll(next.as_mut()).is_pending());
        if drops {
            now(pi::release(&scene.threads[1]));
            assert_eq!(poll(next.as_mut()), Poll::Ready(Ok(())));
            assert_eq!(scene.word(0), scene.tid(2) | FUTEX_WAITERS | FUTEX_OWNER_DIED);
        } else {
            scene.unlock(1, 0).unwrap();
            assert_eq!(poll(next.as_mut()), Poll::Ready(Ok(())));
        }
        scene.unlock(2, 0).unwrap();
        assert!(scene.word(0) == 0 && !inherit::is_used());
    }
}

#[test]
fn an_owner_that_ends_cannot_be_waited_for() {
    let scene = Scene::new();
    now(scene.lock(4, 0)).unwrap();
    now(scene.lock(4, 1)).unwrap();
    let mut waits = pin!(scene.lock(1, 0));
    assert!(poll(waits.as_mut()).is_pending());
    now(pi::end(&scene.threads[4]));
    // The next comes before the heir has written the word.
    let mut next = pin!(scene.lock(2, 0));
    assert!(poll(next.as_mut()).is_pending());
    assert_eq!(now(scene.lock(3, 1)), Err(Errno::ESRCH));
    assert_eq!(poll(waits.as_mut()), Poll::Ready(Ok(())));
    assert_eq!(scene.word(0), scene.tid(1) | FUTEX_WAITERS | FUTEX_OWNER_DIED);
    // The heir ends without having been polled again; so does the one after it, before it has been.
    now(pi::release(&scene.threads[1]));
    now(pi::release(&scene.threads[2]));
    assert!(!inherit::is_used());
    assert_eq!(poll(next.as_mut()), Poll::Ready(Ok(())), "given, if only for a moment");
}

#[test]
fn a_moved_waiter_loses_nothing_in_any_state() {
    let scene = Scene::new();
    let follow = |thread: usize| {
        let (from, to) = (scene.at(0), scene.at(1));
        requeue::wait_to_be_moved(&scene.threads[thread], from, Scope::Process, 0, None, to)
    };
    let shift = |limit| {
        now(requeue::move_to_lock(
            &scene.threads[0],
            scene.at(0),
            Scope::Process,
            0,
            scene.at(1),
            limit,
        ))
    };
    // Dropped in the bucket.
    {
        let mut waits = pin!(follow(1));
        assert!(poll(waits.as_mut()).is_pending());
        assert_eq!(scene.wake(0, 1), Err(Errno::EINVAL));
    }
    assert_eq!(shift(9), Ok(0));
    // In the lock's line.
    now(scene.lock(0, 1)).unwrap();
    {
        let mut waits = pin!(follow(1));
        assert!(poll(waits.as_mut()).is_pending());
        assert_eq!(shift(0), Ok(1));
        assert!(poll(waits.as_mut()).is_pending());
    }
    assert!(!inherit::is_used());
    // A signal there.
    {
        let mut waits = pin!(follow(1));
        assert!(poll(waits.as_mut()).is_pending());
        assert_eq!(shift(0), Ok(1));
        let ended = scene.interrupted(1, || poll(waits.as_mut()));
        assert_eq!(ended, Poll::Ready(Err(Errno::EAGAIN)));
    }
    scene.unlock(0, 1).unwrap();
    // As its owner; the rest stands behind it.
    {
        let (mut first, mut second) = (pin!(follow(1)), pin!(follow(2)));
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        assert_eq!(shift(9), Ok(2));
        assert_eq!(scene.word(1), scene.tid(1) | FUTEX_WAITERS);
        assert!(poll(second.as_mut()).is_pending());
        let ended = scene.interrupted(1, || poll(first.as_mut()));
        assert_eq!(ended, Poll::Ready(Ok(())));
        scene.unlock(1, 1).unwrap();
        assert_eq!(poll(second.as_mut()), Poll::Ready(Ok(())));
    }
    scene.unlock(2, 1).unwrap();
    assert!(scene.word(1) == 0 && !inherit::is_used());
}

#[test]
fn one_of_several_words_is_enough_and_the_others_are_left() {
    let scene = Scene::new();
    let wait = |count: u64| {
        let words = (0..count).map(|word| Word {
            address: scene.at(word),
            scope: Scope::Process,
            expected: 0,
        });
        vector::wait(&scene.threads[1], words.collect(), None)
    };
    for woken in 0..3 {
        let mut waits = pin!(wait(3));
        assert!(poll(waits.as_mut()).is_pending());
        assert_eq!(scene.wake(woken, 9), Ok(1));
        // A signal at the same moment takes nothing away.
        let ended = scene.interrupted(1, || poll(waits.as_mut()));
        assert_eq!(ended, Poll::Ready(Ok(woken as usize)));
    }
    {
        let mut waits = pin!(wait(3));
        assert!(poll(waits.as_mut()).is_pending());
        assert_eq!((scene.wake(2, 1), scene.wake(0, 1)), (Ok(1), Ok(1)));
        assert_eq!(poll(waits.as_mut()), Poll::Ready(Ok(2)), "the last");
    }
    {
        let mut dropped = pin!(wait(3));
        assert!(poll(dropped.as_mut()).is_pending());
    }
    user::compare_exchange_u32(scene.at(2), 0, 5).unwrap();
    assert_eq!(now(wait(3)), Err(Errno::EAGAIN));
    for word in 0..3 {
        assert_eq!(scene.wake(word, 9), Ok(0));
    }
}
