//! The activity of configured devices says whether each of them gets its mail.
//!
//! A device is identified by the first login of its `[[device]]`. Records exist for configured devices alone, so that
//! their number is bounded by the configuration. They change at logins and at the ends of sessions, and survive
//! restarts.

mod connections;
mod hours;
mod logins;
mod mailboxes;
mod record;
mod report;
mod saved;
mod sending;
mod spans;
mod visit;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::config::Config;
use crate::failure::Failure;
use crate::lifecycle::unix_time as now;
use connections::Connections;
pub use connections::{Connection, KEPT, Owner, SentMessages};
pub use logins::{LoginWay, Logins};
use mailboxes::Mailboxes;
use record::{Record, Rules};
pub(super) use report::take_failures;
pub use report::{ReadingReport, Report, State};
pub use saved::{RecordsError, read_saved};
pub use sending::{SendingReport, SendingState};
pub use visit::{Proof, Visit, VisitAt};

/// The records of all configured devices.
pub struct Activities {
    table: RwLock<Table>,
    mailboxes: Mailboxes,
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
        Self { table: RwLock::default(), mailboxes: Mailboxes::default(), changed: Arc::default(), started: now() }
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
        Self { open: AtomicUsize::new(0), record: Mutex::new(record), connections: Connections::default() }
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

/// In characters.
const LONGEST_FAILURE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;
    use crate::protocol::Protocol;
    use std::path::Path;

    const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";

    fn config(logins: &[&str]) -> Config {
        let mut text = "[identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = \"/x\"\n\
                        [account.a]\nmailbox = \"scans@contoso.example\"\n"
            .to_owned();
        for login in logins {
            text += &format!(
                "[[device]]\nlogin = \"{login}\"\naliases = [\"{login}@contoso.example\"]\npasswords = [\"{HASH}\"]\n\
                 account = \"a\"\n"
            );
        }
        Config::parse(&text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}")).config
    }

    fn activities(logins: &[&str]) -> Activities {
        let activities = Activities::default();
        activities.configure(&config(logins));
        activities
    }

    fn source(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// A device reads by IMAP from this address.
    fn reading(last: u8) -> VisitAt {
        VisitAt { protocol: Protocol::Imap, source: source(last) }
    }

    /// A device sends from this address.
    fn sending(last: u8) -> VisitAt {
        VisitAt { protocol: Protocol::Smtp, source: source(last) }
    }

    fn states(activities: &Activities) -> Vec<(String, State)> {
        activities.reports().into_iter().map(|report| (report.device, report.state)).collect()
    }

    #[test]
    fn each_configured_device_has_a_state_and_problems_come_first() {
        let activities = activities(&["copier", "fax", "printer"]);
        let visit = activities.login_succeeded("Copier@contoso.example ", reading(1), 1).unwrap();
        activities.login_failed("printer", reading(2), &Failure::new(Kind::WrongPassword, "x"), Proof::Claimed);
        assert!(activities.login_succeeded("stranger", reading(3), 1).is_none());
        let expected = [("printer", State::Failing), ("fax", State::Never), ("copier", State::Ok)];
        assert_eq!(states(&activities), expected.map(|(name, state)| (name.to_owned(), state)));
        visit.ended(2, 5000);
        let reports = activities.reports();
        let copier = &reports[2];
        assert_eq!((copier.open, copier.sessions, copier.messages, copier.octets), (0, 1, 2, 5000));
        assert!(copier.last_login.is_some() && copier.last_mail.is_some() && copier.mailbox.is_some());
        assert_eq!(reports[0].failure.as_deref(), Some("user name or password is wrong: x"));
        drop(activities.login_succeeded("printer", reading(2), 1).unwrap());
        assert_eq!(activities.reports()[1].state, State::Ok, "a login ends the failure");
    }

    /// A stranger who guesses with a device's name does not make a device that works look ill.
    #[test]
    fn guesses_from_elsewhere_say_nothing_about_a_device() {
        let activities = activities(&["copier"]);
        drop(activities.login_succeeded("copier", reading(1), 1));
        let wrong = Failure::new(Kind::WrongPassword, "");
        activities.login_failed("copier", reading(9), &wrong, Proof::Claimed);
        assert_eq!(activities.reports()[0].state, State::Ok);
        activities.login_failed("copier", reading(1), &wrong, Proof::Claimed);
        assert_eq!(activities.reports()[0].state, State::Failing);
        drop(activities.login_succeeded("copier", reading(1), 1));
        activities.login_failed("copier", reading(9), &Failure::new(Kind::Connect, ""), Proof::Verified);
        assert_eq!(activities.reports()[0].state, State::Failing);
    }

    #[test]
    fn records_survive_a_reload_and_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = Activities::path(directory.path());
        let one = activities(&["copier", "fax"]);
        assert!(!one.load(&path).unwrap());
        one.login_succeeded("copier", reading(1), 1).unwrap().ended(1, 100);
        one.configure(&config(&["copier", "new"]));
        assert_eq!(states(&one), [("new".to_owned(), State::Never), ("copier".to_owned(), State::Ok)]);
        assert!(one.has_changed());
        std::fs::write(&path, one.to_save()).unwrap();
        assert!(!one.has_changed());
        let other = activities(&["copier", "new", "fax"]);
        assert!(other.load(&path).unwrap());
        assert!(other.has_changed(), "a device is new");
        let same = activities(&["copier", "new"]);
        assert!(same.load(&path).unwrap() && !same.has_changed());
        same.configure(&config(&["copier", "new"]));
        assert!(!same.has_changed());
        let copier = other.reports().pop().unwrap();
        assert_eq!(copier, one.reports().pop().unwrap());
        std::fs::write(&path, "{").unwrap();
        assert!(other.load(&path).unwrap_err().to_string().contains("device-activity.json"));
        std::fs::write(&path, "{\"version\":2,\"saved\":0,\"devices\":[]}").unwrap();
        assert!(matches!(other.load(&path), Err(RecordsError::Later(_))));
    }

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "the version before needs each of these fields")]
    struct Before {
        version: u64,
        saved: u64,
        devices: Vec<RecordBefore>,
    }

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "the version before needs each of these fields")]
    struct RecordBefore {
        login: String,
        known_since: u64,
        last_login: Option<u64>,
        visit: Option<u64>,
        last_seen: Option<u64>,
        last_mail: Option<u64>,
        gaps: Vec<u64>,
        hours: Vec<HourBefore>,
        source: Option<IpAddr>,
        failure: Option<String>,
        reason: Option<String>,
        failed: Option<u64>,
        failing_since: Option<u64>,
        is_silent: bool,
    }

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "the version before needs each of these fields")]
    struct HourBefore {
        hour: u64,
        sessions: u64,
        messages: u64,
        octets: u64,
    }

    /// The file as the version before has written it is read, and that version reads the file of this one.
    #[test]
    fn the_file_is_read_by_the_version_before_and_from_it() {
        let (hour, now) = (now() / 3600, now());
        let before = format!(
            "{{\"version\":1,\"saved\":{now},\"devices\":[{{\"login\":\"copier\",\"known_since\":5,\"last_login\":{now},\
             \"visit\":{now},\"last_seen\":{now},\"last_mail\":{now},\"gaps\":[300,300,300],\"hours\":[{{\"hour\":{hour},\
             \"sessions\":4,\"messages\":2,\"octets\":900}}],\"source\":\"192.0.2.1\",\"failure\":null,\"reason\":null,\
             \"failed\":null,\"failing_since\":null,\"is_silent\":false}}]}}"
        );
        let directory = tempfile::tempdir().unwrap();
        let path = Activities::path(directory.path());
        std::fs::write(&path, before).unwrap();
        let activities = activities(&["copier"]);
        assert!(activities.load(&path).unwrap());
        let report = activities.reports().remove(0);
        assert_eq!((report.state, report.sessions, report.messages, report.octets), (State::Ok, 4, 2, 900));
        assert!(report.reading.is_some() && report.sending.is_none());

        let mut visit = activities.login_succeeded("copier", sending(1), 1).unwrap();
        visit.sent(3, 5000);
        visit.refused(&Failure::new(Kind::MailboxFull, "x"));
        visit.ended(0, 300);
        activities.mailbox_sent("scans@contoso.example", 3);
        let saved = activities.to_save();
        let read: Before = serde_json::from_slice(&saved).unwrap();
        let record = &read.devices[0];
        assert_eq!((record.login.as_str(), record.hours[0].octets), ("copier", 900));
        assert_eq!((record.reason.as_deref(), record.failing_since), (Some("mailbox_full"), None));

        // A restart keeps everything.
        std::fs::write(&path, saved).unwrap();
        let after = self::activities(&["copier"]);
        assert!(after.load(&path).unwrap());
        assert_eq!(after.reports(), activities.reports());
        let sent = after.reports().remove(0).sending.unwrap();
        assert_eq!((sent.state, sent.messages, sent.recipients, sent.octets), (SendingState::Refused, 1, 3, 5000));
        assert_eq!(after.recipients_of("scans@contoso.example"), 3);
    }

    #[test]
    fn an_inventory_of_an_earlier_version_is_used() {
        let activities = activities(&["copier", "fax"]);
        activities.seed("copier@contoso.example", source(1), now() - 60);
        assert_eq!(states(&activities), [("fax".to_owned(), State::Never), ("copier".to_owned(), State::Ok)]);
    }

    /// The log tells once that a device is silent, and once that it is back.
    #[test]
    fn silence_is_a_change_once() {
        let activities = activities(&["copier"]);
        activities.seed("copier", source(1), 1000);
        // This process has run for longer than a device without a known interval may be silent.
        let activities = Activities { started: 2000, ..activities };
        let changes = activities.changes();
        assert!(matches!(changes.as_slice(), [change] if change.is_silent && change.report.state == State::Silent));
        assert!(activities.changes().is_empty());
        let visit = activities.login_succeeded("copier", reading(1), 1);
        assert!(matches!(activities.changes().as_slice(), [change] if !change.is_silent));
        drop(visit);
        assert!(activities.changes().is_empty());
    }
}
