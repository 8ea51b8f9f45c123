//! A mailbox holds messages in memory, with unique identifiers that are never used twice.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

/// A mailbox; sessions that have it open see changes.
pub(super) struct Mailbox {
    contents: watch::Sender<Contents>,
    /// The folder of sent messages; that folder has none itself.
    sent: Option<Arc<Mailbox>>,
}

/// The messages of a mailbox, the oldest first.
#[derive(Clone, Default)]
pub(super) struct Contents {
    pub(super) messages: Vec<Message>,
    last_uid: u32,
}

#[derive(Clone)]
pub(super) struct Message {
    pub(super) uid: u32,
    pub(super) octets: Arc<Vec<u8>>,
    pub(super) arrived: SystemTime,
    /// Flags, as `\Seen`.
    pub(super) flags: Vec<String>,
}

impl Mailbox {
    pub(super) fn new() -> Self {
        let folder = Self { contents: watch::Sender::default(), sent: None };
        Self { contents: watch::Sender::default(), sent: Some(Arc::new(folder)) }
    }

    /// The folder `Sent Items`.
    pub(super) fn sent(&self) -> Option<Arc<Mailbox>> {
        self.sent.clone()
    }

    /// A snapshot of the messages.
    pub(super) fn contents(&self) -> Contents {
        self.contents.borrow().clone()
    }

    /// The octets of its messages.
    pub(super) fn octets(&self) -> Vec<Vec<u8>> {
        self.contents.borrow().messages.iter().map(|message| message.octets.to_vec()).collect()
    }

    /// The identifier of the next message.
    pub(super) fn next_uid(&self) -> u32 {
        self.contents.borrow().next_uid()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Contents> {
        self.contents.subscribe()
    }

    /// Puts a message in; returns its identifier.
    pub(super) fn deliver(&self, octets: Vec<u8>, flags: Vec<String>) -> u32 {
        let mut uid = 0;
        self.contents.send_modify(|contents| {
            contents.last_uid += 1;
            uid = contents.last_uid;
            let octets = Arc::new(octets);
            contents.messages.push(Message { uid, octets, arrived: SystemTime::now(), flags });
        });
        uid
    }

    /// Removes the messages that a condition selects; returns their number.
    pub(super) fn remove(&self, goes: impl Fn(&Message) -> bool) -> usize {
        let mut removed = 0;
        self.contents.send_if_modified(|contents| {
            let before = contents.messages.len();
            contents.messages.retain(|message| !goes(message));
            removed = before - contents.messages.len();
            removed > 0
        });
        removed
    }

    /// Changes the flags of a message; returns the new ones.
    pub(super) fn flag(&self, uid: u32, change: impl FnOnce(&mut Vec<String>)) -> Vec<String> {
        let mut flags = Vec::new();
        self.contents.send_modify(|contents| {
            if let Some(message) = contents.messages.iter_mut().find(|message| message.uid == uid) {
                change(&mut message.flags);
                flags.clone_from(&message.flags);
            }
        });
        flags
    }
}

impl Contents {
    pub(super) fn by_uid(&self, uid: u32) -> Option<&Message> {
        self.messages.iter().find(|message| message.uid == uid)
    }

    pub(super) fn next_uid(&self) -> u32 {
        self.last_uid + 1
    }

    /// The contents without this message and all later ones, as if none of them had come.
    pub(super) fn before(mut self, uid: u32) -> Self {
        self.messages.retain(|message| message.uid < uid);
        self.last_uid = self.last_uid.min(uid.saturating_sub(1));
        self
    }
}

impl Message {
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own.eq_ignore_ascii_case(flag))
    }

    /// The header with the empty line behind it, and the body.
    pub(super) fn header_and_body(&self) -> (&[u8], &[u8]) {
        let end = memchr::memmem::find(&self.octets, b"\r\n\r\n").map_or(self.octets.len(), |at| at + 4);
        self.octets.split_at_checked(end).unwrap_or((&self.octets, &[]))
    }
}

/// The UIDVALIDITY of every mailbox, which never changes, because mailboxes are never made anew.
pub(super) const UID_VALIDITY: u32 = 14;
