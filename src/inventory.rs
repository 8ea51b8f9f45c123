//! The inventory records which devices were seen: their address, login and TLS, and whether they need packetboat.
//!
//! A device is identified by its address, its protocol and the fingerprint of its ClientHello. The inventory is
//! bounded, in all and for each address, so that nobody can fill it; devices that have logged in are forgotten last.

mod activity;
mod assessment;
mod clock;
mod device_csv;
mod device_json;
mod device_table;
mod fleet_facts;
mod forgetting;
mod instances;
mod last_connections;
mod merge;
mod observation;
mod seen_device;
mod serde_names;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::config::InventoryLimits;
use crate::failure::Failure;
use crate::lifecycle::unix_time as now;
use crate::transport::detect::hello::ClientHello;
use activity::take_failures;
pub use activity::{
    Activities, Change, Connection, DeviceRecipients, KEPT, LoginWay, Logins, MailboxRecipients, Owner, Proof,
    ReadingReport, RecordsError, Report, SendingReport, SendingState, SentMessages, State, Visit, VisitAt,
    read_saved as read_saved_reports,
};
pub use assessment::{Assessment, Judgement};
pub use device_csv::csv;
pub use device_json::{
    LoadError, NoInventory, fleet_to_json, read, read_fleet, read_reports, read_saved, reports_to_json, to_json,
};
use device_table::{DeviceTable, Entry};
pub use fleet_facts::{FleetFacts, OutageFacts};
pub use forgetting::Forgotten;
use instances::Instances;
pub use instances::{Others, key_of};
pub use observation::{Observation, TlsMode};
pub use seen_device::SeenDevice;
use seen_device::join_addresses;

/// All devices that were seen.
pub struct Inventory {
    limits: Mutex<InventoryLimits>,
    table: Mutex<DeviceTable>,
    changed: AtomicBool,
    activities: Activities,
    instances: Instances,
}

/// The connection of a device. Dropping it notes that the device has left.
pub struct Presence {
    inventory: Arc<Inventory>,
    entry: Arc<Entry>,
}

impl Inventory {
    /// An inventory without devices.
    pub fn new(limits: InventoryLimits) -> Arc<Self> {
        Arc::new(Self {
            limits: Mutex::new(limits),
            table: Mutex::default(),
            changed: AtomicBool::new(false),
            activities: Activities::default(),
            instances: Instances::default(),
        })
    }

    /// The activity of configured devices.
    pub fn activities(&self) -> &Activities {
        &self.activities
    }

    /// The reports on configured devices, by all instances of the fleet, those with a problem first. `seen` are the
    /// devices that were seen, each with its `[[device]]`: they know why a device does not come as far as its login.
    pub fn reports(&self, seen: &[SeenDevice]) -> Vec<Report> {
        let mut reports = self.all_reports();
        take_failures(&mut reports, seen);
        reports
    }

    /// Sets other limits.
    pub fn set_limits(&self, limits: InventoryLimits) {
        *self.limits.lock() = limits;
        self.forget_stale();
    }

    /// Returns whether names are to be looked up in the DNS.
    pub fn wants_names(&self) -> bool {
        self.limits().reverse_dns
    }

    /// Records what a connection has shown.
    pub fn observe(self: &Arc<Self>, observation: &Observation<'_>) -> Presence {
        let now = now();
        let fingerprint = observation.hello.map(ClientHello::fingerprint).unwrap_or_default();
        let mut table = self.table.lock();
        let entry = match table.find(observation.source, observation.protocol, &fingerprint) {
            Some(entry) => entry,
            None => {
                table.make_room(observation.source, observation.protocol, &fingerprint, self.limits().devices);
                let entry = Arc::new(Entry::new(SeenDevice::new(observation, fingerprint, now)));
                table.add(Arc::clone(&entry));
                entry
            }
        };
        drop(table);
        entry.device().update(observation, now);
        entry.open.fetch_add(1, Ordering::Relaxed);
        self.changed.store(true, Ordering::Relaxed);
        Presence { inventory: Arc::clone(self), entry }
    }

    /// Records that a connection was rejected before it has shown which device it is. The failure counts for the device
    /// that was last seen at that source, until its next login; where none was seen, it counts for a new device.
    pub fn observe_rejection(self: &Arc<Self>, observation: &Observation<'_>) {
        let of_source = self.table.lock().at(observation.source).to_vec();
        let of_protocol = of_source.iter().filter(|entry| entry.protocol == observation.protocol);
        match (of_protocol.max_by_key(|entry| entry.device().last_seen), observation.refused) {
            (Some(last), Some(failure)) => {
                last.device().fail(failure, now());
                self.changed.store(true, Ordering::Relaxed);
            }
            _ => drop(self.observe(observation)),
        }
    }

    /// The devices of this instance: those that need attention first, then by assessment, the last seen first.
    pub fn devices(&self) -> Vec<SeenDevice> {
        // Connections of devices wait for the lock.
        let entries = self.table.lock().all();
        let mut devices: Vec<SeenDevice> = entries.iter().map(|entry| entry.snapshot()).collect();
        arrange(&mut devices);
        devices
    }

    /// The number of devices of each judgement. A refused device counts for a week, only if it has shown its TLS (a
    /// port scan is no device), and only until somebody logs in from its address.
    pub fn counts(&self) -> [(&'static str, usize); 4] {
        let entries = self.table.lock().all();
        let lately = now().saturating_sub(WEEK);
        let mut logins: HashMap<IpAddr, u64> = HashMap::new();
        for entry in &entries {
            let device = entry.device();
            let last = logins.entry(device.source).or_default();
            *last = device.logged_in.unwrap_or_default().max(*last);
        }
        let judgement = |entry: &Arc<Entry>| {
            let device = entry.device();
            let is_unresolved = device.is_unresolved(logins.get(&device.source).copied());
            let counts = device.tls_mode.is_some() && device.last_seen >= lately && is_unresolved;
            Some(device.assessment.judgement).filter(|one| *one != Judgement::Refused || counts)
        };
        let judgements: Vec<Judgement> = entries.iter().filter_map(judgement).collect();
        Judgement::ALL.map(|one| (one.label(), judgements.iter().filter(|judgement| **judgement == one).count()))
    }

    /// Addresses without a name.
    pub fn unnamed_sources(&self) -> Vec<IpAddr> {
        let entries = self.table.lock().all();
        let sources = entries.iter().map(|entry| entry.device()).filter(|device| device.name.is_none());
        let sources: HashSet<IpAddr> = sources.map(|device| device.source).collect();
        sources.into_iter().collect()
    }

    /// Sets the name that the DNS has for an address.
    pub fn set_name(&self, source: IpAddr, name: &str) {
        for entry in self.table.lock().at(source) {
            entry.device().name = Some(name.to_owned());
        }
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Returns whether anything has changed since the last save.
    pub fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// The inventory to save, as JSON; from here on nothing has changed.
    pub fn to_save(&self) -> Vec<u8> {
        self.changed.store(false, Ordering::Relaxed);
        self.to_json()
    }

    /// Notes that the inventory is to be saved again, because saving failed.
    pub fn mark_changed(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// The limits on devices and on their age.
    pub fn limits(&self) -> InventoryLimits {
        *self.limits.lock()
    }
}

impl Presence {
    /// Records a login that the device tries.
    pub fn attempts_login(&self, login: &str) {
        let mut device = self.entry.device();
        if device.logins.first().is_none_or(|first| first != login) {
            device.logins.retain(|known| known != login);
            device.logins.insert(0, login.to_owned());
            device.logins.truncate(LOGINS);
        }
    }

    /// Records a successful login, and the mailbox behind it.
    pub fn logged_in(&self, mailbox: Option<&str>) {
        let mut device = self.entry.device();
        device.logged_in = Some(now());
        device.known_as = device.logins.first().cloned();
        device.mailbox = mailbox.map(str::to_owned).or(device.mailbox.take());
        drop(device);
        // Strangers may have pushed it out since it came.
        self.inventory.table.lock().keep(&self.entry, self.inventory.limits().devices);
    }

    /// Returns whether the device has logged in within the last hour.
    pub fn has_logged_in_lately(&self) -> bool {
        self.entry.device().logged_in.is_some_and(|logged_in| now().saturating_sub(logged_in) < HOUR)
    }

    /// Records a failure of the device's connection.
    pub fn failed(&self, failure: &Failure) {
        self.entry.device().fail(failure, now());
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.entry.open.fetch_sub(1, Ordering::Relaxed);
        self.entry.device().last_seen = now();
        self.inventory.changed.store(true, Ordering::Relaxed);
    }
}

/// Tells each device of the logins from its address, and sorts: those that need attention first, then by assessment,
/// the last seen first.
fn arrange(devices: &mut [SeenDevice]) {
    join_addresses(devices);
    let age = |device: &SeenDevice| u64::MAX - device.last_seen;
    devices.sort_by_cached_key(|device| {
        (!device.needs_attention(), device.assessment.judgement, age(device), device.source, device.fingerprint.clone())
    });
}

const LOGINS: usize = 4;
/// An hour in seconds.
const HOUR: u64 = 60 * 60;
/// A week in seconds.
const WEEK: u64 = 7 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Version;
    use crate::failure::Kind;
    use crate::protocol::Protocol;
    use crate::transport::Facts;
    use crate::transport::detect::hello::ClientHello;
    use std::time::Duration;

    pub(super) fn inventory(devices: usize) -> Arc<Inventory> {
        let (silent_after, reverse_dns) = (Duration::from_secs(7200), false);
        Inventory::new(InventoryLimits { devices, forget_after: Duration::from_secs(60), silent_after, reverse_dns })
    }

    pub(super) fn hello(version: u16, suites: &[u16]) -> ClientHello {
        ClientHello { version, suites: suites.to_vec(), ..ClientHello::default() }
    }

    pub(super) fn observation<'a>(source: &str, hello: Option<&'a ClientHello>) -> Observation<'a> {
        let tls = hello.map(|_| Facts { version: "TLSv1", cipher: "AES128-SHA", resumed: false });
        let (protocol, tls_mode) = (Protocol::Imap, hello.map(|_| TlsMode::Implicit));
        Observation {
            source: source.parse().unwrap(),
            protocol,
            listener: "imap-993",
            tls_mode,
            hello,
            tls,
            refused: None,
        }
    }

    #[test]
    fn a_device_is_recognised() {
        let inventory = inventory(10);
        let hello = hello(0x0301, &[0x2f]);
        let presence = inventory.observe(&observation("192.0.2.1", Some(&hello)));
        presence.attempts_login("scanner3");
        presence.logged_in(Some("scans@contoso.com"));
        assert_eq!(inventory.devices()[0].open, 1);
        drop(presence);
        let presence = inventory.observe(&observation("192.0.2.1", Some(&hello)));
        presence.attempts_login("scanner4");
        presence.attempts_login("scanner3");
        let devices = inventory.devices();
        assert_eq!(devices.len(), 1);
        let device = &devices[0];
        assert_eq!((device.sessions, device.open, device.version), (2, 1, Some(Version::Tls1_0)));
        assert_eq!(device.logins, ["scanner3", "scanner4"]);
        assert!(!device.needs_attention());
        let mut failing = device.clone();
        failing.fail(&Failure::new(Kind::LoginRefused, ""), now() + 1);
        assert!(failing.needs_attention());
    }

    #[test]
    fn a_client_hello_replaces_an_entry_without_one() {
        let inventory = inventory(10);
        let failure = Failure::new(Kind::NotAllowed, "");
        drop(inventory.observe(&Observation { refused: Some(&failure), ..observation("192.0.2.1", None) }));
        assert!(inventory.devices()[0].needs_attention());
        let hello = hello(0x0301, &[0x2f]);
        drop(inventory.observe(&observation("192.0.2.1", Some(&hello))));
        let devices = inventory.devices();
        assert_eq!((devices.len(), devices[0].assessment.judgement), (1, Judgement::Needs));
    }

    #[test]
    fn a_rejection_counts_for_the_device_last_seen_there() {
        let inventory = inventory(10);
        let failure = Failure::new(Kind::TooManyFromSource, "limits.connections_per_source = 2");
        let refused = Observation { refused: Some(&failure), ..observation("192.0.2.1", None) };
        inventory.observe_rejection(&refused);
        inventory.observe_rejection(&refused);
        let devices = inventory.devices();
        assert_eq!((devices.len(), devices[0].failures, devices[0].assessment.judgement), (1, 2, Judgement::Refused));
        let hello = hello(0x0301, &[0x2f]);
        let presence = inventory.observe(&observation("192.0.2.1", Some(&hello)));
        inventory.observe_rejection(&refused);
        let devices = inventory.devices();
        assert_eq!((devices.len(), devices[0].assessment.judgement), (1, Judgement::Needs));
        assert!(devices[0].needs_attention() && devices[0].failure.as_ref().unwrap().contains("per_source = 2"));
        presence.logged_in(None);
        assert!(!inventory.devices()[0].needs_attention());
    }

    /// A stranger with ever new ClientHellos and addresses pushes out no device that has logged in.
    #[test]
    fn strangers_are_forgotten_first() {
        let inventory = inventory(40);
        let own = hello(0x0301, &[0x2f]);
        inventory.observe(&observation("192.0.2.1", Some(&own))).logged_in(None);
        for number in 0..100 {
            drop(inventory.observe(&observation("192.0.2.2", Some(&hello(0x0301, &[number])))));
        }
        let of_stranger = |inventory: &Inventory| {
            inventory.devices().iter().filter(|device| device.source.to_string() == "192.0.2.2").count()
        };
        assert_eq!(of_stranger(&inventory), device_table::OF_A_SOURCE);
        for number in 0..=255 {
            drop(inventory.observe(&observation(&format!("198.51.100.{number}"), Some(&own))));
        }
        let devices = inventory.devices();
        assert!(devices.len() <= 40);
        assert!(devices.iter().any(|device| device.source.to_string() == "192.0.2.1"));
    }
}
