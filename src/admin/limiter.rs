//! The limiter bounds connections to the page, in all and for each source, so that no source keeps out all others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::source::Source;

/// Counts of connections by source, and sources that were authenticated lately.
#[derive(Default)]
pub(super) struct ConnectionLimiter(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    all: usize,
    of: HashMap<Source, usize>,
    /// Sources that got an answer that is not for everybody, and when that was last.
    known: HashMap<Source, Instant>,
}

/// The permit of one connection. Dropping it gives it back.
pub(super) struct Permit {
    limiter: Arc<ConnectionLimiter>,
    source: Source,
}

impl ConnectionLimiter {
    /// A permit for a connection from this address, if the limits leave one.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let source = Source::from(address);
        let mut counts = self.0.lock();
        let own = counts.of.get(&source).copied().unwrap_or_default();
        let is_known = counts.known.get(&source).is_some_and(|when| when.elapsed() < REMEMBERED);
        let has_room = own < OF_A_SOURCE && counts.all < ALL - KEPT;
        let has_kept_room = is_known && own < KEPT_OF_A_SOURCE && counts.all < ALL;
        if !has_room && !has_kept_room {
            return None;
        }
        counts.all += 1;
        counts.of.insert(source, own + 1);
        drop(counts);
        Some(Permit { limiter: Arc::clone(self), source })
    }
}

impl Permit {
    /// Notes that the source got an answer that is not for everybody.
    pub(super) fn mark_authenticated(&self) {
        let mut counts = self.limiter.0.lock();
        counts.known.insert(self.source, Instant::now());
        if counts.known.len() > MOST_KNOWN
            && let Some(oldest) = counts.known.iter().min_by_key(|(_, when)| **when).map(|(source, _)| *source)
        {
            counts.known.remove(&oldest);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.limiter.0.lock();
        counts.all = counts.all.saturating_sub(1);
        match counts.of.get_mut(&self.source) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(counts.of.remove(&self.source)),
        }
    }
}

/// The most connections at a time.
const ALL: usize = 64;
/// Connections of these that are reserved for sources that were authenticated lately.
const KEPT: usize = 16;
/// The most connections of one source: a browser, Prometheus and a load balancer's health checks, and more of each.
const OF_A_SOURCE: usize = 16;
/// The most connections of one source where only reserved ones are left.
const KEPT_OF_A_SOURCE: usize = 4;
/// The time for which a source stays authenticated; Prometheus comes every minute, a person now and then.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
const MOST_KNOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[test]
    fn a_source_takes_its_share_and_no_more() {
        let limiter = Arc::<ConnectionLimiter>::default();
        let held: Vec<Permit> = (0..100).filter_map(|_| limiter.take(from(1))).collect();
        assert_eq!(held.len(), OF_A_SOURCE);
        assert!(limiter.take(from(2)).is_some());
        drop(held);
        assert!(limiter.take(from(1)).is_some());
        let counts = limiter.0.lock();
        assert_eq!((counts.all, counts.of.len()), (0, 0));
    }

    #[test]
    fn some_connections_are_kept_for_sources_that_were_answered() {
        let limiter = Arc::<ConnectionLimiter>::default();
        limiter.take(from(1)).unwrap().mark_authenticated();
        let held: Vec<Permit> = (0..1000).filter_map(|n| limiter.take(from(2 + (n % 100) as u8))).collect();
        assert_eq!(held.len(), ALL - KEPT);
        assert!(limiter.take(from(200)).is_none());
        let kept: Vec<Permit> = (0..100).filter_map(|_| limiter.take(from(1))).collect();
        assert_eq!(kept.len(), KEPT_OF_A_SOURCE);
    }

    #[test]
    fn few_sources_are_remembered() {
        let limiter = Arc::<ConnectionLimiter>::default();
        (0..200).for_each(|last| limiter.take(from(last)).unwrap().mark_authenticated());
        assert_eq!(limiter.0.lock().known.len(), MOST_KNOWN);
        assert!(limiter.0.lock().known.contains_key(&Source::from(from(199))));
    }
}
