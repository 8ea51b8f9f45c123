//! The sharing of a mailbox's sessions between devices and a connection that is parked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::Mailbox;
use super::sessions::Doubts;

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

    /// Notes that the mail server has refused something in the mailbox. The next login of each account and protocol
    /// probes it, and no connection is parked that is older than this.
    pub(super) fn doubt(&self) {
        let now = Some(Instant::now());
        *self.sessions.doubts.lock() = Doubts { troubled: now, refused: now };
    }

    /// Notes that the mail server has broken off a connection of the mailbox. The next login probes it.
    pub(in crate::proxy) fn connection_lost(&self) {
        self.sessions.doubts.lock().troubled = Some(Instant::now());
    }

    /// Returns whether the mail server has refused something since then, or has broken off a connection.
    pub(super) fn is_in_trouble_since(&self, since: Instant) -> bool {
        self.sessions.doubts.lock().troubled.is_some_and(|at| at >= since)
    }

    /// Returns whether the mail server has refused something in the mailbox since then, or throttles it.
    pub(in crate::proxy) fn is_refused_since(&self, since: Instant) -> bool {
        self.sessions.doubts.lock().refused.is_some_and(|at| at >= since) || self.is_left_alone()
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
