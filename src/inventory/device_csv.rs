//! The inventory is exported as CSV (RFC 4180), for spreadsheets.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, UNIX_EPOCH};

use super::{Report, SeenDevice, SendingReport};

/// The devices as a table for spreadsheets: first configured ones that were never seen, then all that were seen. A text
/// that a spreadsheet would take for a formula gets an apostrophe before it, because names come from devices.
pub fn csv(devices: &[SeenDevice], reports: &[Report]) -> String {
    let mut text = format!("{}\r\n", COLUMNS.join(","));
    let by_name: HashMap<&str, &Report> = reports.iter().map(|report| (report.device.as_str(), report)).collect();
    let seen_names: HashSet<&str> = devices.iter().filter_map(|device| device.configured.as_deref()).collect();
    for report in reports.iter().filter(|report| !seen_names.contains(report.device.as_str())) {
        let mut cells = [const { String::new() }; SEEN].to_vec();
        for (at, cell) in [(1, &report.description), (3, &report.mailbox)] {
            if let (Some(place), Some(text)) = (cells.get_mut(at), cell) {
                place.clone_from(text);
            }
        }
        write_row(&mut text, cells, Some(report), instance(None, Some(report)));
    }
    for device in devices {
        let report = device.configured.as_deref().and_then(|name| by_name.get(name).copied());
        write_row(&mut text, seen(device).to_vec(), report, instance(Some(device), report));
    }
    text
}

/// Writes a row: the cells of a device that was seen, those of the `[[device]]` that it is, and the instance of the fleet.
fn write_row(text: &mut String, mut cells: Vec<String>, report: Option<&Report>, instance: String) {
    cells.extend(report.map(configured).unwrap_or_default());
    cells.push(instance);
    let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
    text.push_str(&cells.join(","));
    text.push_str("\r\n");
}

fn seen(device: &SeenDevice) -> [String; SEEN] {
    [
        device.source.to_string(),
        optional(&device.name),
        device.logins.join(" "),
        optional(&device.mailbox),
        device.protocol.name().to_owned(),
        device.listener.clone(),
        device.tls_mode.map(|mode| mode.name().to_owned()).unwrap_or_default(),
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
    ]
}

fn configured(report: &Report) -> [String; COLUMNS.len() - SEEN - 1] {
    let sending = report.sending.as_ref();
    let count = |of: fn(&SendingReport) -> u64| sending.map(|sending| of(sending).to_string()).unwrap_or_default();
    [
        report.device.clone(),
        report.state.label().to_owned(),
        report.since.map(time).unwrap_or_default(),
        report.last_login.map(time).unwrap_or_default(),
        report.last_mail.map(time).unwrap_or_default(),
        report.sessions.to_string(),
        report.messages.to_string(),
        report.octets.to_string(),
        sending.map(|sending| sending.state.label().to_owned()).unwrap_or_default(),
        sending.and_then(|sending| sending.last_sent).map(time).unwrap_or_default(),
        count(|sending| sending.messages),
        count(|sending| sending.recipients),
        count(|sending| sending.octets),
        count(|sending| sending.refused),
    ]
}

/// The instance of the fleet that has seen the device last.
fn instance(device: Option<&SeenDevice>, report: Option<&Report>) -> String {
    let of_device = device.and_then(|device| device.instance.clone());
    of_device.or_else(|| report.and_then(|report| report.instance.clone())).unwrap_or_default()
}

fn optional(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

fn time(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// A cell in quotation marks where a program may need them. Own code: the csv crate leaves `;` bare, and spreadsheets
/// that split there would take what follows for a formula.
fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if is_formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\r', '\n', ';', '\'']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

/// The columns: those of devices that were seen, those of configured ones, and the instance of the fleet.
const COLUMNS: [&str; 33] = [
    "source",
    "name",
    "logins",
    "mailbox",
    "protocol",
    "listener",
    "entry",
    "tls",
    "cipher",
    "fingerprint",
    "offers",
    "sessions",
    "failures",
    "failure",
    "failed",
    "first_seen",
    "last_seen",
    "verdict",
    "device",
    "state",
    "since",
    "last_login",
    "last_mail",
    "sessions_24h",
    "messages_24h",
    "octets_24h",
    "sending",
    "last_sent",
    "sent_24h",
    "recipients_24h",
    "sent_octets_24h",
    "refused_24h",
    "instance",
];
/// The number of columns of devices that were seen.
const SEEN: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::tests::{inventory, observation};

    #[test]
    fn a_spreadsheet_gets_no_formula() {
        let one = inventory(10);
        let presence = one.observe(&observation("192.0.2.1", None));
        presence.attempts_login("=cmd|' /C calc'!A0");
        let text = csv(&one.devices(), &[]);
        assert!(text.contains(",\"'=cmd|' /C calc'!A0\","), "{text}");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(quoted("plain"), "plain");
    }
}
