//! The sessions, messages and octets of a device in the last day, fetched and sent, counted by the hour.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::logins::{LoginWay, Logins};

/// The counts of the last hours with sessions, the oldest first; at most 24.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Hours(VecDeque<Hour>);

/// The counts of one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Hour {
    /// The hour, counted from 1970.
    hour: u64,
    /// Successful logins.
    pub(super) sessions: u64,
    /// Messages that the device has fetched.
    pub(super) messages: u64,
    /// Octets that the device was sent after login.
    pub(super) octets: u64,
    /// Messages of the device that the mail server has accepted. Earlier versions counted none.
    #[serde(default)]
    pub(super) sent: u64,
    /// Recipients of those messages.
    #[serde(default)]
    pub(super) recipients: u64,
    /// Octets of those messages.
    #[serde(default)]
    pub(super) sent_octets: u64,
    /// Messages of the device that were refused.
    #[serde(default)]
    pub(super) refused: u64,
    /// Its logins by their way.
    #[serde(default)]
    pub(super) logins: Logins,
}

impl Hours {
    /// Counts a login.
    pub(super) fn add_session(&mut self, now: u64) {
        if let Some(hour) = self.present(now) {
            hour.sessions = hour.sessions.saturating_add(1);
        }
    }

    /// Counts the way and the time of a login.
    pub(super) fn add_login(&mut self, way: LoginWay, took: Duration, now: u64) {
        if let Some(hour) = self.present(now) {
            hour.logins.add(way, took);
        }
    }

    /// Counts what a session has brought.
    pub(super) fn add_mail(&mut self, messages: u64, octets: u64, now: u64) {
        if let Some(hour) = self.present(now) {
            hour.messages = hour.messages.saturating_add(messages);
            hour.octets = hour.octets.saturating_add(octets);
        }
    }

    /// Counts a message that the mail server has accepted.
    pub(super) fn add_sent(&mut self, recipients: u64, octets: u64, now: u64) {
        if let Some(hour) = self.present(now) {
            hour.sent = hour.sent.saturating_add(1);
            hour.recipients = hour.recipients.saturating_add(recipients);
            hour.sent_octets = hour.sent_octets.saturating_add(octets);
        }
    }

    /// Counts a message that was refused.
    pub(super) fn add_refused(&mut self, now: u64) {
        if let Some(hour) = self.present(now) {
            hour.refused = hour.refused.saturating_add(1);
        }
    }

    /// The sums of the present hour and the 23 before it.
    pub(super) fn last_day(&self, now: u64) -> Hour {
        let present = now / HOUR;
        let lately = self.0.iter().filter(|one| one.hour + KEPT > present && one.hour <= present);
        lately.fold(Hour { hour: present, ..Hour::default() }, |sum, one| Hour {
            hour: present,
            sessions: sum.sessions.saturating_add(one.sessions),
            messages: sum.messages.saturating_add(one.messages),
            octets: sum.octets.saturating_add(one.octets),
            sent: sum.sent.saturating_add(one.sent),
            recipients: sum.recipients.saturating_add(one.recipients),
            sent_octets: sum.sent_octets.saturating_add(one.sent_octets),
            refused: sum.refused.saturating_add(one.refused),
            logins: sum.logins.and(&one.logins),
        })
    }

    /// The present hour. A clock that was set back drops the hours that have not come yet.
    fn present(&mut self, now: u64) -> Option<&mut Hour> {
        let present = now / HOUR;
        self.0.retain(|one| one.hour + KEPT > present && one.hour <= present);
        if self.0.back().is_none_or(|last| last.hour != present) {
            self.0.push_back(Hour { hour: present, ..Hour::default() });
        }
        self.0.back_mut()
    }
}

/// In seconds.
const HOUR: u64 = 60 * 60;
/// The hours of a day.
const KEPT: u64 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_summed_and_no_more_is_kept() {
        let mut hours = Hours::default();
        for hour in 0..100 {
            hours.add_session(hour * HOUR + 5);
            hours.add_mail(2, 10, hour * HOUR + 3000);
            hours.add_sent(3, 100, hour * HOUR + 3000);
            hours.add_refused(hour * HOUR + 3001);
            hours.add_login(LoginWay::Parked, Duration::from_millis(hour), hour * HOUR + 5);
        }
        let day = hours.last_day(99 * HOUR);
        assert_eq!((day.sessions, day.messages, day.octets, hours.0.len()), (24, 48, 240, 24));
        assert_eq!((day.sent, day.recipients, day.sent_octets, day.refused), (24, 72, 2400, 24));
        assert_eq!((day.logins.parked, day.logins.total_ms, day.logins.longest_ms), (24, 24 * 175 / 2, 99));
        assert_eq!(hours.last_day(101 * HOUR).sessions, 22);
        assert_eq!(hours.last_day(1000 * HOUR), Hour { hour: 1000, ..Hour::default() });
    }

    #[test]
    fn a_clock_that_was_ahead_costs_those_hours_alone() {
        let mut hours = Hours::default();
        hours.add_session(10 * HOUR);
        hours.add_session(5000 * HOUR);
        hours.add_session(11 * HOUR);
        assert_eq!(hours.last_day(11 * HOUR).sessions, 1);
    }
}
