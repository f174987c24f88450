//! Values in numbered places.

use alloc::vec::Vec;

use crate::{
    errno::Result,
    mm::fallible::{TryRoom, TryRoomExact},
};

/// No place.
pub const NOWHERE: u32 = u32::MAX;

/// Places that are allocated and freed together.
const CHUNK: usize = 64;

enum Slot<T> {
    /// Free, and the next that is free in its chunk.
    Free(u32),
    Used(T),
}

struct Chunk<T> {
    slots: Vec<Slot<T>>,
    free: u32,
    used: u32,
}

/// Values in places that keep their numbers. Growing moves a chunk's worth at most, and a chunk that is empty is freed: so
/// neither takes long, and what is left of many takes no more than its chunks.
pub struct Slots<T> {
    chunks: Vec<Chunk<T>>,
    /// No chunk below this has room.
    roomy: usize,
    used: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slots<T> {
    /// Nothing.
    pub const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            roomy: 0,
            used: 0,
        }
    }

    /// How many values there are.
    pub const fn used(&self) -> usize {
        self.used
    }

    /// One past the highest number in use.
    pub const fn end(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    /// Puts a value somewhere; where.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn insert(&mut self, value: T) -> Result<u32> {
        while self
            .chunks
            .get(self.roomy)
            .is_some_and(|chunk| chunk.used as usize == CHUNK)
        {
            self.roomy += 1;
        }
        if self.roomy == self.chunks.len() {
            self.chunks.try_room(1)?;
            self.chunks.push(Chunk {
                slots: Vec::new(),
                free: NOWHERE,
                used: 0,
            });
        }
        let small = self.chunks.len() == 1;
        let chunk = &mut self.chunks[self.roomy];
        let at = if chunk.free == NOWHERE {
            if chunk.slots.len() == chunk.slots.capacity() {
                let more = if small { chunk.slots.len().max(1) } else { CHUNK };
                chunk.slots.try_room_exact(more.min(CHUNK - chunk.slots.len()))?;
            }
            chunk.slots.push(Slot::Used(value));
            chunk.slots.len() - 1
        } else {
            let at = chunk.free as usize;
            if let Slot::Free(next) = core::mem::replace(&mut chunk.slots[at], Slot::Used(value)) {
                chunk.free = next;
            }
            at
        };
        chunk.used += 1;
        self.used += 1;
        Ok((self.roomy * CHUNK + at) as u32)
    }

    /// The value at a place.
    pub fn get(&self, place: u32) -> Option<&T> {
        let place = place as usize;
        match self.chunks.get(place / CHUNK)?.slots.get(place % CHUNK)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// The value at a place.
    pub fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        let place = place as usize;
        match self.chunks.get_mut(place / CHUNK)?.slots.get_mut(place % CHUNK)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// The first place from `place` on that is used.
    pub fn next(&self, mut place: u32) -> Option<u32> {
        loop {
            let chunk = self.chunks.get(place as usize / CHUNK)?;
            if chunk.used > 0 && self.get(place).is_some() {
                return Some(place);
            }
            place = if chunk.used == 0 {
                (place as usize / CHUNK * CHUNK + CHUNK) as u32
            } else {
                place + 1
            };
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, place: u32) -> Option<T> {
        self.get(place)?;
        let (number, at) = (place as usize / CHUNK, place as usize % CHUNK);
        let chunk = self.chunks.get_mut(number)?;
        let Slot::Used(value) = core::mem::replace(&mut chunk.slots[at], Slot::Free(chunk.free)) else {
            return None;
        };
        chunk.free = at as u32;
        chunk.used -= 1;
        self.used -= 1;
        if chunk.used == 0 {
            (chunk.slots, chunk.free) = (Vec::new(), NOWHERE);
            while self.chunks.last().is_some_and(|last| last.used == 0) {
                self.chunks.pop();
            }
        }
        if self.used == 0 {
            self.chunks = Vec::new();
        }
        self.roomy = self.roomy.min(number).min(self.chunks.len());
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_keep_their_values(steps in proptest::collection::vec((0u32..3, any::<u32>()), 1..600)) {
            let (mut slots, mut model) = (Slots::new(), BTreeMap::new());
            for (step, value) in steps {
                if step > 0 {
                    let place = slots.insert(value).unwrap();
                    prop_assert_eq!(model.insert(place, value), None);
                } else {
                    let chosen = model.keys().nth(value as usize % model.len().max(1)).copied();
                    prop_assert_eq!(chosen.and_then(|place| slots.remove(place)), chosen.and_then(|place| model.remove(&place)));
                    prop_assert_eq!(chosen.and_then(|place| slots.remove(place)), None);
                }
                prop_assert_eq!(slots.used(), model.len());
            }
            let mut found = Vec::new();
            let mut from = 0;
            while let Some(place) = slots.next(from) {
                found.push((place, *slots.get(place).unwrap()));
                from = place + 1;
            }
            prop_assert_eq!(found, model.iter().map(|(place, value)| (*place, *value)).collect::<Vec<_>>());
            for place in model.into_keys() {
                slots.remove(place);
            }
            prop_assert_eq!(slots.end(), 0, "nothing is kept of what is gone");
        }
    }
}
