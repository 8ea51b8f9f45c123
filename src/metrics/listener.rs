//! The counters of one listener: there for as long as it, or a session of it, is.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};

use super::Metrics;
use crate::config::Version;
use crate::failure::{Kind, Side};

/// The counters of one listener, found once. When the last of them is dropped the listener is gone, with all its sessions,
/// and with it what was counted there.
pub struct ListenerCounters {
    metrics: Arc<Metrics>,
    name: String,
    pub(super) accepted: IntCounter,
    pub(super) open: IntGauge,
    logins: IntCounter,
    login_seconds: prometheus::Histogram,
    pub(super) session_seconds: prometheus::Histogram,
    upload: IntCounter,
    download: IntCounter,
}

impl Metrics {
    /// The counters of a listener. Those of failures begin at nought rather than with the first one, which would not be
    /// seen as a rise.
    pub fn listener(self: &Arc<Self>, listener: &str) -> ListenerCounters {
        *self.listeners().entry(listener.to_owned()).or_default() += 1;
        self.pauses.with_label_values(&[listener]);
        for kind in Kind::ALL {
            let counters = match kind {
                Kind::NotAllowed | Kind::ProxyHeader | Kind::TooManyConnections | Kind::TooManyFromSource => {
                    &self.refused
                }
                Kind::TooManyHandshakes | Kind::Handshake | Kind::HandshakeTimeout => &self.handshake_failures,
                // Of logins: what the server's side does, and what is found wrong with the device's.
                Kind::WrongPassword | Kind::NotVerified | Kind::TooManySessions => &self.login_failures,
                Kind::TokenExpired => continue,
                other if other.side() == Some(Side::Upstream) => &self.login_failures,
                _ => continue,
            };
            counters.with_label_values(&[listener, kind.label()]);
        }
        ListenerCounters {
            metrics: Arc::clone(self),
            name: listener.to_owned(),
            accepted: self.accepted.with_label_values(&[listener]),
            open: self.open.with_label_values(&[listener]),
            logins: self.logins.with_label_values(&[listener]),
            login_seconds: self.login_seconds.with_label_values(&[listener]),
            session_seconds: self.session_seconds.with_label_values(&[listener]),
            upload: self.transferred.with_label_values(&[listener, "upload"]),
            download: self.transferred.with_label_values(&[listener, "download"]),
        }
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, listener: &str) {
        for counters in [&self.accepted, &self.pauses, &self.logins] {
            let _ = counters.remove_label_values(&[listener]);
        }
        let _ = self.open.remove_label_values(&[listener]);
        let _ = self.login_seconds.remove_label_values(&[listener]);
        let _ = self.session_seconds.remove_label_values(&[listener]);
        let reasons = Kind::ALL.iter().map(|kind| kind.label());
        let reasons = reasons.chain(["logged_out", "device_closed", "server_closed", "aborted", "unknown"]);
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
}

impl ListenerCounters {
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
    pub fn transferred(&self, (upload, download): (u64, u64)) {
        self.upload.inc_by(upload);
        self.download.inc_by(download);
    }
}

impl Drop for ListenerCounters {
    fn drop(&mut self) {
        let mut listeners = self.metrics.listeners();
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
