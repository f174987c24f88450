//! What the kernel needs for one of many objects: by how much less memory is free when there are more of them.
//!
//! Memory of the program's own does not count: it is written before. Only a process has pages that nobody else has, those that it
//! wrote on its way to where it waits, and they are as many on every kernel.

use std::{
    ffi::{CStr, c_void},
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
};

use user_sys::{self as sys, libc, syscall};

use crate::{
    calls::{Descriptors, done, epoll, open, socket_pair, watch, why},
    row::{Sample, rows},
};

rows! {
    "process": processes();
    "thread": threads();
    "open-file": descriptors(1, || Ok([open(c"/dev/null", libc::O_RDONLY)?]));
    "pipe": descriptors(2, || Ok(<[i32; 2]>::from(sys::pipe(0))));
    "pipe-with-a-byte": descriptors(2, pipe_with_a_byte);
    "eventfd": descriptors(1, || Ok([syscall!(SYS_eventfd2, 0, 0).map_err(why)? as i32]));
    "socketpair": descriptors(2, socket_pair);
    "epoll": descriptors(1, || Ok([epoll()?]));
    "epoll-entry": epoll_entries();
    "timer": timers();
    "tmpfs-file": files();
}

/// Objects made before any counts: they fill what is left of earlier rows in the kernel's caches.
const BEFORE: usize = 500;
/// Objects that count.
const COUNTED: usize = 1_000;
const ALL: usize = BEFORE + COUNTED;

const PAGE: usize = 4096;

/// Makes objects, which have to stay; the memory that each of those that count took.
fn grow(mut make: impl FnMut(usize) -> Result<(), String>) -> Result<Sample, String> {
    (0..BEFORE).try_for_each(&mut make)?;
    let before = free()?;
    (BEFORE..ALL).try_for_each(&mut make)?;
    let after = free()?;
    Ok(Sample {
        operations: COUNTED as u64,
        amount: before.saturating_sub(after),
        unit: "bytes",
    })
}

/// Bytes of free memory, once everybody has come to where they wait.
pub fn free() -> Result<u64, String> {
    sys::sleep_ms(100);
    let held = match text(c"/proc/zoneinfo", held_pages) {
        Ok(pages) => pages * PAGE as u64,
        Err(libc::ENOENT) => 0,
        Err(error) => return Err(why(error)),
    };
    Ok(meminfo("MemFree:")? + held)
}

/// Bytes of a line of `/proc/meminfo`.
fn meminfo(name: &str) -> Result<u64, String> {
    let found = text(c"/proc/meminfo", |text| kibibytes(text, name)).map_err(why)?;
    found
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| format!("/proc/meminfo has no {name}"))
}

/// Room for the text of a file of `/proc`.
const ROOM: usize = 32 * 1024;

/// Hands a file's text to `look`. It goes to the stack: whoever measures memory must not change it.
fn text<T>(path: &CStr, look: impl FnOnce(&str) -> T) -> Result<T, i32> {
    let mut buffer = [0; ROOM];
    let file = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY)? as i32;
    let mut length = 0;
    while let Ok(more @ 1..) = sys::read(file, &mut buffer[length..]) {
        length += more;
    }
    sys::close(file);
    // All of it is ASCII.
    Ok(look(std::str::from_utf8(&buffer[..length]).unwrap_or_default()))
}

/// Free pages that each CPU has a list of, by Linux's `/proc/zoneinfo`. Its `MemFree` leaves them out; ours has them in.
fn held_pages(text: &str) -> u64 {
    let counts = text.lines().filter_map(|line| line.trim().strip_prefix("count:"));
    counts.filter_map(|count| count.trim().parse::<u64>().ok()).sum()
}

/// The number of the line that begins with `name`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Children that wait for a pipe's end; with it, they go.
struct Children {
    gate: (i32, i32),
    pids: Vec<i32>,
}

impl Children {
    fn new() -> Self {
        let mut pids = vec![0; ALL];
        pids.clear();
        Self {
            gate: sys::pipe(0),
            pids,
        }
    }

    fn add(&mut self) -> Result<(), String> {
        let (from, to) = self.gate;
        let pid = sys::try_fork(|| {
            sys::close(to);
            i32::from(sys::read(from, &mut [0]) != Ok(0))
        });
        self.pids.push(pid.map_err(why)?);
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        sys::close(self.gate.1);
        for pid in &self.pids {
            let _ended = sys::wait(*pid, 0);
        }
        sys::close(self.gate.0);
    }
}

fn processes() -> Result<Sample, String> {
    let mut children = Children::new();
    grow(|_| children.add())
}

/// What each thread has for a stack. No libc asks for more at least; only its top is ever used.
const STACK: usize = 128 * 1024;
/// Of that, what is there before.
const USED: usize = 4 * PAGE;

/// 0 while threads have to wait.
static GO: AtomicU32 = AtomicU32::new(0);
static WAITING: AtomicUsize = AtomicUsize::new(0);

extern "C" fn wait_to_go(_: *mut c_void) -> *mut c_void {
    WAITING.fetch_add(1, SeqCst);
    while GO.load(SeqCst) == 0 {
        let _woken = syscall!(
            SYS_futex,
            GO.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            0,
            0
        );
    }
    std::ptr::null_mut()
}

/// Threads whose stacks are there before them, and with those what libc keeps of a thread.
fn threads() -> Result<Sample, String> {
    let stacks = sys::memory(ALL * STACK);
    let _refused = syscall!(SYS_madvise, stacks, ALL * STACK, libc::MADV_NOHUGEPAGE);
    for thread in 1..=ALL {
        for page in (0..USED).step_by(PAGE) {
            sys::poke(stacks + thread * STACK - USED + page, 0);
        }
    }
    GO.store(0, SeqCst);
    WAITING.store(0, SeqCst);
    let mut all = Vec::with_capacity(ALL);
    let sample = grow(|index| {
        all.push(sys::thread_on(stacks + index * STACK, STACK, wait_to_go).map_err(why)?);
        Ok(())
    });
    let (made, waiting) = (all.len(), WAITING.load(SeqCst));
    GO.store(1, SeqCst);
    done(syscall!(
        SYS_futex,
        GO.as_ptr(),
        libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
        ALL
    ))?;
    all.into_iter().try_for_each(sys::join).map_err(why)?;
    done(syscall!(SYS_munmap, stacks, ALL * STACK))?;
    if waiting == made {
        sample
    } else {
        Err(format!("{waiting} threads of {made} came to wait"))
    }
}

/// Objects that are descriptors, `count` each.
fn descriptors<const COUNT: usize>(
    count: usize,
    mut make: impl FnMut() -> Result<[i32; COUNT], String>,
) -> Result<Sample, String> {
    let mut all = Descriptors::with_room(count * ALL)?;
    grow(|_| {
        all.add(&make()?);
        Ok(())
    })
}

fn pipe_with_a_byte() -> Result<[i32; 2], String> {
    let (from, to) = sys::pipe(0);
    done(sys::write(to, &[1]))?;
    Ok([from, to])
}

fn epoll_entries() -> Result<Sample, String> {
    let mut all = Descriptors::with_room(ALL + 3)?;
    let epoll = epoll()?;
    all.add(&[epoll]);
    let (from, to) = sys::pipe(0);
    all.add(&[from, to]);
    for _ in 0..ALL {
        all.add(&[syscall!(SYS_dup, from).map_err(why)? as i32]);
    }
    grow(|index| watch(epoll, all.all()[3 + index]))
}

/// Timers that are not armed and tell nobody.
fn timers() -> Result<Sample, String> {
    let mut all: Vec<i32> = vec![0; ALL];
    all.clear();
    let sample = grow(|_| {
        let mut number = 0i32;
        let event = sys::silent_event();
        done(syscall!(
            SYS_timer_create,
            libc::CLOCK_MONOTONIC,
            &raw const event,
            &raw mut number
        ))?;
        all.push(number);
        Ok(())
    });
    all.iter()
        .try_for_each(|number| done(syscall!(SYS_timer_delete, *number)))?;
    sample
}

/// Files with nothing in them, closed.
fn files() -> Result<Sample, String> {
    let path = |index: usize| std::ffi::CString::new(format!("/tmp/bench-{index}")).map_err(|error| error.to_string());
    let mut made = 0;
    let sample = grow(|index| {
        let file = open(&path(index)?, libc::O_CREAT | libc::O_WRONLY)?;
        made = index + 1;
        sys::close(file);
        Ok(())
    });
    for index in 0..made {
        done(syscall!(SYS_unlinkat, libc::AT_FDCWD, path(index)?.as_ptr(), 0))?;
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_name() {
        let text = "MemTotal:         1048576 kB\nMemFree:          12 kB\nHugePages_Free: 3\n";
        assert_eq!(kibibytes(text, "MemTotal:"), Some(1_048_576));
        assert_eq!(kibibytes(text, "MemFree:"), Some(12));
        assert_eq!(kibibytes(text, "HugePages_Free:"), None);
        assert_eq!(kibibytes(text, "Slab:"), None);
    }

    #[test]
    fn pages_of_the_cpus_lists_are_added_up() {
        let text = "Node 0, zone DMA\n  pages free 3\n  pagesets\n    cpu: 0\n              count: 5\n              high:  9\n    cpu: 1\n              count: 7\n";
        assert_eq!(held_pages(text), 12);
    }

    #[test]
    fn the_kernel_says_how_much_is_free() {
        assert!(meminfo("MemFree:").unwrap() < meminfo("MemTotal:").unwrap());
    }
}
