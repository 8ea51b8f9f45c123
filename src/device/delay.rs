//! Delays after wrong passwords, twice as long each time: by source and by login, in bounded memory.
//!
//! A try begins once its source and its login are free: their delays are over, and no other try of theirs is without its
//! verdict. So many tries at once are as slow as one after the other, while right passwords pass each other on at once.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::source::Source;

/// The failures of all sources and logins.
///
/// They are counted in a fixed number of lanes, so that nobody can fill the memory with made-up names; the hash that
/// chooses a lane differs from start to start. An unknown login has a lane like every other.
pub(super) struct Delays {
    first: Duration,
    longest: Duration,
    hasher: RandomState,
    state: Mutex<State>,
    /// A try has begun, ended or been given up: another one may have its turn.
    changed: Notify,
}

struct State {
    lanes: Vec<Lane>,
    /// Tries that have not begun, in the order in which they came.
    waiting: BTreeMap<u64, [usize; 2]>,
    next: u64,
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

/// Somebody who tries to log in.
pub(super) struct Who {
    pub(super) source: Source,
    /// The login, in the one form that stands for all of its spellings.
    pub(super) name: String,
    /// The two have been seen together with the right password; they are counted for themselves.
    pub(super) is_familiar: bool,
}

/// A try that has begun. Dropping it without a verdict counts as nothing.
pub(super) struct Turn {
    delays: Arc<Delays>,
    lanes: [usize; 2],
}

/// A try that waits. Dropping it takes it off the queue.
struct Waiting<'a> {
    delays: &'a Delays,
    ticket: u64,
    lanes: [usize; 2],
    /// Since when failures, and not only other tries, hold it up.
    held_up: Option<Instant>,
}

enum Next {
    Begins,
    GivesUp,
    /// Until then, if nothing changes before.
    Waits(Option<Instant>),
}

impl Delays {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        let state = State { lanes: vec![Lane::default(); LANES], waiting: BTreeMap::new(), next: 0 };
        let (hasher, changed) = (RandomState::new(), Notify::new());
        Self { first, longest: longest.max(first), hasher, state: Mutex::new(state), changed }
    }

    /// Whether the other ones are as long.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.first, self.longest) == (other.first, other.longest)
    }

    /// Waits for the turn of this source and login; none comes where failures hold it up for longer than the longest delay.
    pub(super) async fn turn(self: &Arc<Self>, who: &Who) -> Option<Turn> {
        let mut waiting = self.queue(self.lanes(who));
        loop {
            // Before the look: what changes behind it is heard.
            let changed = self.changed.notified();
            match waiting.next() {
                Next::Begins => return Some(Turn { delays: Arc::clone(self), lanes: waiting.lanes }),
                Next::GivesUp => return None,
                Next::Waits(None) => changed.await,
                Next::Waits(Some(until)) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    fn queue(&self, lanes: [usize; 2]) -> Waiting<'_> {
        let mut state = self.state();
        let ticket = state.next;
        state.next += 1;
        state.waiting.insert(ticket, lanes);
        Waiting { delays: self, ticket, lanes, held_up: None }
    }

    fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    /// First that of its source, then that of its login.
    fn lanes(&self, who: &Who) -> [usize; 2] {
        if who.is_familiar {
            return [self.lane((2_u8, who.source, &who.name)); 2];
        }
        [self.lane((0_u8, who.source)), self.lane((1_u8, &who.name))]
    }

    fn lane(&self, key: impl Hash) -> usize {
        usize::try_from(self.hasher.hash_one(key) % LANES as u64).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    fn next(&mut self) -> Next {
        let now = Instant::now();
        let mut state = self.delays.state();
        for lane in each(self.lanes) {
            state.change(lane, |lane| lane.forget(now));
        }
        if state.is_free(self.lanes, now) && !state.is_overtaken(self.ticket, self.lanes, now) {
            for lane in each(self.lanes) {
                state.change(lane, |lane| lane.under_way += 1);
            }
            return Next::Begins;
        }
        if !state.has_failed(self.lanes) {
            self.held_up = None;
            return Next::Waits(None);
        }
        let gives_up = *self.held_up.get_or_insert(now) + self.delays.longest;
        if now >= gives_up {
            return Next::GivesUp;
        }
        let opens = state.opens(self.lanes).filter(|opens| *opens > now);
        Next::Waits(Some(opens.map_or(gives_up, |opens| opens.min(gives_up))))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.delays.state().waiting.remove(&self.ticket);
        self.delays.changed.notify_waiters();
    }
}

impl Turn {
    /// The password was wrong.
    pub(super) fn failed(self) {
        let now = Instant::now();
        let mut state = self.delays.state();
        for lane in each(self.lanes) {
            state.change(lane, |lane| {
                lane.failures = lane.failures.saturating_add(1);
                lane.last = Some(now);
                lane.opens = Some(now + self.delays.delay(lane.failures)).max(lane.opens);
            });
        }
    }

    /// The password was right.
    pub(super) fn succeeded(self) {
        let mut state = self.delays.state();
        for lane in each(self.lanes) {
            state.change(lane, |lane| *lane = Lane { under_way: lane.under_way, ..Lane::default() });
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.delays.state();
        for lane in each(self.lanes) {
            state.change(lane, |lane| lane.under_way = lane.under_way.saturating_sub(1));
        }
        drop(state);
        self.delays.changed.notify_waiters();
    }
}

impl State {
    fn change(&mut self, lane: usize, change: impl FnOnce(&mut Lane)) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            change(lane);
        }
    }

    fn lanes(&self, lanes: [usize; 2]) -> impl Iterator<Item = &Lane> {
        lanes.into_iter().filter_map(|lane| self.lanes.get(lane))
    }

    fn is_free(&self, lanes: [usize; 2], now: Instant) -> bool {
        self.lanes(lanes).all(|lane| lane.is_free(now))
    }

    fn has_failed(&self, lanes: [usize; 2]) -> bool {
        self.lanes(lanes).any(|lane| lane.failures > 0)
    }

    fn opens(&self, lanes: [usize; 2]) -> Option<Instant> {
        self.lanes(lanes).filter_map(|lane| lane.opens).max()
    }

    /// Whether another try that could begin has a better claim to one of these lanes: a source without failures comes
    /// first, then whoever came first.
    fn is_overtaken(&self, ticket: u64, lanes: [usize; 2], now: Instant) -> bool {
        let claim = |ticket: u64, [of_source, _]: [usize; 2]| (self.has_failed([of_source; 2]), ticket);
        let own = claim(ticket, lanes);
        self.waiting.iter().any(|(&other, &theirs)| {
            theirs.iter().any(|lane| lanes.contains(lane)) && claim(other, theirs) < own && self.is_free(theirs, now)
        })
    }
}

impl Lane {
    fn is_free(&self, now: Instant) -> bool {
        let at_once = if self.failures == 0 { AT_ONCE } else { 1 };
        self.under_way < at_once && self.opens.is_none_or(|opens| opens <= now)
    }

    fn forget(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.duration_since(last) > FORGOTTEN) {
            *self = Self { under_way: self.under_way, ..Self::default() };
        }
    }
}

/// Two lanes may be one.
fn each([one, other]: [usize; 2]) -> impl Iterator<Item = usize> {
    std::iter::once(one).chain((other != one).then_some(other))
}

/// Tries of one source or login that may be under way while none has failed: as many as passwords are verified at a time,
/// so that nobody who has the right one waits for more than that.
const AT_ONCE: usize = crate::pool::PASSWORD_RUNS;
/// 200 KiB of them.
const LANES: usize = 4096;
/// Failures older than this do not count.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    use tokio::task::JoinSet;
    use tokio::time::sleep;

    const LONGEST: Duration = Duration::from_secs(15);
    /// What a verdict takes.
    const RUN: Duration = Duration::from_millis(20);

    fn delays() -> Arc<Delays> {
        Arc::new(Delays::new(Duration::from_millis(500), LONGEST))
    }

    fn who(source: u8, name: &str) -> Who {
        let source = std::net::IpAddr::from(Ipv4Addr::new(192, 0, 2, source)).into();
        Who { source, name: name.to_owned(), is_familiar: false }
    }

    /// A try: when it began, and when it was over.
    async fn attempt(delays: Arc<Delays>, who: Who, is_right: bool) -> (Option<Duration>, Duration) {
        let came = Instant::now();
        let turn = delays.turn(&who).await;
        let began = turn.is_some().then(|| came.elapsed());
        if let Some(turn) = turn {
            sleep(RUN).await;
            if is_right { turn.succeeded() } else { turn.failed() }
        }
        (began, came.elapsed())
    }

    fn nothing_is_held(delays: &Delays) -> bool {
        let state = delays.state();
        state.waiting.is_empty() && state.lanes.iter().all(|lane| lane.under_way == 0)
    }

    /// Of fifty wrong passwords at once no more are looked at than of fifty that come one after the other.
    #[tokio::test(start_paused = true)]
    async fn a_burst_of_wrong_passwords_is_held_to_the_rate() {
        for one_name in [true, false] {
            let delays = delays();
            let mut tries = JoinSet::new();
            for number in 0..50 {
                // From one source by many names, or by one name from many sources.
                let who = if one_name { who(number, "scanner3") } else { who(1, &format!("guess{number}")) };
                tries.spawn(attempt(Arc::clone(&delays), who, false));
            }
            let ended = tries.join_all().await;
            let mut began: Vec<_> = ended.iter().filter_map(|(began, _)| *began).map(|began| began.as_secs()).collect();
            began.sort_unstable();
            assert_eq!(began, [0, 0, 1, 3, 7], "in seconds, with one name: {one_name}");
            assert!(ended.iter().all(|(_, over)| *over <= LONGEST + 10 * RUN), "{ended:?}");
            assert!(nothing_is_held(&delays));
        }
    }

    /// Twelve devices behind one address, which all start when the power comes back.
    #[tokio::test(start_paused = true)]
    async fn right_passwords_from_one_source_pass_each_other_on() {
        for wrong in [0_u8, 1] {
            let delays = delays();
            let mut tries = JoinSet::new();
            for number in 0..12 {
                tries.spawn(attempt(Arc::clone(&delays), who(1, &format!("scanner{number}")), number >= wrong));
            }
            let longest = tries.join_all().await.into_iter().map(|(began, _)| began.unwrap()).max().unwrap();
            let delay = Duration::from_millis(500) * u32::from(wrong);
            assert!(longest <= delay + 10 * RUN, "{longest:?}, with {wrong} wrong");
        }
    }

    /// Whoever guesses a login all the time has one try; the next one is the device's.
    #[tokio::test(start_paused = true)]
    async fn a_source_without_failures_comes_first() {
        let delays = delays();
        for _ in 0..6 {
            attempt(Arc::clone(&delays), who(1, "scanner3"), false).await;
        }
        let guesses: Vec<_> = (0..4)
            .map(|_| {
                let delays = Arc::clone(&delays);
                tokio::spawn(async move {
                    loop {
                        attempt(Arc::clone(&delays), who(1, "scanner3"), false).await;
                    }
                })
            })
            .collect();
        sleep(Duration::from_secs(7)).await;
        let (began, _) = attempt(Arc::clone(&delays), who(2, "scanner3"), true).await;
        assert!(began.is_some_and(|began| began <= LONGEST), "{began:?}");
        guesses.iter().for_each(tokio::task::JoinHandle::abort);
    }

    /// Whenever devices leave, whoever is right or wrong: what a try takes is given back, and nobody waits for longer than
    /// the longest delay.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_when_tries_are_cancelled_at_any_point() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..50 {
            let delays = delays();
            let mut tries = JoinSet::new();
            for _ in 0..60 {
                let (delays, who) = (Arc::clone(&delays), who(random(4) as u8, ["a", "b", "c"][random(3) as usize]));
                let (comes, stays, is_right) = (random(20_000), random(30_000), random(4) == 0);
                tries.spawn(async move {
                    sleep(Duration::from_millis(comes)).await;
                    let attempt = attempt(delays, who, is_right);
                    tokio::time::timeout(Duration::from_millis(stays), attempt).await.ok()
                });
            }
            for (_, over) in tries.join_all().await.into_iter().flatten() {
                // Beside the delay, verdicts of others are waited for: one at a time where one has failed.
                assert!(over <= LONGEST + 60 * RUN, "{over:?}");
            }
            assert!(nothing_is_held(&delays));
        }
    }
}
