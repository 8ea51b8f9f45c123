//! The inventory is written and read as JSON: in the state directory, for the page and for export.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::device_table::{Entry, OF_A_SOURCE};
use super::serde_names::{other_judgement, other_protocol};
use super::{FleetFacts, Inventory, Report, SeenDevice, join_addresses};
use crate::lifecycle::unix_time;
use crate::state;

/// A device as it is written, with the conclusion whether it needs attention.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    seen: &'a SeenDevice,
    attention: bool,
    /// The `[[device]]` that it is.
    device: Option<&'a str>,
}

#[derive(Serialize)]
struct WrittenInventory<'a> {
    devices: Vec<Written<'a>>,
}

#[derive(Deserialize)]
struct ReadInventory {
    devices: Vec<ReadDevice>,
}

/// The part of an answer with the configured devices; earlier versions had none.
#[derive(Deserialize)]
struct ReadReports {
    #[serde(default)]
    configured: Vec<Report>,
}

/// The part of an answer with the fleet.
#[derive(Deserialize)]
struct ReadFleet {
    fleet: Option<FleetFacts>,
}

/// A device as it is read; a later version may have written other protocols and judgements, which are left out.
/// Anything else that does not fit is damage.
#[derive(Deserialize)]
#[serde(untagged)]
enum ReadDevice {
    Known(Box<SeenDevice>),
    OtherProtocol {
        #[serde(rename = "source")]
        _source: IpAddr,
        #[serde(rename = "protocol", deserialize_with = "other_protocol")]
        _protocol: (),
    },
    OtherJudgement {
        #[serde(rename = "source")]
        _source: IpAddr,
        #[serde(rename = "verdict")]
        _assessment: OtherAssessment,
    },
}

/// The open connections of a device, which a saved inventory does not have any more.
#[derive(Deserialize)]
struct Open {
    #[serde(default)]
    open: usize,
}

#[derive(Deserialize)]
struct OtherAssessment {
    #[serde(rename = "kind", deserialize_with = "other_judgement")]
    _judgement: (),
}

/// The error of an inventory that cannot be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    File(state::Error),
    /// The file holds no inventory.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The place of the damage.
        source: NoInventory,
    },
}

/// The place at which a text is no inventory. The words of the error of the JSON would repeat what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoInventory {
    line: usize,
    column: usize,
}

impl From<state::Error> for LoadError {
    fn from(error: state::Error) -> Self {
        Self::File(error)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "{error}"),
            Self::Damaged { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(error) => Some(error),
            Self::Damaged { source, .. } => Some(source),
        }
    }
}

impl fmt::Display for NoInventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "is no inventory (line {}, column {})", self.line, self.column)
    }
}

impl std::error::Error for NoInventory {}

impl Inventory {
    /// The inventory as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let devices = self.devices();
        let devices = devices.iter().map(Written::from).collect();
        serde_json::to_vec(&WrittenInventory { devices }).unwrap_or_default()
    }

    /// Loads the file of an earlier run. A missing file is an empty inventory.
    ///
    /// # Errors
    /// The file cannot be read, or is no inventory; the error names it.
    pub fn load(&self, path: &Path) -> Result<(), LoadError> {
        if !state::is_there(path) {
            return Ok(());
        }
        let text = read_saved(path)?;
        let devices = read(&text).map_err(|source| LoadError::Damaged { path: path.to_owned(), source })?;
        let mut table = self.table.lock();
        for device in devices {
            let of_source = table.at(device.source).len();
            let fingerprint = device.fingerprint.clone().unwrap_or_default();
            let is_new = table.find(device.source, device.protocol, &fingerprint).is_none();
            if is_new && of_source < OF_A_SOURCE {
                table.add(Arc::new(Entry::new(device)));
            }
        }
        drop(table);
        self.forget_stale();
        Ok(())
    }
}

/// Reads the saved inventory of an earlier run.
///
/// # Errors
/// The file cannot be read; the error names it.
pub fn read_saved(path: &Path) -> Result<Vec<u8>, state::Error> {
    state::read_up_to(path, LARGEST)
}

/// Devices as a list in JSON.
pub fn to_json(devices: &[SeenDevice]) -> String {
    let devices: Vec<Written<'_>> = devices.iter().map(Written::from).collect();
    serde_json::to_string(&devices).unwrap_or_default()
}

/// Reports on configured devices, as a list in JSON.
pub fn reports_to_json(reports: &[Report]) -> String {
    serde_json::to_string(reports).unwrap_or_else(|_| "[]".to_owned())
}

/// The reports in an answer of the running proxy; none where a later version has written others.
pub fn read_reports(text: &[u8]) -> Vec<Report> {
    serde_json::from_slice(text).map(|read: ReadReports| read.configured).unwrap_or_default()
}

/// The fleet in an answer of the running proxy; none where it is alone.
pub fn read_fleet(text: &[u8]) -> Option<FleetFacts> {
    serde_json::from_slice(text).ok().and_then(|ReadFleet { fleet }| fleet)
}

/// The fleet as JSON.
pub fn fleet_to_json(fleet: &FleetFacts) -> String {
    serde_json::to_string(fleet).unwrap_or_else(|_| "null".to_owned())
}

/// The devices of an inventory in JSON.
///
/// # Errors
/// The text is no inventory.
pub fn read(text: &[u8]) -> Result<Vec<SeenDevice>, NoInventory> {
    let read: ReadInventory =
        serde_json::from_slice(text).map_err(|error| NoInventory { line: error.line(), column: error.column() })?;
    let now = unix_time();
    let mut devices: Vec<SeenDevice> = read.devices.into_iter().filter_map(|device| device.known(now)).collect();
    join_addresses(&mut devices);
    Ok(devices)
}

/// A device as other instances of the fleet read it, with its open connections.
pub(super) fn device_record(device: &SeenDevice) -> Option<String> {
    serde_json::to_string(device).ok()
}

/// A report as other instances of the fleet read it.
pub(super) fn report_record(report: &Report) -> Option<String> {
    serde_json::to_string(report).ok()
}

/// A report as another instance of the fleet has written it; none where a later version has written what this one does
/// not know.
pub(super) fn read_report(text: &str) -> Option<Report> {
    serde_json::from_str(text).ok()
}

/// A device as another instance of the fleet has written it, with its open connections; none where a later version has
/// written what this one does not know.
pub(super) fn read_one(text: &str) -> Option<SeenDevice> {
    let Open { open } = serde_json::from_str(text).ok()?;
    let ReadDevice::Known(device) = serde_json::from_str(text).ok()? else { return None };
    Some(SeenDevice { open, ..*device })
}

impl<'a> From<&'a SeenDevice> for Written<'a> {
    fn from(device: &'a SeenDevice) -> Self {
        Self { seen: device, attention: device.needs_attention(), device: device.configured.as_deref() }
    }
}

impl ReadDevice {
    /// The device, unless a later version has written it.
    fn known(self, now: u64) -> Option<SeenDevice> {
        let Self::Known(mut device) = self else { return None };
        // A clock that was wrong has written of the future; it is not to be remembered until then.
        device.failed = device.failed.map(|time| time.min(now));
        device.logged_in = device.logged_in.map(|time| time.min(now));
        device.first_seen = device.first_seen.min(now);
        device.last_seen = device.last_seen.min(now);
        Some(*device)
    }
}

/// The largest file that is read; an inventory of the most devices is smaller.
const LARGEST: u64 = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure, Kind};
    use crate::inventory::tests::{hello, inventory, observation};

    #[test]
    fn json_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inventory.json");
        let one = inventory(10);
        one.load(&path).unwrap();
        let hello = hello(0x0301, &[0x2f]);
        let presence = one.observe(&observation("192.0.2.1", Some(&hello)));
        presence.attempts_login("<img src=x onerror=alert(1)>");
        presence.failed(&Failure::new(Kind::WrongPassword, "no [[device]] has this login"));
        drop(presence);
        std::fs::write(&path, one.to_json()).unwrap();
        let other = inventory(10);
        other.load(&path).unwrap();
        assert_eq!(other.devices(), one.devices());
        std::fs::write(&path, "{").unwrap();
        assert!(other.load(&path).unwrap_err().to_string().contains("inventory.json: is no inventory"));
    }

    /// The page, `packetboat devices --json` and other programs rely on it.
    #[test]
    fn every_field_keeps_its_name_and_order() {
        let one = inventory(10);
        let hello = hello(0x0301, &[0x2f]);
        let presence = one.observe(&observation("192.0.2.1", Some(&hello)));
        presence.logged_in(Some("scans@contoso.com"));
        let mut devices = one.devices();
        let device = devices.first_mut().unwrap();
        (device.first_seen, device.last_seen, device.logged_in) = (1, 2, Some(3));
        (device.offers, device.fingerprint) = (None, Some("f".to_owned()));
        let expected =
            r#"[{"source":"192.0.2.1","name":null,"protocol":"IMAP","listener":"imap-993","entry":"implicit","#
                .to_owned()
                + r#""tls":"TLS 1.0","cipher":"AES128-SHA","offers":null,"fingerprint":"f","logins":[],"known_as":null,"#
                + r#""mailbox":"scans@contoso.com","sessions":1,"open":1,"failures":0,"failure":null,"reason":null,"profile":null,"failed":null,"#
                + r#""logged_in":3,"first_seen":1,"last_seen":2,"verdict":{"kind":"needs","#
                + r#""text":"needs packetboat: TLS 1.0 only"},"attention":false,"device":null}]"#;
        assert_eq!(to_json(&devices), expected);
    }

    #[test]
    fn a_device_of_a_later_version_is_left_out() {
        let one = inventory(10);
        drop(one.observe(&observation("192.0.2.1", None)));
        drop(one.observe(&observation("192.0.2.2", None)));
        let text = String::from_utf8(one.to_json()).unwrap();
        let later = text.replacen("\"IMAP\"", "\"JMAP\"", 1);
        assert_eq!(read(later.as_bytes()).unwrap().len(), 1);
        let words = text.replacen("\"kind\":\"unknown\"", "\"kind\":\"new\"", 1);
        assert_eq!(read(words.as_bytes()).unwrap().len(), 1);
        let entry = text.replacen("\"entry\":null", "\"entry\":\"telepathy\"", 1);
        assert_eq!(read(entry.as_bytes()).unwrap(), read(text.as_bytes()).unwrap());
    }

    #[test]
    fn a_damaged_inventory_is_told_from_a_later_one() {
        let one = inventory(10);
        drop(one.observe(&observation("192.0.2.1", None)));
        let text = String::from_utf8(one.to_json()).unwrap();
        for (part, damage) in
            [("\"sessions\":1,", ""), ("\"sessions\":1", "\"sessions\":\"x\""), ("192.0.2.1", "printer")]
        {
            assert!(text.contains(part), "{text}");
            read(text.replacen(part, damage, 1).as_bytes()).unwrap_err();
        }
        read(b"{\"devices\":[1]}").unwrap_err();
        read(b"{\"devices\":[{\"source\":\"192.0.2.1\"}]}").unwrap_err();
    }
}
