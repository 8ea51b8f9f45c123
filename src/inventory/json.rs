//! The inventory as JSON, for the state directory, the page and export, and as CSV (RFC 4180).

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::device_table::{Entry, OF_A_SOURCE};
use super::{Assessment, Inventory, Judgement, SeenDevice, TlsMode};
use crate::config::Version;
use crate::lifecycle::unix_time;
use crate::protocol::Protocol;
use crate::state;

/// A device as it is written.
#[derive(Deserialize, Serialize)]
pub(super) struct Written {
    source: IpAddr,
    name: Option<String>,
    protocol: String,
    listener: String,
    entry: Option<String>,
    tls: Option<String>,
    cipher: Option<String>,
    offers: Option<String>,
    fingerprint: Option<String>,
    logins: Vec<String>,
    #[serde(default)]
    known_as: Option<String>,
    mailbox: Option<String>,
    sessions: u64,
    #[serde(default)]
    open: usize,
    failures: u64,
    failure: Option<String>,
    failed: Option<u64>,
    logged_in: Option<u64>,
    first_seen: u64,
    last_seen: u64,
    verdict: WrittenAssessment,
    #[serde(default)]
    attention: bool,
}

#[derive(Deserialize, Serialize)]
struct WrittenAssessment {
    kind: String,
    text: String,
}

#[derive(Deserialize, Serialize)]
struct WrittenInventory {
    devices: Vec<Written>,
}

impl Inventory {
    /// The devices, as the state directory, the page and export have them.
    pub fn to_json(&self) -> Vec<u8> {
        let devices = self.devices().iter().map(Written::from).collect();
        serde_json::to_vec(&WrittenInventory { devices }).unwrap_or_default()
    }

    /// Takes in what an earlier run has kept; nothing is kept yet where the file is missing.
    ///
    /// # Errors
    /// The file cannot be read, or is no inventory; the text names it.
    pub fn load(&self, path: &Path) -> Result<(), String> {
        if !state::is_there(path) {
            return Ok(());
        }
        let text = read_saved(path)?;
        let devices = read(&text).map_err(|why| format!("{}: {why}", path.display()))?;
        let mut table = self.table();
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

/// What a run has kept.
///
/// # Errors
/// The file cannot be read; the text names it.
pub fn read_saved(path: &Path) -> Result<Vec<u8>, String> {
    state::read_up_to(path, LARGEST)
}

/// Devices as the page and export have them: a list in JSON.
pub fn to_json(devices: &[SeenDevice]) -> String {
    let devices: Vec<Written> = devices.iter().map(Written::from).collect();
    serde_json::to_string(&devices).unwrap_or_default()
}

/// The devices of an inventory in JSON.
///
/// # Errors
/// It is none.
pub fn read(text: &[u8]) -> Result<Vec<SeenDevice>, String> {
    let written: WrittenInventory = serde_json::from_slice(text).map_err(|error| {
        // Its own words would repeat what stands there.
        format!("is no inventory (line {}, column {})", error.line(), error.column())
    })?;
    Ok(written.devices.into_iter().filter_map(Written::into_device).collect())
}

/// The devices as a table for spreadsheets. A text that a spreadsheet would take for a formula gets an apostrophe before
/// it, because names come from devices.
pub fn csv(devices: &[SeenDevice]) -> String {
    let mut text = String::from(
        "source,name,logins,mailbox,protocol,listener,entry,tls,cipher,fingerprint,offers,sessions,failures,failure,failed,\
         first_seen,last_seen,verdict\r\n",
    );
    for device in devices {
        let time = |seconds: u64| {
            humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
                .to_string()
        };
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        let cells = [
            device.source.to_string(),
            optional(&device.name),
            device.logins.join(" "),
            optional(&device.mailbox),
            device.protocol.name().to_owned(),
            device.listener.clone(),
            device.tls_mode.map(|way| way.name().to_owned()).unwrap_or_default(),
            device.version.map(|version| version.to_string()).unwrap_or_default(),
            optional(&device.cipher),
            optional(&device.fingerprint),
            optional(&device.offers),
            device.sessions.to_string(),
            device.failures.to_string(),
            optional(&device.failure),
            device.failed.map(time).unwrap_or_default(),
            time(device.first_seen),
            time(device.last_seen),
            device.assessment.text.clone(),
        ];
        text.push_str(&cells.map(|cell| quoted(&cell)).join(","));
        text.push_str("\r\n");
    }
    text
}

fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if is_formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\r', '\n', ';', '\'']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

impl From<&SeenDevice> for Written {
    fn from(device: &SeenDevice) -> Self {
        let SeenDevice { assessment, .. } = device;
        Self {
            source: device.source,
            name: device.name.clone(),
            protocol: device.protocol.name().to_owned(),
            listener: device.listener.clone(),
            entry: device.tls_mode.map(|way| way.name().to_owned()),
            tls: device.version.map(|version| version.to_string()),
            cipher: device.cipher.clone(),
            offers: device.offers.clone(),
            fingerprint: device.fingerprint.clone(),
            logins: device.logins.clone(),
            known_as: device.known_as.clone(),
            mailbox: device.mailbox.clone(),
            sessions: device.sessions,
            open: device.open,
            failures: device.failures,
            failure: device.failure.clone(),
            failed: device.failed,
            logged_in: device.logged_in,
            first_seen: device.first_seen,
            last_seen: device.last_seen,
            verdict: WrittenAssessment { kind: assessment.judgement.label().to_owned(), text: assessment.text.clone() },
            attention: device.needs_attention(),
        }
    }
}

impl Written {
    /// None where it was written by something else than this.
    fn into_device(self) -> Option<SeenDevice> {
        let judgement = Judgement::ALL.into_iter().find(|one| one.label() == self.verdict.kind)?;
        let ways = [TlsMode::Implicit, TlsMode::StartTls, TlsMode::Plaintext];
        let protocols = [Protocol::Imap, Protocol::Pop3];
        // A clock that was wrong has written of the future; it is not to be remembered until then.
        let now = unix_time();
        let past = |time: u64| time.min(now);
        Some(SeenDevice {
            source: self.source,
            name: self.name,
            protocol: protocols.into_iter().find(|one| one.name() == self.protocol)?,
            listener: self.listener,
            tls_mode: self.entry.and_then(|entry| ways.into_iter().find(|way| way.name() == entry)),
            version: self.tls.and_then(|tls| Version::ALL.into_iter().find(|version| version.to_string() == tls)),
            cipher: self.cipher,
            offers: self.offers,
            fingerprint: self.fingerprint,
            logins: self.logins,
            known_as: self.known_as,
            mailbox: self.mailbox,
            sessions: self.sessions,
            failures: self.failures,
            failure: self.failure,
            failed: self.failed.map(past),
            logged_in: self.logged_in.map(past),
            first_seen: past(self.first_seen),
            last_seen: past(self.last_seen),
            assessment: Assessment { judgement, text: self.verdict.text },
            open: 0,
        })
    }
}

/// Above what `inventory.devices` at its largest comes to.
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
        assert!(other.load(&path).unwrap_err().contains("inventory.json: is no inventory"));
    }

    #[test]
    fn a_spreadsheet_gets_no_formula() {
        let one = inventory(10);
        let presence = one.observe(&observation("192.0.2.1", None));
        presence.attempts_login("=cmd|' /C calc'!A0");
        let text = csv(&one.devices());
        assert!(text.contains(",\"'=cmd|' /C calc'!A0\","), "{text}");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(quoted("plain"), "plain");
    }
}
