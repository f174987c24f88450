//! Sleeps, against the timer's interrupt.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize as PlainUsize, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
};

use executor::sleep_until;
use loom::thread;

use super::{EXECUTOR, Model, NOW, be, check};

struct Count(PlainUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_timer_dropped_on_another_cpu_fires_or_is_cancelled() {
    check(|| {
        let fired = Arc::new(Count(PlainUsize::new(0)));
        let mut sleep = Box::pin(sleep_until::<Model>(1_000_000));
        let waker = Waker::from(fired.clone());
        assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        let other = thread::spawn(move || {
            be(1);
            drop(sleep);
        });
        NOW.with(|now| now.store(2_000_000, SeqCst));
        EXECUTOR.timer_interrupt();
        EXECUTOR.run_until_idle();
        other.join().unwrap();
        assert!(fired.0.load(SeqCst) <= 1);
        assert_eq!(Arc::strong_count(&fired), 1, "the wheel kept a waker");
        assert_eq!(EXECUTOR.cpu(0).unwrap().timers, 0);
    });
}
