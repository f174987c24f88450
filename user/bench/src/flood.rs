//! How late a thread wakes while a device interrupts all the time: whoever feeds the serial console sends bytes as fast as it takes
//! them, and a process reads and drops them.
//!
//! What is said to the feeder, a line each: `FLOOD begin` asks for bytes of any kind but [`LAST`]; `FLOOD end` that the next be that
//! one, again and again until `FLOOD over`. Only with the first byte does the measuring begin.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use user_sys::{self as sys, libc, syscall};

use crate::{
    calls::{done, ended_well, why},
    load::{Load, spin},
    row::Sample,
    wakeup,
};

/// The byte that ends it.
const LAST: u8 = b'!';
/// How the terminal reports what comes: each byte at once, as it is, without an echo.
const RAW: libc::tcflag_t = libc::ICANON | libc::ECHO | libc::ISIG | libc::IEXTEN;

/// How late wakes are, and for each of them the bytes read and the interrupts of devices.
pub fn beside() -> Result<Vec<Sample>, String> {
    let _raw = Raw::new()?;
    // In an emulator that passes over idle time, as many bytes would come as a kernel has instructions to run, and the load would be
    // the kernel's own choice. So none is idle.
    let never_idle = Load::start(1, spin)?;
    never_idle.schedule(libc::SCHED_IDLE, 0)?;
    let read: &'static AtomicU64 = &sys::shared_counters(1)[0];
    let (begun, begin) = sys::pipe(0);
    let reader = sys::try_fork(|| {
        sys::close(begun);
        let whole = drop_all(read, begin);
        i32::from(!whole)
    })
    .map_err(why)?;
    // Gone with this, whatever becomes of it.
    let load = Load::of(reader);
    sys::close(begin);
    println!("FLOOD begin");
    let first = sys::read(begun, &mut [0]);
    sys::close(begun);
    if first != Ok(1) {
        return Err("the console has an end".into());
    }
    let before = (read.load(Relaxed), interrupts()?);
    let late = wakeup::wakes();
    let after = (read.load(Relaxed), interrupts()?);
    println!("FLOOD end");
    let ended = ended_well(reader);
    load.over();
    println!("FLOOD over");
    let late = late?;
    ended?;
    let each = |unit, before, after| Sample {
        operations: late.len() as u64,
        amount: after - before,
        unit,
    };
    let mut samples = wakeup::quantiles(&late);
    samples.push(each("bytes/wake", before.0, after.0));
    samples.push(each("interrupts/wake", before.1, after.1));
    Ok(samples)
}

/// Reads until the last byte; says so on `begin` when the first one is there. Whether there was a last one.
fn drop_all(read: &AtomicU64, begin: i32) -> bool {
    let mut room = [0; 4096];
    while let Ok(length @ 1..) = sys::read(0, &mut room) {
        if read.fetch_add(length as u64, Relaxed) == 0 && sys::write(begin, &[0]) != Ok(1) {
            return false;
        }
        if room[..length].contains(&LAST) {
            return true;
        }
    }
    false
}

/// The terminal as it was comes back with this.
struct Raw(libc::termios);

impl Raw {
    fn new() -> Result<Self, String> {
        let mut settings = sys::terminal(0).map_err(why)?;
        let before = Self(settings);
        settings.c_lflag &= !RAW;
        settings.c_iflag &= !(libc::IXON | libc::ICRNL);
        settings.c_cc[libc::VMIN] = 1;
        settings.c_cc[libc::VTIME] = 0;
        done(syscall!(SYS_ioctl, 0, libc::TCSETS, &raw const settings))?;
        Ok(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Without what was not read.
        let _same_terminal = syscall!(SYS_ioctl, 0, libc::TCSETSF, &raw const self.0);
    }
}

/// Interrupts so far that the serial port caused, or of all devices where the kernel sums them up.
fn interrupts() -> Result<u64, String> {
    let text = fs::read_to_string("/proc/interrupts").map_err(|error| error.to_string())?;
    counted(&text).ok_or_else(|| "no serial port in /proc/interrupts".to_owned())
}

fn counted(text: &str) -> Option<u64> {
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| {
        words.first() == Some(&"DEV:")
            || words
                .last()
                .is_some_and(|name| name.starts_with("ttyS") || name.starts_with("uart"))
    })?;
    Some(line[1..].iter().map_while(|word| word.parse::<u64>().ok()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_ports_interrupts_are_found() {
        let linux = "      CPU0  CPU1\n  0:  9 1 IO-APIC 2-edge timer\n  4:  30 12 IO-APIC 4-edge ttyS0\n";
        assert_eq!(counted(linux), Some(42));
        assert_eq!(counted(" 14:  7  GICv2 33 Level  uart-pl011\n"), Some(7));
        assert_eq!(
            counted("   33:   5\n TMR:   8  One-shot timer\n DEV:   5   1  Devices\n"),
            Some(6)
        );
        assert_eq!(counted(" 0: 9 timer\n"), None);
    }
}
