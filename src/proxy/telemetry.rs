//! Who sees what goes on at a listener: metrics, inventory, and the log of who is turned away.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use tracing::warn;

use super::ProcessState;
use super::limits::log_quota::LogLine;
use crate::config::Listener;
use crate::failure::{Failure, Kind};
use crate::inventory::Observation;
use crate::metrics::ListenerCounters;
use crate::protocol::Protocol;

/// Of one listener.
pub(super) struct Telemetry {
    pub(super) listener: String,
    pub(super) process: ProcessState,
    pub(super) counters: ListenerCounters,
    protocol: Protocol,
}

impl Telemetry {
    pub(super) fn new(listener: &Listener, process: &ProcessState) -> Self {
        let counters = process.metrics.listener(&listener.name);
        Self { listener: listener.name.clone(), process: process.clone(), counters, protocol: listener.protocol }
    }

    /// Writes the line of who is not let in.
    pub(super) fn refused(&self, source: SocketAddr, failure: &Failure) {
        let listener = self.listener.as_str();
        if self.may_write((LogLine::Refused, false), failure.kind.label(), Some(source.ip())) {
            warn!(%source, listener, reason = failure.kind.label(), "refused: {failure}");
        }
        self.process.metrics.connection_refused(listener, failure.kind);
        let observation = Observation { refused: Some(failure), ..self.observation(source.ip()) };
        match failure.kind {
            Kind::NotAllowed => drop(self.process.inventory.observe(&observation)),
            Kind::TooManyConnections | Kind::TooManyFromSource => {
                self.process.inventory.observe_rejection(&observation)
            }
            _ => {}
        }
    }

    /// Whether a line about this source, and whether it has said who it is, may be written now. If not, it is counted.
    pub(super) fn may_write(&self, line: (LogLine, bool), reason: &'static str, source: Option<IpAddr>) -> bool {
        self.process.quota.allows(line, &self.listener, reason, source, Instant::now())
    }

    /// What is known of somebody who has come from there.
    pub(super) fn observation(&self, source: IpAddr) -> Observation<'_> {
        let (protocol, listener) = (self.protocol, self.listener.as_str());
        Observation { source, protocol, listener, tls_mode: None, hello: None, tls: None, refused: None }
    }
}
