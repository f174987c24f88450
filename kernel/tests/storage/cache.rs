//! The page cache: who shares what, what is read ahead, what becomes of failures.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use kernel::{errno::Errno, fs::page_cache::FAILURE_LIFE};
use proptest::prelude::*;

use super::*;

#[test]
fn a_page_is_read_once_for_all_who_wait() {
    let _accounting = Accounting::start();
    let (drive, cache) = patterned(64, Kind::default());
    let extent = whole(&cache);
    let aheads: Vec<ReadAhead> = (0..20).map(|_| ReadAhead::default()).collect();
    let futures = aheads.iter().map(|ahead| {
        let future: std::pin::Pin<Box<dyn Future<Output = _>>> = Box::pin(read(&extent, ahead, 5 * PAGE + 7, 100));
        future
    });
    let results = drive.run(futures.collect(), |_| 0);
    let expected = pattern(64 * PAGE as usize)[5 * PAGE as usize + 7..][..100].to_vec();
    assert!(results.iter().all(|read| read.as_ref() == Ok(&expected)));
    assert_eq!(drive.take_reads().as_slice(), core::slice::from_ref(&(40..48)));
    assert_eq!(drive.wait(read(&extent, &aheads[0], 5 * PAGE, 1)).unwrap().len(), 1);
    assert_eq!(drive.take_reads(), [], "it is there");
}

#[test]
fn who_gives_up_takes_nothing_away() {
    let _accounting = Accounting::start();
    let (drive, cache) = patterned(64, Kind::default());
    let extent = whole(&cache);
    let ahead = ReadAhead::default();
    {
        let mut first = pin!(read(&extent, &ahead, 9 * PAGE, 10));
        assert!(
            first
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }
    assert_eq!((drive.pending(), cache.cached()), (1, 0));
    drive.answer_all();
    assert_eq!(cache.cached(), 1, "it came for whoever is next");
    drop(extent);
    // A cache may go before its requests do.
    let other = whole(&cache);
    let mut last = Box::pin(read(&other, &ahead, 40 * PAGE, 10));
    assert_eq!(
        last.as_mut().poll(&mut Context::from_waker(Waker::noop())),
        Poll::Pending
    );
    drop(last);
    drop((other, cache));
    drive.answer_all();
}

#[test]
fn in_order_is_read_ahead_of() {
    let _accounting = Accounting::start();
    let (drive, cache) = patterned(512, Kind::default());
    let extent = whole(&cache);
    let ahead = ReadAhead::default();
    let expected = pattern(512 * PAGE as usize);
    for page in 0..512 {
        let bytes = drive.wait(read(&extent, &ahead, page * PAGE, PAGE as usize)).unwrap();
        assert_eq!(bytes, expected[(page * PAGE) as usize..][..PAGE as usize]);
    }
    drive.answer_all();
    let reads = drive.take_reads();
    assert!(reads.len() < 50, "{} requests for 512 pages", reads.len());
    let sectors: u64 = reads.iter().map(|read| read.end - read.start).sum();
    assert_eq!(sectors, 512 * 8, "each was read once");
    assert!(reads.iter().any(|read| read.end - read.start >= 16 * 8));

    let far = ReadAhead::default();
    cache.forget(0..512);
    for page in [400, 3, 200, 77] {
        drive.wait(read(&extent, &far, page * PAGE, 1)).unwrap();
    }
    assert_eq!(drive.take_reads().len(), 4);
    assert_eq!(cache.cached(), 4, "who jumps about gets what he asks for");
}

#[test]
fn failures_reach_who_waits_and_do_not_stay() {
    let _accounting = Accounting::start();
    let (drive, cache) = patterned(64, Kind::default());
    let extent = whole(&cache);
    drive.spoil(8 * 10 + 3..8 * 10 + 4);
    let aheads: Vec<ReadAhead> = (0..5).map(|_| ReadAhead::default()).collect();
    let futures = aheads.iter().map(|ahead| {
        let future: std::pin::Pin<Box<dyn Future<Output = _>>> = Box::pin(read(&extent, ahead, 10 * PAGE, 100));
        future
    });
    let results = drive.run(futures.collect(), |_| 0);
    assert!(results.iter().all(|read| *read == Err(Errno::EIO)), "{results:?}");
    assert_eq!(drive.take_reads().len(), 1, "one failure is enough for all of them");
    drive.mend();
    assert_eq!(
        drive.wait(read(&extent, &aheads[0], 10 * PAGE, 1)),
        Err(Errno::EIO),
        "it is not tried at once again"
    );
    hal::host::machine().advance_clock(FAILURE_LIFE);
    assert!(drive.wait(read(&extent, &aheads[0], 10 * PAGE, 1)).is_ok());

    // Of several pages read together, those that are good can be read.
    drive.spoil(8 * 22..8 * 22 + 1);
    let bytes = drive.wait(read(&extent, &ReadAhead::default(), 20 * PAGE, 4 * PAGE as usize));
    assert_eq!(bytes, Err(Errno::EIO));
    let good = ReadAhead::default();
    for page in [20, 21, 23] {
        assert!(drive.wait(read(&extent, &good, page * PAGE, 10)).is_ok(), "page {page}");
    }
    assert_eq!(drive.wait(read(&extent, &good, 22 * PAGE, 10)), Err(Errno::EIO));
}

#[test]
fn a_disk_that_is_not_whole_pages_has_zeroes_behind_its_end() {
    let _accounting = Accounting::start();
    let drive = Drive::new(Kind::default(), vec![7; 4096 + 3 * 512]);
    let cache = PageCache::new(drive.disk().clone()).unwrap();
    assert_eq!(cache.len(), 2);
    assert_eq!(cache.page(1, 0..9).unwrap_err(), Errno::EAGAIN);
    drive.answer_all();
    let mut bytes = vec![1; 4096];
    cache.page(1, 1..2).unwrap().read(0, &mut bytes);
    assert!(bytes[..1536].iter().all(|&byte| byte == 7) && bytes[1536..].iter().all(|&byte| byte == 0));
    assert_eq!(cache.page(2, 2..3).unwrap_err(), Errno::ENXIO);
    let extent = whole(&cache);
    let all = drive.wait(read(&extent, &ReadAhead::default(), 4096, 9999)).unwrap();
    assert_eq!(all.len(), 1536, "reads end where the disk does");
}

#[test]
fn what_was_written_meanwhile_is_read_anew() {
    let _accounting = Accounting::start();
    let (drive, cache) = patterned(8, Kind::default());
    let extent = whole(&cache);
    let ahead = ReadAhead::default();
    let mut reader = Box::pin(read(&extent, &ahead, 0, 4));
    assert!(
        reader
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    // Somebody writes past the cache while the old bytes are on their way.
    cache.forget(0..1);
    drive.answer_all();
    assert_eq!(cache.cached(), 0);
    assert!(drive.wait(reader).is_ok());
    assert_eq!(drive.take_reads().len(), 2);
}

#[test]
fn a_device_that_never_answers_is_given_up() {
    let _accounting = Accounting::start();
    let (drive, cache) = patterned(8, Kind::default());
    let extent = whole(&cache);
    let ahead = ReadAhead::default();
    let mut reader = Box::pin(read(&extent, &ahead, 5 * PAGE, 4));
    assert!(
        reader
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    hal::host::machine().advance_clock(31_000_000_000);
    assert!(drive.disk().queue().needs_recovery());
    common::now(drive.disk().queue().recover());
    assert_eq!(common::now(reader), Err(Errno::EIO));
    hal::host::machine().advance_clock(FAILURE_LIFE);
    assert!(drive.wait(read(&extent, &ahead, 0, 4)).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Readers of anything anywhere get what is on the disk, in whatever order it answers, of whatever kind it is.
    #[test]
    fn everybody_reads_what_is_there(
        reads in proptest::collection::vec((0u64..200 << 12, 1usize..70_000), 1..12),
        order in proptest::collection::vec(any::<usize>(), 64),
        depth in 1u16..6,
        most_pages in 1usize..=32,
        tail in 0usize..8,
        offset in 0u64..3 * 512,
    ) {
        let _accounting = Accounting::start();
        let bytes = pattern(200 * 4096 + tail * 512);
        let drive = Drive::new(Kind { depth, most_pages, ..Kind::default() }, bytes.clone());
        let cache = PageCache::new(drive.disk().clone()).unwrap();
        let extent = whole(&cache).part(offset..bytes.len() as u64).unwrap();
        let bytes = &bytes[offset as usize..];
        let aheads: Vec<ReadAhead> = reads.iter().map(|_| ReadAhead::default()).collect();
        let futures = reads.iter().zip(&aheads).map(|(&(at, length), ahead)| {
            let future: std::pin::Pin<Box<dyn Future<Output = _>>> = Box::pin(read(&extent, ahead, at, length));
            future
        });
        let mut order = order.iter().cycle();
        let results = drive.run(futures.collect(), |_| *order.next().unwrap());
        for (result, (at, length)) in results.into_iter().zip(&reads) {
            let at = (*at as usize).min(bytes.len());
            let end = (at + length).min(bytes.len());
            prop_assert_eq!(result.unwrap(), bytes[at..end].to_vec());
        }
        drive.answer_all();
    }
}
