//! Sources that devices have logged in from: a part of every limit is kept for them, and strangers share the rest.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::source::Source;

/// Sources that devices have logged in from, on any listener.
#[derive(Default)]
pub(in crate::proxy) struct Known {
    /// Of sessions since the start, also where logins are passed through.
    sources: Mutex<Recent<Source>>,
}

/// The most recent of many things, in bounded memory.
pub(in crate::proxy) struct Recent<T> {
    /// When each was last seen, as a number that grows.
    seen: HashMap<T, u64>,
    next: u64,
}

impl Known {
    /// Whether some device has logged in from there.
    pub(in crate::proxy) fn has(&self, source: IpAddr) -> bool {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).has(&source.into())
    }

    /// Some device has logged in from there.
    pub(super) fn add(&self, source: Source) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).add(source);
    }
}

impl<T: Clone + Eq + Hash> Recent<T> {
    pub(in crate::proxy) fn has(&self, one: &T) -> bool {
        self.seen.contains_key(one)
    }

    /// Adds one, in place of the oldest where there are too many.
    pub(in crate::proxy) fn add(&mut self, one: T) {
        self.next += 1;
        self.seen.insert(one, self.next);
        if self.seen.len() > MOST {
            let oldest = self.seen.iter().min_by_key(|(_, seen)| **seen).map(|(one, _)| one.clone());
            oldest.and_then(|oldest| self.seen.remove(&oldest));
        }
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { seen: HashMap::new(), next: 0 }
    }
}

/// Only a right password adds one.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mut recent = Recent::default();
        (0..MOST).for_each(|number| recent.add(number));
        recent.add(0);
        recent.add(MOST);
        assert!(recent.has(&0) && !recent.has(&1) && recent.has(&MOST));
        assert_eq!(recent.seen.len(), MOST);
    }
}
