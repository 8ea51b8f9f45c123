//! Connections to the page at a time, shared by source: nobody takes the places of all others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::source::Source;

/// Sources that are connected, and sources that were answered lately.
#[derive(Default)]
pub(super) struct Places(Mutex<Held>);

#[derive(Default)]
struct Held {
    all: usize,
    of: HashMap<Source, usize>,
    /// Sources that were told something that is not for everybody, and when that was last.
    known: HashMap<Source, Instant>,
}

/// One of the connections. Dropping it gives its place back.
pub(super) struct Place {
    places: Arc<Places>,
    source: Source,
}

impl Places {
    /// A place for a connection from this address, if there is one for it.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let source = Source::from(address);
        let mut held = self.held();
        let own = held.of.get(&source).copied().unwrap_or_default();
        let is_known = held.known.get(&source).is_some_and(|when| when.elapsed() < REMEMBERED);
        let has_room = own < OF_A_SOURCE && held.all < ALL - KEPT;
        let has_kept_room = is_known && own < KEPT_OF_A_SOURCE && held.all < ALL;
        if !has_room && !has_kept_room {
            return None;
        }
        held.all += 1;
        held.of.insert(source, own + 1);
        drop(held);
        Some(Place { places: Arc::clone(self), source })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Its source was told something that is not for everybody.
    pub(super) fn was_let_in(&self) {
        let mut held = self.places.held();
        held.known.insert(self.source, Instant::now());
        if held.known.len() > MOST_KNOWN
            && let Some(oldest) = held.known.iter().min_by_key(|(_, when)| **when).map(|(source, _)| *source)
        {
            held.known.remove(&oldest);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held();
        held.all = held.all.saturating_sub(1);
        match held.of.get_mut(&self.source) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(held.of.remove(&self.source)),
        }
    }
}

/// Connections at a time.
const ALL: usize = 64;
/// Of them, those that only sources have that were answered lately.
const KEPT: usize = 16;
/// Those of one source: a browser, Prometheus and a balancer that asks for health, and more of each.
const OF_A_SOURCE: usize = 16;
/// Those of one source where only kept places are left.
const KEPT_OF_A_SOURCE: usize = 4;
/// Prometheus asks every minute, a person now and then.
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
        let places = Arc::<Places>::default();
        let held: Vec<Place> = (0..100).filter_map(|_| places.take(from(1))).collect();
        assert_eq!(held.len(), OF_A_SOURCE);
        assert!(places.take(from(2)).is_some());
        drop(held);
        assert!(places.take(from(1)).is_some());
        let held = places.held();
        assert_eq!((held.all, held.of.len()), (0, 0));
    }

    #[test]
    fn some_places_are_kept_for_sources_that_were_answered() {
        let places = Arc::<Places>::default();
        places.take(from(1)).unwrap().was_let_in();
        let held: Vec<Place> = (0..1000).filter_map(|n| places.take(from(2 + (n % 100) as u8))).collect();
        assert_eq!(held.len(), ALL - KEPT);
        assert!(places.take(from(200)).is_none());
        let kept: Vec<Place> = (0..100).filter_map(|_| places.take(from(1))).collect();
        assert_eq!(kept.len(), KEPT_OF_A_SOURCE);
    }

    #[test]
    fn few_sources_are_remembered() {
        let places = Arc::<Places>::default();
        (0..200).for_each(|last| places.take(from(last)).unwrap().was_let_in());
        assert_eq!(places.held().known.len(), MOST_KNOWN);
        assert!(places.held().known.contains_key(&Source::from(from(199))));
    }
}
