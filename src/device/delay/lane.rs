//! Lanes of tries: what is counted of each source and login, and who of those that wait comes next.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Turn;

/// A fixed number of lanes, so that nobody can fill the memory with made-up names, and the queue before them.
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    /// Tries that have not begun, in the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
}

/// The lanes of a try: that of its source, then that of its login. They may be one.
pub(super) type Pair = [usize; 2];

/// A try that waits.
pub(super) struct Waiting {
    pub(super) lanes: Pair,
    pub(super) begins: oneshot::Sender<Turn>,
}

#[derive(Clone, Copy, Default)]
struct Lane {
    failures: u32,
    last: Option<Instant>,
    /// The next try may not begin before.
    opens: Option<Instant>,
    /// Tries that have begun, and have no verdict yet.
    under_way: usize,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self { lanes: vec![Lane::default(); COUNT], waiting: BTreeMap::new(), next: 0 }
    }

    /// The lane that a hash chooses.
    pub(super) fn of(hash: u64) -> usize {
        usize::try_from(hash % COUNT as u64).unwrap_or_default()
    }

    /// The ticket of one more that waits.
    pub(super) fn queue(&mut self, waiting: Waiting) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, waiting);
        ticket
    }

    pub(super) fn leave(&mut self, ticket: u64) {
        self.waiting.remove(&ticket);
    }

    /// Takes every try out of the queue that begins now: first those of sources without failures, then whoever came first.
    pub(super) fn begin(&mut self, now: Instant) -> Vec<Waiting> {
        let waiting: Vec<(u64, Pair)> = self.waiting.iter().map(|(ticket, waiting)| (*ticket, waiting.lanes)).collect();
        let mut claims = Vec::with_capacity(waiting.len());
        for (ticket, lanes) in waiting {
            self.change(lanes, |lane| lane.forget(now));
            let [of_source, _] = lanes;
            claims.push((self.has_failed([of_source; 2]), ticket, lanes));
        }
        claims.sort_unstable();
        let mut begun = Vec::new();
        for (_, ticket, lanes) in claims {
            if self.of_pair(lanes).all(|lane| lane.is_free(now)) {
                self.change(lanes, |lane| lane.under_way += 1);
                begun.extend(self.waiting.remove(&ticket));
            }
        }
        begun
    }

    /// A try that has begun is over.
    pub(super) fn end(&mut self, lanes: Pair) {
        self.change(lanes, |lane| lane.under_way = lane.under_way.saturating_sub(1));
    }

    /// The password was wrong: the next try waits, for what so many failures are worth.
    pub(super) fn fail(&mut self, lanes: Pair, now: Instant, delay: impl Fn(u32) -> Duration) {
        self.change(lanes, |lane| {
            lane.failures = lane.failures.saturating_add(1);
            lane.last = Some(now);
            lane.opens = Some(now + delay(lane.failures)).max(lane.opens);
        });
    }

    /// The password was right.
    pub(super) fn succeed(&mut self, lanes: Pair) {
        self.change(lanes, Lane::clear);
    }

    pub(super) fn has_failed(&self, lanes: Pair) -> bool {
        self.of_pair(lanes).any(|lane| lane.failures > 0)
    }

    /// Whether a try of one of them has no verdict yet.
    pub(super) fn are_busy(&self, lanes: Pair) -> bool {
        self.of_pair(lanes).any(|lane| lane.under_way > 0)
    }

    /// When the delays of both are over.
    pub(super) fn opens(&self, lanes: Pair) -> Option<Instant> {
        self.of_pair(lanes).filter_map(|lane| lane.opens).max()
    }

    /// Whether no try waits or is under way.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.waiting.is_empty() && self.lanes.iter().all(|lane| lane.under_way == 0)
    }

    fn of_pair(&self, lanes: Pair) -> impl Iterator<Item = &Lane> {
        lanes.into_iter().filter_map(|lane| self.lanes.get(lane))
    }

    fn change(&mut self, [one, other]: Pair, mut change: impl FnMut(&mut Lane)) {
        for lane in std::iter::once(one).chain((other != one).then_some(other)) {
            self.lanes.get_mut(lane).into_iter().for_each(&mut change);
        }
    }
}

impl Lane {
    fn is_free(&self, now: Instant) -> bool {
        let at_once = if self.failures == 0 { AT_ONCE } else { 1 };
        self.under_way < at_once && self.opens.is_none_or(|opens| opens <= now)
    }

    fn forget(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.duration_since(last) > FORGOTTEN) {
            self.clear();
        }
    }

    fn clear(&mut self) {
        *self = Self { under_way: self.under_way, ..Self::default() };
    }
}

/// Tries of one source or login that may be under way while none has failed: as many as passwords are verified at a time,
/// so that nobody who has the right one waits for more than that.
const AT_ONCE: usize = crate::pool::PASSWORD_RUNS;
/// 200 KiB of them.
const COUNT: usize = 4096;
/// Failures older than this do not count.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
