//! The metrics of the fleet: its database, and the sessions that this instance borrows. There are none where packetboat
//! is alone, so that no alert takes that for an outage.

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::Metrics;
use super::definitions::Registrar;
use crate::fleet::BorrowedNumbers;

/// The numbers of a fleet, as this instance sees it.
#[derive(Clone, Copy, Debug)]
pub struct FleetNumbers {
    /// The database has answered the last time.
    pub is_reachable: bool,
    /// The last answer of the database, in seconds since 1970, or 0.
    pub last_success: u64,
    /// The database has the newest state of all sign-ins.
    pub has_sign_ins: bool,
    /// The sessions that this instance borrows.
    pub sessions: BorrowedNumbers,
}

/// Metrics with the value of each. Without a value they are not in the text.
pub(super) struct FleetMetrics {
    gauges: Vec<(IntGaugeVec, Value)>,
    counters: Vec<(IntCounterVec, Value)>,
}

/// Name, help text and value of a metric.
type Row = (&'static str, &'static str, Value);
type Value = fn(&FleetNumbers) -> u64;

const GAUGES: [Row; 6] = [
    (
        "packetboat_fleet_database_reachable",
        "1 if the fleet's database has answered the last time, else 0. Without a fleet there is no such metric.",
        |fleet| u64::from(fleet.is_reachable),
    ),
    (
        "packetboat_fleet_database_last_success_timestamp_seconds",
        "Time of the last answer of the fleet's database, or 0.",
        |fleet| fleet.last_success,
    ),
    (
        "packetboat_fleet_instances",
        "Instances that are registered in the fleet's database, as it had them at the last count.",
        |fleet| fleet.sessions.registered,
    ),
    (
        "packetboat_fleet_sign_ins_success",
        "1 if the fleet's database has the newest state of all sign-ins, 0 if this instance goes on without it.",
        |fleet| u64::from(fleet.has_sign_ins),
    ),
    (
        "packetboat_fleet_borrowed_sessions",
        "Sessions of mailboxes that this instance has borrowed from the fleet, used or not.",
        |fleet| fleet.sessions.borrowed,
    ),
    (
        "packetboat_fleet_sharing_instances",
        "Instances among which a mailbox's sessions are divided while the fleet's database is away, or 0 before it was \
         reached.",
        |fleet| fleet.sessions.instances,
    ),
];

const COUNTERS: [Row; 2] = [
    (
        "packetboat_fleet_login_waits_total",
        "Logins that waited for the fleet's database, because no borrowed session was free.",
        |fleet| fleet.sessions.waited,
    ),
    (
        "packetboat_fleet_share_logins_total",
        "Logins that went on without the fleet's database, by the instance's share of the mailbox's sessions.",
        |fleet| fleet.sessions.alone,
    ),
];

impl FleetMetrics {
    pub(super) fn register(to: &Registry) -> prometheus::Result<Self> {
        let to = Registrar(to);
        let gauges = GAUGES.into_iter().map(|(name, help, value)| Ok((to.gauges(name, help, &[])?, value)));
        let counters = COUNTERS.into_iter().map(|(name, help, value)| Ok((to.counters(name, help, &[])?, value)));
        Ok(Self {
            gauges: gauges.collect::<prometheus::Result<_>>()?,
            counters: counters.collect::<prometheus::Result<_>>()?,
        })
    }
}

impl Metrics {
    /// Sets the numbers of the fleet.
    pub fn set_fleet(&self, numbers: &FleetNumbers) {
        let no_labels: &[&str] = &[];
        for (gauge, value) in &self.fleet.gauges {
            gauge.with_label_values(no_labels).set(i64::try_from(value(numbers)).unwrap_or(i64::MAX));
        }
        for (counter, value) in &self.fleet.counters {
            let counter = counter.with_label_values(no_labels);
            counter.inc_by(value(numbers).saturating_sub(counter.get()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_alone_has_no_metrics_of_a_fleet() {
        let metrics = Metrics::new().unwrap();
        assert!(!metrics.text().unwrap().contains("packetboat_fleet"));
        for waited in [5, 7] {
            let sessions = BorrowedNumbers { borrowed: 3, registered: 4, instances: 2, waited, alone: 1 };
            let last_success = 5;
            metrics.set_fleet(&FleetNumbers { is_reachable: true, last_success, has_sign_ins: false, sessions });
        }
        let text = metrics.text().unwrap();
        for line in [
            "packetboat_fleet_database_reachable 1",
            "packetboat_fleet_database_last_success_timestamp_seconds 5",
            "packetboat_fleet_instances 4",
            "packetboat_fleet_sign_ins_success 0",
            "packetboat_fleet_borrowed_sessions 3",
            "packetboat_fleet_sharing_instances 2",
            "packetboat_fleet_login_waits_total 7",
            "packetboat_fleet_share_logins_total 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }
}
