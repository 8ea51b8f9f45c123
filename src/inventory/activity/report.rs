//! A report says of one configured device whether it gets its mail and sends its messages, for the page, the commands and the metrics.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::logins::Logins;
use super::sending::{SendingReport, SendingState};
use crate::failure::Kind;
use crate::inventory::SeenDevice;
use crate::inventory::clock::Shift;
use crate::inventory::serde_names::kind_label;

/// The report on one device. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Report {
    /// The first login of its `[[device]]`.
    pub device: String,
    /// Its description in the configuration.
    pub description: Option<String>,
    /// The account that it opens.
    pub account: Option<String>,
    /// The mailbox of that account.
    pub mailbox: Option<String>,
    /// Whether it gets its mail and sends its messages.
    pub state: State,
    /// The beginning of that state: the last sign of life, the first failure, or the time at which packetboat first
    /// knew the device.
    pub since: Option<u64>,
    /// The time of its last successful login.
    pub last_login: Option<u64>,
    /// The end of the last session in which it has fetched a message.
    pub last_mail: Option<u64>,
    /// The last time at which a session of it was open.
    pub last_seen: Option<u64>,
    /// The address of its last login.
    pub source: Option<IpAddr>,
    /// The number of its open sessions.
    pub open: usize,
    /// Successful logins in the last 24 hours.
    pub sessions: u64,
    /// Those logins by their way to the mail server, with their times.
    #[serde(default)]
    pub logins: Logins,
    /// Messages that it has fetched in the last 24 hours, by sessions that have ended.
    pub messages: u64,
    /// Octets that it was sent after login in the last 24 hours, by sessions that have ended.
    pub octets: u64,
    /// The usual time between its visits, in seconds; none before a few visits.
    pub usual_interval: Option<u64>,
    /// The silence after which it counts as silent, in seconds.
    pub silent_after: u64,
    /// Its last failure, in plain words.
    pub failure: Option<String>,
    /// The kind of that failure.
    #[serde(default, with = "kind_label")]
    pub reason: Option<Kind>,
    /// The time of that.
    pub failed: Option<u64>,
    /// Its reading side; none for a device that only sends.
    #[serde(default)]
    pub reading: Option<ReadingReport>,
    /// Its sending side; none for a device that has never tried to send.
    #[serde(default)]
    pub sending: Option<SendingReport>,
    /// The instance of the fleet that has had a sign of life of it last; none without a fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// The reading side of a device, by IMAP or POP3. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ReadingReport {
    /// The first failure since the last login, if there was one.
    pub failing_since: Option<u64>,
    /// The last login that opened the mailbox to read.
    pub last_login: Option<u64>,
}

/// The states of a configured device, in the order in which people should look at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its last login or session has failed.
    Failing,
    /// The mail server, or the account's rules, have refused every message since the last accepted one.
    Refused,
    /// It has logged in before, and nothing was heard of it for much longer than usual.
    Silent,
    /// It has never logged in.
    Never,
    /// It gets its mail, or sends.
    Ok,
}

impl Report {
    /// Returns whether the device sends, and reads no mailbox.
    pub fn sends_alone(&self) -> bool {
        self.reading.is_none() && self.sending.is_some()
    }

    /// Returns whether the device logs in to send, and sends nothing.
    pub fn sends_nothing(&self) -> bool {
        self.sending.as_ref().is_some_and(|sending| sending.state == SendingState::Nothing)
    }

    /// The last sign of life: an open session, a login, or a failure; none before the first.
    pub fn sign_of_life(&self) -> Option<u64> {
        self.last_seen.max(self.last_login).max(self.failed)
    }

    /// Moves all times, so that the last sign of life was at this time: another instance has written them by its own
    /// clock.
    pub(in crate::inventory) fn shift(&mut self, sign_of_life: u64) {
        let Some(shift) = Shift::new(self.sign_of_life().unwrap_or(sign_of_life), sign_of_life) else { return };
        let Self { since, last_login, last_mail, last_seen, failed, reading, sending, .. } = self;
        let mut times = vec![since, last_login, last_mail, last_seen, failed];
        if let Some(ReadingReport { failing_since, last_login }) = reading {
            times.extend([failing_since, last_login]);
        }
        if let Some(SendingReport { since, last_login, last_sent, failed, .. }) = sending {
            times.extend([since, last_login, last_sent, failed]);
        }
        for time in times {
            *time = time.map(|time| shift.of(time));
        }
    }

    /// Takes the last failure of what was seen of the device, such as a TLS handshake, if it is newer than its own. A
    /// device that gets its mail keeps its own.
    fn take_failure(&mut self, seen: &SeenDevice) {
        let is_newer = seen.failed > self.failed && seen.failed > self.last_login;
        if self.state != State::Ok && is_newer && seen.needs_attention() {
            (self.failure, self.reason, self.failed) = (seen.failure.clone(), seen.reason, seen.failed);
        }
    }
}

/// Gives each report the last failure of what was seen of its device.
pub(in crate::inventory) fn take_failures(reports: &mut [Report], seen: &[SeenDevice]) {
    let mut by_name: HashMap<&str, Vec<&SeenDevice>> = HashMap::new();
    for device in seen {
        if let Some(name) = &device.configured {
            by_name.entry(name).or_default().push(device);
        }
    }
    for report in reports {
        let of_it = by_name.get(report.device.as_str()).map(Vec::as_slice).unwrap_or_default();
        of_it.iter().for_each(|device| report.take_failure(device));
    }
}

#[cfg(test)]
impl Report {
    /// A device that has never logged in.
    pub(in crate::inventory) fn never(device: &str) -> Self {
        use super::record::{Record, Rules};
        Record::new(device, 1).report(1, 0, Rules { started: 1, silent_after: 7200 })
    }
}

impl State {
    /// All states, in their order.
    pub const ALL: [State; 5] = [State::Failing, State::Refused, State::Silent, State::Never, State::Ok];

    /// The label in metrics, JSON and CSV.
    pub fn label(self) -> &'static str {
        match self {
            State::Failing => "failing",
            State::Refused => "refused",
            State::Silent => "silent",
            State::Never => "never",
            State::Ok => "ok",
        }
    }
}
