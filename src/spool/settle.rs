//! The meaning of the mail server's answer for a kept message: removed, tried again, or given up.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::entry::Entry;
use super::envelope::{Answer, Envelope};
use super::error::Error;
use super::file_name::{FileName, Phase};
use super::record::Reason;
use super::store::Store;
use super::{Id, Spool, set_aside};
use crate::pool;

/// The decision about a message, on disk and in the queue.
enum Next {
    /// It is done with.
    Remove(Done),
    /// It waits for its next attempt, for this reason.
    Wait(Known, String),
    /// It goes into another phase.
    Become(Phase),
}

/// Whether the outcome of the attempt is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Yes,
    /// Some recipients have got the message, and the record alone says which.
    ByRecord,
    No,
}

/// The way in which a message was done with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Delivered,
    Reported,
}

/// An answer on its way to the queue. Where no thread takes it, the outcome stays unknown.
struct LateAnswer {
    spool: Arc<Spool>,
    id: Id,
    answer: Option<Settling>,
}

/// An answer, and when it came.
pub(super) struct Settling {
    pub(super) answer: Answer,
    /// The recipients that the server has refused for good, each with its reply.
    pub(super) refused: Vec<(String, String)>,
    /// The recipients that the server does not take for the moment, each with its reply.
    pub(super) deferred: Vec<(String, String)>,
    pub(super) at: Instant,
}

impl Settling {
    pub(super) fn new(answer: Answer) -> Self {
        Self { answer, refused: Vec::new(), deferred: Vec::new(), at: Instant::now() }
    }
}

impl Spool {
    /// Settles a message on another thread.
    pub(super) fn settle_later(self: &Arc<Self>, id: Id, answer: Answer) {
        let mut late = LateAnswer { spool: Arc::clone(self), id, answer: Some(Settling::new(answer)) };
        pool::SPOOL.hand_over(move || {
            if let Some(answer) = late.answer.take() {
                late.spool.settle(late.id, answer);
            }
        });
    }

    /// Settles an attempt of a message: on disk first, then in the queue. It blocks.
    pub(super) fn settle(&self, id: Id, settling: Settling) {
        let now = settling.at;
        // The message is busy, so that nobody else settles it.
        let queue = self.queue.lock();
        let Some(store) = queue.store.clone() else { return };
        let Some(mut entry) = queue.entries.get(&id).cloned() else { return };
        let max_age = queue.settings.as_ref().map(|settings| settings.max_age).unwrap_or_default();
        drop(queue);
        let next = decide(&mut entry, settling, max_age);
        let mut waits = None;
        if let Next::Become(Phase::Report) = next
            && let Some(Reason::Expired(_)) = entry.record.reason
        {
            self.queue.lock().counts.expired += 1;
        }
        match next {
            Next::Remove(done) => {
                if self.remove_done(&store, &mut entry, done, now) {
                    self.changed.notify_one();
                    return;
                }
            }
            Next::Wait(known, why) => {
                let known = if known == Known::ByRecord { note_left(&store, &entry) } else { known };
                lower(&store, &mut entry, known);
                waits = Some((About::of(&entry).mailbox, entry.record.attempts, why));
            }
            Next::Become(phase) => {
                if entry.record.left.is_some() {
                    note_left(&store, &entry);
                }
                become_phase(&store, &mut entry, phase, now);
            }
        }
        if let Err(why) = store.write_record(id, &entry.record) {
            warn!(%id, "the record of a message in the spool cannot be written: {why}");
        }
        entry.is_busy = false;
        entry.is_ending = false;
        self.queue.lock().entries.insert(id, entry);
        // The line comes last, so that whoever reads it finds what it says in the list of messages.
        if let Some((mailbox, attempts, why)) = waits {
            info!(%id, mailbox, attempts, "a kept message waits for its next attempt: {why}");
        }
        self.changed.notify_one();
    }

    /// Removes a message that is done with. Returns false where the disk does not let it.
    fn remove_done(&self, store: &Store, entry: &mut Entry, done: Done, now: Instant) -> bool {
        if !entry.is_delivered {
            let mut queue = self.queue.lock();
            match done {
                Done::Delivered => queue.counts.delivered += 1,
                Done::Reported => queue.counts.reported += 1,
            }
        }
        let id = entry.name.id;
        match store.remove(entry.name) {
            Ok(()) => {
                self.queue.lock().remove(id);
                true
            }
            Err(why) => {
                if !entry.is_delivered {
                    error!(
                        %id,
                        "a message of the spool was taken, and cannot be removed; after a restart a second copy may be \
                         sent: {why}"
                    );
                }
                entry.is_delivered = true;
                entry.note_attempt("taken; the disk does not let the file be removed", now);
                false
            }
        }
    }

    /// Sets a message aside whose file is damaged. Where its envelope is known, its mailbox gets a report.
    pub(super) fn settle_damaged(&self, id: Id, why: &Error, now: Instant) {
        let mut queue = self.queue.lock();
        queue.counts.damaged += 1;
        let Some(store) = queue.store.clone() else { return };
        let Some(mut entry) = queue.entries.get(&id).cloned() else { return };
        drop(queue);
        if entry.envelope.is_some() && entry.name.phase == Phase::Message {
            error!(%id, "a message in the spool is set aside, and is not sent: {why}");
            entry.give_up(Reason::Damaged, now);
            become_phase(&store, &mut entry, Phase::Report, now);
            let _ = store.write_record(id, &entry.record);
        } else {
            set_aside(&store, &mut entry, why);
        }
        entry.is_busy = false;
        entry.is_ending = false;
        self.queue.lock().entries.insert(id, entry);
        self.changed.notify_one();
    }

    /// Has a report sent about a message whose file somebody has removed.
    fn settle_gone(&self, store: &Store, entry: &mut Entry, now: Instant) {
        let (id, envelope) = (entry.name.id, entry.envelope.clone().unwrap_or_default());
        let name = FileName { phase: Phase::Report, unknown: 0, ..entry.name };
        match store.replace(name, &envelope) {
            Ok(()) => {
                let Envelope { mailbox, device: login, connection, .. } = envelope;
                error!(
                    %id, mailbox, login, connection,
                    "the file of a kept message was removed, so that it is not sent, and the mailbox gets a report: remove \
                     messages with packetboat spool remove alone"
                );
                self.queue.lock().counts.damaged += 1;
                entry.give_up(Reason::Damaged, now);
                entry.name = name;
                let _ = store.write_record(id, &entry.record);
            }
            Err(why) => entry.note_attempt(&format!("its file was removed; {why}"), now),
        }
    }

    /// Goes on with what the disk did not let be done. Returns false where there is nothing of the kind. It blocks.
    pub(super) fn settle_left(&self, id: Id, now: Instant) -> bool {
        let queue = self.queue.lock();
        let Some(store) = queue.store.clone() else { return false };
        let Some(mut entry) = queue.entries.get(&id).cloned() else { return false };
        drop(queue);
        if !entry.is_delivered && entry.wanted.is_none() && store.is_gone(entry.name) {
            self.settle_gone(&store, &mut entry, now);
        } else if entry.is_delivered {
            if self.remove_done(&store, &mut entry, Done::Delivered, now) {
                return true;
            }
        } else if let Some(phase) = entry.wanted {
            become_phase(&store, &mut entry, phase, now);
        } else if entry.name.phase == Phase::Message && entry.to_try().is_empty() {
            // packetboat had ended between the note of it and the report.
            entry.give_up(Reason::SomeRefused(entry.record.refused.clone()), now);
            become_phase(&store, &mut entry, Phase::Report, now);
        } else {
            return false;
        }
        entry.is_busy = false;
        self.queue.lock().entries.insert(id, entry);
        true
    }
}

impl Drop for LateAnswer {
    fn drop(&mut self) {
        if self.answer.is_some() {
            self.spool.queue.lock().entries.change(self.id, Entry::free);
        }
    }
}

/// Decides what an answer means, and notes it in the record.
fn decide(entry: &mut Entry, settling: Settling, max_age: Duration) -> Next {
    let Settling { answer, refused, deferred, at: now } = settling;
    let wait = |entry: &mut Entry, why: String, known: Known| wait(entry, why, known, (now, max_age));
    let is_report = entry.name.phase == Phase::Report;
    let about = About::of(entry);
    let tried = entry.to_try().len();
    if !is_report {
        entry.record.refused.extend(refused.iter().cloned());
    }
    match answer {
        Answer::Accepted(reply) if !is_report && refused.len() + deferred.len() > 0 => {
            let reached = tried.saturating_sub(refused.len() + deferred.len());
            about.log_accepted(&format!(" to {reached} of {tried} recipients"), &reply);
            entry.leave(&deferred);
            if let Some((recipient, reply)) = deferred.first() {
                let why = format!("it is sent to others, and the mail server said \"{reply}\" to {recipient}");
                return wait(entry, why, Known::ByRecord);
            }
            entry.give_up(Reason::SomeRefused(entry.record.refused.clone()), now);
            Next::Become(Phase::Report)
        }
        Answer::Accepted(reply) => {
            about.log_accepted("", &reply);
            if is_report && entry.record.reason == Some(Reason::Damaged) {
                return Next::Become(Phase::Damaged);
            }
            if !is_report && !entry.record.refused.is_empty() {
                entry.leave(&[]);
                entry.give_up(Reason::SomeRefused(entry.record.refused.clone()), now);
                return Next::Become(Phase::Report);
            }
            Next::Remove(if is_report { Done::Reported } else { Done::Delivered })
        }
        Answer::Permanent(reply) => {
            entry.note_attempt(&format!("the mail server said \"{reply}\""), now);
            about.log_given_up(&format!("the mail server said \"{reply}\""));
            if is_report {
                return Next::Become(Phase::Kept);
            }
            entry.give_up(Reason::Refused(reply), now);
            Next::Become(Phase::Report)
        }
        Answer::Temporary(reply) => wait(entry, format!("the mail server said \"{reply}\""), Known::Yes),
        Answer::Lost(why) if entry.is_ending && entry.name.is_tried_enough() => {
            entry.note_attempt(&why, now);
            about.log_given_up("nobody knows the outcome of two attempts");
            entry.give_up(Reason::Unknown(why), now);
            Next::Become(Phase::Report)
        }
        Answer::Lost(why) => {
            let known = if entry.is_ending { Known::No } else { Known::Yes };
            if known == Known::No {
                let (id, mailbox) = (about.id, &about.mailbox);
                let what = if is_report { "the report about a kept message" } else { "a message" };
                warn!(%id, mailbox, "nobody knows whether {what} was sent, and it is tried once more: {why}");
            }
            wait(entry, why, known)
        }
    }
}

fn wait(entry: &mut Entry, why: String, known: Known, (now, max_age): (Instant, Duration)) -> Next {
    let about = About::of(entry);
    entry.note_attempt(&why, now);
    if entry.age(now) < max_age {
        return Next::Wait(known, why);
    }
    about.log_given_up(&format!("it is older than spool.max_age; {why}"));
    if entry.name.phase == Phase::Report {
        return Next::Become(Phase::Kept);
    }
    entry.give_up(Reason::Expired(why), now);
    Next::Become(Phase::Report)
}

/// Takes back what the name says of an attempt whose outcome is known after all.
fn lower(store: &Store, entry: &mut Entry, known: Known) {
    if !entry.is_ending || known != Known::Yes {
        return;
    }
    let name = FileName { unknown: entry.name.unknown.saturating_sub(1), ..entry.name };
    match store.rename(entry.name, name) {
        Ok(()) => entry.name = name,
        // The next attempt counts as a repetition, which is true as far as the disk knows.
        Err(why) => warn!(id = %name.id, "a file in the spool cannot be renamed: {why}"),
    }
}

/// Writes down who has not got the message yet, before anything else says that the outcome is known. Where the disk does
/// not take that, a restart knows no more than that some may have it.
fn note_left(store: &Store, entry: &Entry) -> Known {
    match store.write_record(entry.name.id, &entry.record) {
        Ok(()) => Known::Yes,
        Err(why) => {
            warn!(
                id = %entry.name.id,
                "the disk does not take the note of who has got a message of the spool; after a restart a second copy may \
                 be sent: {why}"
            );
            Known::No
        }
    }
}

/// Brings a message into a phase. Where the disk does not let its file be renamed, it is not tried until it does.
fn become_phase(store: &Store, entry: &mut Entry, phase: Phase, now: Instant) {
    let name = FileName { phase, unknown: 0, ..entry.name };
    match store.rename(entry.name, name) {
        Ok(()) => {
            entry.name = name;
            entry.wanted = None;
        }
        Err(why) => {
            error!(id = %name.id, "a file in the spool cannot be renamed; a restart tries the message again: {why}");
            entry.note_attempt("given up; the disk does not let the file be renamed", now);
            entry.wanted = Some(phase);
        }
    }
}

/// The words about a message that its log lines share.
struct About {
    id: Id,
    mailbox: String,
    connection: String,
    is_report: bool,
    may_be_second: bool,
}

impl About {
    fn of(entry: &Entry) -> Self {
        let (mailbox, connection) =
            entry.envelope.as_ref().map(|one| (one.mailbox.clone(), one.connection.clone())).unwrap_or_default();
        let earlier = entry.name.unknown.saturating_sub(u8::from(entry.is_ending));
        Self {
            id: entry.name.id,
            mailbox,
            connection,
            is_report: entry.name.phase == Phase::Report,
            may_be_second: earlier > 0,
        }
    }

    fn log_accepted(&self, whither: &str, reply: &str) {
        let Self { id, mailbox, connection, .. } = self;
        let what = if self.is_report { "report about a kept message" } else { "kept message" };
        if self.may_be_second {
            warn!(
                %id, mailbox, connection,
                "{what} sent{whither} once more, and a second copy may exist: the mail server said \"{reply}\""
            );
        } else {
            info!(%id, mailbox, connection, "{what} sent{whither}: the mail server said \"{reply}\"");
        }
    }

    fn log_given_up(&self, why: &str) {
        let Self { id, mailbox, connection, .. } = self;
        if self.is_report {
            error!(%id, mailbox, connection, "report about a kept message given up, and both are kept: {why}");
        } else {
            warn!(%id, mailbox, connection, "kept message given up, and the mailbox gets a report: {why}");
        }
    }
}
