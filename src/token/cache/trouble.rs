//! Failures to fetch a token: each calls for a pause, which ends early when somebody mends the cause.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::{CachedToken, IDLE, Stamps};
use crate::config::Grant;
use crate::crypto::jitter;
use crate::failure::{Failure, Kind};
use crate::token::error::Error;
use crate::token::keeping::Look;

/// The last failure to fetch a token, and the end of the pause after it.
#[derive(Clone)]
pub(super) struct Trouble {
    pub(super) failure: Failure,
    /// The failure without what differs from one attempt to the next.
    topic: String,
    pub(super) until: Instant,
    times: u32,
    /// The state of what was read: a change ends the pause.
    stamps: Stamps,
}

impl CachedToken {
    /// Ends the pause after a failure: whoever reloads has probably mended the cause. A password that was refused is not
    /// sent again before its file changes, because the provider may lock the account.
    pub fn end_pause(&self) {
        if matches!(self.spec.identity.grant, Grant::Password(_)) {
            return;
        }
        if let Some(trouble) = &mut self.state().trouble {
            trouble.until = Instant::now();
        }
    }

    /// Returns the pause that a failure calls for, and how many like it there were before.
    pub(super) fn pause(&self, error: &Error) -> (Duration, u32) {
        let kind = error.kind();
        let state = self.state();
        let last = state.trouble.as_ref().filter(|last| last.failure.kind == kind);
        let times = last.map_or(0, |last| last.times + 1);
        drop(state);
        if kind == Kind::TokenRefused && matches!(self.spec.identity.grant, Grant::Password(_)) {
            // A wrong password that is sent again and again locks the account; a new file is noticed.
            return (IDLE, times);
        }
        let (first, longest) = if kind == Kind::TokenRefused { REFUSED } else { UNAVAILABLE };
        let pause = first.saturating_mul(1 << times.min(16)).min(longest).mul_f64(jitter(0.8, 1.2));
        (pause.max(error.retry_after().unwrap_or_default().min(LONGEST_RETRY_AFTER)), times)
    }

    pub(super) fn trouble(&self, error: Error, stamps: Stamps) -> Failure {
        let ((pause, times), topic) = (self.pause(&error), error.topic());
        let failure = Failure::from(error);
        let mut state = self.state();
        let last = state.trouble.take();
        let is_news = last.is_none_or(|last| last.failure.kind != failure.kind || last.topic != topic);
        state.trouble = Some(Trouble { failure: failure.clone(), topic, until: Instant::now() + pause, times, stamps });
        let left = state.token.as_ref().map(|token| token.left().as_secs()).filter(|left| *left > 0);
        drop(state);
        let still = left.map_or_else(String::new, |left| {
            format!("; the present token lasts for another {}", humantime::format_duration(Duration::from_secs(left)))
        });
        if is_news {
            warn!(
                identity = self.spec.owner.identity,
                user = self.spec.owner.user,
                reason = failure.kind.label(),
                "{failure}{still}"
            );
        } else {
            debug!(identity = self.spec.owner.identity, user = self.spec.owner.user, "{failure}{still}");
        }
        failure
    }

    pub(super) async fn still_in_trouble(&self) -> Option<Failure> {
        if self.has_changed().await {
            return None;
        }
        let state = self.state();
        state.trouble.as_ref().filter(|trouble| trouble.until > Instant::now()).map(|trouble| trouble.failure.clone())
    }

    /// Returns whether somebody has signed in, or changed a file, since the last failure.
    pub(super) async fn has_changed(&self) -> bool {
        let in_trouble = self.state().trouble.as_ref().map(|trouble| trouble.stamps.clone());
        let Some(stamps) = in_trouble else { return false };
        self.stamps(Look::Anew).await.is_some_and(|present| stamps != present)
    }
}

/// First pause and longest one, after what passes and after what does not: even that may be mended elsewhere.
const UNAVAILABLE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5 * 60));
const REFUSED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15 * 60));
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);
