//! Rate limits on TLS handshakes of strangers, in all and by source.
//!
//! A ClientHello of fifty octets costs an RSA and a Diffie-Hellman operation, so a flood of them would take the whole
//! processor. Each source keeps a small reserve when the common rate is used up: a new device gets in beside a flood.

use std::net::IpAddr;
use std::time::Instant;

use super::bucket::{Bucket, Buckets};
use crate::config::Limits;
use crate::failure::{Failure, Kind};

/// The handshakes that strangers may begin.
pub(super) struct Handshakes {
    per_minute: u32,
    of_source: u32,
    in_all: Bucket,
    by_source: Buckets,
    /// The reserve of each source beside the common rate.
    reserve: Buckets,
}

impl Handshakes {
    pub(super) fn new(limits: &Limits) -> Self {
        let (per_minute, of_source) = (limits.handshakes_per_minute, limits.handshakes_per_minute_of_source);
        let (in_all, by_source) = (Bucket::new(per_minute), Buckets::new(of_source));
        Self { per_minute, of_source, in_all, by_source, reserve: Buckets::new(RESERVE) }
    }

    /// Sets other rates, from now on.
    pub(super) fn limit(&mut self, limits: &Limits) {
        (self.per_minute, self.of_source) = (limits.handshakes_per_minute, limits.handshakes_per_minute_of_source);
    }

    /// Counts a handshake of a stranger that is about to begin.
    ///
    /// # Errors
    /// There were too many; the text names the key that raises the limit.
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

/// Handshakes a minute that each source has in reserve.
const RESERVE: u32 = 6;
