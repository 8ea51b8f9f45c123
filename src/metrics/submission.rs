//! The counters of messages that devices submit through a listener.

use std::time::Duration;

use prometheus::IntCounter;

use super::ListenerCounters;
use super::definitions::SubmissionMetrics;
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

impl ListenerCounters {
    /// Makes the counters of submission, at nought: Prometheus would not see the first message as a rise otherwise.
    pub fn takes_submissions(&self) {
        use SubmissionResult::{Accepted, Deferred, Refused, RefusedByRules, Unknown};
        self.messages(Accepted, NO_REASON);
        self.messages(Unknown, Kind::OutcomeUnknown.label());
        PASSING.iter().for_each(|kind| drop(self.messages(Deferred, kind.label())));
        FINAL.iter().for_each(|kind| drop(self.messages(Refused, kind.label())));
        BY_RULES.iter().for_each(|kind| drop(self.messages(RefusedByRules, kind.label())));
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

/// The label of a message that was accepted.
const NO_REASON: &str = "none";
/// The refusals that pass by themselves, or once somebody acts.
const PASSING: [Kind; 4] = [Kind::MessageDeferred, Kind::MailboxFull, Kind::MailboxThrottled, Kind::SubmissionQuota];
/// The refusals for good.
const FINAL: [Kind; 3] = [Kind::MessageRefused, Kind::SenderRefused, Kind::MessageTooBig];
/// The refusals of an account's rules.
const BY_RULES: [Kind; 2] = [Kind::SenderRefused, Kind::MessageRefused];

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
