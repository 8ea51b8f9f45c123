//! Delays after wrong passwords, doubled each time: by source and by login, in bounded memory.
//!
//! A source that has not failed is admitted at once, however many others try the same login. After a failure, the next
//! try of a source waits until its source and its login are free: their delays are over, and no other try of theirs is
//! under way. Many tries at once are therefore as slow as one after the other, while right passwords let the next one
//! in at once. A known device at its source is counted for itself alone.

mod throttle;

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::failure::{Failure, Kind};
use crate::source::Source;
use throttle::{Keys, Throttles, Waiting};

/// The failures of all sources and logins. An unknown login is like every other.
pub struct Delays {
    first: Duration,
    longest: Duration,
    /// Differs from start to start, so that nobody knows which names share a throttle.
    hasher: Hasher,
    throttles: Mutex<Throttles>,
}

/// The origin of a try: the source and the login.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The source of the connection.
    pub source: Source,
    /// The login, in the one form that stands for all of its spellings.
    pub name: String,
    /// The two have logged in together before; they are counted apart from others.
    pub is_familiar: bool,
}

/// A try that was admitted. Dropping it without a result counts as nothing.
pub struct Permit {
    delays: Arc<Delays>,
    keys: Keys,
}

/// A try that waits in the queue. Dropping it leaves the queue.
struct Queued<'a> {
    delays: &'a Delays,
    ticket: u64,
}

impl Delays {
    /// Delays with the one after the first failure, and the longest one.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self::with(first, longest, AT_ONCE)
    }

    /// Delays that also set how many tries of one source or login may be under way while none has failed.
    pub fn with(first: Duration, longest: Duration, at_once: usize) -> Self {
        let throttles = Mutex::new(Throttles::new(at_once));
        Self { first, longest: longest.max(first), hasher: Hasher::default(), throttles }
    }

    /// Returns whether the other delays are as long.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.first, self.longest) == (other.first, other.longest)
    }

    /// Waits until this source and login may try: at most the longest delay, and the time of other verifications.
    ///
    /// # Errors
    /// [`Kind::NotVerified`]: the time is over, or too many tries wait already.
    pub async fn admit(self: &Arc<Self>, who: &Origin) -> Result<Permit, Failure> {
        let deadline = Instant::now() + self.longest + VERDICTS;
        let (begins, mut turn) = oneshot::channel();
        let look = Arc::new(Notify::new());
        let keys = self.keys(who);
        let waiting = Waiting { keys, begins, look: Arc::clone(&look), looks: deadline };
        let ticket = self.throttles().queue(waiting, Instant::now()).ok_or_else(|| not_verified(TOO_MANY))?;
        let place = Queued { delays: self, ticket };
        self.advance(keys);
        loop {
            let looks = self.throttles().looks(place.ticket, deadline, Instant::now());
            tokio::select! {
                biased;
                turn = &mut turn => return turn.map_err(|_| not_verified(TOO_LONG)),
                () = look.notified() => {}
                () = sleep_until(looks), if looks < deadline => self.advance(keys),
                () = sleep_until(deadline) => return turn.try_recv().map_err(|_| not_verified(TOO_LONG)),
            }
        }
    }

    /// Admits every try in these throttles that may begin.
    fn advance(self: &Arc<Self>, keys: Keys) {
        let begun = self.throttles().begin(keys, Instant::now());
        for Waiting { keys, begins, .. } in begun {
            // One that nobody waits for any more is dropped, and so over.
            drop(begins.send(Permit { delays: Arc::clone(self), keys }));
        }
    }

    /// Returns the delay after so many failures.
    fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    fn keys(&self, who: &Origin) -> Keys {
        if who.is_familiar {
            return Keys { own: self.key((2_u8, who.source, &who.name)), login: None };
        }
        Keys { own: self.key((0_u8, who.source)), login: Some(self.key((1_u8, &who.name))) }
    }

    fn key(&self, of: impl Hash) -> u64 {
        self.hasher.hash_one(of)
    }

    fn throttles(&self) -> MutexGuard<'_, Throttles> {
        self.throttles.lock()
    }

    /// Returns whether no try waits or is under way.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.throttles().are_idle()
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        // The queued try is dropped after the lock.
        let left = self.delays.throttles().leave(self.ticket);
        drop(left);
    }
}

impl Permit {
    /// Reports a wrong password.
    pub fn failed(self) {
        let delay = |failures| self.delays.delay(failures);
        self.delays.throttles().fail(self.keys, Instant::now(), delay);
    }

    /// Reports a right password.
    pub fn succeeded(self) {
        self.delays.throttles().succeed(self.keys);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.delays.throttles().end(self.keys);
        self.delays.advance(self.keys);
    }
}

fn not_verified(why: &str) -> Failure {
    Failure::new(Kind::NotVerified, why)
}

const TOO_LONG: &str =
    "too many wrong passwords of late, for this login or from this address: limits.longest_failure_delay";
const TOO_MANY: &str = "too many logins from this address wait already";
/// Tries under way at a time, as many as passwords are verified: a right password waits for no more than that.
const AT_ONCE: usize = crate::pool::PASSWORD_RUNS;
/// Time beside the longest delay for the verifications that a try waits for.
const VERDICTS: Duration = Duration::from_secs(5);

/// The hasher differs from start to start, so that nobody can choose names that collide. In tests it is always the
/// same.
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
    /// The time that a verification takes.
    const RUN: Duration = Duration::from_millis(20);

    fn delays() -> Arc<Delays> {
        Arc::new(Delays::new(Duration::from_millis(500), LONGEST))
    }

    fn who(source: u8, name: &str) -> Origin {
        let source = std::net::IpAddr::from(Ipv4Addr::new(192, 0, 2, source)).into();
        Origin { source, name: name.to_owned(), is_familiar: false }
    }

    /// A try: when it began, and when it was over.
    async fn attempt(delays: Arc<Delays>, who: Origin, is_right: bool) -> (Option<Duration>, Duration) {
        let came = Instant::now();
        let turn = delays.admit(&who).await;
        let began = turn.is_ok().then(|| came.elapsed());
        if let Ok(turn) = turn {
            sleep(RUN).await;
            if is_right { turn.succeeded() } else { turn.failed() }
        }
        (began, came.elapsed())
    }

    /// Fifty wrong passwords at once get no more verifications than fifty that come one after the other, where their
    /// sources have failed before.
    #[tokio::test(start_paused = true)]
    async fn a_burst_of_wrong_passwords_is_held_to_the_rate() {
        for one_name in [true, false] {
            let delays = delays();
            if one_name {
                let before =
                    (0..50).map(|number| attempt(Arc::clone(&delays), who(number, &number.to_string()), false));
                before.collect::<JoinSet<_>>().join_all().await;
                sleep(Duration::from_millis(500)).await;
            }
            let mut tries = JoinSet::new();
            for number in 0..50 {
                // The tries come from one source with many names, or from many sources with one name.
                let who = if one_name { who(number, "scanner3") } else { who(1, &format!("guess{number}")) };
                tries.spawn(attempt(Arc::clone(&delays), who, false));
            }
            let ended = tries.join_all().await;
            let mut began: Vec<_> = ended.iter().filter_map(|(began, _)| *began).map(|began| began.as_secs()).collect();
            began.sort_unstable();
            assert_eq!(began, [0, 0, 1, 3, 7, 15], "in seconds, with one name: {one_name}");
            assert!(ended.iter().all(|(_, over)| *over <= LONGEST + VERDICTS), "{ended:?}");
            assert!(delays.is_idle());
        }
    }

    /// However many others try the same login, each source that has not failed is looked at when it comes; once.
    #[tokio::test(start_paused = true)]
    async fn a_source_that_has_not_failed_waits_for_nobody() {
        let delays = delays();
        for round in 0..2 {
            let tries = (0..50).map(|number| attempt(Arc::clone(&delays), who(number, "scanner3"), false));
            let ended = tries.collect::<JoinSet<_>>().join_all().await;
            let at_once = ended.iter().filter(|(began, _)| *began == Some(Duration::ZERO)).count();
            assert_eq!(at_once, [50, 0][round], "{ended:?}");
        }
        assert_eq!(attempt(Arc::clone(&delays), who(51, "scanner3"), true).await.0, Some(Duration::ZERO));
    }

    /// One source cannot fill the queue of another one.
    #[tokio::test(start_paused = true)]
    async fn waiting_tries_of_one_source_are_limited() {
        let delays = delays();
        let tries = (0..300).map(|_| attempt(Arc::clone(&delays), who(1, "scanner3"), false)).collect::<JoinSet<_>>();
        let of_other = attempt(Arc::clone(&delays), who(2, "scanner3"), true).await;
        assert_eq!(of_other.0, Some(Duration::ZERO));
        let ended = tries.join_all().await;
        assert_eq!(ended.iter().filter(|(_, over)| over.is_zero()).count(), 300 - 256 - 2, "{ended:?}");
        assert!(delays.is_idle());
    }

    /// Failures of strangers fill no memory, and those of later ones count all the same.
    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let delays = delays();
        for number in 0..40_000_u32 {
            let source = std::net::IpAddr::from(Ipv4Addr::from(number)).into();
            let who = Origin { source, name: number.to_string(), is_familiar: false };
            delays.admit(&who).await.unwrap().failed();
        }
        assert!(delays.throttles().count() <= throttle::MOST, "{}", delays.throttles().count());
        let late = Origin {
            source: std::net::IpAddr::from(Ipv4Addr::from(39_999)).into(),
            name: String::new(),
            is_familiar: false,
        };
        let began = Instant::now();
        delays.admit(&late).await.unwrap().succeeded();
        assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
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

    /// A guesser of a login has one try at a time; the next one is the device's that has failed less often.
    #[tokio::test(start_paused = true)]
    async fn tries_with_fewer_failures_come_first() {
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
        attempt(Arc::clone(&delays), who(2, "scanner3"), false).await;
        let (began, _) = attempt(Arc::clone(&delays), who(2, "scanner3"), true).await;
        assert!(began.is_some_and(|began| began <= LONGEST), "{began:?}");
        guesses.iter().for_each(tokio::task::JoinHandle::abort);
    }

    /// The delay counts from the verdict that it follows, also for who came before that.
    #[tokio::test(start_paused = true)]
    async fn a_try_before_a_verdict_waits_for_the_whole_delay() {
        let delays = delays();
        attempt(Arc::clone(&delays), who(2, "another"), false).await;
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

    /// Whenever devices leave, whoever is right or wrong: what a try takes is given back, and nobody waits for longer
    /// than the longest delay.
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
                assert!(over <= LONGEST + VERDICTS + RUN, "{over:?}");
            }
            assert!(delays.is_idle());
        }
    }
}
