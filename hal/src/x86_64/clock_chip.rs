//! The clock chip (Motorola MC146818A data sheet), for the wall clock at boot.

use super::registers::{in_u8, out_u8};

const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;
/// Status A: the registers change within 244 µs.
const UPDATING: u8 = 1 << 7;
/// Status B: 24-hour clock, binary rather than BCD.
const HOURS_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;

fn read(register: u8) -> u8 {
    // SAFETY: the chip's index and data ports; bit 7 of the index would mask NMIs and stays clear.
    unsafe {
        out_u8(0x70, register);
        in_u8(0x71)
    }
}

/// Seconds since 1970, by a chip that runs on UTC; 0 where there is no sensible one. `century_register` is the FADT's.
pub fn wall_clock_seconds(century_register: u8) -> u64 {
    let snapshot = || {
        // A chip that is not there reads as all ones for ever.
        for _ in 0..1_000_000 {
            if read(STATUS_A) & UPDATING == 0 {
                break;
            }
        }
        let century = if century_register == 0 {
            0
        } else {
            read(century_register)
        };
        [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR]
            .map(read)
            .into_iter()
            .chain([century])
    };
    // Two equal readings cannot straddle an update.
    let stable = (0..8).find_map(|_| {
        let first: arrayvec::ArrayVec<u8, 7> = snapshot().collect();
        first.iter().copied().eq(snapshot()).then_some(first)
    });
    let Some(raw) = stable else { return 0 };
    seconds(&raw, read(STATUS_B)).unwrap_or(0)
}

fn seconds(raw: &[u8], status: u8) -> Option<u64> {
    let &[second, minute, hour, day, month, year, century] = raw else {
        return None;
    };
    let number = |value: u8| {
        u64::from(if status & BINARY != 0 {
            value
        } else {
            (value >> 4) * 10 + (value & 15)
        })
    };
    let hour = match status & HOURS_24 {
        0 => number(hour & 0x7f) % 12 + if hour & 0x80 != 0 { 12 } else { 0 },
        _ => number(hour),
    };
    let century = if century == 0 { 20 } else { number(century) };
    let time = [hour, number(minute), number(second)];
    boot_info::seconds_since_1970(century * 100 + number(year), number(month), number(day), time)
}
