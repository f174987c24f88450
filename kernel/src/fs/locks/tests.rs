//! Locks against a model, and waits: who is handed what, who is not woken, and circles.

use alloc::sync::Arc;
use core::{future::Future, pin::pin, task::Context};
use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Poll, Wake, Waker},
};

use proptest::prelude::*;

use super::{
    LockKind::{Exclusive, Shared},
    *,
};
use crate::{
    fs::{nameless, open_file::PathFile},
    task::Credentials,
};

/// A file of the test's own. Its locks go with it, as owners by tables that are none do not.
struct Locked(OpenFile);

impl core::ops::Deref for Locked {
    type Target = OpenFile;

    fn deref(&self) -> &OpenFile {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        release(key(self), |_| true);
    }
}

fn file() -> Locked {
    let place = nameless::pipe(&Credentials::root()).0;
    Locked(OpenFile::new(Arc::new(PathFile), place, 0))
}

/// Owners of one test's own: the list of waits is common to all tests.
fn owner(test: usize, number: usize) -> Owner {
    Owner::Table(test << 32 | number << 4)
}

fn range(owner: Owner, kind: LockKind, start: u64, end: u64) -> Lock {
    Lock {
        owner,
        pid: 1,
        kind,
        start,
        end,
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// A wait, what it has been woken, and a poll of it.
macro_rules! waiting {
    ($wait:ident, $woken:ident, $file:expr, $lock:expr) => {
        let $woken = Arc::new(Count::default());
        let waker = Waker::from($woken.clone());
        let mut $wait = pin!(acquire($file, $lock));
        let mut $wait = || $wait.as_mut().poll(&mut Context::from_waker(&waker));
    };
}

#[test]
fn only_who_can_go_on_is_woken() {
    let (file, other) = (file(), file());
    let [holder, first, second, reader, far] = [0, 1, 2, 3, 4].map(|number| owner(1, number));
    assert_eq!(lock(&file, &range(holder, Exclusive, 0, 100)), Ok(true));
    assert_eq!(lock(&other, &range(holder, Exclusive, 0, 100)), Ok(true));
    waiting!(first_waits, first_woken, &file, range(first, Exclusive, 0, 10));
    waiting!(second_waits, second_woken, &file, range(second, Exclusive, 5, 15));
    waiting!(reader_waits, reader_woken, &file, range(reader, Shared, 40, 60));
    waiting!(far_waits, far_woken, &other, range(far, Exclusive, 0, 10));
    assert!(first_waits().is_pending() && second_waits().is_pending());
    assert!(reader_waits().is_pending() && far_waits().is_pending());
    unlock(&file, &range(holder, Shared, 0, 30)).unwrap();
    let woken = || [&first_woken, &second_woken, &reader_woken, &far_woken].map(|count| count.get());
    assert_eq!(woken(), [1, 0, 0, 0], "the second would exclude the first");
    assert_eq!(first_waits(), Poll::Ready(Ok(())));
    assert!(second_waits().is_pending());
    // To share what was its own lets readers in.
    assert_eq!(lock(&file, &range(holder, Shared, 30, 100)), Ok(true));
    assert_eq!(woken(), [1, 0, 1, 0]);
    assert_eq!(reader_waits(), Poll::Ready(Ok(())));
    release(key(&file), |owner| owner == first);
    assert_eq!(woken(), [1, 1, 1, 0]);
    assert_eq!(second_waits(), Poll::Ready(Ok(())));
    for owner in [holder, second, reader] {
        release(key(&file), |other| other == owner);
    }
    assert!(Files::lock(key(&file)).get().is_none(), "the record is gone");
    release(key(&other), |owner| owner == holder);
    assert_eq!(far_waits(), Poll::Ready(Ok(())));
    release(key(&other), |owner| owner == far);
}

#[test]
fn who_is_cancelled_leaves_the_line() {
    let file = file();
    let [holder, gone, next] = [0, 1, 2].map(|number| owner(2, number));
    assert_eq!(lock(&file, &range(holder, Exclusive, 0, 10)), Ok(true));
    waiting!(next_waits, next_woken, &file, range(next, Exclusive, 0, 10));
    {
        waiting!(gone_waits, _gone_woken, &file, range(gone, Exclusive, 0, 10));
        assert!(gone_waits().is_pending() && next_waits().is_pending());
    }
    unlock(&file, &range(holder, Exclusive, 0, 10)).unwrap();
    assert_eq!(next_woken.get(), 1);
    assert_eq!(next_waits(), Poll::Ready(Ok(())));
    unlock(&file, &range(next, Exclusive, 0, 10)).unwrap();
    assert!(Files::lock(key(&file)).get().is_none());
}

#[test]
fn a_wake_that_is_not_used_is_passed_on() {
    let file = file();
    let [holder, early, late, fast] = [0, 1, 2, 3].map(|number| owner(8, number));
    assert_eq!(lock(&file, &range(holder, Exclusive, 0, 10)), Ok(true));
    waiting!(late_waits, late_woken, &file, range(late, Exclusive, 5, 10));
    {
        waiting!(early_waits, early_woken, &file, range(early, Exclusive, 0, 10));
        assert!(early_waits().is_pending() && late_waits().is_pending());
        unlock(&file, &range(holder, Exclusive, 0, 10)).unwrap();
        assert_eq!((early_woken.get(), late_woken.get()), (1, 0));
        // Too late for the first, but not for the second.
        assert_eq!(lock(&file, &range(fast, Exclusive, 0, 5)), Ok(true));
        assert!(early_waits().is_pending());
        assert_eq!((early_woken.get(), late_woken.get()), (1, 1));
        assert_eq!(late_waits(), Poll::Ready(Ok(())));
    }
    unlock(&file, &range(fast, Exclusive, 0, 10)).unwrap();
    waiting!(next_waits, next_woken, &file, range(fast, Exclusive, 0, 10));
    {
        waiting!(gone_waits, gone_woken, &file, range(early, Exclusive, 0, 10));
        assert!(gone_waits().is_pending() && next_waits().is_pending());
        unlock(&file, &range(late, Exclusive, 0, 10)).unwrap();
        assert_eq!((gone_woken.get(), next_woken.get()), (1, 0));
    }
    assert_eq!(next_woken.get(), 1, "the first was woken and is gone");
    assert_eq!(next_waits(), Poll::Ready(Ok(())));
    unlock(&file, &range(fast, Exclusive, 0, 10)).unwrap();
    assert!(Files::lock(key(&file)).get().is_none());
}

#[test]
fn a_circle_may_go_by_any_of_those_in_the_way() {
    let files = [file(), file(), file()];
    let owners = [0, 1, 2].map(|number| owner(3, number));
    for (file, owner) in files.iter().zip(owners) {
        assert_eq!(lock(file, &range(owner, Exclusive, 0, 1)), Ok(true));
    }
    // Others that share what the second waits for.
    let bystanders = [7, 8].map(|number| owner(3, number));
    for bystander in bystanders {
        assert_eq!(lock(&files[2], &range(bystander, Shared, 1, 2)), Ok(true));
    }
    waiting!(first_waits, _a, &files[1], range(owners[0], Exclusive, 0, 1));
    waiting!(second_waits, _b, &files[2], range(owners[1], Exclusive, 0, 2));
    waiting!(bystander_waits, _c, &files[0], range(bystanders[0], Exclusive, 0, 1));
    assert!(first_waits().is_pending(), "waits for the second");
    assert!(second_waits().is_pending(), "waits for the third and the bystanders");
    assert_eq!(
        bystander_waits(),
        Poll::Ready(Err(Errno::EDEADLK)),
        "would wait for the first, which waits for it in the end"
    );
}

#[test]
fn a_circle_is_found_by_who_closes_it_and_is_open_once_it_gives_way() {
    let files = [file(), file(), file()];
    let owners = [0, 1, 2].map(|number| owner(4, number));
    for (file, owner) in files.iter().zip(owners) {
        assert_eq!(lock(file, &range(owner, Exclusive, 0, 1)), Ok(true));
    }
    waiting!(first_waits, first_woken, &files[1], range(owners[0], Exclusive, 0, 1));
    waiting!(second_waits, second_woken, &files[2], range(owners[1], Shared, 0, 1));
    assert!(first_waits().is_pending() && second_waits().is_pending());
    {
        waiting!(third_waits, _woken, &files[0], range(owners[2], Shared, 0, 1));
        assert_eq!(third_waits(), Poll::Ready(Err(Errno::EDEADLK)));
    }
    // By a description it is nobody's wait for anybody.
    waiting!(
        description_waits,
        _woken,
        &files[0],
        range(Owner::Description(0x4000), Shared, 0, 1)
    );
    assert!(description_waits().is_pending());
    assert_eq!((first_woken.get(), second_woken.get()), (0, 0));
    unlock(&files[2], &range(owners[2], Shared, 0, 1)).unwrap();
    assert_eq!(second_waits(), Poll::Ready(Ok(())));
    waiting!(third_waits, _third_woken, &files[0], range(owners[2], Shared, 0, 1));
    assert!(third_waits().is_pending(), "the second waits for nobody any more");
}

#[test]
fn a_circle_may_begin_in_the_middle() {
    let files = [file(), file()];
    let owners = [0, 1].map(|number| owner(5, number));
    assert_eq!(lock(&files[0], &range(owners[0], Exclusive, 0, 1)), Ok(true));
    assert_eq!(lock(&files[1], &range(owners[1], Exclusive, 0, 1)), Ok(true));
    waiting!(waits, _woken, &files[1], range(owners[0], Exclusive, 0, 1));
    assert!(waits().is_pending());
    // The same range, which nothing stands in the way of, and another file's.
    assert_eq!(lock(&files[1], &range(owners[1], Shared, 0, 1)), Ok(true));
    waiting!(closes, _closes, &files[0], range(owners[1], Exclusive, 0, 1));
    assert_eq!(closes(), Poll::Ready(Err(Errno::EDEADLK)));
}

#[test]
fn two_who_share_a_flock_do_not_wait_for_each_other() {
    let file = file();
    let [one, other] = [0x8001, 0x9001].map(Owner::Description);
    let whole = |owner, kind| range(owner, kind, 0, u64::MAX);
    assert_eq!(lock(&file, &whole(one, Shared)), Ok(true));
    assert_eq!(lock(&file, &whole(other, Shared)), Ok(true));
    waiting!(one_waits, one_woken, &file, whole(one, Exclusive));
    waiting!(other_waits, other_woken, &file, whole(other, Exclusive));
    assert!(one_waits().is_pending(), "and has let go of what it shared");
    assert_eq!(other_waits(), Poll::Ready(Ok(())));
    assert_eq!((one_woken.get(), other_woken.get()), (0, 0));
    release(key(&file), |owner| owner == other);
    assert_eq!(one_woken.get(), 1);
    assert_eq!(one_waits(), Poll::Ready(Ok(())));
    release(key(&file), |owner| owner == one);
}

proptest! {
    #[test]
    fn ranges_match_a_model_of_bytes(
        steps in prop::collection::vec((0usize..3, 0u64..16, 1u64..8, 0usize..3), 1..60),
    ) {
        const BYTES: usize = 24;
        let file = file();
        let mut model = [[None::<LockKind>; BYTES]; 3];
        for (number, start, length, what) in steps {
            let end = start + length;
            let bytes = start as usize..end as usize;
            let kind = [Shared, Exclusive, Shared][what];
            let wanted = range(owner(6, number), kind, start, end);
            if what == 2 {
                unlock(&file, &wanted).unwrap();
                model[number][bytes].fill(None);
            } else {
                let free = (0..3).filter(|&other| other != number).all(|other| {
                    model[other][bytes.clone()].iter().all(|held| {
                        held.is_none_or(|held| held == Shared && kind == Shared)
                    })
                });
                prop_assert_eq!(lock(&file, &wanted), Ok(free));
                if free {
                    model[number][bytes].fill(Some(kind));
                }
            }
            // Seen by one who holds nothing.
            for byte in 0..BYTES {
                let seen = |kind| conflict(&file, &range(owner(6, 9), kind, byte as u64, byte as u64 + 1)).is_some();
                let held = |kind: Option<LockKind>| model.iter().any(|own| match kind {
                    Some(kind) => own[byte] == Some(kind),
                    None => own[byte].is_some(),
                });
                prop_assert_eq!(seen(Exclusive), held(None));
                prop_assert_eq!(seen(Shared), held(Some(Exclusive)));
            }
        }
        for number in 0..3 {
            release(key(&file), |other| other == owner(6, number));
        }
        prop_assert!(Files::lock(key(&file)).get().is_none());
    }

    #[test]
    fn touching_ranges_are_one(order in Just((0u64..8).collect::<Vec<_>>()).prop_shuffle()) {
        let file = file();
        for byte in order {
            prop_assert_eq!(lock(&file, &range(owner(7, 0), Exclusive, byte, byte + 1)), Ok(true));
        }
        let seen = conflict(&file, &range(owner(7, 1), Shared, 3, 4)).map(|held| (held.start, held.end));
        prop_assert_eq!(seen, Some((0, 8)));
        release(key(&file), |_| true);
    }
}
