//! A simulated device that interrupts, its driver, and who waits for the driver; replayed from a seed.
//!
//! `cargo run -p executor --features simulation --example interrupts -- 7`

use executor::{
    Class, SpawnOptions,
    simulation::{self, Machine, clock},
    sync::{ByteRing, IrqCell, Notify},
};
use std::sync::{Arc, Mutex};

/// A serial port: what its interrupt handler shares with its driver.
struct Port {
    ring: ByteRing<16>,
    line: IrqCell,
}

/// What was read, line by line, and when.
fn run(seed: u64) -> Vec<(u64, String)> {
    let port = Arc::new(Port {
        ring: ByteRing::new(),
        line: IrqCell::new(),
    });
    let text = Mutex::new("one\ntwo\nthree\n".bytes());
    let device = port.clone();
    let handler = move || {
        if let Some(byte) = text.lock().ok().and_then(|mut text| text.next()) {
            device.ring.push(byte);
            device.line.signal();
        }
    };
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (arrived, read) = (Arc::new(Notify::<executor::RawSpinLock>::new()), lines.clone());
    let setup = move || {
        let (signal, pending) = (arrived.clone(), Arc::new(Mutex::new(Vec::new())));
        let complete = pending.clone();
        let driver = async move {
            let mut line = Vec::new();
            loop {
                port.line.wait().await;
                while let Some(byte) = port.ring.pop() {
                    if byte == b'\n' {
                        complete.lock().unwrap().push(std::mem::take(&mut line));
                        signal.notify_one();
                    } else {
                        line.push(byte);
                    }
                }
            }
        };
        let reader = async move {
            loop {
                arrived.notified().await;
                for line in pending.lock().unwrap().drain(..) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    read.lock().unwrap().push((clock(), line));
                }
            }
        };
        let executor = simulation::executor();
        let driver = executor.spawn_detached(SpawnOptions::new(Class::Driver, "serial").cpu(0), driver);
        let reader = executor.spawn_detached(SpawnOptions::new(Class::Service, "reader").cpu(1), reader);
        driver.and(reader).expect("two tasks");
    };
    Machine::new(seed, 2, 10_000_000).device(20, handler).run(setup, || ());
    std::mem::take(&mut lines.lock().unwrap())
}

pub(crate) fn main() {
    let seed = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let lines = run(seed);
    for (time, line) in &lines {
        println!("seed {seed}, {time:>8} ns: {line}");
    }
    let text: Vec<_> = lines.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(text, ["one", "two", "three"]);
    assert_eq!(lines, run(seed), "the same seed gives the same run");
}
