//! Parked connections: after LOGOUT a mailbox's connection waits, logged in, for the next login of the same mailbox.
//!
//! A mailbox has one at most. It holds one of the mailbox's sessions, and gives way when a device waits for a session.

mod exchange;
mod sampling;
mod unsettled;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::backend::mailbox::{Admission, Mailbox};
use crate::fleet::{MailboxKey, SessionKind, Slots};
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::{Metrics, ParkedEnd, ParkedTake};
use crate::token::AccessToken;
use crate::transport::upstream::ParkedConnection;
pub(super) use exchange::{inbox, log_out, prepare, still_lives};
pub(super) use sampling::Sample;
use sampling::{Sampling, Times};
pub(super) use unsettled::Unsettled;

/// The parked connections of the process.
pub(super) struct Parking {
    metrics: Arc<Metrics>,
    table: Mutex<Table>,
    changed: Notify,
    /// The number of connections that have no device any more and are not parked: they are being made ready for that, or
    /// closed.
    unsettled: watch::Sender<usize>,
    is_draining: watch::Sender<bool>,
}

/// The way by which a connection comes to be parked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Its device has logged out.
    Logout,
    /// It was parked, and the device that was to take it has left.
    Return,
}

#[derive(Default)]
struct Table {
    by_mailbox: HashMap<Key, ParkedSession>,
    /// The time until which none of them ends by its age; none where nobody waits for that.
    next_end: Option<Instant>,
    /// The most connections at a time. Nothing is parked before the first configuration, and in the drain.
    most: usize,
    /// The number of the present configuration.
    generation: u64,
    /// Mail servers that have shown stale mail.
    distrusted: BTreeSet<String>,
    /// The logins of each mail server, of which some are compared.
    sampling: BTreeMap<String, Sampling>,
}

/// A mailbox at a mail server.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    upstream: String,
    mailbox: String,
}

/// A login at a mail server that outlives its device.
#[derive(Clone)]
pub(super) struct StandingLogin {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) token: Arc<AccessToken>,
    /// The time of the login.
    pub(super) since: Instant,
    /// The capability list of the connection.
    pub(super) capability: Vec<u8>,
}

/// A parked connection with its login and the session that it holds.
pub(super) struct ParkedSession {
    pub(super) connection: ParkedConnection,
    pub(super) login: StandingLogin,
    pub(super) admission: Admission,
    /// The time since which it is parked.
    parked: Instant,
    /// The time at which it ends unless a device takes it.
    until: Instant,
}

impl Parking {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            table: Mutex::default(),
            changed: Notify::new(),
            unsettled: watch::Sender::new(0),
            is_draining: watch::Sender::new(false),
        }
    }

    /// Begins another configuration with this limit. All connections of the one before end.
    pub(super) fn begin(self: &Arc<Self>, most: usize) {
        let ended = {
            let mut table = self.table();
            table.generation += 1;
            table.most = most;
            table.distrusted.clear();
            table.sampling.clear();
            std::mem::take(&mut table.by_mailbox)
        };
        self.end_all(ended.into_values(), ParkedEnd::Reload);
    }

    /// Ends all connections. None is parked from here on, and those that are being made ready for it log out.
    pub(super) fn drain(self: &Arc<Self>) {
        let ended = {
            let mut table = self.table();
            table.most = 0;
            std::mem::take(&mut table.by_mailbox)
        };
        self.is_draining.send_replace(true);
        self.end_all(ended.into_values(), ParkedEnd::Drain);
    }

    /// The number of the present configuration.
    pub(super) fn generation(&self) -> u64 {
        self.table().generation
    }

    /// Returns whether a connection of this mailbox may be parked now, perhaps in place of the one that is.
    pub(super) fn takes(&self, mailbox: &Mailbox) -> bool {
        let table = self.table();
        let has_room = table.by_mailbox.len() < table.most || table.by_mailbox.contains_key(&Key::of(mailbox));
        has_room && !table.distrusted.contains(&mailbox.account.upstream)
    }

    /// Returns the sample where this login dials although its mailbox has a parked connection, so that the two are compared
    /// later: at each mail server the first login that could take one since the start or a reload, and then one in a
    /// hundred. The parked connection stays where it is. Without a free session beside it, a later login is chosen.
    pub(super) fn sample(self: &Arc<Self>, mailbox: &Mailbox) -> Option<Box<Sample>> {
        let mut table = self.table();
        let session = table.by_mailbox.get(&Key::of(mailbox)).filter(|session| session.is_for(mailbox))?;
        let times = Times { parked: session.parked, usable_until: session.login.usable_until() };
        let upstream = &mailbox.account.upstream;
        let sampling = table.sampling.entry(upstream.clone()).or_default();
        if !sampling.is_due(times, Instant::now()) || mailbox.has_no_session() {
            return None;
        }
        sampling.begin();
        Some(Box::new(Sample { parking: Arc::clone(self), upstream: upstream.clone(), is_compared: false }))
    }

    /// Has another login of the mail server chosen earlier, because nothing came of the last one.
    fn sample_again(&self, upstream: &str) {
        if let Some(sampling) = self.table().sampling.get_mut(upstream) {
            sampling.again();
        }
    }

    /// Takes the mailbox's connection out, whatever its login and time, to compare it with another one.
    pub(super) fn take_to_compare(&self, mailbox: &Mailbox) -> Option<ParkedSession> {
        self.table().by_mailbox.remove(&Key::of(mailbox))
    }

    /// Counts a connection of the mailbox that does not answer any more.
    pub(super) fn lost(&self, mailbox: &Mailbox) {
        self.metrics.parked_taken(ParkedTake::Lost);
        mailbox.connection_lost();
    }

    /// Takes the connection of this login, if there is one. One whose time is over, or that belongs to another login of
    /// the same mailbox, ends.
    pub(super) fn take(self: &Arc<Self>, mailbox: &Mailbox) -> Option<ParkedSession> {
        let session = {
            let mut table = self.table();
            let session = table.by_mailbox.remove(&Key::of(mailbox))?;
            if session.is_for(mailbox) {
                if let Some(sampling) = table.sampling.get_mut(&mailbox.account.upstream) {
                    sampling.count_taken();
                }
                return Some(session);
            }
            session
        };
        let end = if session.is_over() { ParkedEnd::Age } else { ParkedEnd::GaveWay };
        self.end(session, end);
        None
    }

    /// Parks a connection of this configuration. One that cannot be parked ends.
    pub(super) fn park(self: &Arc<Self>, session: ParkedSession, generation: u64, origin: Origin) {
        let (key, until) = (Key::of(&session.login.mailbox), session.until);
        let refused = {
            let mut table = self.table();
            let end = if table.generation != generation {
                Some(ParkedEnd::Reload)
            } else if table.most == 0 {
                Some(ParkedEnd::Drain)
            } else if session.login.mailbox.is_refused_since(session.login.since) {
                Some(ParkedEnd::Refused)
            } else if session.login.mailbox.is_waited_for() {
                Some(ParkedEnd::GaveWay)
            } else if table.distrusted.contains(&key.upstream) {
                Some(ParkedEnd::Stale)
            } else if table.by_mailbox.len() >= table.most || table.by_mailbox.contains_key(&key) {
                Some(ParkedEnd::Full)
            } else {
                None
            };
            match end {
                Some(end) => Some((session, end)),
                None => {
                    table.by_mailbox.insert(key, session);
                    if origin == Origin::Logout {
                        self.metrics.parked();
                    }
                    if table.next_end.is_none_or(|next| until < next) {
                        self.changed.notify_one();
                    }
                    None
                }
            }
        };
        if let Some((session, end)) = refused {
            self.end(session, end);
        }
    }

    /// Ends the mailbox's connection, because a device waits for a session of the mailbox.
    pub(super) fn give_way(self: &Arc<Self>, mailbox: &Mailbox) {
        self.end_of(mailbox, ParkedEnd::GaveWay);
    }

    /// Ends the mailbox's connection, because the mail server has refused its token or throttles it.
    pub(super) fn refused(self: &Arc<Self>, mailbox: &Mailbox) {
        self.end_of(mailbox, ParkedEnd::Refused);
    }

    /// Ends the connections of a mail server that has shown stale mail. None is parked there until the next
    /// configuration. Returns whether that is new.
    pub(super) fn distrust(self: &Arc<Self>, upstream: &str) -> bool {
        let (is_new, ended) = {
            let mut table = self.table();
            let is_new = table.distrusted.insert(upstream.to_owned());
            let ended: Vec<_> = table.by_mailbox.extract_if(|key, _| key.upstream == upstream).collect();
            (is_new, ended)
        };
        self.end_all(ended.into_iter().map(|(_, session)| session), ParkedEnd::Stale);
        self.metrics.parked_was_stale();
        is_new
    }

    /// Ends the connections whose time is over, until the drain or the next configuration.
    pub(super) async fn keep(self: Arc<Self>, mut lifecycle: Lifecycle) {
        loop {
            let next = self.end_old();
            let next = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = next => {}
                () = self.changed.notified() => {}
                () = lifecycle.reached(Phase::Draining) => return,
            }
        }
    }

    /// Ends connections of mailboxes whose sessions somebody waits for in the fleet: a device of this instance that has got
    /// none, or another instance.
    pub(super) async fn yield_to(self: Arc<Self>, slots: Arc<Slots>, mut lifecycle: Lifecycle) {
        loop {
            let wanted = tokio::select! {
                wanted = slots.wanted() => wanted,
                () = lifecycle.reached(Phase::Draining) => return,
            };
            for MailboxKey { upstream, mailbox, .. } in
                wanted.into_iter().filter(|key| key.kind == SessionKind::Reading)
            {
                let ended = self.table().by_mailbox.remove(&Key { upstream, mailbox });
                self.end_all(ended.into_iter(), ParkedEnd::GaveWay);
            }
        }
    }

    /// Ends the connections whose time is over. Returns the time of the next one.
    fn end_old(self: &Arc<Self>) -> Option<Instant> {
        let now = Instant::now();
        let (ended, next) = {
            let mut table = self.table();
            let ended: Vec<_> = table.by_mailbox.extract_if(|_, session| session.until <= now).collect();
            table.next_end = table.by_mailbox.values().map(|session| session.until).min();
            (ended, table.next_end)
        };
        self.end_all(ended.into_iter().map(|(_, session)| session), ParkedEnd::Age);
        next
    }

    fn end_of(self: &Arc<Self>, mailbox: &Mailbox, end: ParkedEnd) {
        let ended = self.table().by_mailbox.remove(&Key::of(mailbox));
        self.end_all(ended.into_iter(), end);
    }

    fn end_all(self: &Arc<Self>, sessions: impl Iterator<Item = ParkedSession>, end: ParkedEnd) {
        sessions.for_each(|session| self.end(session, end));
    }

    /// Logs out of a connection. Its session is free once the server has closed it.
    fn end(self: &Arc<Self>, session: ParkedSession, end: ParkedEnd) {
        let ParkedSession { connection, login, admission, .. } = session;
        self.ended(&login.mailbox, end);
        let unsettled = self.unsettled();
        tokio::spawn(async move {
            if let Ok(stream) = connection.unpark() {
                log_out(stream).await;
            }
            drop((admission, unsettled));
        });
    }

    /// Counts a parked connection that has ended without a login.
    pub(super) fn ended(&self, mailbox: &Mailbox, end: ParkedEnd) {
        self.metrics.parked_ended(end);
        debug!(mailbox = mailbox.account.mailbox, reason = end.label(), "parked connection ends");
    }

    fn table(&self) -> Counted<'_> {
        Counted { table: self.table.lock(), metrics: &self.metrics }
    }
}

/// The table, locked. Their number is in the metrics before anybody else sees them.
struct Counted<'a> {
    table: MutexGuard<'a, Table>,
    metrics: &'a Metrics,
}

impl Deref for Counted<'_> {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

impl DerefMut for Counted<'_> {
    fn deref_mut(&mut self) -> &mut Table {
        &mut self.table
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.set_parked(self.table.by_mailbox.len());
    }
}

impl StandingLogin {
    /// The time from which the connection is not used any more: its age, or the end of its token.
    pub(super) fn usable_until(&self) -> Instant {
        let age = self.since + self.mailbox.server.parking().age;
        age.min(Instant::now() + self.token.left_without_spare())
    }
}

impl ParkedSession {
    /// A session that is parked now. None where its time is over already.
    pub(super) fn new(connection: ParkedConnection, login: StandingLogin, admission: Admission) -> Self {
        let now = Instant::now();
        let until = login.usable_until().min(now + login.mailbox.server.parking().time);
        Self { connection, login, admission, parked: now, until }
    }

    /// Returns whether its time, or that of its token, is over.
    fn is_over(&self) -> bool {
        self.login.usable_until().min(self.until) <= Instant::now()
    }

    /// Returns whether a login in this mailbox may take it.
    fn is_for(&self, mailbox: &Mailbox) -> bool {
        !self.is_over() && self.login.mailbox.shares_login_with(mailbox)
    }
}

impl Key {
    fn of(mailbox: &Mailbox) -> Self {
        Self { upstream: mailbox.account.upstream.clone(), mailbox: mailbox.account.mailbox.to_lowercase() }
    }
}
