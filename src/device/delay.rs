//! Delays after wrong passwords, twice as long each time: by source and by login, in bounded memory.
//!
//! A try begins once its source and its login are free: their delays are over, and no other try of theirs is without its
//! verdict. So many tries at once are as slow as one after the other, while right passwords pass each other on at once.

mod lane;

use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::source::Source;
use lane::{Lanes, Pair, Waiting};

/// The failures of all sources and logins. An unknown login is like every other.
pub(super) struct Delays {
    first: Duration,
    longest: Duration,
    /// Differs from start to start, so that nobody knows who shares a lane.
    hasher: Hasher,
    lanes: Mutex<Lanes>,
    /// A try is over: others may have to wait for something else.
    ended: Notify,
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
    lanes: Pair,
}

/// A place in the queue. Dropping it gives it up.
struct Place<'a> {
    delays: &'a Delays,
    ticket: u64,
    lanes: Pair,
    /// Since when failures, and not the verdict of another try, hold it up.
    held_up: Option<Instant>,
}

/// How long a try waits for its turn, if nothing changes.
enum Wait {
    /// For the verdict of others.
    Open,
    Until(Instant),
    Over,
}

impl Delays {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        let (hasher, lanes, ended) = (Hasher::default(), Mutex::new(Lanes::new()), Notify::new());
        Self { first, longest: longest.max(first), hasher, lanes, ended }
    }

    /// Whether the other ones are as long.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.first, self.longest) == (other.first, other.longest)
    }

    /// Waits for the turn of this source and login; none comes where failures hold it up for longer than the longest delay.
    pub(super) async fn turn(self: &Arc<Self>, who: &Who) -> Option<Turn> {
        let (begins, mut turn) = oneshot::channel();
        let mut place = self.queue(Waiting { lanes: self.pair(who), begins });
        loop {
            // Before the look: what ends behind it is heard.
            let ended = self.ended.notified();
            let until = match place.wait() {
                Wait::Open => None,
                Wait::Until(until) => Some(until),
                Wait::Over => return turn.try_recv().ok(),
            };
            tokio::select! {
                biased;
                turn = &mut turn => return turn.ok(),
                () = ended => {}
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => self.advance(),
            }
        }
    }

    fn queue(self: &Arc<Self>, waiting: Waiting) -> Place<'_> {
        let lanes = waiting.lanes;
        let ticket = self.lanes().queue(waiting);
        let place = Place { delays: self, ticket, lanes, held_up: None };
        self.advance();
        place
    }

    /// Begins every try that may.
    fn advance(self: &Arc<Self>) {
        let begun = self.lanes().begin(Instant::now());
        for Waiting { lanes, begins } in begun {
            // One that nobody waits for any more is dropped, and so over.
            drop(begins.send(Turn { delays: Arc::clone(self), lanes }));
        }
    }

    /// What so many failures are worth.
    fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    fn pair(&self, who: &Who) -> Pair {
        if who.is_familiar {
            return [self.lane((2_u8, who.source, &who.name)); 2];
        }
        [self.lane((0_u8, who.source)), self.lane((1_u8, &who.name))]
    }

    fn lane(&self, key: impl Hash) -> usize {
        Lanes::of(self.hasher.hash_one(key))
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no try waits or is under way.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.lanes().are_idle()
    }
}

impl Place<'_> {
    fn wait(&mut self) -> Wait {
        let now = Instant::now();
        let lanes = self.delays.lanes();
        if !lanes.has_failed(self.lanes) {
            self.held_up = None;
            return Wait::Open;
        }
        if self.held_up.is_none() && lanes.are_busy(self.lanes) {
            return Wait::Open;
        }
        let gives_up = *self.held_up.get_or_insert(now) + self.delays.longest;
        if now >= gives_up {
            return Wait::Over;
        }
        let opens = lanes.opens(self.lanes).filter(|opens| *opens > now);
        Wait::Until(opens.map_or(gives_up, |opens| opens.min(gives_up)))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.delays.lanes().leave(self.ticket);
    }
}

impl Turn {
    /// The password was wrong.
    pub(super) fn failed(self) {
        let delay = |failures| self.delays.delay(failures);
        self.delays.lanes().fail(self.lanes, Instant::now(), delay);
    }

    /// The password was right.
    pub(super) fn succeeded(self) {
        self.delays.lanes().succeed(self.lanes);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.delays.lanes().end(self.lanes);
        self.delays.advance();
        self.delays.ended.notify_waiters();
    }
}

/// Differs from start to start, so that nobody can choose names that meet in one place. Tests have the same one each time.
#[cfg(not(test))]
type Hasher = std::collections::hash_map::RandomState;
#[cfg(test)]
type Hasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

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
            assert!(delays.is_idle());
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

    /// The delay counts from the verdict that it follows, also for who came before that.
    #[tokio::test(start_paused = true)]
    async fn whoever_comes_before_a_verdict_waits_no_shorter_than_the_delay() {
        let delays = delays();
        for _ in 0..6 {
            attempt(Arc::clone(&delays), who(1, "scanner3"), false).await;
        }
        sleep(LONGEST).await;
        let guess = tokio::spawn(attempt(Arc::clone(&delays), who(1, "scanner3"), false));
        sleep(RUN / 2).await;
        let (began, _) = attempt(Arc::clone(&delays), who(2, "scanner3"), true).await;
        assert!(began.is_some_and(|began| began >= LONGEST), "{began:?}");
        guess.await.unwrap();
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
            assert!(delays.is_idle());
        }
    }
}
