//! How many connections there are, in all and from each source: counted by a guard, which closes exactly once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::failure::{Failure, Kind};
use crate::source::Source;

/// The count of all listeners together.
pub(super) struct Connections {
    open: Mutex<Open>,
    /// Refused connections that are told why.
    refused: Arc<Semaphore>,
}

#[derive(Default)]
struct Open {
    in_all: usize,
    per_source: usize,
    total: usize,
    by_source: HashMap<Source, usize>,
}

/// One counted connection. Dropping it takes it off the count.
pub(super) struct Admitted {
    connections: Arc<Connections>,
    /// None while it is not known for whom a balancer speaks.
    source: Option<Source>,
}

impl Connections {
    /// Nobody yet, and no more than the limits allow.
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let connections = Self { open: Mutex::default(), refused: Arc::new(Semaphore::new(REFUSED)) };
        connections.limit(limits);
        Arc::new(connections)
    }

    /// Other limits, for those who come from now on.
    pub(super) fn limit(&self, limits: &Limits) {
        let mut open = self.open();
        (open.in_all, open.per_source) = (limits.connections, limits.connections_per_source);
    }

    /// Counts a connection.
    ///
    /// # Errors
    /// The limit is reached; the text names the key that raises it.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Admitted, Failure> {
        let mut open = self.open();
        if open.total >= open.in_all {
            let detail = format!("limits.connections = {}", open.in_all);
            return Err(Failure::new(Kind::TooManyConnections, detail));
        }
        open.total += 1;
        Ok(Admitted { connections: Arc::clone(self), source: None })
    }

    /// Room for a refused connection, which is told why for as long as this is held. None where many are told already: a
    /// flood ties nothing up.
    pub(super) fn room_for_refusal(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.refused).try_acquire_owned().ok()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted {
    /// Counts it for its source, too.
    ///
    /// # Errors
    /// The limit is reached; the text names the key that raises it.
    pub(super) fn from(&mut self, source: IpAddr) -> Result<(), Failure> {
        let source = Source::from(source);
        let mut open = self.connections.open();
        let most = open.per_source;
        let of_source = open.by_source.entry(source).or_default();
        if *of_source >= most {
            // Not which one: pseudonyms know addresses alone.
            let unit = if source.is_network() { ", for an IPv6 /64 network" } else { "" };
            let detail = format!("limits.connections_per_source = {most}{unit}");
            return Err(Failure::new(Kind::TooManyFromSource, detail));
        }
        *of_source += 1;
        drop(open);
        self.source = Some(source);
        Ok(())
    }

    /// Takes it off the count.
    pub(super) fn give_back(self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.total = open.total.saturating_sub(1);
        let Some(source) = self.source else { return };
        if let Some(of_source) = open.by_source.get_mut(&source) {
            *of_source = of_source.saturating_sub(1);
            if *of_source == 0 {
                open.by_source.remove(&source);
            }
        }
    }
}

/// Refused connections that are told why at a time, beside all limits.
pub(super) const REFUSED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: usize, connections_per_source: usize) -> Limits {
        let config = crate::config::Config::parse("", std::path::Path::new("x")).unwrap().config;
        Limits { connections, connections_per_source, ..config.limits }
    }

    fn admit(connections: &Arc<Connections>, source: &str) -> Result<Admitted, Kind> {
        let mut admitted = connections.admit().map_err(|failure| failure.kind)?;
        admitted.from(source.parse().unwrap()).map_err(|failure| failure.kind)?;
        Ok(admitted)
    }

    #[test]
    fn limits_hold_and_guards_give_back() {
        let connections = Connections::new(&limits(3, 2));
        let first = admit(&connections, "192.0.2.1").unwrap();
        let _second = admit(&connections, "::ffff:192.0.2.1").unwrap();
        assert_eq!(admit(&connections, "192.0.2.1").err(), Some(Kind::TooManyFromSource));
        let _third = admit(&connections, "192.0.2.2").unwrap();
        assert_eq!(admit(&connections, "192.0.2.3").err(), Some(Kind::TooManyConnections));
        drop(first);
        admit(&connections, "192.0.2.3").unwrap();
        assert_eq!(connections.open().by_source.len(), 2);
        connections.limit(&limits(2, 2));
        assert_eq!(admit(&connections, "192.0.2.3").err(), Some(Kind::TooManyConnections));
    }

    /// One host cannot fill the limit in all by changing its address.
    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let connections = Connections::new(&limits(100, 2));
        let admitted: Vec<_> = (0..50)
            .map(|number| admit(&connections, &format!("2001:db8::{number:x}")))
            .filter_map(Result::ok)
            .collect();
        assert_eq!(admitted.len(), 2);
        admit(&connections, "2001:db8:0:1::1").unwrap();
        drop(admitted);
        assert_eq!(connections.open().by_source.len(), 0);
        admit(&connections, "2001:db8::ffff").unwrap();
    }
}
