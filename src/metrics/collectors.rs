//! Everything that is counted, by name, with what it means and what it is told apart by.

use std::sync::Mutex;

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{Metrics, TotalCounters, process};
use crate::transport::downstream::library_version;

/// All of it at nought, and known to the registry.
pub(super) fn build(registry: &Registry) -> prometheus::Result<Metrics> {
    let counters = |name: &str, help: &str, labels: &[&str]| {
        registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
    };
    let gauges = |name: &str, help: &str, labels: &[&str]| {
        registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
    };
    let times =
        |name: &str, help: &str, labels: &[&str]| registered(registry, GaugeVec::new(Opts::new(name, help), labels)?);
    let gauge = |name: &str, help: &str| registered(registry, IntGauge::new(name, help)?);
    let histograms = |name: &str, help: &str, buckets: &[f64]| {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        registered(registry, HistogramVec::new(options, &["listener"])?)
    };
    let build = gauges(
        "packetboat_build_info",
        "The version that runs, with the OpenSSL that speaks with devices; always 1.",
        &["version", "openssl"],
    )?;
    // "OpenSSL 3.6.3 9 Jun 2026".
    let openssl = library_version().split(' ').nth(1).unwrap_or("unknown");
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), openssl]).set(1);
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
            &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0],
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
            "Bytes passed after login: upload from device to server, download from server to device. Totals when a session ends.",
            &["listener", "direction"],
        )?,
        devices: gauges(
            "packetboat_devices",
            "Devices in the inventory, by verdict; refused ones for a week after they were seen, and not those whose source is not allowed.",
            &["verdict"],
        )?,
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
        state_written: gauge(
            "packetboat_state_write_success",
            "1 if refresh tokens and the inventory are on disk, 0 while the disk does not take them and they are in memory alone.",
        )?,
        log_lines_lost: registered(
            registry,
            IntCounter::new(
                "packetboat_log_lines_lost_total",
                "Log lines that are lost because nobody read standard error.",
            )?,
        )?,
        tasks: gauge(
            "packetboat_tasks",
            "Tasks that are alive: one for a connection, and a few that are always there. More and more of them is a mistake in packetboat.",
        )?,
        loops: Mutex::default(),
        process: process::Gauges::new(
            |name, help| registered(registry, prometheus::Gauge::new(name, help)?),
            |name, help| registered(registry, prometheus::Counter::new(name, help)?),
        )?,
        totals: TotalCounters::default(),
        history: Mutex::default(),
        listeners: Mutex::default(),
    };
    Ok(metrics)
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
