//! What is counted, in the terms of Prometheus. Only this file and its parts know its crate.
//!
//! Labels come from the configuration and from our own lists alone, never from a peer, so that their number is bounded.

mod history;
mod process;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::config::Version;
use crate::failure::{Failure, Kind};
pub use history::{History, Point};

/// Everything that is counted in this process.
pub struct Metrics {
    registry: Registry,
    accepted: IntCounterVec,
    refused: IntCounterVec,
    pauses: IntCounterVec,
    open: IntGaugeVec,
    limit: IntGauge,
    handshakes: IntCounterVec,
    handshake_failures: IntCounterVec,
    logins: IntCounterVec,
    login_failures: IntCounterVec,
    login_seconds: HistogramVec,
    sessions: IntCounterVec,
    session_seconds: HistogramVec,
    transferred: IntCounterVec,
    devices: IntGaugeVec,
    token_expiry: GaugeVec,
    token_trouble: IntGaugeVec,
    expiries: [GaugeVec; 4],
    reloads: IntCounterVec,
    reload_success: IntGauge,
    reload_time: IntGauge,
    process: process::Gauges,
    totals: Totals,
    history: Mutex<History>,
}

/// Over all listeners, since the start.
#[derive(Default)]
struct Totals {
    sessions: AtomicU64,
    open: AtomicU64,
    handshake_failures: AtomicU64,
    login_failures: AtomicU64,
}

/// The same, read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Connections that were let in.
    pub sessions: u64,
    /// Of them, those that are open.
    pub open: u64,
    /// Handshakes with devices that did not come about.
    pub handshake_failures: u64,
    /// Logins that came to nothing.
    pub login_failures: u64,
}

/// What ends one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiring {
    /// A certificate that devices are shown.
    Certificate,
    /// A certificate that an application proves itself with.
    IdentityCertificate,
    /// An application's secret.
    ClientSecret,
    /// A person's sign-in.
    RefreshToken,
}

/// The counters of one listener, found once.
pub struct OfListener {
    accepted: IntCounter,
    open: IntGauge,
    logins: IntCounter,
    login_seconds: prometheus::Histogram,
    session_seconds: prometheus::Histogram,
    upload: IntCounter,
    download: IntCounter,
}

impl Metrics {
    /// Everything at nought.
    ///
    /// # Errors
    /// Two of them have one name, which a test would have found.
    pub fn new() -> Result<Self, String> {
        let registry = Registry::new();
        build(&registry).map_err(|error| error.to_string()).map(|metrics| Self { registry, ..metrics })
    }

    /// The counters of a listener.
    pub fn of(&self, listener: &str) -> OfListener {
        OfListener {
            accepted: self.accepted.with_label_values(&[listener]),
            open: self.open.with_label_values(&[listener]),
            logins: self.logins.with_label_values(&[listener]),
            login_seconds: self.login_seconds.with_label_values(&[listener]),
            session_seconds: self.session_seconds.with_label_values(&[listener]),
            upload: self.transferred.with_label_values(&[listener, "upload"]),
            download: self.transferred.with_label_values(&[listener, "download"]),
        }
    }

    /// A listener is gone, and with it what was counted there.
    pub fn forget(&self, listener: &str) {
        for counters in [&self.accepted, &self.pauses, &self.logins] {
            let _ = counters.remove_label_values(&[listener]);
        }
        let _ = self.open.remove_label_values(&[listener]);
        let _ = self.login_seconds.remove_label_values(&[listener]);
        let _ = self.session_seconds.remove_label_values(&[listener]);
        let reasons = Kind::ALL.iter().map(|kind| kind.label());
        let reasons = reasons.chain(["logged_out", "device_closed", "server_closed"]);
        for label in reasons.chain(["upload", "download"]).chain(Version::ALL.map(Version::key)) {
            for counters in [
                &self.refused,
                &self.handshakes,
                &self.handshake_failures,
                &self.login_failures,
                &self.sessions,
                &self.transferred,
            ] {
                let _ = counters.remove_label_values(&[listener, label]);
            }
        }
    }

    /// A connection was turned away before anything was said.
    pub fn refused(&self, listener: &str, kind: Kind) {
        self.refused.with_label_values(&[listener, kind.label()]).inc();
    }

    /// No connection can be accepted for a while.
    pub fn paused(&self, listener: &str) {
        self.pauses.with_label_values(&[listener]).inc();
    }

    /// A connection is let in.
    pub fn opened(&self, listener: &OfListener) {
        listener.accepted.inc();
        listener.open.inc();
        self.totals.sessions.fetch_add(1, Ordering::Relaxed);
        self.totals.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A handshake with a device is done.
    pub fn shaken(&self, listener: &str, version: Option<Version>) {
        self.handshakes.with_label_values(&[listener, version.map_or("unknown", Version::key)]).inc();
    }

    /// A handshake with a device came to nothing.
    pub fn handshake_failed(&self, listener: &str, failure: &Failure) {
        self.handshake_failures.with_label_values(&[listener, failure.kind.label()]).inc();
        self.totals.handshake_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// A login came to nothing.
    pub fn login_failed(&self, listener: &str, failure: &Failure) {
        self.login_failures.with_label_values(&[listener, failure.kind.label()]).inc();
        self.totals.login_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection that was let in is over: why, and how long it took.
    pub fn closed(&self, name: &str, listener: &OfListener, reason: &str, lasted: Duration) {
        listener.open.dec();
        listener.session_seconds.observe(lasted.as_secs_f64());
        self.sessions.with_label_values(&[name, reason]).inc();
        self.totals.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// What was read of the configuration.
    pub fn configured(&self, limit: usize) {
        self.limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// A configuration was taken at this moment, in seconds since 1970.
    pub fn loaded(&self, now: u64) {
        self.reload_success.set(1);
        self.reload_time.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// When the running configuration was taken, in seconds since 1970.
    pub fn loaded_at(&self) -> i64 {
        self.reload_time.get()
    }

    /// A reload was taken or refused.
    pub fn reloaded(&self, taken: bool) {
        self.reloads.with_label_values(&[if taken { "ok" } else { "refused" }]).inc();
        if !taken {
            self.reload_success.set(0);
        }
    }

    /// The devices that are known, by verdict.
    pub fn devices(&self, counts: &[(&'static str, usize)]) {
        for (verdict, count) in counts {
            self.devices.with_label_values(&[*verdict]).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// When the tokens of accounts end, in seconds since 1970 (0 where there is none), and what trouble they have.
    pub fn tokens<'a>(&self, tokens: impl Iterator<Item = (&'a str, u64, Option<Kind>)>) {
        self.token_expiry.reset();
        self.token_trouble.reset();
        for (account, until, trouble) in tokens {
            self.token_expiry.with_label_values(&[account]).set(until as f64);
            for kind in [Kind::TokenUnavailable, Kind::TokenRefused] {
                let has = i64::from(trouble == Some(kind));
                self.token_trouble.with_label_values(&[account, kind.label()]).set(has);
            }
        }
    }

    /// What ends when, in seconds since 1970.
    pub fn expiries<'a>(&self, expiries: impl Iterator<Item = (Expiring, &'a str, i64)>) {
        self.expiries.iter().for_each(GaugeVec::reset);
        for (what, name, until) in expiries {
            if let Some(gauges) = self.expiries.get(what as usize) {
                gauges.with_label_values(&[name]).set(until as f64);
            }
        }
    }

    /// Over all listeners.
    pub fn counted(&self) -> Counted {
        let read = |total: &AtomicU64| total.load(Ordering::Relaxed);
        Counted {
            sessions: read(&self.totals.sessions),
            open: read(&self.totals.open),
            handshake_failures: read(&self.totals.handshake_failures),
            login_failures: read(&self.totals.login_failures),
        }
    }

    /// The last day, minute by minute. Call it with the time and the tokens that are well and those that are not.
    pub fn history<T>(&self, use_it: impl FnOnce(&mut History) -> T) -> T {
        use_it(&mut self.history.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// All of it in Prometheus' text format.
    ///
    /// # Errors
    /// What was gathered cannot be written.
    pub fn text(&self) -> Result<String, String> {
        self.process.read();
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(|error| error.to_string())
    }
}

impl OfListener {
    /// Connections that are open.
    pub fn open(&self) -> usize {
        usize::try_from(self.open.get()).unwrap_or_default()
    }

    /// A device is let in; so long it took from its credentials on.
    pub fn logged_in(&self, took: Duration) {
        self.logins.inc();
        self.login_seconds.observe(took.as_secs_f64());
    }

    /// Octets passed from the device to the server, and back.
    pub fn passed(&self, (upload, download): (u64, u64)) {
        self.upload.inc_by(upload);
        self.download.inc_by(download);
    }
}

fn build(registry: &Registry) -> prometheus::Result<Metrics> {
    let counters =
        |name: &str, help: &str, labels: &[&str]| kept(registry, IntCounterVec::new(Opts::new(name, help), labels)?);
    let gauges =
        |name: &str, help: &str, labels: &[&str]| kept(registry, IntGaugeVec::new(Opts::new(name, help), labels)?);
    let times = |name: &str, help: &str, labels: &[&str]| kept(registry, GaugeVec::new(Opts::new(name, help), labels)?);
    let gauge = |name: &str, help: &str| kept(registry, IntGauge::new(name, help)?);
    let histograms = |name: &str, help: &str, buckets: &[f64]| {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        kept(registry, HistogramVec::new(options, &["listener"])?)
    };
    let version = gauges("packetboat_build_info", "The version that runs; always 1.", &["version"])?;
    version.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    let metrics = Metrics {
        registry: Registry::new(),
        accepted: counters(
            "packetboat_connections_accepted_total",
            "Connections of devices that were let in.",
            &["listener"],
        )?,
        refused: counters(
            "packetboat_connections_refused_total",
            "Connections that were turned away before anything was said: source not allowed, or a limit reached.",
            &["listener", "reason"],
        )?,
        pauses: counters(
            "packetboat_accept_pauses_total",
            "Times that no connection could be accepted for a second, mostly because open files ran out.",
            &["listener"],
        )?,
        open: gauges("packetboat_connections_open", "Connections of devices that are open.", &["listener"])?,
        limit: gauge("packetboat_connections_limit", "limits.connections: so many connections may be open at a time.")?,
        handshakes: counters(
            "packetboat_handshakes_total",
            "TLS handshakes with devices that came about, by the version agreed on.",
            &["listener", "version"],
        )?,
        handshake_failures: counters(
            "packetboat_handshake_failures_total",
            "TLS handshakes with devices that came to nothing; the log and the page say what to change.",
            &["listener", "reason"],
        )?,
        logins: counters("packetboat_logins_total", "Devices that were let in to their mailbox.", &["listener"])?,
        login_failures: counters(
            "packetboat_login_failures_total",
            "Logins that came to nothing, by whose fault it was and why.",
            &["listener", "reason"],
        )?,
        login_seconds: histograms(
            "packetboat_login_duration_seconds",
            "From a device's credentials to its mailbox: password, token, server.",
            &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0],
        )?,
        sessions: counters(
            "packetboat_sessions_total",
            "Connections that are over, by why they ended.",
            &["listener", "reason"],
        )?,
        session_seconds: histograms(
            "packetboat_session_duration_seconds",
            "How long connections lasted.",
            &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0],
        )?,
        transferred: counters(
            "packetboat_transferred_bytes_total",
            "Bytes passed after login: upload from device to server, download from server to device. Counted when a session ends.",
            &["listener", "direction"],
        )?,
        devices: gauges("packetboat_devices", "Devices in the inventory, by verdict.", &["verdict"])?,
        token_expiry: times(
            "packetboat_access_token_expiry_timestamp_seconds",
            "When an account's present access token ends, in seconds since 1970; 0 where there is none.",
            &["account"],
        )?,
        token_trouble: gauges(
            "packetboat_access_token_trouble",
            "1 where an account gets no new access token: token_unavailable passes by itself, token_refused needs somebody.",
            &["account", "reason"],
        )?,
        expiries: [
            times(
                "packetboat_certificate_expiry_timestamp_seconds",
                "When a certificate that devices are shown ends, in seconds since 1970.",
                &["certificate"],
            )?,
            times(
                "packetboat_identity_certificate_expiry_timestamp_seconds",
                "When the certificate that an application proves itself with ends, in seconds since 1970.",
                &["identity"],
            )?,
            times(
                "packetboat_client_secret_expiry_timestamp_seconds",
                "When an application's secret ends (client_secret_expires), in seconds since 1970.",
                &["identity"],
            )?,
            times(
                "packetboat_refresh_token_expiry_timestamp_seconds",
                "When a person's sign-in ends if it is not used until then (90 days), in seconds since 1970.",
                &["account"],
            )?,
        ],
        reloads: counters("packetboat_config_reloads_total", "Reloads of the configuration, by result.", &["result"])?,
        reload_success: gauge(
            "packetboat_config_reload_success",
            "1 if the last reload was taken, 0 if it was refused.",
        )?,
        reload_time: gauge(
            "packetboat_config_reload_success_timestamp_seconds",
            "When the running configuration was taken, in seconds since 1970.",
        )?,
        process: process::Gauges::new(
            |name, help| kept(registry, prometheus::Gauge::new(name, help)?),
            |name, help| kept(registry, prometheus::Counter::new(name, help)?),
        )?,
        totals: Totals::default(),
        history: Mutex::default(),
    };
    Ok(metrics)
}

fn kept<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_is_gone_leaves_nothing_behind() {
        let metrics = Metrics::new().unwrap();
        let before = metrics.text().unwrap().lines().filter(|line| !line.starts_with("process")).count();
        let listener = metrics.of("x");
        metrics.opened(&listener);
        metrics.shaken("x", Some(Version::Tls1_0));
        metrics.handshake_failed("x", &Failure::new(Kind::Handshake, ""));
        metrics.login_failed("x", &Failure::new(Kind::WrongPassword, ""));
        metrics.refused("x", Kind::NotAllowed);
        metrics.paused("x");
        listener.logged_in(Duration::from_millis(70));
        listener.passed((1, 2));
        metrics.closed("x", &listener, "logged_out", Duration::from_secs(3));
        assert!(metrics.text().unwrap().contains("packetboat_handshakes_total{listener=\"x\",version=\"tls1.0\"} 1"));
        metrics.forget("x");
        let text = metrics.text().unwrap();
        assert!(!text.contains("listener=\"x\""), "{text}");
        assert_eq!(text.lines().filter(|line| !line.starts_with("process")).count(), before);
        let counted = metrics.counted();
        assert_eq!((counted.sessions, counted.open, counted.handshake_failures, counted.login_failures), (1, 0, 1, 1));
    }
}
