//! An operator's view of the spool, and what can be done about a message: list, show, remove, retry.

use tokio::time::Instant;

use super::entry::Entry;
use super::envelope::Envelope;
use super::error::Error;
use super::file_name::{FileName, Phase};
use super::record::Reason;
use super::sealed_file::Kind;
use super::{Id, Spool};

/// A message as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The id.
    pub id: Id,
    /// Its state.
    pub state: ItemState,
    /// Its envelope; empty where the file does not open.
    pub envelope: Envelope,
    /// The octets of its content.
    pub octets: u64,
    /// The seconds for which packetboat has run with it.
    pub age: u64,
    /// The attempts so far.
    pub attempts: u32,
    /// The time of the last attempt in seconds since 1970.
    pub last_at: u64,
    /// The last attempt's outcome in words.
    pub last: String,
    /// The seconds until the next attempt, where there is one.
    pub next_in: Option<u64>,
    /// The reason why its whole mailbox waits, if so.
    pub hold: Option<String>,
    /// Whether a second copy may exist.
    pub may_exist_twice: bool,
}

/// The states of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemState {
    /// An attempt is under way, or the first one still waits for its answer.
    Sending,
    /// It waits for its next attempt.
    Waiting,
    /// It was given up, and the report about it waits.
    Reporting,
    /// It and its report were given up.
    Kept,
    /// Its file is damaged.
    Damaged,
}

/// A message, and why it was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// The message.
    pub item: Item,
    /// The reason for which it was given up, if so.
    pub reason: Option<String>,
}

/// The reason why nothing is done about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such message.
    Unknown,
    /// An attempt is under way.
    Sending,
    /// Its file is damaged, and is never sent.
    Damaged,
    /// The disk does not let it.
    Disk,
}

impl ItemState {
    /// The state's name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Waiting => "waiting",
            Self::Reporting => "reporting",
            Self::Kept => "kept",
            Self::Damaged => "damaged",
        }
    }
}

impl Spool {
    /// The messages, the oldest first.
    pub fn list(&self) -> Vec<Item> {
        let queue = self.queue.lock();
        let item = |entry: &Entry| {
            let held = entry.mailbox().and_then(|mailbox| queue.held.get(&mailbox));
            let due = held.map_or(entry.due, |held| held.until.max(entry.due));
            let hold = held.and_then(|held| held.hold.text()).map(str::to_owned);
            item(entry, due, hold)
        };
        let mut items: Vec<Item> = queue.entries.values().map(item).collect();
        items.sort_by_key(|item| (item.envelope.received, item.id));
        items
    }

    /// One message.
    pub fn show(&self, id: Id) -> Option<Details> {
        let item = self.list().into_iter().find(|item| item.id == id)?;
        let queue = self.queue.lock();
        let reason = queue.entries.get(&id).and_then(|entry| entry.record.reason.as_ref()).map(Reason::text);
        Some(Details { item, reason })
    }

    /// The content of a message, without what the transfer adds: doubled dots, and the final one. It blocks.
    ///
    /// # Errors
    /// There is no such message, or its file does not open.
    pub fn content(&self, id: Id) -> Result<Vec<u8>, Error> {
        let queue = self.queue.lock();
        let name = queue.entries.get(&id).map(|entry| entry.name).ok_or(Error::Unknown)?;
        let store = queue.store.clone().ok_or(Error::Off)?;
        drop(queue);
        let (_, mut opener) = store.open_message(name)?;
        let mut content = Vec::new();
        loop {
            match opener.next()? {
                (Kind::Content, piece) => content.extend_from_slice(&piece),
                (Kind::Envelope, _) => return Err(opener.damaged()),
                (Kind::End, _) => return Ok(without_dots(&content)),
            }
        }
    }

    /// Removes a message for good. It blocks.
    ///
    /// # Errors
    /// It is being sent, or the disk does not let it be removed.
    pub fn remove(&self, id: Id) -> Result<Item, Refusal> {
        let item = self.claim(id)?;
        let (store, name) = self.file_of(id)?;
        if store.remove(name).is_err() {
            self.release(id);
            return Err(Refusal::Disk);
        }
        let mut queue = self.queue.lock();
        queue.entries.remove(&id);
        queue.counts.removed += 1;
        Ok(item)
    }

    /// Has a message tried at once. One that was given up begins anew. It blocks.
    ///
    /// # Errors
    /// It is being sent, or it is damaged, or the disk does not let it be renamed.
    pub fn retry(&self, id: Id) -> Result<Item, Refusal> {
        let item = self.claim(id)?;
        let (store, name) = self.file_of(id)?;
        let now = Instant::now();
        let mut entry = match self.queue.lock().entries.get(&id) {
            Some(entry) if entry.is_delivered || entry.name.phase == Phase::Damaged || entry.envelope.is_none() => None,
            Some(entry) => Some(entry.clone()),
            None => return Err(Refusal::Unknown),
        };
        let Some(entry) = entry.as_mut() else {
            self.release(id);
            return Err(Refusal::Damaged);
        };
        // The server may have a message that was given up, unless it has refused it: its log line is to say so.
        let is_refused = matches!(entry.record.reason, Some(Reason::Refused(_) | Reason::SomeRefused(_)));
        let unknown = if name.phase == Phase::Message { name.unknown.min(1) } else { u8::from(!is_refused) };
        let anew = FileName { phase: Phase::Message, unknown, ..name };
        if anew != name && store.rename(name, anew).is_err() {
            self.release(id);
            return Err(Refusal::Disk);
        }
        (entry.name, entry.wanted) = (anew, None);
        if entry.record.reason.take().is_some() {
            // The operator wants those to be tried anew that were refused.
            entry.record.refused.clear();
        }
        entry.begin_anew(now);
        entry.is_busy = false;
        let _ = store.write_record(id, &entry.record);
        let mut queue = self.queue.lock();
        if let Some(mailbox) = entry.mailbox() {
            queue.held.remove(&mailbox);
        }
        queue.entries.insert(id, entry.clone());
        drop(queue);
        self.changed.notify_one();
        Ok(item)
    }

    /// Keeps attempts away from a message.
    fn claim(&self, id: Id) -> Result<Item, Refusal> {
        let item = self.list().into_iter().find(|item| item.id == id).ok_or(Refusal::Unknown)?;
        let mut queue = self.queue.lock();
        let entry = queue.entries.get_mut(&id).ok_or(Refusal::Unknown)?;
        if std::mem::replace(&mut entry.is_busy, true) { Err(Refusal::Sending) } else { Ok(item) }
    }

    fn release(&self, id: Id) {
        if let Some(entry) = self.queue.lock().entries.get_mut(&id) {
            entry.is_busy = false;
        }
    }

    fn file_of(&self, id: Id) -> Result<(std::sync::Arc<super::store::Store>, FileName), Refusal> {
        let queue = self.queue.lock();
        let name = queue.entries.get(&id).map(|entry| entry.name).ok_or(Refusal::Unknown)?;
        Ok((queue.store.clone().ok_or(Refusal::Unknown)?, name))
    }
}

fn without_dots(content: &[u8]) -> Vec<u8> {
    let content = content.strip_suffix(b".\r\n").unwrap_or(content);
    let mut plain = Vec::with_capacity(content.len());
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        plain.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    plain
}

fn item(entry: &Entry, due: Instant, hold: Option<String>) -> Item {
    let phase = entry.wanted.unwrap_or(entry.name.phase);
    let state = match phase {
        Phase::Damaged => ItemState::Damaged,
        Phase::Kept => ItemState::Kept,
        Phase::Message | Phase::Report if entry.is_busy => ItemState::Sending,
        Phase::Report => ItemState::Reporting,
        Phase::Message => ItemState::Waiting,
    };
    let is_waiting = matches!(state, ItemState::Waiting | ItemState::Reporting);
    Item {
        id: entry.name.id,
        state,
        envelope: entry.envelope.clone().unwrap_or_default(),
        octets: entry.octets,
        age: entry.age(Instant::now()).as_secs(),
        attempts: entry.record.attempts,
        last_at: entry.record.last_at,
        last: entry.record.last.clone(),
        next_in: is_waiting.then(|| due.saturating_duration_since(Instant::now()).as_secs()),
        hold: hold.filter(|_| is_waiting),
        may_exist_twice: entry.name.unknown > 0 && phase == Phase::Message && !entry.is_ending,
    }
}
