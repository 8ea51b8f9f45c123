//! How many connections there are, in all and from each source: counted by a guard, which closes exactly once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::failure::{Failure, Kind};

/// The count of all listeners together.
pub(super) struct Connections {
    in_all: usize,
    per_source: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One counted connection. Dropping it takes it off the count.
pub(super) struct Admitted {
    connections: Arc<Connections>,
    source: IpAddr,
}

impl Connections {
    /// Nobody yet, and no more than this at a time.
    pub(super) fn new(in_all: usize, per_source: usize) -> Arc<Self> {
        Arc::new(Self { in_all, per_source, open: Mutex::default() })
    }

    /// Counts a connection.
    ///
    /// # Errors
    /// A limit is reached; the text names the key that raises it.
    pub(super) fn admit(self: &Arc<Self>, source: IpAddr) -> Result<Admitted, Failure> {
        let source = source.to_canonical();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.in_all {
            let detail = format!("limits.connections = {}", self.in_all);
            return Err(Failure::new(Kind::TooManyConnections, detail));
        }
        let of_source = open.by_source.entry(source).or_default();
        if *of_source >= self.per_source {
            let detail = format!("limits.connections_per_source = {}", self.per_source);
            return Err(Failure::new(Kind::TooManyFromSource, detail));
        }
        *of_source += 1;
        open.total += 1;
        Ok(Admitted { connections: Arc::clone(self), source })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(of_source) = open.by_source.get_mut(&self.source) {
            *of_source = of_source.saturating_sub(1);
            if *of_source == 0 {
                open.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_guards_give_back() {
        let connections = Connections::new(3, 2);
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let first = connections.admit(one).unwrap();
        let _second = connections.admit(mapped).unwrap();
        assert_eq!(connections.admit(one).err().unwrap().kind, Kind::TooManyFromSource);
        let _third = connections.admit("192.0.2.2".parse().unwrap()).unwrap();
        let other: IpAddr = "192.0.2.3".parse().unwrap();
        assert_eq!(connections.admit(other).err().unwrap().kind, Kind::TooManyConnections);
        drop(first);
        connections.admit(other).unwrap();
        assert_eq!(connections.open.lock().unwrap().by_source.len(), 2);
    }
}
