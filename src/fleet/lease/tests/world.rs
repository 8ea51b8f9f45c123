//! A database and an endpoint in memory, and instances that end or freeze at a step.

mod database;
mod node;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::crypto::Vault;
use crate::fleet::records::{Candidate, SealedKind, SignInKey};
use crate::secret::Secret;
use database::fresh_row;
pub(super) use node::Node;

/// Steps of a first renewal: reading, saving, beginning, asking, saving, committing and saving, each before and behind its
/// effect.
pub(super) const STEPS: usize = 14;
/// The first step after the answer of the database to the beginning.
pub(super) const BEGUN: usize = 6;
/// The first step after the effect of the request at the endpoint.
pub(super) const SPENT: usize = 7;
/// The first step at which the answer is on the disk.
pub(super) const SAVED: usize = 9;
/// The life of access tokens.
pub(super) const LIFE: Duration = Duration::from_secs(3600);
/// The pause after a refusal.
pub(super) const PAUSE: Duration = Duration::from_secs(60);
/// The time of a freeze, beyond the lease.
const FREEZE: Duration = Duration::from_secs(50);

/// The endpoint's treatment of a refresh token that was used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rotation {
    Lenient,
    /// A second use is refused.
    Refuses,
    /// A second use is refused, and ends all refresh tokens of the sign-in.
    EndsFamily,
}

/// The end of an instance's work at a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Killed,
    Frozen,
    /// The process is stopped, and finds what came meanwhile together with its timers when it goes on.
    Stopped,
}

/// Database and endpoint.
pub(super) struct World(Mutex<State>);

struct State {
    rotation: Rotation,
    row: Option<Row>,
    candidates: Vec<(Candidate, Instant)>,
    numbers: i64,
    is_away: bool,
    /// How often the database came back in another state.
    restored: u64,
    delay: Duration,
    /// The time of a statement of the database; none for at once.
    statement_delay: Option<Duration>,
    /// How often each refresh token was used.
    uses: HashMap<u64, u64>,
    newest: u64,
    has_ended: bool,
    requests: u64,
}

/// The row of the sign-in. Times are instants of the database's clock.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) generation: i64,
    sealed: Vec<u8>,
    access: Option<(Vec<u8>, Instant)>,
    epoch: i64,
    spending: Option<i64>,
    lease: Option<(String, Instant)>,
    not_before: Instant,
    trouble: Option<String>,
}

impl World {
    /// A fleet with a sign-in whose refresh token is the number 0.
    pub(super) fn new(rotation: Rotation) -> Arc<Self> {
        let state = State {
            rotation,
            row: Some(fresh_row(FIRST, seal_first(), 0)),
            candidates: Vec::new(),
            numbers: 0,
            is_away: false,
            restored: 0,
            delay: Duration::ZERO,
            statement_delay: None,
            uses: HashMap::new(),
            newest: 0,
            has_ended: false,
            requests: 0,
        };
        Arc::new(Self(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    pub(super) fn requests(&self) -> u64 {
        self.state().requests
    }

    pub(super) fn reuses(&self) -> u64 {
        self.state().uses.values().map(|uses| uses - 1).sum()
    }

    pub(super) fn newest_access(&self) -> Option<u64> {
        Some(self.state().newest)
    }

    pub(super) fn is_committed(&self) -> bool {
        self.state().row.as_ref().is_some_and(|row| row.generation > FIRST)
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.state().row.as_ref().and_then(|row| row.trouble.clone())
    }

    pub(super) fn candidates(&self) -> usize {
        self.state().candidates.len()
    }

    /// An earlier holder has set out to spend the refresh token, and has left this candidate.
    pub(super) fn leave_candidate(&self, token: u64) {
        let mut state = self.state();
        if let Some(row) = &mut state.row {
            (row.spending, row.epoch) = (Some(row.generation), row.epoch + 1);
        }
        let sealed = vault().seal(&key().label(SealedKind::SignIn, FIRST + 1), record(token).expose()).unwrap();
        state.add_candidate(FIRST, sealed);
    }

    /// A refresh token that the endpoint does not take.
    pub(super) fn spent_token(&self) -> u64 {
        self.state().uses.insert(u64::MAX, 1);
        u64::MAX
    }

    /// Somebody without the key writes numbers into the database that have no next one.
    pub(super) fn write_last_numbers(&self) {
        let mut state = self.state();
        state.add_candidate(i64::MAX, Vec::new());
        state.row = Some(fresh_row(i64::MAX, Vec::new(), 0));
    }

    pub(super) fn delay_answers(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Each answer of the database comes as much later.
    pub(super) fn delay_statements(&self, delay: Option<Duration>) {
        self.state().statement_delay = delay;
    }

    pub(super) fn end_family(&self) {
        self.state().has_ended = true;
    }

    pub(super) fn set_away(&self, is_away: bool) {
        self.state().is_away = is_away;
    }

    pub(super) fn snapshot(&self) -> Option<Row> {
        self.state().row.clone()
    }

    pub(super) fn restore(&self, row: Option<Row>) {
        let mut state = self.state();
        state.row = row;
        state.restored += 1;
    }

    pub(super) fn epoch(&self) -> Option<i64> {
        self.state().row.as_ref().map(|row| row.epoch)
    }

    fn redeem(&self, token: u64) -> Option<u64> {
        let mut state = self.state();
        state.requests += 1;
        let uses = state.uses.entry(token).or_default();
        *uses += 1;
        let is_reuse = *uses > 1;
        state.has_ended |= is_reuse && state.rotation == Rotation::EndsFamily;
        if state.has_ended || (is_reuse && state.rotation == Rotation::Refuses) {
            return None;
        }
        state.newest += 1;
        Some(state.newest)
    }
}

impl State {
    fn add_candidate(&mut self, from_generation: i64, sealed: Vec<u8>) {
        self.numbers += 1;
        let candidate = Candidate { id: self.numbers, from_generation, sealed, age: Duration::ZERO };
        self.candidates.insert(0, (candidate, Instant::now()));
    }
}

fn seal_first() -> Vec<u8> {
    vault().seal(&key().label(SealedKind::SignIn, FIRST), record(0).expose()).unwrap()
}

fn vault() -> Vault {
    Vault::new(&[1; 32]).unwrap()
}

fn key() -> SignInKey {
    let [identity, person, issuer] = ["office", "anna", "1"].map(str::to_owned);
    SignInKey { identity, person, issuer }
}

fn record(token: u64) -> Secret {
    octets_of(token)
}

fn octets_of(token: u64) -> Secret {
    Secret::new(token.to_string().into_bytes())
}

fn number(octets: &[u8]) -> u64 {
    std::str::from_utf8(octets).unwrap().parse().unwrap()
}

/// The generation of the first sign-in.
const FIRST: i64 = 1000;
