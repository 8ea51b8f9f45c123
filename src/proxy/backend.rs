//! The backends of logins: mailboxes behind translated logins, and mail servers that logins are passed through to.

pub(super) mod authorize;
pub(super) mod mailbox;
pub(super) mod pass_through;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::device::Devices;
use crate::protocol::Protocol;
use crate::transport::upstream::MailServer;
use mailbox::{Mailbox, Mailboxes};
use pass_through::PassThrough;

/// What becomes of a login here.
pub(super) enum Backend {
    /// It goes to this server as it is.
    PassThrough(PassThrough),
    /// It is refused for the moment: only inventory is taken.
    Observe,
    /// It is verified, and its account's mailbox opened.
    Translate(Translation),
}

/// The directory, as listeners of one protocol see it.
pub(super) struct Translation {
    directory: Arc<Directory>,
    protocol: Protocol,
}

/// Who is let in, and to what. All listeners that translate have it in common.
pub(super) struct Directory {
    pub(in crate::proxy) devices: Arc<Devices>,
    pub(in crate::proxy) mailboxes: Mailboxes,
}

/// The mail servers by name, with their roots loaded.
pub(super) type Servers = BTreeMap<String, Arc<MailServer>>;

impl Translation {
    pub(super) fn new(directory: Arc<Directory>, protocol: Protocol) -> Self {
        Self { directory, protocol }
    }

    pub(super) fn devices(&self) -> &Arc<Devices> {
        &self.directory.devices
    }

    /// An account's mailbox, by the protocol of the listener.
    pub(super) fn mailbox(&self, account: &str) -> Option<&Arc<Mailbox>> {
        self.directory.mailboxes.of(account, self.protocol)
    }
}
