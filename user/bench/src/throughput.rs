//! How much gets through: bytes, children, faults, messages.
//!
//! Rows with a number of workers say something of parallel work only on as many CPUs.

use std::{sync::Barrier, thread};

use user_sys::{self as sys, libc, syscall};

use crate::{
    calls::{Descriptors, done, ended_well, open, why},
    programs,
    row::{Sample, repeat, rows},
};

rows! {
    "pipe-64k": through_a_pipe();
    "tmpfs-write": write_again();
    "tmpfs-read": read_back();
    "tmpfs-append": append();
    "fork-storm": fork_storm();
    "faults-1-thread": faults_of_threads(1);
    "faults-2-threads": faults_of_threads(2);
    "faults-4-threads": faults_of_threads(4);
    "faults-1-process": faults_of_processes(1);
    "faults-2-processes": faults_of_processes(2);
    "faults-4-processes": faults_of_processes(4);
    "messages-processes": messages(Workers::Processes);
    "messages-threads": messages(Workers::Threads);
    "hackbench": program("hackbench", &["--pipe", "--process", "--groups", "2", "--loops", "20"]);
    "hackbench-threads": program("hackbench", &["--pipe", "--threads", "--groups", "2", "--loops", "20"]);
    "sysbench-threads": program("sysbench", &["threads", "--threads=4", "--events=200", "--time=0", "run"]);
    "sysbench-mutex": program("sysbench", &["mutex", "--threads=4", "--mutex-locks=2000", "--mutex-loops=100", "run"]);
}

const BLOCK: usize = 64 * 1024;
/// Blocks of a file.
const BLOCKS: usize = 64;

/// A time as one for each KiB of so many blocks.
fn per_kibibyte(sample: Sample, blocks: usize) -> Sample {
    Sample {
        operations: (blocks * BLOCK / 1024) as u64,
        unit: "ns/KiB",
        ..sample
    }
}

/// Blocks from one process to another.
fn through_a_pipe() -> Result<Sample, String> {
    const COUNT: usize = 256;
    let (from, to) = sys::pipe(0);
    let block = vec![7; BLOCK];
    let start = sys::now();
    let pid = sys::try_fork(|| {
        sys::close(to);
        let mut room = vec![0; BLOCK];
        let mut left = COUNT * BLOCK;
        while let Ok(length @ 1..) = sys::read(from, &mut room) {
            left -= length;
        }
        i32::from(left != 0)
    })
    .map_err(why)?;
    sys::close(from);
    for _ in 0..COUNT {
        write_all(to, &block)?;
    }
    sys::close(to);
    ended_well(pid)?;
    Ok(per_kibibyte(Sample::time(1, sys::now() - start), COUNT))
}

fn write_all(file: i32, mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        let length = sys::write(file, bytes).map_err(why)?;
        bytes = &bytes[length..];
    }
    Ok(())
}

/// Fills exactly.
fn read_all(file: i32, mut room: &mut [u8]) -> Result<(), String> {
    while !room.is_empty() {
        match sys::read(file, room).map_err(why)? {
            0 => return Err("an early end".into()),
            length => room = &mut room[length..],
        }
    }
    Ok(())
}

/// A file of `BLOCKS` blocks, without a name.
fn file(filled: bool) -> Result<(i32, Descriptors), String> {
    let path = c"/tmp/bench-throughput";
    let file = open(path, libc::O_CREAT | libc::O_RDWR | libc::O_TRUNC)?;
    let mut closed = Descriptors::default();
    closed.add(&[file]);
    done(syscall!(SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0))?;
    if filled {
        let block = vec![1; BLOCK];
        (0..BLOCKS).try_for_each(|_| write_all(file, &block))?;
    }
    Ok((file, closed))
}

fn rewind(file: i32) -> Result<(), String> {
    done(syscall!(SYS_lseek, file, 0, libc::SEEK_SET))
}

/// Over what is there.
fn write_again() -> Result<Sample, String> {
    let (file, _closed) = file(true)?;
    rewind(file)?;
    let block = vec![2; BLOCK];
    let sample = repeat(BLOCKS as u64, || write_all(file, &block))?;
    Ok(per_kibibyte(sample, BLOCKS))
}

fn read_back() -> Result<Sample, String> {
    let (file, _closed) = file(true)?;
    rewind(file)?;
    let mut room = vec![0; BLOCK];
    let sample = repeat(BLOCKS as u64, || read_all(file, &mut room))?;
    Ok(per_kibibyte(sample, BLOCKS))
}

/// Where nothing was.
fn append() -> Result<Sample, String> {
    let (file, _closed) = file(false)?;
    let block = vec![3; BLOCK];
    let sample = repeat(BLOCKS as u64, || write_all(file, &block))?;
    Ok(per_kibibyte(sample, BLOCKS))
}

/// Many children at once, from the first fork to the last one's end.
fn fork_storm() -> Result<Sample, String> {
    const CHILDREN: u64 = 200;
    let start = sys::now();
    let pids: Result<Vec<i32>, i32> = (0..CHILDREN).map(|_| sys::try_fork(|| 0)).collect();
    pids.map_err(why)?.into_iter().try_for_each(ended_well)?;
    Ok(Sample::time(CHILDREN, sys::now() - start))
}

const PAGE: usize = 4096;
/// Pages that each worker touches.
const PAGES: usize = 2_000;

/// New memory; small pages alone: what a large one saves is no question of throughput.
fn new_memory() -> usize {
    let memory = sys::memory(PAGES * PAGE);
    let _refused = syscall!(SYS_madvise, memory, PAGES * PAGE, libc::MADV_NOHUGEPAGE);
    memory
}

fn touch(memory: usize) {
    for page in 0..PAGES {
        sys::poke(memory + page * PAGE, 1);
    }
}

/// First writes to pages, by workers that share an address space.
fn faults_of_threads(workers: usize) -> Result<Sample, String> {
    let memory: Vec<usize> = (0..workers).map(|_| new_memory()).collect();
    let together = Barrier::new(workers + 1);
    let nanoseconds = thread::scope(|scope| {
        let start = |memory: &usize| {
            let (memory, together) = (*memory, &together);
            scope.spawn(move || {
                together.wait();
                touch(memory);
            })
        };
        let all: Vec<_> = memory.iter().map(start).collect();
        // They have to come to the gate.
        sys::sleep_ms(20);
        let start = sys::now();
        together.wait();
        let ended = all.into_iter().try_for_each(thread::ScopedJoinHandle::join);
        ended.map_err(|_| "a thread panicked".to_owned())?;
        Ok::<u64, String>(sys::now() - start)
    })?;
    for memory in memory {
        done(syscall!(SYS_munmap, memory, PAGES * PAGE))?;
    }
    Ok(Sample::time((workers * PAGES) as u64, nanoseconds))
}

/// First writes to pages, by workers with an address space each.
fn faults_of_processes(workers: usize) -> Result<Sample, String> {
    let (gate, open_gate) = sys::pipe(0);
    let start = |_| {
        sys::try_fork(|| {
            sys::close(open_gate);
            let memory = new_memory();
            // Its end is the sign to begin.
            let _end = sys::read(gate, &mut [0]);
            touch(memory);
            0
        })
    };
    let pids: Result<Vec<i32>, i32> = (0..workers).map(start).collect();
    sys::close(gate);
    // They have to come to the gate.
    sys::sleep_ms(20);
    let start = sys::now();
    sys::close(open_gate);
    pids.map_err(why)?.into_iter().try_for_each(ended_well)?;
    Ok(Sample::time((workers * PAGES) as u64, sys::now() - start))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Workers {
    Processes,
    Threads,
}

/// What a worker does.
type Body = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// As hackbench does it: groups of senders and receivers, each of which has a pipe into which every sender of the group writes.
fn messages(workers: Workers) -> Result<Sample, String> {
    const GROUPS: usize = 2;
    const SENDERS: usize = 10;
    const RECEIVERS: usize = 10;
    const MESSAGES: usize = 20;
    const LENGTH: usize = 100;

    let mut ends = Descriptors::with_room(2 * GROUPS * RECEIVERS)?;
    let mut bodies: Vec<Body> = Vec::new();
    for _ in 0..GROUPS {
        let pipes: Vec<(i32, i32)> = (0..RECEIVERS).map(|_| sys::pipe(0)).collect();
        for (from, to) in &pipes {
            let from = *from;
            ends.add(&[from, *to]);
            bodies.push(Box::new(move || {
                (0..SENDERS * MESSAGES).try_for_each(|_| read_all(from, &mut [0; LENGTH]))
            }));
        }
        for _ in 0..SENDERS {
            let pipes = pipes.clone();
            bodies.push(Box::new(move || {
                (0..MESSAGES)
                    .flat_map(|_| &pipes)
                    .try_for_each(|(_, to)| write_all(*to, &[5; LENGTH]))
            }));
        }
    }
    let start = sys::now();
    match workers {
        Workers::Processes => {
            let start = |body: &Body| sys::try_fork(|| i32::from(body().is_err()));
            let pids: Result<Vec<i32>, i32> = bodies.iter().map(start).collect();
            pids.map_err(why)?.into_iter().try_for_each(ended_well)?;
        }
        Workers::Threads => thread::scope(|scope| {
            let all: Vec<_> = bodies.iter().map(|body| scope.spawn(body)).collect();
            all.into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
        })?,
    }
    Ok(Sample::time(
        (GROUPS * SENDERS * RECEIVERS * MESSAGES) as u64,
        sys::now() - start,
    ))
}

/// A program of the distribution's, from its start to its end.
fn program(name: &str, words: &[&str]) -> Result<Sample, String> {
    let start = sys::now();
    programs::run(name, words)?;
    Ok(Sample {
        operations: 1_000,
        amount: sys::now() - start,
        unit: "us",
    })
}
