//! Limits that all listeners share: connections, refusal replies and handshakes, each counted by source.
//!
//! A stranger is a source that no device has logged in from. A part of each limit is reserved for known sources, so
//! that strangers never cost a known device its service, from however many addresses they come.

pub(super) mod bucket;
mod handshakes;
pub(super) mod log_quota;
mod shares;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::config::Limits;
use crate::device::KnownSources;
use crate::failure::{Failure, Kind};
use crate::source::Source;
use crate::transport::downstream::Sessions;
use handshakes::Handshakes;
use shares::{Full, Shares};

/// Counters of connections, with their limits.
pub(super) struct Connections {
    open: Mutex<Shares>,
    /// Refused connections that get a reply.
    refused: Mutex<Shares>,
    handshakes: Mutex<Handshakes>,
    known: Arc<KnownSources>,
    /// The number of connections that were accepted so far.
    accepted: AtomicU64,
}

/// Identifies a connection in the log, for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionId(u64);

impl ConnectionId {
    /// The number in the field `connection` of log lines.
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

/// The other end of a connection, as log lines name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) id: ConnectionId,
    pub(super) source: SocketAddr,
}

/// A connection that was admitted. Dropping it takes it off the count.
pub(super) struct Admitted {
    connections: Arc<Connections>,
    /// The source; `None` until the balancer's header has named it.
    source: Option<Source>,
    is_stranger: bool,
}

/// The permit to reply to a refused connection, for as long as it is held.
pub(super) struct RefusalPermit {
    connections: Arc<Connections>,
    source: Source,
    is_stranger: bool,
}

impl Connections {
    /// Counters at nought.
    pub(super) fn new(limits: &Limits, known: &Arc<KnownSources>) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::new(Shares::new(limits.connections, limits.connections_per_source)),
            refused: Mutex::new(Shares::new(REFUSED, REFUSED_OF_SOURCE)),
            handshakes: Mutex::new(Handshakes::new(limits)),
            known: Arc::clone(known),
            accepted: AtomicU64::new(0),
        })
    }

    /// Sets other limits, for connections from now on.
    pub(super) fn limit(&self, limits: &Limits) {
        let mut open = self.open.lock();
        (open.most, open.per_source) = (limits.connections, limits.connections_per_source);
        drop(open);
        self.handshakes.lock().limit(limits);
    }

    /// The id of a connection that was just accepted.
    pub(super) fn next_id(&self) -> ConnectionId {
        ConnectionId(self.accepted.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Counts a connection.
    ///
    /// # Errors
    /// The limit is reached; the text names the key that raises it.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Admitted, Failure> {
        let mut open = self.open.lock();
        open.take().map_err(|full| over(full, &open, None))?;
        Ok(Admitted { connections: Arc::clone(self), source: None, is_stranger: false })
    }

    /// Counts a TLS handshake that is about to begin. Returns the cache that keeps its TLS session. Known sources have
    /// no limit.
    ///
    /// # Errors
    /// There were too many in the last minute; the text names the key that raises the limit.
    pub(super) fn begin_handshake(&self, source: IpAddr) -> Result<Sessions, Failure> {
        if self.known.knows(source) {
            return Ok(Sessions::Known);
        }
        self.handshakes.lock().begin(source, Instant::now())?;
        Ok(Sessions::Strangers)
    }

    /// A permit to reply to a refused connection. None where many have one, so that a flood holds no memory.
    pub(super) fn refusal_permit(self: &Arc<Self>, source: IpAddr) -> Option<RefusalPermit> {
        let is_stranger = !self.known.knows(source);
        let source = Source::from(source);
        let mut refused = self.refused.lock();
        refused.take().ok()?;
        if refused.name(source, is_stranger).is_err() {
            refused.give_back(None, false);
            return None;
        }
        Some(RefusalPermit { connections: Arc::clone(self), source, is_stranger })
    }
}

impl Admitted {
    /// Counts the connection for its source, too.
    ///
    /// # Errors
    /// The limit is reached; the text names the key that raises it.
    pub(super) fn assign_source(&mut self, source: IpAddr) -> Result<(), Failure> {
        let is_stranger = !self.connections.known.knows(source);
        let source = Source::from(source);
        let mut open = self.connections.open.lock();
        open.name(source, is_stranger).map_err(|full| over(full, &open, Some(source)))?;
        drop(open);
        (self.source, self.is_stranger) = (Some(source), is_stranger);
        Ok(())
    }

    /// Counts the connection as one of a known source: its device has logged in.
    pub(super) fn became_known(&mut self) {
        if std::mem::take(&mut self.is_stranger) {
            self.connections.open.lock().became_known();
        }
    }

    /// Takes the connection off the count.
    pub(super) fn give_back(self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.open.lock().give_back(self.source, self.is_stranger);
    }
}

impl Drop for RefusalPermit {
    fn drop(&mut self) {
        self.connections.refused.lock().give_back(Some(self.source), self.is_stranger);
    }
}

/// The failure of a connection that is over a limit.
fn over(full: Full, open: &Shares, source: Option<Source>) -> Failure {
    let (most, per_source) = (open.most, open.per_source);
    match full {
        Full::All => Failure::new(Kind::TooManyConnections, format!("limits.connections = {most}")),
        Full::Strangers => {
            let kept = open.kept();
            let detail =
                format!("limits.connections = {most}, of which {kept} are kept for sources that have logged in");
            Failure::new(Kind::TooManyConnections, detail)
        }
        Full::Source => {
            // The message leaves the network itself out, because pseudonyms cover single addresses only.
            let unit = if source.is_some_and(Source::is_network) { ", for an IPv6 /64 network" } else { "" };
            let detail = format!("limits.connections_per_source = {per_source}{unit}");
            Failure::new(Kind::TooManyFromSource, detail)
        }
    }
}

/// Refused connections that get a reply at a time. They do not count for the configured limits.
pub(super) const REFUSED: usize = 64;
const REFUSED_OF_SOURCE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limits(connections: usize, connections_per_source: usize) -> Limits {
        let config = crate::config::Config::parse("", std::path::Path::new("x")).unwrap().config;
        Limits { connections, connections_per_source, ..config.limits }
    }

    fn connections(limits: &Limits) -> Arc<Connections> {
        Connections::new(limits, &Arc::default())
    }

    /// A device logs in from there.
    fn log_in(connections: &Arc<Connections>, source: &str) {
        connections.known.add("scanner3", source.parse::<IpAddr>().unwrap().into());
    }

    fn admit(connections: &Arc<Connections>, source: &str) -> Result<Admitted, Kind> {
        let mut admitted = connections.admit().map_err(|failure| failure.kind)?;
        admitted.assign_source(source.parse().unwrap()).map_err(|failure| failure.kind)?;
        Ok(admitted)
    }

    #[test]
    fn limits_hold_and_guards_give_back() {
        let connections = connections(&limits(4, 2));
        let first = admit(&connections, "192.0.2.1").unwrap();
        let _second = admit(&connections, "::ffff:192.0.2.1").unwrap();
        assert_eq!(admit(&connections, "192.0.2.1").err(), Some(Kind::TooManyFromSource));
        let _third = admit(&connections, "192.0.2.2").unwrap();
        assert_eq!(admit(&connections, "192.0.2.3").err(), Some(Kind::TooManyConnections));
        drop(first);
        admit(&connections, "192.0.2.3").unwrap();
        assert_eq!(connections.open.lock().sources(), 2);
        connections.limit(&limits(2, 2));
        assert_eq!(admit(&connections, "192.0.2.3").err(), Some(Kind::TooManyConnections));
    }

    /// One host cannot fill the limit in all by changing its address.
    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let connections = connections(&limits(100, 2));
        let admitted: Vec<_> = (0..50)
            .map(|number| admit(&connections, &format!("2001:db8::{number:x}")))
            .filter_map(Result::ok)
            .collect();
        assert_eq!(admitted.len(), 2);
        admit(&connections, "2001:db8:0:1::1").unwrap();
        drop(admitted);
        assert_eq!(connections.open.lock().sources(), 0);
        admit(&connections, "2001:db8::ffff").unwrap();
    }

    /// Strangers have three quarters together; the rest is for sources that have logged in.
    #[test]
    fn a_part_is_kept_for_sources_that_have_logged_in() {
        let connections = connections(&limits(40, 2));
        log_in(&connections, "198.51.100.1");
        let crowd = || (0..40).filter_map(|number| admit(&connections, &format!("192.0.2.{number}")).ok());
        let mut strangers: Vec<_> = crowd().collect();
        assert_eq!(strangers.len(), 30);
        let known: Vec<_> = (0..2).map(|_| admit(&connections, "198.51.100.1").unwrap()).collect();
        // A source that logs in is no stranger any more, and makes room for the next one.
        strangers[0].became_known();
        strangers.push(admit(&connections, "203.0.113.1").unwrap());
        assert_eq!(admit(&connections, "203.0.113.2").err(), Some(Kind::TooManyConnections));
        drop((strangers, known));
        assert_eq!(connections.open.lock().sources(), 0);
        assert_eq!(crowd().collect::<Vec<_>>().len(), 30);
    }

    /// Handshakes of one source, and of all strangers, are bounded; those of known sources are not.
    #[test]
    fn handshakes_of_strangers_are_held_to_a_rate() {
        let limits = Limits { handshakes_per_minute: 30, handshakes_per_minute_of_source: 20, ..limits(40, 2) };
        let connections = connections(&limits);
        let begun = |source: &str, now| {
            let source = source.parse().unwrap();
            (0..100).filter(|_| connections.handshakes.lock().begin(source, now).is_ok()).count()
        };
        let now = Instant::now();
        assert_eq!(begun("192.0.2.1", now), 20);
        assert_eq!(begun("192.0.2.2", now), 10);
        // The rate of all is used up: a new device gets in all the same, and a flood does not.
        assert_eq!((begun("192.0.2.3", now), begun("192.0.2.3", now), begun("192.0.2.2", now)), (6, 0, 0));
        assert_eq!(begun("192.0.2.1", now + Duration::from_secs(30)), 10);
        log_in(&connections, "198.51.100.1");
        assert!((0..100).all(|_| connections.begin_handshake("198.51.100.1".parse().unwrap()).is_ok()));
    }

    /// One source, and all strangers, leave something for others.
    #[test]
    fn refusals_are_divided_by_source() {
        let connections = connections(&limits(1, 1));
        log_in(&connections, "198.51.100.1");
        let told = |source: &str| {
            let source = source.parse().unwrap();
            std::iter::from_fn(|| connections.refusal_permit(source)).take(100).collect::<Vec<_>>()
        };
        let crowd: Vec<_> = (1..9).map(|number| told(&format!("192.0.2.{number}"))).collect();
        assert_eq!(crowd.iter().map(Vec::len).collect::<Vec<_>>(), [16, 16, 16, 0, 0, 0, 0, 0]);
        assert_eq!(told("198.51.100.1").len(), 16);
    }
}
