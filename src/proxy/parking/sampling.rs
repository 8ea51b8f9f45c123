//! The choice of the logins that dial although their mailbox has a parked connection, so that the two are compared.

use std::sync::Arc;

use tokio::time::Instant;

use super::Parking;

/// The count of one mail server's logins since the last one that was chosen.
#[derive(Default)]
pub(super) struct Sampling {
    /// Logins that have taken a parked connection since then; none before the first choice.
    taken: Option<u64>,
}

/// A login that dials although its mailbox has a parked connection. Where it ends without a comparison of the two, another
/// login is chosen earlier than otherwise.
pub(in crate::proxy) struct Sample {
    pub(super) parking: Arc<Parking>,
    /// The name of the mail server.
    pub(super) upstream: String,
    pub(super) is_compared: bool,
}

impl Sample {
    /// Notes that the two connections were compared.
    pub(in crate::proxy) fn compared(mut self) {
        self.is_compared = true;
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        if !self.is_compared {
            self.parking.sample_again(&self.upstream);
        }
    }
}

/// The times of a parked connection.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// The time since which it is parked.
    pub(super) parked: Instant,
    /// The time from which it is not used any more.
    pub(super) usable_until: Instant,
}

impl Sampling {
    /// Returns whether a login that could take this connection dials instead. The first one does, and then one in
    /// [`EACH`], when the connection's time will be over at the next poll: a login is due then anyway. Where none is
    /// found so, one in twice as many does.
    pub(super) fn is_due(&self, times: Times, now: Instant) -> bool {
        self.taken.is_none_or(|taken| taken >= EACH && (times.is_last_poll(now) || taken >= 2 * EACH))
    }

    /// Counts a login that takes a parked connection.
    pub(super) fn count_taken(&mut self) {
        if let Some(taken) = &mut self.taken {
            *taken += 1;
        }
    }

    /// Begins to count anew, with a login that dials.
    pub(super) fn begin(&mut self) {
        self.taken = Some(0);
    }

    /// Chooses another login after half as many as otherwise, because nothing came of the last one. A login is lost to each
    /// that fails, and where they all do, because the server never says its numbers, few may be.
    pub(super) fn again(&mut self) {
        self.taken = self.taken.max(Some(EACH / 2));
    }
}

impl Times {
    /// Returns whether the connection cannot be used any more when as much time has gone by again as since it was parked.
    fn is_last_poll(self, now: Instant) -> bool {
        now + now.saturating_duration_since(self.parked) >= self.usable_until
    }
}

/// One login in so many is chosen.
const EACH: u64 = 100;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const AGE: Duration = Duration::from_secs(20 * 60);

    /// Plays polls, with this time between them and a connection that is used for [`AGE`] at most. Returns the numbers of
    /// the polls that dialled, and of those among them that were chosen.
    fn played(polls: u32, interval: Duration) -> (Vec<u32>, Vec<u32>) {
        let (mut sampling, mut dialled, mut chosen) = (Sampling::default(), vec![0], Vec::new());
        let start = Instant::now();
        let mut usable_until = start + AGE;
        for number in 1..polls {
            let now = start + interval * number;
            let times = Times { parked: now - interval, usable_until };
            if now >= usable_until {
                dialled.push(number);
            } else if sampling.is_due(times, now) {
                sampling.begin();
                dialled.push(number);
                chosen.push(number);
            } else {
                sampling.count_taken();
                continue;
            }
            usable_until = now + AGE;
        }
        (dialled, chosen)
    }

    #[test]
    fn the_first_login_is_chosen() {
        assert_eq!(played(2, MINUTE), (vec![0, 1], vec![1]));
    }

    #[test]
    fn comparisons_cost_next_to_no_logins() {
        let (dialled, chosen) = played(24 * 60, MINUTE);
        assert!((12..=14).contains(&chosen.len()), "{chosen:?}");
        // Without comparisons there are 72: one in 20 minutes.
        assert!(dialled.len() <= 74, "{} logins in a day", dialled.len());
    }

    /// A login is lost to a comparison that fails, because the older connection stays and soon ends.
    #[test]
    fn comparisons_that_always_fail_cost_one_login_in_fifty() {
        let mut sampling = Sampling::default();
        let now = Instant::now();
        let (young, old) = (Times { parked: now, usable_until: now + AGE }, Times { parked: now, usable_until: now });
        sampling.begin();
        sampling.again();
        for _ in 0..EACH / 2 {
            assert!(!sampling.is_due(old, now));
            sampling.count_taken();
        }
        assert!(!sampling.is_due(young, now) && sampling.is_due(old, now));
        sampling.begin();
        assert!(!sampling.is_due(old, now));
    }

    #[test]
    fn one_in_two_hundred_is_chosen_where_no_poll_is_the_last_one() {
        let mut sampling = Sampling::default();
        sampling.begin();
        let now = Instant::now();
        let young = Times { parked: now, usable_until: now + AGE };
        for _ in 0..2 * EACH {
            assert!(!sampling.is_due(young, now));
            sampling.count_taken();
        }
        assert!(sampling.is_due(young, now));
    }
}
