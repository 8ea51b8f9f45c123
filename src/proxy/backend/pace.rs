//! The pace of one mailbox: so many messages a minute, after a minute's worth at once.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The messages that a mailbox has sent, as the time until which it has sent enough.
#[derive(Default)]
pub(super) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// A pace that goes on where another one is.
    pub(super) fn after(other: &Self) -> Self {
        Self(Mutex::new(*other.0.lock()))
    }

    /// Counts a message. Returns the wait before the next one.
    pub(super) fn count(&self, per_minute: u32) -> Duration {
        let now = Instant::now();
        let mut enough_until = self.0.lock();
        let until = enough_until.map_or(now, |until| until.max(now)) + MINUTE / per_minute.max(1);
        *enough_until = Some(until);
        until.saturating_duration_since(now).saturating_sub(MINUTE)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minute_s_worth_goes_at_once_and_the_rest_evenly() {
        let pace = Pace::default();
        for number in 0..30 {
            assert_eq!(pace.count(30), Duration::ZERO, "{number}");
        }
        assert_eq!(pace.count(30), Duration::from_secs(2));
        assert_eq!(Pace::after(&pace).count(30), Duration::from_secs(4));
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(pace.count(30), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(600)).await;
        for _ in 0..30 {
            assert_eq!(pace.count(30), Duration::ZERO);
        }
        assert_eq!(pace.count(30), Duration::from_secs(2), "a long silence saves no more than a minute");
    }
}
