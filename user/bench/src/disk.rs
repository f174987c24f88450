//! Reading from disks past every cache: `O_DIRECT`, one request at a time or from 32 threads at once.
//!
//! The machine has an NVMe, an AHCI and a virtio disk, all of which answer with zeroes at once, so that what is measured is the
//! kernel's way there and back, and the emulator's.

use std::{ffi::CStr, fs, sync::Barrier, thread};

use user_sys::{self as sys, libc, syscall};

use crate::{
    calls::{Descriptors, done, open, why},
    row::{Sample, rows},
};

rows! {
    "nvme-4k-1": random(NVME, 1);
    "nvme-4k-32": random(NVME, 32);
    "nvme-128k-1": sequential(NVME, 1);
    "nvme-128k-32": sequential(NVME, 32);
    "ahci-4k-1": random(AHCI, 1);
    "ahci-4k-32": random(AHCI, 32);
    "ahci-128k-1": sequential(AHCI, 1);
    "ahci-128k-32": sequential(AHCI, 32);
    "virtio-4k-1": random(VIRTIO, 1);
    "virtio-4k-32": random(VIRTIO, 32);
    "virtio-128k-1": sequential(VIRTIO, 1);
    "virtio-128k-32": sequential(VIRTIO, 32);
}

const NVME: &CStr = c"/dev/nvme0n1";
const AHCI: &CStr = c"/dev/sda";
const VIRTIO: &CStr = c"/dev/vda";

const SMALL: usize = 4 << 10;
const LARGE: usize = 128 << 10;
/// Requests of all workers.
const SMALL_REQUESTS: usize = 2048;
const LARGE_REQUESTS: usize = 512;
/// How long a disk may take to be found (ms).
const PATIENCE: u64 = 10_000;

/// Small requests all over the disk.
fn random(disk: &CStr, workers: usize) -> Result<Sample, String> {
    read_all_over(disk, workers, SMALL, SMALL_REQUESTS, |number, places| {
        // Any order will do that no kernel guesses.
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % places
    })
}

/// Large requests one behind the other.
fn sequential(disk: &CStr, workers: usize) -> Result<Sample, String> {
    let sample = read_all_over(disk, workers, LARGE, LARGE_REQUESTS, |number, places| number % places)?;
    Ok(Sample {
        operations: sample.operations * (LARGE as u64 >> 10),
        unit: "ns/KiB",
        ..sample
    })
}

/// Reads `requests` of `length` bytes; `place` says at which of the disk's places each is, by its number.
fn read_all_over(
    disk: &CStr,
    workers: usize,
    length: usize,
    requests: usize,
    place: fn(u64, u64) -> u64,
) -> Result<Sample, String> {
    let file = appear(disk)?;
    let mut closed = Descriptors::default();
    closed.add(&[file]);
    let size = syscall!(SYS_lseek, file, 0, libc::SEEK_END).map_err(why)? as u64;
    let places = size / length as u64;
    if places == 0 {
        return Err("a disk of no size".into());
    }
    let memory = sys::memory(workers * length);
    let read = |worker: usize| {
        (worker..requests).step_by(workers).try_for_each(|number| {
            let offset = place(number as u64, places) * length as u64;
            match syscall!(SYS_pread64, file, memory + worker * length, length, offset).map_err(why)? {
                read if read == length => Ok(()),
                read => Err(format!("{read} bytes of {length}")),
            }
        })
    };
    // Their memory is there before.
    (0..workers).try_for_each(|worker| done(syscall!(SYS_pread64, file, memory + worker * length, length, 0)))?;
    let nanoseconds = if workers == 1 {
        let start = sys::now();
        read(0)?;
        sys::now() - start
    } else {
        together(workers, read)?
    };
    done(syscall!(SYS_munmap, memory, workers * length))?;
    Ok(Sample::time(requests as u64, nanoseconds))
}

/// How long workers take that begin at once, until the last is done.
fn together(workers: usize, work: impl Fn(usize) -> Result<(), String> + Sync) -> Result<u64, String> {
    let gate = Barrier::new(workers + 1);
    thread::scope(|scope| {
        let (work, gate) = (&work, &gate);
        let start = |worker| {
            scope.spawn(move || {
                gate.wait();
                work(worker)
            })
        };
        let all: Vec<_> = (0..workers).map(start).collect();
        // They have to come to the gate.
        sys::sleep_ms(20);
        let start = sys::now();
        gate.wait();
        let ended = all.into_iter().try_for_each(|worker| {
            let outcome = worker.join();
            outcome.map_err(|_| "a thread panicked".to_owned())?
        });
        ended.map(|()| sys::now() - start)
    })
}

/// Opens a disk, once it has been found. A kernel whose drivers are modules is given them first.
fn appear(disk: &CStr) -> Result<i32, String> {
    load_modules();
    let mut outcome = open(disk, libc::O_RDONLY | libc::O_DIRECT);
    for _ in 0..PATIENCE / 10 {
        if outcome.is_ok() {
            break;
        }
        sys::sleep_ms(10);
        outcome = open(disk, libc::O_RDONLY | libc::O_DIRECT);
    }
    outcome
}

/// Gives the kernel every module there is, each as soon as those are there that it needs. Where the kernel takes none, or has
/// them, nothing happens.
fn load_modules() {
    const MODULES: &str = "/lib/modules/bench";
    let Ok(entries) = fs::read_dir(MODULES) else { return };
    let mut left: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    loop {
        let before = left.len();
        left.retain(|path| {
            let Ok(module) = fs::read(path) else { return false };
            let loaded = syscall!(SYS_init_module, module.as_ptr(), module.len(), c"".as_ptr());
            // What it needs is not there yet.
            loaded == Err(libc::ENOENT)
        });
        if left.is_empty() || left.len() == before {
            return;
        }
    }
}
