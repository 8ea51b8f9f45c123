//! A message in the queue: its file's name, its envelope, its record, and when it is tried next.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::envelope::Envelope;
use super::file_name::{FileName, Phase};
use super::record::{Reason, Record};

/// A message in the queue.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) name: FileName,
    /// The envelope, with the recipients that have not got the message; `None` where the file does not open.
    pub(super) envelope: Option<Envelope>,
    pub(super) octets: u64,
    pub(super) record: Record,
    /// The time from which on the record does not count yet how long the message has waited.
    pub(super) counted: Instant,
    /// The time of the next attempt.
    pub(super) due: Instant,
    /// An attempt is under way, or the first one still waits for its answer.
    pub(super) is_busy: bool,
    /// The server has the whole message of the attempt that is under way. Its name counts that as unknown.
    pub(super) is_ending: bool,
    /// The server has taken the message, and the disk does not let it be removed.
    pub(super) is_delivered: bool,
    /// The reason why the file cannot be read, and what to do, if so.
    pub(super) fault: Option<String>,
    /// The phase that the message is in, where the disk does not let the file be renamed.
    pub(super) wanted: Option<Phase>,
}

impl Entry {
    /// A message that was found on disk. The wall clock may have jumped meanwhile, so that it decides no more than
    /// when within one interval the message is tried.
    pub(super) fn found(name: FileName, octets: u64, record: Record, now: Instant) -> Self {
        let interval = interval(record.step);
        let left = Duration::from_secs(record.next_at.saturating_sub(unix_time())).min(interval);
        Self {
            name,
            envelope: None,
            octets,
            record,
            counted: now,
            due: now + left,
            is_busy: false,
            is_ending: false,
            is_delivered: false,
            fault: None,
            wanted: None,
        }
    }

    /// Whether packetboat tries the message by itself.
    pub(super) fn is_tried(&self) -> bool {
        self.name.phase.is_tried() && self.envelope.is_some()
    }

    /// Takes the envelope of the message's file. The record knows who has got the message already.
    pub(super) fn set_envelope(&mut self, envelope: Envelope) {
        let recipients = self.record.left.clone().unwrap_or_else(|| envelope.recipients.clone());
        self.envelope = Some(Envelope { recipients, ..envelope });
    }

    /// The recipients that the next attempt names: those that have not got the message, and are not refused for good.
    pub(super) fn to_try(&self) -> Vec<String> {
        let recipients = self.envelope.iter().flat_map(|envelope| &envelope.recipients);
        let is_refused = |recipient: &String| self.record.refused.iter().any(|(refused, _)| refused == recipient);
        recipients.filter(|recipient| !is_refused(recipient)).cloned().collect()
    }

    /// Notes that the server has taken the message for all recipients of the attempt but these, and those that it has
    /// refused for good.
    pub(super) fn leave(&mut self, deferred: &[(String, String)]) {
        let refused = self.record.refused.iter();
        let left: Vec<String> = refused.chain(deferred).map(|(recipient, _)| recipient.clone()).collect();
        if let Some(envelope) = &mut self.envelope {
            envelope.recipients.clone_from(&left);
        }
        self.record.left = Some(left);
    }

    /// The time for which packetboat has run with the message.
    pub(super) fn age(&self, now: Instant) -> Duration {
        Duration::from_secs(self.record.waited) + now.saturating_duration_since(self.counted)
    }

    /// Notes an attempt, and when the next one is.
    pub(super) fn note_attempt(&mut self, outcome: &str, now: Instant) {
        let interval = interval(self.record.step);
        self.count_age(now);
        self.due = now + interval;
        let record = &mut self.record;
        record.attempts = record.attempts.saturating_add(1);
        record.step = record.step.saturating_add(1);
        record.last_at = unix_time();
        record.next_at = record.last_at.saturating_add(interval.as_secs());
        outcome.clone_into(&mut record.last);
    }

    fn count_age(&mut self, now: Instant) {
        let waited = now.saturating_duration_since(self.counted).as_secs();
        self.record.waited = self.record.waited.saturating_add(waited);
        self.counted += Duration::from_secs(waited);
    }

    /// Gives the message up, for a report. The report has a time and a schedule of its own.
    pub(super) fn give_up(&mut self, reason: Reason, now: Instant) {
        let is_unknown = matches!(reason, Reason::Unknown(_));
        self.record.may_be_sent = is_unknown || self.name.unknown > u8::from(self.is_ending);
        self.record.reason = Some(reason);
        self.begin_anew(now);
    }

    /// Lets the next attempt come at once, and as the first one.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.record.waited = 0;
        self.record.step = 0;
        self.record.next_at = unix_time();
        self.counted = now;
        self.due = now;
    }

    /// Ends an attempt without an outcome.
    pub(super) fn free(&mut self) {
        self.is_busy = false;
        self.is_ending = false;
    }

    /// Whether the server may have the message from an attempt before. A record that was lost knows nothing.
    pub(super) fn may_be_sent(&self) -> bool {
        let earlier = self.name.unknown > u8::from(self.is_ending);
        earlier || self.record.may_be_sent || (self.name.phase != Phase::Message && self.record.reason.is_none())
    }

    /// The mailbox that sends the message: messages of one mailbox are sent one after the other.
    pub(super) fn mailbox(&self) -> Option<MailboxKey> {
        self.envelope.as_ref().map(Envelope::mailbox_key)
    }

    /// Whether nothing more happens with the message unless an operator acts.
    pub(super) fn needs_operator(&self) -> bool {
        self.envelope.is_none() || !self.name.phase.is_tried()
    }
}

/// A mail server and a mailbox there, in lower case.
pub(super) type MailboxKey = (String, String);

/// The wait behind an attempt, by the number of those before (RFC 5321 §4.5.4.1).
pub(super) fn interval(step: u32) -> Duration {
    let step = usize::try_from(step).unwrap_or(usize::MAX).min(INTERVALS.len() - 1);
    INTERVALS.get(step).copied().unwrap_or(HOUR)
}

/// The time of the wall clock, in seconds since 1970.
pub(super) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const INTERVALS: [Duration; 4] =
    [Duration::from_secs(60), Duration::from_secs(5 * 60), Duration::from_secs(15 * 60), HOUR];
