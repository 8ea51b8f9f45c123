//! The last connections of each configured device: when, from where, by which TLS, and how each of them ended.
//!
//! They are kept in memory alone, fifty for each device, with no content of a mailbox and no secret.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Activities, Proof, Report, now};
use crate::config::Version;
use crate::failure::Kind;
use crate::protocol::Protocol;

/// One connection of a device. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The number of the connection, as in the log.
    pub number: u64,
    /// The beginning of the connection.
    pub began: u64,
    /// Its end; none while it is open.
    pub ended: Option<u64>,
    /// The address that it came from.
    pub source: IpAddr,
    /// The listener's name.
    pub listener: String,
    /// The protocol that it speaks.
    pub protocol: Protocol,
    /// The TLS version; none without TLS.
    pub tls: Option<Version>,
    /// A login has succeeded.
    pub is_in: bool,
    /// Messages that the device has fetched.
    pub messages: u64,
    /// Octets that it was sent after login.
    pub octets: u64,
    /// Messages that the device has submitted.
    pub sent: SentMessages,
    /// The kind of the failure, if it failed.
    pub reason: Option<Kind>,
    /// The end in plain words, as the log has it.
    pub text: Arc<str>,
}

/// The messages that a device has submitted on one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentMessages {
    /// Messages that the mail server has accepted.
    pub messages: u64,
    /// Recipients of those messages.
    pub recipients: u64,
    /// Octets of those messages.
    pub octets: u64,
    /// Messages that were refused.
    pub refused: u64,
    /// The last refusal of a message or of a recipient, in plain words.
    pub refusal: Option<(Kind, Arc<str>)>,
}

/// The device that a connection belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// A login or an alias of the device.
    pub login: &'a str,
    /// Whether the login was the device's own.
    pub proof: Proof,
}

/// The connections of one device, and a watch on their changes.
pub(super) struct Connections {
    last: Mutex<VecDeque<Connection>>,
    changes: watch::Sender<u64>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { last: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Connections {
    /// Adds a connection, or replaces what is known of it.
    fn note(&self, mut connection: Connection) {
        let mut last = self.last.lock();
        let shorten = |text: &str| text.chars().take(LONGEST_TEXT).collect::<String>();
        if let Some((_, text)) = &mut connection.sent.refusal {
            let known = last.iter().rev().filter_map(|one| one.sent.refusal.as_ref()).map(|(_, known)| known);
            let short = shorten(text);
            *text = known.into_iter().find(|known| ***known == *short).map_or_else(|| short.into(), Arc::clone);
        }
        let text = shorten(&connection.text);
        // A device that fails again and again for one reason costs the text once.
        connection.text = match last.back().filter(|one| *one.text == *text) {
            Some(one) => Arc::clone(&one.text),
            None => text.into(),
        };
        match last.iter_mut().rev().find(|one| one.number == connection.number) {
            Some(one) => *one = connection,
            None => {
                if last.len() >= KEPT {
                    last.pop_front();
                }
                last.push_back(connection);
            }
        }
        drop(last);
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The connection has ended, and nobody says how.
    pub(super) fn abandon(&self, number: u64, now: u64) {
        let mut last = self.last.lock();
        if let Some(one) = last.iter_mut().find(|one| one.number == number && one.ended.is_none()) {
            one.ended = Some(now);
        }
    }
}

impl Activities {
    /// Notes a connection of a device. A claimed login counts only from the address that the device comes from itself,
    /// or before its first login. Returns whether the device is known.
    pub fn note(&self, owner: Owner<'_>, connection: &Connection) -> bool {
        let Some(entry) = self.find(owner.login) else { return false };
        if owner.proof == Proof::Claimed && !entry.record.lock().may_be_at(connection.source) {
            return false;
        }
        entry.connections.note(connection.clone());
        true
    }

    /// Notes a connection of a device that the configuration alone tells by its address.
    pub(in crate::inventory) fn device_at(&self, source: IpAddr) -> Option<String> {
        let table = self.table.read();
        let index = table.by_address.get(&source.to_canonical()).copied().flatten()?;
        table.devices.get(index).map(|(section, _)| section.login.clone())
    }

    /// The last connections of a device, the newest first; none where the configuration has no such device.
    pub fn connections(&self, login: &str) -> Option<Vec<Connection>> {
        let entry = self.find(login)?;
        let last = entry.connections.last.lock();
        Some(last.iter().rev().cloned().collect())
    }

    /// The report on one device.
    pub fn report(&self, login: &str) -> Option<Report> {
        let table = self.table.read();
        let index = table.by_login.get(login.trim().to_lowercase().as_str())?;
        let (section, entry) = table.devices.get(*index)?;
        Some(entry.report(section, self.rules(&table), now()))
    }

    /// A watch on the connections of a device: it changes with each of them.
    pub fn watch(&self, login: &str) -> Option<watch::Receiver<u64>> {
        Some(self.find(login)?.connections.changes.subscribe())
    }
}

/// The number of connections that are kept of each device.
pub const KEPT: usize = 50;
/// In characters.
const LONGEST_TEXT: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(number: u64, text: &str) -> Connection {
        Connection {
            number,
            began: number,
            ended: None,
            source: IpAddr::from([192, 0, 2, 1]),
            listener: "imap".to_owned(),
            protocol: Protocol::Imap,
            tls: Some(Version::Tls1_0),
            is_in: false,
            messages: 0,
            octets: 0,
            sent: SentMessages::default(),
            reason: None,
            text: text.into(),
        }
    }

    #[test]
    fn fifty_are_kept_each_once_and_equal_texts_once() {
        let connections = Connections::default();
        let mut watch = connections.changes.subscribe();
        for number in 0..80 {
            connections.note(connection(number, &"x".repeat(1000)));
        }
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        connections.note(Connection { ended: Some(99), ..connection(79, "left") });
        assert!(watch.has_changed().unwrap());
        let last = connections.last.lock();
        assert_eq!((last.len(), last[0].number, last[49].number), (KEPT, 30, 79));
        assert_eq!((last[49].ended, &*last[49].text), (Some(99), "left"));
        assert_eq!(last[0].text.len(), LONGEST_TEXT);
        assert!(Arc::ptr_eq(&last[0].text, &last[48].text));
        drop(last);
        connections.abandon(48, 7);
        connections.abandon(79, 7);
        let last = connections.last.lock();
        assert_eq!((last[18].ended, last[49].ended), (Some(7), Some(99)));
    }
}
