//! The backends of logins: mailboxes behind translated logins, and mail servers that logins are passed through to.

pub(super) mod authorize;
pub(super) mod mailbox;
mod pace;
pub(super) mod pass_through;
mod repeated_errors;
pub(super) mod sent_mail;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::device::Devices;
use crate::protocol::Protocol;
use crate::token::Tokens;
use crate::transport::upstream::MailServer;
use mailbox::{Mailbox, Mailboxes};
use pass_through::PassThrough;

/// The backend of a listener's logins.
pub(super) enum Backend {
    /// The login goes to this server as it is.
    PassThrough(PassThrough),
    /// The login is refused with a temporary failure: the listener takes inventory alone.
    Observe,
    /// The login is verified, and opens its account's mailbox.
    Translate(Translation),
}

/// The directory, as listeners of one protocol see it.
pub(super) struct Translation {
    directory: Arc<Directory>,
    protocol: Protocol,
}

/// Devices, the mailboxes that they may open, and their tokens, for all listeners that translate logins.
pub(super) struct Directory {
    pub(in crate::proxy) devices: Arc<Devices>,
    pub(in crate::proxy) mailboxes: Mailboxes,
    pub(in crate::proxy) tokens: Arc<Tokens>,
}

/// The mail servers by name, with their roots loaded.
pub(super) type Servers = BTreeMap<String, Arc<MailServer>>;

impl Backend {
    /// The name of the device that may send mail from this address without a login.
    pub(super) fn device_at(&self, source: IpAddr) -> Option<&str> {
        match self {
            Backend::Translate(translation) => translation.device_at(source),
            Backend::PassThrough(_) | Backend::Observe => None,
        }
    }
}

impl Translation {
    pub(super) fn new(directory: Arc<Directory>, protocol: Protocol) -> Self {
        Self { directory, protocol }
    }

    pub(super) fn devices(&self) -> &Arc<Devices> {
        &self.directory.devices
    }

    /// The name of the device that may send mail from this address without a login.
    pub(super) fn device_at(&self, source: IpAddr) -> Option<&str> {
        let submits = self.protocol == Protocol::Smtp;
        self.devices().at(source).filter(|_| submits).map(|device| device.name.as_str())
    }

    /// An account's mailbox, by the protocol of the listener.
    pub(super) fn mailbox(&self, account: &str) -> Option<&Arc<Mailbox>> {
        self.directory.mailboxes.of(account, self.protocol)
    }
}
