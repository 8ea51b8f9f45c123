//! Waiting within a bound: until a time, or until the connection has to end.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use crate::failure::Failure;
use crate::proxy::registry::Registered;

/// Until then, by the clock itself: tokio's own is not looked at each time where a task always has something to do.
pub(super) async fn until(deadline: Instant) {
    let mut sleep = pin!(unconstrained(sleep_until(deadline)));
    poll_fn(|cx| if Instant::now() >= deadline { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }).await;
}

/// Does this for no longer than that.
pub(super) async fn within(limit: Duration, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = work => {}
        () = until(Instant::now() + limit) => {}
    }
}

/// Does this, unless the connection has to end before.
pub(super) async fn unless_over<T>(
    registered: &Registered,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        result = work => result,
        failure = unconstrained(registered.over()) => Err(failure),
    }
}

/// Waits until the connection has to end. One that is ending for a reload may be ended at once with all others.
pub(super) async fn over(registered: &Registered, is_revoked: bool) -> Failure {
    if is_revoked { registered.ending().await } else { registered.over().await }
}
