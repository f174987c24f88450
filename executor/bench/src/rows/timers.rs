//! Rows about time. There are no tasks in them: sleeps are polled with a waker that counts.

use crate::{
    count,
    measure::{Sample, Watch},
    peers::{Timers, btree::SortedMap, ours::Ours, tokio::CurrentThread},
    run::{Bar, Case, Dice, Plan, Row, Scale},
};
use anyhow::{Result, ensure};
use std::{
    future::Future,
    pin::{Pin, pin},
    task::Context,
};

const MICROSECOND: u64 = 1000;
const MILLISECOND: u64 = 1000 * MICROSECOND;
const HOUR: u64 = 3_600_000 * MILLISECOND;
/// Sleeps of which the memory is counted.
const MEASURED: usize = 10_000;

pub fn plans() -> Vec<Plan> {
    vec![
        Plan::new("timer-1000", arm_thousand),
        Plan::new("timer-million", arm_million),
        Plan::new("timer-fire", fire_million),
        Plan::new("timer-allocations", allocations),
        Plan::new("timer-bytes", bytes),
    ]
}

/// A cell for everyone who keeps time.
macro_rules! every {
    ($function:ident $arguments:tt) => {
        cells!($function $arguments: Ours, CurrentThread, SortedMap)
    };
}

fn arm_thousand(scale: &Scale) -> Row {
    Row {
        name: "arm and disarm a timer, 1000 outstanding".into(),
        bar: Bar::Ratio(0.1),
        cells: every!(arm_case(1000, scale.operations)),
        ..Row::default()
    }
}

fn arm_million(scale: &Scale) -> Row {
    Row {
        name: format!("arm and disarm a timer, {} outstanding", scale.million),
        bar: Bar::Ratio(0.1),
        cells: every!(arm_case(scale.million, scale.operations)),
        ..Row::default()
    }
}

fn allocations(scale: &Scale) -> Row {
    let cells = every!(arm_case(1000, scale.operations));
    super::allocations("allocations to arm and disarm a timer".into(), cells)
}

/// A time in the second hour from now.
fn some_time(dice: &mut Dice, now: u64) -> u64 {
    now + HOUR + dice.below(HOUR as usize) as u64
}

/// Sleeps in memory of their own, armed.
fn arm<T: Timers>(times: impl Iterator<Item = u64>) -> Result<Vec<Pin<Box<T::Sleep>>>> {
    let waker = count::waker();
    let mut context = Context::from_waker(&waker);
    let mut sleeps: Vec<_> = times.map(|at| Box::pin(T::sleep_until(at))).collect();
    for sleep in &mut sleeps {
        ensure!(
            sleep.as_mut().poll(&mut context).is_pending(),
            "a sleep that ends at once"
        );
    }
    Ok(sleeps)
}

fn arm_case<T: Timers>(outstanding: usize, operations: u64) -> Case {
    let mut dice = Dice(2);
    let mut sleeping = None;
    let mut times = Vec::with_capacity(operations as usize);
    Box::new(move || {
        let _context = T::enter();
        let now = T::now();
        if sleeping.is_none() {
            sleeping = Some(arm::<T>((0..outstanding).map(|_| some_time(&mut dice, now)))?);
        }
        times.clear();
        times.extend((0..operations).map(|_| some_time(&mut dice, now)));
        let waker = count::waker();
        let mut context = Context::from_waker(&waker);
        let mut armed = 0;
        let watch = Watch::cpu();
        for at in &times {
            let sleep = pin!(T::sleep_until(*at));
            armed += u64::from(sleep.poll(&mut context).is_pending());
        }
        let sample = watch.stop(operations);
        ensure!(armed == operations, "{armed} of {operations} timers were armed");
        Ok(sample)
    })
}

fn fire_million(scale: &Scale) -> Row {
    Row {
        name: format!("fire a timer, {} due at once", scale.million),
        bar: Bar::Ratio(0.3),
        share: scale.million_share,
        cells: every!(fire_case(scale.million)),
        ..Row::default()
    }
}

/// Timers of the time after now, one for each microsecond, all of them overdue when the clock is looked at next. A peer whose
/// clock is the real one sleeps through that time, which is not measured.
fn fire_case<T: Timers>(timers: usize) -> Case {
    let mut dice = Dice(3);
    Box::new(move || {
        let _context = T::enter();
        let soon = T::now() + MILLISECOND;
        let window = timers as u64 * MICROSECOND;
        let mut sleeps = arm::<T>((0..timers).map(|_| soon + dice.below(window as usize) as u64))?;
        let before = count::wakes();
        T::wait_until(soon + window);
        let watch = Watch::cpu();
        let mut fired = 0;
        // Few calls do; that many are an end to one which does nothing.
        for _ in 0..timers {
            T::fire();
            fired = count::wakes() - before;
            if fired >= timers as u64 {
                break;
            }
        }
        let sample = watch.stop(timers as u64);
        ensure!(fired == timers as u64, "{fired} wakes of {timers} timers");
        let waker = count::waker();
        let mut context = Context::from_waker(&waker);
        for sleep in &mut sleeps {
            ensure!(
                sleep.as_mut().poll(&mut context).is_ready(),
                "a sleep whose time has come goes on"
            );
        }
        Ok(sample)
    })
}

fn bytes(_: &Scale) -> Row {
    Row {
        name: "memory of a sleeping timer".into(),
        unit: "bytes",
        share: 8,
        cells: every!(bytes_case()),
        ..Row::default()
    }
}

fn bytes_case<T: Timers>() -> Case {
    Box::new(|| {
        let _context = T::enter();
        let mut dice = Dice(4);
        let now = T::now();
        let mut sleeps = Vec::with_capacity(MEASURED);
        let before = count::live_bytes();
        sleeps.extend(arm::<T>((0..MEASURED).map(|_| some_time(&mut dice, now)))?);
        // The list that holds them was there before, or is gone again.
        let spent = count::live_bytes() - before;
        ensure!(spent >= 0, "sleeping frees memory");
        Ok(Sample {
            value: spent as f64 / MEASURED as f64 + T::POOLED as f64,
            allocations: None,
            operations: MEASURED as u64,
        })
    })
}
