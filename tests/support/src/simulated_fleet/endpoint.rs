//! The token endpoint. It counts requests, and holds two laws: a refresh token is spent once, and a sign-in is renewed once
//! in each half life.
//!
//! A request that ended without an answer, because its instance was killed, excuses the next one with the same refresh
//! token. Renewals without the database excuse the person for the life of a token: each instance may make one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use packetboat::secret::Secret;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// The endpoint.
pub(super) struct Endpoint {
    life: Duration,
    state: Mutex<State>,
    asked: Notify,
}

struct State {
    persons: Vec<Person>,
    counts: Counts,
    delay: Duration,
    is_refusing: bool,
    /// The requests under way: the instance and the person.
    asking: BTreeMap<u64, (usize, usize)>,
    requests: u64,
    /// The last death of an instance that asked for a person.
    deaths: HashMap<usize, Instant>,
}

#[derive(Clone, Default)]
struct Person {
    /// The number of the newest refresh token.
    newest: u64,
    spent: Vec<u64>,
    /// The refresh token of a request that has ended without an answer.
    interrupted: Option<u64>,
    granted: Option<Instant>,
    /// The end of the time for which the laws do not count.
    excused: Option<Instant>,
}

/// The counts of the endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    /// Refresh tokens that were sent a second time, without a crash in between.
    pub(super) reused: u64,
    /// Refresh tokens that were sent a second time, because the first request ended with its instance.
    pub(super) repeated: u64,
    /// Renewals before the half life was over.
    pub(super) early: u64,
    /// Renewals without the database.
    pub(super) alone: u64,
    /// The times from an instance's death while it asked until another instance had the next token.
    pub(super) hand_overs: Vec<Duration>,
}

/// A request.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) instance: usize,
    pub(super) person: usize,
    /// The number of the refresh token.
    pub(super) token: u64,
    /// The database is away.
    pub(super) is_alone: bool,
}

/// The endpoint refuses everybody for now.
pub(super) struct Refused;

/// A request under way. It is noted where it ends without an answer.
struct Flight<'a> {
    endpoint: &'a Endpoint,
    number: u64,
    request: Request,
    is_answered: bool,
}

impl Endpoint {
    pub(super) fn new(persons: usize, life: Duration, delay: Duration) -> Self {
        let state = State {
            persons: vec![Person::default(); persons],
            counts: Counts::default(),
            delay,
            is_refusing: false,
            asking: BTreeMap::new(),
            requests: 0,
            deaths: HashMap::new(),
        };
        Self { life, state: Mutex::new(state), asked: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Takes a refresh token, and returns the next one.
    pub(super) async fn ask(&self, request: Request) -> Result<u64, Refused> {
        let (mut flight, delay, is_refused) = {
            let mut state = self.state();
            state.counts.requests += 1;
            state.requests += 1;
            let number = state.requests;
            state.asking.insert(number, (request.instance, request.person));
            if !state.is_refusing {
                state.judge(request, self.life);
            }
            (Flight { endpoint: self, number, request, is_answered: false }, state.delay, state.is_refusing)
        };
        self.asked.notify_waiters();
        sleep(delay).await;
        flight.is_answered = true;
        if is_refused { Err(Refused) } else { Ok(self.state().grant(request.person, Instant::now())) }
    }

    /// The token that a person has had from before, with its number and its time: this one, unless there is one.
    pub(super) fn granted_before(&self, person: usize, at: Instant) -> (u64, Instant) {
        let mut state = self.state();
        match state.persons[person].granted {
            Some(granted) => (state.persons[person].newest, granted),
            None => (state.grant(person, at), at),
        }
    }

    /// Waits until an instance asks, which the condition takes. Returns the instance and the person.
    pub(super) async fn until_asked(&self, mut condition: impl FnMut(usize) -> bool) -> (usize, usize) {
        loop {
            let asked = self.asked.notified();
            let found = self.state().asking.values().copied().find(|(instance, _)| condition(*instance));
            if let Some(found) = found {
                return found;
            }
            asked.await;
        }
    }

    /// Notes that the instance that asks for a person has died.
    pub(super) fn died(&self, person: usize) {
        self.state().deaths.insert(person, Instant::now());
    }

    /// Notes that all instances die. An answer of the last moment may be on no disk: the laws do not count for its person.
    pub(super) fn cut_power(&self) {
        let now = Instant::now();
        for person in &mut self.state().persons {
            if person.granted.is_some_and(|granted| now - granted < WRITING) {
                person.excused = Some(now + self.life);
            }
        }
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    pub(super) fn refuse(&self, is_refusing: bool) {
        self.state().is_refusing = is_refusing;
    }

    pub(super) fn forget_counts(&self) {
        self.state().counts = Counts::default();
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().counts.clone()
    }
}

impl State {
    fn judge(&mut self, request: Request, life: Duration) {
        let (now, person, counts) = (Instant::now(), &mut self.persons[request.person], &mut self.counts);
        let is_excused = request.is_alone || person.excused.is_some_and(|until| until > now);
        let half = life.mul_f64(EARLIEST).saturating_sub(ROUNDING);
        if person.granted.is_some_and(|granted| now - granted < half) && !is_excused {
            counts.early += 1;
        }
        if person.spent.contains(&request.token) && !request.is_alone {
            let is_after_crash = is_excused || person.interrupted == Some(request.token);
            *(if is_after_crash { &mut counts.repeated } else { &mut counts.reused }) += 1;
        }
        person.spent.push(request.token);
        if request.is_alone {
            counts.alone += 1;
            person.excused = Some(now + life);
        }
    }

    fn grant(&mut self, person: usize, now: Instant) -> u64 {
        if let Some(death) = self.deaths.remove(&person) {
            self.counts.hand_overs.push(now - death);
        }
        let person = &mut self.persons[person];
        person.granted = Some(now);
        person.newest += 1;
        person.newest
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        // Another panic has poisoned it.
        let Ok(mut state) = self.endpoint.state.lock() else { return };
        state.asking.remove(&self.number);
        if !self.is_answered {
            state.persons[self.request.person].interrupted = Some(self.request.token);
        }
    }
}

/// The record with a refresh token, as the sign-in stores it.
pub(super) fn record(token: u64) -> Secret {
    Secret::new(token.to_string().into_bytes())
}

/// The number of the refresh token in a record.
pub(super) fn token_of(record: &Secret) -> u64 {
    std::str::from_utf8(record.expose()).unwrap().parse().unwrap()
}

/// The part of a token's life that is over at its earliest renewal (`src/token/access.rs`).
pub(super) const EARLIEST: f64 = 0.45;
/// The time until an answer is on the disk for certain.
const WRITING: Duration = Duration::from_millis(10);
/// Timers go by milliseconds.
const ROUNDING: Duration = Duration::from_secs(1);
