//! Two host threads as CPUs: tasks that are joined, sleep, and talk through a channel.
//!
//! `cargo run -p executor --features std --example threads`

use executor::{
    Class, Platform, RawSpinLock, SpawnOptions,
    host::{Host, Machine},
    sleep_until,
    sync::channel,
};

const MILLISECOND: u64 = 1_000_000;

pub(crate) fn main() {
    let machine = Machine::new(2);
    let executor = machine.executor();
    let sum = machine.run(async move {
        let (sender, mut receiver) = channel::<RawSpinLock, u64>(4).expect("room for four numbers");
        let producer = async move {
            for number in 1..=10 {
                sleep_until::<Host>(Host::now() + MILLISECOND).await;
                if sender.send(number).await.is_err() {
                    break;
                }
            }
        };
        let consumer = async move {
            let mut sum = 0;
            while let Some(number) = receiver.receive().await {
                sum += number;
            }
            sum
        };
        let options = SpawnOptions::new(Class::Service, "producer").cpu(0);
        executor.spawn_detached(options, producer).expect("a task");
        let options = SpawnOptions::new(Class::Service, "consumer").cpu(1);
        executor.spawn(options, consumer).expect("a task").await
    });
    println!("the sum of what went through the channel: {sum:?}");
    assert_eq!(sum, Ok(Ok(55)));
}
