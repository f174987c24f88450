//! The map of physical memory.

/// A run of physical memory, in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Range {
    /// No memory.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// The run of `length` bytes from `start` on, cut at the end of the address space.
    pub const fn new(start: u64, length: u64) -> Self {
        Self {
            start,
            end: start.saturating_add(length),
        }
    }

    /// Bytes in it.
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a run of memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryKind {
    /// RAM for the kernel to use, but for what the block itself names: the image, the initramfs, a device tree.
    Usable = 1,
    /// RAM with firmware's tables in it: to be read, not used.
    Tables = 2,
    /// RAM that is firmware's own: not to be touched.
    Firmware = 3,
}

impl MemoryKind {
    const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Usable),
            2 => Some(Self::Tables),
            3 => Some(Self::Firmware),
            _ => None,
        }
    }
}

/// A run and what it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// Where.
    pub range: Range,
    kind: u32,
    reserved: u32,
}

impl MemoryRange {
    const EMPTY: Self = Self {
        range: Range::EMPTY,
        kind: 0,
        reserved: 0,
    };

    /// What it is; `None` for what this version does not know, which is to be left alone.
    pub const fn kind(&self) -> Option<MemoryKind> {
        MemoryKind::from_number(self.kind)
    }
}

/// Runs in the order in which firmware told them: not sorted, and no more disjoint than firmware had them.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct MemoryMap {
    length: u32,
    /// Bytes of [`MemoryKind::Usable`] runs that found no room, in KiB.
    lost_kib: u32,
    ranges: [MemoryRange; Self::MOST],
}

impl MemoryMap {
    /// Runs, at most.
    pub const MOST: usize = 192;

    /// No memory.
    pub const EMPTY: Self = Self {
        length: 0,
        lost_kib: 0,
        ranges: [MemoryRange::EMPTY; Self::MOST],
    };

    pub(crate) const fn is_sound(&self) -> bool {
        self.length as usize <= Self::MOST
    }

    /// The runs.
    pub fn ranges(&self) -> &[MemoryRange] {
        &self.ranges[..(self.length as usize).min(Self::MOST)]
    }

    /// The runs of one kind.
    pub fn of(&self, kind: MemoryKind) -> impl Iterator<Item = Range> + Clone {
        self.ranges()
            .iter()
            .filter(move |range| range.kind == kind as u32)
            .map(|range| range.range)
    }

    /// Adds a run; one that continues the last of the same kind makes that longer. Without room it is left out: memory
    /// that nobody will use, or, where it is not usable, that nobody knows.
    pub fn push(&mut self, range: Range, kind: MemoryKind) {
        if range.is_empty() {
            return;
        }
        let length = self.length as usize;
        if let Some(last) = self.ranges[..length].last_mut()
            && last.kind == kind as u32
            && last.range.end == range.start
        {
            last.range.end = range.end;
            return;
        }
        let Some(place) = self.ranges.get_mut(length) else {
            if kind == MemoryKind::Usable {
                let kib = u32::try_from(range.len() >> 10).unwrap_or(u32::MAX);
                self.lost_kib = self.lost_kib.saturating_add(kib);
            }
            return;
        };
        *place = MemoryRange {
            range,
            kind: kind as u32,
            reserved: 0,
        };
        self.length += 1;
    }

    /// Usable memory that found no room in the map, in KiB.
    pub const fn lost_kib(&self) -> u32 {
        self.lost_kib
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_a_kind_are_one_run() {
        let mut map = MemoryMap::EMPTY;
        map.push(Range::new(0x1000, 0x1000), MemoryKind::Usable);
        map.push(Range::new(0x2000, 0x3000), MemoryKind::Usable);
        map.push(Range::new(0x5000, 0x1000), MemoryKind::Tables);
        map.push(Range::new(0x6000, 0), MemoryKind::Usable);
        assert_eq!(map.ranges().len(), 2);
        assert_eq!(map.of(MemoryKind::Usable).next(), Some(Range::new(0x1000, 0x4000)));
        assert_eq!(map.ranges()[1].kind(), Some(MemoryKind::Tables));
    }

    #[test]
    fn a_full_map_counts_what_it_loses() {
        let mut map = MemoryMap::EMPTY;
        for number in 0..MemoryMap::MOST as u64 + 2 {
            map.push(Range::new(number * 0x2000, 0x1000), MemoryKind::Usable);
        }
        assert_eq!(map.ranges().len(), MemoryMap::MOST);
        assert_eq!(map.lost_kib(), 8);
    }

    #[test]
    fn a_range_ends_where_addresses_end() {
        assert_eq!(Range::new(u64::MAX - 1, 10).end, u64::MAX);
        assert_eq!(Range { start: 8, end: 4 }.len(), 0);
    }
}
