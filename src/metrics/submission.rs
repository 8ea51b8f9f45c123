//! The counters of messages that devices submit through a listener.

use std::collections::HashMap;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec};

use super::definitions::SubmissionMetrics;
use super::{ListenerCounters, Metrics};
use crate::failure::{Failure, Kind, Refuser};

/// The results of a message that a device has submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmissionResult {
    /// The mail server has accepted it.
    Accepted,
    /// The mail server has refused it for good.
    Refused,
    /// The account's rules have refused it; the mail server was not asked.
    RefusedByRules,
    /// The mail server does not take it now.
    Deferred,
    /// The mail server was lost behind it, and nobody knows.
    Unknown,
}

impl SubmissionResult {
    /// The result of a message that ended in this failure; none where the failure is no message's.
    pub fn of(failure: &Failure) -> Option<Self> {
        match (failure.message_refused_by, failure.kind) {
            (_, Kind::OutcomeUnknown) => Some(Self::Unknown),
            (Some(Refuser::Rules), _) => Some(Self::RefusedByRules),
            (Some(Refuser::MailServer), kind) if PASSING.contains(&kind) => Some(Self::Deferred),
            (Some(Refuser::MailServer), _) => Some(Self::Refused),
            (None, _) => None,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::RefusedByRules => "refused_by_rules",
            Self::Deferred => "deferred",
            Self::Unknown => "unknown",
        }
    }
}

impl Metrics {
    /// Sets the recipients of each account's mailbox in the last 24 hours, with their limit; and makes the counters of its
    /// messages, at nought.
    pub fn mailboxes<'a>(&self, mailboxes: impl Iterator<Item = (&'a str, u64)>, limit: u32) {
        self.accounts.mailboxes.recipients.reset();
        self.accounts.mailboxes.recipients_limit.reset();
        let mailboxes: HashMap<&str, u64> = mailboxes.collect();
        remove_others(&self.accounts.mailboxes.messages, &mailboxes);
        remove_others(&self.accounts.mailboxes.outside, &mailboxes);
        for (account, recipients) in mailboxes {
            let recipients = i64::try_from(recipients).unwrap_or(i64::MAX);
            self.accounts.mailboxes.recipients.with_label_values(&[account]).set(recipients);
            self.accounts.mailboxes.recipients_limit.with_label_values(&[account]).set(limit.into());
            self.accounts.mailboxes.outside.with_label_values(&[account]);
            for (result, reason) in outcomes() {
                self.mailbox_messages(account, result, reason);
            }
        }
    }

    /// Counts a message from an account's mailbox that the mail server has accepted.
    pub fn mailbox_accepted(&self, account: &str) {
        self.mailbox_messages(account, SubmissionResult::Accepted, NO_REASON).inc();
    }

    /// Counts a message from an account's mailbox that was not accepted, if the failure is one.
    pub fn mailbox_refused(&self, account: &str, failure: &Failure) {
        if let Some(result) = SubmissionResult::of(failure) {
            self.mailbox_messages(account, result, failure.kind.label()).inc();
        }
    }

    /// Counts a device of an account that has sent outside of the mailbox's own domain for the first time.
    pub fn sent_to_other_domain(&self, account: &str) {
        self.accounts.mailboxes.outside.with_label_values(&[account]).inc();
    }

    fn mailbox_messages(&self, account: &str, result: SubmissionResult, reason: &str) -> IntCounter {
        self.accounts.mailboxes.messages.with_label_values(&[account, result.label(), reason])
    }
}

impl ListenerCounters {
    /// Makes the counters of submission, at nought: Prometheus would not see the first message as a rise otherwise.
    pub fn takes_submissions(&self) {
        use SubmissionResult::{Accepted, Refused};
        outcomes().for_each(|(result, reason)| drop(self.messages(result, reason)));
        let SubmissionMetrics { octets, recipients, answer_seconds, .. } = self.submission();
        octets.with_label_values(&[&self.name]);
        for result in [Accepted, Refused] {
            recipients.with_label_values(&[self.name.as_str(), result.label()]);
        }
        answer_seconds.with_label_values(&[&self.name]);
    }

    /// Counts a message that the mail server has accepted.
    pub fn message_accepted(&self, recipients: u32, octets: u64) {
        self.messages(SubmissionResult::Accepted, NO_REASON).inc();
        let of_submission = self.submission();
        of_submission.octets.with_label_values(&[&self.name]).inc_by(octets);
        let accepted = &[self.name.as_str(), SubmissionResult::Accepted.label()];
        of_submission.recipients.with_label_values(accepted).inc_by(u64::from(recipients));
    }

    /// Counts a message that was not accepted, or a recipient that was refused, if the failure is one.
    pub fn message_failed(&self, failure: &Failure) {
        if let Some(result) = SubmissionResult::of(failure) {
            self.messages(result, failure.kind.label()).inc();
        } else if failure.kind == Kind::RecipientRefused {
            let refused = &[self.name.as_str(), SubmissionResult::Refused.label()];
            self.submission().recipients.with_label_values(refused).inc();
        }
    }

    /// Counts the time from the end of a message to the mail server's answer.
    pub fn message_answered(&self, took: Duration) {
        self.submission().answer_seconds.with_label_values(&[&self.name]).observe(took.as_secs_f64());
    }

    fn messages(&self, result: SubmissionResult, reason: &str) -> IntCounter {
        self.submission().messages.with_label_values(&[self.name.as_str(), result.label(), reason])
    }

    fn submission(&self) -> &SubmissionMetrics {
        &self.metrics.by_listener.submission
    }
}

/// Every result with each of its reasons.
fn outcomes() -> impl Iterator<Item = (SubmissionResult, &'static str)> {
    use SubmissionResult::{Accepted, Deferred, Refused, RefusedByRules, Unknown};
    let of = |result, kinds: &'static [Kind]| kinds.iter().map(move |kind| (result, kind.label()));
    let failed = of(Deferred, &PASSING).chain(of(Refused, &FINAL)).chain(of(RefusedByRules, &BY_RULES));
    [(Accepted, NO_REASON), (Unknown, Kind::OutcomeUnknown.label())].into_iter().chain(failed)
}

/// Removes the values of accounts that are no longer there.
fn remove_others(messages: &IntCounterVec, accounts: &HashMap<&str, u64>) {
    for family in messages.collect() {
        for one in family.get_metric() {
            let labels: HashMap<&str, &str> =
                one.get_label().iter().map(|label| (label.name(), label.value())).collect();
            if labels.get("account").is_some_and(|account| !accounts.contains_key(account)) {
                // Another request has removed it already.
                let _ = messages.remove(&labels);
            }
        }
    }
}

/// The label of a message that was accepted.
const NO_REASON: &str = "none";
/// The refusals that pass by themselves, or once somebody acts.
const PASSING: [Kind; 4] = [Kind::MessageDeferred, Kind::MailboxFull, Kind::MailboxThrottled, Kind::SubmissionQuota];
/// The refusals for good.
const FINAL: [Kind; 5] =
    [Kind::MessageRefused, Kind::SenderRefused, Kind::MessageTooBig, Kind::RecipientRefused, Kind::SentAhead];
/// The refusals of packetboat: of an account's rules, or of a device that takes too long.
const BY_RULES: [Kind; 5] =
    [Kind::SenderRefused, Kind::MessageRefused, Kind::RecipientRefused, Kind::MessageTooSlow, Kind::DeviceQuota];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_of_a_message_has_its_result() {
        let by =
            |message_refused_by, kind| SubmissionResult::of(&Failure { message_refused_by, ..Failure::new(kind, "") });
        for kind in PASSING {
            assert_eq!(by(Some(Refuser::MailServer), kind), Some(SubmissionResult::Deferred), "{kind:?}");
        }
        for kind in FINAL {
            assert_eq!(by(Some(Refuser::MailServer), kind), Some(SubmissionResult::Refused), "{kind:?}");
        }
        for kind in BY_RULES {
            assert_eq!(by(Some(Refuser::Rules), kind), Some(SubmissionResult::RefusedByRules), "{kind:?}");
        }
        assert_eq!(by(None, Kind::OutcomeUnknown), Some(SubmissionResult::Unknown));
        assert_eq!(by(None, Kind::MessageDeferred), None, "a recipient");
    }
}
