//! The fleet as the running proxy tells it to commands, beside the devices.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The fleet, as an instance has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FleetFacts {
    /// The instance that has answered.
    pub instance: String,
    /// The instances that are registered.
    pub instances: Vec<String>,
    /// The time in which the database is not used.
    pub outage: Option<OutageFacts>,
    /// The last time that the devices of the other instances were read, in seconds since 1970.
    pub read: Option<u64>,
    /// The reason why they cannot be read.
    pub problem: Option<String>,
}

/// A time in which the database is not used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct OutageFacts {
    /// The beginning, in seconds since 1970.
    pub since: u64,
    /// The reason.
    pub why: Option<String>,
}

impl FleetFacts {
    /// Says that the devices of the other instances are not those of now, and why; none where they are.
    pub fn why_alone(&self) -> Option<String> {
        let time = |seconds| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds));
        let why = match (&self.outage, &self.problem) {
            (Some(OutageFacts { since, why }), _) => {
                let why = why.as_deref().unwrap_or_default();
                format!("the fleet's database is not used since {}: {why}", time(*since))
            }
            (None, Some(problem)) => problem.clone(),
            (None, None) => return None,
        };
        let shown = match self.read {
            Some(read) => format!("devices of other instances are shown as of {}", time(read)),
            None => format!("only the devices of instance {} are shown", self.instance),
        };
        Some(format!("{shown}: {why}"))
    }
}
