//! The counts of what mailboxes send, whoever sends it: a device's session, or the spool.
//!
//! Metrics show them by account, the bound on recipients a day needs them, and the pace of a mailbox.

use std::sync::Arc;
use std::time::Duration;

use super::mailbox::Mailbox;
use crate::failure::{Failure, RepeatedError};
use crate::inventory::Inventory;
use crate::metrics::Metrics;
use crate::proxy::transaction::Outcome;
use crate::spool::{Answer, Hold};

/// The counters of the mail that mailboxes send.
#[derive(Clone)]
pub(in crate::proxy) struct SentMail {
    metrics: Arc<Metrics>,
    inventory: Arc<Inventory>,
}

impl SentMail {
    pub(in crate::proxy) fn new(metrics: &Arc<Metrics>, inventory: &Arc<Inventory>) -> Self {
        Self { metrics: Arc::clone(metrics), inventory: Arc::clone(inventory) }
    }

    /// Counts a message of an account that the mail server has taken for so many recipients. Returns the wait before its
    /// mailbox sends the next one.
    pub(in crate::proxy) fn taken(&self, account: &str, mailbox: &Mailbox, recipients: u32) -> Duration {
        self.metrics.mailbox_accepted(account);
        self.inventory.activities().mailbox_sent(&mailbox.account.mailbox, recipients);
        mailbox.message_sent()
    }

    /// Counts the recipients of a message that the mail server has not answered, and may have taken.
    pub(in crate::proxy) fn may_be_taken(&self, mailbox: &Mailbox, recipients: u32) {
        self.inventory.activities().mailbox_sent(&mailbox.account.mailbox, recipients);
    }

    /// Counts the outcome of a message that the spool keeps, and leaves a mailbox alone that the mail server throttles.
    /// Returns the reason for which the next message of the mailbox waits, if so.
    pub(in crate::proxy) fn settled(&self, account: &str, mailbox: &Mailbox, outcome: &Outcome) -> Option<Hold> {
        let pause = match (&outcome.answer, &outcome.failure) {
            (Answer::Accepted(_), _) => self.taken(account, mailbox, outcome.taken),
            // The mail server counts what it refuses, too: a queue that it defers must not knock as fast as it can.
            _ => mailbox.message_sent(),
        };
        if let Some(failure) = &outcome.failure {
            self.refused(account, failure);
            if let Some(wait) = failure.retry_after {
                mailbox.leave_alone(wait);
            }
            let is_full = failure.repeated == Some(RepeatedError::MailboxFull);
            if let Some(wait) = mailbox.quiet_for().or(is_full.then_some(FULL)) {
                return Some(Hold::Throttled { wait, why: failure.to_string() });
            }
        }
        (!pause.is_zero()).then_some(Hold::Pace(pause))
    }

    /// Counts a message of an account that was not taken, if the failure is one.
    pub(in crate::proxy) fn refused(&self, account: &str, failure: &Failure) {
        self.metrics.mailbox_refused(account, failure);
    }
}

/// The time for which a full mailbox sends nothing of the spool: Exchange Online throttles a mailbox that goes on.
const FULL: Duration = Duration::from_secs(15 * 60);
