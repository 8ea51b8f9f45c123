//! A login at a mail server, and the terms of the session behind it.

use std::sync::Arc;

use super::sasl::Credentials;
use crate::protocol::{Protocol, Security};
use crate::submission::{HoldBack, RecipientQuota, Stamps, SubmissionRules};

/// A login at a mail server whose connection stands.
#[derive(Clone, Debug)]
pub struct UpstreamLogin {
    /// The user with a password or a token.
    pub credentials: Credentials,
    /// The way in which TLS starts on the connection; with implicit TLS it stands already.
    pub security: Security,
    /// The conditions of the login and of the session behind it.
    pub terms: Terms,
}

/// A trial of the mailbox before the device is let in. Exchange Online accepts logins for mailboxes that it does not
/// open afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The server's OK to the login is enough.
    Skip,
    /// The client sends one command in the mailbox, whose answer the device does not get.
    Run,
}

/// The right of a device to delete in the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletes {
    /// Every command passes.
    Allowed,
    /// Only commands that are known to delete nothing reach the server. In POP3, DELE is answered with +OK all the
    /// same, because devices need that to go on; in IMAP, the others are answered with NO.
    Refused,
}

/// The treatment of a login that the device sends after the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relogin {
    /// A second login passes like any other command: the server knows the device's password anyway.
    Allowed,
    /// Packetboat answers it, because the device's password is for packetboat alone. It also answers the commands
    /// behind which a login could not be read (STARTTLS, COMPRESS).
    Refused,
}

/// The terms of one login and of the session behind it, by what the protocol gives access to.
#[derive(Clone, Debug)]
pub enum Terms {
    /// IMAP and POP3 open a mailbox.
    Mailbox(MailboxTerms),
    /// SMTP submits messages. Without terms every sender and recipient passes.
    Submission(Option<Arc<SubmissionTerms>>),
}

/// The terms of an account whose devices submit messages.
#[derive(Clone, Debug, Default)]
pub struct SubmissionTerms {
    /// The address of the mailbox that sends.
    pub mailbox: String,
    /// The account's rules.
    pub rules: SubmissionRules,
    /// The source of stamps for messages that lack a Date or a Message-ID.
    pub stamps: Stamps,
    /// The quota of recipients.
    pub quota: RecipientQuota,
    /// The device is held back at times.
    pub hold_back: HoldBack,
}

/// The terms of a session in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxTerms {
    /// The trial of the mailbox.
    pub probe: Probe,
    /// The right to delete.
    pub deletes: Deletes,
    /// The treatment of another login.
    pub relogin: Relogin,
    /// The connection may be parked when the device logs out, in IMAP.
    pub parks: bool,
}

/// The settings of a device's access to an account. They are the same for all protocols, and each protocol takes what
/// concerns it.
#[derive(Clone, Debug)]
pub struct AccessSettings {
    /// The mailbox is tried before the device is let in.
    pub probe: bool,
    /// The device may delete.
    pub delete: bool,
    /// The connection may be parked when the device logs out.
    pub parks: bool,
    /// The rules for the mail that the device submits.
    pub submission: Arc<SubmissionTerms>,
}

impl Terms {
    /// The terms of the session in a mailbox. Where there is none, everything is refused that could be.
    pub(super) fn of_mailbox(&self) -> MailboxTerms {
        match self {
            Terms::Mailbox(terms) => *terms,
            Terms::Submission(_) => {
                MailboxTerms { probe: Probe::Skip, deletes: Deletes::Refused, relogin: Relogin::Refused, parks: false }
            }
        }
    }

    /// Returns whether the mailbox is tried before the device is let in.
    pub fn probes(&self) -> bool {
        self.of_mailbox().probe == Probe::Run
    }

    /// Makes the terms of a login that is passed through: the server's OK is enough, and everything passes.
    pub fn pass_through(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Imap | Protocol::Pop3 => Terms::Mailbox(MailboxTerms {
                probe: Probe::Skip,
                deletes: Deletes::Allowed,
                relogin: Relogin::Allowed,
                parks: false,
            }),
            Protocol::Smtp => Terms::Submission(None),
        }
    }

    /// Makes the terms of a login that is translated into an account's.
    pub fn translated(protocol: Protocol, settings: AccessSettings) -> Self {
        match protocol {
            Protocol::Imap | Protocol::Pop3 => Terms::Mailbox(MailboxTerms {
                probe: if settings.probe { Probe::Run } else { Probe::Skip },
                deletes: if settings.delete { Deletes::Allowed } else { Deletes::Refused },
                relogin: Relogin::Refused,
                parks: settings.parks,
            }),
            Protocol::Smtp => Terms::Submission(Some(settings.submission)),
        }
    }
}
