//! The metrics of the fleet: its database, and the sessions that this instance borrows. There are none where packetboat
//! is alone, so that no alert takes that for an outage.

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::Metrics;
use super::definitions::Registrar;
use crate::fleet::{BorrowedNumbers, Trouble};

/// The numbers of a fleet, as this instance sees it.
#[derive(Clone, Debug)]
pub struct FleetNumbers {
    /// The id of the database; none while it is not reached.
    pub database: Option<String>,
    /// How often the database had lost what it had confirmed.
    pub losses: u64,
    /// Whether there is trouble of each kind.
    pub troubles: [(Trouble, bool); Trouble::ALL.len()],
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
    database: IntGaugeVec,
    troubles: IntGaugeVec,
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

const COUNTERS: [Row; 3] = [
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
    (
        "packetboat_fleet_database_losses_total",
        "Times that the fleet's database lacked changes that it had confirmed to this instance: a backup was restored, or a \
         standby without them has taken over.",
        |fleet| fleet.losses,
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
            database: to.gauges(
                "packetboat_fleet_database_info",
                "1 for the database that this instance uses. The label database is the same at all instances that use one \
                 database, and another one after each start of its server. There is none while it is not reached.",
                &["database"],
            )?,
            troubles: to.gauges(
                "packetboat_fleet_trouble",
                "1 if there is trouble in the fleet although its database answers: two of its servers take changes, another \
                 instance has the same name, or the tables do not fit this version of packetboat.",
                &["reason"],
            )?,
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
        self.fleet.database.reset();
        if let Some(id) = &numbers.database {
            self.fleet.database.with_label_values(&[id.as_str()]).set(1);
        }
        for (trouble, is_there) in numbers.troubles {
            self.fleet.troubles.with_label_values(&[trouble.label()]).set(i64::from(is_there));
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
            metrics.set_fleet(&FleetNumbers {
                database: Some(format!("id{waited}")),
                losses: 2,
                troubles: Trouble::ALL.map(|trouble| (trouble, trouble == Trouble::Tables)),
                is_reachable: true,
                last_success: 5,
                has_sign_ins: false,
                sessions: BorrowedNumbers { borrowed: 3, registered: 4, instances: 2, waited, alone: 1 },
            });
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
            "packetboat_fleet_database_losses_total 2",
            "packetboat_fleet_database_info{database=\"id7\"} 1",
            "packetboat_fleet_trouble{reason=\"split_brain\"} 0",
            "packetboat_fleet_trouble{reason=\"same_name\"} 0",
            "packetboat_fleet_trouble{reason=\"tables\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        assert!(!text.contains("id5"), "the database of before: {text}");
    }
}
