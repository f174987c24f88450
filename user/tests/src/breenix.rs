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

/// Interrupts since boot, by `/proc/stat`.
fn interrupts() -> u64 {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let line = stat
        .lines()
        .find(|line| line.starts_with("intr "))
        .expect("a line intr");
    line.split(' ')
        .nth(1)
        .and_then(|count| count.parse().ok())
        .expect("a count")
}

fn an_idle_machine_takes_no_periodic_interrupts() {
    sys::sleep_ms(200);
    let before = interrupts();
    sys::sleep_ms(3000);
    let taken = interrupts() - before;
    // The sleep's own timer, its wake on another CPU, the console: no more than a few. One tick at 100 Hz would be 300 a CPU.
    assert!(taken < 40, "{taken} interrupts in 3 s with everything asleep");
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
    // Page tables belong to the stacks that they map, which the C library sets far apart.
    let mapped = || resident() + sys::page_tables();
    let (free, own) = (sys::free_memory(), mapped());
    threads.extend((0..THREADS).map(|_| start()));
    sys::sleep_ms(2000);
    let used = free.saturating_sub(sys::free_memory());
    let user = mapped().saturating_sub(own);
    let each = used.saturating_sub(user) / THREADS;
    println!(
        "{each} bytes of the kernel for each of {THREADS} blocked threads ({user} bytes of user memory and its tables left out)"
    );
    *gate.0.lock().expect("lock") = true;
    gate.1.notify_all();
    threads.into_iter().for_each(|thread| thread.join().expect("join"));
    assert!(each <= 4096, "{each} bytes each");
}

fn the_tasks_are_listed() {
    let tasks = fs::read_to_string("/proc/breenix/tasks").expect("/proc/breenix/tasks");
    assert!(tasks.contains("uart"), "the console's driver is a task:\n{tasks}");
}
