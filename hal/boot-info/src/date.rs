//! Dates, as clocks of firmware and of machines have them.

/// Seconds from 1970 to a moment of the Gregorian calendar in UTC; `None` for what is no date, or before 1970 or after
/// 2199, which a clock shows that was never set.
pub fn seconds_since_1970(year: u64, month: u64, day: u64, [hour, minute, second]: [u64; 3]) -> Option<u64> {
    let valid = (1970..2200).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    valid.then(|| ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970 to a date, counted in years that begin in March.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::seconds_since_1970;

    #[test]
    fn dates_are_counted() {
        assert_eq!(seconds_since_1970(1970, 1, 1, [0, 0, 0]), Some(0));
        assert_eq!(seconds_since_1970(2000, 2, 29, [23, 59, 59]), Some(951_868_799));
        assert_eq!(seconds_since_1970(2026, 1, 1, [0, 0, 0]), Some(1_767_225_600));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        assert_eq!(seconds_since_1970(1969, 12, 31, [0, 0, 0]), None);
        assert_eq!(seconds_since_1970(2026, 13, 1, [0, 0, 0]), None);
        assert_eq!(seconds_since_1970(2026, 1, 0, [0, 0, 0]), None);
        assert_eq!(seconds_since_1970(2026, 1, 1, [24, 0, 0]), None);
    }
}
