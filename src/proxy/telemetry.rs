//! The telemetry of one listener: metrics, inventory, and the log lines of refused connections.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tracing::{error, warn};

use super::backend::sent_mail::SentMail;
use super::limits::Peer;
use super::limits::log_quota::{Audience, LineKind, LogLine, LogQuota};
use crate::config::Listener;
use crate::failure::{Failure, Kind};
use crate::inventory::{Connection, Inventory, Observation, SentMessages};
use crate::lifecycle::unix_time;
use crate::metrics::{ListenerCounters, Metrics};
use crate::protocol::Protocol;

/// Metrics, inventory and log, as one listener uses them.
pub(super) struct Telemetry {
    pub(super) listener: String,
    pub(super) metrics: Arc<Metrics>,
    pub(super) counters: ListenerCounters,
    pub(super) inventory: Arc<Inventory>,
    pub(super) sent_mail: SentMail,
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
        let counters = metrics.listener(&listener.name);
        if listener.protocol.submits() {
            counters.takes_submissions();
        }
        Self {
            listener: listener.name.clone(),
            metrics: Arc::clone(metrics),
            counters,
            inventory: Arc::clone(inventory),
            sent_mail: SentMail::new(metrics, inventory),
            quota: Arc::clone(quota),
            protocol: listener.protocol,
        }
    }

    /// Counts a refused connection, and logs its line.
    pub(super) fn refused(&self, peer: Peer, failure: &Failure) {
        let (listener, reason) = (self.listener.as_str(), failure.kind.label());
        let Peer { id, source } = peer;
        if self.may_write(LineKind::Refused, Audience::Stranger, reason, Some(source.ip())) {
            warn!(connection = id.number(), %source, listener, reason, "refused: {failure}");
        }
        self.metrics.connection_refused(listener, failure.kind);
        let observation = Observation { refused: Some(failure), ..self.observation(source.ip()) };
        match failure.kind {
            Kind::NotAllowed => drop(self.inventory.observe(&observation)),
            Kind::TooManyConnections | Kind::TooManyFromSource => self.inventory.observe_rejection(&observation),
            _ => {}
        }
        let connection = Connection { text: failure.to_string().into(), ..self.connection(peer, Some(failure.kind)) };
        self.inventory.note_connection(None, &connection);
    }

    /// A connection that has shown nothing yet, for the last connections of its device.
    pub(super) fn connection(&self, peer: Peer, reason: Option<Kind>) -> Connection {
        let now = unix_time();
        Connection {
            number: peer.id.number(),
            began: now,
            ended: Some(now),
            source: peer.source.ip(),
            listener: self.listener.clone(),
            protocol: self.protocol,
            tls: None,
            is_in: false,
            messages: 0,
            octets: 0,
            sent: SentMessages::default(),
            reason,
            text: "".into(),
        }
    }

    /// The protocol of the listener.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Counts and logs a pause in accepting connections.
    pub(super) fn accept_paused(&self, why: &io::Error) {
        let listener = self.listener.as_str();
        if self.may_write(LineKind::Pause, Audience::Stranger, "open_files", None) {
            error!(listener, error = %why, "cannot accept connections; trying again in a second");
        }
        self.metrics.accept_paused(listener);
    }

    /// Returns whether a line may be written now. A line that may not is counted as suppressed.
    pub(super) fn may_write(
        &self,
        kind: LineKind,
        audience: Audience,
        reason: &'static str,
        source: Option<IpAddr>,
    ) -> bool {
        let line = LogLine { kind, audience, listener: &self.listener, reason, source };
        self.quota.allows(line, Instant::now())
    }

    /// An observation of a source that has shown nothing yet.
    pub(super) fn observation(&self, source: IpAddr) -> Observation<'_> {
        let (protocol, listener) = (self.protocol, self.listener.as_str());
        Observation { source, protocol, listener, tls_mode: None, hello: None, tls: None, refused: None }
    }
}
