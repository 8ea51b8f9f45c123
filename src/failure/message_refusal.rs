//! Refusals of a message: by whom, and those that a mail server counts against the whole mailbox of a device.

use super::Kind;

/// The party that refuses a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuser {
    /// The mail server.
    MailServer,
    /// The account's rules for submission, before the mail server is asked.
    Rules,
}

/// The errors for which Exchange Online throttles a mailbox where they are repeated (550 5.2.251 to 5.2.255).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepeatedError {
    /// The mailbox is full.
    MailboxFull,
    /// The mailbox may not send as this sender.
    Sender,
    /// The mailbox has no license to send.
    License,
    /// The message has too many recipients.
    TooManyRecipients,
    /// A recipient does not exist.
    Recipient,
}

impl RepeatedError {
    /// The error in words, and what to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::MailboxFull => "the mailbox is full: empty it, above all its Sent Items",
            Self::Sender => {
                "the mailbox may not send as the device's sender: keep sender = \"rewrite\", or grant SendAs \
                 (Add-RecipientPermission)"
            }
            Self::License => "the mailbox has no license to send: assign one, or send from another mailbox",
            Self::TooManyRecipients => "its messages have too many recipients: send to a distribution list",
            Self::Recipient => "it sends to an address that does not exist: correct it in the device's address book",
        }
    }
}

impl Kind {
    /// Returns whether a message, or one of its recipients, has failed rather than a login or a connection.
    pub fn is_of_message(self) -> bool {
        use Kind::{
            DeviceQuota, MailboxFull, MailboxThrottled, MessageDeferred, MessageRefused, MessageTooBig, MessageTooSlow,
            OutcomeUnknown, RecipientRefused, SenderRefused, SubmissionQuota,
        };
        matches!(
            self,
            SenderRefused
                | RecipientRefused
                | MessageTooBig
                | MessageTooSlow
                | MailboxFull
                | MailboxThrottled
                | SubmissionQuota
                | DeviceQuota
                | MessageRefused
                | MessageDeferred
                | OutcomeUnknown
        )
    }
}
