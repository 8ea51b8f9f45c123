//! Metrics for Prometheus, and the history for the page's charts. Only this module knows the crate.
//!
//! Labels come from the configuration and from fixed lists, never from a peer, so that their number is bounded.

mod definitions;
mod fleet;
mod history;
mod listener;
mod parking;
mod process;
mod spool;
mod submission;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{GaugeVec, Registry, TextEncoder};
use tokio::runtime::RuntimeMetrics;

use crate::config::Version;
use crate::failure::{Failure, Kind};
use definitions::{AccountMetrics, ListenerMetrics, ProcessMetrics};
pub use fleet::FleetNumbers;
pub use history::{History, Point};
pub use listener::ListenerCounters;
pub use parking::{ParkedEnd, ParkedTake};
pub use spool::SpoolNumbers;
pub use submission::SubmissionResult;

/// The error of metrics that cannot be registered or encoded.
#[derive(Debug)]
pub struct Error(prometheus::Error);

impl From<prometheus::Error> for Error {
    fn from(error: prometheus::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// The metrics of this process.
pub struct Metrics {
    registry: Registry,
    by_listener: ListenerMetrics,
    accounts: AccountMetrics,
    process: ProcessMetrics,
    spool: spool::SpoolMetrics,
    parking: parking::ParkingMetrics,
    fleet: fleet::FleetMetrics,
    /// Event loops whose tasks are counted.
    event_loops: Mutex<Vec<RuntimeMetrics>>,
    totals: TotalCounters,
    history: Mutex<History>,
    /// The number of [`ListenerCounters`] of each listener.
    listeners: Mutex<HashMap<String, usize>>,
}

/// Counters over all listeners since the start.
#[derive(Default)]
struct TotalCounters {
    sessions: AtomicU64,
    open: AtomicU64,
    handshake_failures: AtomicU64,
    login_failures: AtomicU64,
}

/// The counters over all listeners, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that were admitted.
    pub sessions: u64,
    /// Connections that are open.
    pub open: u64,
    /// Handshakes with devices that failed.
    pub handshake_failures: u64,
    /// Logins that failed.
    pub login_failures: u64,
}

/// A kind of credential or certificate that expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryKind {
    /// A certificate of a listener.
    Certificate,
    /// A certificate that an application authenticates with.
    IdentityCertificate,
    /// An application's secret.
    ClientSecret,
    /// A person's sign-in.
    RefreshToken,
}

/// The end of an admitted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The device logged out by LOGOUT or QUIT.
    LoggedOut,
    /// The device closed the connection.
    DeviceClosed,
    /// The mail server closed the connection.
    ServerClosed,
    /// The proxy dropped the connection, at the end of the process.
    Aborted,
    /// The connection failed.
    Failed(Kind),
}

impl SessionEnd {
    /// The value of the label `reason`, and of the field `reason` in the log.
    pub fn label(self) -> &'static str {
        match self {
            SessionEnd::LoggedOut => "logged_out",
            SessionEnd::DeviceClosed => "device_closed",
            SessionEnd::ServerClosed => "server_closed",
            SessionEnd::Aborted => "aborted",
            SessionEnd::Failed(kind) => kind.label(),
        }
    }
}

impl Metrics {
    /// Metrics at nought.
    ///
    /// # Errors
    /// Two metrics have the same name, which a test would have found.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        Ok(Self {
            by_listener: ListenerMetrics::register(&registry)?,
            accounts: AccountMetrics::register(&registry)?,
            process: ProcessMetrics::register(&registry)?,
            spool: spool::SpoolMetrics::register(&registry)?,
            parking: parking::ParkingMetrics::register(&registry)?,
            fleet: fleet::FleetMetrics::register(&registry)?,
            registry,
            event_loops: Mutex::default(),
            totals: TotalCounters::default(),
            history: Mutex::default(),
            listeners: Mutex::default(),
        })
    }

    /// Includes the tasks of this event loop.
    pub fn add_event_loop(&self, event_loop: RuntimeMetrics) {
        self.event_loops.lock().push(event_loop);
    }

    /// Counts a connection that was refused.
    pub fn connection_refused(&self, listener: &str, kind: Kind) {
        self.by_listener.refused.with_label_values(&[listener, kind.label()]).inc();
    }

    /// Counts a pause in accepting connections.
    pub fn accept_paused(&self, listener: &str) {
        self.by_listener.pauses.with_label_values(&[listener]).inc();
    }

    /// Counts an admitted connection.
    pub fn connection_opened(&self, listener: &ListenerCounters) {
        listener.accepted.inc();
        listener.open.inc();
        self.totals.sessions.fetch_add(1, Ordering::Relaxed);
        self.totals.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a completed handshake with a device.
    pub fn handshake_completed(&self, listener: &str, version: Option<Version>) {
        self.by_listener.handshakes.with_label_values(&[listener, version.map_or("unknown", Version::key)]).inc();
    }

    /// Counts a failed handshake with a device.
    pub fn handshake_failed(&self, listener: &str, failure: &Failure) {
        self.by_listener.handshake_failures.with_label_values(&[listener, failure.kind.label()]).inc();
        self.totals.handshake_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failed login.
    pub fn login_failed(&self, listener: &str, failure: &Failure) {
        self.by_listener.login_failures.with_label_values(&[listener, failure.kind.label()]).inc();
        self.totals.login_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of an admitted connection.
    pub fn connection_closed(&self, name: &str, listener: &ListenerCounters, end: SessionEnd, lasted: Duration) {
        listener.open.dec();
        listener.session_seconds.observe(lasted.as_secs_f64());
        self.by_listener.sessions.with_label_values(&[name, end.label()]).inc();
        self.totals.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets the configured limit on connections.
    pub fn set_connection_limit(&self, limit: usize) {
        self.process.limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// Notes that a configuration was loaded, at this time in seconds since 1970.
    pub fn config_loaded(&self, now: u64) {
        self.process.reload_success.set(1);
        self.process.reload_time.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// Sets whether all state is on the disk.
    pub fn set_state_written(&self, all: bool) {
        self.process.state_written.set(i64::from(all));
    }

    /// Sets the number of log lines that were lost since the start, because nobody read standard error.
    pub fn log_lines_lost(&self, lost: u64) {
        self.process.log_lines_lost.inc_by(lost.saturating_sub(self.process.log_lines_lost.get()));
    }

    /// The time at which the running configuration was loaded, in seconds since 1970.
    pub fn config_loaded_at(&self) -> i64 {
        self.process.reload_time.get()
    }

    /// Counts a reload that was accepted or rejected, at this time in seconds since 1970.
    pub fn config_reloaded(&self, taken: bool, now: u64) {
        self.process.reloads.with_label_values(&[if taken { "ok" } else { "refused" }]).inc();
        if taken {
            self.config_loaded(now);
        } else {
            self.process.reload_success.set(0);
        }
    }

    /// Sets the number of devices, by assessment.
    pub fn devices(&self, counts: &[(&'static str, usize)]) {
        for (verdict, count) in counts {
            self.accounts.devices.with_label_values(&[*verdict]).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// Sets the last login of each configured device in seconds since 1970, or 0, and its state.
    pub fn device_states<'a>(&self, devices: impl Iterator<Item = (&'a str, u64, &'a str)>) {
        self.accounts.device_login.reset();
        self.accounts.device_trouble.reset();
        for (device, last_login, state) in devices {
            self.accounts.device_login.with_label_values(&[device]).set(last_login as f64);
            for trouble in ["failing", "refused", "silent", "never"] {
                self.accounts.device_trouble.with_label_values(&[device, trouble]).set(i64::from(state == trouble));
            }
        }
    }

    /// Sets the expiry of each account's token in seconds since 1970, or 0, and its trouble.
    pub fn tokens<'a>(&self, tokens: impl Iterator<Item = (&'a str, u64, Option<Kind>)>) {
        self.accounts.token_expiry.reset();
        self.accounts.token_trouble.reset();
        for (account, until, trouble) in tokens {
            self.accounts.token_expiry.with_label_values(&[account]).set(until as f64);
            for kind in [Kind::TokenUnavailable, Kind::TokenRefused] {
                let has = i64::from(trouble == Some(kind));
                self.accounts.token_trouble.with_label_values(&[account, kind.label()]).set(has);
            }
        }
    }

    /// Sets the expiry of each credential and certificate, in seconds since 1970.
    pub fn expiries<'a>(&self, expiries: impl Iterator<Item = (ExpiryKind, &'a str, i64)>) {
        self.accounts.expiries.iter().for_each(GaugeVec::reset);
        for (what, name, until) in expiries {
            if let Some(gauges) = self.accounts.expiries.get(what as usize) {
                gauges.with_label_values(&[name]).set(until as f64);
            }
        }
    }

    /// The counters over all listeners, now.
    pub fn totals(&self) -> Totals {
        let read = |total: &AtomicU64| total.load(Ordering::Relaxed);
        Totals {
            sessions: read(&self.totals.sessions),
            open: read(&self.totals.open),
            handshake_failures: read(&self.totals.handshake_failures),
            login_failures: read(&self.totals.login_failures),
        }
    }

    /// Lends the history of the last day.
    pub fn history<T>(&self, use_it: impl FnOnce(&mut History) -> T) -> T {
        use_it(&mut self.history.lock())
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// A metric cannot be encoded.
    pub fn text(&self) -> Result<String, Error> {
        self.process.system.read();
        let loops = self.event_loops.lock();
        let tasks: usize = loops.iter().map(RuntimeMetrics::num_alive_tasks).sum();
        self.process.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
        drop(loops);
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_listener_that_is_gone_leaves_nothing_behind() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let before = metrics.text().unwrap().lines().filter(|line| !line.starts_with("process")).count();
        let listener = metrics.listener("x");
        metrics.connection_opened(&listener);
        metrics.handshake_completed("x", Some(Version::Tls1_0));
        metrics.handshake_failed("x", &Failure::new(Kind::Handshake, ""));
        metrics.login_failed("x", &Failure::new(Kind::WrongPassword, ""));
        metrics.connection_refused("x", Kind::NotAllowed);
        metrics.accept_paused("x");
        listener.logged_in(Duration::from_millis(70));
        listener.transferred((1, 2));
        listener.takes_submissions();
        listener.message_accepted(3, 4);
        listener.message_answered(Duration::from_secs(1));
        metrics.connection_closed("x", &listener, SessionEnd::LoggedOut, Duration::from_secs(3));
        assert!(metrics.text().unwrap().contains("packetboat_build_info{openssl=\"3."));
        assert!(metrics.text().unwrap().contains("packetboat_handshakes_total{listener=\"x\",version=\"tls1.0\"} 1"));
        let another = metrics.listener("x");
        drop(listener);
        assert!(metrics.text().unwrap().contains("listener=\"x\""), "a session goes on");
        drop(another);
        let text = metrics.text().unwrap();
        assert!(!text.contains("listener=\"x\""), "{text}");
        assert_eq!(text.lines().filter(|line| !line.starts_with("process")).count(), before);
        let counted = metrics.totals();
        assert_eq!((counted.sessions, counted.open, counted.handshake_failures, counted.login_failures), (1, 0, 1, 1));
    }
}
