//! The number of instances among which a mailbox's sessions are divided without the database, and the times at which it
//! is counted.
//!
//! An instance that ends in good order leaves the count at once, and one that was killed when its registration ends. The
//! count that was made last serves while the database is away: nobody knows who ends then.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::crypto::jitter;
use crate::fleet::interval::interval_of;

/// The number of instances, as last counted.
#[derive(Default)]
pub(super) struct Divisor(Mutex<State>);

#[derive(Default)]
struct State {
    /// The instances that were registered at the last count.
    registered: usize,
    /// The number by which an instance divides; none before the first count.
    count: Option<usize>,
    /// The time of the next count; none where it is due.
    next: Option<Instant>,
    /// The time since which the database answers; none while it is away.
    reached: Option<Instant>,
}

impl Divisor {
    /// The instances that were registered at the last count; 0 before the first.
    pub(super) fn registered(&self) -> usize {
        self.0.lock().registered
    }

    /// The number by which an instance divides; 0 before the first count, where an assumed one serves.
    pub(super) fn known(&self) -> usize {
        self.0.lock().count.unwrap_or_default()
    }

    /// Divides a number among the instances.
    pub(super) fn share(&self, number: usize) -> usize {
        (number / self.0.lock().assumed()).max(1)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.0.lock().next.is_none_or(|next| next <= now)
    }

    /// Notes that the database is away: the next answer is a new beginning.
    pub(super) fn lost(&self) {
        let mut state = self.0.lock();
        (state.reached, state.next) = (None, None);
    }

    /// Takes a count in. A database that is back does not have all instances yet: they register again within the next
    /// seconds. The number before stands until then, so that a database that comes and goes does not let each of them
    /// take all sessions.
    pub(super) fn counted(&self, count: usize, now: Instant) {
        let mut state = self.0.lock();
        let reached = *state.reached.get_or_insert(now);
        let is_settling = now - reached < SETTLING;
        state.registered = count;
        state.count = Some(if is_settling { count.max(state.assumed()) } else { count.max(1) });
        state.next = Some(now + interval_of(COUNTING, count).mul_f64(jitter(0.8, 1.2)));
    }
}

impl State {
    fn assumed(&self) -> usize {
        self.count.unwrap_or(UNKNOWN)
    }
}

/// The interval at which the instances of a small fleet are counted.
const COUNTING: Duration = Duration::from_secs(10);
/// The time within which all instances are registered again once the database is back: the longest pause between two
/// attempts to connect, the interval of the registration, and some statements.
const SETTLING: Duration = Duration::from_secs(30);
/// The number of instances that is assumed before the database was reached.
const UNKNOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Counts this number each ten seconds, from this second to that one.
    fn count(divisor: &Divisor, begin: Instant, seconds: std::ops::Range<u32>, number: usize) {
        for second in seconds.step_by(10) {
            divisor.counted(number, begin + second * SECOND);
        }
    }

    #[test]
    fn a_database_that_is_back_has_not_all_instances_yet() {
        let (divisor, begin) = (Divisor::default(), Instant::now());
        assert_eq!((divisor.registered(), divisor.known(), divisor.share(9)), (0, 0, 3));
        count(&divisor, begin, 0..40, 7);
        assert_eq!((divisor.registered(), divisor.known(), divisor.share(14)), (7, 7, 2));
        // One leaves.
        count(&divisor, begin, 40..50, 6);
        assert_eq!(divisor.known(), 6);
        divisor.lost();
        // It is back, and goes away again before anybody else is registered.
        divisor.counted(1, begin + 60 * SECOND);
        assert_eq!((divisor.registered(), divisor.known()), (1, 6));
        divisor.lost();
        count(&divisor, begin, 70..100, 5);
        assert_eq!(divisor.known(), 6);
        // It stays, and an instance did not come back.
        count(&divisor, begin, 100..110, 5);
        assert_eq!(divisor.known(), 5);
        // More than before count at once.
        divisor.lost();
        divisor.counted(9, begin + 120 * SECOND);
        assert_eq!(divisor.known(), 9);
    }

    #[test]
    fn a_start_assumes_three_until_all_have_registered() {
        let (divisor, begin) = (Divisor::default(), Instant::now());
        count(&divisor, begin, 0..30, 1);
        assert_eq!(divisor.known(), 3);
        count(&divisor, begin, 30..40, 1);
        assert_eq!((divisor.known(), divisor.share(8)), (1, 8));
    }

    #[test]
    fn a_count_is_due_each_ten_seconds_and_at_once_behind_an_outage() {
        let (divisor, begin) = (Divisor::default(), Instant::now());
        assert!(divisor.is_due(begin));
        divisor.counted(3, begin);
        assert!(!divisor.is_due(begin + 7 * SECOND) && divisor.is_due(begin + 12 * SECOND));
        divisor.lost();
        assert!(divisor.is_due(begin));
        divisor.counted(3_000, begin);
        assert!(!divisor.is_due(begin + 200 * SECOND) && divisor.is_due(begin + 400 * SECOND));
    }
}
