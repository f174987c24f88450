//! The executor on real threads.
#![cfg(not(loom))]

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use executor::{
    Class, Elapsed, JoinError, Platform, RawSpinLock, SpawnError, SpawnOptions,
    host::{Host, Machine},
    sleep_until,
    sync::{Mutex, Notify, channel},
    timeout, yield_now,
};

const MS: u64 = 1_000_000;

fn options(class: Class) -> SpawnOptions {
    SpawnOptions::new(class, "host")
}

/// The example of the crate's documentation.
#[test]
fn the_example_holds() {
    let machine = Machine::new(2);
    let executor = machine.executor();
    let answer = machine.run(async move {
        let task = async {
            sleep_until::<Host>(Host::now() + 1_000_000).await;
            42
        };
        let handle = executor
            .spawn(SpawnOptions::new(Class::Service, "answer").cpu(1), task)
            .unwrap();
        handle.await.unwrap()
    });
    assert_eq!(answer, Ok(42));
}

#[test]
fn ten_thousand_tasks_on_four_threads_run_and_are_joined() {
    let machine = Machine::new(4);
    let executor = machine.executor();
    let sum = machine.run(async move {
        let mutex = Arc::new(Mutex::<RawSpinLock, u64>::new(0));
        let handles: Vec<_> = (0..10_000u64)
            .map(|n| {
                let mutex = mutex.clone();
                let task = async move {
                    if n % 3 == 0 {
                        yield_now().await;
                    }
                    *mutex.lock().await += n;
                    n
                };
                let class = if n % 2 == 0 { Class::Service } else { Class::User };
                executor.spawn(options(class).cpu(n as u32 % 4), task).unwrap()
            })
            .collect();
        let mut sum = 0;
        for handle in handles {
            sum += handle.await.unwrap();
        }
        assert_eq!(*mutex.lock().await, sum);
        // A join is told before its task's slot is given back, by the CPU that the task ended on.
        for _ in 0..1_000 {
            if executor.tasks().count() == 1 {
                break;
            }
            sleep_until::<Host>(Host::now() + MS).await;
        }
        assert_eq!(executor.tasks().count(), 1);
        sum
    });
    assert_eq!(sum, Ok(49_995_000));
}

#[test]
fn sleeping_threads_are_woken_by_timers_and_by_each_other() {
    let machine = Machine::new(3);
    let executor = machine.executor();
    machine
        .run(async move {
            let (sender, mut receiver) = channel::<RawSpinLock, u32>(2).unwrap();
            for cpu in 0..3 {
                let sender = sender.clone();
                let task = async move {
                    for n in 0..50 {
                        let deadline = Host::now() + u64::from(cpu) * MS / 4;
                        sleep_until::<Host>(deadline).await;
                        assert!(Host::now() >= deadline);
                        sender.send(n).await.unwrap();
                    }
                };
                executor.spawn(options(Class::Service).cpu(cpu), task).unwrap().detach();
            }
            drop(sender);
            let mut received = 0;
            while receiver.receive().await.is_some() {
                received += 1;
            }
            assert_eq!(received, 150);
            let never = Notify::<RawSpinLock>::new();
            let late = timeout::<Host, _>(Host::now() + MS, never.notified()).await;
            assert_eq!(late, Err(Elapsed));
            let now = timeout::<Host, _>(Host::now() + 1000 * MS, async { 3 }).await;
            assert_eq!(now, Ok(3));
        })
        .unwrap();
}

#[test]
fn a_foreign_thread_wakes_and_aborts() {
    let machine = Machine::new(2);
    let executor = machine.executor();
    let foreign = machine.clone();
    machine
        .run(async move {
            let notify: Arc<Notify<RawSpinLock>> = Arc::default();
            let waiting = notify.clone();
            let waiter = executor
                .spawn(options(Class::Driver).cpu(1), async move { waiting.notified().await })
                .unwrap();
            let sleeper = executor
                .spawn(options(Class::Timer).cpu(1), sleep_until::<Host>(u64::MAX))
                .unwrap();
            let id = sleeper.id();
            let thread = std::thread::spawn(move || {
                foreign.enter(|| {
                    notify.notify_one();
                    executor.abort(id);
                });
            });
            assert_eq!(waiter.await, Ok(()));
            assert_eq!(sleeper.await, Err(JoinError::Aborted));
            thread.join().unwrap();
        })
        .unwrap();
}

#[test]
fn idle_threads_steal_user_tasks() {
    let machine = Machine::new(4);
    let executor = machine.executor();
    machine
        .run(async move {
            // Three tasks, spawned on one CPU, that end only when they have been seen on three.
            let seen = Arc::new(AtomicUsize::new(0));
            let handles: Vec<_> = (0..3)
                .map(|_| {
                    let seen = seen.clone();
                    let task = async move {
                        while (seen.fetch_or(1 << Host::cpu(), SeqCst) | 1 << Host::cpu()).count_ones() < 3 {
                            std::thread::yield_now();
                            yield_now().await;
                        }
                    };
                    executor.spawn(options(Class::User).cpu(1), task).unwrap()
                })
                .collect();
            for handle in handles {
                handle.await.unwrap();
            }
            assert!(executor.cpus().map(|cpu| cpu.steals + cpu.pushes).sum::<u64>() >= 2);
        })
        .unwrap();
}

#[test]
fn a_refused_spawn_drops_its_future() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let machine = Machine::new(1);
    let executor = machine.executor();
    let drops = Arc::new(AtomicUsize::new(0));
    machine.enter(|| {
        let refuse = |options: SpawnOptions| {
            let mark = Counted(drops.clone());
            executor.spawn(options, async move { drop(mark) }).err()
        };
        assert_eq!(refuse(options(Class::Service).cpu(64)), Some(SpawnError::NoSuchCpu));
        assert_eq!(
            refuse(options(Class::User).cpu(0).affinity(2)),
            Some(SpawnError::NoSuchCpu)
        );
        let drivers: Vec<_> = (0..executor::DRIVERS_PER_CPU)
            .map(|_| executor.spawn(options(Class::Driver).cpu(0), async {}).unwrap())
            .collect();
        assert_eq!(refuse(options(Class::Driver).cpu(0)), Some(SpawnError::NoDriverSlot));
        assert_eq!(drops.load(SeqCst), 3);
        drop(drivers);
    });
    // Their bits come back when they have ended.
    machine.run(yield_now()).unwrap();
    machine.enter(|| {
        executor
            .spawn(options(Class::Driver).cpu(0), async {})
            .unwrap()
            .detach()
    });
}

#[test]
fn tasks_can_be_looked_at() {
    let machine = Machine::new(1);
    let executor = machine.executor();
    let seen = Arc::new(AtomicBool::new(false));
    let flag = seen.clone();
    machine
        .run(async move {
            let handle = executor
                .spawn(SpawnOptions::new(Class::Service, "überlanger Name"), yield_now())
                .unwrap();
            let info = executor.task(handle.id()).unwrap();
            assert_eq!(info.name.as_str(), "überlanger Name");
            assert!(info.spawned_at.unwrap().file().ends_with("host.rs"));
            let (current, name) = executor.cpu(0).unwrap().current.unwrap();
            assert_eq!((Some(current), name.as_str()), (executor.current(), "main"));
            let id = handle.id();
            handle.await.unwrap();
            assert!(executor.task(id).is_none());
            flag.store(true, SeqCst);
        })
        .unwrap();
    assert!(seen.load(SeqCst));
}
