//! Caches of what can be had again, and what they give back when frames run short.
//!
//! Two callers ask for it. The keeper of [`shortage`](super::shortage), before it ends a process for its memory, and
//! whenever less is free than the zone's ebb mark, so that who may not wait for memory seldom finds none. And a cache
//! itself that wants to grow where little is free: it then takes the place of other pages, its own among them.

use alloc::{sync::Weak, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{fallible::TryRoom, frame, shortage};
use crate::{
    errno::Result,
    sync::{Rank, SpinLock},
};

/// A cache.
pub trait Reclaim: Send + Sync {
    /// Gives back about `pages` of its pages that nobody uses at the moment, those first that were not used for long; how
    /// many. Called with no lock held that comes after [`Rank::OpenFile`].
    fn reclaim(&self, pages: usize) -> usize;

    /// Pages that it holds.
    fn pages(&self) -> usize;
}

static CACHES: SpinLock<Vec<Weak<dyn Reclaim>>> = SpinLock::new(Rank::Caches, Vec::new());
/// The cache that is asked first next time.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Makes a cache known; it is forgotten once it is gone.
///
/// # Errors
/// `ENOMEM`.
pub fn register(cache: Weak<dyn Reclaim>) -> Result<()> {
    let mut caches = CACHES.lock();
    caches.retain(|cache| cache.strong_count() > 0);
    caches.try_room(1)?;
    caches.push(cache);
    Ok(())
}

fn cache(index: usize) -> Option<Weak<dyn Reclaim>> {
    CACHES.lock().get(index).cloned()
}

/// Has the caches give back about `pages` pages; how many they gave. Zero: there are no more that could go.
pub fn reclaim(pages: usize) -> usize {
    let count = CACHES.lock().len();
    let first = NEXT.fetch_add(1, Relaxed);
    let mut given = 0;
    for index in 0..count {
        if given >= pages {
            break;
        }
        let cache = cache(first.wrapping_add(index) % count).and_then(|cache| cache.upgrade());
        given += cache.map_or(0, |cache| cache.reclaim(pages - given));
    }
    given
}

/// Pages that all caches hold, mapped ones included.
pub fn cached_pages() -> usize {
    let mut pages = 0;
    let mut index = 0;
    while let Some(cache) = cache(index) {
        pages += cache.upgrade().map_or(0, |cache| cache.pages());
        index += 1;
    }
    pages
}

/// Has `pages` frames free beyond the ebb mark by making caches smaller, as far as there are caches to make smaller.
pub fn make_way(pages: usize) {
    let wanted = frame::ebb() + pages;
    let free = frame::stats().free;
    let short = wanted.saturating_sub(free);
    shortage::set_caches_give(short == 0 || reclaim(short) > 0);
}

/// Has room for `pages` pages that a cache is about to take.
pub fn grow(pages: usize) {
    make_way(pages);
    shortage::set_caches_give(true);
}
