//! A wait that ends at a time.

use alloc::boxed::Box;
use core::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{
    clock::{Base, Moment},
    rt,
};

pin_project! {
    /// See [`until`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Until<F> {
        #[pin]
        future: F,
        #[pin]
        sleep: Option<executor::Sleep<rt::Machine>>,
    }
}

/// Waits for `future`, but no longer than to `deadline` (nanoseconds since boot; `None` for ever): `None` if it passed
/// first. A future that is ready wins. Dropping it drops `future`.
pub fn until<F: Future>(deadline: Option<u64>, future: F) -> Until<F> {
    Until {
        future,
        sleep: deadline.map(rt::sleep_until),
    }
}

/// As [`until`], by any clock, wherever that is set meanwhile.
pub async fn by<F: Future>(at: Option<Moment>, future: F) -> Option<F::Output> {
    let Some(moment) = at.filter(|moment| moment.base == Base::Wall) else {
        return until(at.map(|moment| moment.time), future).await;
    };
    // Few wait by the wall clock, and it takes room.
    let mut reached = Box::pin(moment.reached());
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => reached.as_mut().poll(cx).map(|()| None),
    })
    .await
}

impl<F: Future> Future for Until<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(value) = this.future.poll(cx) {
            return Poll::Ready(Some(value));
        }
        match this.sleep.as_pin_mut().map(|sleep| sleep.poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}
