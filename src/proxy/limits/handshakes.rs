//! TLS handshakes of sources that have not logged in: so many a minute, in all and from one source.
//!
//! A ClientHello of fifty octets costs an RSA and a Diffie-Hellman operation. Whoever sends them without end would have all
//! of the processor. With the rate of all together used up, each source still has a few: a new device gets in beside a flood.

use std::net::IpAddr;
use std::time::Instant;

use super::bucket::{Bucket, Buckets};
use crate::config::Limits;
use crate::failure::{Failure, Kind};

/// What strangers may begin.
pub(super) struct Handshakes {
    per_minute: u32,
    of_source: u32,
    in_all: Bucket,
    by_source: Buckets,
    /// What each source has beside the rate of all together.
    reserve: Buckets,
}

impl Handshakes {
    pub(super) fn new(limits: &Limits) -> Self {
        let (per_minute, of_source) = (limits.handshakes_per_minute, limits.handshakes_per_minute_of_source);
        let (in_all, by_source) = (Bucket::new(per_minute), Buckets::new(of_source));
        Self { per_minute, of_source, in_all, by_source, reserve: Buckets::new(RESERVE) }
    }

    /// Other rates, for those who come from now on.
    pub(super) fn limit(&mut self, limits: &Limits) {
        (self.per_minute, self.of_source) = (limits.handshakes_per_minute, limits.handshakes_per_minute_of_source);
    }

    /// Counts a handshake of a stranger that is about to begin.
    ///
    /// # Errors
    /// There were too many; the text names the key that raises it.
    pub(super) fn begin(&mut self, source: IpAddr, now: Instant) -> Result<(), Failure> {
        let Some(of_source) = self.by_source.of(Some(source)) else { return Ok(()) };
        if !of_source.fill(self.of_source, now) {
            let detail = format!("limits.handshakes_per_minute_of_source = {}", self.of_source);
            return Err(Failure::new(Kind::TooManyHandshakes, detail));
        }
        // Filled at each handshake, so that a flood takes its own reserve first.
        let reserve = self.reserve.of(Some(source)).and_then(|reserve| reserve.fill(RESERVE, now).then_some(reserve));
        if self.in_all.fill(self.per_minute, now) {
            self.in_all.take();
        } else if reserve.is_none() {
            let detail = format!("limits.handshakes_per_minute = {}", self.per_minute);
            return Err(Failure::new(Kind::TooManyHandshakes, detail));
        }
        reserve.into_iter().for_each(Bucket::take);
        of_source.take();
        Ok(())
    }
}

/// Handshakes a minute that each source has in any case.
const RESERVE: u32 = 6;
