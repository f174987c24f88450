//! Which memory the kernel maps, and which of it is free: the same for every firmware's map.

use arrayvec::ArrayVec;
use boot_info::{MemoryKind, MemoryMap, Range};

use crate::{
    PAGE_SIZE,
    addr::PhysAddr,
    boot_info::{Initramfs, PhysRange},
};

/// Runs kept apart, at most; memory beyond is left unused.
pub const MOST_RANGES: usize = MemoryMap::MOST;

/// Runs of memory: page-aligned, disjoint, ascending.
pub type Ranges = ArrayVec<PhysRange, MOST_RANGES>;

const PAGE: u64 = PAGE_SIZE as u64;

impl From<Range> for PhysRange {
    fn from(range: Range) -> Self {
        Self {
            start: PhysAddr(range.start),
            end: PhysAddr(range.end.max(range.start)),
        }
    }
}

/// Memory as the kernel sees it.
#[derive(Debug)]
pub struct MemoryLayout {
    /// All RAM that firmware tells of, in bytes.
    pub total_ram: u64,
    /// What the direct map shows: RAM but for what is firmware's own, and all that the kernel was loaded with.
    pub mapped: Ranges,
    /// What nobody has yet.
    pub free: Ranges,
    /// What is the kernel's, whether somebody has it already or not.
    usable: Ranges,
}

impl MemoryLayout {
    /// Lays out `map`. `taken` is what of its usable memory is somebody's already, in any order.
    pub fn new(map: &MemoryMap, taken: &[PhysRange]) -> Self {
        let of = |kind| map.of(kind).map(PhysRange::from);
        let mut holes: ArrayVec<PhysRange, { 2 * MOST_RANGES }> = of(MemoryKind::Firmware).collect();
        let shown: Ranges = of(MemoryKind::Usable).chain(of(MemoryKind::Tables)).collect();
        let mut mapped = subtract(&united(shown), &holes);
        // What the kernel was loaded with it has to reach, also where firmware says that the memory is its own: a loader may not
        // have asked it.
        let pages = |range: &PhysRange| PhysRange {
            start: range.start.page_floor(),
            end: PhysAddr(range.end.0.checked_next_multiple_of(PAGE).unwrap_or(range.end.0)),
        };
        mapped.extend(
            taken
                .iter()
                .filter(|range| !range.is_empty())
                .map(pages)
                .take(mapped.remaining_capacity()),
        );
        let mapped = united(mapped);
        // A map of firmware's has fewer runs than there is room for, and those taken are a handful.
        holes.extend(of(MemoryKind::Tables).take(holes.remaining_capacity()));
        let usable = subtract(&united(of(MemoryKind::Usable).collect()), &holes);
        holes.extend(taken.iter().copied().take(holes.remaining_capacity()));
        let free = subtract(&united(of(MemoryKind::Usable).collect()), &holes);
        let all: Ranges = map
            .ranges()
            .iter()
            .filter(|run| run.kind().is_some())
            .map(|run| run.range.into())
            .collect();
        Self {
            total_ram: united(all).iter().map(PhysRange::len).sum(),
            mapped,
            free,
            usable,
        }
    }

    /// The initramfs in `range`, if there is one.
    pub fn initramfs(&self, range: PhysRange) -> Option<Initramfs> {
        let within = |run: &PhysRange| run.start <= range.start && range.end <= run.end;
        (!range.is_empty()).then(|| Initramfs {
            range,
            reusable: self.usable.iter().any(within),
        })
    }

    /// Whether the direct map shows all of a range.
    #[cfg(any(target_arch = "aarch64", test))]
    pub fn shows(&self, range: PhysRange) -> bool {
        self.mapped
            .iter()
            .any(|run| run.start <= range.start && range.end <= run.end && range.start <= range.end)
    }

    /// Whether the direct map shows any of a range.
    pub fn touches(&self, range: PhysRange) -> bool {
        self.mapped
            .iter()
            .any(|run| run.start < range.end && range.start < run.end)
    }
}

/// The same memory, ascending, and each byte once.
fn united(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut out = Ranges::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            // There were no more before.
            _ => out.push(range),
        }
    }
    out
}

/// `ranges` without what `holes` cover, in whole pages that are in one and in no part of the others. Pieces beyond the
/// last that there is room for are left out.
fn subtract(ranges: &[PhysRange], holes: &[PhysRange]) -> Ranges {
    let mut out = Ranges::new();
    for range in ranges {
        let mut at = range.start.0.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let end = range.end.0 & !(PAGE - 1);
        while at < end {
            // The lowest hole that ends above `at`: either it covers `at`, or it bounds the piece that starts there.
            let next = holes
                .iter()
                .filter(|hole| !hole.is_empty() && hole.end.0 > at)
                .min_by_key(|hole| hole.start.0);
            let stop = next.map_or(end, |hole| (hole.start.0 & !(PAGE - 1)).clamp(at, end));
            let piece = PhysRange {
                start: PhysAddr(at),
                end: PhysAddr(stop),
            };
            if stop > at && out.try_push(piece).is_err() {
                return out;
            }
            at = next
                .map_or(end, |hole| hole.end.0.checked_next_multiple_of(PAGE).unwrap_or(end))
                .max(stop);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(runs: &[(u64, u64, MemoryKind)]) -> MemoryMap {
        let mut map = MemoryMap::EMPTY;
        for &(start, end, kind) in runs {
            map.push(Range { start, end }, kind);
        }
        map
    }

    fn pairs(ranges: &[PhysRange]) -> Vec<(u64, u64)> {
        ranges.iter().map(|range| (range.start.0, range.end.0)).collect()
    }

    fn range(start: u64, end: u64) -> PhysRange {
        Range { start, end }.into()
    }

    #[test]
    fn tables_are_shown_and_not_free() {
        let map = map(&[
            (0x8000, 0x9000, MemoryKind::Tables),
            (0x1000, 0x8000, MemoryKind::Usable),
            (0x9000, 0xa000, MemoryKind::Firmware),
            (0xa000, 0xc000, MemoryKind::Usable),
        ]);
        let layout = MemoryLayout::new(&map, &[range(0x2800, 0x3800)]);
        assert_eq!(pairs(&layout.mapped), [(0x1000, 0x9000), (0xa000, 0xc000)]);
        assert_eq!(
            pairs(&layout.free),
            [(0x1000, 0x2000), (0x4000, 0x8000), (0xa000, 0xc000)]
        );
        assert_eq!(layout.total_ram, 0xb000);
        assert!(layout.shows(range(0x7ff0, 0x8010)));
        assert!(layout.touches(range(0x8ff0, 0x9010)) && !layout.touches(range(0x9000, 0xa000)));
        assert!(!layout.shows(range(0x8ff0, 0x9010)) && !layout.shows(range(0xb000, 0xc001)));
    }

    #[test]
    fn what_the_kernel_was_loaded_with_is_shown_wherever_it_is() {
        let map = map(&[
            (0x1000, 0x8000, MemoryKind::Usable),
            (0x8000, 0xa000, MemoryKind::Firmware),
        ]);
        let layout = MemoryLayout::new(&map, &[range(0x6800, 0x8123), range(0, 0)]);
        assert_eq!(pairs(&layout.mapped), [(0x1000, 0x9000)]);
        assert_eq!(pairs(&layout.free), [(0x1000, 0x6000)]);
    }

    #[test]
    fn overlapping_runs_count_once_and_the_stricter_kind_wins() {
        let map = map(&[
            (0x1000, 0x5000, MemoryKind::Usable),
            (0x3000, 0x8000, MemoryKind::Usable),
            (0x4000, 0x6000, MemoryKind::Firmware),
        ]);
        let layout = MemoryLayout::new(&map, &[]);
        assert_eq!(pairs(&layout.mapped), [(0x1000, 0x4000), (0x6000, 0x8000)]);
        assert_eq!(pairs(&layout.free), pairs(&layout.mapped));
        assert_eq!(layout.total_ram, 0x7000);
    }

    #[test]
    fn parts_of_pages_are_nobody_s() {
        let map = map(&[
            (0x1001, 0x3fff, MemoryKind::Usable),
            (0x5000, 0x5fff, MemoryKind::Usable),
            (u64::MAX - 10, u64::MAX, MemoryKind::Usable),
        ]);
        let layout = MemoryLayout::new(&map, &[range(0x2fff, 0x3000)]);
        assert_eq!(pairs(&layout.mapped), [(0x2000, 0x3000)]);
        assert_eq!(pairs(&layout.free), []);
    }

    #[test]
    fn an_initramfs_is_reusable_where_its_memory_is_the_kernel_s() {
        let map = map(&[
            (0x1000, 0x9000, MemoryKind::Usable),
            (0x5000, 0x6000, MemoryKind::Firmware),
            (0x8000, 0x9000, MemoryKind::Tables),
        ]);
        let all = [
            range(0x1800, 0x2fff),
            range(0x4000, 0x5001),
            range(0x7000, 0x8800),
            range(0x9000, 0xa000),
        ];
        let layout = MemoryLayout::new(&map, &all);
        let reusable = all.map(|range| layout.initramfs(range).map(|initramfs| initramfs.reusable));
        assert_eq!(reusable, [Some(true), Some(false), Some(false), Some(false)]);
        assert_eq!(layout.initramfs(range(0x3000, 0x3000)), None);
    }

    proptest::proptest! {
        #[test]
        fn free_memory_is_usable_and_nobody_s(
            runs in proptest::collection::vec((0u64..64, 0u64..16, 0usize..3), 0..20),
            taken in proptest::collection::vec((0u64..70, 0u64..8), 0..4),
        ) {
            let kinds = [MemoryKind::Usable, MemoryKind::Tables, MemoryKind::Firmware];
            let runs: Vec<_> = runs
                .into_iter()
                .map(|(start, length, kind)| (start * PAGE / 2, (start + length) * PAGE / 2, kinds[kind]))
                .collect();
            let taken: Vec<_> = taken
                .into_iter()
                .map(|(start, length)| range(start * PAGE / 2, (start + length) * PAGE / 2))
                .collect();
            let layout = MemoryLayout::new(&map(&runs), &taken);
            let is = |kind, at| runs.iter().any(|&(start, end, of)| of == kind && (start..end).contains(&at));
            let holds = |ranges: &[PhysRange], at| ranges.iter().any(|range| (range.start.0..range.end.0).contains(&at));
            for page in 0..48 {
                let halves = [page * PAGE, page * PAGE + PAGE / 2];
                let owned = halves.iter().any(|&at| {
                    holds(&taken, at) || is(MemoryKind::Tables, at) || is(MemoryKind::Firmware, at)
                });
                let usable = halves.iter().all(|&at| is(MemoryKind::Usable, at));
                assert_eq!(holds(&layout.free, halves[0]), usable && !owned, "page {page}");
            }
            for ranges in [&layout.free, &layout.mapped] {
                assert!(ranges.is_sorted_by(|one, other| one.end <= other.start));
            }
        }
    }
}
