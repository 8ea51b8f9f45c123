//! The ledger counts messages, recipients and errors of each mailbox, for Exchange's limits.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// An error that Exchange throttles a mailbox for, where it happens again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepeatedError {
    /// The mailbox is full: `5.2.251`.
    MailboxFull,
    /// The sender is refused: `5.2.252`.
    SendAsDenied,
    /// There is no licence: `5.2.253`.
    InvalidLicense,
    /// A message has too many recipients: `5.2.254`.
    TooManyRecipients,
    /// Recipients are invalid: `5.2.255`.
    InvalidRecipients,
}

impl RepeatedError {
    /// The response to a mailbox that is throttled for it.
    pub(in crate::simulator) fn reply(self) -> &'static str {
        match self {
            Self::MailboxFull => "550 5.2.251 Sender throttled due to continuous mailbox full errors.",
            Self::SendAsDenied => "550 5.2.252 Sender throttled due to continuous send as denied errors.",
            Self::InvalidLicense => "550 5.2.253 Sender throttled due to continuous invalid license errors.",
            Self::TooManyRecipients => "550 5.2.254 Sender throttled due to continuous too many recipients errors.",
            Self::InvalidRecipients => "550 5.2.255 Sender throttled due to continuous invalid recipients errors.",
        }
    }
}

/// The counts of all mailboxes, by their names in lower case.
#[derive(Default)]
pub(in crate::simulator) struct Ledger(BTreeMap<String, Account>);

#[derive(Default)]
struct Account {
    /// The times of the last minute's messages.
    sent: VecDeque<Instant>,
    /// The recipients of today, which ends with the simulator.
    recipients: usize,
    /// The last error, and how often it came in a row.
    error: Option<(RepeatedError, u32)>,
    throttled: Option<RepeatedError>,
}

impl Ledger {
    fn account(&mut self, mailbox: &str) -> &mut Account {
        self.0.entry(mailbox.to_lowercase()).or_default()
    }

    /// The error for which a mailbox is throttled.
    pub(in crate::simulator) fn throttled(&mut self, mailbox: &str) -> Option<RepeatedError> {
        self.account(mailbox).throttled
    }

    /// Throttles a mailbox, or lifts its throttle.
    pub(in crate::simulator) fn throttle(&mut self, mailbox: &str, error: Option<RepeatedError>) {
        let account = self.account(mailbox);
        account.throttled = error;
        account.error = None;
    }

    /// Notes an error; so many in a row throttle the mailbox.
    pub(in crate::simulator) fn note_error(&mut self, mailbox: &str, error: RepeatedError, most: Option<u32>) {
        let account = self.account(mailbox);
        let before = account.error.filter(|(last, _)| *last == error).map_or(0, |(_, times)| times);
        account.error = Some((error, before + 1));
        if most.is_some_and(|most| before + 1 >= most) {
            account.throttled = Some(error);
        }
    }

    /// The delay of a message that comes now.
    pub(in crate::simulator) fn delay(&mut self, mailbox: &str, per_minute: Option<usize>) -> Duration {
        let sent = &mut self.account(mailbox).sent;
        let now = Instant::now();
        while sent.front().is_some_and(|first| now.duration_since(*first) >= MINUTE) {
            sent.pop_front();
        }
        let Some(most) = per_minute.filter(|most| sent.len() >= *most) else { return Duration::ZERO };
        let oldest = sent.len().checked_sub(most.max(1)).and_then(|at| sent.get(at));
        oldest.map_or(Duration::ZERO, |oldest| (*oldest + MINUTE).duration_since(now))
    }

    /// Counts a message, unless it has more recipients than are left of the day's; returns whether it did.
    pub(in crate::simulator) fn count(&mut self, mailbox: &str, recipients: usize, most: usize) -> bool {
        let account = self.account(mailbox);
        if account.recipients + recipients > most {
            return false;
        }
        account.recipients += recipients;
        account.error = None;
        account.sent.push_back(Instant::now());
        true
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn messages_a_minute() {
        let mut ledger = Ledger::default();
        for _ in 0..2 {
            assert_eq!(ledger.delay("a", Some(2)), Duration::ZERO);
            assert!(ledger.count("A", 1, 10));
        }
        assert_eq!(ledger.delay("a", Some(2)), MINUTE);
        assert_eq!(ledger.delay("a", None), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(45)).await;
        assert_eq!(ledger.delay("a", Some(2)), Duration::from_secs(15));
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(ledger.delay("a", Some(2)), Duration::ZERO);
    }

    #[tokio::test]
    async fn errors_in_a_row() {
        let mut ledger = Ledger::default();
        ledger.note_error("a", RepeatedError::SendAsDenied, Some(2));
        ledger.note_error("a", RepeatedError::MailboxFull, Some(2));
        ledger.note_error("a", RepeatedError::SendAsDenied, Some(2));
        assert!(ledger.count("a", 3, 3) && !ledger.count("a", 1, 3));
        ledger.note_error("a", RepeatedError::SendAsDenied, Some(2));
        assert_eq!(ledger.throttled("a"), None, "a message between them");
        ledger.note_error("a", RepeatedError::SendAsDenied, Some(2));
        assert_eq!(ledger.throttled("A"), Some(RepeatedError::SendAsDenied));
        ledger.throttle("a", None);
        assert_eq!(ledger.throttled("a"), None);
    }
}
