//! The sessions of mailboxes, which instances borrow.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use packetboat::fleet::{
    Answer, Borrowed, HeldSession, MailboxKey, MailboxNews, MailboxUse, SessionRecords, SessionRequest, Wanted,
};
use tokio::time::Instant;

use super::{Statement, Way, left};

/// The tables of sessions. Mailboxes and instances have numbers, so that nothing is looked through.
#[derive(Default)]
pub(super) struct Sessions {
    numbers: HashMap<MailboxKey, usize>,
    mailboxes: Vec<Mailbox>,
    instances: HashMap<String, usize>,
    /// The number of rows that each instance has at each mailbox, also where their time is over.
    held: Vec<BTreeMap<usize, usize>>,
    /// The mailboxes to which rows were added so far.
    pub(super) additions: u64,
}

struct Mailbox {
    key: MailboxKey,
    sessions: Vec<Row>,
    /// By the number of the instance.
    wants: BTreeMap<usize, Want>,
    quiet: Option<Instant>,
    paced: Option<Instant>,
}

#[derive(Clone, Copy, Default)]
struct Row {
    epoch: i64,
    instance: Option<usize>,
    until: Option<Instant>,
}

struct Want {
    wanted: Wanted,
    since: Instant,
    until: Instant,
}

impl Row {
    fn is_held(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }
}

impl Sessions {
    pub(super) fn borrowed(&self, now: Instant) -> usize {
        self.mailboxes.iter().flat_map(|mailbox| &mailbox.sessions).filter(|row| row.is_held(now)).count()
    }

    pub(super) fn held_by(&self, instance: &str, now: Instant) -> Vec<Duration> {
        let Some(number) = self.instances.get(instance) else { return Vec::new() };
        let rows = self.held[*number].keys().flat_map(|mailbox| &self.mailboxes[*mailbox].sessions);
        let own = rows.filter(|row| row.instance == Some(*number));
        own.filter_map(|row| left(row.until?, now)).collect()
    }

    pub(super) fn crash(&mut self) {
        for mailbox in &mut self.mailboxes {
            mailbox.sessions.clear();
            mailbox.wants.clear();
        }
        self.held.iter_mut().for_each(BTreeMap::clear);
    }

    fn mailbox(&mut self, key: &MailboxKey) -> usize {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = self.mailboxes.len();
        self.numbers.insert(key.clone(), number);
        let (sessions, wants) = (Vec::new(), BTreeMap::new());
        self.mailboxes.push(Mailbox { key: key.clone(), sessions, wants, quiet: None, paced: None });
        number
    }

    fn instance(&mut self, instance: &str) -> usize {
        if let Some(number) = self.instances.get(instance) {
            return *number;
        }
        self.instances.insert(instance.to_owned(), self.held.len());
        self.held.push(BTreeMap::new());
        self.held.len() - 1
    }

    /// Gives a row to an instance, or to nobody.
    fn give(&mut self, mailbox: usize, number: usize, holder: Option<(usize, Instant)>) {
        let row = &mut self.mailboxes[mailbox].sessions[number];
        let before = std::mem::replace(&mut row.instance, holder.map(|(instance, _)| instance));
        row.until = holder.map(|(_, until)| until);
        if let Some(before) = before {
            let held = &mut self.held[before];
            match held.get_mut(&mailbox) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(held.remove(&mailbox)),
            }
        }
        if let Some((instance, _)) = holder {
            *self.held[instance].entry(mailbox).or_default() += 1;
        }
    }

    /// The mailbox and the number of a session that an instance still holds.
    fn still_held(&self, instance: usize, (key, session): &(MailboxKey, HeldSession)) -> Option<(usize, usize)> {
        let (mailbox, number) = (*self.numbers.get(key)?, usize::try_from(session.number).ok()?);
        let row = self.mailboxes[mailbox].sessions.get(number)?;
        (row.epoch == session.epoch && row.instance == Some(instance)).then_some((mailbox, number))
    }

    fn borrow(&mut self, key: &MailboxKey, request: SessionRequest<'_>, now: Instant) -> Borrowed {
        let SessionRequest { instance, most, count, holds, life } = request;
        let (mailbox, instance) = (self.mailbox(key), self.instance(instance));
        let own = &mut self.mailboxes[mailbox];
        let most = usize::try_from(most).unwrap();
        if own.sessions.len() < most {
            own.sessions.resize(most, Row::default());
            self.additions += 1;
        }
        own.wants.retain(|_, want| want.until > now);
        let since = own.wants.get(&instance).map_or(now, |want| want.since);
        let is_behind =
            own.wants.iter().any(|(by, want)| *by != instance && (want.wanted.holds, want.since) < (holds, since));
        let mut sessions = Vec::new();
        for number in 0..most {
            let is_enough = is_behind || sessions.len() >= usize::try_from(count).unwrap();
            let row = &mut self.mailboxes[mailbox].sessions[number];
            if !is_enough && row.until.is_none_or(|until| until < now) {
                row.epoch += 1;
                sessions.push(HeldSession { number: i16::try_from(number).unwrap(), epoch: row.epoch });
                self.give(mailbox, number, Some((instance, now + life)));
            }
        }
        let own = &mut self.mailboxes[mailbox];
        if sessions.is_empty() {
            let want = Want { wanted: Wanted { count, holds }, since, until: now + WISH };
            own.wants.insert(instance, want);
        } else {
            own.wants.remove(&instance);
        }
        Borrowed { sessions, quiet: own.quiet.and_then(|until| left(until, now)) }
    }

    fn news(&self, instance: &str, now: Instant) -> Vec<MailboxNews> {
        let Some(instance) = self.instances.get(instance) else { return Vec::new() };
        let mailboxes = self.held[*instance].keys().map(|number| &self.mailboxes[*number]);
        let news = mailboxes.filter_map(|mailbox| {
            let quiet = mailbox.quiet.and_then(|until| left(until, now));
            let others = mailbox.wants.iter().filter(|(by, want)| *by != instance && want.until > now);
            let (mut count, mut holds) = (0, None::<i16>);
            for (_, Want { wanted, .. }) in others {
                count += wanted.count;
                holds = Some(holds.map_or(wanted.holds, |holds| holds.min(wanted.holds)));
            }
            let wanted = holds.map(|holds| Wanted { count, holds });
            let is_news = wanted.is_some() || quiet.is_some();
            let is_own = |row: &Row| row.instance == Some(*instance) && row.is_held(now);
            let is_holder = is_news && mailbox.sessions.iter().any(is_own);
            is_holder.then(|| MailboxNews { key: mailbox.key.clone(), wanted, quiet })
        });
        news.collect()
    }
}

impl SessionRecords for Way {
    fn borrow_sessions<'a>(&'a self, key: &'a MailboxKey, request: SessionRequest<'a>) -> Answer<'a, Borrowed> {
        self.run(Statement::Borrow, move |tables, now| tables.sessions.borrow(key, request, now))
    }

    fn renew_sessions<'a>(
        &'a self,
        instance: &'a str,
        held: &'a [(MailboxKey, HeldSession)],
        life: Duration,
    ) -> Answer<'a, Vec<(MailboxKey, HeldSession)>> {
        self.run(Statement::Renew, move |tables, now| {
            let instance = tables.sessions.instance(instance);
            let mut renewed = Vec::new();
            for one in held {
                if let Some((mailbox, number)) = tables.sessions.still_held(instance, one) {
                    tables.sessions.mailboxes[mailbox].sessions[number].until = Some(now + life);
                    renewed.push(one.clone());
                }
            }
            renewed
        })
    }

    fn return_sessions<'a>(&'a self, instance: &'a str, held: &'a [(MailboxKey, HeldSession)]) -> Answer<'a, ()> {
        self.run(Statement::Return, move |tables, _| {
            let instance = tables.sessions.instance(instance);
            for one in held {
                if let Some((mailbox, number)) = tables.sessions.still_held(instance, one) {
                    tables.sessions.give(mailbox, number, None);
                }
            }
        })
    }

    fn return_all_sessions<'a>(&'a self, instance: &'a str) -> Answer<'a, ()> {
        self.run(Statement::Return, move |tables, _| {
            let instance = tables.sessions.instance(instance);
            let mailboxes: Vec<usize> = tables.sessions.held[instance].keys().copied().collect();
            for mailbox in mailboxes {
                for number in 0..tables.sessions.mailboxes[mailbox].sessions.len() {
                    if tables.sessions.mailboxes[mailbox].sessions[number].instance == Some(instance) {
                        tables.sessions.give(mailbox, number, None);
                    }
                }
            }
        })
    }

    fn session_news<'a>(&'a self, instance: &'a str) -> Answer<'a, Vec<MailboxNews>> {
        self.run(Statement::News, move |tables, now| tables.sessions.news(instance, now))
    }

    fn throttle<'a>(&'a self, key: &'a MailboxKey, time: Duration) -> Answer<'a, ()> {
        self.run(Statement::Mailbox, move |tables, now| {
            let mailbox = tables.sessions.mailbox(key);
            let quiet = &mut tables.sessions.mailboxes[mailbox].quiet;
            *quiet = (*quiet).max(Some(now + time));
        })
    }

    fn draw_pace<'a>(&'a self, key: &'a MailboxKey, time: Duration) -> Answer<'a, Duration> {
        self.run(Statement::Mailbox, move |tables, now| {
            let mailbox = tables.sessions.mailbox(key);
            let paced = &mut tables.sessions.mailboxes[mailbox].paced;
            let until = paced.map_or(now, |until| until.max(now));
            *paced = Some(until + time);
            until - now
        })
    }

    fn return_pace<'a>(&'a self, key: &'a MailboxKey, time: Duration) -> Answer<'a, ()> {
        self.run(Statement::Mailbox, move |tables, _| {
            let mailbox = tables.sessions.mailbox(key);
            if let Some(until) = &mut tables.sessions.mailboxes[mailbox].paced {
                *until -= time;
            }
        })
    }

    fn count_instances(&self) -> Answer<'_, usize> {
        self.run(Statement::Count, |tables, now| {
            tables.registrations.forget(now);
            tables.load.counted += tables.registrations.rows() as u64;
            tables.registrations.count(now)
        })
    }

    fn sessions(&self) -> Answer<'_, Vec<MailboxUse>> {
        self.run(Statement::Mailbox, |tables, now| {
            let names: HashMap<usize, &String> =
                tables.sessions.instances.iter().map(|(name, number)| (*number, name)).collect();
            let used = tables.sessions.mailboxes.iter().map(|mailbox| {
                let mut holders: BTreeMap<String, i64> = BTreeMap::new();
                for row in mailbox.sessions.iter().filter(|row| row.is_held(now)) {
                    let id = row.instance.map(|number| names[&number].clone()).unwrap_or_default();
                    *holders.entry(tables.registrations.name(&id).unwrap_or(id)).or_default() += 1;
                }
                let quiet = mailbox.quiet.and_then(|until| left(until, now));
                MailboxUse { key: mailbox.key.clone(), holders: holders.into_iter().collect(), quiet }
            });
            let mut uses: Vec<MailboxUse> = used.filter(|one| !one.holders.is_empty() || one.quiet.is_some()).collect();
            uses.sort_by(|one, other| one.key.cmp(&other.key));
            uses
        })
    }
}

/// The time for which a wish is read by others.
const WISH: Duration = Duration::from_secs(1);
