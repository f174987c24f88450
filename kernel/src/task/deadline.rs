//! A wait that ends at a time.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::rt;

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
