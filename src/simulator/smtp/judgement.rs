//! The judgement of a message comes at the end of its data, as in Exchange: sender, size, quotas and throttles.

use std::time::Duration;

use super::data::Data;
use super::{Envelope, Sender};
use crate::simulator::quirks::smtp::Denial;
use crate::simulator::submission::{RepeatedError, from_addresses};
use crate::simulator::world::World;

/// The judgement of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The message is accepted after a delay.
    Accepted { delay: Duration },
    /// The message is refused with this response.
    Refused(String),
}

/// Judges a message, and counts it for the limits of its mailbox.
pub(super) fn judge(world: &World, sender: &Sender, envelope: &Envelope, data: &Data) -> Judgement {
    let quirks = world.quirk(|quirks| quirks.smtp.clone());
    let mailbox = &sender.mailbox;
    let mut ledger = world.submissions.ledger.lock();
    let refused = |reply: &str| Judgement::Refused(reply.to_owned());
    if let Some(error) = ledger.throttled(mailbox) {
        return refused(error.reply());
    }
    if data.length > quirks.size.min(quirks.max_send_size) {
        return refused(TOO_BIG);
    }
    let Some(from) = from_addresses(&data.octets) else { return refused(NO_FROM) };
    let mut claimed = std::iter::once(&envelope.address).chain(&from);
    if let Some(foreign) = claimed.find(|address| quirks.sends_as_nobody || !world.may_send_as(mailbox, address)) {
        ledger.note_error(mailbox, RepeatedError::SendAsDenied, quirks.errors_before_throttle);
        return Judgement::Refused(denial(quirks.denial, mailbox, foreign));
    }
    if quirks.mailbox_full {
        ledger.note_error(mailbox, RepeatedError::MailboxFull, quirks.errors_before_throttle);
        return refused(MAILBOX_FULL);
    }
    let delay = ledger.delay(mailbox, quirks.messages_per_minute);
    if !ledger.count(mailbox, envelope.recipients.len(), quirks.recipients_per_day) {
        return refused(QUOTA);
    }
    Judgement::Accepted { delay }
}

/// The response to a sender without permission.
fn denial(denial: Denial, mailbox: &str, foreign: &str) -> String {
    match denial {
        Denial::Permissions => "550 5.7.60 SMTP; Client does not have permissions to send as this sender".to_owned(),
        Denial::SendAsDenied => format!(
            "554 5.2.252 SendAsDenied; {mailbox} not allowed to send as {foreign}; STOREDRV.Submission.Exception:\
             SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message due to a permanent exception \
             with message Cannot submit message."
        ),
        Denial::StoreDriver => format!(
            "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; {mailbox} not \
             allowed to send as {foreign}"
        ),
    }
}

pub(super) const TOO_BIG: &str = "552 5.3.4 Message size exceeds fixed maximum message size";
const NO_FROM: &str =
    "550 5.7.512 Access denied, message must be RFC 5322 section 3.6.2 compliant and include a valid From address";
const MAILBOX_FULL: &str =
    "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded";
const QUOTA: &str = "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException";
