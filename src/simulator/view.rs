//! A view is a folder as one session sees it: whole, or without the messages that came after the login.

use std::sync::Arc;

use super::mailbox::{Contents, Mailbox};
use super::world::World;

/// A folder in a session.
#[derive(Clone)]
pub(super) struct View {
    world: Arc<World>,
    /// The folder itself, which changes go to.
    pub(super) mailbox: Arc<Mailbox>,
    /// The folder's UIDNEXT at the session's login.
    at_login: u32,
}

impl View {
    pub(super) fn new(world: &Arc<World>, mailbox: Arc<Mailbox>) -> Self {
        let at_login = mailbox.next_uid();
        Self { world: Arc::clone(world), mailbox, at_login }
    }

    /// A snapshot of the messages that the session sees.
    pub(super) fn contents(&self) -> Contents {
        let contents = self.mailbox.contents();
        if self.world.quirk(|quirks| quirks.imap.stale_views) { contents.before(self.at_login) } else { contents }
    }
}
