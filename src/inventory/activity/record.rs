//! The record of one configured device: its logins, its mail, its failures, and the usual time between its visits.

use std::collections::VecDeque;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::hours::Hours;
use super::report::{Report, State};
use crate::failure::{Failure, Kind};
use crate::inventory::serde_names::kind_label;

/// The facts of one device. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Record {
    /// The first login of its `[[device]]`.
    login: String,
    /// The time at which packetboat first knew it.
    known_since: u64,
    last_login: Option<u64>,
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
    /// The first failure since the last login.
    failing_since: Option<u64>,
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
            is_silent: false,
        }
    }

    pub(super) fn login(&self) -> &str {
        &self.login
    }

    pub(super) fn logged_in(&mut self, source: IpAddr, now: u64) {
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
        self.failing_since = None;
        self.hours.add_session(now);
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

    pub(super) fn failed(&mut self, source: IpAddr, failure: &Failure, now: u64) {
        self.failure = Some(failure.to_string().chars().take(LONGEST_FAILURE).collect());
        self.reason = Some(failure.kind);
        self.failed = Some(now);
        self.failing_since = self.failing_since.or(Some(now));
        if self.last_login.is_none() {
            self.source = Some(source);
        }
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
        let Self { last_login, visit, last_seen, last_mail, failed, failing_since, .. } = self;
        for time in [last_login, visit, last_seen, last_mail, failed, failing_since] {
            *time = time.map(|time| time.min(now));
        }
        self.gaps.truncate(GAPS);
    }

    /// The median of the times between its last visits; none before a few are known.
    fn usual_interval(&self) -> Option<u64> {
        let mut gaps: Vec<u64> = self.gaps.iter().copied().collect();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied().filter(|_| gaps.len() >= FEWEST_GAPS)
    }

    /// The silence after which it counts as silent.
    fn longest_silence(&self, rules: Rules) -> u64 {
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
        let (state, since) = if self.is_silent(now, open, rules) {
            (State::Silent, self.last_seen)
        } else if self.failing_since.is_some() {
            (State::Failing, self.failing_since)
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
            messages: day.messages,
            octets: day.octets,
            usual_interval: self.usual_interval(),
            silent_after: self.longest_silence(rules),
            failure: self.failure.clone(),
            reason: self.reason,
            failed: self.failed,
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
/// In characters.
const LONGEST_FAILURE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn rules(started: u64) -> Rules {
        Rules { started, silent_after: 2 * HOUR }
    }

    /// A device that comes so often; and the time of its last visit.
    fn regular(interval: u64, visits: u64) -> (Record, u64) {
        let mut record = Record::new("copier", START);
        for visit in 0..visits {
            record.logged_in(SOURCE, START + visit * interval);
            record.left(START + visit * interval + 1);
        }
        (record, START + (visits - 1) * interval + 1)
    }

    fn is_silent_after(record: &Record, last: u64, silence: u64) -> bool {
        record.is_silent(last + silence, 0, rules(START))
    }

    #[test]
    fn the_usual_interval_decides_what_is_silence() {
        for (interval, visits, longest) in [
            (5 * MINUTE, 20, 2 * HOUR),
            (30, 40, 2 * HOUR),
            (HOUR, 10, 12 * HOUR),
            (24 * HOUR, 10, 12 * 24 * HOUR),
            // Not known yet.
            (5 * MINUTE, 3, 24 * HOUR),
            (5 * MINUTE, 1, 24 * HOUR),
        ] {
            let (record, last) = regular(interval, visits);
            assert!(!is_silent_after(&record, last, longest), "{interval} {visits}");
            assert!(is_silent_after(&record, last, longest + 1), "{interval} {visits}");
            assert!(!record.is_silent(last + longest + 1, 1, rules(START)), "a session is open");
        }
    }

    /// A device that opens ten connections once a day is not taken for one that comes every second.
    #[test]
    fn connections_at_once_are_one_visit() {
        let mut record = Record::new("copier", START);
        for day in 0..5 {
            for second in 0..10 {
                record.logged_in(SOURCE, START + day * 24 * HOUR + second);
            }
        }
        assert_eq!(record.usual_interval(), Some(24 * HOUR));
    }

    /// One long outage does not teach it another interval.
    #[test]
    fn an_outage_does_not_change_the_interval() {
        let (mut record, last) = regular(5 * MINUTE, 20);
        record.logged_in(SOURCE, last + 72 * HOUR);
        assert_eq!(record.usual_interval(), Some(5 * MINUTE));
    }

    #[test]
    fn no_device_is_silent_because_packetboat_did_not_run() {
        let (mut record, last) = regular(5 * MINUTE, 20);
        let restarted = rules(last + 10 * HOUR);
        assert!(!record.is_silent(last + 11 * HOUR, 0, restarted));
        assert!(record.is_silent(last + 13 * HOUR, 0, restarted));
        // One that was silent before stays so.
        record.set_silent(true);
        assert!(record.is_silent(last + 11 * HOUR, 0, restarted));
    }

    #[test]
    fn a_device_whose_logins_fail_is_not_silent_but_failing() {
        let (mut record, last) = regular(5 * MINUTE, 20);
        for minute in (5..300).step_by(5) {
            record.failed(SOURCE, &Failure::new(Kind::Connect, ""), last + minute * MINUTE);
        }
        let report = record.report(last + 300 * MINUTE, 0, rules(START));
        assert_eq!((report.state, report.since), (State::Failing, Some(last + 5 * MINUTE)));
        let later = record.report(last + 500 * MINUTE, 0, rules(START));
        assert_eq!((later.state, later.since), (State::Silent, Some(last)));
    }

    #[test]
    fn times_of_the_future_are_corrected() {
        let (mut record, last) = regular(5 * MINUTE, 5);
        record.correct_clock(START);
        assert!(record.last_login == Some(START) && record.last_seen == Some(START));
        // A clock that is set back takes no gap.
        record.logged_in(SOURCE, START - HOUR);
        assert_eq!(record.gaps.len(), 4);
        assert!(last > START);
    }
}
