//! The counters of one listener. They exist for as long as the listener or one of its sessions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{IntCounter, IntGauge};

use super::Metrics;
use super::definitions::{ListenerMetrics, SubmissionMetrics};
use crate::failure::{Counter, Kind};

/// The counters of one listener, looked up once. When the last of them is dropped, the listener and all its sessions
/// are gone, and its metrics are removed.
pub struct ListenerCounters {
    pub(super) metrics: Arc<Metrics>,
    pub(super) name: String,
    pub(super) accepted: IntCounter,
    pub(super) open: IntGauge,
    logins: IntCounter,
    login_seconds: prometheus::Histogram,
    pub(super) session_seconds: prometheus::Histogram,
    upload: IntCounter,
    download: IntCounter,
}

impl Metrics {
    /// The counters of a listener. Counters of failures begin at nought: Prometheus would not see the first failure as
    /// a rise otherwise.
    pub fn listener(self: &Arc<Self>, listener: &str) -> ListenerCounters {
        *self.listeners.lock().entry(listener.to_owned()).or_default() += 1;
        self.by_listener.pauses.with_label_values(&[listener]);
        for kind in Kind::ALL {
            let counters = match kind.counter() {
                Counter::Refused => &self.by_listener.refused,
                Counter::Handshake => &self.by_listener.handshake_failures,
                Counter::Login => &self.by_listener.login_failures,
                // No reason for the end of a session begins at nought.
                Counter::Session => continue,
            };
            counters.with_label_values(&[listener, kind.label()]);
        }
        ListenerCounters {
            metrics: Arc::clone(self),
            name: listener.to_owned(),
            accepted: self.by_listener.accepted.with_label_values(&[listener]),
            open: self.by_listener.open.with_label_values(&[listener]),
            logins: self.by_listener.logins.with_label_values(&[listener]),
            login_seconds: self.by_listener.login_seconds.with_label_values(&[listener]),
            session_seconds: self.by_listener.session_seconds.with_label_values(&[listener]),
            upload: self.by_listener.transferred.with_label_values(&[listener, "upload"]),
            download: self.by_listener.transferred.with_label_values(&[listener, "download"]),
        }
    }

    fn forget(&self, listener: &str) {
        let ListenerMetrics {
            accepted,
            refused,
            pauses,
            open,
            handshakes,
            handshake_failures,
            logins,
            login_failures,
            login_seconds,
            sessions,
            session_seconds,
            transferred,
            submission: SubmissionMetrics { messages, octets, recipients, answer_seconds },
        } = &self.by_listener;
        for counters in
            [accepted, refused, pauses, handshakes, handshake_failures, logins, login_failures, sessions, transferred]
        {
            remove(counters, listener);
        }
        for counters in [messages, octets, recipients] {
            remove(counters, listener);
        }
        remove(answer_seconds, listener);
        remove(open, listener);
        remove(login_seconds, listener);
        remove(session_seconds, listener);
    }
}

/// Removes all of a listener's values from a metric.
fn remove<T: MetricVecBuilder>(metric: &MetricVec<T>, listener: &str) {
    for family in metric.collect() {
        for one in family.get_metric() {
            let labels: HashMap<&str, &str> =
                one.get_label().iter().map(|label| (label.name(), label.value())).collect();
            if labels.get("listener") == Some(&listener) {
                let _ = metric.remove(&labels);
            }
        }
    }
}

impl ListenerCounters {
    /// The number of open connections.
    pub fn open(&self) -> usize {
        usize::try_from(self.open.get()).unwrap_or_default()
    }

    /// Counts a login, with the time since the device sent its credentials.
    pub fn logged_in(&self, took: Duration) {
        self.logins.inc();
        self.login_seconds.observe(took.as_secs_f64());
    }

    /// Counts octets from the device to the server, and back.
    pub fn transferred(&self, (upload, download): (u64, u64)) {
        self.upload.inc_by(upload);
        self.download.inc_by(download);
    }
}

impl Drop for ListenerCounters {
    fn drop(&mut self) {
        let mut listeners = self.metrics.listeners.lock();
        let left = listeners.get_mut(&self.name).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == 0 {
            listeners.remove(&self.name);
            self.metrics.forget(&self.name);
        }
    }
}
