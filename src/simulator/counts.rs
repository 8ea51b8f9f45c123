//! The simulator counts what it has seen.

use std::collections::BTreeMap;

use crate::protocol::{ByProtocol, Protocol};

/// Counters since the start, and a few last values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Token requests that were understood, by `grant_type`.
    pub token_requests: BTreeMap<String, u64>,
    /// Access tokens that were issued.
    pub tokens_issued: u64,
    /// Token requests that were refused or met a fault.
    pub token_refusals: u64,
    /// Device codes that were asked for.
    pub device_codes: u64,
    /// Polls for a device code's token.
    pub polls: u64,
    /// Visits to the authorization endpoint.
    pub authorizations: u64,
    /// Requests to the metadata service.
    pub metadata_requests: u64,
    /// The refresh token that was presented last.
    pub last_refresh_token: Option<String>,
    /// Connections to the mail protocols, even if the TLS handshake failed.
    pub mail_connections: u64,
    /// Logins by protocol.
    pub logins: ByProtocol<LoginCounts>,
    /// Sessions that are logged in now, by mailbox.
    pub sessions: BTreeMap<String, usize>,
    /// The most sessions that one mailbox has had at a time.
    pub most_sessions: usize,
    /// Logins, sessions and commands of IMAP and POP3, by mailbox in lower case.
    pub mailboxes: BTreeMap<String, MailboxCounts>,
    /// Messages that were sent whole.
    pub fetched: u64,
    /// Messages that were deleted.
    pub deleted: u64,
    /// Submission by SMTP.
    pub submissions: SubmissionCounts,
}

/// Counts of the messages and sessions of SMTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubmissionCounts {
    /// Messages that were delivered.
    pub delivered: u64,
    /// Messages that were refused at their end.
    pub refused: u64,
    /// Messages that did not come to their end.
    pub cut: u64,
    /// Commands that Exchange does not know.
    pub unknown_commands: u64,
    /// Octets in clear that came behind STARTTLS.
    pub injected: u64,
    /// Sessions that are logged in now, by mailbox.
    pub sessions: BTreeMap<String, usize>,
    /// The most sessions that one mailbox has had at a time.
    pub most_sessions: usize,
}

/// Counts of one mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxCounts {
    /// Logins by protocol, by the name of the mailbox that the client gave.
    pub logins: ByProtocol<LoginCounts>,
    /// The most sessions that it has had at a time.
    pub most_sessions: usize,
    /// Commands of IMAP after the login, by name in upper case: those of [`COUNTED_COMMANDS`].
    pub commands: BTreeMap<&'static str, u64>,
}

/// Commands of IMAP that are counted by mailbox.
pub const COUNTED_COMMANDS: [&str; 15] = [
    "APPEND",
    "CAPABILITY",
    "CLOSE",
    "ENABLE",
    "EXAMINE",
    "EXPUNGE",
    "FETCH",
    "IDLE",
    "LIST",
    "LOGOUT",
    "NOOP",
    "SELECT",
    "STATUS",
    "UID",
    "UNSELECT",
];

/// Logins of one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoginCounts {
    /// Logins that succeeded and opened a mailbox.
    pub accepted: u64,
    /// Logins that succeeded and opened none.
    pub not_connected: u64,
    /// Logins that were refused, for token, mailbox or password.
    pub refused: u64,
    /// Logins that were one too many, by their rate or by the mailbox's sessions.
    pub excessive: u64,
}

impl Counts {
    /// Logins by IMAP.
    pub fn imap(&self) -> LoginCounts {
        *self.logins.of(Protocol::Imap)
    }

    /// Logins by POP3.
    pub fn pop3(&self) -> LoginCounts {
        *self.logins.of(Protocol::Pop3)
    }

    /// Logins by SMTP.
    pub fn smtp(&self) -> LoginCounts {
        *self.logins.of(Protocol::Smtp)
    }

    /// The counts of a mailbox; all are zero as long as no login has named it.
    pub fn mailbox(&self, address: &str) -> MailboxCounts {
        self.mailboxes.get(&address.to_lowercase()).cloned().unwrap_or_default()
    }

    /// Sessions of a mailbox that are logged in now.
    pub fn sessions_of(&self, address: &str) -> usize {
        self.sessions.get(&address.to_lowercase()).copied().unwrap_or_default()
    }

    /// Token requests with this `grant_type`; `device_code` stands for its long name.
    pub fn grant(&self, name: &str) -> u64 {
        let long = format!("urn:ietf:params:oauth:grant-type:{name}");
        [name, &long].into_iter().filter_map(|name| self.token_requests.get(name)).sum()
    }

    /// Sessions that are logged in now.
    pub fn open_sessions(&self) -> usize {
        self.sessions.values().sum()
    }

    /// Counts a login in the sum, and for its mailbox if there is such a mailbox.
    pub(super) fn count_login(&mut self, protocol: Protocol, mailbox: Option<&str>, count: impl Fn(&mut LoginCounts)) {
        count(self.logins.of_mut(protocol));
        if let Some(mailbox) = mailbox {
            count(self.mailboxes.entry(mailbox.to_lowercase()).or_default().logins.of_mut(protocol));
        }
    }

    /// Counts a command of IMAP in a mailbox's session.
    pub(super) fn count_command(&mut self, mailbox: &str, name: &str) {
        let Some(name) = COUNTED_COMMANDS.iter().find(|one| **one == name) else { return };
        if let Some(counts) = self.mailboxes.get_mut(mailbox) {
            *counts.commands.entry(name).or_default() += 1;
        }
    }
}

impl MailboxCounts {
    /// Logins by IMAP.
    pub fn imap(&self) -> LoginCounts {
        *self.logins.of(Protocol::Imap)
    }

    /// The number of commands of this name.
    pub fn command(&self, name: &str) -> u64 {
        self.commands.get(name).copied().unwrap_or_default()
    }
}
