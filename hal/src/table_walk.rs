//! Looking through translation tables, most of whose entries are empty.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Entries that are looked at together: a cache line of them.
const LINE: usize = 8;

/// The entries of a table that are not empty, with their indices, from `first` on and below `end`.
pub fn used(entries: &[AtomicU64], first: usize, end: usize) -> impl Iterator<Item = (usize, &AtomicU64, u64)> {
    let mut at = first;
    let entries = entries.get(..end).unwrap_or(entries);
    core::iter::from_fn(move || {
        loop {
            let entry = entries.get(at)?;
            if at.is_multiple_of(LINE)
                && let Some(line) = entries.get(at..at + LINE)
                && line.iter().fold(0, |all, entry| all | entry.load(Relaxed)) == 0
            {
                at += LINE;
                continue;
            }
            let (index, value) = (at, entry.load(Relaxed));
            at += 1;
            if value != 0 {
                return Some((index, entry, value));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_used_is_found_and_nothing_else() {
        for pattern in [&[][..], &[0], &[7, 8], &[3, 9, 15, 16, 63], &[62]] {
            let entries: std::vec::Vec<AtomicU64> = (0..64)
                .map(|index| AtomicU64::new(if pattern.contains(&index) { index as u64 + 1 } else { 0 }))
                .collect();
            for (first, end) in [(0, 64), (0, 100), (3, 64), (8, 63), (9, 9), (10, 16)] {
                let found: std::vec::Vec<usize> = used(&entries, first, end)
                    .inspect(|(index, _, value)| assert_eq!(*value, *index as u64 + 1))
                    .map(|(index, ..)| index)
                    .collect();
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
