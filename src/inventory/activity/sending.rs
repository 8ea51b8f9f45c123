//! The sending side of a device's record: its logins for submission, the messages that it has sent, and refusals.

use serde::{Deserialize, Serialize};

use super::hours::Hour;
use super::shorten;
use super::spans::Spans;
use crate::failure::{Failure, Kind};
use crate::inventory::serde_names::kind_label;

/// The facts of a device that sends. Times are in seconds since 1970. Earlier versions have written none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Sending {
    /// The last login for submission that succeeded.
    last_login: Option<u64>,
    /// The time of the last message that the mail server has accepted.
    last_sent: Option<u64>,
    /// The number of sessions without a message since the last message, accepted or refused.
    idle_sessions: u64,
    /// The last login or message that has failed.
    failure: Option<String>,
    #[serde(with = "kind_label")]
    reason: Option<Kind>,
    failed: Option<u64>,
    /// The first login for submission that has failed since the last one that succeeded.
    failing_since: Option<u64>,
    /// The first refusal since the last accepted message.
    refused_since: Option<u64>,
    /// The recipients of the last hour.
    hour: Spans<300, 12>,
    /// The time at which the log has said that the device has sent to as many recipients as it may, and that number.
    told: Option<(u64, u32)>,
    /// The device has sent to another domain than its mailbox's.
    has_sent_outside: bool,
}

/// The sending side of a device, for people. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SendingReport {
    /// Whether it sends.
    pub state: SendingState,
    /// The beginning of that state: the first failure or refusal.
    pub since: Option<u64>,
    /// Its last login for submission that succeeded.
    pub last_login: Option<u64>,
    /// The time of the last message that the mail server has accepted.
    pub last_sent: Option<u64>,
    /// Messages that the mail server has accepted in the last 24 hours.
    pub messages: u64,
    /// Recipients of those messages.
    pub recipients: u64,
    /// Recipients of the last hour, with those of messages that the mail server may have. Earlier versions have written none.
    #[serde(default)]
    pub recipients_of_hour: u64,
    /// Octets of those messages, as the device has sent them.
    pub octets: u64,
    /// Messages that were refused in the last 24 hours.
    pub refused: u64,
    /// The last failure of a login for submission or of a message, in plain words.
    pub failure: Option<String>,
    /// The kind of that failure.
    #[serde(default, with = "kind_label")]
    pub reason: Option<Kind>,
    /// The time of that.
    pub failed: Option<u64>,
}

/// The states of a device that sends, in the order in which people should look at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SendingState {
    /// Its logins for submission fail.
    Failing,
    /// Every message has been refused since the last accepted one.
    Refused,
    /// It logs in, and sends nothing.
    Nothing,
    /// It sends.
    Sends,
}

impl Sending {
    /// Returns whether the device has ever tried to send.
    pub(super) fn is_used(&self) -> bool {
        self.last_login.is_some() || self.failed.is_some()
    }

    /// The last login for submission that succeeded.
    pub(super) fn last_login(&self) -> Option<u64> {
        self.last_login
    }

    pub(super) fn logged_in(&mut self, now: u64) {
        self.last_login = Some(now);
        self.failing_since = None;
    }

    pub(super) fn login_failed(&mut self, failure: &Failure, now: u64) {
        self.note(failure, now);
        self.failing_since = self.failing_since.or(Some(now));
    }

    pub(super) fn sent(&mut self, recipients: u64, now: u64) {
        self.count(recipients, now);
        self.last_sent = Some(now);
        self.refused_since = None;
        self.idle_sessions = 0;
    }

    /// Counts the recipients of a message that was accepted, is kept here, or may have been accepted.
    pub(super) fn count(&mut self, recipients: u64, now: u64) {
        self.hour.add(recipients, now);
    }

    /// The recipients of the last hour.
    pub(super) fn recipients_of_hour(&self, now: u64) -> u64 {
        self.hour.recipients(now)
    }

    /// Notes that the device has sent to this number of recipients in an hour, and may send to no more. Returns whether
    /// that is news of this hour.
    pub(super) fn over_quota(&mut self, most: u32, now: u64) -> bool {
        let is_known = self.told.is_some_and(|(at, number)| number == most && at <= now && now - at < HOUR);
        if !is_known {
            self.told = Some((now, most));
        }
        !is_known
    }

    /// Notes that the device has sent to another domain than its mailbox's. Returns whether that is news.
    pub(super) fn sent_to_other_domain(&mut self) -> bool {
        !std::mem::replace(&mut self.has_sent_outside, true)
    }

    /// Notes that a message, or one of its recipients, was refused.
    pub(super) fn refused(&mut self, failure: &Failure, now: u64) {
        self.note(failure, now);
        self.refused_since = self.refused_since.or(Some(now));
        self.idle_sessions = 0;
    }

    /// Notes the end of a session in which no message was sent or refused.
    pub(super) fn left_without_message(&mut self) {
        self.idle_sessions = self.idle_sessions.saturating_add(1);
    }

    /// Takes no time of the future.
    pub(super) fn correct_clock(&mut self, now: u64) {
        let Self { last_login, last_sent, failed, failing_since, refused_since, .. } = self;
        for time in [last_login, last_sent, failed, failing_since, refused_since] {
            *time = time.map(|time| time.min(now));
        }
    }

    /// The beginning of failing logins. A device that goes on reading, and has not tried to send for a week, does not
    /// fail; a day is enough where it has never logged in to send.
    pub(super) fn failing_since(&self, last_read: Option<u64>) -> Option<u64> {
        let patience = if self.last_login.is_some() { WEEK } else { DAY };
        self.failing_since.filter(|_| !is_given_up(self.failed, patience, last_read))
    }

    /// The beginning of refusals.
    pub(super) fn refused_since(&self) -> Option<u64> {
        self.refused_since
    }

    /// The report; none for a device that has never tried to send. `day` has the sums of the last 24 hours.
    pub(super) fn report(&self, last_read: Option<u64>, day: &Hour, now: u64) -> Option<SendingReport> {
        if !self.is_used() {
            return None;
        }
        let (failing, refused) = (self.failing_since(last_read), self.refused_since);
        let is_idle = self.last_sent.is_none() || self.idle_sessions >= MOST_IDLE;
        let (state, since) = match (failing, refused) {
            (Some(since), _) => (SendingState::Failing, Some(since)),
            (None, Some(since)) => (SendingState::Refused, Some(since)),
            (None, None) if is_idle => (SendingState::Nothing, None),
            (None, None) => (SendingState::Sends, None),
        };
        Some(SendingReport {
            state,
            since,
            last_login: self.last_login,
            last_sent: self.last_sent,
            messages: day.sent,
            recipients: day.recipients,
            recipients_of_hour: self.recipients_of_hour(now),
            octets: day.sent_octets,
            refused: day.refused,
            failure: self.failure.clone(),
            reason: self.reason,
            failed: self.failed,
        })
    }

    fn note(&mut self, failure: &Failure, now: u64) {
        self.failure = Some(shorten(failure));
        self.reason = Some(failure.kind);
        self.failed = Some(now);
    }
}

impl SendingState {
    /// The label in JSON and CSV.
    pub fn label(self) -> &'static str {
        match self {
            SendingState::Failing => "failing",
            SendingState::Refused => "refused",
            SendingState::Nothing => "nothing",
            SendingState::Sends => "sends",
        }
    }
}

/// Returns whether a device has given up one of the things that it does: its last failure in that is older than the last
/// login for the other one, by this time.
pub(super) fn is_given_up(failed: Option<u64>, patience: u64, other_login: Option<u64>) -> bool {
    failed.zip(other_login).is_some_and(|(failed, other)| other > failed.saturating_add(patience))
}

/// The number of sessions without a message after which a device counts as one that sends nothing.
const MOST_IDLE: u64 = 3;
/// An hour in seconds.
const HOUR: u64 = 60 * 60;
/// A day in seconds.
const DAY: u64 = 24 * 60 * 60;
/// A week in seconds.
pub(super) const WEEK: u64 = 7 * DAY;

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;

    fn state(sending: &Sending) -> (SendingState, Option<u64>) {
        let report = sending.report(None, &Hour::default(), START).unwrap();
        (report.state, report.since)
    }

    fn refusal(kind: Kind) -> Failure {
        Failure::new(kind, "x")
    }

    #[test]
    fn refusals_last_until_a_message_is_accepted() {
        let mut sending = Sending::default();
        assert!(sending.report(None, &Hour::default(), START).is_none(), "it has never tried");
        sending.logged_in(START);
        assert_eq!(state(&sending), (SendingState::Nothing, None));
        for (at, kind) in [(10, Kind::SenderRefused), (20, Kind::MailboxFull), (30, Kind::RecipientRefused)] {
            sending.refused(&refusal(kind), START + at);
            assert_eq!(state(&sending), (SendingState::Refused, Some(START + 10)), "{kind:?}");
        }
        sending.logged_in(START + 40);
        assert_eq!(state(&sending).0, SendingState::Refused, "a login alone mends nothing");
        sending.sent(1, START + 50);
        assert_eq!(state(&sending), (SendingState::Sends, None));
        let report = sending.report(None, &Hour::default(), START).unwrap();
        assert_eq!((report.last_sent, report.reason), (Some(START + 50), Some(Kind::RecipientRefused)));
    }

    #[test]
    fn a_device_that_only_logs_in_sends_nothing() {
        let mut sending = Sending::default();
        sending.logged_in(START);
        sending.sent(1, START);
        // One session without a message is a test of the settings.
        for session in 1..=MOST_IDLE {
            assert_eq!(state(&sending).0, SendingState::Sends, "{session}");
            sending.left_without_message();
        }
        assert_eq!(state(&sending).0, SendingState::Nothing);
        sending.sent(1, START + 1);
        assert_eq!(state(&sending).0, SendingState::Sends);
    }

    #[test]
    fn logins_that_fail_count_until_one_succeeds() {
        let mut sending = Sending::default();
        sending.login_failed(&refusal(Kind::SmtpAuthDisabled), START);
        sending.login_failed(&refusal(Kind::SmtpAuthDisabled), START + 5);
        assert_eq!(state(&sending), (SendingState::Failing, Some(START)));
        sending.logged_in(START + 9);
        assert_eq!(state(&sending).0, SendingState::Nothing);
    }

    #[test]
    fn what_a_device_no_longer_does_is_forgiven() {
        let mut sending = Sending::default();
        sending.login_failed(&refusal(Kind::WrongPassword), START);
        for (last_read, is_failing) in [(None, true), (Some(START + DAY), true), (Some(START + DAY + 1), false)] {
            assert_eq!(sending.failing_since(last_read).is_some(), is_failing, "never sent, {last_read:?}");
        }
        sending.logged_in(START + 1);
        sending.login_failed(&refusal(Kind::WrongPassword), START + 2);
        for (last_read, is_failing) in [(START + WEEK, true), (START + WEEK + 3, false)] {
            assert_eq!(sending.failing_since(Some(last_read)).is_some(), is_failing, "{last_read}");
        }
    }
}
