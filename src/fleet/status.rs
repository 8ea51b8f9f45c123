//! The status of the fleet as this instance sees it: whether the database is reached, since when not, and which instances
//! are registered.

use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;

use super::error::Error;
use crate::lifecycle::unix_time;

/// Whether the database is reached, and which instances are registered.
#[derive(Debug, Default)]
pub struct Status(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The last answer of the database, in seconds since 1970.
    last_success: Option<u64>,
    outage: Option<Outage>,
    /// The names of the instances that are registered, as the database had them last.
    instances: Vec<String>,
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
    pub fn reached(&self, instances: Vec<String>) {
        *self.0.lock() = State { last_success: Some(unix_time()), outage: None, instances };
    }

    /// Notes that the database has not answered, or refuses. The instances that it had last stay known.
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

    /// The names of the instances that are registered, as the database had them last.
    pub fn instances(&self) -> Vec<String> {
        self.0.lock().instances.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_keeps_its_beginning_and_the_instances() {
        let status = Status::default();
        assert_eq!((status.outage(), status.last_success()), (None, None));
        status.reached(vec!["west".to_owned()]);
        status.failed(&Error::ReadOnly);
        status.0.lock().outage.as_mut().unwrap().since = 86_400;
        status.failed(&Error::NoSchema);
        let outage = status.outage().unwrap();
        assert_eq!((outage.since, outage.since_words().as_str()), (86_400, "1970-01-02T00:00:00Z"));
        assert!(outage.why.contains("fleet migrate"), "{}", outage.why);
        assert_eq!(status.instances(), ["west"]);
        status.reached(Vec::new());
        assert_eq!(status.outage(), None);
    }
}
