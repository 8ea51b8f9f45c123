//! TLS handshakes of sources that have not logged in: so many a minute, in all and from one source.
//!
//! A ClientHello of fifty octets costs an RSA and a Diffie-Hellman operation. Whoever sends them without end would have all
//! of the processor.

use std::net::IpAddr;
use std::time::Instant;

use super::super::bucket::{Bucket, Buckets};
use crate::config::Limits;
use crate::failure::{Failure, Kind};

/// What strangers may begin.
pub(super) struct Handshakes {
    per_minute: u32,
    of_source: u32,
    in_all: Bucket,
    by_source: Buckets,
}

impl Handshakes {
    pub(super) fn new(limits: &Limits) -> Self {
        let (per_minute, of_source) = (limits.handshakes_per_minute, limits.handshakes_per_minute_of_source);
        Self { per_minute, of_source, in_all: Bucket::new(per_minute), by_source: Buckets::new(of_source) }
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
        let detail = if !of_source.fill(self.of_source, now) {
            format!("limits.handshakes_per_minute_of_source = {}", self.of_source)
        } else if !self.in_all.fill(self.per_minute, now) {
            format!("limits.handshakes_per_minute = {}", self.per_minute)
        } else {
            of_source.take();
            self.in_all.take();
            return Ok(());
        };
        Err(Failure::new(Kind::TooManyHandshakes, detail))
    }
}
