//! Looking through translation tables, most of whose entries are empty: four levels of 512 entries on every machine here, the
//! last of 4 KiB pages.
//!
//! An entry that points to a table says, in eight bits that the machine leaves to software, in which eighths of that table there
//! has been anything since it was made: the rest is never looked at. The root has no such entry and is looked through whole.

use core::{
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Entries that are looked at together: a cache line of them.
const LINE: usize = 8;
/// Entries of an eighth of a table.
const EIGHTH: usize = 64;
/// All eighths of a table.
pub const WHOLE: u8 = u8::MAX;

/// Visits the entries of a table that are not empty, from `first` on and below `end`, in those `eighths` that may have some, until
/// `visit` breaks off: index, entry, value.
pub fn visit_used<'a>(
    entries: &'a [AtomicU64],
    eighths: u8,
    first: usize,
    end: usize,
    mut visit: impl FnMut(usize, &'a AtomicU64, u64) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let end = end.min(entries.len());
    let mut ahead = u32::from(eighths) & u32::MAX.checked_shl((first / EIGHTH) as u32).unwrap_or(0);
    while ahead != 0 {
        let eighth = ahead.trailing_zeros() as usize * EIGHTH;
        ahead &= ahead - 1;
        let from = eighth.max(first);
        let Some(part) = entries.get(from..end.min(eighth + EIGHTH)) else {
            break;
        };
        // Lines from where the range begins: most are empty, and passed over at once.
        let (lines, rest) = part.as_chunks::<LINE>();
        for (number, line) in lines.iter().enumerate() {
            if line.iter().fold(0, |all, entry| all | entry.load(Relaxed)) != 0 {
                visit_line(line, from + number * LINE, &mut visit)?;
            }
        }
        visit_line(rest, from + lines.len() * LINE, &mut visit)?;
    }
    ControlFlow::Continue(())
}

#[inline]
fn visit_line<'a>(
    line: &'a [AtomicU64],
    first: usize,
    visit: &mut impl FnMut(usize, &'a AtomicU64, u64) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for (index, entry) in (first..).zip(line) {
        let value = entry.load(Relaxed);
        if value != 0 {
            visit(index, entry, value)?;
        }
    }
    ControlFlow::Continue(())
}

/// A table, as the walk knows it.
pub trait Table: Copy {
    /// The lowest of eight bits in an entry above the last level that the machine ignores.
    const EIGHTHS: u32;
    /// Its entries.
    fn entries(self) -> &'static [AtomicU64];
    /// The table that an entry of one above the last level points to.
    fn below(entry: u64) -> Option<Self>;
}

/// Notes in an entry, which points to a table, that there will be something at `index` of that. Before it is put there, by who may
/// change the tables.
#[inline]
pub fn note<T: Table>(entry: &AtomicU64, index: usize) {
    let bit = 1 << (T::EIGHTHS as usize + index / EIGHTH);
    if entry.load(Relaxed) & bit == 0 {
        // The machine may set other bits meanwhile.
        entry.fetch_or(bit, Relaxed);
    }
}

/// Puts into those entries of `first..end` that are empty (`is_free`) what `fill`, given the index, has for each. `first..end`
/// lies within an eighth.
pub fn fill(
    entries: &[AtomicU64],
    first: usize,
    end: usize,
    is_free: impl Fn(u64) -> bool,
    mut fill: impl FnMut(usize) -> Option<u64>,
) {
    debug_assert!(
        first >= end || first / EIGHTH == (end - 1) / EIGHTH,
        "{first}..{end} in several eighths"
    );
    for (index, entry) in (first..end).zip(entries.get(first..end).unwrap_or_default()) {
        if is_free(entry.load(Relaxed))
            && let Some(value) = fill(index)
        {
            entry.store(value, Relaxed);
        }
    }
}

/// In which eighths of the table that an entry points to there may be something.
fn eighths<T: Table>(entry: u64) -> u8 {
    (entry >> T::EIGHTHS) as u8
}

/// Bits of an address below the index of a table so many levels above the last.
const fn shift(above: u32) -> u32 {
    12 + 9 * above
}

/// Visits the entries in use of the last level that are for addresses of `start..end`, in ascending order until `visit` breaks off:
/// address, entry, value.
/// `table` stands `above` levels above the last and is for addresses from `base` on.
pub fn visit_pages<T: Table>(
    table: T,
    above: u32,
    base: u64,
    (start, end): (u64, u64),
    visit: &mut impl FnMut(u64, &AtomicU64, u64) -> ControlFlow<()>,
) {
    let _stopped = visit_below(table, WHOLE, above, base, (start, end), visit);
}

fn visit_below<T: Table>(
    table: T,
    parts: u8,
    above: u32,
    base: u64,
    (start, end): (u64, u64),
    visit: &mut impl FnMut(u64, &AtomicU64, u64) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let first = (start.saturating_sub(base) >> shift(above)) as usize;
    let last = end.saturating_sub(base).div_ceil(1 << shift(above)) as usize;
    visit_used(table.entries(), parts, first, last, |index, entry, value| {
        let address = base + ((index as u64) << shift(above));
        if above == 0 {
            visit(address, entry, value)
        } else if let Some(below) = T::below(value) {
            visit_below(below, eighths::<T>(value), above - 1, address, (start, end), visit)
        } else {
            ControlFlow::Continue(())
        }
    })
}

/// Gives `free` every table below `table`, which stands `above` levels above the last, by its first `end` entries; then the table.
pub fn free_tables<T: Table>(table: T, above: u32, end: usize, free: &mut impl FnMut(T)) {
    free_below(table, WHOLE, above, end, free);
}

fn free_below<T: Table>(table: T, parts: u8, above: u32, end: usize, free: &mut impl FnMut(T)) {
    if above > 0 {
        let _all = visit_used(table.entries(), parts, 0, end, |_, _, value| {
            if let Some(below) = T::below(value) {
                free_below(below, eighths::<T>(value), above - 1, usize::MAX, free);
            }
            ControlFlow::Continue(())
        });
    }
    free(table);
}

#[cfg(test)]
mod tests {
    use std::{boxed::Box, sync::LazyLock, vec, vec::Vec};

    use super::*;

    /// A number in [`TABLES`]: 0 is the root, each other stands where its parent's entry with its number is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Simulated(usize);

    /// (table, index) and what is there: below the root 1 and 2, below these 3 and 4, below these 5, 6 and 7 with pages.
    static TABLES: LazyLock<Vec<Box<[AtomicU64]>>> = LazyLock::new(|| {
        let tables: Vec<Box<[AtomicU64]>> = (0..8).map(|_| (0..512).map(|_| AtomicU64::new(0)).collect()).collect();
        let links = [
            (0, 0, 1),
            (0, 511, 2),
            (1, 3, 3),
            (2, 0, 4),
            (3, 0, 5),
            (3, 1, 6),
            (4, 511, 7),
        ];
        let pages = [(5, 511, 100), (6, 0, 101), (6, 200, 102), (7, 0, 103), (7, 511, 104)];
        for (table, index, value) in links.into_iter().chain(pages) {
            tables[table][index].store(value, Relaxed);
        }
        // In any order: what links to a table may itself be noted later.
        for (table, index, _) in links.into_iter().chain(pages) {
            for (above, at, _) in links.into_iter().filter(|(.., below)| *below == table as u64) {
                note::<Simulated>(&tables[above][at], index);
            }
        }
        tables
    });

    impl Table for Simulated {
        fn entries(self) -> &'static [AtomicU64] {
            &TABLES[self.0]
        }

        fn below(entry: u64) -> Option<Self> {
            let number = entry & 0xffff;
            (number < 100).then_some(Self(number as usize))
        }

        const EIGHTHS: u32 = 52;
    }

    /// The address of a page by its indices.
    fn page(indices: [u64; 4]) -> u64 {
        indices.into_iter().fold(0, |at, index| at << 9 | index) << 12
    }

    fn visited(start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut seen = Vec::new();
        visit_pages(Simulated(0), 3, 0, (start, end), &mut |address, _, value| {
            seen.push((address, value));
            ControlFlow::Continue(())
        });
        seen
    }

    #[test]
    fn the_pages_of_a_range_are_visited_in_order() {
        let all = [
            (page([0, 3, 0, 511]), 100),
            (page([0, 3, 1, 0]), 101),
            (page([0, 3, 1, 200]), 102),
            (page([511, 0, 511, 0]), 103),
            (page([511, 0, 511, 511]), 104),
        ];
        assert_eq!(visited(0, 1 << 48), all);
        for from in 0..5 {
            assert_eq!(visited(all[from].0, 1 << 48), all[from..], "from {from}");
            assert_eq!(visited(all[from].0 + 1, 1 << 48), all[from..], "within the page");
            assert_eq!(visited(all[from].0 + 4096, 1 << 48), all[from + 1..], "after {from}");
            assert_eq!(visited(0, all[from].0), all[..from], "before {from}");
            assert_eq!(visited(0, all[from].0 + 4096), all[..=from], "up to {from}");
        }
        assert_eq!(visited(all[1].0, all[1].0), []);
    }

    #[test]
    fn a_visit_can_be_broken_off() {
        let mut seen = 0;
        visit_pages(Simulated(0), 3, 0, (0, 1 << 48), &mut |_, _, value| {
            seen = value;
            if value == 102 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!(seen, 102);
    }

    #[test]
    fn every_table_is_freed_once_and_after_those_below() {
        let mut freed = vec![];
        free_tables(Simulated(0), 3, 512, &mut |Simulated(number)| freed.push(number));
        assert_eq!(freed, [5, 6, 3, 1, 7, 4, 2, 0]);
        freed.clear();
        free_tables(Simulated(0), 3, 511, &mut |Simulated(number)| freed.push(number));
        assert_eq!(freed, [5, 6, 3, 1, 0], "the rest is not the root's own");
    }

    #[test]
    fn eighths_that_are_not_noted_are_passed_over() {
        let entries: Vec<AtomicU64> = (1..=512).map(AtomicU64::new).collect();
        let indices = |eighths, first, end| {
            let mut indices = vec![];
            let _all = visit_used(&entries, eighths, first, end, |index, _, _| {
                indices.push(index);
                ControlFlow::Continue(())
            });
            indices
        };
        assert_eq!(indices(0, 0, 512), []);
        assert_eq!(indices(1, 0, 512), (0..64).collect::<Vec<_>>());
        assert_eq!(indices(0x80, 3, 512), (448..512).collect::<Vec<_>>());
        assert_eq!(indices(0b1010, 70, 512), (70..128).chain(192..256).collect::<Vec<_>>());
        assert_eq!(indices(0b1010, 130, 200), (192..200).collect::<Vec<_>>());
        assert_eq!(indices(0b10, 0, 64), []);
    }

    #[test]
    fn what_is_free_is_filled_and_nothing_else() {
        let entries: Vec<AtomicU64> = (0..512).map(|index| AtomicU64::new(index % 3)).collect();
        let mut asked = vec![];
        fill(
            &entries,
            128,
            140,
            |value| value == 0,
            |index| {
                asked.push(index);
                (index != 132).then_some(index as u64 + 1000)
            },
        );
        assert_eq!(asked, [129, 132, 135, 138]);
        for (index, entry) in entries.iter().enumerate() {
            let expected = match index {
                129 | 135 | 138 => index as u64 + 1000,
                _ => index as u64 % 3,
            };
            assert_eq!(entry.load(Relaxed), expected, "entry {index}");
        }
        fill(
            &entries,
            511,
            511,
            |_| true,
            |index| panic!("{index} is not in the range"),
        );
    }

    #[test]
    fn all_that_is_used_is_found_and_nothing_else() {
        for pattern in [&[][..], &[0], &[7, 8], &[3, 9, 15, 16, 63], &[62]] {
            let entries: std::vec::Vec<AtomicU64> = (0..64)
                .map(|index| AtomicU64::new(if pattern.contains(&index) { index as u64 + 1 } else { 0 }))
                .collect();
            for (first, end) in [(0, 64), (0, 100), (3, 64), (8, 63), (9, 9), (10, 16)] {
                let mut found = vec![];
                let _all = visit_used(&entries, WHOLE, first, end, |index, _, value| {
                    assert_eq!(value, index as u64 + 1);
                    found.push(index);
                    ControlFlow::Continue(())
                });
                let expected: std::vec::Vec<usize> = pattern
                    .iter()
                    .copied()
                    .filter(|index| (first..end).contains(index))
                    .collect();
                assert_eq!(found, expected, "{pattern:?} from {first} below {end}");
            }
        }
    }
}
