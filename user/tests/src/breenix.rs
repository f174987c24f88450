//! What only Breenix promises.

use std::{fs, sync::Arc, thread};

use crate::{runner, sys, syscall};

crate::tests! { "breenix":
    the_kernel_names_its_build [breenix "a promise of Breenix"];
    an_idle_machine_takes_no_periodic_interrupts [breenix "a promise of Breenix"];
    a_blocked_thread_costs_at_most_4_kib (180) [breenix "a promise of Breenix"];
    the_tasks_are_listed [breenix "a promise of Breenix"];
    cpu_time_stands_where_it_was_spent [breenix "a promise of Breenix"];
    load_averages_are_the_same_everywhere [breenix "a promise of Breenix"];
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
    let kinds = ["TMR:", "IPI:", "DEV:", "SPU:"].map(sys::interrupts);
    let of = |cpu: usize| kinds.iter().map(|counts| counts[cpu]).sum();
    (0..kinds[0].len()).map(of).collect()
}

fn an_idle_machine_takes_no_periodic_interrupts() {
    sys::sleep_ms(200);
    let before = interrupts();
    sys::sleep_ms(3000);
    let taken: Vec<u64> = interrupts().iter().zip(before).map(|(now, then)| now - then).collect();
    runner::note(&format!("interrupts of each CPU in 3 s: {taken:?}"));
    // The sleep's own timer, its wake on another CPU, the console: no more than a few. One tick at 100 Hz would be 300 a CPU, and is
    // what one CPU has where the console cannot interrupt and is looked at.
    let command_line = fs::read_to_string("/proc/cmdline").expect("/proc/cmdline");
    let looks = if command_line.contains("console=poll") { 300 } else { 0 };
    let all: u64 = taken.iter().sum();
    assert!(all < looks + 40, "{taken:?} interrupts in 3 s with everything asleep");
}

fn a_blocked_thread_costs_at_most_4_kib() {
    const THREADS: u64 = 4_000;
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

/// One column of the first line of `/proc/stat`, in ticks.
#[derive(Clone, Copy)]
enum Column {
    User = 1,
    Nice = 2,
    System = 3,
    Idle = 4,
    Interrupts = 6,
}

/// Ticks of 10 ms in these columns together, and the sum of the columns of all CPUs' own lines.
fn ticks(columns: &[Column]) -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let row = |line: &str| -> Vec<u64> { line.split_whitespace().filter_map(|word| word.parse().ok()).collect() };
    let mut lines = stat.lines().take_while(|line| line.starts_with("cpu"));
    let all = row(lines.next().expect("a line cpu"));
    assert_eq!(all.len(), 10, "{stat}");
    let picked = columns.iter().map(|column| all[*column as usize - 1]).sum();
    (picked, lines.map(|line| row(line).iter().sum::<u64>()).sum())
}

/// Nanoseconds that this process has used in user mode and in the kernel.
fn used() -> [u64; 2] {
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    syscall!(SYS_getrusage, libc::RUSAGE_SELF, &raw mut usage).expect("getrusage");
    [usage.ru_utime, usage.ru_stime].map(|time| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000)
}

fn cpu_time_stands_where_it_was_spent() {
    const TICK: u64 = 10_000_000;
    const ENOUGH: u64 = 300_000_000;
    let compute: fn() = || {
        std::hint::black_box((0..1000_u64).sum::<u64>());
    };
    let call: fn() = || {
        let _parent = syscall!(SYS_getppid);
    };
    let spin_until = |kind: usize, work: fn()| {
        let before = used()[kind];
        while used()[kind] - before < ENOUGH {
            (0..1000).for_each(|_| work());
        }
    };
    // Less a tick that each look cuts off on each CPU.
    let least = ENOUGH / TICK - 2 * sys::cpus().len() as u64;
    let spent = |columns: &[Column], work: &dyn Fn()| {
        let before = ticks(columns).0;
        work();
        ticks(columns).0 - before
    };
    let user = spent(&[Column::User], &|| spin_until(0, compute));
    assert!(user >= least, "{user} ticks under user");
    let system = spent(&[Column::System, Column::Interrupts], &|| spin_until(1, call));
    assert!(system >= least, "{system} ticks under system");
    let nice = spent(&[Column::Nice], &|| {
        sys::in_child(|| {
            syscall!(SYS_setpriority, libc::PRIO_PROCESS, 0, 10).expect("setpriority");
            spin_until(0, compute);
        });
    });
    assert!(nice >= least, "{nice} ticks under nice");
    // While it sleeps, an idle CPU's time goes on: every CPU's columns add up to the time that has passed.
    let (began, before, idle) = (sys::now(), ticks(&[]).1, ticks(&[Column::Idle]).0);
    sys::sleep_ms(500);
    let idle = ticks(&[Column::Idle]).0 - idle;
    let (after, passed) = (ticks(&[]).1, sys::now() - began);
    let cpus = sys::cpus().len() as u64;
    let all = (after - before).abs_diff(passed * cpus / TICK);
    // Each of a CPU's columns is cut to a tick.
    assert!(
        all <= 6 * cpus,
        "{} ticks of {cpus} CPUs in {passed} ns",
        after - before
    );
    assert!(idle > 0, "nothing idle in {passed} ns");
}

fn load_averages_are_the_same_everywhere() {
    // SAFETY: all-zero is a valid sysinfo.
    let mut info: libc::sysinfo = unsafe { std::mem::zeroed() };
    let looks = || fs::read_to_string("/proc/loadavg").expect("/proc/loadavg");
    let hundredths = |text: &str| -> Vec<u64> {
        let words = text.split(' ').take(3);
        words
            .map(|word| word.replace('.', "").parse().expect("a number"))
            .collect()
    };
    // They move only every 5 s: one of a few looks has no move in it.
    for _ in 0..10 {
        let before = looks();
        syscall!(SYS_sysinfo, &raw mut info).expect("sysinfo");
        if hundredths(&before) == hundredths(&looks()) {
            let fixed: Vec<u64> = info.loads.iter().map(|load| (load * 100 + (1 << 15)) >> 16).collect();
            assert_eq!(fixed, hundredths(&before));
            return;
        }
    }
    panic!("the averages never stand still");
}
