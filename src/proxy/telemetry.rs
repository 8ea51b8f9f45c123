//! Who sees what goes on at a listener: metrics, inventory, and the log of who is turned away.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tracing::{error, warn};

use super::limits::log_quota::{LogLine, LogQuota};
use crate::config::Listener;
use crate::failure::{Failure, Kind};
use crate::inventory::{Inventory, Observation};
use crate::metrics::{ListenerCounters, Metrics};
use crate::protocol::Protocol;

/// The metrics, inventory and log of one listener.
pub(super) struct Telemetry {
    pub(super) listener: String,
    pub(super) metrics: Arc<Metrics>,
    pub(super) counters: ListenerCounters,
    pub(super) inventory: Arc<Inventory>,
    quota: Arc<LogQuota>,
    protocol: Protocol,
}

impl Telemetry {
    pub(super) fn new(
        listener: &Listener,
        metrics: &Arc<Metrics>,
        inventory: &Arc<Inventory>,
        quota: &Arc<LogQuota>,
    ) -> Self {
        Self {
            listener: listener.name.clone(),
            metrics: Arc::clone(metrics),
            counters: metrics.listener(&listener.name),
            inventory: Arc::clone(inventory),
            quota: Arc::clone(quota),
            protocol: listener.protocol,
        }
    }

    /// Writes the line of who is not let in.
    pub(super) fn refused(&self, source: SocketAddr, failure: &Failure) {
        let listener = self.listener.as_str();
        if self.may_write((LogLine::Refused, false), failure.kind.label(), Some(source.ip())) {
            warn!(%source, listener, reason = failure.kind.label(), "refused: {failure}");
        }
        self.metrics.connection_refused(listener, failure.kind);
        let observation = Observation { refused: Some(failure), ..self.observation(source.ip()) };
        match failure.kind {
            Kind::NotAllowed => drop(self.inventory.observe(&observation)),
            Kind::TooManyConnections | Kind::TooManyFromSource => self.inventory.observe_rejection(&observation),
            _ => {}
        }
    }

    /// Counts and logs that no connection can be accepted for a moment.
    pub(super) fn accept_paused(&self, why: &io::Error) {
        let listener = self.listener.as_str();
        if self.may_write((LogLine::Pause, false), "open_files", None) {
            error!(listener, error = %why, "cannot accept connections; trying again in a second");
        }
        self.metrics.accept_paused(listener);
    }

    /// Whether a line about this source, and whether it has said who it is, may be written now. If not, it is counted.
    pub(super) fn may_write(&self, line: (LogLine, bool), reason: &'static str, source: Option<IpAddr>) -> bool {
        self.quota.allows(line, &self.listener, reason, source, Instant::now())
    }

    /// What is known of somebody who has come from there.
    pub(super) fn observation(&self, source: IpAddr) -> Observation<'_> {
        let (protocol, listener) = (self.protocol, self.listener.as_str());
        Observation { source, protocol, listener, tls_mode: None, hello: None, tls: None, refused: None }
    }
}
