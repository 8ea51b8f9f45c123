//! `packetboat devices` prints the inventory of the running proxy, or the last one that it saved.

use std::fmt::Write as _;
use std::time::Duration;

use super::control_client::request;
use super::error::{CommandError, Exit, unavailable};
use super::output::{print, print_error};
use super::{ConfigFile, runtime};
use crate::admin;
use crate::inventory::{self, SeenDevice};
use crate::lifecycle::unix_time;
use crate::text::Printable;
use crate::text::excerpt;

#[derive(clap::Args)]
pub(super) struct DevicesArguments {
    /// Print JSON, for programs
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV, for spreadsheets
    #[arg(long)]
    csv: bool,
}

/// Prints the devices of the running proxy, or those of its last saved inventory, as a table, JSON or CSV.
pub(super) fn devices(file: &ConfigFile, arguments: &DevicesArguments) -> Result<(), CommandError> {
    let (devices, json) = from_proxy(file).or_else(|why| {
        let mut kept = file.state_directories().into_iter().map(|directory| admin::inventory_path(&directory));
        let Some(path) = kept.find(|path| path.exists()) else {
            return Err(why);
        };
        print_error(format_args!("{why}; showing the last saved inventory, {}", path.display()));
        read(inventory::read_saved(&path).map_err(|error| Exit::NoInput.because(error))?)
    })?;
    if arguments.json {
        return print(format_args!("{}\n", String::from_utf8_lossy(&json)));
    }
    if arguments.csv {
        return print(inventory::csv(&devices));
    }
    print(table(&devices))
}

/// The inventory of the running proxy, and the same as JSON.
fn from_proxy(file: &ConfigFile) -> Result<(Vec<SeenDevice>, Vec<u8>), CommandError> {
    let answer = runtime()?.block_on(request(file, "/inventory.json", PATIENCE, LONGEST_INVENTORY))?;
    if answer.status != 200 {
        let words = excerpt(answer.body.trim_ascii());
        return Err(unavailable(format_args!("packetboat answers {} {words}", answer.status)));
    }
    read(answer.body).map_err(|_| unavailable("the server that answers is not packetboat"))
}

fn read(text: Vec<u8>) -> Result<(Vec<SeenDevice>, Vec<u8>), CommandError> {
    match inventory::read(&text) {
        Ok(devices) => Ok((devices, text)),
        Err(error) => Err(Exit::IoError.because(format_args!("it {error}"))),
    }
}

fn table(devices: &[SeenDevice]) -> String {
    if devices.is_empty() {
        return "no device has connected yet\n".to_owned();
    }
    let heads =
        ["", "SOURCE", "NAME", "LOGIN", "PROTOCOL", "TLS", "SESSIONS", "LAST SEEN", "VERDICT"].map(str::to_owned);
    let mut rows = vec![heads];
    rows.extend(devices.iter().map(|device| {
        let tls = device.version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        [
            if device.needs_attention() { "!" } else { "" }.to_owned(),
            device.source.to_string(),
            printed(device.name.as_deref()),
            printed(device.logins.first().map(String::as_str)),
            device.protocol.name().to_owned(),
            tls,
            device.sessions.to_string(),
            ago(device.last_seen),
            excerpt(device.assessment.text.as_bytes()),
        ]
    }));
    let widths: Vec<usize> = (0..9)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (row, device) in rows.iter().zip(std::iter::once(None).chain(devices.iter().map(Some))) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        if let Some(failure) = device.filter(|device| device.needs_attention()).and_then(|one| one.failure.as_ref()) {
            let _ = writeln!(text, "     {}", Printable::line(failure).as_str());
        }
    }
    text
}

fn printed(name: Option<&str>) -> String {
    name.map_or_else(|| "-".to_owned(), |name| excerpt(name.as_bytes()))
}

fn ago(seconds: u64) -> String {
    let ago = unix_time().saturating_sub(seconds);
    match ago {
        0..60 => format!("{ago} s ago"),
        60..3600 => format!("{} min ago", ago / 60),
        3600..172_800 => format!("{} h ago", ago / 3600),
        _ => format!("{} days ago", ago / 86_400),
    }
}

/// The longest inventory, in octets: that of a hundred thousand devices.
const LONGEST_INVENTORY: usize = 256 * 1024 * 1024;
/// The longest time that a request for the inventory may take.
const PATIENCE: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_nothing_but_text() {
        assert_eq!(printed(Some("\x1b]0;x\x07")), "?]0;x?");
    }
}
