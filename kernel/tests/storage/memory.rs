//! The cache where frames are short: it gives back what nobody uses, before anybody is killed for memory.

use std::{
    pin::pin,
    task::{Context, Waker},
};

use kernel::{
    errno::Errno,
    mm::{
        Frame, reclaim,
        shortage::{self, Keeper, Need, State},
    },
    task::oom,
};

use super::*;

fn fill(drive: &Drive, extent: &Extent, pages: usize) {
    let ahead = ReadAhead::default();
    for page in 0..pages as u64 {
        drive.wait(read(extent, &ahead, page * PAGE, 1)).unwrap();
    }
    drive.answer_all();
}

/// All frames that a user may have.
fn take_all() -> Vec<Frame> {
    core::iter::from_fn(|| frame::allocate().ok()).collect()
}

#[test]
fn used_pages_stay_longest_and_held_ones_always() {
    let _accounting = Accounting::start();
    let (drive, cache) = patterned(400, Kind::default());
    let extent = whole(&cache);
    fill(&drive, &extent, 400);
    assert_eq!((cache.cached(), reclaim::cached_pages()), (400, 400));
    let held: Vec<Frame> = (0..50).map(|page| cache.page(page, page..page + 1).unwrap()).collect();
    // A look that finds all of them to have been used, then another.
    assert!(reclaim::reclaim(100) >= 100);
    for page in 390..400 {
        let _ = cache.page(page, page..page + 1).map(drop);
    }
    let left = cache.cached();
    let given = reclaim::reclaim(left as usize - 60);
    assert_eq!(cache.cached(), left - given as u64);
    drive.take_reads();
    assert!((390..400).all(|page| cache.page(page, page..page + 1).is_ok()));
    let left = cache.cached() as usize;
    assert_eq!(reclaim::reclaim(usize::MAX), left - held.len());
    assert_eq!(cache.cached(), 50);
    drop(held);
    assert_eq!(reclaim::reclaim(usize::MAX), 50);
    assert_eq!((cache.cached(), reclaim::reclaim(1)), (0, 0));
}

#[test]
fn a_cache_makes_way_for_itself() {
    let _accounting = Accounting::start();
    let (drive, cache) = patterned(3000, Kind::default());
    let extent = whole(&cache);
    let mut taken = take_all();
    taken.truncate(taken.len() - (frame::ebb() - frame::stats().free + 500));
    fill(&drive, &extent, 3000);
    assert!(
        cache.cached() <= 600,
        "{} pages with 500 frames to spare",
        cache.cached()
    );
    assert!(frame::stats().free >= frame::ebb() - 64);
    drop(taken);
    cache.forget_unused();
}

#[test]
fn the_keeper_asks_caches_before_anybody_is_killed() {
    let _accounting = Accounting::start();
    let (drive, cache) = patterned(2000, Kind::default());
    let extent = whole(&cache);
    fill(&drive, &extent, 2000);
    let taken = take_all();
    assert!(cache.cached() >= 2000, "frames went to others, not to the cache");
    let mut keeper = pin!(oom::run(Keeper::new().unwrap()));
    let mut waiting = pin!(shortage::wait(Need::Ordinary, |_| false));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    for _ in 0..10 {
        assert!(keeper.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(
        waiting.as_mut().poll(&mut context),
        std::task::Poll::Ready(shortage::Verdict::TryAgain)
    );
    assert!(shortage::is_over() && cache.cached() < 2000);
    assert!(frame::allocate().is_ok());
    drop(taken);
    cache.forget_unused();
}

#[test]
fn where_little_is_free_caches_shrink_by_themselves() {
    let _accounting = Accounting::start();
    let (drive, cache) = patterned(1000, Kind::default());
    let extent = whole(&cache);
    fill(&drive, &extent, 1000);
    let mut keeper = Keeper::new().unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut taken = take_all();
    // Nobody waits, but the frames that were taken have been noticed.
    {
        let look = pin!(keeper.look());
        assert_eq!(look.poll(&mut context), std::task::Poll::Ready(State::Ebb));
    }
    drop(keeper);
    let mut run = pin!(oom::run(Keeper::new().unwrap()));
    shortage::nudge();
    assert!(run.as_mut().poll(&mut context).is_pending());
    assert_eq!(cache.cached(), 0, "all of it is needed");
    taken.clear();
    drop(taken);
}

#[test]
fn no_frame_at_all_is_an_error_and_no_loop() {
    let _accounting = Accounting::start();
    let (drive, cache) = patterned(100, Kind::default());
    let extent = whole(&cache);
    let taken = take_all();
    assert_eq!(
        drive.wait(read(&extent, &ReadAhead::default(), 0, 10)),
        Err(Errno::ENOMEM)
    );
    assert_eq!(cache.page(3, 0..32).unwrap_err(), Errno::ENOMEM);
    drop(taken);
    assert!(drive.wait(read(&extent, &ReadAhead::default(), 0, 10)).is_ok());
    let mut few = take_all();
    few.truncate(few.len() - 3);
    // Thirty pages are wished for, one is needed.
    assert_eq!(cache.page(33, 32..64).unwrap_err(), Errno::EAGAIN);
    drive.answer_all();
    assert!(cache.page(33, 32..64).is_ok());
}
