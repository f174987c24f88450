//! Everything at once, over many short runs.

use std::{
    panic::{UnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

use executor::{
    Class, JoinError, Platform, RealTime, TaskId,
    simulation::{self, Machine, Sim, clock, executor, random, spin, stop, stopped, visit_user},
    sleep_until,
    sync::IrqCell,
    timeout, yield_now,
};

use super::{MS, options, spawn};

const TASKS: usize = 12;

/// What one run counts.
#[derive(Default)]
struct Counts {
    begun: AtomicUsize,
    dropped: AtomicUsize,
    joined: AtomicUsize,
    interrupts: AtomicU64,
    served: AtomicU64,
}

struct Counted(Arc<Counts>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, SeqCst);
    }
}

/// Sleeps, yields, visits user mode, waits in vain, a few times over.
async fn work(class: Class, steps: u64) {
    for _ in 0..steps {
        match random(4) {
            0 => sleep_until::<Sim>(clock() + random(MS / 20)).await,
            1 => yield_now().await,
            2 if class == Class::User => {
                if visit_user().is_err() {
                    yield_now().await;
                }
            }
            _ => {
                let never = core::future::pending::<()>();
                assert!(timeout::<Sim, _>(clock() + random(MS / 50), never).await.is_err());
            }
        }
    }
}

/// Fair as often as not.
fn policy() -> RealTime {
    match random(4) {
        0 => RealTime::fifo(random(4) as u8),
        1 => RealTime::round_robin(1 + random(4) as u8),
        _ => RealTime::NONE,
    }
}

async fn supervise(counts: Arc<Counts>) {
    while executor().online() != 0b111 {
        sleep_until::<Sim>(clock() + MS / 100).await;
    }
    let mut tasks: Vec<(TaskId, _)> = Vec::new();
    for n in 0..TASKS {
        let class = [Class::Driver, Class::Timer, Class::Service, Class::User][n % 4];
        let counted = Counted(counts.clone());
        counts.begun.fetch_add(1, SeqCst);
        let steps = 1 + random(6);
        let mut how = options(class).cpu(random(3) as u32);
        if class == Class::User {
            how.cpu = None;
            how = how.affinity(1 + random(7)).real_time(policy());
        }
        let handle = executor().spawn(how, async move {
            let _counted = counted;
            work(class, steps).await;
        });
        let handle = handle.unwrap();
        tasks.push((handle.id(), handle));
        if random(3) == 0 {
            sleep_until::<Sim>(clock() + random(MS / 50)).await;
        }
    }
    for _ in 0..random(8) {
        let (id, _) = tasks[random(TASKS as u64) as usize];
        match random(5) {
            4 => _ = executor().set_policy(id, 1024, policy()),
            0 => executor().abort(id),
            1 => executor().wake_task(id),
            2 => _ = executor().set_affinity(id, 1 + random(7)),
            _ => sleep_until::<Sim>(clock() + random(MS / 50)).await,
        }
    }
    for (_, handle) in tasks {
        assert!(matches!(handle.await, Ok(()) | Err(JoinError::Aborted)));
        counts.joined.fetch_add(1, SeqCst);
    }
    stop();
}

/// Tasks of every class on three CPUs sleep, yield, run in user mode, are woken, aborted, moved and given other policies at random, while a device
/// interrupts. Each future is dropped once, each join is answered once, no interrupt is lost: or the run would end by its time,
/// with something undone.
#[test]
fn a_storm_leaves_nothing_behind() {
    simulation::seeds(0..600, |seed| {
        let counts = Arc::new(Counts::default());
        let line = Arc::new(IrqCell::new());
        let (device, serving, raised) = (line.clone(), line.clone(), counts.clone());
        let handler = move || {
            raised.interrupts.fetch_add(1, SeqCst);
            device.signal();
        };
        let (driver, supervised) = (counts.clone(), counts.clone());
        let left = Machine::new(seed, 3, 1000 * MS).device(40, handler).run(
            move || {
                spawn(options(Class::Service).cpu(0), supervise(supervised));
                spawn(options(Class::Driver).cpu(seed as u32 % 3), async move {
                    while !stopped() {
                        driver.served.fetch_add(serving.wait().await.into(), SeqCst);
                    }
                });
            },
            || executor().tasks().count(),
        );
        let of = |count: &AtomicUsize| count.load(SeqCst);
        assert_eq!(
            [of(&counts.begun), of(&counts.dropped), of(&counts.joined)],
            [TASKS; 3],
            "seed {seed}"
        );
        assert!(left <= 2, "seed {seed}: {left} tasks are left");
        let (raised, served) = (counts.interrupts.load(SeqCst), counts.served.load(SeqCst));
        assert!(
            served <= raised && (raised < 10 || served > 0),
            "seed {seed}: {served} of {raised}"
        );
    });
}

/// What a run panics with.
fn panic_of(run: impl FnOnce() + UnwindSafe) -> String {
    let panic = catch_unwind(run).unwrap_err();
    *panic.downcast::<String>().unwrap()
}

/// A panic anywhere ends the run and names seed and CPU, also while another CPU spins for what the panicked one should have
/// done.
#[test]
fn a_panic_is_the_caller_s_and_names_the_seed() {
    let in_task = panic_of(|| {
        Machine::new(77, 3, 100 * MS).run(
            || {
                let promised = Arc::new(AtomicUsize::new(0));
                let waits = promised.clone();
                spawn(options(Class::Service).cpu(1), async move {
                    while promised.load(SeqCst) == 0 && !stopped() {
                        Sim::relax();
                    }
                });
                spawn(options(Class::Service).cpu(2), async move {
                    sleep_until::<Sim>(clock() + MS).await;
                    assert_eq!(waits.load(SeqCst), 1, "on purpose");
                    waits.store(1, SeqCst);
                });
            },
            || (),
        );
    });
    assert!(
        in_task.starts_with("seed 77, CPU 2: ") && in_task.contains("on purpose"),
        "{in_task}"
    );
    let in_handler = panic_of(|| {
        let machine = Machine::new(5, 2, 100 * MS).device(5, || panic!("in a handler"));
        machine.run(|| spawn(options(Class::User), spin()), || ());
    });
    assert!(
        in_handler.starts_with("seed 5, CPU ") && in_handler.ends_with(": in a handler"),
        "{in_handler}"
    );
    let in_setup = panic_of(|| Machine::new(6, 3, MS).run(|| panic!("at first"), || ()));
    assert_eq!(in_setup, "seed 6, CPU 0: at first");
    let in_look = panic_of(|| Machine::new(7, 3, MS).run(|| (), || panic!("at last")));
    assert_eq!(in_look, "seed 7, CPU 0: at last");
    let nested = panic_of(|| Machine::new(8, 1, MS).run(|| Machine::new(9, 1, MS).run(|| (), || ()), || ()));
    assert_eq!(nested, "seed 8, CPU 0: a run within a run");
}
