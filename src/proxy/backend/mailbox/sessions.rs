//! The sessions of one mailbox: how many there may be, and for how long the mail server throttles it. In a fleet each
//! session is borrowed from the other instances as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::{Account, Config};
use crate::fleet::{BorrowedSession, MailboxKey, MailboxSlots, SessionKind, Slots, Throttled};
use crate::proxy::backend::pace::Pace;

/// The sessions of one mailbox.
pub(super) struct Sessions {
    /// The key of the configuration that has the number.
    pub(super) key: &'static str,
    pub(super) most: usize,
    /// The number of permits that the semaphore has in all.
    of_before: AtomicUsize,
    pub(super) free: Arc<Semaphore>,
    /// The number of devices that wait for a session.
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) queue: Duration,
    /// The end of the time for which the server throttles the mailbox.
    quiet_until: Mutex<Option<Instant>>,
    pub(super) doubts: Mutex<Doubts>,
    messages_per_minute: u32,
    pace: Pace,
    /// The sessions that this instance borrows; none where it is alone.
    pub(super) fleet: Option<Arc<MailboxSlots>>,
}

/// The last troubles with a mailbox, whichever account, protocol or device has met them.
#[derive(Clone, Copy, Default)]
pub(super) struct Doubts {
    /// The last time that the mail server has refused something, or has broken off a connection.
    pub(super) troubled: Option<Instant>,
    /// The last time that the mail server has refused something.
    pub(super) refused: Option<Instant>,
}

/// A reserved session of a mailbox. Dropping it frees the session.
pub(in crate::proxy) struct Admission {
    _borrowed: Option<BorrowedSession>,
    _permit: OwnedSemaphorePermit,
}

/// The sessions of an account's mailbox in a fleet.
pub(super) fn of_fleet(slots: &Slots, account: &Account, submits: bool) -> Arc<MailboxSlots> {
    let kind = if submits { SessionKind::Sending } else { SessionKind::Reading };
    slots.mailbox(MailboxKey { upstream: account.upstream.clone(), mailbox: account.mailbox.to_lowercase(), kind })
}

impl Sessions {
    /// The sessions of a mailbox. Those that are open already count.
    pub(super) fn new(
        config: &Config,
        submits: bool,
        before: Option<&Sessions>,
        fleet: Option<Arc<MailboxSlots>>,
    ) -> Arc<Self> {
        let limits = &config.limits;
        let (key, most) = if submits {
            ("submission.connections_per_mailbox", limits.submission.connections_per_mailbox)
        } else {
            ("limits.sessions_per_mailbox", limits.sessions_per_mailbox)
        };
        let queue = limits.mailbox_queue;
        let (free, of_before, quiet_until) = match before {
            Some(before) => (Arc::clone(&before.free), before.most, *before.quiet_until.lock()),
            None => (Arc::new(Semaphore::new(most)), most, None),
        };
        Arc::new(Self {
            key,
            most,
            of_before: AtomicUsize::new(of_before),
            free,
            waiting: before.map(|before| Arc::clone(&before.waiting)).unwrap_or_default(),
            queue,
            quiet_until: Mutex::new(quiet_until),
            doubts: Mutex::new(before.map(|before| *before.doubts.lock()).unwrap_or_default()),
            messages_per_minute: limits.submission.messages_per_minute,
            pace: before.map_or_else(Pace::default, |before| Pace::after(&before.pace)),
            fleet,
        })
    }

    /// Puts the configured number of sessions into force.
    pub(super) fn begin(&self) {
        if let Some(slots) = &self.fleet {
            slots.limit(self.most, self.messages_per_minute);
        }
        let of_before = self.of_before.swap(self.most, Ordering::Relaxed);
        self.free.add_permits(self.most.saturating_sub(of_before));
        let too_many = of_before.saturating_sub(self.most);
        // Permits that are in use are removed when they come back.
        let taken = u32::try_from(too_many - self.free.forget_permits(too_many)).unwrap_or(u32::MAX);
        if taken > 0 {
            let free = Arc::clone(&self.free);
            tokio::spawn(async move {
                if let Ok(permits) = free.acquire_many_owned(taken).await {
                    permits.forget();
                }
            });
        }
    }

    /// Waits for a session: one of this process, and in a fleet one of all instances. None if there will be none.
    ///
    /// # Errors
    /// The mail server throttles the mailbox, as another instance has learnt.
    pub(super) async fn acquire(&self) -> Option<Result<Admission, Throttled>> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        let borrowed = match &self.fleet {
            // Boxed, so that a connection without a fleet is no larger for it.
            Some(slots) => match Box::pin(slots.acquire()).await {
                Ok(borrowed) => Some(borrowed),
                Err(throttled) => return Some(Err(throttled)),
            },
            None => None,
        };
        Some(Ok(Admission { _borrowed: borrowed, _permit: permit }))
    }

    /// Notes that the mail server throttles the mailbox for this time.
    pub(super) fn leave_alone(&self, wait: Duration) {
        if let Some(slots) = &self.fleet {
            slots.leave_alone(wait);
        }
        let until = Instant::now() + wait;
        let mut quiet_until = self.quiet_until.lock();
        *quiet_until = Some(quiet_until.map_or(until, |other| other.max(until)));
    }

    /// The end of the time for which the mail server throttles the mailbox.
    pub(super) fn quiet_until(&self) -> Option<Instant> {
        let known = *self.quiet_until.lock();
        match &self.fleet {
            Some(slots) => known.max(slots.quiet_until()),
            None => known,
        }
    }

    /// Counts a message that the mailbox has sent. Returns the wait before it sends the next one.
    pub(super) fn message_sent(&self) -> Duration {
        match &self.fleet {
            Some(slots) => slots.message_sent(),
            None => self.pace.count(self.messages_per_minute),
        }
    }
}
