//! Waits with a bound: until a time, or until the connection has to end.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use crate::failure::Failure;
use crate::proxy::registry::Registered;

/// Waits until this time. It reads the clock at each poll: tokio fires no timer for a task that never stops working.
pub(super) async fn until(deadline: Instant) {
    let mut sleep = pin!(unconstrained(sleep_until(deadline)));
    poll_fn(|cx| if Instant::now() >= deadline { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }).await;
}

/// Does the work for no longer than the limit.
pub(super) async fn within(limit: Duration, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = work => {}
        () = until(Instant::now() + limit) => {}
    }
}

/// Does the work, unless the connection has to end before.
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

/// Waits until the connection has to end. A session that is ending for a reload still ends at once with the process.
pub(super) async fn over(registered: &Registered, is_revoked: bool) -> Failure {
    if is_revoked { registered.ending().await } else { registered.over().await }
}
