//! The report about a message that was given up: multipart/report (RFC 6522) with a delivery status (RFC 3464).
//!
//! The report goes to the mailbox itself, or to `spool.report_to`: never to an address that a device or a message named.

use super::entry::{Entry, unix_time};
use super::envelope::Envelope;
use super::record::Reason;
use crate::submission::date;

/// Writes the report about a message as it goes up: CRLF, doubled dots, and the final dot. `header` is the message's own
/// header, as it went up.
pub(super) fn write(entry: &Entry, to: &str, header: &[u8]) -> Vec<u8> {
    let envelope = entry.envelope.clone().unwrap_or_default();
    let reason = entry.record.reason.clone().unwrap_or_else(|| Reason::Expired(entry.record.last.clone()));
    let id = entry.name.id;
    let boundary = format!("packetboat-{id}");
    let mut lines = head(&envelope, to, &boundary, &id.to_string());
    lines.extend([format!("--{boundary}"), "Content-Type: text/plain; charset=us-ascii".to_owned(), String::new()]);
    lines.extend(words(entry, &envelope, &reason));
    lines.extend([String::new(), format!("--{boundary}"), "Content-Type: message/delivery-status".to_owned()]);
    lines.push(String::new());
    lines.extend(status(entry, &envelope, &reason));
    lines.extend([String::new(), format!("--{boundary}"), "Content-Type: text/rfc822-headers".to_owned()]);
    lines.push(String::new());
    lines.extend(own_lines(header));
    lines.extend([String::new(), format!("--{boundary}--")]);
    let mut out = Vec::new();
    for line in lines {
        if line.starts_with('.') {
            out.push(b'.');
        }
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

fn head(envelope: &Envelope, to: &str, boundary: &str, id: &str) -> Vec<String> {
    let mailbox = ascii(&envelope.mailbox);
    let domain = mailbox.rsplit_once('@').map_or("packetboat.invalid", |(_, domain)| domain);
    vec![
        format!("Date: {}", date::format(unix_time())),
        format!("From: packetboat <{mailbox}>"),
        format!("To: <{}>", ascii(to)),
        format!("Subject: Not sent: a message of device \"{}\"", ascii(&envelope.device)),
        // A report that is sent once more has the same Message-ID.
        format!("Message-ID: <report.{id}@{domain}>"),
        "Auto-Submitted: auto-replied".to_owned(),
        "MIME-Version: 1.0".to_owned(),
        format!("Content-Type: multipart/report; report-type=delivery-status; boundary=\"{boundary}\""),
        String::new(),
    ]
}

/// The part for people.
fn words(entry: &Entry, envelope: &Envelope, reason: &Reason) -> Vec<String> {
    let id = entry.name.id;
    let mut lines = vec![
        format!(
            "The device \"{}\" has given packetboat a message, and packetboat could not send it.",
            ascii(&envelope.device)
        ),
        format!("The device was told that the message is accepted ({}).", date::format(envelope.received)),
        String::new(),
        "Recipients:".to_owned(),
    ];
    lines.extend(failed(entry, reason).into_iter().map(|failed| format!("  {}", failed.recipient)));
    if entry.record.left.is_some() {
        lines.extend([String::new(), "Its other recipients have got it.".to_owned()]);
    }
    lines.extend([String::new(), "Reason:".to_owned()]);
    lines.extend(wrapped(&ascii(&reason.text())));
    lines.extend([
        String::new(),
        match reason {
            Reason::Damaged => "The file stays with packetboat until an administrator removes it.".to_owned(),
            _ => "The message is deleted. Send it again from the device.".to_owned(),
        },
        format!("packetboat's log names it by id {id}."),
    ]);
    lines
}

/// The part for programs.
fn status(entry: &Entry, envelope: &Envelope, reason: &Reason) -> Vec<String> {
    let mut lines =
        vec!["Reporting-MTA: dns; packetboat".to_owned(), format!("Arrival-Date: {}", date::format(envelope.received))];
    for Failed { recipient, status, reply } in failed(entry, reason) {
        lines.extend([
            String::new(),
            format!("Final-Recipient: rfc822; {recipient}"),
            "Action: failed".to_owned(),
            format!("Status: {status}"),
        ]);
        lines.extend(reply.map(|reply| format!("Diagnostic-Code: smtp; {reply}")));
    }
    lines
}

/// The recipients that did not get the message.
fn failed(entry: &Entry, reason: &Reason) -> Vec<Failed> {
    let recipients = entry.envelope.iter().flat_map(|envelope| &envelope.recipients);
    recipients.map(|recipient| Failed::new(recipient, entry, reason)).collect()
}

/// A recipient that did not get the message.
struct Failed {
    recipient: String,
    /// The enhanced status code.
    status: String,
    /// The server's reply, if it is known.
    reply: Option<String>,
}

impl Failed {
    fn new(recipient: &str, entry: &Entry, reason: &Reason) -> Self {
        let own = entry.record.refused.iter().find(|(refused, _)| refused == recipient).map(|(_, reply)| reply);
        let reply = match reason {
            Reason::Refused(reply) => Some(own.unwrap_or(reply)),
            Reason::SomeRefused(_) | Reason::Expired(_) | Reason::Unknown(_) | Reason::Damaged => own,
        };
        let reply = reply.map(|reply| ascii(reply));
        let status = match (&reply, reason) {
            (Some(reply), _) => enhanced(reply).unwrap_or_else(|| "5.0.0".to_owned()),
            // RFC 3463 §3.5: the time is over.
            (None, Reason::Expired(_)) => "4.4.7".to_owned(),
            (None, Reason::Unknown(_)) => "4.4.2".to_owned(),
            (None, Reason::Damaged) => "5.3.0".to_owned(),
            (None, Reason::Refused(_) | Reason::SomeRefused(_)) => "5.0.0".to_owned(),
        };
        Self { recipient: ascii(recipient), status, reply }
    }
}

/// The enhanced status code behind the code of a reply (RFC 3463), where it is one of failure.
fn enhanced(reply: &str) -> Option<String> {
    let code = reply.split([' ', '-']).nth(1)?;
    let parts: Vec<&str> = code.split('.').collect();
    let is_number = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_digit());
    (parts.len() == 3 && parts.iter().all(is_number) && ["4", "5"].contains(parts.first()?)).then(|| code.to_owned())
}

/// The lines of the message's header, with single dots. Other octets than ASCII are replaced, because the report
/// says that it has none.
fn own_lines(header: &[u8]) -> Vec<String> {
    let lines = header.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut lines: Vec<String> = lines
        .map(|line| if line.starts_with(b".") { line.get(1..).unwrap_or_default() } else { line })
        .map(|line| {
            let is_kept = |octet: u8| octet == b'\t' || (b' '..=b'~').contains(&octet);
            line.iter().map(|&octet| if is_kept(octet) { char::from(octet) } else { '?' }).collect()
        })
        .collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// A text in one line of ASCII without control characters.
fn ascii(text: &str) -> String {
    text.chars().take(LONGEST_REPLY).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec!["  ".to_owned()];
    for word in text.split(' ') {
        let is_full = lines.last().is_some_and(|line| line.len() + word.len() > WIDTH && line.len() > 2);
        if is_full {
            lines.push("  ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            if line.len() > 2 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A line of a message has at most 998 octets (RFC 5322 §2.1.1).
const LONGEST_REPLY: usize = 900;
const WIDTH: usize = 76;
