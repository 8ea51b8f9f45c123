//! The records of two instances about one device become one: counts add up, and the newer sign of life decides.

use super::SeenDevice;
use super::activity::{Report, SendingReport, State};

/// Joins what two instances have seen of one device.
pub(super) fn join_device(one: SeenDevice, other: SeenDevice) -> SeenDevice {
    let (mut newer, older) = if one.last_seen >= other.last_seen { (one, other) } else { (other, one) };
    newer.sessions = newer.sessions.saturating_add(older.sessions);
    newer.failures = newer.failures.saturating_add(older.failures);
    newer.open = newer.open.saturating_add(older.open);
    newer.first_seen = newer.first_seen.min(older.first_seen);
    if older.logged_in > newer.logged_in {
        newer.logged_in = older.logged_in;
        newer.known_as = older.known_as;
        newer.mailbox = older.mailbox;
    }
    if older.failed > newer.failed {
        newer.failed = older.failed;
        newer.failure = older.failure;
        newer.reason = older.reason;
    }
    for login in older.logins {
        if newer.logins.len() < super::LOGINS && !newer.logins.contains(&login) {
            newer.logins.push(login);
        }
    }
    newer.name = newer.name.or(older.name);
    newer
}

/// Joins what two instances report of one configured device. The state is that of the instance with the newer sign of
/// life; a device that this one has not seen since is silent once its time is over. `one` has the words of this
/// instance's configuration.
pub(super) fn join_report(one: Report, other: Report, now: u64) -> Report {
    let words = (one.description.clone(), one.account.clone(), one.mailbox.clone());
    let is_own_newer = one.sign_of_life() >= other.sign_of_life();
    let (newer, older) = if is_own_newer { (one, other) } else { (other, one) };
    let last_seen = newer.last_seen.max(older.last_seen);
    // The counts are of the last 24 hours, and an instance that has ended counts no more.
    let is_of_today = |report: &Report| report.sign_of_life().is_some_and(|seen| now.saturating_sub(seen) < DAY);
    let (of_newer, of_older) = (u64::from(is_of_today(&newer)), u64::from(is_of_today(&older)));
    let sum = |of: fn(&Report) -> u64| (of(&newer) * of_newer).saturating_add(of(&older) * of_older);
    let mut joined = Report {
        last_login: newer.last_login.max(older.last_login),
        last_mail: newer.last_mail.max(older.last_mail),
        last_seen,
        source: newer.source.or(older.source),
        open: newer.open.saturating_add(older.open),
        sessions: sum(|report| report.sessions),
        messages: sum(|report| report.messages),
        octets: sum(|report| report.octets),
        logins: if of_older == 0 { newer.logins } else { newer.logins.and(&older.logins) },
        usual_interval: newer.usual_interval.or(older.usual_interval),
        silent_after: newer.silent_after.max(older.silent_after),
        reading: newer.reading.clone().or_else(|| older.reading.clone().filter(|reading| reading.last_login.is_some())),
        sending: join_sending(newer.sending.clone(), older.sending.as_ref(), of_older > 0),
        ..newer
    };
    (joined.description, joined.account, joined.mailbox) = words;
    if older.failed > joined.failed {
        (joined.failure, joined.reason, joined.failed) = (older.failure, older.reason, older.failed);
    }
    let silence = now.saturating_sub(joined.sign_of_life().unwrap_or(now));
    if !is_own_newer && joined.open == 0 && last_seen.is_some() && silence > joined.silent_after {
        (joined.state, joined.since) = (State::Silent, last_seen);
    } else if joined.open > 0 && joined.state == State::Silent {
        (joined.state, joined.since) = (State::Ok, None);
    }
    joined
}

fn join_sending(newer: Option<SendingReport>, older: Option<&SendingReport>, counts: bool) -> Option<SendingReport> {
    let (Some(mut newer), Some(older)) = (newer.clone(), older) else { return newer.or_else(|| older.cloned()) };
    newer.last_login = newer.last_login.max(older.last_login);
    newer.last_sent = newer.last_sent.max(older.last_sent);
    if counts {
        newer.messages = newer.messages.saturating_add(older.messages);
        newer.recipients = newer.recipients.saturating_add(older.recipients);
        newer.recipients_of_hour = newer.recipients_of_hour.saturating_add(older.recipients_of_hour);
        newer.octets = newer.octets.saturating_add(older.octets);
        newer.refused = newer.refused.saturating_add(older.refused);
    }
    if older.failed > newer.failed {
        (newer.failure, newer.reason, newer.failed) = (older.failure.clone(), older.reason, older.failed);
    }
    Some(newer)
}

/// A day in seconds.
const DAY: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure, Kind};
    use crate::inventory::tests::{hello, inventory, observation};

    fn seen(last_seen: u64, logged_in: Option<u64>) -> SeenDevice {
        let inventory = inventory(10);
        drop(inventory.observe(&observation("192.0.2.1", Some(&hello(0x0301, &[0x2f])))));
        SeenDevice { last_seen, logged_in, first_seen: last_seen, ..inventory.devices().remove(0) }
    }

    #[test]
    fn counts_add_up_and_the_newer_one_leads() {
        let mut east = SeenDevice { instance: Some("east".to_owned()), ..seen(200, None) };
        east.logins = vec!["a".to_owned(), "b".to_owned()];
        let mut west = SeenDevice { instance: Some("west".to_owned()), ..seen(100, Some(100)) };
        west.fail(&Failure::new(Kind::WrongPassword, "wrong"), 90);
        (west.known_as, west.logins) = (Some("b".to_owned()), vec!["b".to_owned(), "c".to_owned()]);
        for joined in [join_device(east.clone(), west.clone()), join_device(west, east)] {
            assert_eq!((joined.instance.as_deref(), joined.last_seen, joined.first_seen), (Some("east"), 200, 100));
            assert_eq!((joined.sessions, joined.failures, joined.failed), (2, 1, Some(90)));
            assert_eq!((joined.known_as.as_deref(), joined.logged_in), (Some("b"), Some(100)));
            assert_eq!(joined.logins, ["a", "b", "c"]);
        }
    }

    fn report(state: State, last_seen: u64) -> Report {
        Report {
            state,
            since: (state != State::Ok).then_some(last_seen),
            last_login: Some(last_seen),
            last_seen: Some(last_seen),
            silent_after: 7200,
            sessions: 1,
            ..Report::never("fax1")
        }
    }

    /// A balancer has moved the device to another instance: here it is silent, and there it gets its mail.
    #[test]
    fn a_device_that_moves_is_not_silent() {
        let now = 1_000_000;
        let mut here = report(State::Silent, now - 100_000);
        here.account = Some("scans".to_owned());
        let mut there = report(State::Ok, now - 60);
        there.instance = Some("east".to_owned());
        let joined = join_report(here.clone(), there.clone(), now);
        assert_eq!((joined.state, joined.since, joined.sessions), (State::Ok, None, 1));
        assert_eq!((joined.account.as_deref(), joined.instance.as_deref()), (Some("scans"), Some("east")));
        // The other instance ends, and nobody hears of the device any more.
        let later = join_report(here, there, now + 8000);
        assert_eq!((later.state, later.since), (State::Silent, Some(now - 60)));
        let both = join_report(report(State::Ok, now), report(State::Ok, now - 10), now);
        assert_eq!((both.state, both.sessions), (State::Ok, 2));
    }

    #[test]
    fn an_earlier_failure_elsewhere_is_over_with_the_next_login() {
        let now = 1_000_000;
        let mut failing = report(State::Failing, now - 500);
        (failing.failed, failing.failure) = (Some(now - 400), Some("wrong".to_owned()));
        let joined = join_report(failing.clone(), report(State::Ok, now - 100), now);
        assert_eq!((joined.state, joined.failed), (State::Ok, Some(now - 400)));
        let joined = join_report(report(State::Ok, now - 450), failing, now);
        assert_eq!((joined.state, joined.failure.as_deref()), (State::Failing, Some("wrong")));
    }
}
