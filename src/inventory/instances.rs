//! The records of the other instances of a fleet, bounded, beside those of this instance.

mod records;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use super::activity::Report;
use super::device_json::{device_record, report_record};
use super::merge::{join_device, join_report};
use super::{Inventory, SeenDevice};
use crate::fleet::{SeenByInstance, SeenRecord};
use crate::lifecycle::unix_time;
use records::{CONFIGURED, OfInstance, Records};

/// The records of the other instances; empty without a fleet.
#[derive(Default)]
pub(super) struct Instances(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// The name of this instance; none without a fleet.
    own: Option<String>,
    /// The instances that run, as the database had them last.
    running: HashSet<String>,
    records: Records,
}

/// The records of other instances about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They have not seen it.
    None,
    /// They have seen it, and it is connected to none of them.
    Gone,
    /// It is connected to one of them.
    Connected,
}

impl Inventory {
    /// Names this instance of a fleet.
    pub fn set_instance(&self, name: &str) {
        self.instances.0.lock().own = Some(name.to_owned());
    }

    /// Everything that this instance has seen, as records for the other instances.
    pub fn seen_records(&self) -> Vec<SeenRecord> {
        let now = unix_time();
        let age = |seen: u64| Duration::from_secs(now.saturating_sub(seen));
        let devices = self.devices().into_iter().filter_map(|device| {
            let json = device_record(&device)?;
            let has_logged_in = device.logged_in.is_some();
            Some(SeenRecord { device: key(&device), json, has_logged_in, age: age(device.last_seen) })
        });
        let reports = self.activities.reports().into_iter().filter_map(|report| {
            let seen = report.sign_of_life()?;
            let json = report_record(&report)?;
            let device = [CONFIGURED, &report.device].concat();
            Some(SeenRecord { device, json, has_logged_in: true, age: age(seen) })
        });
        devices.chain(reports).collect()
    }

    /// Takes records of other instances in, in the place of those before where they are all that there are. Devices that
    /// somebody has had forgotten go here as well.
    pub fn take_records(&self, records: Vec<SeenByInstance>, is_complete: bool) {
        let (now, most) = (unix_time(), self.limits().devices.saturating_mul(RECORDS_OF_A_DEVICE));
        let mut table = self.instances.0.lock();
        let own = table.own.clone().unwrap_or_default();
        if is_complete {
            table.records = Records::default();
        }
        for record in records {
            table.records.take(record, &own, now, most);
        }
        table.records.limit(most);
        self.activities.take_others(table.records.reports());
        let forgotten = std::mem::take(&mut table.records.forgotten);
        drop(table);
        for (device, time) in forgotten {
            if let Some((source, protocol, fingerprint)) = parts(&device)
                && self.was_seen_before(source, protocol, fingerprint, time)
            {
                self.forget(source, protocol, fingerprint);
            }
        }
    }

    /// Notes which instances run.
    pub fn set_running(&self, instances: Vec<String>) {
        self.instances.0.lock().running = instances.into_iter().collect();
    }

    /// Whether other instances have seen a device.
    pub fn others_with(&self, device: &str) -> Others {
        let table = self.instances.0.lock();
        let of_it = table.records.devices.iter().filter(|((key, _), _)| key == device);
        let mut known = Others::None;
        for ((_, instance), seen) in of_it {
            if seen.seen.open > 0 && table.running.contains(instance) && table.own.as_ref() != Some(instance) {
                return Others::Connected;
            }
            known = Others::Gone;
        }
        known
    }

    /// Forgets what other instances have seen of a device.
    pub fn forget_of_others(&self, device: &str) {
        self.instances.0.lock().records.devices.retain(|(key, _), _| key != device);
    }

    /// All devices that instances of the fleet have seen, each once, with the instance that has seen it last; those of
    /// this instance where it is alone.
    pub fn all_devices(&self) -> Vec<SeenDevice> {
        let mut devices = self.devices();
        let limits = self.limits();
        let table = self.instances.0.lock();
        let Some(own) = &table.own else { return devices };
        devices.iter_mut().for_each(|device| device.instance = Some(own.clone()));
        let mut all: HashMap<String, SeenDevice> = devices.into_iter().map(|device| (key(&device), device)).collect();
        let own_keys: HashSet<String> = all.keys().cloned().collect();
        let oldest = unix_time().saturating_sub(limits.forget_after.as_secs());
        for ((key, instance), OfInstance { seen: device, .. }) in &table.records.devices {
            let is_known = instance == own && own_keys.contains(key);
            if is_known || device.last_seen < oldest {
                continue;
            }
            let runs = instance != own && table.running.contains(instance);
            let device = SeenDevice { open: if runs { device.open } else { 0 }, ..device.clone() };
            match all.remove(key) {
                Some(before) => all.insert(key.clone(), join_device(before, device)),
                None => all.insert(key.clone(), device),
            };
        }
        drop(table);
        let mut devices: Vec<SeenDevice> = all.into_values().collect();
        devices.sort_unstable_by_key(|device| std::cmp::Reverse((device.logged_in.is_some(), device.last_seen)));
        devices.truncate(limits.devices);
        super::arrange(&mut devices);
        devices
    }

    /// The reports on configured devices, by what all instances know of them, those with a problem first.
    pub fn all_reports(&self) -> Vec<Report> {
        let reports = self.activities.reports();
        let mut reports: Vec<Report> = reports.into_iter().map(|report| self.of_all_instances(report)).collect();
        reports.sort_by(|one, other| (one.state, &one.device).cmp(&(other.state, &other.device)));
        reports
    }

    /// The report on one configured device.
    pub fn report(&self, login: &str) -> Option<Report> {
        Some(self.of_all_instances(self.activities.report(login)?))
    }

    /// Returns whether another instance has had a sign of life of a device that this one takes for silent.
    pub fn is_elsewhere(&self, report: &Report) -> bool {
        let oldest = unix_time().saturating_sub(report.silent_after);
        let table = self.instances.0.lock();
        let mut seen = table.records.reports_on(&report.device).filter_map(|(_, other)| other.sign_of_life());
        seen.any(|seen| seen >= oldest)
    }

    fn of_all_instances(&self, mut report: Report) -> Report {
        let now = unix_time();
        let table = self.instances.0.lock();
        let Some(own) = &table.own else { return report };
        report.instance = report.sign_of_life().map(|_| own.clone());
        let login = report.device.clone();
        for (instance, other) in table.records.reports_on(&login) {
            let open = if table.running.contains(instance) { other.open } else { 0 };
            report = join_report(report, Report { open, ..other.clone() }, now);
        }
        report
    }
}

/// The key of a device, which is the same at each instance.
fn key(device: &SeenDevice) -> String {
    key_of(device.source, device.protocol.name(), device.fingerprint.as_deref().unwrap_or_default())
}

/// The same by its parts.
pub fn key_of(source: IpAddr, protocol: &str, fingerprint: &str) -> String {
    format!("{SEEN}{source} {protocol} {fingerprint}")
}

fn parts(key: &str) -> Option<(IpAddr, &str, &str)> {
    let mut parts = key.strip_prefix(SEEN)?.splitn(3, ' ');
    Some((parts.next()?.parse().ok()?, parts.next()?, parts.next()?))
}

/// The beginning of the key of a device that was seen.
const SEEN: &str = "seen ";
/// A device moves between instances. So many records of each are kept in memory, on average.
const RECORDS_OF_A_DEVICE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Forgotten;
    use crate::inventory::tests::{hello, inventory, observation};
    use std::sync::Arc;

    /// A record of another instance, as it comes from the database, this many seconds later.
    fn records(of: &Inventory, instance: &str, later: u64) -> Vec<SeenByInstance> {
        let records = of.seen_records().into_iter();
        let read = |one: SeenRecord| SeenByInstance {
            device: one.device,
            instance: instance.to_owned(),
            json: Some(one.json),
            age: one.age + Duration::from_secs(later),
        };
        records.map(read).collect()
    }

    fn west(devices: usize) -> Arc<Inventory> {
        let west = inventory(devices);
        west.set_instance("west");
        west
    }

    #[test]
    fn all_devices_are_shown_with_the_instance_that_saw_them_last() {
        let (west, east) = (west(10), inventory(10));
        let own = hello(0x0301, &[0x2f]);
        drop(west.observe(&observation("192.0.2.1", Some(&own))));
        drop(west.observe(&observation("192.0.2.2", Some(&own))));
        let connected = east.observe(&observation("192.0.2.3", Some(&own)));
        let moved = east.observe(&observation("192.0.2.2", Some(&own)));
        moved.logged_in(Some("scans@contoso.com"));
        for entry in west.table.lock().all() {
            entry.device().last_seen -= 10;
        }
        west.take_records(records(&east, "east", 0), true);
        let shown = |inventory: &Inventory| {
            let mut shown: Vec<(String, String, u64, usize)> = inventory
                .all_devices()
                .into_iter()
                .map(|one| (one.source.to_string(), one.instance.unwrap(), one.sessions, one.open))
                .collect();
            shown.sort_unstable();
            shown
        };
        let row = |source: &str, instance: &str, sessions: u64, open: usize| {
            (source.to_owned(), instance.to_owned(), sessions, open)
        };
        let expected = |open| {
            [row("192.0.2.1", "west", 1, 0), row("192.0.2.2", "east", 2, open), row("192.0.2.3", "east", 1, open)]
        };
        assert_eq!(shown(&west), expected(0), "an instance that does not run has no connections");
        west.set_running(vec!["east".to_owned(), "west".to_owned()]);
        assert_eq!(shown(&west), expected(1));
        let key = key_of([192, 0, 2, 3].into(), "IMAP", &own.fingerprint());
        assert_eq!((west.others_with(&key), west.others_with("seen x")), (Others::Connected, Others::None));
        drop((connected, moved));
        west.take_records(records(&east, "east", 0), false);
        assert_eq!(west.others_with(&key), Others::Gone);
        west.forget_of_others(&key);
        assert_eq!(shown(&west).len(), 2);
        // Only the records of this instance are saved.
        assert_eq!(west.devices().len(), 2);
        assert!(!String::from_utf8(west.to_save()).unwrap().contains("instance"));
        // A complete reading does not have what was removed.
        west.take_records(Vec::new(), true);
        assert_eq!(shown(&west), [row("192.0.2.1", "west", 1, 0), row("192.0.2.2", "west", 1, 0)]);
    }

    /// A clock that is an hour ahead changes nothing about which record is the newer one.
    #[test]
    fn times_of_others_are_by_their_age() {
        let (west, east) = (west(10), inventory(10));
        drop(east.observe(&observation("192.0.2.3", None)));
        let mut of_east = records(&east, "east", 0);
        let ahead = unix_time() + 3600;
        let json = of_east[0].json.take().unwrap();
        let key = format!("\"last_seen\":{}", east.devices()[0].last_seen);
        of_east[0].json = Some(json.replace(&key, &format!("\"last_seen\":{ahead}")));
        west.take_records(of_east, true);
        let seen = west.all_devices()[0].last_seen;
        assert!(seen.abs_diff(unix_time()) < 5, "{seen}");
    }

    #[test]
    fn the_others_fill_no_more_than_the_inventory_has_room_for() {
        let (west, east) = (west(5), inventory(100));
        let own = hello(0x0301, &[0x2f]);
        west.observe(&observation("192.0.2.1", Some(&own))).logged_in(None);
        for n in 1..60 {
            drop(east.observe(&observation(&format!("198.51.100.{n}"), Some(&own))));
        }
        west.take_records(records(&east, "east", 0), true);
        let devices = west.all_devices();
        assert_eq!(devices.len(), 5);
        assert!(devices.iter().any(|device| device.source.to_string() == "192.0.2.1"), "it has logged in");
        assert_eq!(west.instances.0.lock().records.devices.len(), 5 * RECORDS_OF_A_DEVICE);
        west.take_records(records(&east, "east", 61), true);
        assert_eq!(west.all_devices().len(), 1, "forget_after is a minute");
    }

    #[test]
    fn a_device_that_is_forgotten_elsewhere_goes_here_as_well_until_it_comes_again() {
        let west = west(10);
        drop(west.observe(&observation("192.0.2.1", None)));
        let forgotten = |age: u64| SeenByInstance {
            device: key_of([192, 0, 2, 1].into(), "IMAP", ""),
            instance: "west".to_owned(),
            json: None,
            age: Duration::from_secs(age),
        };
        west.take_records(vec![forgotten(30)], false);
        assert_eq!(west.devices().len(), 1, "it has come again since");
        for entry in west.table.lock().all() {
            entry.device().last_seen -= 60;
        }
        west.take_records(vec![forgotten(30)], false);
        assert_eq!(west.devices().len(), 0);
        assert_eq!(west.forget([192, 0, 2, 1].into(), "IMAP", ""), Forgotten::Unknown);
    }
}
