//! What only Breenix promises.

use std::{fs, sync::Arc, thread};

use crate::{runner, sys};

crate::tests! { "breenix":
    the_kernel_names_its_build [breenix];
    an_idle_machine_takes_no_periodic_interrupts [breenix];
    a_blocked_thread_costs_at_most_4_kib (180) [breenix];
    the_tasks_are_listed [breenix];
}

fn the_kernel_names_its_build() {
    let build = runner::breenix_build().unwrap_or_default();
    assert!(
        build.len() >= 8 && build.chars().all(|digit| digit.is_ascii_hexdigit()),
        "build {build:?}"
    );
}

/// Interrupts of each CPU since boot, whatever their kind, by `/proc/interrupts`.
fn interrupts() -> Vec<u64> {
    let text = fs::read_to_string("/proc/interrupts").expect("/proc/interrupts");
    let mut sums = Vec::new();
    for kind in ["TMR:", "IPI:", "DEV:", "SPU:"] {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(kind));
        let counts = line.unwrap_or_else(|| panic!("no {kind} in {text}"));
        let counts = counts.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        for (cpu, count) in counts.enumerate() {
            if sums.len() == cpu {
                sums.push(0);
            }
            sums[cpu] += count;
        }
    }
    sums
}

fn an_idle_machine_takes_no_periodic_interrupts() {
    sys::sleep_ms(200);
    let before = interrupts();
    sys::sleep_ms(3000);
    let taken: Vec<u64> = interrupts().iter().zip(before).map(|(now, then)| now - then).collect();
    runner::note(&format!("interrupts of each CPU in 3 s: {taken:?}"));
    // The sleep's own timer, its wake on another CPU, the console: no more than a few. One tick at 100 Hz would be 300 a CPU.
    let all: u64 = taken.iter().sum();
    assert!(all < 40, "{taken:?} interrupts in 3 s with everything asleep");
}

fn a_blocked_thread_costs_at_most_4_kib() {
    const THREADS: u64 = 10_000;
    let gate = Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
    let start = || {
        let gate = gate.clone();
        let wait = move || {
            drop(
                gate.1
                    .wait_while(gate.0.lock().expect("lock"), |open| !*open)
                    .expect("wait"),
            )
        };
        thread::Builder::new().stack_size(16 << 10).spawn(wait).expect("spawn")
    };
    let resident = || -> u64 {
        let statm = fs::read_to_string("/proc/self/statm").expect("/proc/self/statm");
        statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok())
            .expect("pages")
            * 4096
    };
    let mut threads: Vec<_> = (0..100).map(|_| start()).collect();
    sys::sleep_ms(200);
    let (free, own, tables) = (sys::free_memory(), resident(), sys::page_tables());
    threads.extend((0..THREADS).map(|_| start()));
    sys::sleep_ms(2000);
    let used = free.saturating_sub(sys::free_memory());
    let user = resident().saturating_sub(own);
    // Page tables belong to the stacks that they map, which the C library sets far apart.
    let tables = sys::page_tables().saturating_sub(tables);
    let each = used.saturating_sub(user + tables) / THREADS;
    runner::note(&format!(
        "{each} bytes of the kernel for each of {THREADS} blocked threads; left out: {} of page tables, {} of its own memory each",
        tables / THREADS,
        user / THREADS
    ));
    *gate.0.lock().expect("lock") = true;
    gate.1.notify_all();
    threads.into_iter().for_each(|thread| thread.join().expect("join"));
    assert!(each <= 4096, "{each} bytes each");
}

fn the_tasks_are_listed() {
    let tasks = fs::read_to_string("/proc/breenix/tasks").expect("/proc/breenix/tasks");
    assert!(tasks.contains("uart"), "the console's driver is a task:\n{tasks}");
}
