//! The sharing of a mailbox's sessions between devices and a connection that is parked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::Mailbox;

impl Mailbox {
    /// Returns whether a connection that is logged in for the other mailbox is logged in for this one as well: the same
    /// mailbox of the same server, by the same identity and person.
    pub(in crate::proxy) fn shares_login_with(&self, other: &Self) -> bool {
        let is_same_server =
            Arc::ptr_eq(&self.server, &other.server) && self.account.upstream == other.account.upstream;
        is_same_server && self.account.identity == other.account.identity && self.stands_in_for(other).is_ok()
    }

    /// Returns whether a device waits for a session of the mailbox, at this instance or at another one.
    pub(in crate::proxy) fn is_waited_for(&self) -> bool {
        self.sessions.waiting.load(Ordering::SeqCst) > 0
            || self.sessions.fleet.as_ref().is_some_and(|slots| slots.is_wanted())
    }

    /// Returns whether no session of the mailbox is free now.
    pub(in crate::proxy) fn has_no_session(&self) -> bool {
        self.sessions.free.available_permits() == 0
            || self.sessions.fleet.as_ref().is_some_and(|slots| slots.is_exhausted())
    }

    /// Notes that a device is about to wait for a session of the mailbox, for as long as the result lives.
    pub(in crate::proxy) fn waiting(&self) -> Waiting {
        Waiting::begin(&self.sessions.waiting)
    }

    /// Returns whether the mail server throttles the mailbox.
    pub(in crate::proxy) fn is_left_alone(&self) -> bool {
        self.sessions.quiet_until().is_some_and(|until| until > Instant::now())
    }
}

/// A device that waits for a session of a mailbox.
pub(in crate::proxy) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
