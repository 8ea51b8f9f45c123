//! A login at a mail server, and the terms of the session behind it.

use super::sasl::Credentials;
use crate::protocol::Protocol;

/// A login at a mail server to which a connection stands.
#[derive(Clone, Debug)]
pub struct UpstreamLogin {
    /// User and password, or token.
    pub credentials: Credentials,
    /// How TLS starts on the connection.
    pub tls: UpstreamTls,
    /// The conditions of the login and of the session behind it.
    pub terms: Terms,
}

/// How TLS comes about on the upstream side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamTls {
    /// It stands already.
    Implicit,
    /// By STARTTLS or STLS, before anything else.
    StartTls,
}

/// Whether the mailbox is tried before the device is told that it is in. Exchange Online lets logins in whose mailbox it
/// does not open afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The server's word is enough.
    Skip,
    /// One command of our own, whose answer the device does not see.
    Run,
}

/// Whether the device may delete in the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletes {
    /// What it says after login is not looked at.
    Allowed,
    /// Nothing that it says after login makes the mailbox lose anything: only commands that are known to delete nothing
    /// reach the server. In POP3, DELE is answered with +OK all the same, because devices need it to go on; in IMAP
    /// the others are answered with NO.
    Refused,
}

/// Whether a login that the device says after the login reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relogin {
    /// It passes like any other command: the server knows the device's password anyway.
    Allowed,
    /// It is answered here: the device's password is for us alone. So are the commands behind which a login could not
    /// be seen (STARTTLS, COMPRESS).
    Refused,
}

/// The conditions of one login and of the session behind it, by what the protocol gives access to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// IMAP and POP3 open a mailbox.
    Mailbox(MailboxTerms),
}

/// The conditions of a session in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxTerms {
    /// Whether the mailbox is tried first.
    pub probe: Probe,
    /// Whether the device may delete.
    pub deletes: Deletes,
    /// Whether another login passes.
    pub relogin: Relogin,
}

/// What the configuration grants a device in an account, whatever its protocol; each protocol takes what concerns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// The mailbox is tried before the device is let in.
    pub probe: bool,
    /// The device may delete.
    pub delete: bool,
}

impl Terms {
    /// The terms of a login that is passed through: the server's word is enough, and everything passes.
    pub fn pass_through(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Imap | Protocol::Pop3 => Terms::Mailbox(MailboxTerms {
                probe: Probe::Skip,
                deletes: Deletes::Allowed,
                relogin: Relogin::Allowed,
            }),
        }
    }

    /// The terms of a login that is translated into an account's.
    pub fn translated(protocol: Protocol, settings: AccessSettings) -> Self {
        match protocol {
            Protocol::Imap | Protocol::Pop3 => Terms::Mailbox(MailboxTerms {
                probe: if settings.probe { Probe::Run } else { Probe::Skip },
                deletes: if settings.delete { Deletes::Allowed } else { Deletes::Refused },
                relogin: Relogin::Refused,
            }),
        }
    }
}
