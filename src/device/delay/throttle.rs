//! Throttles count the failures of each source, login and known device, and say which waiting try comes next.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Permit;

/// All throttles in use, in bounded memory, and their queues.
pub(super) struct Throttles {
    /// Tries of one throttle that may be under way while none has failed.
    at_once: usize,
    /// The throttles by a keyed hash of their subject.
    throttles: HashMap<u64, Throttle>,
    /// Tries that have not begun, by tickets in the order in which they came.
    waiting: HashMap<u64, Waiting>,
    next: u64,
}

/// The throttles of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// The throttle of the source, or of the known device at that source.
    pub(super) own: u64,
    /// The throttle of the login. It counts once the source has failed.
    pub(super) login: Option<u64>,
}

/// A try that waits.
pub(super) struct Waiting {
    pub(super) keys: Keys,
    pub(super) begins: oneshot::Sender<Permit>,
    /// Wakes the try to look again for how long it waits.
    pub(super) look: Arc<Notify>,
    /// The time when it looks again by itself.
    pub(super) looks: Instant,
}

#[derive(Default)]
struct Throttle {
    failures: u32,
    last: Option<Instant>,
    /// The next try begins no earlier.
    opens: Option<Instant>,
    /// Tries that have begun, and have no result yet.
    under_way: usize,
    /// Tickets of the tries that wait.
    waiting: BTreeSet<u64>,
}

impl Throttles {
    pub(super) fn new(at_once: usize) -> Self {
        Self { at_once, throttles: HashMap::new(), waiting: HashMap::new(), next: 0 }
    }

    /// Queues a try, and returns its ticket; none where too many of its own throttle wait.
    pub(super) fn queue(&mut self, waiting: Waiting, now: Instant) -> Option<u64> {
        if self.throttles.len() >= MOST {
            self.make_room(now);
        }
        let Keys { own, login } = waiting.keys;
        let throttle = self.throttles.entry(own).or_default();
        throttle.forget(now);
        if throttle.waiting.len() >= WAITING {
            return None;
        }
        let ticket = self.next;
        self.next += 1;
        throttle.waiting.insert(ticket);
        if let Some(login) = login {
            let throttle = self.throttles.entry(login).or_default();
            throttle.forget(now);
            throttle.waiting.insert(ticket);
        }
        self.waiting.insert(ticket, waiting);
        Some(ticket)
    }

    /// Takes a try out of the queue.
    pub(super) fn leave(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        self.change(waiting.keys, |throttle| {
            throttle.waiting.remove(&ticket);
        });
        Some(waiting)
    }

    /// Takes the tries that begin now out of the queues of these throttles: the source with the fewest failures first,
    /// then the earliest.
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

    /// Returns the time when a try looks again: when the delays that it waits for are over, or at the deadline.
    pub(super) fn looks(&mut self, ticket: u64, deadline: Instant, now: Instant) -> Instant {
        let Some(keys) = self.waiting.get(&ticket).map(|waiting| waiting.keys) else { return deadline };
        let opens = self.relevant(keys).filter_map(|throttle| throttle.opens).max().filter(|opens| *opens > now);
        let looks = opens.map_or(deadline, |opens| opens.min(deadline));
        self.waiting.get_mut(&ticket).into_iter().for_each(|waiting| waiting.looks = looks);
        looks
    }

    /// Ends a try. Tries that wait for the same throttles look again, if they would do so too late.
    pub(super) fn end(&mut self, keys: Keys) {
        self.change(keys, |throttle| throttle.under_way = throttle.under_way.saturating_sub(1));
        for key in [Some(keys.own), keys.login].into_iter().flatten() {
            let Some(throttle) = self.throttles.get(&key) else { continue };
            let Some(opens) = throttle.opens else { continue };
            for waiting in throttle.waiting.iter().filter_map(|ticket| self.waiting.get(ticket)) {
                if waiting.looks > opens && (key == keys.own || self.has_failed(waiting.keys.own)) {
                    waiting.look.notify_one();
                }
            }
        }
    }

    /// Counts a wrong password: the next try waits for the delay of so many failures.
    pub(super) fn fail(&mut self, keys: Keys, now: Instant, delay: impl Fn(u32) -> Duration) {
        self.change(keys, |throttle| {
            throttle.failures = throttle.failures.saturating_add(1);
            throttle.last = Some(now);
            throttle.opens = Some(now + delay(throttle.failures)).max(throttle.opens);
        });
    }

    /// Clears the failures after a right password.
    pub(super) fn succeed(&mut self, keys: Keys) {
        self.change(keys, Throttle::clear);
    }

    /// Returns whether no try waits or is under way.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.throttles.values().all(|throttle| throttle.under_way == 0 && throttle.waiting.is_empty())
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.throttles.len()
    }

    /// Returns the first try that waits in a throttle and may begin.
    fn first(&self, key: u64, now: Instant) -> Option<u64> {
        let throttle = self.throttles.get(&key)?;
        if !throttle.waiting.iter().next().is_some_and(|_| throttle.is_free(self.at_once, now)) {
            return None;
        }
        let tickets = throttle.waiting.iter().filter_map(|ticket| Some((*ticket, self.waiting.get(ticket)?.keys)));
        let may_begin =
            tickets.filter(|(_, keys)| self.relevant(*keys).all(|throttle| throttle.is_free(self.at_once, now)));
        may_begin.min_by_key(|(ticket, keys)| (self.failures(keys.own), *ticket)).map(|(ticket, _)| ticket)
    }

    fn take(&mut self, ticket: u64) -> Option<Waiting> {
        // The try counts as under way before it leaves, because a throttle that counts nothing is removed.
        let keys = self.waiting.get(&ticket)?.keys;
        self.change(keys, |throttle| throttle.under_way += 1);
        self.leave(ticket)
    }

    /// Returns the throttles that a try waits for: the login's only once its source has failed.
    fn relevant(&self, keys: Keys) -> impl Iterator<Item = &Throttle> {
        let login = keys.login.filter(|_| self.has_failed(keys.own));
        [Some(keys.own), login].into_iter().flatten().filter_map(|key| self.throttles.get(&key))
    }

    fn has_failed(&self, key: u64) -> bool {
        self.failures(key) > 0
    }

    fn failures(&self, key: u64) -> u32 {
        self.throttles.get(&key).map_or(0, |throttle| throttle.failures)
    }

    /// Changes the throttles of a try, and forgets those that have nothing to count any more.
    fn change(&mut self, keys: Keys, mut change: impl FnMut(&mut Throttle)) {
        for key in [Some(keys.own), keys.login].into_iter().flatten() {
            let throttle = self.throttles.entry(key).or_default();
            change(throttle);
            if throttle.is_idle() && throttle.failures == 0 {
                self.throttles.remove(&key);
            }
        }
    }

    /// Forgets failures that no longer count; if that does not help, the oldest quarter.
    fn make_room(&mut self, now: Instant) {
        self.throttles.values_mut().for_each(|throttle| throttle.forget(now));
        self.throttles.retain(|_, throttle| throttle.failures > 0 || !throttle.is_idle());
        if self.throttles.len() < MOST {
            return;
        }
        let idle = self.throttles.iter().filter(|(_, throttle)| throttle.is_idle());
        let mut oldest: Vec<_> = idle.map(|(key, throttle)| (throttle.last, *key)).collect();
        oldest.sort_unstable();
        for (_, key) in oldest.into_iter().take(MOST / 4) {
            self.throttles.remove(&key);
        }
    }
}

impl Throttle {
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
/// Throttles that are remembered while no try is in them: some 4 MiB.
pub(super) const MOST: usize = 32_768;
/// Failures older than this do not count.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
