//! Driver numbers: who has which, on both levels of a CPU's bitmap.

#![expect(unsafe_code, reason = "groups are published by pointer and live for ever")]

use alloc::boxed::Box;

use crate::{
    cpu::PerCpu,
    platform::Platform,
    prim::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    ready::{DIRECT, GROUP_DRIVERS, GROUPS, Group, group_bit, group_driver},
    slab::Slab,
    task::{Head, NONE, Task},
};

/// Where a number of the second level stands.
#[derive(Clone, Copy)]
struct Place {
    group: usize,
    index: usize,
}

const fn place(driver: u32) -> Option<Place> {
    let Some(beyond) = driver.checked_sub(DIRECT) else {
        return None;
    };
    Some(Place {
        group: (beyond / GROUP_DRIVERS) as usize,
        index: (beyond % GROUP_DRIVERS) as usize,
    })
}

/// Takes the lowest unset bit below `limit`.
fn take_bit(used: &AtomicU64, limit: u32) -> Option<u32> {
    let mut word = used.load(Relaxed);
    loop {
        let bit = word.trailing_ones();
        if bit >= limit {
            return None;
        }
        match used.compare_exchange(word, word | 1 << bit, AcqRel, Relaxed) {
            Ok(_) => return Some(bit),
            Err(now) => word = now,
        }
    }
}

impl<P: Platform> PerCpu<P> {
    /// A group, if it was ever needed.
    pub fn group(&self, group: usize) -> Option<&Group> {
        let group = self.groups.get(group)?.load(Acquire);
        // SAFETY: null, or published whole by `group_or_new` and alive as long as the CPU's record.
        unsafe { group.as_ref() }
    }

    fn group_or_new(&self, number: usize) -> Option<&Group> {
        if self.group(number).is_none() {
            let mut room = alloc::vec::Vec::new();
            room.try_reserve_exact(1).ok()?;
            room.push(Group::new());
            let fresh: *mut Group = Box::into_raw(room.into_boxed_slice()).cast();
            let published = self.groups[number]
                .compare_exchange(core::ptr::null_mut(), fresh, AcqRel, Acquire)
                .is_ok();
            if !published {
                // SAFETY: nobody else has seen it; a slice of one is laid out as its element.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
        self.group(number)
    }

    /// Takes the lowest free number; `None` if there is none, or no memory for another group.
    pub fn reserve_driver(&self) -> Option<u32> {
        if let Some(bit) = take_bit(&self.drivers_used, DIRECT) {
            return Some(bit);
        }
        for number in 0..GROUPS {
            let group = self.group_or_new(number)?;
            for (word, used) in group.used.iter().enumerate() {
                let limit = 64.min(GROUP_DRIVERS);
                if let Some(bit) = take_bit(used, limit) {
                    return Some(group_driver(number, word * 64 + bit as usize));
                }
            }
        }
        None
    }

    /// Sets the task that a reserved number stands for.
    pub fn set_driver(&self, driver: u32, slot: u32) {
        match place(driver) {
            None => self.drivers[driver as usize].store(slot, Release),
            Some(place) => {
                if let Some(group) = self.group(place.group) {
                    group.slots[place.index].store(slot, Release);
                }
            }
        }
    }

    /// Gives a number back. Its bit may still be ready: it then finds no task, or the next one looks once in vain.
    pub fn release_driver(&self, driver: u32) {
        self.set_driver(driver, NONE);
        match place(driver) {
            None => {
                self.drivers_used.fetch_and(!(1 << driver), AcqRel);
            }
            Some(place) => {
                if let Some(group) = self.group(place.group) {
                    group.used[place.index / 64].fetch_and(!(1 << (place.index % 64)), AcqRel);
                }
            }
        }
    }

    /// The task that a number of the first level stands for.
    #[inline]
    pub fn driver<'a>(&self, slab: &'a Slab<Head>, driver: usize) -> Option<Task<'a>> {
        slab.get(self.drivers.get(driver)?.load(Acquire))
    }

    /// The task that a number of either level stands for.
    pub fn any_driver<'a>(&self, slab: &'a Slab<Head>, driver: u32) -> Option<Task<'a>> {
        let Some(place) = place(driver) else {
            return self.driver(slab, driver as usize);
        };
        let slot = self.group(place.group)?.slots.get(place.index)?;
        slab.get(slot.load(Acquire))
    }

    /// The bits of the ready word that make a driver ready; the second level's bit has been set. 0 for a number that
    /// nobody has ever had.
    #[inline]
    pub fn mark_driver(&self, driver: u32) -> u64 {
        if driver < DIRECT {
            return 1 << driver;
        }
        self.mark_in_group(driver)
    }

    fn mark_in_group(&self, driver: u32) -> u64 {
        let Some(place) = place(driver) else { return 0 };
        let Some(group) = self.group(place.group) else {
            return 0;
        };
        group.ready[place.index / 64].fetch_or(1 << (place.index % 64), AcqRel);
        group_bit(place.group)
    }
}

impl<P: Platform> Drop for PerCpu<P> {
    fn drop(&mut self) {
        for group in &self.groups {
            let group = group.load(Acquire);
            if !group.is_null() {
                // SAFETY: made by `group_or_new`; `&mut self` says nobody looks any more.
                drop(unsafe { Box::from_raw(group) });
            }
        }
    }
}
