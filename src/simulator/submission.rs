//! A submission is a message that has reached the simulator by SMTP: its octets, its envelope, and who sent it. The log
//! keeps submissions and commands exactly as they came, for tests.

mod defect;
mod ledger;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

pub use defect::Defect;
pub(super) use defect::of_octets as defects_of_octets;
pub(super) use ledger::Ledger;
pub use ledger::RepeatedError;

/// A message that has come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The number of the SMTP connection, from 1.
    pub connection: u64,
    /// The mailbox that is logged in.
    pub mailbox: String,
    /// The holder of the token: the app's client ID, or the address of a user.
    pub principal: String,
    /// The name in EHLO or HELO.
    pub hello: String,
    /// The sender of the envelope.
    pub sender: String,
    /// The parameters of MAIL, as `BODY=8BITMIME`.
    pub parameters: Vec<String>,
    /// The recipients that were accepted.
    pub recipients: Vec<String>,
    /// The octets between the response to DATA and the last dot, with doubled dots.
    pub data: Arc<Vec<u8>>,
    /// The number of those octets, even if they were too many to be kept.
    pub length: usize,
    /// The octets that ended the data: CRLF `.` CRLF, unless the server is lenient.
    pub ended_by: Vec<u8>,
    /// The response; empty if there was none.
    pub reply: String,
    /// The message was delivered.
    pub is_delivered: bool,
}

/// A command, and the response to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SmtpCommand {
    /// The number of the SMTP connection, from 1.
    pub connection: u64,
    /// The command's line without its end; `(response)` for the lines of a login. Empty for the greeting.
    pub line: String,
    /// The lines of the response.
    pub reply: String,
}

/// Everything that came by SMTP.
#[derive(Default)]
pub(super) struct SubmissionLog {
    submissions: watch::Sender<Vec<Submission>>,
    connections: Mutex<Connections>,
    /// The limits of mailboxes.
    pub(super) ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Connections {
    last: u64,
    commands: BTreeMap<u64, Vec<SmtpCommand>>,
}

impl Submission {
    /// The message without doubled dots (RFC 5321 §4.5.2).
    pub fn message(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.data.len());
        let mut rest = self.data.as_slice();
        loop {
            rest = rest.strip_prefix(b".").unwrap_or(rest);
            let end = memchr::memmem::find(rest, b"\r\n").map_or(rest.len(), |at| at + 2);
            let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            message.extend_from_slice(line);
            if after.is_empty() {
                return message;
            }
            rest = after;
        }
    }

    /// Returns the defects of the message, by RFC 5321 and by Exchange's rules for senders.
    pub fn defects(&self) -> Vec<Defect> {
        let mut defects = defect::of_octets(&self.data);
        if !self.sender.eq_ignore_ascii_case(&self.mailbox) {
            defects.push(Defect::ForeignSender(self.sender.clone()));
        }
        match from_addresses(&self.data) {
            None => defects.push(Defect::NoFrom),
            Some(addresses) => {
                let foreign = addresses.into_iter().filter(|address| !address.eq_ignore_ascii_case(&self.mailbox));
                defects.extend(foreign.map(Defect::ForeignFrom));
            }
        }
        if self.ended_by != b"\r\n.\r\n" {
            defects.push(Defect::OddEnd(self.ended_by.clone()));
        }
        defects
    }
}

impl SubmissionLog {
    /// The number of a new connection.
    pub(super) fn new_connection(&self) -> u64 {
        let mut connections = self.connections.lock();
        connections.last += 1;
        let number = connections.last;
        connections.commands.insert(number, Vec::new());
        if connections.commands.len() > REMEMBERED {
            connections.commands.pop_first();
        }
        number
    }

    /// Notes a command.
    pub(super) fn add_command(&self, connection: u64, line: &[u8]) {
        if let Some(commands) = self.connections.lock().commands.get_mut(&connection) {
            let line = String::from_utf8_lossy(line).into_owned();
            commands.push(SmtpCommand { connection, line, reply: String::new() });
        }
    }

    /// Notes a response to the connection's last command.
    pub(super) fn add_reply(&self, connection: u64, reply: &str) {
        if let Some(commands) = self.connections.lock().commands.get_mut(&connection) {
            if commands.is_empty() {
                commands.push(SmtpCommand { connection, ..SmtpCommand::default() });
            }
            if let Some(last) = commands.last_mut() {
                last.reply.push_str(reply);
            }
        }
    }

    /// The commands of all connections, connection by connection.
    pub(super) fn commands(&self) -> Vec<SmtpCommand> {
        self.connections.lock().commands.values().flatten().cloned().collect()
    }

    /// Keeps a submission.
    pub(super) fn add(&self, submission: Submission) {
        self.submissions.send_modify(|all| {
            if all.len() >= REMEMBERED {
                all.drain(..REMEMBERED / 2);
            }
            all.push(submission);
        });
    }

    pub(super) fn submissions(&self) -> Vec<Submission> {
        self.submissions.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Vec<Submission>> {
        self.submissions.subscribe()
    }
}

/// The addresses of the header field From; `None` where there is no field, more than one, or one without an address.
pub(super) fn from_addresses(data: &[u8]) -> Option<Vec<String>> {
    let mut fields: Vec<String> = Vec::new();
    for line in data.split(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let line = String::from_utf8_lossy(line);
        match fields.last_mut().filter(|_| line.starts_with([' ', '\t'])) {
            Some(field) => field.push_str(&line),
            None => fields.push(line.into_owned()),
        }
    }
    let mut from = fields.iter().filter_map(|field| {
        let (name, value) = field.split_once(':')?;
        name.trim_end().eq_ignore_ascii_case("From").then_some(value)
    });
    let value = from.next().filter(|_| from.next().is_none())?;
    mailboxes(value).iter().map(|mailbox| address(mailbox)).collect()
}

/// A list of mailboxes, cut at its commas (RFC 5322 §3.4), without comments.
fn mailboxes(list: &str) -> Vec<String> {
    let (mut found, mut is_quoted, mut depth, mut is_escaped) = (vec![String::new()], false, 0_usize, false);
    for c in list.chars() {
        let was_escaped = is_escaped;
        is_escaped = c == '\\' && !was_escaped;
        match c {
            '"' if !was_escaped && depth == 0 => is_quoted = !is_quoted,
            '(' if !was_escaped && !is_quoted => depth += 1,
            ')' if !was_escaped && !is_quoted && depth > 0 => depth -= 1,
            ',' if !is_quoted && depth == 0 => found.push(String::new()),
            // A display name in quotes is not looked at.
            _ if is_quoted || depth > 0 => {}
            c => found.iter_mut().next_back().into_iter().for_each(|last| last.push(c)),
        }
    }
    found
}

fn address(mailbox: &str) -> Option<String> {
    let inner = match mailbox.split_once('<') {
        Some((_, rest)) => rest.split_once('>')?.0,
        None => mailbox,
    };
    let (local, domain) = inner.trim().split_once('@')?;
    let is_plain = |part: &str| !part.is_empty() && !part.contains(|c: char| c == '@' || c.is_whitespace());
    (is_plain(local) && is_plain(domain)).then(|| format!("{local}@{domain}"))
}

/// The number of submissions and of connections that are remembered; a demonstration may run for weeks.
const REMEMBERED: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_from() {
        for (head, expected) in [
            ("From: a@b.example\r\n\r\n", Some(vec!["a@b.example"])),
            ("Subject: x\r\nfrom : \"x@y, z\" (c, d)\r\n <a@b.example>\r\n", Some(vec!["a@b.example"])),
            ("From: One <a@b.example>, c@d.example\n\n", Some(vec!["a@b.example", "c@d.example"])),
            ("From: nobody\r\n\r\n", None),
            ("From: a@b.example\r\nFrom: a@b.example\r\n\r\n", None),
            ("Subject: x\r\n\r\nFrom: a@b.example\r\n", None),
            ("From: a b@c.example\r\n\r\n", None),
            ("From:\r\n\r\n", None),
        ] {
            let expected = expected.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(from_addresses(head.as_bytes()), expected, "{head:?}");
        }
    }

    #[test]
    fn dots_are_taken_off_once() {
        let message = |data: &[u8]| {
            let mut log = submission();
            log.data = Arc::new(data.to_vec());
            log.message()
        };
        assert_eq!(message(b"..\r\n.a\r\n...b.\r\n\n.c\r\n"), b".\r\na\r\n..b.\r\n\n.c\r\n");
        assert_eq!(message(b""), b"");
    }

    fn submission() -> Submission {
        Submission {
            connection: 1,
            mailbox: "a@b.example".to_owned(),
            principal: "app".to_owned(),
            hello: String::new(),
            sender: "a@b.example".to_owned(),
            parameters: Vec::new(),
            recipients: Vec::new(),
            data: Arc::default(),
            length: 0,
            ended_by: b"\r\n.\r\n".to_vec(),
            reply: String::new(),
            is_delivered: true,
        }
    }

    #[test]
    fn defects_are_found() {
        let mut good = submission();
        good.data = Arc::new(b"From: A@b.example\r\n\r\n..\r\n".to_vec());
        assert_eq!(good.defects(), []);
        good.sender = "x@b.example".to_owned();
        good.data = Arc::new(b"From: y@b.example\r\n\r\n\n".to_vec());
        good.ended_by = b"\n.\n".to_vec();
        let expected = [
            Defect::BareLf(21),
            Defect::ForeignSender("x@b.example".to_owned()),
            Defect::ForeignFrom("y@b.example".to_owned()),
            Defect::OddEnd(b"\n.\n".to_vec()),
        ];
        assert_eq!(good.defects(), expected);
    }
}
