//! Token buckets: a rate per minute, of which a minute's worth may come at once; in a fixed number of buckets for all sources.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::source::Source;

/// A minute's worth of tokens, which fills up evenly.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct Bucket {
    left: f64,
    at: Option<Instant>,
}

/// A bucket for each source. Their number is fixed, so that nobody can fill the memory with made-up addresses; the hash that
/// chooses a source's bucket differs from start to start.
pub(in crate::proxy) struct Buckets {
    hasher: Hasher,
    buckets: Vec<Bucket>,
}

impl Bucket {
    /// A full one.
    pub(in crate::proxy) fn new(per_minute: u32) -> Self {
        Self { left: f64::from(per_minute), at: None }
    }

    /// Brings it up to date. Whether a token is in it.
    pub(in crate::proxy) fn fill(&mut self, per_minute: u32, now: Instant) -> bool {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let most = f64::from(per_minute);
        self.left = (self.left + since.as_secs_f64() / MINUTE.as_secs_f64() * most).min(most);
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        self.left >= 1.0
    }

    /// Takes a token out of it.
    pub(in crate::proxy) fn take(&mut self) {
        self.left -= 1.0;
    }
}

impl Buckets {
    /// Full ones.
    pub(in crate::proxy) fn new(per_minute: u32) -> Self {
        Self { hasher: Hasher::default(), buckets: vec![Bucket::new(per_minute); BUCKETS] }
    }

    /// The bucket of this source. Nobody's is one as well.
    pub(in crate::proxy) fn of(&mut self, source: Option<IpAddr>) -> Option<&mut Bucket> {
        let index = self.hasher.hash_one(source.map(Source::from)) % BUCKETS as u64;
        self.buckets.get_mut(usize::try_from(index).ok()?)
    }

    #[cfg(test)]
    pub(in crate::proxy) fn count(&self) -> usize {
        self.buckets.len()
    }
}

/// Differs from start to start, so that nobody can choose names that meet in one place. Tests have the same one each time.
#[cfg(not(test))]
type Hasher = std::collections::hash_map::RandomState;
#[cfg(test)]
type Hasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// 100 KiB of them.
pub(in crate::proxy) const BUCKETS: usize = 4096;
const MINUTE: Duration = Duration::from_secs(60);
