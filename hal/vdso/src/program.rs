//! The functions that C libraries look for: names and signatures are Linux's (vdso(7)).

use core::panic::PanicInfo;

use crate::{machine, page::Page};

/// `CLOCK_*` (`linux/time.h`).
mod clock {
    pub const REALTIME: i32 = 0;
    pub const MONOTONIC: i32 = 1;
    pub const MONOTONIC_RAW: i32 = 4;
    pub const REALTIME_COARSE: i32 = 5;
    pub const MONOTONIC_COARSE: i32 = 6;
    pub const BOOTTIME: i32 = 7;
    pub const TAI: i32 = 11;
}

const NANOS: u64 = 1_000_000_000;

/// `struct timespec`, and `struct timeval` with microseconds.
#[repr(C)]
pub struct Timespec {
    seconds: i64,
    rest: i64,
}

impl Timespec {
    const fn new(nanoseconds: u64, unit: u64) -> Self {
        Self {
            seconds: (nanoseconds / NANOS) as i64,
            rest: (nanoseconds % NANOS / unit) as i64,
        }
    }
}

/// `struct timezone`.
#[repr(C)]
pub struct Timezone {
    minutes_west: i32,
    dst_time: i32,
}

#[inline(always)]
fn monotonic() -> Option<u64> {
    Page::new(machine::words()).monotonic(machine::count)
}

#[inline(always)]
fn realtime() -> Option<u64> {
    Page::new(machine::words()).realtime(machine::count)
}

/// The time of a clock that the page has.
#[inline(always)]
fn read(clock: i32) -> Option<u64> {
    match clock {
        clock::REALTIME | clock::REALTIME_COARSE | clock::TAI => realtime(),
        clock::MONOTONIC | clock::MONOTONIC_RAW | clock::MONOTONIC_COARSE | clock::BOOTTIME => monotonic(),
        _ => None,
    }
}

/// Stores through a program's pointer. A bad one ends the program, as any bad pointer of its own does.
macro_rules! store {
    ($pointer:expr, $value:expr) => {
        // SAFETY: the program's promise; this is its own code by now.
        unsafe { $pointer.write($value) }
    };
}

#[cfg_attr(target_arch = "x86_64", unsafe(export_name = "__vdso_clock_gettime"))]
#[cfg_attr(target_arch = "aarch64", unsafe(export_name = "__kernel_clock_gettime"))]
extern "C" fn clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    match read(clock) {
        Some(now) => {
            store!(time, Timespec::new(now, 1));
            0
        }
        None => machine::call(machine::CLOCK_GETTIME, clock as usize, time.addr()),
    }
}

#[cfg_attr(target_arch = "x86_64", unsafe(export_name = "__vdso_clock_getres"))]
#[cfg_attr(target_arch = "aarch64", unsafe(export_name = "__kernel_clock_getres"))]
extern "C" fn clock_getres(clock: i32, resolution: *mut Timespec) -> i32 {
    if !matches!(clock, clock::REALTIME..=clock::MONOTONIC | clock::MONOTONIC_RAW..=clock::BOOTTIME | clock::TAI) {
        return machine::call(machine::CLOCK_GETRES, clock as usize, resolution.addr());
    }
    if !resolution.is_null() {
        store!(resolution, Timespec::new(1, 1));
    }
    0
}

#[cfg_attr(target_arch = "x86_64", unsafe(export_name = "__vdso_gettimeofday"))]
#[cfg_attr(target_arch = "aarch64", unsafe(export_name = "__kernel_gettimeofday"))]
extern "C" fn gettimeofday(time: *mut Timespec, zone: *mut Timezone) -> i32 {
    let Some(now) = realtime() else {
        return machine::call(machine::GETTIMEOFDAY, time.addr(), zone.addr());
    };
    if !time.is_null() {
        store!(time, Timespec::new(now, 1000));
    }
    if !zone.is_null() {
        store!(
            zone,
            Timezone {
                minutes_west: 0,
                dst_time: 0
            }
        );
    }
    0
}

/// `time(2)`, which aarch64 has not.
#[cfg(target_arch = "x86_64")]
#[unsafe(export_name = "__vdso_time")]
extern "C" fn time(seconds: *mut i64) -> i64 {
    let Some(now) = realtime() else {
        return machine::call(machine::TIME, seconds.addr(), 0).into();
    };
    let now = (now / NANOS) as i64;
    if !seconds.is_null() {
        store!(seconds, now);
    }
    now
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    machine::trap()
}
