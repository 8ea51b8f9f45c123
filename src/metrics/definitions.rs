//! Defines every metric: its name, its help text and its labels.

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
    pub(super) submission: SubmissionMetrics,
}

/// The metrics of messages that devices submit.
pub(super) struct SubmissionMetrics {
    pub(super) messages: IntCounterVec,
    pub(super) octets: IntCounterVec,
    pub(super) recipients: IntCounterVec,
    pub(super) answer_seconds: HistogramVec,
}

/// The metrics of devices, accounts and credentials.
pub(super) struct AccountMetrics {
    pub(super) devices: IntGaugeVec,
    pub(super) device_login: GaugeVec,
    pub(super) device_trouble: IntGaugeVec,
    pub(super) token_expiry: GaugeVec,
    pub(super) token_trouble: IntGaugeVec,
    pub(super) mailboxes: MailboxMetrics,
    /// The expiries by [`super::ExpiryKind`].
    pub(super) expiries: [GaugeVec; 4],
}

/// The metrics of mailboxes that devices send from.
pub(super) struct MailboxMetrics {
    pub(super) recipients: IntGaugeVec,
    pub(super) recipients_limit: IntGaugeVec,
    pub(super) messages: IntCounterVec,
    pub(super) outside: IntCounterVec,
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
        let [accepted, refused, pauses] = Self::register_accepting(&to)?;
        let [handshakes, handshake_failures] = Self::register_handshakes(&to)?;
        let submission = SubmissionMetrics::register(&to)?;
        Ok(Self {
            accepted,
            refused,
            pauses,
            open: to.gauges("packetboat_connections_open", "Connections of devices that are open.", &["listener"])?,
            handshakes,
            handshake_failures,
            logins: to.counters("packetboat_logins_total", "Logins of devices that succeeded.", &["listener"])?,
            login_failures: to.counters(
                "packetboat_login_failures_total",
                "Logins that failed, by reason.",
                &["listener", "reason"],
            )?,
            login_seconds: to.histograms(
                "packetboat_login_duration_seconds",
                "Time from a device's credentials to its open mailbox: password, token, server.",
                &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0],
            )?,
            sessions: to.counters(
                "packetboat_sessions_total",
                "Admitted connections that ended, by reason.",
                &["listener", "reason"],
            )?,
            session_seconds: to.histograms(
                "packetboat_session_duration_seconds",
                "Duration of connections.",
                &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0],
            )?,
            transferred: to.counters(
                "packetboat_transferred_bytes_total",
                "Bytes passed after login: upload from device to server, download from server to device. \
                 Counted when a session ends.",
                &["listener", "direction"],
            )?,
            submission,
        })
    }

    /// Registers admitted and refused connections, and pauses.
    fn register_accepting(to: &Registrar<'_>) -> prometheus::Result<[IntCounterVec; 3]> {
        Ok([
            to.counters(
                "packetboat_connections_accepted_total",
                "Connections of devices that were admitted.",
                &["listener"],
            )?,
            to.counters(
                "packetboat_connections_refused_total",
                "Connections that were refused: source not allowed, or a limit reached.",
                &["listener", "reason"],
            )?,
            to.counters(
                "packetboat_accept_pauses_total",
                "Pauses of a second in accepting connections, mostly because open files ran out.",
                &["listener"],
            )?,
        ])
    }

    /// Registers handshakes that completed and that failed.
    fn register_handshakes(to: &Registrar<'_>) -> prometheus::Result<[IntCounterVec; 2]> {
        Ok([
            to.counters(
                "packetboat_handshakes_total",
                "Completed TLS handshakes with devices, by version.",
                &["listener", "version"],
            )?,
            to.counters(
                "packetboat_handshake_failures_total",
                "Failed TLS handshakes with devices; the log and the page say what to change.",
                &["listener", "reason"],
            )?,
        ])
    }
}

impl SubmissionMetrics {
    fn register(to: &Registrar<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            messages: to.counters(
                "packetboat_submitted_messages_total",
                "Messages that devices submit, by what became of them: accepted, refused or deferred by the mail server, \
                 refused_by_rules of the account, or unknown, where the mail server was lost behind a message.",
                &["listener", "result", "reason"],
            )?,
            octets: to.counters(
                "packetboat_submitted_bytes_total",
                "Bytes of the messages that the mail server has accepted, as devices send them.",
                &["listener"],
            )?,
            recipients: to.counters(
                "packetboat_submitted_recipients_total",
                "Recipients of the messages that the mail server has accepted, and refused recipients of any message.",
                &["listener", "result"],
            )?,
            answer_seconds: to.histograms(
                "packetboat_submission_answer_seconds",
                "Time from the end of a message to the mail server's answer.",
                &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0],
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
            "Devices in the inventory, by verdict. Refused devices count for a week, or until a login from their address; \
             those whose source is not allowed do not count.",
            &["verdict"],
        )?,
        device_login: to.times(
            "packetboat_device_last_login_timestamp_seconds",
            "Time of a configured device's last successful login, in seconds since 1970; 0 if there was none.",
            &["device"],
        )?,
        device_trouble: to.gauges(
            "packetboat_device_trouble",
            "1 if a configured device gets or sends no mail: its logins are failing, its messages are refused, it is silent \
             for much longer than usual, or it never logged in.",
            &["device", "reason"],
        )?,
        token_expiry: to.times(
            "packetboat_access_token_expiry_timestamp_seconds",
            "Expiry of an account's present access token, in seconds since 1970; 0 if there is none.",
            &["account"],
        )?,
        token_trouble: to.gauges(
            "packetboat_access_token_trouble",
            "1 if an account gets no new access token: token_unavailable passes by itself, token_refused needs an \
             operator.",
            &["account", "reason"],
        )?,
        mailboxes: MailboxMetrics::register(&to)?,
        expiries: [
            to.times(
                "packetboat_certificate_expiry_timestamp_seconds",
                "Expiry of a listener's certificate, in seconds since 1970.",
                &["certificate"],
            )?,
            to.times(
                "packetboat_identity_certificate_expiry_timestamp_seconds",
                "Expiry of the certificate that an application authenticates with, in seconds since 1970.",
                &["identity"],
            )?,
            to.times(
                "packetboat_client_secret_expiry_timestamp_seconds",
                "Expiry of an application's secret (client_secret_expires), in seconds since 1970.",
                &["identity"],
            )?,
            to.times(
                "packetboat_refresh_token_expiry_timestamp_seconds",
                "Expiry of a person's sign-in if it is not used until then (90 days), in seconds since 1970.",
                &["account"],
            )?,
        ],
        })
    }
}

impl MailboxMetrics {
    fn register(to: &Registrar<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            outside: to.counters(
                "packetboat_mailbox_first_outside_total",
                "Devices of an account that have sent outside of the mailbox's own domain for the first time.",
                &["account"],
            )?,
            recipients: to.gauges(
                "packetboat_mailbox_recipients_day",
                "Recipients that an account's mailbox has sent to in the last 24 hours.",
                &["account"],
            )?,
            recipients_limit: to.gauges(
                "packetboat_mailbox_recipients_day_limit",
                "submission.recipients_per_day: the recipients in 24 hours that the mail server takes from a mailbox.",
                &["account"],
            )?,
            messages: to.counters(
                "packetboat_mailbox_messages_total",
                "Messages that devices submit from an account's mailbox, by result and reason as in \
                 packetboat_submitted_messages_total.",
                &["account", "result", "reason"],
            )?,
        })
    }
}

impl ProcessMetrics {
    pub(super) fn register(to: &Registry) -> prometheus::Result<Self> {
        let to = Registrar(to);
        let build = to.gauges(
            "packetboat_build_info",
            "The running version, with its OpenSSL library; always 1.",
            &["version", "openssl"],
        )?;
        // "OpenSSL 3.6.3 9 Jun 2026".
        let openssl = library_version().split(' ').nth(1).unwrap_or("unknown");
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), openssl]).set(1);
        Ok(Self {
            limit: to.gauge("packetboat_connections_limit", "limits.connections: the limit on open connections.")?,
            reloads: to.counters(
                "packetboat_config_reloads_total",
                "Reloads of the configuration, by result.",
                &["result"],
            )?,
            reload_success: to.gauge(
                "packetboat_config_reload_success",
                "1 if the last reload was accepted, 0 if it was rejected.",
            )?,
            reload_time: to.gauge(
                "packetboat_config_reload_success_timestamp_seconds",
                "Time at which the running configuration was loaded, in seconds since 1970.",
            )?,
            state_written: to.gauge(
                "packetboat_state_write_success",
                "1 if refresh tokens and the inventory are on the disk, 0 if they are in memory alone because writing \
             failed.",
            )?,
            log_lines_lost: to.counter(
                "packetboat_log_lines_lost_total",
                "Log lines that were lost because nobody read standard error.",
            )?,
            tasks: to.gauge(
                "packetboat_tasks",
                "Tasks that are alive: one for each connection, and a few more. A steady rise is a bug in packetboat.",
            )?,
            system: process::Gauges::new(
                |name, help| to.register(prometheus::Gauge::new(name, help)?),
                |name, help| to.register(prometheus::Counter::new(name, help)?),
            )?,
        })
    }
}

/// Makes metrics at nought that the registry knows.
pub(super) struct Registrar<'a>(pub(super) &'a Registry);

impl Registrar<'_> {
    pub(super) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::new(name, help)?)
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(name, help)?)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
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
