//! The backends of logins: mailboxes behind translated logins, and mail servers that logins are passed through to.

pub(super) mod authorize;
pub(super) mod mailbox;
pub(super) mod pass_through;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::device::Devices;
use crate::transport::upstream::Server;
use mailbox::Mailboxes;
use pass_through::PassThrough;

/// What becomes of a login here.
pub(super) enum Backend {
    /// It goes to this server as it is.
    PassThrough(PassThrough),
    /// It is refused for the moment: only inventory is taken.
    Observe,
    /// It is verified, and its account's mailbox opened.
    Translate(Arc<Directory>),
}

/// Who is let in, and to what. All listeners that translate have it in common.
pub(super) struct Directory {
    pub(in crate::proxy) devices: Arc<Devices>,
    pub(in crate::proxy) mailboxes: Mailboxes,
}

/// The mail servers by name, with their roots loaded.
pub(super) type Servers = BTreeMap<String, Arc<Server>>;
