//! Limits on log lines about peers, per minute, in all and by source.
//!
//! A device that reconnects a thousand times a second would fill a disk otherwise. Suppressed lines are counted exactly
//! and reported within half a minute. Metrics count every connection in any case.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::warn;

use super::bucket::{Bucket, Buckets};
use crate::config::Log;
use crate::source::Source;

/// The quota of log lines, for all listeners together.
pub(in crate::proxy) struct LogQuota {
    state: Mutex<State>,
}

struct State {
    /// The limits, in lines a minute.
    most: Rates,
    /// Separate budgets for strangers and known devices, so that scans cannot hide known devices.
    in_all: [Bucket; 2],
    by_source: Buckets,
    suppressed: HashMap<SuppressionKey, Suppressed>,
    /// The time of the first suppressed line.
    since: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Rates {
    in_all: u32,
    of_source: u32,
}

/// A line about a peer that is to be written.
pub(in crate::proxy) struct LogLine<'a> {
    pub(in crate::proxy) kind: LineKind,
    pub(in crate::proxy) audience: Audience,
    pub(in crate::proxy) listener: &'a str,
    pub(in crate::proxy) reason: &'static str,
    pub(in crate::proxy) source: Option<IpAddr>,
}

/// The peers that a line is about. Each kind has a budget of its own, so that scans cannot hide known devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Audience {
    /// A peer that has not logged in.
    Stranger,
    /// A device whose login was verified.
    Known,
}

/// The kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::proxy) enum LineKind {
    /// A connection was refused.
    Refused,
    /// A login failed.
    Login,
    /// The mail server sent a notice in a running session.
    Notice,
    /// A session ended.
    Session,
    /// Accepting connections pauses.
    Pause,
}

/// A group of suppressed lines. The configuration bounds the number of groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SuppressionKey {
    kind: LineKind,
    listener: String,
    reason: &'static str,
}

#[derive(Default)]
struct Suppressed {
    count: u64,
    /// The counts of the first few sources.
    by_source: HashMap<Source, u64>,
}

/// A report of suppressed lines.
#[derive(Debug, PartialEq)]
struct SuppressedLines {
    about: SuppressionKey,
    count: u64,
    /// The source of most lines, with their number.
    most: Option<(Source, u64)>,
    within: Duration,
}

impl LogQuota {
    /// A quota of which nothing is used.
    pub(in crate::proxy) fn new(log: &Log) -> Self {
        let most = Rates::of(log);
        let (in_all, by_source) = ([Bucket::new(most.in_all); 2], Buckets::new(most.of_source));
        let state = State { most, in_all, by_source, suppressed: HashMap::new(), since: None };
        Self { state: Mutex::new(state) }
    }

    /// Sets other limits, from now on.
    pub(in crate::proxy) fn limit(&self, log: &Log) {
        self.state.lock().most = Rates::of(log);
    }

    /// Returns whether a line may be written now. A line that may not is counted as suppressed.
    pub(in crate::proxy) fn allows(&self, line: LogLine<'_>, now: Instant) -> bool {
        let LogLine { kind, audience, listener, reason, source } = line;
        let mut state = self.state.lock();
        let State { most, in_all, by_source, suppressed, since } = &mut *state;
        let [of_strangers, of_known] = in_all;
        let in_all = match audience {
            Audience::Stranger => of_strangers,
            Audience::Known => of_known,
        };
        let mut of_source = by_source.of(source);
        let of_source_has_left = of_source.as_mut().is_none_or(|bucket| bucket.fill(most.of_source, now));
        if in_all.fill(most.in_all, now) && of_source_has_left {
            in_all.take();
            of_source.into_iter().for_each(Bucket::take);
            return true;
        }
        since.get_or_insert(now);
        let about = SuppressionKey { kind, listener: listener.to_owned(), reason };
        let of_kind = suppressed.entry(about).or_default();
        of_kind.count += 1;
        if let Some(source) = source.map(Source::from) {
            let noted = of_kind.by_source.len();
            if let Some(count) = of_kind.by_source.get_mut(&source) {
                *count += 1;
            } else if noted < NOTED {
                of_kind.by_source.insert(source, 1);
            }
        }
        false
    }

    /// Logs how many lines were suppressed, once the first of them is some seconds old. Call it every few seconds.
    pub(in crate::proxy) fn report(&self, now: Instant) {
        self.take_suppressed(now, REPORT_AFTER).iter().for_each(SuppressedLines::write);
    }

    /// Logs how many lines were suppressed, whatever their age. Call it at the end.
    pub(in crate::proxy) fn report_all(&self, now: Instant) {
        self.take_suppressed(now, Duration::ZERO).iter().for_each(SuppressedLines::write);
    }

    fn take_suppressed(&self, now: Instant, age: Duration) -> Vec<SuppressedLines> {
        let mut state = self.state.lock();
        let Some(since) = state.since.filter(|since| now.saturating_duration_since(*since) >= age) else {
            return Vec::new();
        };
        state.since = None;
        let suppressed = std::mem::take(&mut state.suppressed);
        drop(state);
        let within = now.saturating_duration_since(since);
        let lines = |(about, suppressed): (SuppressionKey, Suppressed)| {
            let most = suppressed.by_source.into_iter().max_by_key(|(_, count)| *count);
            SuppressedLines { about, count: suppressed.count, most, within }
        };
        let mut reported: Vec<SuppressedLines> = suppressed.into_iter().map(lines).collect();
        reported.sort_by(|one, other| {
            other.count.cmp(&one.count).then_with(|| one.about.listener.cmp(&other.about.listener))
        });
        reported
    }
}

impl Rates {
    fn of(log: &Log) -> Self {
        Self { in_all: log.lines_per_minute, of_source: log.lines_per_minute_of_source }
    }
}

impl SuppressedLines {
    fn write(&self) {
        let Self { about: SuppressionKey { kind, listener, reason }, count, most, within } = self;
        let within = humantime::format_duration(Duration::from_secs(within.as_secs().max(1)));
        let most_of_them = match most {
            Some((_, of_source)) if of_source == count => ", all of them about this source".to_owned(),
            Some((_, of_source)) => format!(", {of_source} of them about this source"),
            None => String::new(),
        };
        warn!(
            source = most.map(|(source, _)| tracing::field::display(source)),
            listener,
            reason,
            left_out = count,
            "left out: {count} more lines \"{}\" with this listener and reason within {within}{most_of_them} \
             (log.lines_per_minute, log.lines_per_minute_of_source)",
            kind.words()
        );
    }
}

impl LineKind {
    /// The beginning of these lines in the log.
    fn words(self) -> &'static str {
        match self {
            LineKind::Refused => "refused",
            LineKind::Login => "login failed",
            LineKind::Notice => "the mail server said",
            LineKind::Session => "session ended",
            LineKind::Pause => "cannot accept connections",
        }
    }
}

/// The number of sources that are counted separately in each group.
const NOTED: usize = 64;
/// The time for which suppressed lines are counted before a report.
const REPORT_AFTER: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::super::bucket::BUCKETS;
    use super::*;

    fn quota(in_all: u32, of_source: u32) -> LogQuota {
        let log = crate::config::Config::parse("", std::path::Path::new("x")).unwrap().config.log;
        LogQuota::new(&Log { lines_per_minute: in_all, lines_per_minute_of_source: of_source, ..log })
    }

    fn line(
        kind: LineKind,
        audience: Audience,
        listener: &'static str,
        reason: &'static str,
        source: Option<IpAddr>,
    ) -> LogLine<'static> {
        LogLine { kind, audience, listener, reason, source }
    }

    fn source(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from(number.to_be_bytes()))
    }

    fn count(times: usize, mut takes: impl FnMut() -> bool) -> usize {
        (0..times).filter(|_| takes()).count()
    }

    #[test]
    fn a_source_has_a_minutes_worth_and_then_a_line_a_second() {
        let (quota, begun) = (quota(600, 60), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let takes = |number, now| {
            quota.allows(line(LineKind::Session, Audience::Stranger, "imap", "device_closed", source(number)), now)
        };
        assert_eq!(count(1000, || takes(1, at(0))), 60);
        assert_eq!(count(1000, || takes(2, at(0))), 60, "the other one has its own");
        assert_eq!(count(1000, || takes(1, at(10))), 10);
        assert_eq!(count(1000, || takes(1, at(3600))), 60, "no more than a minute's is saved up");
        assert_eq!(count(10, || takes(1, at(3599))), 0, "a clock that steps back gives nothing");
    }

    /// A peer with many addresses gets no further than the limit in all.
    #[test]
    fn all_sources_together_have_their_own_bound() {
        let (quota, now) = (quota(600, 60), Instant::now());
        let mut number = 0;
        let takes = |number| {
            quota.allows(line(LineKind::Refused, Audience::Stranger, "imap", "not_allowed", source(number)), now)
        };
        let written = count(100_000, || {
            number += 1;
            takes(number)
        });
        assert_eq!(written, 600);
        let reported = quota.take_suppressed(now, Duration::ZERO);
        assert_eq!((reported.len(), reported[0].count), (1, 99_400));
        let state = quota.state.lock();
        assert_eq!((state.by_source.count(), state.suppressed.len()), (BUCKETS, 0));
    }

    /// A port scan from many addresses hides no device that logs in.
    #[test]
    fn strangers_do_not_hide_known_devices() {
        let (quota, now) = (quota(600, 60), Instant::now());
        for number in 0..100_000 {
            quota.allows(line(LineKind::Refused, Audience::Stranger, "imap", "handshake", source(number)), now);
        }
        assert!(quota.allows(line(LineKind::Session, Audience::Known, "imap", "logged_out", source(7)), now));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let (quota, now) = (quota(600, 60), Instant::now());
        let mut number = 0_u128;
        let takes = || {
            number += 1;
            let source = IpAddr::from(std::net::Ipv6Addr::from((0x2001_0db8 << 96) | number));
            quota.allows(line(LineKind::Refused, Audience::Stranger, "imap", "handshake", Some(source)), now)
        };
        assert_eq!(count(1000, takes), 60);
    }

    /// A line that finds nothing left in all costs its source nothing.
    #[test]
    fn a_line_over_the_limit_in_all_costs_its_source_nothing() {
        let (quota, begun) = (quota(60, 60), Instant::now());
        let takes = |number, now| {
            quota.allows(line(LineKind::Session, Audience::Stranger, "imap", "logged_out", source(number)), now)
        };
        assert_eq!(count(60, || takes(1, begun)), 60);
        assert_eq!(count(60, || takes(2, begun)), 0);
        assert_eq!(count(60, || takes(2, begun + Duration::from_secs(60))), 60);
    }

    #[test]
    fn suppressed_lines_are_reported_once_and_to_the_last_line() {
        let (quota, begun) = (quota(600, 60), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        for _ in 0..100 {
            quota.allows(line(LineKind::Session, Audience::Stranger, "imap", "device_closed", source(7)), at(0));
        }
        quota.allows(line(LineKind::Refused, Audience::Stranger, "pop3", "too_many_from_source", source(7)), at(0));
        assert_eq!(quota.take_suppressed(at(19), REPORT_AFTER), []);
        let reported = quota.take_suppressed(at(20), REPORT_AFTER);
        let kinds: Vec<_> =
            reported.iter().map(|one| (one.about.kind, one.about.listener.as_str(), one.count)).collect();
        assert_eq!(kinds, [(LineKind::Session, "imap", 40), (LineKind::Refused, "pop3", 1)]);
        assert_eq!(reported[0].most, source(7).map(|source| (source.into(), 40)));
        assert_eq!(quota.take_suppressed(at(600), REPORT_AFTER), [], "reported once");
    }

    /// The memory for suppressed lines is bounded, whatever their number.
    #[test]
    fn the_first_few_sources_are_counted_separately() {
        let (quota, now) = (quota(1, 1), Instant::now());
        for number in 0..10_000 {
            quota.allows(line(LineKind::Login, Audience::Known, "imap", "wrong_password", source(number)), now);
        }
        let state = quota.state.lock();
        let suppressed = state.suppressed.values().next().unwrap();
        assert_eq!((suppressed.by_source.len(), suppressed.count), (NOTED, 9_999));
    }
}
