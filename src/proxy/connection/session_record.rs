//! The record of one session, for its log lines, metrics and inventory.

mod last_connection;
mod messages;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, enabled, info, warn};

use crate::device::Device;
use crate::failure::{Counter, Failure, Kind, Level};
use crate::inventory::{LoginWay, Observation, Presence, Proof, SentMessages, TlsMode, Visit, VisitAt};
use crate::metrics::SessionEnd;
use crate::proxy::backend::mailbox::Mailbox;
use crate::proxy::limits::log_quota::{Audience, LineKind};
use crate::proxy::limits::{ConnectionId, Peer};
use crate::proxy::telemetry::Telemetry;
use crate::transport::Facts;

/// The facts of one session, gathered as it goes on.
pub(in crate::proxy) struct SessionRecord<'a> {
    id: ConnectionId,
    pub(in crate::proxy) source: SocketAddr,
    telemetry: &'a Telemetry,
    login: Option<String>,
    /// The mailbox that was opened for a translated login.
    pub(in crate::proxy) mailbox: Option<Arc<Mailbox>>,
    pub(in crate::proxy) device_tls: Option<Facts>,
    pub(in crate::proxy) upstream_tls: Option<Facts>,
    pub(in crate::proxy) commands: u64,
    /// Messages that the device has fetched.
    pub(in crate::proxy) fetched: u64,
    /// Messages that the device has submitted.
    sent: SentMessages,
    /// The recipients of the message that is about to be kept, and the first of their domains that is not the mailbox's.
    begun: (u32, Option<Box<str>>),
    /// Octets from the device to the server, and back.
    pub(in crate::proxy) passed: (u64, u64),
    /// The number of the server's notices.
    notices: u32,
    started: Instant,
    /// The time at which the present login began.
    tried: Option<Instant>,
    /// The way of the present login to the mail server.
    pub(in crate::proxy) way: Option<LoginWay>,
    /// The device in the inventory, after it was observed.
    presence: Option<Presence>,
    /// The configured device whose password was right at the present login.
    device: Option<Arc<Device>>,
    /// The session of that device, once it has logged in.
    visit: Option<Visit>,
    /// The number of logins that an observing listener has refused.
    observed: u32,
    /// A login has succeeded.
    is_in: bool,
    /// A login has failed; the device's last connections have the reason.
    has_failed_login: bool,
    /// The end of the session is counted.
    is_over: bool,
}

/// The end of a connection.
#[derive(Debug)]
pub(in crate::proxy) enum Ending {
    /// The device sent LOGOUT or QUIT, and got its answer.
    LoggedOut,
    /// The device closed the connection without it.
    DeviceClosed,
    /// The server closed the connection.
    ServerClosed,
    /// The connection failed.
    Failed(Failure),
}

impl<'a> SessionRecord<'a> {
    /// Begins the record of an admitted connection, and counts it.
    pub(in crate::proxy) fn new(peer: Peer, telemetry: &'a Telemetry) -> Self {
        telemetry.metrics.connection_opened(&telemetry.counters);
        Self {
            id: peer.id,
            source: peer.source,
            telemetry,
            login: None,
            mailbox: None,
            notices: 0,
            device_tls: None,
            upstream_tls: None,
            commands: 0,
            fetched: 0,
            sent: SentMessages::default(),
            begun: (0, None),
            passed: (0, 0),
            started: Instant::now(),
            tried: None,
            way: None,
            presence: None,
            device: None,
            visit: None,
            observed: 0,
            is_in: false,
            has_failed_login: false,
            is_over: false,
        }
    }

    /// Notes what the device has shown of itself.
    pub(in crate::proxy) fn observed(&mut self, observation: &Observation<'_>) {
        let metrics = &self.telemetry.metrics;
        match observation.refused {
            Some(failure) if is_of_handshake(failure.kind) => {
                metrics.handshake_failed(self.listener(), failure);
            }
            None if observation.tls.is_some() => {
                metrics.handshake_completed(self.listener(), observation.tls.and_then(|tls| tls.version()));
                self.device_tls = observation.tls;
            }
            Some(_) | None => {}
        }
        self.presence = Some(self.telemetry.inventory.observe(observation));
    }

    /// Notes that a login begins.
    pub(in crate::proxy) fn login_started(&mut self, login: String) {
        self.observed_in_clear(None);
        if let Some(presence) = &self.presence {
            presence.attempts_login(&login);
        }
        self.login = Some(login);
        self.device = None;
        self.way = None;
        self.tried = Some(Instant::now());
    }

    /// Notes the configured device that the password belongs to.
    pub(in crate::proxy) fn verified(&mut self, device: &Arc<Device>) {
        self.device = Some(Arc::clone(device));
    }

    /// Notes that the login succeeded.
    pub(in crate::proxy) fn logged_in(&mut self) {
        self.is_in = true;
        let took = self.tried.take().map(|tried| tried.elapsed());
        if let Some(took) = took {
            self.telemetry.counters.logged_in(took);
        }
        if let Some(presence) = &self.presence {
            presence.logged_in(self.mailbox.as_ref().map(|mailbox| mailbox.account.mailbox.as_str()));
        }
        if let Some(device) = &self.device {
            let activities = self.telemetry.inventory.activities();
            self.visit = activities.login_succeeded(&device.name, self.at(), self.id.number());
            if let (Some(visit), Some(way), Some(took)) = (&self.visit, self.way, took) {
                visit.login_took(way, took);
            }
        }
        self.note(None);
    }

    /// The number of the connection.
    pub(in crate::proxy) fn number(&self) -> u64 {
        self.id.number()
    }

    /// The configured device, once its password was right.
    pub(in crate::proxy) fn device(&self) -> Option<&Arc<Device>> {
        self.device.as_ref()
    }

    /// Returns whether the device has logged in.
    pub(in crate::proxy) fn is_in(&self) -> bool {
        self.is_in
    }

    /// Counts and logs a failed login. The session goes on.
    pub(in crate::proxy) fn login_failed(&mut self, failure: &Failure) {
        let (connection, login) = (self.id.number(), self.login.as_deref().unwrap_or("-"));
        let (listener, reason) = (self.listener(), failure.kind.label());
        self.has_failed_login = true;
        self.note(Some(&Ending::Failed(failure.clone())));
        if failure.kind == Kind::Observed {
            self.observed += 1;
            if enabled!(tracing::Level::INFO) && self.may_write(LineKind::Login, reason) {
                info!(connection, source = %self.source, listener, login, reason, "login seen: {failure}");
            }
            return;
        }
        if self.may_write(LineKind::Login, reason) {
            warn!(connection, source = %self.source, listener, login, reason, "login failed: {failure}");
        }
        self.telemetry.metrics.login_failed(listener, failure);
        if let Some(presence) = &self.presence {
            presence.failed(failure);
        }
        let (name, proof) = match &self.device {
            Some(device) => (device.name.as_str(), Proof::Verified),
            None => (self.login.as_deref().unwrap_or_default(), Proof::Claimed),
        };
        self.telemetry.inventory.activities().login_failed(name, self.at(), failure, proof);
    }

    /// Returns whether a login of this connection has failed.
    pub(in crate::proxy) fn has_failed_login(&self) -> bool {
        self.has_failed_login
    }

    /// Returns whether an observing listener has seen enough logins of this connection.
    pub(in crate::proxy) fn has_observed_enough(&self) -> bool {
        self.observed >= OBSERVED
    }

    /// Returns whether the same device has logged in not long ago.
    pub(in crate::proxy) fn has_logged_in_lately(&self) -> bool {
        self.presence.as_ref().is_some_and(Presence::has_logged_in_lately)
    }

    /// Notes that the connection has no TLS.
    fn observed_in_clear(&mut self, refused: Option<&Failure>) {
        if self.presence.is_none() {
            self.observed(&Observation {
                tls_mode: Some(TlsMode::Plaintext),
                refused,
                ..self.telemetry.observation(self.source.ip())
            });
        }
    }

    fn at(&self) -> VisitAt {
        VisitAt { protocol: self.telemetry.protocol(), source: self.source.ip() }
    }

    fn listener(&self) -> &'a str {
        &self.telemetry.listener
    }

    fn may_write(&self, kind: LineKind, reason: &'static str) -> bool {
        // Anybody may claim a name: a login counts as known once a password or the server has confirmed it.
        let is_verified = self.mailbox.is_some() || self.is_in;
        let audience = if is_verified { Audience::Known } else { Audience::Stranger };
        self.telemetry.may_write(kind, audience, reason, Some(self.source.ip()))
    }

    /// Counts the end of the connection, and logs its line.
    pub(in crate::proxy) fn close(&mut self, ending: &Ending) {
        let (level, end) = (ending.level(), ending.session_end());
        let reason = end.label();
        if let Ending::Failed(failure) = ending {
            self.message_failed(failure);
        }
        if self.is_in || !self.has_failed_login {
            self.note(Some(ending));
        }
        self.count_end(ending);
        let login = self.login.as_deref().unwrap_or("-");
        let mailbox = self.mailbox.as_ref().map_or("-", |mailbox| mailbox.account.mailbox.as_str());
        let (device_tls, upstream_tls) = (tls(self.device_tls), tls(self.upstream_tls));
        let (sent, received) = self.passed;
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        macro_rules! line {
            ($log:ident, $level:ident) => {
                // A line below the log's level does not count against the quota.
                if enabled!(tracing::Level::$level) && self.may_write(LineKind::Session, reason) {
                    $log!(
                        connection = self.id.number(),
                        source = %self.source,
                        listener = self.listener(),
                        login,
                        mailbox,
                        device_tls,
                        upstream_tls,
                        server_connection = self.way.map(LoginWay::word),
                        commands = self.commands,
                        sent,
                        received,
                        milliseconds,
                        notices = (self.notices > 0).then_some(self.notices),
                        reason,
                        "session ended: {ending}"
                    )
                }
            };
        }
        match level {
            Level::Warn => line!(warn, WARN),
            Level::Info => line!(info, INFO),
            Level::Debug => line!(debug, DEBUG),
        }
    }
}

impl SessionRecord<'_> {
    /// Counts the end of the connection in metrics and inventory.
    fn count_end(&mut self, ending: &Ending) {
        match ending {
            Ending::Failed(failure) if is_of_clear(failure.kind) && self.presence.is_none() => {
                self.observed_in_clear(Some(failure));
            }
            // A handshake that failed was counted when it did.
            Ending::Failed(failure) if failure.kind.level() == Level::Warn && !is_of_handshake(failure.kind) => {
                match failure.kind {
                    // Nobody knows whether it has TLS.
                    Kind::NoCommand if self.presence.is_none() => {
                        self.observed(&self.telemetry.observation(self.source.ip()));
                    }
                    Kind::MailWithoutLogin => self.observed_in_clear(None),
                    _ => {}
                }
                if let Some(presence) = &self.presence {
                    presence.failed(failure);
                }
                // A message that fails was noted already, and says nothing about logins.
                if let Some(visit) = self.visit.as_ref().filter(|_| !failure.kind.is_of_message()) {
                    visit.failed(self.source.ip(), failure);
                }
            }
            _ => {}
        }
        self.end(ending.session_end());
    }

    fn end(&mut self, end: SessionEnd) {
        let lasted: Duration = self.started.elapsed();
        self.is_over = true;
        self.telemetry.counters.transferred(self.passed);
        self.telemetry.metrics.connection_closed(self.listener(), &self.telemetry.counters, end, lasted);
        self.presence = None;
        if let Some(visit) = self.visit.take() {
            let (_, received) = self.passed;
            visit.ended(self.fetched, received);
        }
    }
}

impl Drop for SessionRecord<'_> {
    /// Counts the end of a connection that nobody has closed.
    fn drop(&mut self) {
        if !self.is_over {
            self.end(SessionEnd::Aborted);
        }
    }
}

impl Ending {
    fn level(&self) -> Level {
        match self {
            Ending::LoggedOut | Ending::DeviceClosed | Ending::ServerClosed => Level::Info,
            Ending::Failed(failure) => failure.kind.level(),
        }
    }

    fn session_end(&self) -> SessionEnd {
        match self {
            Ending::LoggedOut => SessionEnd::LoggedOut,
            Ending::DeviceClosed => SessionEnd::DeviceClosed,
            Ending::ServerClosed => SessionEnd::ServerClosed,
            Ending::Failed(failure) => SessionEnd::Failed(failure.kind),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::LoggedOut => f.write_str("the device logged out"),
            Ending::DeviceClosed => f.write_str("the device closed the connection"),
            Ending::ServerClosed => f.write_str("the mail server closed the connection"),
            Ending::Failed(failure) => failure.fmt(f),
        }
    }
}

fn is_of_handshake(kind: Kind) -> bool {
    kind.counter() == Counter::Handshake
}

fn is_of_clear(kind: Kind) -> bool {
    matches!(kind, Kind::LoginInClear | Kind::SpeaksInClear)
}

/// Logins of one connection that an observing listener takes.
const OBSERVED: u32 = 3;

fn tls(facts: Option<Facts>) -> String {
    facts.map_or_else(
        || "none".to_owned(),
        |facts| format!("{} {}{}", facts.version, facts.cipher, if facts.resumed { " resumed" } else { "" }),
    )
}
