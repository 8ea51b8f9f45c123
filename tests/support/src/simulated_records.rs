//! A simulated database with all records of a fleet, in memory and on tokio's clock: a test or a bench pauses that clock,
//! and a day goes by in a second. It counts the statements that it is asked for.
//!
//! The rules are those of the statements in `src/fleet/postgres`. The lease's unit tests have records of their own,
//! because they stand inside the crate on which this one depends.

mod instances;
mod sessions;
mod sign_ins;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use packetboat::crypto::jitter;
use packetboat::fleet::{Answer, Error, Origin, PATIENCE, SignInKey};
use tokio::time::{Instant, sleep, timeout};

use instances::Registrations;
use sessions::Sessions;
use sign_ins::Row;

crate::each! {
    /// The kinds of statements.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Statement {
        /// An instance is registered, or its registration prolonged or ended.
        Register,
        /// The instances are listed.
        List,
        /// The instances are counted.
        Count,
        /// The news of mailboxes are read.
        News,
        /// Sessions are borrowed. The first one of a mailbox takes three statements.
        Borrow,
        /// Borrowed sessions are prolonged.
        Renew,
        /// Borrowed sessions are given back.
        Return,
        /// A mailbox is throttled, or takes its pace, or the sessions are listed.
        Mailbox,
        /// A sign-in is read.
        ReadSignIn,
        /// A lease begins, or is refused.
        Begin,
        /// A lease ends with a new refresh token.
        Commit,
        /// Everything else about sign-ins.
        ChangeSignIn,
    }
}

/// The number of statements of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statements([u64; Statement::ALL.len()]);

impl Statements {
    pub fn of(&self, kind: Statement) -> u64 {
        self.0[kind as usize]
    }

    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    fn add(&mut self, kind: Statement, count: u64) {
        self.0[kind as usize] += count;
    }
}

/// The load of the database since it was last forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub statements: Statements,
    /// The most statements within one second.
    pub worst_second: u64,
    /// The rows of all lists of instances.
    pub listed: u64,
    /// The rows that were looked through to count instances.
    pub counted: u64,
    /// The most connections that were made within one second.
    pub worst_second_of_connections: u64,
    seconds: Seconds,
    connections: Seconds,
}

/// A count of the present second.
#[derive(Clone, Copy, Debug, Default)]
struct Seconds {
    second: u64,
    count: u64,
}

impl Seconds {
    /// Adds to this second, and returns its count so far.
    fn add(&mut self, second: u64, count: u64) -> u64 {
        if second != self.second {
            *self = Self { second, count: 0 };
        }
        self.count += count;
        self.count
    }
}

/// The database. Instances reach it by [`SimulatedRecords::of_instance`].
pub struct SimulatedRecords {
    tables: Mutex<Tables>,
    begun: Instant,
    lists: Lists,
}

/// The contents of a list of instances.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    Whole,
    /// The rows are counted and not made: ten thousand instances would list each other all day long.
    Empty,
}

struct Tables {
    registrations: Registrations,
    sessions: Sessions,
    sign_ins: BTreeMap<SignInKey, Row>,
    candidates: i64,
    load: Load,
    is_away: bool,
    /// Crashes of the server so far.
    crashes: u64,
}

/// The way of one instance to the database.
pub struct Way {
    database: Arc<SimulatedRecords>,
    state: Mutex<WayState>,
}

#[derive(Clone, Copy, Default)]
struct WayState {
    is_cut: bool,
    /// A connection is open, or is being made.
    is_connected: bool,
    /// The time until a statement is carried out, and the time until its answer is there.
    delays: [Duration; 2],
    /// The pause after a failed attempt to connect; none where the next statement connects at once.
    pause: Option<Duration>,
    /// The time of the next attempt to connect.
    next: Option<Instant>,
}

impl SimulatedRecords {
    /// A database in which this number of instances is registered for ever.
    pub fn new(instances: usize) -> Arc<Self> {
        Self::with(instances, Lists::Whole)
    }

    /// The same, with lists of instances as they are wanted.
    pub fn with(instances: usize, lists: Lists) -> Arc<Self> {
        let tables = Tables {
            registrations: Registrations::with(instances),
            sessions: Sessions::default(),
            sign_ins: BTreeMap::new(),
            candidates: 0,
            load: Load::default(),
            is_away: false,
            crashes: 0,
        };
        Arc::new(Self { tables: Mutex::new(tables), begun: Instant::now(), lists })
    }

    /// The records as one instance reaches them.
    pub fn of_instance(self: &Arc<Self>) -> Arc<Way> {
        Arc::new(Way { database: Arc::clone(self), state: Mutex::default() })
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap()
    }

    /// The number of statements so far.
    pub fn statements(&self) -> Statements {
        self.tables().load.statements
    }

    /// The load so far, or since the last call of [`forget_load`](Self::forget_load).
    pub fn load(&self) -> Load {
        self.tables().load
    }

    /// Begins to count anew.
    pub fn forget_load(&self) {
        self.tables().load = Load::default();
    }

    /// Stops the database, or starts it again. What it has is kept.
    pub fn set_away(&self, is_away: bool) {
        self.tables().is_away = is_away;
    }

    /// The number of sessions that are borrowed now.
    pub fn borrowed(&self) -> usize {
        self.tables().sessions.borrowed(Instant::now())
    }

    /// The times for which the sessions of an instance are still borrowed.
    pub fn held_by(&self, instance: &str) -> Vec<Duration> {
        self.tables().sessions.held_by(instance, Instant::now())
    }

    /// Empties the tables that a crash of PostgreSQL empties, because they are not logged.
    pub fn crash(&self) {
        let mut tables = self.tables();
        tables.sessions.crash();
        tables.crashes += 1;
    }
}

impl Tables {
    /// The server process that answers.
    fn origin(&self) -> Origin {
        Origin(self.crashes.to_string())
    }
}

impl Way {
    /// Cuts the connection, or mends it.
    pub fn cut(&self, is_cut: bool) {
        self.state.lock().unwrap().is_cut = is_cut;
    }

    /// Sets the time until a statement is carried out, and the time until its answer is there.
    pub fn delay(&self, there: Duration, back: Duration) {
        self.state.lock().unwrap().delays = [there, back];
    }

    /// Connects as packetboat does: after a failure with a pause, and after each further one with twice that pause.
    pub fn pause_after_failures(&self) {
        self.state.lock().unwrap().pause = Some(FIRST_PAUSE);
    }

    fn is_cut(&self) -> bool {
        self.state.lock().unwrap().is_cut || self.database.tables().is_away
    }

    /// Carries a statement out, as a connection that may be cut before it or behind it.
    fn run<'a, T: Send + 'a>(
        &'a self,
        kind: Statement,
        statement: impl FnOnce(&mut Tables, Instant) -> T + Send + 'a,
    ) -> Answer<'a, T> {
        let carried_out = async move {
            let WayState { delays: [there, back], next, .. } = *self.state.lock().unwrap();
            if next.is_some_and(|next| next > Instant::now()) {
                return Err(lost());
            }
            let connects = !std::mem::replace(&mut self.state.lock().unwrap().is_connected, true);
            pass(there).await;
            if self.is_cut() {
                return Err(self.failed());
            }
            if connects {
                self.database.connect();
            }
            let answer = self.database.carry_out(kind, statement);
            pass(back).await;
            if self.is_cut() { Err(self.failed()) } else { Ok(self.reached(answer)) }
        };
        Box::pin(async { timeout(PATIENCE, carried_out).await.unwrap_or(Err(Error::Late(PATIENCE))) })
    }

    fn failed(&self) -> Error {
        let mut state = self.state.lock().unwrap();
        state.is_connected = false;
        if let Some(pause) = state.pause {
            let next = Instant::now() + pause.mul_f64(jitter(0.5, 1.0));
            (state.next, state.pause) = (Some(next), Some((pause * 2).min(LONGEST_PAUSE)));
        }
        lost()
    }

    fn reached<T>(&self, answer: T) -> T {
        let mut state = self.state.lock().unwrap();
        (state.next, state.pause) = (None, state.pause.map(|_| FIRST_PAUSE));
        answer
    }
}

impl SimulatedRecords {
    fn second(&self, now: Instant) -> u64 {
        (now - self.begun).as_secs()
    }

    fn connect(&self) {
        let second = self.second(Instant::now());
        self.tables().load.connect(second);
    }

    fn carry_out<T>(&self, kind: Statement, statement: impl FnOnce(&mut Tables, Instant) -> T) -> T {
        let (now, mut tables) = (Instant::now(), self.tables());
        let second = self.second(now);
        tables.load.count(kind, second, 1);
        let before = tables.sessions.additions;
        let answer = statement(&mut tables, now);
        // The rows of a new mailbox are added by a statement of its own, and then it borrows again.
        let additions = tables.sessions.additions - before;
        tables.load.count(kind, second, additions * 2);
        answer
    }
}

impl Load {
    fn count(&mut self, kind: Statement, second: u64, count: u64) {
        self.statements.add(kind, count);
        self.worst_second = self.worst_second.max(self.seconds.add(second, count));
    }

    fn connect(&mut self, second: u64) {
        let count = self.connections.add(second, 1);
        self.worst_second_of_connections = self.worst_second_of_connections.max(count);
    }
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn lost() -> Error {
    Error::Lost("the simulated connection is cut".to_owned())
}

/// The time that is left until then; none where it is over.
fn left(until: Instant, now: Instant) -> Option<Duration> {
    Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
}

/// The pauses of `src/fleet/postgres.rs`.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
