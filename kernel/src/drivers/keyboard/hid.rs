//! Reports of USB keyboards in the form that a BIOS needs (Device Class Definition for HID 1.11, appendix B.1): a byte of
//! modifiers, one that is reserved, and the keys that are down, at most six.

use pc_keyboard::{HandleControl, KeyCode, KeyEvent, KeyState, UsbBootKeyboardReport, UsbKeyboard, layouts::Us104Key};

/// Bytes of a report.
pub const REPORT: usize = 8;
/// Bytes before the keys.
const HEAD: usize = 2;
/// In place of keys (HID Usage Tables 1.12, chapter 10): too many are down, and two kinds of failure.
const FAILURES: core::ops::RangeInclusive<u8> = 1..=3;

/// A keyboard's last report.
pub struct Reports {
    keyboard: UsbKeyboard<Us104Key>,
    keys: [u8; 6],
}

impl Default for Reports {
    fn default() -> Self {
        Self::new()
    }
}

impl Reports {
    /// All keys up.
    pub fn new() -> Self {
        Self {
            keyboard: UsbKeyboard::new(Us104Key, HandleControl::Ignore),
            keys: [0; 6],
        }
    }

    /// Takes a report and tells what has changed since the last. What is missing of it counts as no keys; while more keys are
    /// down than it can name, only the modifiers count.
    pub fn take(&mut self, report: &[u8], mut changed: impl FnMut(KeyEvent)) {
        let Some(&modifiers) = report.first() else { return };
        let mut keys = [0; 6];
        for (key, &code) in keys.iter_mut().zip(report.iter().skip(HEAD)) {
            *key = code;
        }
        if !keys.iter().any(|code| FAILURES.contains(code)) {
            self.keys = keys;
        }
        let report = UsbBootKeyboardReport {
            modifiers,
            keys: self.keys,
        };
        self.keyboard
            .handle_report_raw(&report)
            .filter(|event| event.code != KeyCode::Unknown)
            .for_each(&mut changed);
    }

    /// Tells that all keys are up: the keyboard has gone.
    pub fn release(&mut self, changed: impl FnMut(KeyEvent)) {
        self.keys = [0; 6];
        self.take(&[0; REPORT], changed);
    }
}

/// The key of a usage (HID Usage Tables 1.12, chapter 10); `None` for those that no console keyboard has.
pub fn key(usage: u8) -> Option<KeyCode> {
    let mut reports = Reports::new();
    let mut found = None;
    reports.take(&[0, 0, usage], |event| {
        found = (event.state == KeyState::Down).then_some(event.code);
    });
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    fn changes(reports: &mut Reports, report: &[u8]) -> Vec<(KeyCode, bool)> {
        let mut all = Vec::new();
        reports.take(report, |event| all.push((event.code, event.state == KeyState::Down)));
        all
    }

    #[test]
    fn changes_between_reports_are_told_once() {
        use KeyCode::{A, B, LShift};
        let mut reports = Reports::new();
        assert_eq!(
            changes(&mut reports, &[2, 0, 4, 0, 0, 0, 0, 0]),
            [(LShift, true), (A, true)]
        );
        assert_eq!(changes(&mut reports, &[2, 0, 4, 0, 0, 0, 0, 0]), []);
        assert_eq!(changes(&mut reports, &[2, 0, 5, 4, 0, 0, 0, 0]), [(B, true)]);
        assert_eq!(
            changes(&mut reports, &[0, 0, 5, 0, 0, 0, 0, 0]),
            [(LShift, false), (A, false)]
        );
        let mut released = Vec::new();
        reports.release(|event| released.push((event.code, event.state)));
        assert_eq!(released, [(B, KeyState::Up)]);
    }

    #[test]
    fn too_many_keys_leave_those_that_are_down() {
        use KeyCode::{A, LControl};
        let mut reports = Reports::new();
        assert_eq!(changes(&mut reports, &[0, 0, 4, 0, 0, 0, 0, 0]), [(A, true)]);
        assert_eq!(changes(&mut reports, &[1, 0, 1, 1, 1, 1, 1, 1]), [(LControl, true)]);
        assert_eq!(changes(&mut reports, &[1, 0, 4, 0, 0, 0, 0, 0]), []);
        assert_eq!(changes(&mut reports, &[1, 0, 0, 0, 0, 0, 0, 0]), [(A, false)]);
    }

    #[test]
    fn short_and_unknown_reports_are_survived() {
        let mut reports = Reports::new();
        assert_eq!(changes(&mut reports, &[]), []);
        assert_eq!(changes(&mut reports, &[1]), [(KeyCode::LControl, true)]);
        assert_eq!(changes(&mut reports, &[0, 0, 0xff, 0xff, 0xa5, 4, 4, 4, 9, 9]).len(), 2);
    }

    proptest! {
        /// Whatever comes, keys go down that are up and up that are down, and all are up in the end.
        #[test]
        fn keys_go_down_and_up_in_turns(all in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..40)) {
            let mut reports = Reports::new();
            let mut down = BTreeSet::new();
            let mut check = |event: KeyEvent| {
                match event.state {
                    KeyState::Down => down.insert(event.code),
                    _ => down.remove(&event.code),
                }
            };
            // Two usages may mean one key, which then goes up twice: only those of one name each are looked at.
            let usual = |report: &[u8]| report.iter().skip(2).all(|code| !matches!(code, 0x31 | 0x32 | 0xe0..=0xe7));
            for report in all.iter().filter(|report| usual(report)) {
                let mut fine = true;
                reports.take(report, |event| fine &= check(event));
                prop_assert!(fine);
            }
            let mut fine = true;
            reports.release(|event| fine &= check(event));
            prop_assert!(fine && down.is_empty());
        }
    }
}
