//! Conditions under which nobody begins to renew: the record does not open, the person has signed out, a pause is on, or the
//! database came back a moment ago.
//!
//! A failover may lose the last commits, and a backup has none of those since. An instance that knows only the refresh
//! token before cannot see that. So at an endpoint that takes each one once nobody begins for [`SETTLING`] behind such a
//! change: the instances that know newer ones bring them meanwhile. The local disk has the origin as well, so that a change
//! is seen behind a start.

use std::time::Duration;

use tokio::time::Instant;

use super::{Holder, LeasedSignIn, NotRenewed, is_signed_out};
use crate::fleet::records::{Origin, SignIn};

/// The origin of the last answer.
pub(super) struct KnownOrigin {
    origin: Origin,
    /// The time when an answer came from there for the first time; none where all have come from there.
    changed: Option<Instant>,
}

impl LeasedSignIn {
    /// The sign-in of an instance whose last answer, before it started, came from there.
    #[must_use]
    pub fn with_origin(self, origin: Option<Origin>) -> Self {
        *self.origin.lock() = origin.map(|origin| KnownOrigin { origin, changed: None });
        self
    }

    /// Returns where the last answer came from.
    pub fn origin(&self) -> Option<Origin> {
        self.origin.lock().as_ref().map(|known| known.origin.clone())
    }

    /// Forgets where answers come from: the database has the newest refresh token from this instance.
    pub(super) fn forget_origin(&self) {
        *self.origin.lock() = None;
    }

    /// Notes where an answer comes from.
    pub(super) fn note_origin(&self, origin: &Origin) {
        let mut known = self.origin.lock();
        if known.as_ref().is_none_or(|known| known.origin != *origin) {
            let changed = known.is_some().then(Instant::now);
            *known = Some(KnownOrigin { origin: origin.clone(), changed });
        }
    }

    /// Returns whether other instances may be about to bring a newer refresh token.
    fn is_settling(&self) -> bool {
        let known = self.origin.lock();
        let changed = known.as_ref().and_then(|known| known.changed);
        changed.is_some_and(|changed| changed.elapsed() < SETTLING)
    }

    /// Returns why nobody is to begin with this state of the sign-in. An instance that cannot open the record takes no
    /// lease: the others would wait for it.
    pub(super) fn check<H: Holder>(&self, holder: &H, row: &SignIn) -> Result<(), NotRenewed<H::Error>> {
        let record = self.open_record(row.generation, &row.sealed).ok_or(NotRenewed::OtherKey)?;
        if is_signed_out(&record) {
            return Err(NotRenewed::SignedOut);
        }
        if let Some(left) = row.pause {
            return Err(NotRenewed::Paused { left, trouble: row.trouble.clone().unwrap_or_default() });
        }
        if holder.is_strict() && self.is_settling() { Err(NotRenewed::Held) } else { Ok(()) }
    }
}

/// The time for which other instances may take to reach a database that is back, and to bring what they know: the pause
/// between two attempts to connect, the interval of the registration, and a few statements.
const SETTLING: Duration = Duration::from_secs(30);
