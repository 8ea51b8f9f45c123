//! The activity of configured devices says whether each of them gets its mail.
//!
//! A device is identified by the first login of its `[[device]]`. Records exist for configured devices alone, so that
//! their number is bounded by the configuration. They change at logins and at the ends of sessions, and survive
//! restarts.

mod connections;
mod elsewhere;
mod hours;
mod logins;
mod mailboxes;
mod recipients;
mod record;
mod report;
mod saved;
mod sending;
mod spans;
mod visit;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::config::Config;
use crate::failure::Failure;
use crate::lifecycle::unix_time as now;
use connections::Connections;
pub use connections::{Connection, KEPT, Owner, SentMessages};
use elsewhere::Elsewhere;
pub use logins::{LoginWay, Logins};
use mailboxes::Mailboxes;
pub use recipients::{DeviceRecipients, MailboxRecipients};
use record::{Record, Rules};
pub(super) use report::take_failures;
pub use report::{ReadingReport, Report, State};
pub use saved::{RecordsError, read_saved};
pub use sending::{SendingReport, SendingState};
pub use visit::{Proof, Visit, VisitAt};

/// The records of all configured devices.
pub struct Activities {
    table: RwLock<Table>,
    mailboxes: Arc<Mailboxes>,
    changed: Arc<AtomicBool>,
    /// The start of this process, in seconds since 1970: before it nobody could see a login.
    started: u64,
}

#[derive(Default)]
struct Table {
    devices: Vec<(Section, Arc<Entry>)>,
    /// Index of every login and alias, in lower case.
    by_login: HashMap<String, usize>,
    /// Index of the device that alone may come from an address; none where several may.
    by_address: HashMap<IpAddr, Option<usize>>,
    silent_after: Duration,
}

/// The part of a `[[device]]` that people read.
#[derive(Clone, Default)]
struct Section {
    login: String,
    description: Option<String>,
    account: String,
    mailbox: Option<String>,
}

struct Entry {
    /// The number of its open sessions.
    open: AtomicUsize,
    record: Mutex<Record>,
    /// The recipients of its messages under way. It rises under the record's lock alone.
    under_way: AtomicU64,
    elsewhere: Mutex<Elsewhere>,
    connections: Connections,
}

/// A change that the log tells once.
pub struct Change {
    /// The device, as it is now.
    pub report: Report,
    /// The device has become silent; otherwise it has come back.
    pub is_silent: bool,
}

impl Default for Activities {
    fn default() -> Self {
        Self { table: RwLock::default(), mailboxes: Arc::default(), changed: Arc::default(), started: now() }
    }
}

impl Activities {
    /// Takes the devices of a configuration. Records of devices that it lacks are dropped.
    pub fn configure(&self, config: &Config) {
        let now = now();
        let mut table = self.table.write();
        let before: HashMap<String, Arc<Entry>> =
            table.devices.drain(..).map(|(section, entry)| (section.login, entry)).collect();
        table.by_login.clear();
        table.by_address.clear();
        table.silent_after = config.inventory.silent_after;
        for device in &config.devices {
            let login = device.logins.first().cloned().unwrap_or_default();
            let entry = before.get(&login).cloned().unwrap_or_else(|| Arc::new(Entry::new(Record::new(&login, now))));
            let index = table.devices.len();
            table.by_login.extend(device.logins.iter().map(|login| (login.clone(), index)));
            for network in device.networks.iter().flat_map(|networks| &networks.0) {
                if network.prefix_len() == network.max_prefix_len() {
                    let of_address = table.by_address.entry(network.addr().to_canonical());
                    of_address.and_modify(|one| *one = None).or_insert(Some(index));
                }
            }
            let mailbox = config.accounts.get(&device.account).map(|account| account.mailbox.clone());
            let (description, account) = (device.description.clone(), device.account.clone());
            table.devices.push((Section { login, description, account, mailbox }, entry));
        }
        let is_same =
            before.len() == table.devices.len() && table.devices.iter().all(|(one, _)| before.contains_key(&one.login));
        if !is_same {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// All configured devices, those with a problem first.
    pub fn reports(&self) -> Vec<Report> {
        let now = now();
        let (devices, rules) = self.snapshot();
        let mut reports: Vec<Report> =
            devices.iter().map(|(section, entry)| entry.report(section, rules, now)).collect();
        reports.sort_by(|one, other| (one.state, &one.device).cmp(&(other.state, &other.device)));
        reports
    }

    /// The name of the device that has a login, as the configuration writes its first login.
    pub fn device_of(&self, login: &str) -> Option<String> {
        let table = self.table.read();
        let index = table.by_login.get(login.trim().to_lowercase().as_str())?;
        table.devices.get(*index).map(|(section, _)| section.login.clone())
    }

    /// The devices that have become silent, or have come back, since the last call.
    pub fn changes(&self) -> Vec<Change> {
        let now = now();
        let table = self.table.read();
        let rules = self.rules(&table);
        let changed = |(section, entry): &(Section, Arc<Entry>)| {
            let is_silent = {
                let mut record = entry.record.lock();
                let is_silent = record.is_silent(now, entry.open.load(Ordering::Relaxed), rules);
                record.set_silent(is_silent).then_some(is_silent)?
            };
            self.changed.store(true, Ordering::Relaxed);
            Some(Change { report: entry.report(section, rules, now), is_silent })
        };
        table.devices.iter().filter_map(changed).collect()
    }

    fn find(&self, login: &str) -> Option<Arc<Entry>> {
        let table = self.table.read();
        let index = table.by_login.get(login.trim().to_lowercase().as_str())?;
        table.devices.get(*index).map(|(_, entry)| Arc::clone(entry))
    }

    /// The devices, to be read without the table's lock.
    fn snapshot(&self) -> (Vec<(Section, Arc<Entry>)>, Rules) {
        let table = self.table.read();
        (table.devices.clone(), self.rules(&table))
    }

    fn rules(&self, table: &Table) -> Rules {
        Rules { started: self.started, silent_after: table.silent_after.as_secs() }
    }
}

impl Entry {
    fn new(record: Record) -> Self {
        Self {
            open: AtomicUsize::new(0),
            record: Mutex::new(record),
            under_way: AtomicU64::new(0),
            elsewhere: Mutex::default(),
            connections: Connections::default(),
        }
    }

    fn report(&self, section: &Section, rules: Rules, now: u64) -> Report {
        let open = self.open.load(Ordering::Relaxed);
        let mut report = self.record.lock().report(now, open, rules);
        let Section { login, description, account, mailbox } = section.clone();
        report.device = login;
        report.description = description;
        report.account = Some(account);
        report.mailbox = mailbox;
        report
    }
}

/// A failure in words that are short enough for a record.
fn shorten(failure: &Failure) -> String {
    failure.to_string().chars().take(LONGEST_FAILURE).collect()
}

/// In seconds.
const HOUR: u64 = 60 * 60;
/// In characters.
const LONGEST_FAILURE: usize = 500;

#[cfg(test)]
pub(super) mod tests;
