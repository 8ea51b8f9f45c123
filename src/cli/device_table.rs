//! Tables of devices on a terminal: configured ones with their state first, then all that were seen.

use std::fmt::Write as _;

use crate::inventory::{Report, SeenDevice, SendingReport, State};
use crate::lifecycle::unix_time;
use crate::text::{Printable, excerpt};

/// The whole output: the answer in words, the configured devices, and those that were seen.
pub(super) fn tables(devices: &[SeenDevice], reports: &[Report]) -> String {
    let mut parts = Vec::new();
    if !reports.is_empty() {
        parts.push(format!("{}\n", answer(reports)));
        parts.push(configured(reports));
    }
    parts.push(if devices.is_empty() { "no device has connected yet\n".to_owned() } else { seen(devices) });
    parts.join("\n")
}

/// The answer to "does everybody get and send mail?", as `11 of 12 devices get their mail; fax2 has been silent for 3 h`.
fn answer(reports: &[Report]) -> String {
    let ok = reports.iter().filter(|report| report.state == State::Ok).count();
    let (one_does, all_do) = what_they_do(reports);
    let mut text = match (ok, reports.len()) {
        (1, 1) => ["the one device ", one_does].concat(),
        (ok, all) if ok == all => format!("all {all} devices {all_do}"),
        (ok, all) => format!("{ok} of {all} devices {all_do}"),
    };
    for state in [State::Failing, State::Refused, State::Silent, State::Never] {
        let those: Vec<&Report> = reports.iter().filter(|report| report.state == state).collect();
        if !those.is_empty() {
            let _ = write!(text, "; {}", problem(state, &those));
        }
    }
    text
}

/// The verb for one device, and for several: by whether they read, send, or both.
fn what_they_do(reports: &[Report]) -> (&'static str, &'static str) {
    let all_send = reports.iter().all(|report| report.sends_alone());
    match (all_send, reports.iter().any(|report| report.sending.is_some())) {
        (true, _) => ("sends its mail", "send their mail"),
        (false, true) => ("gets and sends its mail", "get and send their mail"),
        (false, false) => ("gets its mail", "get their mail"),
    }
}

fn problem(state: State, those: &[&Report]) -> String {
    let mut names: Vec<String> = those.iter().take(NAMED).map(|report| excerpt(report.device.as_bytes())).collect();
    let rest = those.len().saturating_sub(names.len());
    if rest > 0 {
        names.push(format!("{rest} more"));
    }
    let last = names.pop().unwrap_or_default();
    let names = if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) };
    let (has, is) = if those.len() == 1 { ("has", "is") } else { ("have", "are") };
    match (state, those) {
        (State::Failing, _) => format!("logins of {names} fail"),
        (State::Refused, _) => format!("every message of {names} is refused"),
        (State::Silent, [one]) => format!("{names} has been silent for {}", age(one.since.unwrap_or_default())),
        (State::Silent, _) => format!("{names} {is} silent"),
        (State::Never | State::Ok, _) => format!("{names} {has} never logged in"),
    }
}

fn configured(reports: &[Report]) -> String {
    let send = reports.iter().any(|report| report.sending.is_some());
    let is_fleet = reports.iter().any(|report| report.instance.is_some());
    let mut heads = vec!["", "DEVICE", "NAME", "STATE", "LAST LOGIN", "LAST MAIL", "LAST 24 HOURS", "ADDRESS"];
    if send {
        heads.insert(SENT, "LAST SENT");
    }
    heads.extend(is_fleet.then_some("INSTANCE"));
    let rows = reports.iter().map(|report| {
        let time = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), ago);
        let mut cells = vec![
            if report.state == State::Ok { "" } else { "!" }.to_owned(),
            excerpt(report.device.as_bytes()),
            printed(report.description.as_deref()),
            state(report),
            time(report.last_login),
            time(report.last_mail),
            day(report),
            report.source.map_or_else(|| "-".to_owned(), |source| source.to_string()),
        ];
        if send {
            cells.insert(SENT, time(report.sending.as_ref().and_then(|sending| sending.last_sent)));
        }
        cells.extend(is_fleet.then(|| printed(report.instance.as_deref())));
        let failure = report.failure.as_deref().filter(|_| report.state != State::Ok);
        (cells, failure)
    });
    aligned(&heads, rows)
}

/// The logins and messages of the last 24 hours: `3 logins, 2 sent to 5, 1 refused`.
fn day(report: &Report) -> String {
    let mut text = format!("{} logins", report.sessions);
    if !report.sends_alone() {
        let _ = write!(text, ", {} messages", report.messages);
    }
    if let Some(SendingReport { messages, recipients, refused, .. }) = &report.sending {
        let _ = write!(text, ", {messages} sent to {recipients}");
        if *refused > 0 {
            let _ = write!(text, ", {refused} refused");
        }
    }
    text
}

fn state(report: &Report) -> String {
    let since = || age(report.since.unwrap_or_default());
    match report.state {
        State::Failing => format!("fails for {}", since()),
        State::Refused => format!("messages refused for {}", since()),
        State::Silent => format!("silent for {}", since()),
        State::Never => "never logged in".to_owned(),
        State::Ok if report.sends_nothing() => "sends nothing".to_owned(),
        State::Ok if report.open > 0 => "ok, connected".to_owned(),
        State::Ok => "ok".to_owned(),
    }
}

fn seen(devices: &[SeenDevice]) -> String {
    let mut heads = vec!["", "SOURCE", "NAME", "LOGIN", "PROTOCOL", "TLS", "SESSIONS", "LAST SEEN", "VERDICT"];
    let is_fleet = devices.iter().any(|device| device.instance.is_some());
    if is_fleet {
        heads.insert(INSTANCE, "INSTANCE");
    }
    let rows = devices.iter().map(|device| {
        let tls = device.version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        let mut cells = vec![
            if device.needs_attention() { "!" } else { "" }.to_owned(),
            device.source.to_string(),
            printed(device.name.as_deref()),
            printed(device.logins.first().map(String::as_str)),
            device.protocol.name().to_owned(),
            tls,
            device.sessions.to_string(),
            ago(device.last_seen),
            excerpt(device.assessment.text.as_bytes()),
        ];
        if is_fleet {
            cells.insert(INSTANCE, printed(device.instance.as_deref()));
        }
        (cells, device.failure.as_deref().filter(|_| device.needs_attention()))
    });
    aligned(&heads, rows)
}

/// Writes rows in columns, each with the failure below it, if there is one.
fn aligned<'a>(heads: &[&str], rows: impl Iterator<Item = (Vec<String>, Option<&'a str>)>) -> String {
    let heads = (heads.iter().map(|head| (*head).to_owned()).collect(), None);
    let rows: Vec<(Vec<String>, Option<&str>)> = std::iter::once(heads).chain(rows).collect();
    let mut widths: Vec<usize> = Vec::new();
    for (cells, _) in &rows {
        widths.resize(cells.len().max(widths.len()), 0);
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for (cells, failure) in &rows {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        if let Some(failure) = failure {
            let _ = writeln!(text, "     {}", Printable::line(failure).as_str());
        }
    }
    text
}

fn printed(name: Option<&str>) -> String {
    name.map_or_else(|| "-".to_owned(), |name| excerpt(name.as_bytes()))
}

fn ago(seconds: u64) -> String {
    format!("{} ago", age(seconds))
}

/// The time since then.
fn age(seconds: u64) -> String {
    let age = unix_time().saturating_sub(seconds);
    match age {
        0..60 => format!("{age} s"),
        60..3600 => format!("{} min", age / 60),
        3600..172_800 => format!("{} h", age / 3600),
        _ => format!("{} days", age / 86_400),
    }
}

/// The place of the column of the last sent message, which is there if a device sends.
const SENT: usize = 6;
/// The place of the column of the instance, which is there in a fleet.
const INSTANCE: usize = 8;
/// The most devices that the answer names for each problem.
const NAMED: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Logins;

    fn report(device: &str, state: State, hours: u64) -> Report {
        let since = Some(unix_time() - hours * 3600);
        Report {
            device: device.to_owned(),
            description: None,
            account: None,
            mailbox: None,
            state,
            since,
            last_login: since,
            last_mail: None,
            last_seen: since,
            source: None,
            open: 0,
            sessions: 2,
            logins: Logins::default(),
            messages: 1,
            octets: 0,
            usual_interval: None,
            silent_after: 7200,
            failure: (state == State::Failing).then(|| "password is wrong".to_owned()),
            reason: None,
            failed: None,
            reading: None,
            sending: None,
            instance: None,
        }
    }

    #[test]
    fn a_terminal_gets_nothing_but_text() {
        assert_eq!(printed(Some("\x1b]0;x\x07")), "?]0;x?");
        let table = configured(&[report("fax\x1b[2J", State::Ok, 1)]);
        assert!(!table.contains('\x1b'), "{table}");
    }

    #[test]
    fn the_answer_names_the_devices_with_a_problem() {
        let ok = |name: &str| report(name, State::Ok, 1);
        assert_eq!(answer(&[ok("a")]), "the one device gets its mail");
        assert_eq!(answer(&[ok("a"), ok("b")]), "all 2 devices get their mail");
        let silent = report("fax2", State::Silent, 3);
        assert_eq!(answer(&[silent.clone(), ok("a")]), "1 of 2 devices get their mail; fax2 has been silent for 3 h");
        let many: Vec<Report> =
            ["a", "b", "c", "d", "e"].map(|name| report(name, State::Never, 1)).into_iter().chain([silent]).collect();
        assert_eq!(
            answer(&many),
            "0 of 6 devices get their mail; fax2 has been silent for 3 h; a, b, c and 2 more have never logged in"
        );
        let failing = [report("x", State::Failing, 1), report("y", State::Failing, 1)];
        assert_eq!(answer(&failing), "0 of 2 devices get their mail; logins of x and y fail");
        let table = configured(&failing);
        assert!(table.contains("fails for 1 h") && table.contains("     password is wrong\n"), "{table}");
    }
}
