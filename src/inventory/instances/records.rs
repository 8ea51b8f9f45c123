//! The table of what the other instances of a fleet have seen. It is bounded in numbers and in octets, whatever somebody
//! writes to the database.

use std::collections::{BTreeMap, HashMap};

use crate::fleet::SeenByInstance;
use crate::inventory::SeenDevice;
use crate::inventory::activity::Report;
use crate::inventory::device_json::{read_one, read_report};

#[derive(Default)]
pub(super) struct Records {
    /// Devices that were seen, by their key and by instance.
    pub(super) devices: HashMap<(String, String), OfInstance<SeenDevice>>,
    /// Reports by the login of their device, and by instance.
    reports: HashMap<String, BTreeMap<String, OfInstance<Report>>>,
    /// Devices that somebody has had forgotten, as this instance has seen them, and when.
    pub(super) forgotten: Vec<(String, u64)>,
}

/// A device as another instance has seen it, with the octets of the record.
pub(super) struct OfInstance<T> {
    pub(super) seen: T,
    octets: usize,
}

impl Records {
    /// Takes a record in, with its times by this computer's clock.
    pub(super) fn take(&mut self, record: SeenByInstance, own: &str, now: u64, most: usize) {
        let SeenByInstance { device, instance, json, age } = record;
        let last_seen = now.saturating_sub(age.as_secs());
        let is_own = instance == own;
        let octets = json.as_ref().map_or(0, String::len) + device.len() + instance.len();
        if let Some(login) = device.strip_prefix(CONFIGURED) {
            // The records of this instance about its own devices are newer.
            let report = json.filter(|_| !is_own).and_then(|json| read_report(&json));
            if let Some(mut report) = report {
                report.shift(last_seen);
                report.instance = Some(instance.clone());
                self.take_report(login, instance, OfInstance { seen: report, octets }, most);
            }
            return;
        }
        match json {
            None => {
                self.forgotten.extend(is_own.then(|| (device.clone(), last_seen)));
                self.devices.remove(&(device, instance));
            }
            Some(json) => {
                if let Some(mut seen) = read_one(&json) {
                    seen.shift(last_seen);
                    seen.instance = Some(instance.clone());
                    self.devices.insert((device, instance), OfInstance { seen, octets });
                }
            }
        }
    }

    /// Takes a report, unless there are as many as devices. Of a login's reports by more than [`MOST_INSTANCES`] instances
    /// the oldest one goes: its instance has most likely ended.
    fn take_report(&mut self, login: &str, instance: String, report: OfInstance<Report>, most: usize) {
        if self.reports.len() >= most && !self.reports.contains_key(login) {
            return;
        }
        let of_login = self.reports.entry(login.to_owned()).or_default();
        of_login.insert(instance, report);
        if of_login.len() > MOST_INSTANCES {
            let earliest = of_login.iter().min_by_key(|(_, one)| one.seen.sign_of_life()).map(|(name, _)| name.clone());
            earliest.and_then(|name| of_login.remove(&name));
        }
    }

    /// The reports of all other instances.
    pub(super) fn reports(&self) -> impl Iterator<Item = &Report> {
        self.reports.values().flat_map(BTreeMap::values).map(|one| &one.seen)
    }

    /// The reports of other instances on a configured device, with the names of the instances.
    pub(super) fn reports_on(&self, login: &str) -> impl Iterator<Item = (&String, &Report)> {
        self.reports.get(login).into_iter().flatten().map(|(instance, one)| (instance, &one.seen))
    }

    /// Drops records beyond so many devices, and beyond the octets that so many usually have: devices that have never logged
    /// in first, then the longest unseen. Reports have as many octets of their own. Whoever writes to the database fills no
    /// more memory than that.
    pub(super) fn limit(&mut self, most: usize) {
        let most_octets = most.saturating_mul(USUAL_LENGTH);
        self.limit_reports(most_octets);
        let mut octets: usize = self.devices.values().map(|one| one.octets).sum();
        if self.devices.len() <= most && octets <= most_octets {
            return;
        }
        let rank = |device: &SeenDevice| (device.logged_in.is_some(), device.last_seen);
        let mut ranks: Vec<_> = self.devices.iter().map(|(key, one)| (rank(&one.seen), key.clone())).collect();
        ranks.sort_unstable();
        for (_, key) in ranks {
            if self.devices.len() <= most && octets <= most_octets {
                return;
            }
            octets -= self.devices.remove(&key).map_or(0, |one| one.octets);
        }
    }

    fn limit_reports(&mut self, most_octets: usize) {
        let mut octets: usize = self.reports.values().flat_map(BTreeMap::values).map(|one| one.octets).sum();
        if octets <= most_octets {
            return;
        }
        let mut ranks = Vec::new();
        for (login, of_login) in &self.reports {
            ranks.extend(of_login.iter().map(|(name, one)| (one.seen.sign_of_life(), login.clone(), name.clone())));
        }
        ranks.sort_unstable();
        for (_, login, instance) in ranks {
            if octets <= most_octets {
                break;
            }
            let of_login = self.reports.get_mut(&login);
            octets -= of_login.and_then(|of_login| of_login.remove(&instance)).map_or(0, |one| one.octets);
        }
        self.reports.retain(|_, of_login| !of_login.is_empty());
    }
}

/// The beginning of the key of a configured device.
pub(super) const CONFIGURED: &str = "configured ";
/// Octets of a record with its keys; most have fewer.
const USUAL_LENGTH: usize = 4096;
/// Instances that have reports on one device; no fleet is as large.
const MOST_INSTANCES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::activity::tests::activities;
    use std::time::Duration;

    /// A record of the report on the configured device `copier`, as an instance of this name has written it, with so many
    /// further octets. The device was heard of this long ago.
    fn report(login: &str, instance: &str, more: usize, age: u64) -> SeenByInstance {
        let mut report = activities(&["copier"]).reports().remove(0);
        (report.last_seen, report.description) = (Some(1_000_000), Some("x".repeat(more)));
        let json = Some(serde_json::to_string(&report).unwrap());
        let device = [CONFIGURED, login].concat();
        SeenByInstance { device, instance: instance.to_owned(), json, age: Duration::from_secs(age) }
    }

    const NOW: u64 = 2_000_000;

    /// Somebody who writes to the database gives each of many logins a long report by each of many instances.
    #[test]
    fn reports_fill_no_more_octets_than_devices_do() {
        let mut records = Records::default();
        let most = 20;
        for round in 0..100 {
            for login in 0..most {
                records.take(report(&format!("d{login}"), &format!("i{round}"), 10_000, 100 - round), "own", NOW, most);
            }
            records.limit(most);
            let octets: usize =
                records.reports().filter_map(|report| report.description.as_ref()).map(String::len).sum();
            assert!(octets <= most * USUAL_LENGTH, "{octets}");
        }
        // The newest stay.
        let kept: Vec<_> = records.reports().filter_map(|report| report.instance.clone()).collect();
        assert!(!kept.is_empty() && kept.iter().all(|instance| instance == "i99"), "{kept:?}");
    }

    /// Instances of Kubernetes have another name after each restart. Those that run count, however many have ended.
    #[test]
    fn instances_that_have_ended_give_way() {
        let mut records = Records::default();
        for number in 0..MOST_INSTANCES as u64 + 50 {
            records.take(report("copier", &format!("i{number}"), 0, 100_000 - number), "own", NOW, 10);
        }
        records.take(report("copier", "runs", 0, 0), "own", NOW, 10);
        let seen = |name: &str| {
            let found = records.reports_on("copier").find(|(instance, _)| *instance == name);
            found.and_then(|(_, report)| report.sign_of_life())
        };
        assert_eq!((seen("runs"), seen("i0")), (Some(NOW), None));
        assert_eq!(records.reports_on("copier").count(), MOST_INSTANCES);
        // A newer report of an instance replaces its earlier one, also where there is no more room.
        records.take(report("copier", "i100", 0, 5), "own", NOW, 10);
        let found = records.reports_on("copier").find(|(instance, _)| *instance == "i100").unwrap();
        assert_eq!(found.1.sign_of_life(), Some(NOW - 5));
    }
}
