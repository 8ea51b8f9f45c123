//! The inventory is exported as CSV (RFC 4180), for spreadsheets.

use super::SeenDevice;

/// The devices as a table for spreadsheets. A text that a spreadsheet would take for a formula gets an apostrophe
/// before it, because names come from devices.
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
        ];
        text.push_str(&cells.map(|cell| quoted(&cell)).join(","));
        text.push_str("\r\n");
    }
    text
}

/// A cell in quotation marks where a program may need them. Own code: the csv crate leaves `;` bare, and spreadsheets
/// that split there would take what follows for a formula.
fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if is_formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\r', '\n', ';', '\'']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::tests::{inventory, observation};

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
