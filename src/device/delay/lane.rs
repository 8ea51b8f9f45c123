//! Lanes of tries: what is counted of each source, login and known device, and which of the tries that wait comes next.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Turn;

/// The lanes that have something to count, in bounded memory, and the queues before them.
pub(super) struct Lanes {
    /// Tries of one lane that may be under way while none has failed.
    at_once: usize,
    /// By a keyed hash of what the lane is for.
    lanes: HashMap<u64, Lane>,
    /// Tries that have not begun, by tickets in the order in which they came.
    waiting: HashMap<u64, Waiting>,
    next: u64,
}

/// The lanes of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// Of its source, or of the known device at that source.
    pub(super) own: u64,
    /// Of its login. It counts for those whose source has failed already.
    pub(super) login: Option<u64>,
}

/// A try that waits.
pub(super) struct Waiting {
    pub(super) keys: Keys,
    pub(super) begins: oneshot::Sender<Turn>,
    /// It is to look again for how long it waits.
    pub(super) look: Arc<Notify>,
    /// When it looks again by itself.
    pub(super) looks: Instant,
}

#[derive(Default)]
struct Lane {
    failures: u32,
    last: Option<Instant>,
    /// The next try may not begin before.
    opens: Option<Instant>,
    /// Tries that have begun, and have no verdict yet.
    under_way: usize,
    /// Tickets of those that wait.
    waiting: BTreeSet<u64>,
}

impl Lanes {
    pub(super) fn new(at_once: usize) -> Self {
        Self { at_once, lanes: HashMap::new(), waiting: HashMap::new(), next: 0 }
    }

    /// The ticket of one more that waits; none where too many of its own lane do.
    pub(super) fn queue(&mut self, waiting: Waiting, now: Instant) -> Option<u64> {
        if self.lanes.len() >= MOST {
            self.make_room(now);
        }
        let Keys { own, login } = waiting.keys;
        let lane = self.lanes.entry(own).or_default();
        lane.forget(now);
        if lane.waiting.len() >= WAITING {
            return None;
        }
        let ticket = self.next;
        self.next += 1;
        lane.waiting.insert(ticket);
        if let Some(login) = login {
            let lane = self.lanes.entry(login).or_default();
            lane.forget(now);
            lane.waiting.insert(ticket);
        }
        self.waiting.insert(ticket, waiting);
        Some(ticket)
    }

    /// Takes a try out of the queue.
    pub(super) fn leave(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        self.change(waiting.keys, |lane| {
            lane.waiting.remove(&ticket);
        });
        Some(waiting)
    }

    /// Takes every try out of the queues of these lanes that begins now: whose source has failed least, and then who came
    /// first.
    pub(super) fn begin(&mut self, keys: Keys, now: Instant) -> Vec<Waiting> {
        let mut begun = Vec::new();
        for key in [Some(keys.own), keys.login].into_iter().flatten() {
            while let Some(ticket) = self.first(key, now) {
                let Some(waiting) = self.take(ticket) else { break };
                begun.push(waiting);
            }
        }
        begun
    }

    /// When a try looks again: when the delays that it waits for are over, or at the deadline.
    pub(super) fn looks(&mut self, ticket: u64, deadline: Instant, now: Instant) -> Instant {
        let Some(keys) = self.waiting.get(&ticket).map(|waiting| waiting.keys) else { return deadline };
        let opens = self.relevant(keys).filter_map(|lane| lane.opens).max().filter(|opens| *opens > now);
        let looks = opens.map_or(deadline, |opens| opens.min(deadline));
        self.waiting.get_mut(&ticket).into_iter().for_each(|waiting| waiting.looks = looks);
        looks
    }

    /// A try that has begun is over. Those that wait for the same look again, if they would do so too late.
    pub(super) fn end(&mut self, keys: Keys) {
        self.change(keys, |lane| lane.under_way = lane.under_way.saturating_sub(1));
        for key in [Some(keys.own), keys.login].into_iter().flatten() {
            let Some(lane) = self.lanes.get(&key) else { continue };
            let Some(opens) = lane.opens else { continue };
            for waiting in lane.waiting.iter().filter_map(|ticket| self.waiting.get(ticket)) {
                if waiting.looks > opens && (key == keys.own || self.has_failed(waiting.keys.own)) {
                    waiting.look.notify_one();
                }
            }
        }
    }

    /// The password was wrong: the next try waits, for what so many failures are worth.
    pub(super) fn fail(&mut self, keys: Keys, now: Instant, delay: impl Fn(u32) -> Duration) {
        self.change(keys, |lane| {
            lane.failures = lane.failures.saturating_add(1);
            lane.last = Some(now);
            lane.opens = Some(now + delay(lane.failures)).max(lane.opens);
        });
    }

    /// The password was right.
    pub(super) fn succeed(&mut self, keys: Keys) {
        self.change(keys, Lane::clear);
    }

    /// Whether no try waits or is under way.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.waiting.is_empty() && self.lanes.values().all(|lane| lane.under_way == 0 && lane.waiting.is_empty())
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Of those that wait in a lane and may begin.
    fn first(&self, key: u64, now: Instant) -> Option<u64> {
        let lane = self.lanes.get(&key)?;
        if !lane.waiting.iter().next().is_some_and(|_| lane.is_free(self.at_once, now)) {
            return None;
        }
        let tickets = lane.waiting.iter().filter_map(|ticket| Some((*ticket, self.waiting.get(ticket)?.keys)));
        let may_begin = tickets.filter(|(_, keys)| self.relevant(*keys).all(|lane| lane.is_free(self.at_once, now)));
        may_begin.min_by_key(|(ticket, keys)| (self.failures(keys.own), *ticket)).map(|(ticket, _)| ticket)
    }

    fn take(&mut self, ticket: u64) -> Option<Waiting> {
        // Before it leaves: a lane that has nothing to count is gone.
        let keys = self.waiting.get(&ticket)?.keys;
        self.change(keys, |lane| lane.under_way += 1);
        self.leave(ticket)
    }

    /// Lanes that a try waits for: that of its login only once its own has failed, however long the queue is there.
    fn relevant(&self, keys: Keys) -> impl Iterator<Item = &Lane> {
        let login = keys.login.filter(|_| self.has_failed(keys.own));
        [Some(keys.own), login].into_iter().flatten().filter_map(|key| self.lanes.get(&key))
    }

    fn has_failed(&self, key: u64) -> bool {
        self.failures(key) > 0
    }

    fn failures(&self, key: u64) -> u32 {
        self.lanes.get(&key).map_or(0, |lane| lane.failures)
    }

    /// Changes the lanes of a try, and forgets those that have nothing to count any more.
    fn change(&mut self, keys: Keys, mut change: impl FnMut(&mut Lane)) {
        for key in [Some(keys.own), keys.login].into_iter().flatten() {
            let lane = self.lanes.entry(key).or_default();
            change(lane);
            if lane.is_idle() && lane.failures == 0 {
                self.lanes.remove(&key);
            }
        }
    }

    /// Forgets failures that do not count any more; and, if that does not help, the oldest quarter.
    fn make_room(&mut self, now: Instant) {
        self.lanes.values_mut().for_each(|lane| lane.forget(now));
        self.lanes.retain(|_, lane| lane.failures > 0 || !lane.is_idle());
        if self.lanes.len() < MOST {
            return;
        }
        let idle = self.lanes.iter().filter(|(_, lane)| lane.is_idle());
        let mut oldest: Vec<_> = idle.map(|(key, lane)| (lane.last, *key)).collect();
        oldest.sort_unstable();
        for (_, key) in oldest.into_iter().take(MOST / 4) {
            self.lanes.remove(&key);
        }
    }
}

impl Lane {
    fn is_free(&self, at_once: usize, now: Instant) -> bool {
        let at_once = if self.failures == 0 { at_once } else { 1 };
        self.under_way < at_once && self.opens.is_none_or(|opens| opens <= now)
    }

    fn is_idle(&self) -> bool {
        self.under_way == 0 && self.waiting.is_empty()
    }

    fn forget(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.duration_since(last) > FORGOTTEN) {
            self.clear();
        }
    }

    fn clear(&mut self) {
        (self.failures, self.last, self.opens) = (0, None, None);
    }
}

/// Tries of one source, or of one known device at its source, that may wait.
const WAITING: usize = 256;
/// Lanes that are remembered while no try is in them: some 4 MiB.
pub(super) const MOST: usize = 32_768;
/// Failures older than this do not count.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
