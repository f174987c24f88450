//! The kernel's code in every program (vdso(7)): found as a C library finds it, called by its address.

use std::env::consts::ARCH;

use elf::{ElfBytes, endian::NativeEndian};

use crate::{sys, syscall};

crate::tests! { "vdso":
    it_is_where_the_auxiliary_vector_says;
    its_clocks_are_the_kernels;
    its_time_of_day_is_the_wall_clock;
    what_it_does_not_know_the_kernel_answers;
    a_clock_that_is_set_is_seen_at_once;
    a_child_has_it_too;
    it_knows_the_cpu;
}

/// The names by architecture: `x86_64`'s and aarch64's.
fn name(what: &str) -> String {
    let prefix = if cfg!(target_arch = "x86_64") {
        "__vdso_"
    } else {
        "__kernel_"
    };
    format!("{prefix}{what}")
}

/// Where the object begins.
fn base() -> usize {
    let base = sys::auxiliary(libc::AT_SYSINFO_EHDR);
    assert_ne!(base, 0, "AT_SYSINFO_EHDR");
    base
}

/// The address of a function, if there is one.
fn find(what: &str) -> Option<usize> {
    let end = maps()
        .into_iter()
        .find_map(|(start, end, ..)| (start == base()).then_some(end))
        .expect("it is mapped");
    // SAFETY: readable memory that stays.
    let object = unsafe { std::slice::from_raw_parts(base() as *const u8, end - base()) };
    let object = ElfBytes::<NativeEndian>::minimal_parse(object).expect("an ELF file");
    let (symbols, names) = object
        .dynamic_symbol_table()
        .expect("symbols")
        .expect("a table of symbols");
    let name = name(what);
    let symbol = symbols
        .iter()
        .find(|symbol| names.get(symbol.st_name as usize).is_ok_and(|found| found == name))?;
    assert_eq!(symbol.st_symtype(), elf::abi::STT_FUNC, "{name}");
    Some(base() + symbol.st_value as usize)
}

/// Start, end, permissions and name of each mapping.
fn maps() -> Vec<(usize, usize, String, String)> {
    let text = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').expect("a range");
        let number = |word| usize::from_str_radix(word, 16).expect("an address");
        let name = words.get(5).copied().unwrap_or_default();
        (number(start), number(end), words[1].to_owned(), name.to_owned())
    };
    text.lines().map(line).collect()
}

/// `clock_gettime` or `clock_getres` of the object: nanoseconds, or the error.
fn ask(what: &str, clock: i32) -> Result<u64, i32> {
    type Function = extern "C" fn(i32, *mut libc::timespec) -> i32;
    let address = find(what).unwrap_or_else(|| panic!("no {what}"));
    // SAFETY: the function's type.
    let function: Function = unsafe { std::mem::transmute(address) };
    let mut time = sys::timespec(0);
    match function(clock, &raw mut time) {
        0 => Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64),
        error => Err(-error),
    }
}

fn it_is_where_the_auxiliary_vector_says() {
    let maps = maps();
    let (.., permissions, name) = maps.iter().find(|(start, ..)| *start == base()).expect("mapped");
    assert_eq!((permissions.as_str(), name.as_str()), ("r-xp", "[vdso]"));
    assert!(maps.iter().any(|(.., name)| name.starts_with("[vvar")), "what it reads");
    // SAFETY: readable memory.
    let magic = unsafe { std::slice::from_raw_parts(base() as *const u8, 4) };
    assert_eq!(magic, b"\x7fELF");
}

fn its_clocks_are_the_kernels() {
    for clock in [
        libc::CLOCK_REALTIME,
        libc::CLOCK_MONOTONIC,
        libc::CLOCK_MONOTONIC_RAW,
        libc::CLOCK_BOOTTIME,
        libc::CLOCK_TAI,
    ] {
        for _ in 0..100 {
            let before = sys::clock(clock);
            let seen = ask("clock_gettime", clock).expect("a clock");
            let after = sys::clock(clock);
            assert!(
                before <= seen && seen <= after,
                "clock {clock}: {before}, {seen}, {after}"
            );
        }
        let mut resolution = sys::timespec(7);
        syscall!(SYS_clock_getres, clock, &raw mut resolution).expect("clock_getres");
        assert_eq!(ask("clock_getres", clock), Ok(resolution.tv_nsec as u64));
    }
}

fn its_time_of_day_is_the_wall_clock() {
    type Function = extern "C" fn(*mut libc::timeval, *mut libc::timezone) -> i32;
    // SAFETY: the function's type.
    let function: Function = unsafe { std::mem::transmute(find("gettimeofday").expect("gettimeofday")) };
    let before = sys::clock(libc::CLOCK_REALTIME) / 1000;
    let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
    assert_eq!(function(&raw mut time, std::ptr::null_mut()), 0);
    let after = sys::clock(libc::CLOCK_REALTIME) / 1000;
    let seen = time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    assert!(before <= seen && seen <= after, "{before}, {seen}, {after}");
    let Some(address) = find("time") else {
        assert_eq!(ARCH, "aarch64", "only that has no time");
        return;
    };
    // SAFETY: the function's type.
    let function: extern "C" fn(*mut i64) -> i64 = unsafe { std::mem::transmute(address) };
    let mut stored = 0;
    let seen = function(&raw mut stored);
    assert_eq!(seen, stored);
    let after = sys::clock(libc::CLOCK_REALTIME) / 1_000_000_000;
    // Linux's is that of the last tick.
    assert!((after as i64 - seen) < 2 && seen <= after as i64, "{seen}, {after}");
}

fn what_it_does_not_know_the_kernel_answers() {
    let before = sys::clock(libc::CLOCK_THREAD_CPUTIME_ID);
    let seen = ask("clock_gettime", libc::CLOCK_THREAD_CPUTIME_ID).expect("processor time");
    assert!(before <= seen, "{before}, {seen}");
    assert_eq!(ask("clock_gettime", 99), Err(libc::EINVAL));
    assert_eq!(ask("clock_gettime", -1), Err(libc::EINVAL));
    assert_eq!(ask("clock_getres", 99), Err(libc::EINVAL));
}

fn a_clock_that_is_set_is_seen_at_once() {
    const LATER: u64 = 1000 * 1_000_000_000;
    let set = |time: u64| {
        let time = sys::timespec(time);
        syscall!(SYS_clock_settime, libc::CLOCK_REALTIME, &raw const time).expect("clock_settime");
    };
    let (wall, monotonic) = (sys::clock(libc::CLOCK_REALTIME), sys::now());
    set(wall + LATER);
    let seen = ask("clock_gettime", libc::CLOCK_REALTIME).expect("a clock");
    let still = ask("clock_gettime", libc::CLOCK_MONOTONIC).expect("a clock");
    set(sys::clock(libc::CLOCK_REALTIME) - LATER);
    assert!(seen >= wall + LATER, "{wall}, {seen}");
    let passed = still - monotonic;
    assert!(passed < LATER, "the other clock does not care: {passed}");
    let seen = ask("clock_gettime", libc::CLOCK_REALTIME).expect("a clock");
    assert!(seen < wall + LATER, "{wall}, {seen}");
}

fn a_child_has_it_too() {
    sys::in_child(|| {
        let before = sys::now();
        let seen = ask("clock_gettime", libc::CLOCK_MONOTONIC).expect("a clock");
        assert!(before <= seen);
    });
}

fn it_knows_the_cpu() {
    let Some(address) = find("getcpu") else {
        assert_eq!(ARCH, "aarch64", "only that has no getcpu");
        return;
    };
    type Function = extern "C" fn(*mut u32, *mut u32, *mut u8) -> i64;
    // SAFETY: the function's type.
    let function: Function = unsafe { std::mem::transmute(address) };
    for cpu in sys::cpus() {
        sys::pin(&[cpu]);
        let (mut seen, mut node) = (99, 99);
        assert_eq!(function(&raw mut seen, &raw mut node, std::ptr::null_mut()), 0);
        assert_eq!((seen as usize, node), (cpu, 0));
        assert_eq!(
            function(std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut()),
            0
        );
    }
}
