//! The metrics of sessions that this instance borrows in a fleet. There are none where packetboat is alone.

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::Metrics;
use super::definitions::Registrar;
use crate::fleet::BorrowedNumbers;

pub(super) struct BorrowedMetrics {
    borrowed: IntGaugeVec,
    instances: IntGaugeVec,
    waited: IntCounterVec,
    alone: IntCounterVec,
}

impl BorrowedMetrics {
    pub(super) fn register(to: &Registry) -> prometheus::Result<Self> {
        let to = Registrar(to);
        Ok(Self {
            borrowed: to.gauges(
                "packetboat_fleet_borrowed_sessions",
                "Sessions of mailboxes that this instance has borrowed from the fleet, used or not.",
                &[],
            )?,
            instances: to.gauges(
                "packetboat_fleet_sharing_instances",
                "Instances among which a mailbox's sessions are divided while the fleet's database is away, or 0 before \
                 it was reached.",
                &[],
            )?,
            waited: to.counters(
                "packetboat_fleet_login_waits_total",
                "Logins that waited for the fleet's database, because no borrowed session was free.",
                &[],
            )?,
            alone: to.counters(
                "packetboat_fleet_share_logins_total",
                "Logins that went on without the fleet's database, by the instance's share of the mailbox's sessions.",
                &[],
            )?,
        })
    }
}

impl Metrics {
    /// Sets the numbers of sessions that are borrowed.
    pub fn set_slots(&self, numbers: &BorrowedNumbers) {
        let none: &[&str] = &[];
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let slots = &self.slots;
        slots.borrowed.with_label_values(none).set(number(numbers.borrowed));
        slots.instances.with_label_values(none).set(number(numbers.instances));
        for (counter, count) in [(&slots.waited, numbers.waited), (&slots.alone, numbers.alone)] {
            let counter = counter.with_label_values(none);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_alone_has_no_metrics_of_borrowed_sessions() {
        let metrics = Metrics::new().unwrap();
        assert!(!metrics.text().unwrap().contains("packetboat_fleet_borrowed"));
        for waited in [5, 7] {
            metrics.set_slots(&BorrowedNumbers { borrowed: 3, instances: 2, waited, alone: 1 });
        }
        let text = metrics.text().unwrap();
        for line in [
            "packetboat_fleet_borrowed_sessions 3",
            "packetboat_fleet_sharing_instances 2",
            "packetboat_fleet_login_waits_total 7",
            "packetboat_fleet_share_logins_total 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }
}
