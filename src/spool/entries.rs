//! The messages of the queue: in the order of their attempts, and with the sums that bound the spool.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::Id;
use super::entry::{Entry, MailboxKey};
use super::share::{Owner, Shares, Used};

/// The messages of the queue. Order and sums follow every change.
#[derive(Default)]
pub(super) struct Entries {
    by_id: BTreeMap<Id, Entry>,
    /// The messages that wait for an attempt, by mailbox, the next one first.
    waiting: BTreeMap<MailboxKey, BTreeSet<(Instant, Id)>>,
    /// Returns the room that messages use in the spool; those that are still coming in count as well.
    pub(super) shares: Shares,
}

impl Entries {
    pub(super) fn get(&self, id: &Id) -> Option<&Entry> {
        self.by_id.get(id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Entry> {
        self.by_id.values()
    }

    /// Changes a message.
    pub(super) fn change<T>(&mut self, id: Id, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut entry = self.remove(&id)?;
        let result = change(&mut entry);
        self.insert(id, entry);
        Some(result)
    }

    /// Adds a message, or replaces it.
    pub(super) fn insert(&mut self, id: Id, entry: Entry) {
        self.remove(&id);
        if let Some((mailbox, position)) = position(id, &entry) {
            self.waiting.entry(mailbox).or_default().insert(position);
        }
        self.shares.add(owner(&entry).as_ref(), used(&entry));
        self.by_id.insert(id, entry);
    }

    pub(super) fn remove(&mut self, id: &Id) -> Option<Entry> {
        let entry = self.by_id.remove(id)?;
        if let Some((mailbox, position)) = position(*id, &entry)
            && let Some(waiting) = self.waiting.get_mut(&mailbox)
        {
            waiting.remove(&position);
            if waiting.is_empty() {
                self.waiting.remove(&mailbox);
            }
        }
        self.shares.take(owner(&entry).as_ref(), used(&entry));
        Some(entry)
    }

    /// The next message of each mailbox, with the time of its attempt.
    pub(super) fn next_of_mailboxes(&self) -> impl Iterator<Item = (&MailboxKey, Instant, Id)> {
        self.waiting.iter().filter_map(|(mailbox, waiting)| {
            let (due, id) = waiting.first()?;
            Some((mailbox, *due, *id))
        })
    }
}

/// The position of a message among those of its mailbox, if it waits for an attempt.
fn position(id: Id, entry: &Entry) -> Option<(MailboxKey, (Instant, Id))> {
    if entry.is_busy || !entry.is_tried() {
        return None;
    }
    Some((entry.mailbox()?, (entry.due, id)))
}

fn owner(entry: &Entry) -> Option<Owner> {
    entry.envelope.as_ref().map(Owner::of)
}

fn used(entry: &Entry) -> Used {
    Used { octets: entry.octets, messages: 1 }
}
