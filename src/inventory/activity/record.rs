//! The record of one configured device: its logins, its mail, its failures, and the usual time between its visits.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hours::Hours;
use super::logins::LoginWay;
use super::report::{ReadingReport, Report, State};
use super::sending::{Sending, WEEK, is_given_up};
use super::shorten;
use crate::failure::{Failure, Kind};
use crate::inventory::serde_names::kind_label;
use crate::protocol::Protocol;

/// The facts of one device. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Record {
    /// The first login of its `[[device]]`.
    login: String,
    /// The time at which packetboat first knew it.
    known_since: u64,
    last_login: Option<u64>,
    /// Its last login that opened a mailbox to read. Earlier versions have written none.
    #[serde(default)]
    last_read: Option<u64>,
    /// The beginning of its last visit. Logins within a minute of it belong to the same visit.
    visit: Option<u64>,
    /// The last time at which a session was open.
    last_seen: Option<u64>,
    /// The end of the last session in which it has fetched a message.
    last_mail: Option<u64>,
    /// The times between its last visits, the oldest first.
    gaps: VecDeque<u64>,
    hours: Hours,
    /// The address of its last login, or of its last failure before the first login.
    source: Option<IpAddr>,
    failure: Option<String>,
    /// The kind of that failure.
    #[serde(default, with = "kind_label")]
    reason: Option<Kind>,
    failed: Option<u64>,
    /// The first failure in reading since the last login to read.
    failing_since: Option<u64>,
    /// The last failure in reading.
    #[serde(default)]
    read_failed: Option<u64>,
    #[serde(default)]
    sending: Sending,
    /// The log has said that the device is silent, and not yet that it is back.
    is_silent: bool,
}

/// The rules by which a record is judged.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// The start of this process.
    pub(super) started: u64,
    /// The shortest silence that counts, in seconds.
    pub(super) silent_after: u64,
}

impl Record {
    pub(super) fn new(login: &str, now: u64) -> Self {
        Self {
            login: login.to_owned(),
            known_since: now,
            last_login: None,
            last_read: None,
            visit: None,
            last_seen: None,
            last_mail: None,
            gaps: VecDeque::new(),
            hours: Hours::default(),
            source: None,
            failure: None,
            reason: None,
            failed: None,
            failing_since: None,
            read_failed: None,
            sending: Sending::default(),
            is_silent: false,
        }
    }

    pub(super) fn login(&self) -> &str {
        &self.login
    }

    pub(super) fn logged_in(&mut self, protocol: Protocol, source: IpAddr, now: u64) {
        match self.visit {
            // A device that opens several connections at once, or polls all the time, comes once a minute at most.
            Some(visit) if now.saturating_sub(visit) < SAME_VISIT && visit <= now => {}
            Some(visit) => {
                if self.gaps.len() >= GAPS {
                    self.gaps.pop_front();
                }
                self.gaps.extend(now.checked_sub(visit));
                self.visit = Some(now);
            }
            None => self.visit = Some(now),
        }
        self.last_login = Some(now);
        self.last_seen = Some(now);
        self.source = Some(source);
        if protocol.submits() {
            self.sending.logged_in(now);
        } else {
            self.last_read = Some(now);
            self.failing_since = None;
        }
        self.hours.add_session(now);
    }

    /// Notes the way and the time of a login.
    pub(super) fn login_took(&mut self, way: LoginWay, took: Duration, now: u64) {
        self.hours.add_login(way, took, now);
    }

    pub(super) fn sent(&mut self, recipients: u64, octets: u64, now: u64) {
        self.sending.sent(recipients, now);
        self.hours.add_sent(recipients, octets, now);
    }

    /// Notes the refusal of a message, or of one of its recipients.
    pub(super) fn refused(&mut self, failure: &Failure, now: u64) {
        self.sending.refused(failure, now);
        if failure.message_refused_by.is_some() || failure.kind == Kind::OutcomeUnknown {
            self.hours.add_refused(now);
        }
        self.note(failure, now);
    }

    pub(super) fn sending_mut(&mut self) -> &mut Sending {
        &mut self.sending
    }

    pub(super) fn left_without_message(&mut self) {
        self.sending.left_without_message();
    }

    pub(super) fn session_ended(&mut self, messages: u64, octets: u64, now: u64) {
        self.hours.add_mail(messages, octets, now);
        if messages > 0 {
            self.last_mail = Some(now);
        }
    }

    pub(super) fn left(&mut self, now: u64) {
        self.last_seen = Some(now);
    }

    pub(super) fn failed(&mut self, protocol: Protocol, source: IpAddr, failure: &Failure, now: u64) {
        self.note(failure, now);
        if protocol.submits() {
            self.sending.login_failed(failure, now);
        } else {
            self.failing_since = self.failing_since.or(Some(now));
            self.read_failed = Some(now);
        }
        if self.last_login.is_none() {
            self.source = Some(source);
        }
    }

    fn note(&mut self, failure: &Failure, now: u64) {
        self.failure = Some(shorten(failure));
        self.reason = Some(failure.kind);
        self.failed = Some(now);
    }

    /// Takes a login that an earlier version has recorded.
    pub(super) fn seed(&mut self, source: IpAddr, logged_in: u64) {
        if self.last_login.is_none_or(|last| last < logged_in) {
            self.last_login = Some(logged_in);
            self.last_seen = Some(logged_in);
            self.visit = Some(logged_in);
            self.source = Some(source);
        }
    }

    /// Returns whether a login without proof may be the device's: from the address that it comes from, or before its
    /// first login.
    pub(super) fn may_be_at(&self, source: IpAddr) -> bool {
        self.last_login.is_none() || self.source == Some(source)
    }

    /// Takes no time of the future: a clock that was wrong has written it.
    pub(super) fn correct_clock(&mut self, now: u64) {
        self.known_since = self.known_since.min(now);
        let Self { last_login, last_read, visit, last_seen, last_mail, failed, failing_since, read_failed, .. } = self;
        for time in [last_login, last_read, visit, last_seen, last_mail, failed, failing_since, read_failed] {
            *time = time.map(|time| time.min(now));
        }
        self.sending.correct_clock(now);
        self.gaps.truncate(GAPS);
    }

    /// Returns whether it reads a mailbox, as far as is known.
    fn reads(&self) -> bool {
        let has_read = self.last_read.is_some() || self.last_mail.is_some();
        has_read || self.failing_since().is_some() || !self.sending.is_used()
    }

    /// The beginning of failures in reading. A device that was set to read by mistake is well once it sends; one that
    /// has read before, a week after its last failure.
    fn failing_since(&self) -> Option<u64> {
        let last_sending = self.sending.last_login();
        let failed = self.read_failed.or(self.failing_since);
        let patience = if self.last_read.is_some() { WEEK } else { 0 };
        self.failing_since.filter(|_| !is_given_up(failed, patience, last_sending))
    }

    /// The median of the times between its last visits; none before a few are known. A device that only sends comes when
    /// somebody uses it.
    fn usual_interval(&self) -> Option<u64> {
        if !self.reads() {
            return None;
        }
        let mut gaps: Vec<u64> = self.gaps.iter().copied().collect();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied().filter(|_| gaps.len() >= FEWEST_GAPS)
    }

    /// The silence after which it counts as silent.
    fn longest_silence(&self, rules: Rules) -> u64 {
        if !self.reads() {
            // Nobody may scan on holidays.
            let longest = self.gaps.iter().max().copied().unwrap_or_default();
            return longest.saturating_mul(LONGEST_PAUSES).max(WEEK).max(rules.silent_after);
        }
        let usual = self.usual_interval().unwrap_or(UNKNOWN_INTERVAL);
        usual.saturating_mul(MISSED_VISITS).max(rules.silent_after)
    }

    /// Returns whether nothing was heard of the device for too long. While packetboat did not run, nothing could be: a
    /// device that was not silent before has its time anew.
    pub(super) fn is_silent(&self, now: u64, open: usize, rules: Rules) -> bool {
        let Some(seen) = self.last_seen.filter(|_| open == 0) else { return false };
        let heard = self.failed.map_or(seen, |failed| failed.max(seen));
        let since = if self.is_silent { heard } else { heard.max(rules.started) };
        now.saturating_sub(since) > self.longest_silence(rules)
    }

    /// Notes whether it is silent. Returns whether that is news.
    pub(super) fn set_silent(&mut self, is_silent: bool) -> bool {
        std::mem::replace(&mut self.is_silent, is_silent) != is_silent
    }

    pub(super) fn report(&self, now: u64, open: usize, rules: Rules) -> Report {
        let failing = self.failing_since().into_iter().chain(self.sending.failing_since(self.last_read)).min();
        let (state, since) = if self.is_silent(now, open, rules) {
            (State::Silent, self.last_seen)
        } else if failing.is_some() {
            (State::Failing, failing)
        } else if self.sending.refused_since().is_some() {
            (State::Refused, self.sending.refused_since())
        } else if self.last_login.is_none() {
            (State::Never, Some(self.known_since))
        } else {
            (State::Ok, None)
        };
        let day = self.hours.last_day(now);
        Report {
            device: self.login.clone(),
            description: None,
            account: None,
            mailbox: None,
            state,
            since,
            last_login: self.last_login,
            last_mail: self.last_mail,
            last_seen: self.last_seen,
            source: self.source,
            open,
            sessions: day.sessions,
            logins: day.logins,
            messages: day.messages,
            octets: day.octets,
            usual_interval: self.usual_interval(),
            silent_after: self.longest_silence(rules),
            failure: self.failure.clone(),
            reason: self.reason,
            failed: self.failed,
            reading: self.reads().then(|| ReadingReport {
                failing_since: self.failing_since(),
                last_login: self.last_read.or(self.last_login.filter(|_| !self.sending.is_used())),
            }),
            sending: self.sending.report(self.last_read, &day, now),
            instance: None,
        }
    }
}

/// In seconds.
const SAME_VISIT: u64 = 60;
/// The number of times between visits that are kept.
const GAPS: usize = 15;
/// With fewer, the usual interval is not known.
const FEWEST_GAPS: usize = 3;
/// The interval of a device whose own is not known: it is silent after a day.
const UNKNOWN_INTERVAL: u64 = 2 * 60 * 60;
/// The number of visits that a device misses before it is silent.
const MISSED_VISITS: u64 = 12;
/// The number of its longest pauses after which a device that only sends is silent.
const LONGEST_PAUSES: u64 = 3;

#[cfg(test)]
mod tests;
