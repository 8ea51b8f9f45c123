//! The metrics by name, with their help texts and labels.

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::process;
use crate::transport::downstream::library_version;

/// The metrics of listeners: their first label is the listener's name.
pub(super) struct ListenerMetrics {
    pub(super) accepted: IntCounterVec,
    pub(super) refused: IntCounterVec,
    pub(super) pauses: IntCounterVec,
    pub(super) open: IntGaugeVec,
    pub(super) handshakes: IntCounterVec,
    pub(super) handshake_failures: IntCounterVec,
    pub(super) logins: IntCounterVec,
    pub(super) login_failures: IntCounterVec,
    pub(super) login_seconds: HistogramVec,
    pub(super) sessions: IntCounterVec,
    pub(super) session_seconds: HistogramVec,
    pub(super) transferred: IntCounterVec,
}

/// The metrics of devices, accounts and credentials.
pub(super) struct AccountMetrics {
    pub(super) devices: IntGaugeVec,
    pub(super) token_expiry: GaugeVec,
    pub(super) token_trouble: IntGaugeVec,
    /// By [`super::ExpiryKind`].
    pub(super) expiries: [GaugeVec; 4],
}

/// The metrics of the process as a whole.
pub(super) struct ProcessMetrics {
    pub(super) limit: IntGauge,
    pub(super) reloads: IntCounterVec,
    pub(super) reload_success: IntGauge,
    pub(super) reload_time: IntGauge,
    pub(super) state_written: IntGauge,
    pub(super) log_lines_lost: IntCounter,
    pub(super) tasks: IntGauge,
    pub(super) system: process::Gauges,
}

impl ListenerMetrics {
    pub(super) fn register(to: &Registry) -> prometheus::Result<Self> {
        let to = Registrar(to);
        Ok(Self {
        accepted: to.counters(
            "packetboat_connections_accepted_total",
            "Connections of devices that were let in.",
            &["listener"],
        )?,
        refused: to.counters(
            "packetboat_connections_refused_total",
            "Connections that were turned away before anything was said: source not allowed, or a limit reached.",
            &["listener", "reason"],
        )?,
        pauses: to.counters(
            "packetboat_accept_pauses_total",
            "Times that no connection could be accepted for a second, mostly because open files ran out.",
            &["listener"],
        )?,
        open: to.gauges("packetboat_connections_open", "Connections of devices that are open.", &["listener"])?,
        handshakes: to.counters(
            "packetboat_handshakes_total",
            "TLS handshakes with devices that came about, by the version agreed on.",
            &["listener", "version"],
        )?,
        handshake_failures: to.counters(
            "packetboat_handshake_failures_total",
            "TLS handshakes with devices that came to nothing; the log and the page say what to change.",
            &["listener", "reason"],
        )?,
        logins: to.counters("packetboat_logins_total", "Devices that were let in to their mailbox.", &["listener"])?,
        login_failures: to.counters(
            "packetboat_login_failures_total",
            "Logins that came to nothing, by whose fault it was and why.",
            &["listener", "reason"],
        )?,
        login_seconds: to.histograms(
            "packetboat_login_duration_seconds",
            "From a device's credentials to its mailbox: password, token, server.",
            &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0],
        )?,
        sessions: to.counters(
            "packetboat_sessions_total",
            "Connections that are over, by why they ended.",
            &["listener", "reason"],
        )?,
        session_seconds: to.histograms(
            "packetboat_session_duration_seconds",
            "How long connections lasted.",
            &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0],
        )?,
        transferred: to.counters(
            "packetboat_transferred_bytes_total",
            "Bytes passed after login: upload from device to server, download from server to device. Totals when a session ends.",
            &["listener", "direction"],
        )?,
        })
    }
}

impl AccountMetrics {
    pub(super) fn register(to: &Registry) -> prometheus::Result<Self> {
        let to = Registrar(to);
        Ok(Self {
        devices: to.gauges(
            "packetboat_devices",
            "Devices in the inventory, by verdict; refused ones for a week after they were seen, and not those whose source is not allowed.",
            &["verdict"],
        )?,
        token_expiry: to.times(
            "packetboat_access_token_expiry_timestamp_seconds",
            "When an account's present access token ends, in seconds since 1970; 0 where there is none.",
            &["account"],
        )?,
        token_trouble: to.gauges(
            "packetboat_access_token_trouble",
            "1 where an account gets no new access token: token_unavailable passes by itself, token_refused needs somebody.",
            &["account", "reason"],
        )?,
        expiries: [
            to.times(
                "packetboat_certificate_expiry_timestamp_seconds",
                "When a certificate that devices are shown ends, in seconds since 1970.",
                &["certificate"],
            )?,
            to.times(
                "packetboat_identity_certificate_expiry_timestamp_seconds",
                "When the certificate that an application proves itself with ends, in seconds since 1970.",
                &["identity"],
            )?,
            to.times(
                "packetboat_client_secret_expiry_timestamp_seconds",
                "When an application's secret ends (client_secret_expires), in seconds since 1970.",
                &["identity"],
            )?,
            to.times(
                "packetboat_refresh_token_expiry_timestamp_seconds",
                "When a person's sign-in ends if it is not used until then (90 days), in seconds since 1970.",
                &["account"],
            )?,
        ],
        })
    }
}

impl ProcessMetrics {
    pub(super) fn register(to: &Registry) -> prometheus::Result<Self> {
        let to = Registrar(to);
        let build = to.gauges(
            "packetboat_build_info",
            "The version that runs, with the OpenSSL that speaks with devices; always 1.",
            &["version", "openssl"],
        )?;
        // "OpenSSL 3.6.3 9 Jun 2026".
        let openssl = library_version().split(' ').nth(1).unwrap_or("unknown");
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), openssl]).set(1);
        Ok(Self {
        limit: to.gauge("packetboat_connections_limit", "limits.connections: so many connections may be open at a time.")?,
        reloads: to.counters("packetboat_config_reloads_total", "Reloads of the configuration, by result.", &["result"])?,
        reload_success: to.gauge(
            "packetboat_config_reload_success",
            "1 if the last reload was taken, 0 if it was refused.",
        )?,
        reload_time: to.gauge(
            "packetboat_config_reload_success_timestamp_seconds",
            "When the running configuration was taken, in seconds since 1970.",
        )?,
        state_written: to.gauge(
            "packetboat_state_write_success",
            "1 if refresh tokens and the inventory are on disk, 0 while the disk does not take them and they are in memory alone.",
        )?,
        log_lines_lost: to.counter("packetboat_log_lines_lost_total", "Log lines that are lost because nobody read standard error.")?,
        tasks: to.gauge(
            "packetboat_tasks",
            "Tasks that are alive: one for a connection, and a few that are always there. More and more of them is a mistake in packetboat.",
        )?,
            system: process::Gauges::new(
                |name, help| to.register(prometheus::Gauge::new(name, help)?),
                |name, help| to.register(prometheus::Counter::new(name, help)?),
            )?,
        })
    }
}

/// Makes metrics at nought that the registry knows.
struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn times(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.register(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, &["listener"])?)
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> prometheus::Result<C> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
}
