//! One connection of a device, from its first octet to its last: enter, log in, relay, leave.

pub(super) mod alone;
mod deadline;
pub(super) mod driver;
mod enter;
mod hold_back;
mod keep;
mod leave;
mod login;
mod mistake;
pub(super) mod network;
mod park;
mod reconnect;
pub(super) mod refuse;
mod relay;
pub(super) mod session_record;
mod staleness;
pub(super) mod starttls;
#[cfg(test)]
mod tests;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::backend::authorize::Authorized;
use super::backend::pass_through::Attempt;
use super::current_service::CurrentService;
use super::limits::{Admitted, Peer};
use super::parking::Sample;
use super::registry::{Origin, Registered, Registry};
use super::service::Service;
use crate::failure::{Failure, Kind, Side};
use crate::lifecycle::Lifecycle;
use crate::proto::{Awaited, Credentials, Method, UpstreamLogin};
use crate::text::excerpt;
use crate::transport::socket::Socket;
use crate::transport::upstream::Server;
use deadline::Then;
use driver::{Driver, Event};
use network::{Network, Tcp};
use refuse::refuse_announced;
use session_record::{Ending, SessionRecord};
use wait::{over, unless_over, until};

/// An accepted connection, with all that it takes to serve it.
pub(super) struct Accepted {
    pub(super) peer: Peer,
    pub(super) service: Arc<Service>,
    pub(super) current: Arc<CurrentService>,
    pub(super) registry: Arc<Registry>,
    pub(super) admitted: Admitted,
    pub(super) lifecycle: Lifecycle,
}

/// Serves a device from its first octet to its last, and writes its log line.
pub(super) async fn serve(tcp: TcpStream, accepted: Accepted) {
    let Accepted { peer: Peer { id, source }, service, current, registry, mut admitted, lifecycle } = accepted;
    let mut socket = Socket::new(tcp);
    let mut balancer = None;
    let source = if service.listener.proxy_protocol.contain(source.ip()) {
        match Box::pin(service.announced(&mut socket, source, &mut admitted)).await {
            Ok(Some(announced)) => {
                balancer = Some(source.ip());
                announced
            }
            Ok(None) => return,
            Err((source, failure)) => {
                let connections = admitted.give_back();
                let peer = Peer { id, source };
                return Box::pin(refuse_announced(socket, &service, &connections, peer, &failure)).await;
            }
        }
    } else {
        source
    };
    let origin = Origin { id, source: source.ip(), balancer };
    let registered = registry.register(&current, &service, origin, lifecycle);
    let mut record = SessionRecord::new(Peer { id, source }, &service.telemetry);
    // Futures that end before the relay are boxed, here and below: a task is as large as its largest state for all of
    // its life, and most tasks live long and idle.
    match Box::pin(unless_over(&registered, service.enter(socket, &mut record))).await {
        Err(failure) => record.close(&Ending::Failed(failure)),
        Ok(stream) => {
            registered.channel_established(stream.facts(), service.listener.allow_plaintext);
            let device = Some(source.ip()).filter(|source| balancer != Some(*source));
            let session = service.session(stream.facts().is_some(), device);
            let entered = Entered { service: &service, record: &mut record, admitted: &mut admitted, registered };
            let mut connection = Connection::new(entered, &Tcp, Driver::new(session, stream));
            let ending = connection.converse().await;
            Box::pin(connection.leave(ending)).await;
        }
    }
    drop(admitted);
}

/// The parts that a connection has once its device may speak the protocol.
struct Entered<'a, 'r> {
    service: &'a Arc<Service>,
    record: &'a mut SessionRecord<'r>,
    admitted: &'a mut Admitted,
    registered: Registered,
}

/// The connection of one device, once it may speak the protocol.
struct Connection<'a, 'r, N: Network> {
    network: &'a N,
    driver: Driver<N::Stream, N::Stream>,
    service: &'a Arc<Service>,
    record: &'a mut SessionRecord<'r>,
    admitted: &'a mut Admitted,
    /// Knows the present service for logins, and the permissions that a reload has withdrawn.
    registered: Registered,
    /// The withdrawn permission for which the session is ending, and since when it is.
    revoked: Option<(Instant, Failure)>,
    greeted: Instant,
    /// The time at which the present channel began: with the greeting, or with STARTTLS.
    channel_began: Instant,
    /// The time that failed logins have taken.
    failed_logins_took: Duration,
    login_began: Instant,
    /// The time at which the server was connected for the login.
    connected: Instant,
    /// The device has closed; only the server's last octets are waited for.
    device_is_gone: bool,
    /// The time at which the device closed its half during a login.
    half_closed: Option<Instant>,
    /// The server that is, or was, logged in to.
    server: Option<Arc<Server>>,
    /// The login to repeat, if the server's connection was a warm one and turns out to be lost.
    retry: Option<Box<UpstreamLogin>>,
    /// The opened mailbox of a translated login.
    opened: Option<Authorized>,
    /// The last failure to reach a server for a session that keeps its messages, and its time.
    unreachable: Option<Box<(Instant, Failure)>>,
    /// The time before which the device's next message gets no server, where its mailbox has sent many of late.
    pause: Option<Instant>,
    /// The device's login dials although its mailbox has a parked connection, and the two are compared later.
    sample: Option<Box<Sample>>,
    /// The login that the server has, where logins are passed through.
    attempt: Option<Box<Attempt>>,
}

impl<'a, 'r, N: Network> Connection<'a, 'r, N> {
    /// Greets the device.
    fn new(entered: Entered<'a, 'r>, network: &'a N, mut driver: Driver<N::Stream, N::Stream>) -> Self {
        let Entered { service, record, admitted, registered } = entered;
        driver.greet();
        let now = Instant::now();
        Self {
            network,
            driver,
            service,
            record,
            admitted,
            registered,
            revoked: None,
            greeted: now,
            channel_began: now,
            failed_logins_took: Duration::ZERO,
            login_began: now,
            connected: now,
            device_is_gone: false,
            half_closed: None,
            server: None,
            retry: None,
            opened: None,
            unreachable: None,
            pause: None,
            sample: None,
            attempt: None,
        }
    }
}

impl<N: Network> Connection<'_, '_, N> {
    /// Serves the device until the connection has to end.
    async fn converse(&mut self) -> Ending {
        loop {
            let handled = match self.next_event().await {
                Ok(event) => self.handle(event).await,
                Err(failure) if self.is_worth_another_dial(&failure) => self.handle(Event::LoginFailed(failure)).await,
                Err(failure) => self.survive(failure),
            };
            if let Err(ending) = handled {
                return ending;
            }
        }
    }

    /// Handles one event of the driver. An `Err` ends the connection.
    async fn handle(&mut self, event: Event) -> Result<(), Ending> {
        match event {
            Event::Authenticate(credentials) => self.authenticate(credentials).await,
            Event::LoggedIn => self.logged_in(),
            Event::Connect => Box::pin(self.reconnect()).await,
            Event::ServerLeft => {
                self.server_left();
                Ok(())
            }
            Event::LoginFailed(failure) => {
                let connected = Box::pin(self.log_in_again(failure)).await;
                self.after_connecting(connected)
            }
            Event::Notice(failure) => {
                self.noticed(&failure);
                Ok(())
            }
            Event::MessageBegins(envelope) => {
                self.message_begins(&envelope);
                Ok(())
            }
            Event::Keep(reason) => {
                Box::pin(self.keep(reason)).await;
                Ok(())
            }
            Event::Submitted(submitted) => {
                self.answered();
                let pause = self.record.submitted(&submitted);
                // The recipients are counted.
                drop(submitted);
                self.accepted();
                Box::pin(self.keep_pace(pause)).await;
                Ok(())
            }
            // `next_event` looks at the deadline anew.
            Event::Waits => Ok(()),
            Event::HalfClosed => {
                self.half_closed = Some(Instant::now());
                Ok(())
            }
            Event::StartTls(side) => Box::pin(self.start_tls(side)).await,
            Event::Stopped if self.device_is_gone && self.revoked.is_none() => Err(Ending::DeviceClosed),
            Event::Stopped => Err(Ending::Failed(self.deadline().failure())),
            Event::Park(state) => self.park(state),
            Event::Close => Err(self.logged_out()),
            Event::Ended(side) => Box::pin(self.ended(side)).await,
        }
    }

    async fn authenticate(&mut self, credentials: Credentials) -> Result<(), Ending> {
        if self.record.has_observed_enough() {
            return Err(Ending::Failed(Failure::new(Kind::Observed, "the device goes on trying to log in")));
        }
        // A device that pipelines logins has no more time than others.
        if self.login_ends() <= Instant::now() {
            return Err(Ending::Failed(self.login_timeout()));
        }
        self.login_began = Instant::now();
        let login = match credentials.method {
            // The device's name stands for the user name that it has not sent.
            Method::Source => self.service.logins.device_at(self.record.source.ip()).unwrap_or("-").to_owned(),
            Method::Command | Method::Sasl(_) => excerpt(&credentials.login),
        };
        self.record.login_started(login);
        let connected = Box::pin(self.log_in(credentials)).await;
        self.after_connecting(connected)
    }

    /// The server is connected; or the device learns why it is not; or it has left meanwhile.
    fn after_connecting(&mut self, connected: Result<(), Failure>) -> Result<(), Ending> {
        match connected {
            Ok(()) => Ok(()),
            Err(failure) if failure.kind == Kind::DeviceLost => Err(Ending::Failed(failure)),
            Err(failure) => {
                self.login_failed(&failure);
                Ok(())
            }
        }
    }

    fn logged_in(&mut self) -> Result<(), Ending> {
        self.retry = None;
        if !self.record.is_in() {
            self.record.logged_in();
            self.driver.downstream_mut().into_iter().for_each(N::logged_in);
            self.admitted.became_known();
        }
        self.attempt.take().into_iter().for_each(|attempt| attempt.succeeded());
        self.registered.login_succeeded().map_err(Ending::Failed)?;
        if let Some(opened) = &mut self.opened {
            opened.since.get_or_insert_with(Instant::now);
            opened.mailbox.opened(&opened.terms);
        }
        Ok(())
    }

    /// Takes back a login that failed and tells the device.
    fn login_failed(&mut self, failure: &Failure) {
        if self.record.is_in() {
            return self.reconnecting_failed(failure);
        }
        if let Some(opened) = &self.opened {
            opened.mailbox.failed(failure);
            self.service.parking.refused(&opened.mailbox);
        }
        if self.may_begin_without_server(failure) && self.begin_without_server(failure) {
            return;
        }
        self.driver.login_failed(failure);
        self.attempt.take().into_iter().for_each(|attempt| attempt.failed(failure));
        self.retry = None;
        self.opened = None;
        self.registered.login_failed();
        self.record.login_failed(failure);
        self.failed_logins_took += self.login_began.elapsed();
    }

    /// Notes a response of the server in a running session that an operator should know.
    fn noticed(&mut self, failure: &Failure) {
        self.refused_in_session(failure);
        self.answered();
        self.record.noticed(failure);
        if let Some(error) = failure.repeated {
            self.refused(error);
        }
        // The server of a refused message is dropped already, and the device may take its time over the rest.
        if !self.driver.has_upstream() {
            self.free_connection();
        }
    }

    /// Counts the time that the server has taken for its answer to a whole message, if this is one.
    fn answered(&mut self) {
        if let Some(ended) = self.driver.take_message_ended() {
            self.record.message_answered(ended.elapsed());
        }
    }

    /// Waits for the next event, no longer than the deadline of the present phase allows.
    async fn next_event(&mut self) -> Result<Event, Failure> {
        loop {
            let deadline = self.deadline().at;
            // A peer that never stops sending takes all that tokio lets a task do in one turn. Time and the end are
            // looked at all the same.
            tokio::select! {
                biased;
                event = self.driver.next() => return event,
                () = until(deadline) => {}
                failure = unconstrained(over(&self.registered, self.revoked.is_some())) => self.is_over(failure)?,
            }
            // Octets may have moved since.
            let deadline = self.deadline();
            if deadline.at <= Instant::now() {
                match deadline.then {
                    Then::Fail => return Err(deadline.failure()),
                    Then::LeaveServer => Box::pin(self.leave_server()).await,
                    Then::Keep => Box::pin(self.answer_is_late()).await,
                }
            }
        }
    }

    /// Handles the end of the process, or a withdrawn permission. A reload leaves a response that is on its way the
    /// close timeout to reach its end.
    fn is_over(&mut self, failure: Failure) -> Result<(), Failure> {
        if failure.kind != Kind::Revoked || !self.driver.session().phase().is_relaying() {
            return Err(failure);
        }
        self.revoked = Some((Instant::now(), failure));
        self.driver.stop();
        Ok(())
    }

    /// Decides whether the connection survives a failure. A server that fails during the login costs the device that
    /// login alone. A device that is gone after LOGOUT or QUIT still has its command carried out.
    fn survive(&mut self, failure: Failure) -> Result<(), Ending> {
        if failure.kind == Kind::UpstreamLost && self.goes_on_without_server() {
            return Ok(());
        }
        if self.driver.session().awaited() == Some(Awaited::Answer) {
            return self.survive_unanswered(failure);
        }
        let session = self.driver.session();
        let is_leaving = self.device_is_gone || session.activity().has_logged_out;
        match failure.kind.side() {
            Some(Side::Upstream) if !session.phase().is_relaying() => {
                self.login_failed(&failure);
                Ok(())
            }
            Some(Side::Upstream) if failure.kind == Kind::UpstreamLost && is_leaving => Err(self.server_closed()),
            Some(Side::Downstream) if failure.kind == Kind::DeviceLost && is_leaving => {
                self.device_is_gone = true;
                self.driver.abandon(Side::Downstream);
                Ok(())
            }
            Some(Side::Downstream) if session.activity().tried_in_clear => Err(leave::in_clear()),
            Some(Side::Upstream | Side::Downstream) | None => Err(Ending::Failed(failure)),
        }
    }
}
