//! The budget of cache misses before a delay: each known pair has a few at once, then one more for each longest delay.
//!
//! The password cache answers before a try is delayed, and tells a right password from a wrong one at once. Its misses
//! are bounded, so that a guesser at a known address learns no more from it than from delayed tries.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::source::Source;

/// The budgets of all known pairs, in bounded memory.
pub(super) struct MissBudget {
    /// The time after which one more miss is allowed.
    every: Duration,
    hasher: RandomState,
    /// The time when all misses of a pair are allowed again, by a keyed hash of the pair.
    pairs: Mutex<HashMap<u64, Instant>>,
}

impl MissBudget {
    /// A budget without misses so far.
    pub(super) fn new(every: Duration) -> Self {
        Self { every, hasher: RandomState::new(), pairs: Mutex::default() }
    }

    /// Returns whether the cache may be asked for this pair before a delay. The question counts as a miss until it is
    /// given back.
    pub(super) fn take(&self, device: &str, source: Source) -> bool {
        let (now, mut pairs) = (Instant::now(), self.pairs());
        if pairs.len() >= MOST_PAIRS {
            pairs.retain(|_, full| *full > now);
        }
        let key = self.hasher.hash_one((device, source));
        let full = pairs.get(&key).copied().unwrap_or(now).max(now) + self.every;
        let is_allowed = full.duration_since(now) <= self.every * AT_ONCE && pairs.len() < MOST_PAIRS;
        if is_allowed {
            pairs.insert(key, full);
        }
        is_allowed
    }

    /// Gives a miss back: the cache had the password.
    pub(super) fn give_back(&self, device: &str, source: Source) {
        let (now, mut pairs) = (Instant::now(), self.pairs());
        let key = self.hasher.hash_one((device, source));
        let full = pairs.get(&key).and_then(|full| full.checked_sub(self.every));
        match full {
            Some(full) if full > now => drop(pairs.insert(key, full)),
            Some(_) | None => drop(pairs.remove(&key)),
        }
    }

    fn pairs(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.pairs.lock()
    }
}

/// Misses of one pair at once.
const AT_ONCE: u32 = 10;
/// Most pairs with a budget: more than known pairs.
const MOST_PAIRS: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const EVERY: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn misses_of_a_pair_are_bounded() {
        let misses = MissBudget::new(EVERY);
        let source = Source::from(IpAddr::from(Ipv4Addr::LOCALHOST));
        let taken = |device: &str| (0..100).filter(|_| misses.take(device, source)).count();
        assert_eq!((taken("scanner3"), taken("fax")), (10, 10));
        tokio::time::advance(EVERY).await;
        assert_eq!(taken("scanner3"), 1);
        for _ in 0..100 {
            misses.give_back("scanner3", source);
            assert!(misses.take("scanner3", source));
        }
        assert_eq!(taken("scanner3"), 0);
        // Pairs beyond the most wait for their turns; those that are full again make room.
        let allowed = (0..2 * MOST_PAIRS).filter(|number| misses.take(&number.to_string(), source)).count();
        assert_eq!(allowed, MOST_PAIRS - 2);
        assert_eq!(misses.pairs().len(), MOST_PAIRS);
        tokio::time::advance(20 * EVERY).await;
        assert!(misses.take("another", source));
        assert_eq!(misses.pairs().len(), 1);
    }
}
