//! Files on disks, over a simulated disk: the page cache, partitions, block devices, a root file system. A process of its own,
//! because it counts frames and takes them away.

mod archive;
mod cache;
#[path = "../common/mod.rs"]
mod common;
mod device;
#[path = "../common/disk.rs"]
mod disk;
mod gpt;
mod memory;

use std::sync::{Arc, MutexGuard};

use disk::{Drive, Kind, pattern};
use kernel::{
    errno::Result,
    fs::{
        Sink,
        block_device::Extent,
        page_cache::{PageCache, ReadAhead},
    },
    mm::frame,
};

const PAGE: u64 = 4096;

/// Runs one test at a time and checks that it leaves as many frames free as it found.
struct Accounting {
    free: usize,
    _turn: MutexGuard<'static, ()>,
}

impl Accounting {
    fn start() -> Self {
        let turn = common::turn();
        kernel::mm::AddressSpace::deactivate_current();
        kernel::mm::reclaim::reclaim(usize::MAX);
        frame::trim();
        Self {
            free: frame::stats().free,
            _turn: turn,
        }
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            kernel::mm::AddressSpace::deactivate_current();
            // Devices are never forgotten, what they have cached is.
            kernel::mm::reclaim::reclaim(usize::MAX);
            frame::trim();
            assert_eq!(frame::stats().free, self.free, "frames are lost or doubled");
        }
    }
}

/// A disk of so many pages with a pattern on it, and its cache.
fn patterned(pages: usize, kind: Kind) -> (Drive, Arc<PageCache>) {
    let drive = Drive::new(kind, pattern(pages * PAGE as usize));
    let cache = PageCache::new(drive.disk().clone()).unwrap();
    (drive, cache)
}

/// All of a disk.
fn whole(cache: &Arc<PageCache>) -> Extent {
    let bytes = cache.disk().geometry().sectors * 512;
    Extent::new(cache.clone(), 0..bytes).unwrap()
}

/// Reads by attempts and waits for them.
async fn read(extent: &Extent, ahead: &ReadAhead, at: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut position = at;
    let mut sink = Sink::kernel(&mut bytes);
    while !sink.is_complete() {
        let before = sink.done();
        sink.open_window();
        let place = position;
        let mut attempt = || match extent.read(ahead, &mut position, &mut sink) {
            Err(kernel::fs::Stop::WouldBlock) if position == place => None,
            Err(kernel::fs::Stop::WouldBlock) => Some(Ok(())),
            Err(kernel::fs::Stop::Errno(errno)) => Some(Err(errno)),
            Err(stop) => panic!("{stop:?}"),
            Ok(()) => Some(Ok(())),
        };
        match attempt() {
            Some(made) => made?,
            None => {
                // The way a system call waits: at the place that it has come to.
                extent.arrivals(place).wait_again_until(attempt).await?;
            }
        }
        if sink.done() == before {
            break;
        }
    }
    let done = sink.done();
    bytes.truncate(done);
    Ok(bytes)
}
