//! These tests prove when a device counts as silent, failing or refused.

use super::*;
use crate::inventory::SendingState;

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
        record.logged_in(Protocol::Imap, SOURCE, START + visit * interval);
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
            record.logged_in(Protocol::Imap, SOURCE, START + day * 24 * HOUR + second);
        }
    }
    assert_eq!(record.usual_interval(), Some(24 * HOUR));
}

/// One long outage does not teach it another interval.
#[test]
fn an_outage_does_not_change_the_interval() {
    let (mut record, last) = regular(5 * MINUTE, 20);
    record.logged_in(Protocol::Imap, SOURCE, last + 72 * HOUR);
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
        record.failed(Protocol::Imap, SOURCE, &Failure::new(Kind::Connect, ""), last + minute * MINUTE);
    }
    let report = record.report(last + 300 * MINUTE, 0, rules(START));
    assert_eq!((report.state, report.since), (State::Failing, Some(last + 5 * MINUTE)));
    let later = record.report(last + 500 * MINUTE, 0, rules(START));
    assert_eq!((later.state, later.since), (State::Silent, Some(last)));
}

/// A device that only sends comes when somebody scans: not at night, and not on holidays.
#[test]
fn a_device_that_only_sends_is_silent_after_a_week() {
    let mut record = Record::new("copier", START);
    for visit in 0..20 {
        record.logged_in(Protocol::Smtp, SOURCE, START + visit * 5 * MINUTE);
        record.sent(1, 100, START + visit * 5 * MINUTE);
    }
    let last = START + 19 * 5 * MINUTE;
    record.left(last);
    assert!(!record.is_silent(last + WEEK, 0, rules(START)) && record.is_silent(last + WEEK + 1, 0, rules(START)));
    assert_eq!((record.usual_interval(), record.longest_silence(rules(START))), (None, WEEK));
    record.logged_in(Protocol::Smtp, SOURCE, last + 5 * WEEK);
    assert_eq!(record.longest_silence(rules(START)), 15 * WEEK, "three times its longest pause");
    // A device that reads as well comes by itself.
    record.logged_in(Protocol::Imap, SOURCE, last + 5 * WEEK + HOUR);
    assert!(record.longest_silence(rules(START)) < 24 * HOUR);
}

/// Reading and sending are judged apart: success with one does not hide failures of the other.
#[test]
fn a_device_that_reads_and_sends_is_judged_by_both() {
    let mut record = Record::new("copier", START);
    let state = |record: &Record| {
        let report = record.report(START + HOUR, 0, rules(START));
        (
            report.state,
            report.since,
            report.reading.map(|reading| reading.failing_since),
            report.sending.map(|one| one.state),
        )
    };
    record.logged_in(Protocol::Imap, SOURCE, START);
    assert_eq!(state(&record), (State::Ok, None, Some(None), None));
    record.failed(Protocol::Smtp, SOURCE, &Failure::new(Kind::SmtpAuthDisabled, ""), START + 1);
    record.logged_in(Protocol::Imap, SOURCE, START + 2);
    let failing = (State::Failing, Some(START + 1), Some(None), Some(SendingState::Failing));
    assert_eq!(state(&record), failing, "a login to read mends no login to send");
    record.logged_in(Protocol::Smtp, SOURCE, START + 3);
    assert_eq!(state(&record), (State::Ok, None, Some(None), Some(SendingState::Nothing)));
    record.refused(&Failure::new(Kind::MessageTooBig, ""), START + 4);
    record.logged_in(Protocol::Imap, SOURCE, START + 5);
    assert_eq!(state(&record), (State::Refused, Some(START + 4), Some(None), Some(SendingState::Refused)));
    record.failed(Protocol::Imap, SOURCE, &Failure::new(Kind::Connect, ""), START + 6);
    record.sent(3, 1000, START + 7);
    let failing = (State::Failing, Some(START + 6), Some(Some(START + 6)), Some(SendingState::Sends));
    assert_eq!(state(&record), failing, "a message mends no login to read");
    record.logged_in(Protocol::Imap, SOURCE, START + 8);
    assert_eq!(state(&record), (State::Ok, None, Some(None), Some(SendingState::Sends)));
}

/// A device that was set to IMAP at first, and only sends now, is well.
#[test]
fn a_login_by_the_right_protocol_forgives_the_wrong_one() {
    let mut record = Record::new("copier", START);
    record.failed(Protocol::Imap, SOURCE, &Failure::new(Kind::WrongPassword, ""), START);
    record.logged_in(Protocol::Smtp, SOURCE, START + 1);
    record.sent(1, 1, START + 1);
    let report = record.report(START + 2, 0, rules(START));
    assert_eq!((report.state, report.sends_alone()), (State::Ok, true));
}

#[test]
fn times_of_the_future_are_corrected() {
    let (mut record, last) = regular(5 * MINUTE, 5);
    record.correct_clock(START);
    assert!(record.last_login == Some(START) && record.last_seen == Some(START));
    // A clock that is set back takes no gap.
    record.logged_in(Protocol::Imap, SOURCE, START - HOUR);
    assert_eq!(record.gaps.len(), 4);
    assert!(last > START);
}
