//! A simulated database with the sessions of mailboxes, in memory and on tokio's clock: a test pauses that clock, and a
//! day goes by in a second. It counts what it is asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use packetboat::fleet::{
    Answer, Borrowed, Error, HeldSession, MailboxKey, MailboxNews, MailboxUse, PATIENCE, SessionRecords,
    SessionRequest, Wanted,
};
use tokio::time::{Instant, sleep, timeout};

/// The database. Instances reach it by [`SimulatedSessions::of_instance`].
#[derive(Default)]
pub struct SimulatedSessions {
    tables: Mutex<Tables>,
    statements: Mutex<Statements>,
}

/// The number of statements of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statements {
    pub borrow: u64,
    pub renew: u64,
    pub give_back: u64,
    pub news: u64,
    pub others: u64,
}

#[derive(Default)]
struct Tables {
    sessions: BTreeMap<(MailboxKey, i16), Row>,
    wants: BTreeMap<(MailboxKey, String), Want>,
    quiet: BTreeMap<MailboxKey, Instant>,
    paced: BTreeMap<MailboxKey, Instant>,
    instances: usize,
}

#[derive(Clone, Default)]
struct Row {
    epoch: i64,
    instance: Option<String>,
    until: Option<Instant>,
}

struct Want {
    wanted: Wanted,
    since: Instant,
    until: Instant,
}

/// The way of one instance to the database.
pub struct Way {
    database: Arc<SimulatedSessions>,
    state: Mutex<WayState>,
}

#[derive(Clone, Copy, Default)]
struct WayState {
    is_cut: bool,
    /// The time until a statement is carried out, and the time until its answer is there.
    delays: [Duration; 2],
}

impl SimulatedSessions {
    /// A database in which this number of instances is registered.
    pub fn new(instances: usize) -> Arc<Self> {
        let database = Self::default();
        database.tables().instances = instances;
        Arc::new(database)
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
        *self.statements.lock().unwrap()
    }

    /// The number of sessions that are borrowed now.
    pub fn borrowed(&self) -> usize {
        let now = Instant::now();
        self.tables().sessions.values().filter(|row| row.until.is_some_and(|until| until > now)).count()
    }

    /// Empties the tables that a crash of PostgreSQL empties, because they are not logged.
    pub fn crash(&self) {
        let mut tables = self.tables();
        tables.sessions.clear();
        tables.wants.clear();
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

    /// Carries a statement out, as a connection that may be cut before it or behind it.
    fn run<'a, T: Send + 'a>(
        &'a self,
        count: fn(&mut Statements) -> &mut u64,
        statement: impl FnOnce(&mut Tables, Instant) -> T + Send + 'a,
    ) -> Answer<'a, T> {
        let lost = || Error::Lost("the simulated connection is cut".to_owned());
        let carried_out = async move {
            let WayState { delays: [there, back], .. } = *self.state.lock().unwrap();
            sleep(there).await;
            if self.state.lock().unwrap().is_cut {
                return Err(lost());
            }
            *count(&mut self.database.statements.lock().unwrap()) += 1;
            let answer = statement(&mut self.database.tables(), Instant::now());
            sleep(back).await;
            if self.state.lock().unwrap().is_cut { Err(lost()) } else { Ok(answer) }
        };
        Box::pin(async { timeout(PATIENCE, carried_out).await.unwrap_or(Err(Error::Late(PATIENCE))) })
    }
}

impl Tables {
    fn quiet(&self, key: &MailboxKey, now: Instant) -> Option<Duration> {
        self.quiet.get(key).map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// The row of a session that an instance still holds.
    fn held(&mut self, instance: &str, (key, session): &(MailboxKey, HeldSession)) -> Option<&mut Row> {
        let row = self.sessions.get_mut(&(key.clone(), session.number))?;
        (row.epoch == session.epoch && row.instance.as_deref() == Some(instance)).then_some(row)
    }
}

impl SessionRecords for Way {
    fn borrow_sessions<'a>(&'a self, key: &'a MailboxKey, request: SessionRequest<'a>) -> Answer<'a, Borrowed> {
        self.run(
            |statements| &mut statements.borrow,
            move |tables, now| {
                let SessionRequest { instance, most, count, holds, life } = request;
                let of_instance = (key.clone(), instance.to_owned());
                let own = tables.wants.get(&of_instance).filter(|want| want.until > now).map(|want| want.since);
                let since = own.unwrap_or(now);
                let is_behind = tables.wants.iter().any(|((of, by), want)| {
                    let comes_first = (want.wanted.holds, want.since) < (holds, since);
                    of == key && by != instance && want.until > now && comes_first
                });
                let mut sessions = Vec::new();
                for number in 0..most {
                    let row = tables.sessions.entry((key.clone(), number)).or_default();
                    if !is_behind
                        && sessions.len() < usize::try_from(count).unwrap()
                        && row.until.is_none_or(|until| until < now)
                    {
                        *row =
                            Row { epoch: row.epoch + 1, instance: Some(instance.to_owned()), until: Some(now + life) };
                        sessions.push(HeldSession { number, epoch: row.epoch });
                    }
                }
                if sessions.is_empty() {
                    let want = Want { wanted: Wanted { count, holds }, since, until: now + Duration::from_secs(1) };
                    tables.wants.insert(of_instance, want);
                } else {
                    tables.wants.remove(&of_instance);
                }
                Borrowed { sessions, quiet: tables.quiet(key, now) }
            },
        )
    }

    fn renew_sessions<'a>(
        &'a self,
        instance: &'a str,
        held: &'a [(MailboxKey, HeldSession)],
        life: Duration,
    ) -> Answer<'a, Vec<(MailboxKey, HeldSession)>> {
        self.run(
            |statements| &mut statements.renew,
            move |tables, now| {
                let mut renewed = Vec::new();
                for one in held {
                    if let Some(row) = tables.held(instance, one) {
                        row.until = Some(now + life);
                        renewed.push(one.clone());
                    }
                }
                renewed
            },
        )
    }

    fn return_sessions<'a>(&'a self, instance: &'a str, held: &'a [(MailboxKey, HeldSession)]) -> Answer<'a, ()> {
        self.run(
            |statements| &mut statements.give_back,
            move |tables, _| {
                for one in held {
                    if let Some(row) = tables.held(instance, one) {
                        (row.instance, row.until) = (None, None);
                    }
                }
            },
        )
    }

    fn return_all_sessions<'a>(&'a self, instance: &'a str) -> Answer<'a, ()> {
        self.run(
            |statements| &mut statements.give_back,
            move |tables, _| {
                for row in tables.sessions.values_mut().filter(|row| row.instance.as_deref() == Some(instance)) {
                    (row.instance, row.until) = (None, None);
                }
            },
        )
    }

    fn session_news<'a>(&'a self, instance: &'a str) -> Answer<'a, Vec<MailboxNews>> {
        self.run(
            |statements| &mut statements.news,
            move |tables, now| {
                let mut keys: Vec<MailboxKey> = Vec::new();
                for ((key, _), row) in &tables.sessions {
                    let is_held =
                        row.instance.as_deref() == Some(instance) && row.until.is_some_and(|until| until > now);
                    if is_held && keys.last() != Some(key) {
                        keys.push(key.clone());
                    }
                }
                let news = keys.into_iter().map(|key| {
                    let others: Vec<Wanted> = tables
                        .wants
                        .iter()
                        .filter(|((of, by), want)| *of == key && by != instance && want.until > now)
                        .map(|(_, want)| want.wanted)
                        .collect();
                    let count = others.iter().map(|wanted| wanted.count).sum();
                    let wanted = others.iter().map(|wanted| wanted.holds).min().map(|holds| Wanted { count, holds });
                    MailboxNews { quiet: tables.quiet(&key, now), key, wanted }
                });
                news.filter(|news| news.wanted.is_some() || news.quiet.is_some()).collect()
            },
        )
    }

    fn throttle<'a>(&'a self, key: &'a MailboxKey, time: Duration) -> Answer<'a, ()> {
        self.run(
            |statements| &mut statements.others,
            move |tables, now| {
                let until = tables.quiet.entry(key.clone()).or_insert(now);
                *until = (*until).max(now + time);
            },
        )
    }

    fn draw_pace<'a>(&'a self, key: &'a MailboxKey, time: Duration) -> Answer<'a, Duration> {
        self.run(
            |statements| &mut statements.others,
            move |tables, now| {
                let until = tables.paced.entry(key.clone()).or_insert(now);
                let ahead = until.saturating_duration_since(now);
                *until = (*until).max(now) + time;
                ahead
            },
        )
    }

    fn return_pace<'a>(&'a self, key: &'a MailboxKey, time: Duration) -> Answer<'a, ()> {
        self.run(
            |statements| &mut statements.others,
            move |tables, _| {
                if let Some(until) = tables.paced.get_mut(key) {
                    *until -= time;
                }
            },
        )
    }

    fn count_instances(&self) -> Answer<'_, usize> {
        self.run(|statements| &mut statements.others, |tables, _| tables.instances)
    }

    fn sessions(&self) -> Answer<'_, Vec<MailboxUse>> {
        self.run(
            |statements| &mut statements.others,
            |tables, now| {
                let mut uses: Vec<MailboxUse> = Vec::new();
                for ((key, _), row) in &tables.sessions {
                    let Some(instance) = row.instance.clone().filter(|_| row.until.is_some_and(|until| until > now))
                    else {
                        continue;
                    };
                    if uses.last().is_none_or(|last| last.key != *key) {
                        let quiet = tables.quiet(key, now);
                        uses.push(MailboxUse { key: key.clone(), holders: Vec::new(), quiet });
                    }
                    let holders = &mut uses.last_mut().unwrap().holders;
                    match holders.iter_mut().find(|(holder, _)| *holder == instance) {
                        Some((_, count)) => *count += 1,
                        None => holders.push((instance, 1)),
                    }
                }
                uses
            },
        )
    }
}
