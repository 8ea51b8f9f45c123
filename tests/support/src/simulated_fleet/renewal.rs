//! The sign-in of a person at one instance: packetboat's `LeasedSignIn`, and a model of when it is renewed.
//!
//! The model follows `CachedToken` (`src/token/cache.rs`, `src/token/cache/trouble.rs`), `AccessToken`
//! (`src/token/access.rs`) and `InFleet` (`src/token/keeping/fleet.rs`), with their times.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use packetboat::fleet::Error;
use packetboat::fleet::SignInRecords;
use packetboat::fleet::lease::{Access, Cause, Denied, Granted, Holder, Known, LeasedSignIn, NotRenewed};
use packetboat::secret::Secret;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::World;
use super::endpoint::{EARLIEST, Request, record, token_of};
use super::key;

/// The state directory of an instance: what it has of each person's sign-in.
pub(super) type Disk = Arc<Mutex<HashMap<usize, Known>>>;

/// The sign-in of a person at one instance.
pub(super) struct KeptSignIn {
    world: Arc<World>,
    instance: usize,
    person: usize,
    sign_in: LeasedSignIn,
    disk: Disk,
    ending: watch::Receiver<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    trouble: Option<Trouble>,
    /// The time before which a database that is away is not asked again, because the token serves.
    later: Option<Instant>,
    /// The time of the next try to bring the newest state to the database.
    again: Option<Instant>,
}

/// An access token.
#[derive(Clone, Copy)]
struct Token {
    until: Instant,
    /// The time of its renewal.
    stale: Instant,
    /// The time of its renewal without the database.
    alone: Instant,
}

/// The last failure of a renewal.
#[derive(Clone, Copy)]
struct Trouble {
    until: Instant,
    times: u32,
    generation: Option<i64>,
}

/// The way to an instance's disk, and to the end of the instance.
pub(super) struct Surroundings {
    pub(super) records: Arc<dyn SignInRecords>,
    /// The id of the instance in the database.
    pub(super) holder: String,
    pub(super) disk: Disk,
    pub(super) ending: watch::Receiver<bool>,
}

impl KeptSignIn {
    pub(super) fn open(world: &Arc<World>, instance: usize, person: usize, around: &Surroundings) -> Arc<Self> {
        let Surroundings { records, holder, disk, ending } = around;
        let known = disk.lock().unwrap().get(&person).cloned();
        let copied = known.as_ref().and_then(|known| known.access.clone());
        let again = known.as_ref().is_some_and(|known| known.unsent.is_some()).then(Instant::now);
        let sign_in = LeasedSignIn::new(Arc::clone(records), holder, key(person), Arc::clone(&world.vault), known);
        let (world, disk, ending) = (Arc::clone(world), Arc::clone(disk), ending.clone());
        let state = Mutex::new(State { again, ..State::default() });
        let kept = Self { world, instance, person, sign_in, disk, ending, state };
        if let Some(access) = copied.filter(|access| access.until > Instant::now()) {
            kept.use_token(&access);
        }
        Arc::new(kept)
    }

    /// Returns whether a device gets an access token at once.
    pub(super) fn has_token(&self) -> bool {
        self.serves() || self.state().token.is_some_and(|token| left(token) > LAST)
    }

    /// Brings to the database with the next step what that may have lost: it is back.
    pub(super) fn look_soon(&self) {
        self.state().again = Some(Instant::now());
    }

    /// Does what is due, and returns the time of the next look.
    pub(super) async fn step(&self) -> Instant {
        let again = self.state().again;
        if again.is_some_and(|again| again <= Instant::now()) {
            let delivered = self.sign_in.deliver(self).await;
            self.note(delivered.is_err() || self.sign_in.is_unsent());
        }
        if self.due() <= Instant::now() || self.has_changed().await {
            self.fetch().await;
        }
        let due = self.due();
        let state = self.state();
        let look = if state.trouble.is_some() { due.min(Instant::now() + LOOK) } else { due };
        state.again.map_or(look, |again| look.min(again))
    }

    fn due(&self) -> Instant {
        let state = self.state();
        let stale = state.token.map_or_else(Instant::now, |token| token.stale);
        let due = state.later.map_or(stale, |later| stale.max(later));
        state.trouble.map_or(due, |trouble| trouble.until)
    }

    /// Returns whether somebody has renewed or signed in since the last failure.
    async fn has_changed(&self) -> bool {
        let Some(trouble) = self.state().trouble else { return false };
        self.sign_in.generation().await.is_ok_and(|generation| generation != trouble.generation)
    }

    async fn fetch(&self) {
        let generation = self.sign_in.known().map(|known| known.generation);
        let Err(error) = self.renew().await else { return };
        let is_away = matches!(&error, NotRenewed::Database(error) if error.is_away());
        if is_away && self.serves() {
            let later = Instant::now() + LOOK.mul_f64(self.world.between(0.8, 1.2));
            self.state().later = Some(later);
            return;
        }
        let pause = self.pause_after(&error);
        let mut state = self.state();
        let times = state.trouble.map_or(0, |trouble| trouble.times + 1);
        state.trouble = Some(Trouble { until: Instant::now() + pause, times, generation });
    }

    /// As `InFleet::renew`, where the endpoint lets earlier refresh tokens live.
    async fn renew(&self) -> Result<(), NotRenewed<()>> {
        let is_recent = self.state().again.is_some_and(|again| again > Instant::now());
        if is_recent && !self.can_wait() && self.sign_in.known().is_some() {
            return self.renew_alone(Error::Unsent).await;
        }
        match self.sign_in.renew(self).await {
            Err(NotRenewed::Database(error)) => {
                self.note(true);
                self.renew_alone(error).await
            }
            renewed => {
                self.note(self.sign_in.is_unsent());
                renewed
            }
        }
    }

    async fn renew_alone(&self, database: Error) -> Result<(), NotRenewed<()>> {
        if self.can_wait() {
            return Err(NotRenewed::Database(database));
        }
        match self.sign_in.renew_alone(&Alone(self)).await {
            Err(NotRenewed::Denied(())) => Err(NotRenewed::Denied(())),
            renewed => renewed.map_err(|_| NotRenewed::Database(database)),
        }
    }

    fn note(&self, is_trouble: bool) {
        let again = Instant::now() + AGAIN.mul_f64(self.world.between(0.8, 1.2));
        self.state().again = is_trouble.then_some(again);
    }

    fn can_wait(&self) -> bool {
        self.serves() && self.state().token.is_some_and(|token| Instant::now() < token.alone)
    }

    /// Returns whether the present token opens a new session.
    fn serves(&self) -> bool {
        self.state().token.is_some_and(|token| left(token) > SPARE.min(self.world.case.life / 4))
    }

    fn pause_after(&self, error: &NotRenewed<()>) -> Duration {
        let times = self.state().trouble.map_or(0, |trouble| trouble.times + 1);
        let pause = FIRST_PAUSE.saturating_mul(1 << times.min(16)).min(LONGEST_PAUSE);
        let pause = pause.mul_f64(self.world.between(0.8, 1.2));
        match error {
            NotRenewed::Paused { left, .. } => pause.max(*left),
            _ => pause,
        }
    }

    fn use_token(&self, access: &Access) {
        let at = |part: f64| access.until - access.life.mul_f64(1.0 - part);
        let (stale, alone) = (self.world.between(EARLIEST, 0.55), self.world.between(0.6, 0.85));
        let mut state = self.state();
        state.token = Some(Token { until: access.until, stale: at(stale), alone: at(alone) });
        (state.trouble, state.later) = (None, None);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn asked(&self, record: &Secret, is_alone: bool) -> Result<Granted, Denied<()>> {
        let (instance, person, token) = (self.instance, self.person, token_of(record));
        let answer = self.world.endpoint.ask(Request { instance, person, token, is_alone }).await;
        let token = answer.map_err(|_| {
            let pause = self.pause_after(&NotRenewed::Denied(()));
            Denied { error: (), trouble: "passing: busy".to_owned(), pause, cause: Cause::Endpoint }
        })?;
        Ok(granted(token, Instant::now(), self.world.case.life))
    }
}

impl Holder for KeptSignIn {
    type Error = ();

    async fn ask(&self, record: &Secret) -> Result<Granted, Denied<()>> {
        self.asked(record, false).await
    }

    async fn save(&self, known: Known) {
        sleep(DISK).await;
        self.disk.lock().unwrap().insert(self.person, known);
    }

    fn take(&self, access: &Access) {
        self.use_token(access);
    }

    // As Microsoft's.
    fn is_strict(&self) -> bool {
        false
    }

    async fn ending(&self) {
        let _ = self.ending.clone().wait_for(|is_ending| *is_ending).await;
    }
}

/// The same without the database.
struct Alone<'a>(&'a KeptSignIn);

impl Holder for Alone<'_> {
    type Error = ();

    async fn ask(&self, record: &Secret) -> Result<Granted, Denied<()>> {
        self.0.asked(record, true).await
    }

    async fn save(&self, known: Known) {
        self.0.save(known).await;
    }

    fn take(&self, access: &Access) {
        self.0.take(access);
    }

    // As Microsoft's.
    fn is_strict(&self) -> bool {
        false
    }

    async fn ending(&self) {
        self.0.ending().await;
    }
}

/// A renewal at this time before the simulation begins.
pub(super) struct Seed<'a> {
    world: &'a World,
    person: usize,
    age: Duration,
}

impl<'a> Seed<'a> {
    pub(super) fn new(world: &'a World, person: usize, age: Duration) -> Self {
        Self { world, person, age }
    }
}

impl Holder for Seed<'_> {
    type Error = ();

    async fn ask(&self, _: &Secret) -> Result<Granted, Denied<()>> {
        let (token, at) = self.world.endpoint.granted_before(self.person, Instant::now() - self.age);
        Ok(granted(token, at, self.world.case.life))
    }

    async fn save(&self, _: Known) {}

    fn take(&self, _: &Access) {}

    // As Microsoft's.
    fn is_strict(&self) -> bool {
        false
    }

    async fn ending(&self) {
        pending().await
    }
}

fn granted(token: u64, at: Instant, life: Duration) -> Granted {
    let access = Access { token: record(token), life, until: at + life };
    Granted { record: record(token), access }
}

fn left(token: Token) -> Duration {
    token.until.saturating_duration_since(Instant::now())
}

/// The time of a write to the disk.
const DISK: Duration = Duration::from_millis(2);
/// `LOOK`, `LAST`, `SPARE`, `AGAIN` and `UNAVAILABLE` of the files above.
const LOOK: Duration = Duration::from_secs(10);
const LAST: Duration = Duration::from_secs(10);
const SPARE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
