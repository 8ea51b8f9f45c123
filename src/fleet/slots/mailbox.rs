//! The sessions of one mailbox: those that this instance has borrowed, and those that are in use.

mod exchange;
mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::{Known, LOGIN_PATIENCE, POLL, STALL};
use crate::fleet::records::{HeldSession, MailboxKey, MailboxNews, SessionKind};
use state::{Others, State};

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
        if let Some(taken) = self.take(false) {
            return taken;
        }
        if !self.known.is_away.load(Ordering::Relaxed) {
            self.known.counts.waited.fetch_add(1, Ordering::Relaxed);
        }
        let mut has_stalled = false;
        loop {
            let mut is_alone = false;
            if !self.known.is_away.load(Ordering::Relaxed) && !self.has_just_given(Instant::now()) {
                let (answers, begun) = (self.ask(), Instant::now());
                let is_late = timeout(LOGIN_PATIENCE, self.answered(answers)).await.is_err();
                // Much later than that, this process has slept, and has not read an answer that may be there.
                is_alone = is_late && (has_stalled || begun.elapsed() < LOGIN_PATIENCE + STALL);
                has_stalled = is_late && !is_alone;
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
        let is_alone = is_alone || state.has_just_failed(now);
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

    /// Returns whether this instance has just given a session to another one, which shall get it.
    fn has_just_given(&self, now: Instant) -> bool {
        self.state.lock().given.is_some_and(|given| now - given < POLL * 2)
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

    /// Waits until there are more answers than this number.
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
        self.state.lock().is_wanted(Instant::now())
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
        let is_wanted = state.is_wanted(now);
        drop(state);
        if is_wanted {
            self.known.want(&self.key);
        }
    }

    /// Asks for what is not covered: sessions that began without the database, and what it does not know yet.
    pub(super) fn catch_up(self: &Arc<Self>) {
        let has_request = {
            let mut state = self.state.lock();
            let uncovered = state.in_use.saturating_sub(state.held.len());
            if self.waiting.load(Ordering::Relaxed) == 0 {
                state.wanted = uncovered;
            }
            state.wanted > 0 || state.is_quiet_unknown || state.pace.has_change()
        };
        if has_request {
            self.enqueue();
        }
    }

    /// Gives a free session to the instances that want one, if it is their turn. Returns whether it has.
    fn hands_over(&self, state: &mut State, now: Instant) -> bool {
        let is_waited_for = self.waiting.load(Ordering::Relaxed) > 0;
        let holds = i16::try_from(state.held.len()).unwrap_or(i16::MAX);
        let Some(wanted) = state.others(now) else { return false };
        let is_theirs = !is_waited_for || holds > wanted.holds.saturating_add(1) || wanted.holds == 0;
        let is_given = is_theirs && state.give_back();
        if is_given {
            state.given = Some(now);
        }
        if let Some(others) = state.others.as_mut().filter(|_| is_given) {
            others.wanted.holds = others.wanted.holds.saturating_add(1);
            others.wanted.count -= 1;
            self.known.has_returns.notify_one();
        }
        is_given
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

/// The time for which one free session is kept after the last use: most devices come again within it.
const IDLE: Duration = Duration::from_secs(150);
/// The time for which a wish of another instance counts, as in the database.
const WISH: Duration = Duration::from_secs(2);
/// The time for which an answer without a session counts.
const REFUSAL: Duration = Duration::from_secs(2);
