//! The status of the fleet's database as this instance sees it: whether it is reached, and since when not.

use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;

use super::error::Error;
use crate::lifecycle::unix_time;

/// Whether the database is reached.
#[derive(Debug, Default)]
pub struct Status(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The last answer of the database, in seconds since 1970.
    last_success: Option<u64>,
    outage: Option<Outage>,
}

/// A time in which the database is away, or does not do what it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The beginning, in seconds since 1970.
    pub since: u64,
    /// The reason, with what mends it.
    pub why: String,
}

impl Outage {
    /// The beginning in UTC, as `2026-11-27T09:12:00Z`.
    pub fn since_words(&self) -> String {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.since)).to_string()
    }
}

impl Status {
    /// Notes that the database has answered.
    pub fn reached(&self) {
        *self.0.lock() = State { last_success: Some(unix_time()), outage: None };
    }

    /// Returns whether the database has answered the last time.
    pub fn is_reached(&self) -> bool {
        let state = self.0.lock();
        state.outage.is_none() && state.last_success.is_some()
    }

    /// Notes that the database has not answered, or refuses.
    pub fn failed(&self, error: &Error) {
        let mut state = self.0.lock();
        let since = state.outage.as_ref().map_or_else(unix_time, |outage| outage.since);
        state.outage = Some(Outage { since, why: error.to_string() });
    }

    /// The outage that goes on; none where the database is reached, or nothing is known yet.
    pub fn outage(&self) -> Option<Outage> {
        self.0.lock().outage.clone()
    }

    /// The last answer of the database, in seconds since 1970; none before the first.
    pub fn last_success(&self) -> Option<u64> {
        self.0.lock().last_success
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_keeps_its_beginning() {
        let status = Status::default();
        assert_eq!((status.outage(), status.last_success(), status.is_reached()), (None, None, false));
        status.reached();
        assert!(status.is_reached());
        status.failed(&Error::ReadOnly);
        status.0.lock().outage.as_mut().unwrap().since = 86_400;
        status.failed(&Error::NoSchema);
        let outage = status.outage().unwrap();
        assert_eq!((outage.since, outage.since_words().as_str()), (86_400, "1970-01-02T00:00:00Z"));
        assert!(outage.why.contains("fleet migrate"), "{}", outage.why);
        assert!(!status.is_reached());
        status.reached();
        assert_eq!(status.outage(), None);
    }
}
