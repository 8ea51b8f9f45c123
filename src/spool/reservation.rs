//! Room in the spool for a message that comes in, and the line about a share that has no more.

use std::sync::Arc;

use tracing::warn;

use super::entry::Entry;
use super::envelope::{Envelope, Outcome};
use super::error::Error;
use super::share::{Owner, Share, Used};
use super::store::Store;
use super::{Id, Queue, Spool};

/// Room in the spool for a message that comes in. Dropping it frees the room.
pub(super) struct Reservation {
    spool: Arc<Spool>,
    owner: Owner,
    used: Used,
}

impl Spool {
    /// Takes a message that is on disk into the queue, in the place of what was reserved for it.
    pub(super) fn register(&self, entry: Entry, reservation: Reservation, outcome: &Outcome) {
        let (id, envelope) = (entry.name.id, entry.envelope.clone().unwrap_or_default());
        let mut queue = self.queue.lock();
        queue.counts.kept += 1;
        queue.problem = None;
        reservation.give_back(&mut queue);
        queue.entries.insert(id, entry);
        drop(queue);
        self.changed.notify_one();
        let Envelope { connection, device: login, mailbox, .. } = envelope;
        warn!(%id, connection, login, mailbox, "message kept in the spool: {}", outcome.text());
    }

    /// Notes that a message only streamed, because a share of the spool is full. The log has it once until a quarter of
    /// the share is free again.
    pub(super) fn note_full_share(&self, share: &Share) {
        if self.queue.lock().entries.shares.note_full(share) {
            warn!(
                "messages are not kept in the spool, and only stream: {share}; packetboat spool list names the messages \
                 that use it"
            );
        }
    }
}

impl Queue {
    fn check(&self, owner: &Owner, more: Used) -> Result<(), Error> {
        let settings = self.settings.as_ref().ok_or(Error::Off)?;
        Ok(self.entries.shares.check(owner, more, settings)?)
    }

    /// Removes a message. Its share may have room again.
    pub(super) fn remove(&mut self, id: Id) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if let Some(envelope) = &entry.envelope {
            self.forget_full(&Owner::of(envelope));
        }
        Some(entry)
    }

    fn forget_full(&mut self, owner: &Owner) {
        if let Some(settings) = &self.settings {
            self.entries.shares.forget_full(owner, settings);
        }
    }
}

impl Reservation {
    /// Reserves octets. A message takes its place among those that are kept when it is kept itself. `None` where the spool
    /// is off or not open.
    ///
    /// # Errors
    /// The spool or a share of it has no room, or the disk hangs.
    pub(super) fn new(
        spool: &Arc<Spool>,
        envelope: &Envelope,
        octets: u64,
    ) -> Result<Option<(Arc<Store>, Self)>, Error> {
        if let Some(why) = spool.hangs() {
            return Err(why);
        }
        let owner = Owner::of(envelope);
        let mut queue = spool.queue.lock();
        if queue.unopened.is_some() {
            // This message only streams; the next one may be kept.
            spool.changed.notify_one();
        }
        let Some(store) = queue.store.clone() else { return Ok(None) };
        queue.check(&owner, Used { octets, messages: 1 })?;
        let used = Used { octets, messages: 0 };
        queue.entries.shares.add(Some(&owner), used);
        Ok(Some((store, Self { spool: Arc::clone(spool), owner, used })))
    }

    /// Returns the spool that the room is in.
    pub(super) fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// The octets that are reserved.
    pub(super) fn octets(&self) -> u64 {
        self.used.octets
    }

    /// Takes further octets.
    ///
    /// # Errors
    /// The spool or a share of it has no more.
    pub(super) fn grow_to(&mut self, octets: u64) -> Result<(), Error> {
        self.take(Used { octets: octets.saturating_sub(self.used.octets), messages: 0 })
    }

    /// Takes a place among the messages that are kept.
    ///
    /// # Errors
    /// The spool or a share of it has no more.
    pub(super) fn take_message(&mut self) -> Result<(), Error> {
        self.take(Used { octets: 0, messages: 1 })
    }

    fn take(&mut self, more: Used) -> Result<(), Error> {
        let mut queue = self.spool.queue.lock();
        queue.check(&self.owner, more)?;
        queue.entries.shares.add(Some(&self.owner), more);
        self.used.octets += more.octets;
        self.used.messages += more.messages;
        Ok(())
    }

    fn give_back(mut self, queue: &mut Queue) {
        let used = std::mem::take(&mut self.used);
        queue.entries.shares.take(Some(&self.owner), used);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // What was given back is in the queue, whose lock is held then.
        if self.used != Used::default() {
            let mut queue = self.spool.queue.lock();
            queue.entries.shares.take(Some(&self.owner), self.used);
            queue.forget_full(&self.owner);
        }
    }
}
