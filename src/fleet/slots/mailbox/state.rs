//! The state of a mailbox's sessions at this instance. It knows no database: [`exchange`](super::exchange) asks that.

use std::time::Duration;

use tokio::time::Instant;

use super::super::pace::FleetPace;
use super::super::{MARGIN, SESSION_LIFE};
use crate::fleet::records::{Borrowed, HeldSession, SessionKind, Wanted};

#[derive(Default)]
pub(super) struct State {
    pub(super) held: Vec<Held>,
    /// Sessions that are about to be given back.
    pub(super) returned: Vec<HeldSession>,
    pub(super) in_use: usize,
    /// The most that were in use since the last renewal.
    pub(super) most_in_use: usize,
    pub(super) last_used: Option<Instant>,
    /// Sessions that are wanted of the database; 0 for none.
    pub(super) wanted: usize,
    /// The number of answers to that.
    pub(super) answers: u64,
    /// The last request for sessions that has failed, and none has succeeded since.
    pub(super) failed: Option<Instant>,
    /// The last answer without a session.
    pub(super) refused: Option<Instant>,
    /// The mailbox is in the list of requests, or its request is under way.
    pub(super) is_requesting: bool,
    pub(super) quiet_until: Option<Instant>,
    /// The database does not know yet that the mailbox is throttled.
    pub(super) is_quiet_unknown: bool,
    pub(super) others: Option<Others>,
    /// The last time that a session was given to others.
    pub(super) given: Option<Instant>,
    pub(super) pace: FleetPace,
}

/// A borrowed session, with the time at which this instance gives it up unless it is prolonged.
pub(super) struct Held {
    pub(super) session: HeldSession,
    pub(super) until: Instant,
}

/// The wishes of other instances, as last read.
pub(super) struct Others {
    pub(super) wanted: Wanted,
    pub(super) until: Instant,
}

/// The wishes of a mailbox to the database.
pub(super) struct Requests {
    pub(super) borrows: bool,
    pub(super) quiet: Option<Duration>,
    /// Messages whose time is given back.
    pub(super) unused: u32,
    /// Messages whose time is taken.
    pub(super) messages: u32,
}

impl State {
    /// The mailbox's wishes to the database; none where it has none, or none any more.
    pub(super) fn requests(&mut self, kind: SessionKind) -> Option<Requests> {
        let now = Instant::now();
        let is_used = self.last_used.is_some_and(|used| now - used < USED);
        let requests = Requests {
            borrows: self.wanted > 0,
            quiet: self.quiet_for(now).filter(|_| self.is_quiet_unknown),
            unused: self.pace.take_unused(),
            messages: match kind {
                SessionKind::Sending if is_used || self.pace.has_unpaid() => self.pace.needed(),
                SessionKind::Sending | SessionKind::Reading => 0,
            },
        };
        self.is_quiet_unknown &= requests.quiet.is_some();
        let wants = requests.borrows || requests.quiet.is_some() || requests.unused > 0 || requests.messages > 0;
        self.is_requesting = wants;
        wants.then_some(requests)
    }

    /// Returns whether a request has just failed: the instance's share counts then, as without the database.
    pub(super) fn has_just_failed(&self, now: Instant) -> bool {
        self.failed.is_some_and(|failed| now - failed < FAILURE)
    }

    /// Adds what is borrowed, and notes that the database has answered, or has failed to.
    pub(super) fn add(&mut self, answer: Option<Borrowed>, sent: Instant) {
        self.answers += 1;
        self.failed = answer.is_none().then(Instant::now);
        let Some(borrowed) = answer else { return };
        self.learn_quiet(borrowed.quiet, Instant::now());
        self.refused = borrowed.sessions.is_empty().then(Instant::now);
        let until = sent + SESSION_LIFE - MARGIN;
        for session in borrowed.sessions {
            // Its time was over, and the database has lent it anew.
            self.held.retain(|held| held.session.number != session.number);
            self.held.push(Held { session, until });
        }
    }

    /// Gives back a session that is not in use, if there is one. Returns whether there was.
    pub(super) fn give_back(&mut self) -> bool {
        if self.held.len() <= self.in_use {
            return false;
        }
        let earliest = self.held.iter().enumerate().min_by_key(|(_, held)| held.until).map(|(index, _)| index);
        let Some(index) = earliest else { return false };
        let held = self.held.swap_remove(index);
        self.returned.push(held.session);
        true
    }

    /// The number of sessions that are borrowed now.
    pub(super) fn valid(&self, now: Instant) -> usize {
        self.held.iter().filter(|held| held.until > now).count()
    }

    pub(super) fn quiet_for(&self, now: Instant) -> Option<Duration> {
        self.quiet_until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    pub(super) fn learn_quiet(&mut self, quiet: Option<Duration>, now: Instant) {
        if let Some(quiet) = quiet {
            let until = now + quiet;
            self.quiet_until = Some(self.quiet_until.map_or(until, |other| other.max(until)));
        }
    }

    /// The wishes of others that are still open.
    pub(super) fn others(&self, now: Instant) -> Option<Wanted> {
        let open = |others: &&Others| others.until > now && others.wanted.count > 0;
        self.others.as_ref().filter(open).map(|others| others.wanted)
    }

    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        self.others(now).is_some()
    }
}

/// The time after its last use for which a mailbox takes parts of its pace.
const USED: Duration = Duration::from_secs(5);
/// The time for which a failed request counts. Each login without a session makes another one.
const FAILURE: Duration = Duration::from_secs(1);
