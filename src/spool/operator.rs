//! An operator's view of the spool, and what can be done about a message: list, show, remove, retry.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::delivery::Hold;
use super::entry::Entry;
use super::envelope::Envelope;
use super::error::Error;
use super::file_name::{FileName, Phase};
use super::record::Reason;
use super::sealed_file::Kind;
use super::store::Store;
use super::{HeldMailbox, Id, Queue, Spool};

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
    /// The disk does not give its file.
    Unreadable,
}

/// A message, and why it was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// The message.
    pub item: Item,
    /// The reason for which it was given up, if so.
    pub reason: Option<String>,
    /// A consequence of a retry that may surprise: a second copy, or a message to some recipients alone.
    pub before_retry: Option<String>,
}

/// A message that is tried again, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retried {
    /// The message as it was before.
    pub item: Item,
    /// The time until the mailbox may send.
    pub wait: Duration,
    /// The reason why the message is not tried now, if so.
    pub why: Option<String>,
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
    /// The disk does not give its file.
    Unreadable,
    /// The mail server has taken it, and the disk does not let its file be removed.
    Taken,
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
            Self::Unreadable => "unreadable",
        }
    }
}

impl Spool {
    /// The messages, the oldest first.
    pub fn list(&self) -> Vec<Item> {
        self.oldest(usize::MAX)
    }

    /// The oldest messages, at most so many, the oldest first.
    pub fn oldest(&self, most: usize) -> Vec<Item> {
        let queue = self.queue.lock();
        let received = |entry: &&Entry| (entry.envelope.as_ref().map_or(0, |one| one.received), entry.name.id);
        let mut entries: Vec<&Entry> = queue.entries.values().collect();
        if most < entries.len() {
            entries.select_nth_unstable_by_key(most, received);
            entries.truncate(most);
        }
        entries.sort_unstable_by_key(received);
        entries.into_iter().map(|entry| queue.item(entry)).collect()
    }

    /// One message.
    pub fn show(&self, id: Id) -> Option<Details> {
        let queue = self.queue.lock();
        let entry = queue.entries.get(&id)?;
        let reason = entry.record.reason.as_ref().map(Reason::text);
        Some(Details { item: queue.item(entry), reason, before_retry: before_retry(entry) })
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
        let (claim, item) = self.claim(id)?;
        let (store, entry) = claim.file()?;
        store.remove(entry.name).map_err(|_| Refusal::Disk)?;
        let mut queue = self.queue.lock();
        queue.remove(id);
        queue.counts.removed += 1;
        drop(queue);
        Ok(item)
    }

    /// Has a message tried at once, or behind the time for which the mail server throttles its mailbox. One that was given
    /// up begins anew, and one whose file could not be read is read again. It blocks.
    ///
    /// # Errors
    /// It is being sent, or it is damaged, or the disk does not let it be read or renamed.
    pub fn retry(&self, id: Id, throttled: Option<Duration>) -> Result<Retried, Refusal> {
        let (claim, item) = self.claim(id)?;
        let (store, mut entry) = claim.file()?;
        if entry.is_delivered {
            return Err(Refusal::Taken);
        }
        if entry.envelope.is_none() || entry.name.phase == Phase::Damaged {
            let read = store.read_through(entry.name);
            entry.set_envelope(read.map_err(|why| if why.passes() { Refusal::Unreadable } else { Refusal::Damaged })?);
            entry.fault = None;
        }
        let name = entry.name;
        let anew = FileName { phase: Phase::Message, unknown: u8::from(entry.may_be_sent()), ..name };
        if anew != name {
            store.rename(name, anew).map_err(|_| Refusal::Disk)?;
        }
        (entry.name, entry.wanted, entry.record.may_be_sent) = (anew, None, false);
        if entry.record.reason.take().is_some() {
            // The operator wants those to be tried anew that were refused.
            entry.record.refused.clear();
        }
        entry.begin_anew(Instant::now());
        let _ = store.write_record(id, &entry.record);
        let (wait, why) = self.let_come(claim, entry, throttled);
        self.changed.notify_one();
        Ok(Retried { item, wait, why })
    }

    /// Puts a message back that is to be tried. Returns when that is, and why not now.
    fn let_come(&self, claim: Claim<'_>, mut entry: Entry, throttled: Option<Duration>) -> (Duration, Option<String>) {
        entry.free();
        let (id, mailbox, now) = (entry.name.id, entry.mailbox().unwrap_or_default(), Instant::now());
        let mut queue = self.queue.lock();
        claim.given_back();
        queue.entries.insert(id, entry);
        if let Some(wait) = throttled {
            let seconds = humantime::format_duration(Duration::from_secs(wait.as_secs() + 1));
            let why = format!("the mail server throttles this mailbox for another {seconds}");
            let hold = Hold::Throttled { wait, why: why.clone() };
            queue.held.insert(mailbox, HeldMailbox { until: now + wait, step: 0, hold });
            return (wait, Some(why));
        }
        // The mail server counts messages, whoever wants them sent; other reasons are looked at anew.
        let until = queue.held.get(&mailbox).filter(|held| matches!(held.hold, Hold::Pace(_))).map(|held| held.until);
        if let Some(until) = until.filter(|until| *until > now) {
            return (until - now, Some("the mailbox has sent as many messages as it may in a minute".to_owned()));
        }
        queue.held.remove(&mailbox);
        let is_sending = queue.sending.contains(&mailbox);
        (Duration::ZERO, is_sending.then(|| "another message of the mailbox is being sent first".to_owned()))
    }

    /// Keeps attempts away from a message.
    fn claim(&self, id: Id) -> Result<(Claim<'_>, Item), Refusal> {
        let mut queue = self.queue.lock();
        let item = queue.entries.get(&id).map(|entry| queue.item(entry)).ok_or(Refusal::Unknown)?;
        let was_busy = queue.entries.change(id, |entry| std::mem::replace(&mut entry.is_busy, true));
        if was_busy == Some(false) {
            Ok((Claim { spool: self, id, is_back: false }, item))
        } else {
            Err(Refusal::Sending)
        }
    }
}

/// A message that an operator changes: no attempt begins. Dropping it lets attempts begin again.
struct Claim<'a> {
    spool: &'a Spool,
    id: Id,
    is_back: bool,
}

impl Claim<'_> {
    fn file(&self) -> Result<(Arc<Store>, Entry), Refusal> {
        let queue = self.spool.queue.lock();
        let entry = queue.entries.get(&self.id).cloned().ok_or(Refusal::Unknown)?;
        Ok((queue.store.clone().ok_or(Refusal::Unknown)?, entry))
    }

    /// Ends the claim on a message that is put back already. An attempt may have begun.
    fn given_back(mut self) {
        self.is_back = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.is_back {
            self.spool.queue.lock().entries.change(self.id, |entry| entry.is_busy = false);
        }
    }
}

impl Queue {
    /// A message as an operator sees it.
    fn item(&self, entry: &Entry) -> Item {
        let held = entry.mailbox().and_then(|mailbox| self.held.get(&mailbox));
        let due = held.map_or(entry.due, |held| held.until.max(entry.due));
        let hold = held.and_then(|held| held.hold.text()).map(str::to_owned);
        let mut item = item(entry, due, hold);
        if item.state == ItemState::Damaged
            && let Some(store) = &self.store
        {
            item.last = store.words_about_damage(entry.name);
        }
        item
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
        _ if entry.fault.is_some() => ItemState::Unreadable,
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
        last: entry.fault.clone().unwrap_or_else(|| entry.record.last.clone()),
        next_in: is_waiting.then(|| due.saturating_duration_since(Instant::now()).as_secs()),
        hold: hold.filter(|_| is_waiting),
        may_exist_twice: entry.may_be_sent() && phase == Phase::Message && !entry.is_ending,
    }
}

/// The words before a retry whose effect is not plain.
fn before_retry(entry: &Entry) -> Option<String> {
    let recipients = entry.envelope.as_ref().map(|envelope| envelope.recipients.len()).unwrap_or_default();
    let all = if recipients == 1 { "its recipient".to_owned() } else { format!("its {recipients} recipients") };
    if entry.may_be_sent() {
        return Some(format!("nobody knows whether the mail server has this message already: {all} may get it twice"));
    }
    let left = entry.record.left.as_ref().filter(|left| !left.is_empty())?;
    Some(format!("the others have this message already: it goes to {} alone", left.join(", ")))
}
