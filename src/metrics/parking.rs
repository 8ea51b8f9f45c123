//! The metrics of parked connections: those that a mailbox's next login may take.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::Metrics;
use super::definitions::Registrar;

/// The end of a parked connection that no device has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedEnd {
    /// Its time was over, or its token was about to end.
    Age,
    /// A device waited for a session of the mailbox.
    GaveWay,
    /// Another connection of the mailbox is parked, or as many as `limits.parked` allows.
    Full,
    /// The configuration was reloaded.
    Reload,
    /// The process ends.
    Drain,
    /// The mail server has refused or throttled the mailbox.
    Refused,
    /// The mail server has shown stale mail on a parked connection.
    Stale,
}

/// The fate of a parked connection that a login has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedTake {
    /// The device is in.
    Taken,
    /// It did not answer any more, and the login dials.
    Lost,
}

pub(super) struct ParkingMetrics {
    now: IntGauge,
    kept: IntCounter,
    taken: IntCounter,
    lost: IntCounter,
    ended: IntCounterVec,
    stale: IntCounter,
}

impl ParkingMetrics {
    pub(super) fn register(to: &Registry) -> prometheus::Result<Self> {
        let to = Registrar(to);
        let ended = to.counters(
            "packetboat_parked_ended_total",
            "Parked connections that ended without a login, by reason.",
            &["reason"],
        )?;
        for end in ParkedEnd::ALL {
            ended.with_label_values(&[end.label()]);
        }
        Ok(Self {
            now: to.gauge("packetboat_parked_connections", "Connections that wait for their mailbox's next login.")?,
            kept: to.counter("packetboat_parked_total", "Connections that were parked after a LOGOUT.")?,
            taken: to.counter("packetboat_parked_taken_total", "Logins that took a parked connection.")?,
            lost: to.counter(
                "packetboat_parked_lost_total",
                "Parked connections that did not answer any more when a login took them.",
            )?,
            ended,
            stale: to.counter(
                "packetboat_parked_stale_total",
                "Parked connections that showed older mail than a fresh login did.",
            )?,
        })
    }
}

impl ParkedEnd {
    const ALL: [Self; 7] =
        [Self::Age, Self::GaveWay, Self::Full, Self::Reload, Self::Drain, Self::Refused, Self::Stale];

    /// The value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::GaveWay => "gave_way",
            Self::Full => "full",
            Self::Reload => "reload",
            Self::Drain => "drain",
            Self::Refused => "refused",
            Self::Stale => "stale",
        }
    }
}

impl Metrics {
    /// Counts a connection that is parked now.
    pub fn parked(&self) {
        self.parking.kept.inc();
    }

    /// Sets the number of connections that are parked.
    pub fn set_parked(&self, now: usize) {
        self.parking.now.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// Counts a login that has taken a parked connection.
    pub fn parked_taken(&self, take: ParkedTake) {
        match take {
            ParkedTake::Taken => self.parking.taken.inc(),
            ParkedTake::Lost => self.parking.lost.inc(),
        }
    }

    /// Counts a parked connection that has ended without a login.
    pub fn parked_ended(&self, end: ParkedEnd) {
        self.parking.ended.with_label_values(&[end.label()]).inc();
    }

    /// Counts a parked connection that has shown older mail than a fresh login.
    pub fn parked_was_stale(&self) {
        self.parking.stale.inc();
    }
}
