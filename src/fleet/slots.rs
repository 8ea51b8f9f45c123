//! The sessions of a mailbox over all instances: each borrows some from the records, for a minute at a time.
//!
//! - A login takes a borrowed session that is free, without a question to the database. If none is free, it asks the
//!   database, and waits at most [`LOGIN_PATIENCE`] for the answer.
//! - After that time, and while the database is away, an instance has its share: the number divided by the number of
//!   instances that were registered last, at least one. Sessions that are open stay open. So a mailbox may have up to
//!   twice its number in the first minute of an outage, and as many as the shares are from then on, once the earlier
//!   sessions have ended.
//! - An instance that is frozen for longer than its sessions are still borrowed for (a stopped process, a paused virtual
//!   machine; 39 to 59 seconds) wakes with open sessions that others may have borrowed meanwhile. It ends none of them,
//!   and begins none until it has borrowed again.
//! - An instance that gets no session leaves a wish. An instance that holds free ones gives them back within a second.
//!   An instance that holds more than the one with the wish gives back those that end, although its own devices wait.

mod divisor;
mod mailbox;
mod pace;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::debug;

use super::error::Error;
use super::records::{Answer, HeldSession, MailboxKey, PATIENCE, SessionRecords};
use crate::crypto::jitter;
use crate::lifecycle::{Lifecycle, Phase};
use divisor::Divisor;
pub use mailbox::{BorrowedSession, MailboxSlots, Throttled};

/// The sessions of all mailboxes that this instance serves.
pub struct Slots {
    records: Arc<dyn SessionRecords>,
    /// The id of this instance.
    instance: String,
    mailboxes: Mutex<HashMap<MailboxKey, Arc<MailboxSlots>>>,
    known: Arc<Known>,
}

/// The parts that all mailboxes share.
struct Known {
    /// The last statement has failed.
    is_away: AtomicBool,
    divisor: Divisor,
    /// Mailboxes that have a question or a note for the database.
    requests: Mutex<Vec<Arc<MailboxSlots>>>,
    has_requests: Notify,
    /// Sessions are to be given back now.
    has_returns: Notify,
    /// Mailboxes whose sessions somebody waits for, so that connections that are kept without a device give way.
    wanted: Mutex<BTreeSet<MailboxKey>>,
    has_wanted: Notify,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    waited: AtomicU64,
    alone: AtomicU64,
}

/// The numbers for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BorrowedNumbers {
    /// Borrowed sessions, used or not.
    pub borrowed: u64,
    /// The instances that are registered, as last counted; 0 before that.
    pub registered: u64,
    /// The instances among which sessions are divided without the database; 0 before they were counted.
    pub instances: u64,
    /// Logins that waited for the database's answer.
    pub waited: u64,
    /// Logins that went on without the database, by the instance's share.
    pub alone: u64,
}

impl Slots {
    /// The sessions of this instance, over these records. Nothing is borrowed before [`run`](Self::run).
    pub fn new(records: Arc<dyn SessionRecords>, instance: &str) -> Arc<Self> {
        let known = Known {
            is_away: AtomicBool::new(false),
            divisor: Divisor::default(),
            requests: Mutex::default(),
            has_requests: Notify::new(),
            has_returns: Notify::new(),
            wanted: Mutex::default(),
            has_wanted: Notify::new(),
            counts: Counts::default(),
        };
        Arc::new(Self { records, instance: instance.to_owned(), mailboxes: Mutex::default(), known: Arc::new(known) })
    }

    /// The sessions of a mailbox: the same ones for the same key.
    pub fn mailbox(&self, key: MailboxKey) -> Arc<MailboxSlots> {
        let mut mailboxes = self.mailboxes.lock();
        let new = || Arc::new(MailboxSlots::new(key.clone(), Arc::clone(&self.known)));
        Arc::clone(mailboxes.entry(key.clone()).or_insert_with(new))
    }

    /// Waits until somebody wants sessions of mailboxes, which connections without a device may hold. Returns these
    /// mailboxes.
    pub async fn wanted(&self) -> BTreeSet<MailboxKey> {
        loop {
            let wanted = std::mem::take(&mut *self.known.wanted.lock());
            if !wanted.is_empty() {
                return wanted;
            }
            self.known.has_wanted.notified().await;
        }
    }

    /// The numbers for the metrics.
    pub fn numbers(&self) -> BorrowedNumbers {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        BorrowedNumbers {
            borrowed: number(self.all().iter().map(|mailbox| mailbox.held()).sum()),
            registered: number(self.known.divisor.registered()),
            instances: number(self.known.divisor.known()),
            waited: count(&self.known.counts.waited),
            alone: count(&self.known.counts.alone),
        }
    }

    /// Serves the mailboxes until the process drains, and gives everything back then.
    pub async fn run(self: Arc<Self>, mut lifecycle: Lifecycle) {
        tokio::select! {
            () = self.lend() => {}
            () = self.maintain() => {}
            () = lifecycle.reached(Phase::Draining) => {}
        }
        if let Err(error) = self.records.return_all_sessions(&self.instance).await {
            debug!("borrowed sessions are free within {}: {error}", humantime::format_duration(SESSION_LIFE));
        }
    }

    /// Carries the mailboxes' requests to the database, each in its own task: a statement that hangs delays no other.
    async fn lend(&self) {
        loop {
            self.known.has_requests.notified().await;
            let requests = std::mem::take(&mut *self.known.requests.lock());
            for mailbox in requests {
                let (records, instance) = (Arc::clone(&self.records), self.instance.clone());
                tokio::spawn(async move { mailbox.request(records.as_ref(), &instance).await });
            }
        }
    }

    /// Renews, gives back and reads news, each second or when there is something to give back.
    async fn maintain(&self) {
        let mut second = interval(LOOK);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Instances that were started together do not all renew at the same moments.
        let mut next_renewal = Instant::now() + RENEWAL.mul_f64(jitter(0.0, 1.0));
        loop {
            let is_second = tokio::select! {
                _ = second.tick() => true,
                () = self.known.has_returns.notified() => false,
            };
            let was_away = self.known.is_away.load(Ordering::Relaxed);
            if is_second {
                self.count_instances(was_away).await;
            }
            if self.known.is_away.load(Ordering::Relaxed) {
                continue;
            }
            let is_renewal = is_second && (was_away || next_renewal <= Instant::now());
            if is_renewal {
                self.all().iter().for_each(|mailbox| mailbox.give_up_idle());
            }
            self.give_back().await;
            if is_renewal && self.renew().await {
                next_renewal = Instant::now() + RENEWAL;
            }
            if is_second {
                self.read_news().await;
                self.all().iter().for_each(|mailbox| mailbox.catch_up());
            }
        }
    }

    /// Counts the instances where that is due. While the database is away, this is how it is found again.
    async fn count_instances(&self, was_away: bool) {
        if was_away {
            self.known.divisor.lost();
        }
        if self.known.divisor.is_due(Instant::now())
            && let Some(count) = self.known.answer(self.records.count_instances()).await
        {
            self.known.divisor.counted(count, Instant::now());
        }
    }

    async fn give_back(&self) {
        let returned: Vec<_> = self.all().iter().flat_map(|mailbox| mailbox.take_returned()).collect();
        if returned.is_empty() {
            return;
        }
        let done = self.known.answer(self.records.return_sessions(&self.instance, &returned)).await;
        if done.is_none() {
            let mailboxes = self.mailboxes.lock();
            for (key, session) in returned {
                if let Some(mailbox) = mailboxes.get(&key) {
                    mailbox.return_later(session);
                }
            }
        }
    }

    /// Prolongs what is borrowed. Returns whether the database has answered.
    async fn renew(&self) -> bool {
        let held: Vec<(MailboxKey, HeldSession)> = self.all().iter().flat_map(|mailbox| mailbox.borrowed()).collect();
        if held.is_empty() {
            return true;
        }
        let until = Instant::now() + SESSION_LIFE - MARGIN;
        let renewed = self.known.answer(self.records.renew_sessions(&self.instance, &held, SESSION_LIFE)).await;
        let Some(renewed) = renewed else { return false };
        let mailboxes = self.mailboxes.lock();
        let mut of_mailbox: HashMap<&MailboxKey, (Vec<HeldSession>, Vec<HeldSession>)> = HashMap::new();
        held.iter().for_each(|(key, session)| of_mailbox.entry(key).or_default().0.push(*session));
        renewed.iter().for_each(|(key, session)| of_mailbox.entry(key).or_default().1.push(*session));
        for (key, (before, now)) in of_mailbox {
            if let Some(mailbox) = mailboxes.get(key) {
                mailbox.renewed(&before, &now, until);
            }
        }
        true
    }

    async fn read_news(&self) {
        if self.all().iter().all(|mailbox| mailbox.held() == 0) {
            return;
        }
        let Some(news) = self.known.answer(self.records.session_news(&self.instance)).await else { return };
        for news in news {
            let mailbox = self.mailboxes.lock().get(&news.key).map(Arc::clone);
            if let Some(mailbox) = mailbox {
                mailbox.learn(&news);
            }
        }
    }

    fn all(&self) -> Vec<Arc<MailboxSlots>> {
        self.mailboxes.lock().values().map(Arc::clone).collect()
    }
}

impl Known {
    /// Waits for an answer about one mailbox, and notes whether the database is away for all of them. An error that may be
    /// about this mailbox alone, such as a row that somebody has locked or damaged, keeps no other one from its sessions.
    async fn answer_about<T>(&self, answer: Answer<'_, T>) -> Option<T> {
        let begun = Instant::now();
        let answer = answer.await;
        let has_slept = matches!(answer, Err(Error::Late(_))) && begun.elapsed() > PATIENCE + STALL;
        if let Err(error) = &answer {
            debug!("sessions of a mailbox: {error}");
            if error.is_about_server() && !has_slept {
                self.is_away.store(true, Ordering::Relaxed);
            }
        }
        answer.ok()
    }

    /// Waits for an answer about all mailboxes, and notes whether the database is away.
    async fn answer<T>(&self, answer: Answer<'_, T>) -> Option<T> {
        let begun = Instant::now();
        let answer = answer.await;
        // Much later than the limit, this process has slept, and has not read an answer that may be there.
        let has_slept = matches!(answer, Err(Error::Late(_))) && begun.elapsed() > PATIENCE + STALL;
        if !has_slept {
            self.is_away.store(answer.is_err(), Ordering::Relaxed);
        }
        answer.map_err(|error| debug!("sessions of mailboxes: {error}")).ok()
    }

    /// The part of a number that this instance has without a database.
    fn share(&self, number: usize) -> usize {
        self.divisor.share(number)
    }

    fn want(&self, key: &MailboxKey) {
        self.wanted.lock().insert(key.clone());
        self.has_wanted.notify_one();
    }
}

/// The time for which a session is borrowed.
pub const SESSION_LIFE: Duration = Duration::from_secs(60);
/// The longest wait of a login for the database's answer.
pub const LOGIN_PATIENCE: Duration = Duration::from_millis(300);
/// The pause of a device that waits for a session, before its instance asks again.
pub const POLL: Duration = Duration::from_millis(250);
/// The delay of a timer at which this process has slept.
const STALL: Duration = Duration::from_millis(50);
/// The time by which an instance gives a session up before the database does.
const MARGIN: Duration = Duration::from_secs(1);
/// The interval of the news.
const LOOK: Duration = Duration::from_secs(1);
/// The interval at which borrowed sessions are prolonged.
const RENEWAL: Duration = Duration::from_secs(20);
