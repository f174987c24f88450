//! CPUs that leave.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use executor::{
    Class, RetireError, SpawnError,
    simulation::{Machine, Sim, clock, executor, random, spin, stopped},
    sleep_until,
    sync::IrqCell,
};

use super::{MS, options, spawn};

/// Counts how often it has slept for up to a millisecond.
async fn ticker(count: Arc<AtomicU64>) {
    while !stopped() {
        let until = clock() + random(MS);
        sleep_until::<Sim>(until).await;
        assert!(clock() >= until, "woken early");
        count.fetch_add(1, SeqCst);
    }
}

/// Three CPUs of four leave at random times, one after the other or at once. Sleeping tasks of every class, a driver that a
/// device wakes and spinning user tasks go on; nobody wakes early; what is left runs on the last CPU.
#[test]
fn everything_goes_on_when_cpus_leave() {
    for seed in 0..30 {
        let interrupts = Arc::new(IrqCell::new());
        let served = Arc::new(AtomicU64::new(0));
        let device = interrupts.clone();
        let counts: Vec<_> = (0..16).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let (tickers, driver) = (counts.clone(), served.clone());
        Machine::new(seed, 4, 80 * MS).device(20, move || device.signal()).run(
            || {
                for (n, count) in (0..).zip(tickers) {
                    let class = [Class::Driver, Class::Timer, Class::Service, Class::User][n as usize / 4];
                    spawn(options(class).cpu(n % 4), ticker(count));
                }
                let serve = async move {
                    while !stopped() {
                        driver.fetch_add(interrupts.wait().await.into(), SeqCst);
                    }
                };
                spawn(options(Class::Driver).cpu(1 + seed as u32 % 3), serve);
                for cpu in 0..3 {
                    // Bound to where it soon cannot be.
                    spawn(options(Class::User).cpu(cpu + 1).affinity(1 << (cpu + 1)), spin());
                }
                let retirer = async move {
                    for cpu in 1..4 {
                        sleep_until::<Sim>(clock() + random(10 * MS)).await;
                        executor().retire(cpu).unwrap();
                    }
                    assert_eq!(executor().retire(0), Err(RetireError::LastCpu));
                    sleep_until::<Sim>(clock() + 20 * MS).await;
                    assert_eq!(executor().online(), 1, "seed {seed}");
                    let refused = executor().spawn(options(Class::Service).cpu(2), async {});
                    assert_eq!(refused.err(), Some(SpawnError::NoSuchCpu));
                    assert_eq!(executor().retire(3), Err(RetireError::NotOnline));
                };
                spawn(options(Class::Service).cpu(seed as u32 % 4), retirer);
            },
            || {
                for task in executor().tasks() {
                    assert!(task.cpu == 0 || task.class != Class::Service, "seed {seed}: {task:?}");
                }
            },
        );
        for (n, count) in counts.iter().enumerate() {
            assert!(count.load(SeqCst) >= 20, "seed {seed}: {n} slept {count:?} times");
        }
        assert!(served.load(SeqCst) > 100, "seed {seed}: {served:?} interrupts served");
    }
}
