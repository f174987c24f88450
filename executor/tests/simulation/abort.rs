//! Aborts, whatever the tasks do.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use executor::{
    Class, JoinError,
    simulation::{Machine, Sim, clock, executor, random, spin, stop},
    sleep_until,
    sync::Notify,
    yield_now,
};

use super::{MS, options, spawn};

/// Tasks that sleep, wait, spin in user mode or are ready are aborted at random: each future is dropped once, by a CPU,
/// and its join says so.
#[test]
fn abort_drops_every_future_once() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    for seed in 0..20 {
        const TASKS: usize = 24;
        let (drops, joined) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (dropped, counted) = (drops.clone(), joined.clone());
        Machine::new(seed, 3, 10_000 * MS).run(
            || {
                let never: Arc<Notify<executor::RawSpinLock>> = Arc::default();
                let mut handles = Vec::new();
                for n in 0..TASKS {
                    let (mark, never) = (Counted(dropped.clone()), never.clone());
                    let class = [Class::Service, Class::User, Class::Driver, Class::User][n % 4];
                    let task = async move {
                        let _mark = mark;
                        match n % 6 {
                            0 => sleep_until::<Sim>(clock() + random(20 * MS)).await,
                            1 if class == Class::User => spin().await,
                            2 => never.notified().await,
                            3 => sleep_until::<Sim>(u64::MAX).await,
                            _ => {
                                for _ in 0..random(50) {
                                    yield_now().await;
                                }
                            }
                        }
                    };
                    handles.push(executor().spawn(options(class).cpu(n as u32 % 3), task).unwrap());
                }
                let judge = async move {
                    for handle in &handles {
                        if random(3) != 0 {
                            sleep_until::<Sim>(clock() + random(MS)).await;
                        }
                        handle.abort();
                        if random(2) == 0 {
                            handle.abort();
                        }
                    }
                    for handle in handles {
                        if random(4) == 0 {
                            drop(handle);
                        } else {
                            assert!(matches!(handle.await, Ok(()) | Err(JoinError::Aborted)));
                        }
                        counted.fetch_add(1, SeqCst);
                    }
                    while executor().tasks().count() > 1 {
                        yield_now().await;
                    }
                    stop();
                };
                spawn(options(Class::Service), judge);
            },
            || assert_eq!(executor().tasks().count(), 0, "seed {seed}: a slot was not freed"),
        );
        assert_eq!(joined.load(SeqCst), TASKS, "seed {seed}: a join never came");
        assert_eq!(drops.load(SeqCst), TASKS, "seed {seed}");
    }
}
