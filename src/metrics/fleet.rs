//! The metrics of the fleet. There are none where packetboat is alone, so that no alert takes that for an outage.

use prometheus::{IntGaugeVec, Registry};

use super::Metrics;
use super::definitions::Registrar;

/// The numbers of a fleet, as this instance sees it.
#[derive(Clone, Copy, Debug)]
pub struct FleetNumbers {
    /// The database has answered the last time.
    pub is_reachable: bool,
    /// The last answer of the database, in seconds since 1970, or 0.
    pub last_success: u64,
    /// The instances that are registered, as the database had them last.
    pub instances: usize,
    /// The database has the newest state of all sign-ins.
    pub has_sign_ins: bool,
}

pub(super) struct FleetMetrics {
    reachable: IntGaugeVec,
    last_success: IntGaugeVec,
    instances: IntGaugeVec,
    sign_ins: IntGaugeVec,
}

impl FleetMetrics {
    pub(super) fn register(to: &Registry) -> prometheus::Result<Self> {
        let to = Registrar(to);
        Ok(Self {
            reachable: to.gauges(
                "packetboat_fleet_database_reachable",
                "1 if the fleet's database has answered the last time, else 0. Without a fleet there is no such metric.",
                &[],
            )?,
            last_success: to.gauges(
                "packetboat_fleet_database_last_success_timestamp_seconds",
                "Time of the last answer of the fleet's database, or 0.",
                &[],
            )?,
            instances: to.gauges(
                "packetboat_fleet_instances",
                "Instances that are registered in the fleet's database, as it had them last.",
                &[],
            )?,
            sign_ins: to.gauges(
                "packetboat_fleet_sign_ins_success",
                "1 if the fleet's database has the newest state of all sign-ins, 0 if this instance goes on without it.",
                &[],
            )?,
        })
    }
}

impl Metrics {
    /// Sets the numbers of the fleet.
    pub fn set_fleet(&self, numbers: &FleetNumbers) {
        let none: &[&str] = &[];
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.fleet.reachable.with_label_values(none).set(i64::from(numbers.is_reachable));
        self.fleet.last_success.with_label_values(none).set(number(numbers.last_success));
        self.fleet.instances.with_label_values(none).set(i64::try_from(numbers.instances).unwrap_or(i64::MAX));
        self.fleet.sign_ins.with_label_values(none).set(i64::from(numbers.has_sign_ins));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_alone_has_no_metrics_of_a_fleet() {
        let metrics = Metrics::new().unwrap();
        assert!(!metrics.text().unwrap().contains("packetboat_fleet"));
        metrics.set_fleet(&FleetNumbers { is_reachable: false, last_success: 5, instances: 3, has_sign_ins: false });
        let text = metrics.text().unwrap();
        for line in [
            "packetboat_fleet_database_reachable 0",
            "packetboat_fleet_database_last_success_timestamp_seconds 5",
            "packetboat_fleet_instances 3",
            "packetboat_fleet_sign_ins_success 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }
}
