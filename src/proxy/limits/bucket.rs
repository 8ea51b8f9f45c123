//! Token buckets: a rate per minute, with bursts of a minute's worth; a fixed number of buckets serves all sources.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::source::Source;

/// A token bucket that holds a minute's worth of tokens and fills evenly.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct Bucket {
    left: f64,
    at: Option<Instant>,
}

/// Buckets by source. Their number is fixed, so that made-up addresses cannot fill the memory. The hash that chooses a
/// source's bucket has another key in each process.
pub(in crate::proxy) struct Buckets {
    hasher: Hasher,
    buckets: Vec<Bucket>,
}

impl Bucket {
    /// A full bucket.
    pub(in crate::proxy) fn new(per_minute: u32) -> Self {
        Self { left: f64::from(per_minute), at: None }
    }

    /// Adds the tokens since the last call. Returns whether a token is in the bucket.
    pub(in crate::proxy) fn fill(&mut self, per_minute: u32, now: Instant) -> bool {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let most = f64::from(per_minute);
        self.left = (self.left + since.as_secs_f64() / MINUTE.as_secs_f64() * most).min(most);
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        self.left >= 1.0
    }

    /// Takes a token.
    pub(in crate::proxy) fn take(&mut self) {
        self.left -= 1.0;
    }
}

impl Buckets {
    /// Full buckets.
    pub(in crate::proxy) fn new(per_minute: u32) -> Self {
        Self { hasher: Hasher::default(), buckets: vec![Bucket::new(per_minute); BUCKETS] }
    }

    /// The bucket of this source. Lines without a source have one, too.
    pub(in crate::proxy) fn of(&mut self, source: Option<IpAddr>) -> Option<&mut Bucket> {
        let index = self.hasher.hash_one(source.map(Source::from)) % BUCKETS as u64;
        self.buckets.get_mut(usize::try_from(index).ok()?)
    }

    #[cfg(test)]
    pub(in crate::proxy) fn count(&self) -> usize {
        self.buckets.len()
    }
}

/// The hash has a random key, so that nobody can choose sources that share a bucket. Tests use a fixed one.
#[cfg(not(test))]
type Hasher = std::collections::hash_map::RandomState;
#[cfg(test)]
type Hasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// The buckets take 100 KiB.
pub(in crate::proxy) const BUCKETS: usize = 4096;
const MINUTE: Duration = Duration::from_secs(60);
