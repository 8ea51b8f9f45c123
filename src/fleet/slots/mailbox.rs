//! The sessions of one mailbox: those that this instance has borrowed, and those that are in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::pace::FleetPace;
use super::{Known, LOGIN_PATIENCE, MARGIN, POLL, SESSION_LIFE};
use crate::fleet::records::{
    Borrowed, HeldSession, MailboxKey, MailboxNews, SessionKind, SessionRecords, SessionRequest, Wanted,
};

/// The sessions of one mailbox that this instance has borrowed.
pub struct MailboxSlots {
    key: MailboxKey,
    known: Arc<Known>,
    /// The most sessions of the mailbox, of all instances together.
    most: AtomicUsize,
    /// Logins in the order in which they came. The first one asks the database.
    queue: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
    /// Wakes the first login of the queue.
    changed: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Vec<Held>,
    /// Sessions that are about to be given back.
    returned: Vec<HeldSession>,
    in_use: usize,
    /// The most that were in use since the last renewal.
    most_in_use: usize,
    last_used: Option<Instant>,
    /// Sessions that are wanted of the database; 0 for none.
    wanted: usize,
    /// The number of answers to that.
    answers: u64,
    /// The last answer without a session.
    refused: Option<Instant>,
    /// The mailbox is in the list of requests, or its request is under way.
    is_requesting: bool,
    quiet_until: Option<Instant>,
    /// The database does not know yet that the mailbox is throttled.
    is_quiet_unknown: bool,
    others: Option<Others>,
    pace: FleetPace,
}

/// A borrowed session, with the time at which this instance gives it up unless it is prolonged.
struct Held {
    session: HeldSession,
    until: Instant,
}

/// The wishes of other instances, as last read.
struct Others {
    wanted: Wanted,
    until: Instant,
}

/// What a mailbox wants of the database.
struct Requests {
    borrows: bool,
    quiet: Option<Duration>,
    /// Messages whose time is given back.
    unused: u32,
    /// Messages whose time is taken.
    messages: u32,
}

/// The mail server throttles the mailbox for this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled(pub Duration);

/// A session of the mailbox that is in use. Dropping it frees the session.
pub struct BorrowedSession(Arc<MailboxSlots>);

impl MailboxSlots {
    pub(super) fn new(key: MailboxKey, known: Arc<Known>) -> Self {
        Self {
            key,
            known,
            most: AtomicUsize::new(1),
            queue: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
            state: Mutex::default(),
        }
    }

    /// Puts these limits into force: sessions at a time and messages a minute, of all instances together.
    pub fn limit(&self, most: usize, messages_per_minute: u32) {
        self.most.store(most, Ordering::Relaxed);
        self.state.lock().pace.limit(messages_per_minute);
    }

    /// Takes a session of the mailbox, and waits for one until the caller drops this. Asks the database only where no
    /// borrowed session is free.
    ///
    /// # Errors
    /// The mail server throttles the mailbox, as some instance has learnt.
    pub async fn acquire(self: &Arc<Self>) -> Result<BorrowedSession, Throttled> {
        let _waiting = Waiting::begin(&self.waiting);
        let _first = self.queue.lock().await;
        let mut is_alone = false;
        if let Some(taken) = self.take(is_alone) {
            return taken;
        }
        self.known.counts.waited.fetch_add(1, Ordering::Relaxed);
        loop {
            if !self.known.is_away.load(Ordering::Relaxed) {
                let answers = self.ask();
                is_alone = timeout(LOGIN_PATIENCE, self.answered(answers)).await.is_err();
            }
            if let Some(taken) = self.take(is_alone) {
                return taken;
            }
            // The next login, or another instance, may free one at any time.
            let _ = timeout(POLL, self.changed.notified()).await;
            if let Some(taken) = self.take(is_alone) {
                return taken;
            }
        }
    }

    /// Takes a session, if one is free. Without the database, the instance's share counts.
    fn take(self: &Arc<Self>, is_alone: bool) -> Option<Result<BorrowedSession, Throttled>> {
        let (now, most) = (Instant::now(), self.most.load(Ordering::Relaxed));
        let is_away = self.known.is_away.load(Ordering::Relaxed);
        let mut state = self.state.lock();
        if let Some(left) = state.quiet_for(now) {
            return Some(Err(Throttled(left)));
        }
        let borrowed = state.valid(now).min(most);
        let share = self.known.share(most);
        let is_borrowed = state.in_use < borrowed && !is_away;
        if !is_borrowed && !((is_away || is_alone) && state.in_use < share) {
            return None;
        }
        state.in_use += 1;
        state.most_in_use = state.most_in_use.max(state.in_use);
        state.last_used = Some(now);
        let is_unpaced = self.key.kind == SessionKind::Sending && state.pace.needed() > 0;
        drop(state);
        if !is_borrowed {
            self.known.counts.alone.fetch_add(1, Ordering::Relaxed);
        }
        if is_unpaced {
            self.enqueue();
        }
        Some(Ok(BorrowedSession(Arc::clone(self))))
    }

    /// Asks for sessions, for all logins that wait. Returns the number of answers so far.
    fn ask(self: &Arc<Self>) -> u64 {
        let answers = {
            let mut state = self.state.lock();
            let uncovered = (state.in_use + 1).saturating_sub(state.held.len());
            state.wanted = self.waiting.load(Ordering::Relaxed).max(1).max(uncovered);
            state.answers
        };
        self.enqueue();
        answers
    }

    /// Waits for an answer behind this number.
    async fn answered(&self, answers: u64) {
        while self.state.lock().answers == answers && !self.known.is_away.load(Ordering::Relaxed) {
            self.changed.notified().await;
        }
    }

    fn enqueue(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.state.lock().is_requesting, true) {
            self.known.requests.lock().push(Arc::clone(self));
            self.known.has_requests.notify_one();
        }
    }

    /// Carries out what the mailbox wants of the database, until it wants nothing or the database is away.
    pub(super) async fn request(&self, records: &dyn SessionRecords, instance: &str) {
        loop {
            let Some(requests) = self.state.lock().requests(self.key.kind) else { return };
            let is_done = (!requests.borrows || self.borrow(records, instance).await)
                && self.publish_quiet(records, requests.quiet).await
                && self.exchange_pace(records, &requests).await;
            if !is_done {
                self.state.lock().is_requesting = false;
                return;
            }
        }
    }

    /// Writes for how long the mail server throttles the mailbox. Returns whether the database has answered.
    async fn publish_quiet(&self, records: &dyn SessionRecords, quiet: Option<Duration>) -> bool {
        let Some(quiet) = quiet else { return true };
        let is_done = self.known.noted(records.throttle(&self.key, quiet).await).is_some();
        let mut state = self.state.lock();
        // A longer one may have come meanwhile.
        let is_longer = state.quiet_for(Instant::now()).is_some_and(|left| left > quiet);
        state.is_quiet_unknown &= !is_done || is_longer;
        is_done
    }

    /// Takes a part of the pace, and gives back what was not sent. Returns whether the database has answered.
    async fn exchange_pace(&self, records: &dyn SessionRecords, requests: &Requests) -> bool {
        if requests.unused > 0 {
            let time = self.state.lock().pace.time(requests.unused);
            // What is not given back is over within the time of these messages.
            if self.known.noted(records.return_pace(&self.key, time).await).is_none() {
                return false;
            }
        }
        if requests.messages == 0 {
            return true;
        }
        let time = self.state.lock().pace.time(requests.messages);
        let Some(ahead) = self.known.noted(records.draw_pace(&self.key, time).await) else { return false };
        self.state.lock().pace.add(requests.messages, ahead);
        true
    }

    /// Borrows what is wanted. Returns whether the database has answered.
    async fn borrow(&self, records: &dyn SessionRecords, instance: &str) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let (count, holds) = {
            let mut state = self.state.lock();
            let (wanted, holds) = (std::mem::take(&mut state.wanted), state.held.len());
            (wanted.min(most.saturating_sub(holds)).max(1), holds)
        };
        let small = |number: usize| i16::try_from(number).unwrap_or(i16::MAX);
        let (most, count, holds) = (small(most), small(count), small(holds));
        let sent = Instant::now();
        let request = SessionRequest { instance, most, count, holds, life: SESSION_LIFE };
        let answer = self.known.noted(records.borrow_sessions(&self.key, request).await);
        let is_answered = answer.is_some();
        let is_refused = answer.as_ref().is_some_and(|borrowed| borrowed.sessions.is_empty());
        self.state.lock().add(answer, sent);
        if is_refused {
            self.known.want(&self.key);
        }
        self.changed.notify_one();
        is_answered
    }

    /// Notes that the mail server throttles the mailbox for this time. All instances know it within seconds.
    pub fn leave_alone(self: &Arc<Self>, wait: Duration) {
        {
            let mut state = self.state.lock();
            let until = Instant::now() + wait;
            state.quiet_until = Some(state.quiet_until.map_or(until, |other| other.max(until)));
            state.is_quiet_unknown = true;
        }
        self.enqueue();
    }

    /// The end of the time for which the mail server throttles the mailbox.
    pub fn quiet_until(&self) -> Option<Instant> {
        self.state.lock().quiet_until
    }

    /// Counts a message. Returns the wait before the next one.
    pub fn message_sent(self: &Arc<Self>) -> Duration {
        let (wait, is_needed) = {
            let mut state = self.state.lock();
            let per_minute = usize::try_from(state.pace.per_minute()).unwrap_or(usize::MAX);
            let share = u32::try_from(self.known.share(per_minute)).unwrap_or(u32::MAX);
            let wait = state.pace.count(share);
            state.last_used = Some(Instant::now());
            (wait, state.pace.needed() > 0)
        };
        if is_needed && !self.known.is_away.load(Ordering::Relaxed) {
            self.enqueue();
        }
        wait
    }

    /// Returns whether another instance waits for a session of the mailbox.
    pub fn is_wanted(&self) -> bool {
        self.state.lock().others(Instant::now()).is_some()
    }

    /// Returns whether no session is free, and the last answer was that all are held.
    pub fn is_exhausted(&self) -> bool {
        let now = Instant::now();
        let state = self.state.lock();
        let allowed = match self.known.is_away.load(Ordering::Relaxed) {
            true => return state.in_use >= self.known.share(self.most.load(Ordering::Relaxed)),
            false => state.valid(now),
        };
        state.in_use >= allowed && state.refused.is_some_and(|refused| now - refused < REFUSAL)
    }

    /// The number of borrowed sessions, used or not.
    pub(super) fn held(&self) -> usize {
        self.state.lock().held.len()
    }

    /// The borrowed sessions.
    pub(super) fn borrowed(&self) -> Vec<(MailboxKey, HeldSession)> {
        self.state.lock().held.iter().map(|held| (self.key.clone(), held.session)).collect()
    }

    /// Takes out the sessions that are to be given back.
    pub(super) fn take_returned(&self) -> Vec<(MailboxKey, HeldSession)> {
        let returned = std::mem::take(&mut self.state.lock().returned);
        returned.into_iter().map(|session| (self.key.clone(), session)).collect()
    }

    /// Puts back a session that the database did not take.
    pub(super) fn return_later(&self, session: HeldSession) {
        self.state.lock().returned.push(session);
    }

    /// Gives up what was not in use since the last renewal. One stays for the next login of a mailbox that is in use.
    pub(super) fn give_up_idle(&self) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let is_used = state.last_used.is_some_and(|used| now - used < IDLE);
        let kept = std::mem::take(&mut state.most_in_use).max(usize::from(is_used)).max(state.in_use);
        state.most_in_use = state.in_use;
        while state.held.len() > kept && state.give_back() {}
    }

    /// Notes which of these sessions are held until then. The others are lost.
    pub(super) fn renewed(&self, before: &[HeldSession], now: &[HeldSession], until: Instant) {
        let mut state = self.state.lock();
        state.held.retain(|held| !before.contains(&held.session) || now.contains(&held.session));
        state.held.iter_mut().filter(|held| now.contains(&held.session)).for_each(|held| held.until = until);
    }

    /// Learns what other instances want, and whether the mail server throttles the mailbox.
    pub(super) fn learn(&self, news: &MailboxNews) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.learn_quiet(news.quiet, now);
        let Some(wanted) = news.wanted else { return };
        state.others = Some(Others { wanted, until: now + WISH });
        while self.hands_over(&mut state, now) {}
        drop(state);
        self.known.want(&self.key);
    }

    /// Asks for what is not covered: sessions that began without the database, and what it does not know yet.
    pub(super) fn catch_up(self: &Arc<Self>) {
        let has_request = {
            let mut state = self.state.lock();
            let uncovered = state.in_use.saturating_sub(state.held.len());
            if uncovered > 0 && state.wanted == 0 {
                state.wanted = uncovered;
            }
            state.wanted > 0 || state.is_quiet_unknown || state.pace.has_change()
        };
        if has_request {
            self.enqueue();
        }
    }

    /// Gives a free session to others that want one, where it is theirs. Returns whether it has.
    fn hands_over(&self, state: &mut State, now: Instant) -> bool {
        let is_waited_for = self.waiting.load(Ordering::Relaxed) > 0;
        let holds = i16::try_from(state.held.len()).unwrap_or(i16::MAX);
        let Some(wanted) = state.others(now).filter(|wanted| wanted.count > 0) else { return false };
        let is_theirs = !is_waited_for || holds > wanted.holds.saturating_add(1) || wanted.holds == 0;
        let is_given = is_theirs && state.give_back();
        if let Some(others) = state.others.as_mut().filter(|_| is_given) {
            others.wanted.holds = others.wanted.holds.saturating_add(1);
            others.wanted.count -= 1;
            self.known.has_returns.notify_one();
        }
        is_given
    }
}

impl State {
    /// What the mailbox wants of the database; none where it wants nothing, or no more.
    fn requests(&mut self, kind: SessionKind) -> Option<Requests> {
        let now = Instant::now();
        let is_used = self.last_used.is_some_and(|used| now - used < USED);
        let requests = Requests {
            borrows: self.wanted > 0,
            quiet: self.quiet_for(now).filter(|_| self.is_quiet_unknown),
            unused: self.pace.take_unused(),
            messages: match kind {
                SessionKind::Sending if is_used || self.pace.has_unpaid() => self.pace.needed(),
                SessionKind::Sending | SessionKind::Reading => 0,
            },
        };
        self.is_quiet_unknown &= requests.quiet.is_some();
        let wants = requests.borrows || requests.quiet.is_some() || requests.unused > 0 || requests.messages > 0;
        self.is_requesting = wants;
        wants.then_some(requests)
    }

    /// Adds what is borrowed, and notes that the database has answered, or has failed to.
    fn add(&mut self, answer: Option<Borrowed>, sent: Instant) {
        self.answers += 1;
        let Some(borrowed) = answer else { return };
        self.learn_quiet(borrowed.quiet, Instant::now());
        self.refused = borrowed.sessions.is_empty().then(Instant::now);
        let until = sent + SESSION_LIFE - MARGIN;
        for session in borrowed.sessions {
            // Its time was over, and the database has lent it anew.
            self.held.retain(|held| held.session.number != session.number);
            self.held.push(Held { session, until });
        }
    }

    /// Gives back a session that is not in use, if there is one. Returns whether there was.
    fn give_back(&mut self) -> bool {
        if self.held.len() <= self.in_use {
            return false;
        }
        let earliest = self.held.iter().enumerate().min_by_key(|(_, held)| held.until).map(|(index, _)| index);
        let Some(index) = earliest else { return false };
        let held = self.held.swap_remove(index);
        self.returned.push(held.session);
        true
    }

    /// The number of sessions that are borrowed now.
    fn valid(&self, now: Instant) -> usize {
        self.held.iter().filter(|held| held.until > now).count()
    }

    fn quiet_for(&self, now: Instant) -> Option<Duration> {
        self.quiet_until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    fn learn_quiet(&mut self, quiet: Option<Duration>, now: Instant) {
        if let Some(quiet) = quiet {
            let until = now + quiet;
            self.quiet_until = Some(self.quiet_until.map_or(until, |other| other.max(until)));
        }
    }

    fn others(&self, now: Instant) -> Option<Wanted> {
        self.others.as_ref().filter(|others| others.until > now).map(|others| others.wanted)
    }
}

impl Drop for BorrowedSession {
    fn drop(&mut self) {
        let mailbox = &self.0;
        let now = Instant::now();
        {
            let mut state = mailbox.state.lock();
            state.in_use = state.in_use.saturating_sub(1);
            state.last_used = Some(now);
            mailbox.hands_over(&mut state, now);
        }
        mailbox.changed.notify_one();
    }
}

/// A login that waits, or is about to.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The time for which one free session is kept behind the last one: most devices come again within it.
const IDLE: Duration = Duration::from_secs(150);
/// The time for which a mailbox takes parts of its pace behind its last use.
const USED: Duration = Duration::from_secs(5);
/// The time for which a wish of another instance counts, as in the database.
const WISH: Duration = Duration::from_secs(2);
/// The time for which an answer without a session counts.
const REFUSAL: Duration = Duration::from_secs(2);
