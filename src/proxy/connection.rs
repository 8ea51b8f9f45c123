//! The story of one connection: enter, log in, relay, leave.

mod driver;
mod enter;
mod login;
pub(super) mod refuse;
mod relay;
pub(super) mod session_record;
mod time;
mod wait;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::unconstrained;

use super::backend::authorize::Authorized;
use super::backend::pass_through::Attempt;
use super::current_service::CurrentService;
use super::limits::{Admitted, Peer};
use super::registry::{Origin, Registered, Registry};
use super::service::{Service, setting};
use crate::failure::{Failure, Kind, Side};
use crate::inventory::TlsMode;
use crate::lifecycle::Lifecycle;
use crate::proto::{UpstreamLogin, is_client_hello};
use crate::text::excerpt;
use crate::transport::Stream;
use crate::transport::socket::Socket;
use crate::transport::upstream::Server;
use driver::{Driver, Event};
use refuse::refuse_announced;
use session_record::{Ending, SessionRecord};
use wait::{over, unless_over, until, within};

/// Who has been let in, with all that it takes to serve it.
pub(super) struct Accepted {
    pub(super) peer: Peer,
    pub(super) service: Arc<Service>,
    pub(super) current: Arc<CurrentService>,
    pub(super) registry: Arc<Registry>,
    pub(super) admitted: Admitted,
    pub(super) lifecycle: Lifecycle,
}

/// Serves a device from the first octet to the last, and writes its line.
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
    // What is over when the relay begins is boxed, here and below: a task is as large as its largest state, for as long as
    // it lives, and most live long and idle.
    match Box::pin(unless_over(&registered, service.enter(socket, &mut record))).await {
        Err(failure) => record.close(&Ending::Failed(failure)),
        Ok(stream) => {
            registered.channel_established(stream.facts(), service.listener.allow_plaintext);
            let session = service.session(stream.facts().is_some());
            let mut connection = Connection {
                driver: Driver::new(session, stream),
                service: &service,
                record: &mut record,
                admitted: &mut admitted,
                registered,
                revoked: None,
                greeted: Instant::now(),
                held: Duration::ZERO,
                begun: Instant::now(),
                phase: Instant::now(),
                device_is_gone: false,
                half_closed: None,
                server: None,
                spare: None,
                opened: None,
                attempt: None,
            };
            let ending = connection.converse().await;
            Box::pin(connection.leave(ending)).await;
        }
    }
    drop(admitted);
}

struct Connection<'a, 'r> {
    driver: Driver,
    service: &'a Arc<Service>,
    record: &'a mut SessionRecord<'r>,
    admitted: &'a mut Admitted,
    /// Tells where a login is taken to by now, and whether a reload has withdrawn what the connection rests on.
    registered: Registered,
    /// That it has, and since when the session is ending for it.
    revoked: Option<(Instant, Failure)>,
    greeted: Instant,
    /// What logins that failed have taken.
    held: Duration,
    /// When the last login began.
    begun: Instant,
    /// When the server had it.
    phase: Instant,
    /// The device has closed; only the server's last words are waited for.
    device_is_gone: bool,
    /// When the device has closed its half, during a login.
    half_closed: Option<Instant>,
    /// The server that is, or was, logged in to.
    server: Option<Arc<Server>>,
    /// What the login is tried with once more where the connection to the server was a ready one, and is lost.
    spare: Option<Box<UpstreamLogin>>,
    /// The mailbox that is opened for the device, where its login is translated.
    opened: Option<Authorized>,
    /// The login that the server has, where it is passed through.
    attempt: Option<Box<Attempt>>,
}

impl Connection<'_, '_> {
    async fn converse(&mut self) -> Ending {
        self.driver.greet();
        loop {
            let event = match self.next_event().await {
                Ok(Event::Ended(Side::Upstream)) if self.spare.is_some() => {
                    Event::LoginFailed(Failure::new(Kind::UpstreamLost, ""))
                }
                Ok(event) => event,
                Err(failure) if self.is_worth_another_dial(&failure) => Event::LoginFailed(failure),
                Err(failure) => match self.survives(failure) {
                    Ok(()) => continue,
                    Err(ending) => return ending,
                },
            };
            match event {
                Event::Authenticate(_) if self.record.has_observed_enough() => {
                    return Ending::Failed(Failure::new(Kind::Observed, "the device goes on trying to log in"));
                }
                // A device that sends one login behind the other has no more time than others.
                Event::Authenticate(_) if self.login_ends() <= Instant::now() => {
                    return Ending::Failed(self.login_timeout());
                }
                Event::Authenticate(credentials) => {
                    self.begun = Instant::now();
                    self.record.login_started(excerpt(&credentials.login));
                    let reached = Box::pin(self.log_in(credentials)).await;
                    if let Err(ending) = self.reached(reached) {
                        return ending;
                    }
                }
                Event::LoggedIn => {
                    self.spare = None;
                    self.record.logged_in();
                    self.admitted.became_known();
                    self.attempt.take().into_iter().for_each(|attempt| attempt.succeeded());
                    if let Err(failure) = self.registered.login_succeeded() {
                        return Ending::Failed(failure);
                    }
                    if let Some(opened) = &self.opened {
                        opened.mailbox.login_succeeded();
                    }
                }
                Event::LoginFailed(failure) => {
                    let reached = Box::pin(self.log_in_again(failure)).await;
                    if let Err(ending) = self.reached(reached) {
                        return ending;
                    }
                }
                Event::Notice(failure) => self.noticed(&failure),
                // The time that is left is looked at anew.
                Event::Waits => {}
                Event::HalfClosed => self.half_closed = Some(Instant::now()),
                Event::StartTls(Side::Downstream) => {
                    if let Err(failure) = Box::pin(self.start_tls_downstream()).await {
                        return Ending::Failed(failure);
                    }
                }
                Event::StartTls(Side::Upstream) => {
                    if let Err(failure) = Box::pin(self.start_tls_upstream()).await {
                        self.login_failed(&failure);
                    }
                }
                Event::Stopped => return Ending::Failed(self.time_left().1),
                Event::Close if self.driver.session().activity().tried_in_clear => return in_clear(),
                Event::Close => return Ending::LoggedOut,
                Event::Ended(Side::Downstream) if self.driver.session().phase().is_relaying() => {
                    Box::pin(self.device_closed()).await
                }
                Event::Ended(Side::Downstream) if self.driver.session().activity().tried_in_clear => return in_clear(),
                Event::Ended(Side::Downstream) => return Ending::DeviceClosed,
                Event::Ended(Side::Upstream) if self.driver.session().phase().is_relaying() => {
                    return self.server_closed();
                }
                Event::Ended(Side::Upstream) => {
                    self.login_failed(&Failure::new(Kind::UpstreamLost, "in the middle of the login"));
                }
            }
        }
    }

    /// The next event, within the time that the phase allows.
    async fn next_event(&mut self) -> Result<Event, Failure> {
        loop {
            let deadline = self.time_left().0;
            // A peer that never stops talking takes all that tokio lets a task do in one turn: time and the end are looked
            // at all the same.
            tokio::select! {
                biased;
                event = self.driver.next() => return event,
                () = until(deadline) => {}
                failure = unconstrained(over(&self.registered, self.revoked.is_some())) => self.is_over(failure)?,
            }
            // Octets may have moved since.
            let (deadline, failure) = self.time_left();
            if deadline <= Instant::now() {
                return Err(failure);
            }
        }
    }

    /// All sessions end, or a reload ends this one: a response that is on its way has time to reach its end.
    fn is_over(&mut self, failure: Failure) -> Result<(), Failure> {
        if failure.kind != Kind::Revoked || !self.driver.session().phase().is_relaying() {
            return Err(failure);
        }
        self.revoked = Some((Instant::now(), failure));
        self.driver.stop();
        Ok(())
    }

    /// A server that fails during the login costs the device that login, and no more. A device that is gone after
    /// LOGOUT or QUIT still has its command carried out.
    fn survives(&mut self, failure: Failure) -> Result<(), Ending> {
        let session = self.driver.session();
        match failure.kind.side() {
            Some(Side::Upstream) if !session.phase().is_relaying() => {
                self.login_failed(&failure);
                Ok(())
            }
            Some(Side::Upstream)
                if failure.kind == Kind::UpstreamLost && (self.device_is_gone || session.activity().has_logged_out) =>
            {
                Err(self.server_closed())
            }
            Some(Side::Downstream)
                if failure.kind == Kind::DeviceLost && (self.device_is_gone || session.activity().has_logged_out) =>
            {
                self.device_is_gone = true;
                self.driver.abandon(Side::Downstream);
                Ok(())
            }
            Some(Side::Downstream) if session.activity().tried_in_clear => Err(in_clear()),
            Some(Side::Upstream | Side::Downstream) | None => Err(Ending::Failed(failure)),
        }
    }

    /// What the way to the server came to: it is reached, the device is told that it is not, or the device has left.
    fn reached(&mut self, reached: Result<(), Failure>) -> Result<(), Ending> {
        match reached {
            Ok(()) => Ok(()),
            Err(failure) if failure.kind == Kind::DeviceLost => Err(Ending::Failed(failure)),
            Err(failure) => {
                self.login_failed(&failure);
                Ok(())
            }
        }
    }

    /// The login failed, and the device does not know yet.
    fn login_failed(&mut self, failure: &Failure) {
        if let (Some(opened), Some(wait)) = (&self.opened, failure.retry_after) {
            opened.mailbox.leave_alone(wait);
        }
        self.driver.login_failed(failure);
        self.attempt.take().into_iter().for_each(|attempt| attempt.failed(failure));
        self.spare = None;
        self.opened = None;
        self.registered.login_failed();
        self.record.login_failed(failure);
        self.held += self.begun.elapsed();
    }

    /// Does this on the way to the server, unless the device leaves meanwhile: then nobody waits for it any more. One that has
    /// closed its half may still read the answer, and is not waited for longer than it takes to close.
    async fn unless_left<T>(&mut self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut work = pin!(unless_over(&self.registered, work));
        loop {
            let answer = self.half_closed.map(|since| since + self.service.limits.close_timeout);
            tokio::select! {
                done = &mut work => return done,
                left = self.driver.next() => match left {
                    Ok(Event::HalfClosed) => self.half_closed = Some(Instant::now()),
                    Ok(_) => return Err(self.left_during_login()),
                    Err(failure) => return Err(Failure::new(Kind::DeviceLost, failure.detail)),
                },
                () = async { if let Some(answer) = answer { until(answer).await } }, if answer.is_some() => {
                    return Err(self.left_during_login());
                }
            }
        }
    }

    fn left_during_login(&self) -> Failure {
        let bound = setting("close_timeout", self.service.limits.close_timeout);
        Failure::new(Kind::DeviceLost, format!("it closed its half, and its login did not end within {bound}"))
    }

    /// The server has said something in a running session that an operator should know.
    fn noticed(&mut self, failure: &Failure) {
        if let (Some(opened), Some(wait)) = (&self.opened, failure.retry_after) {
            opened.mailbox.leave_alone(wait);
        }
        self.record.noticed(failure);
    }

    async fn start_tls_downstream(&mut self) -> Result<(), Failure> {
        let Some((Stream::Plain(mut stream), unread)) = self.driver.take(Side::Downstream) else {
            return Err(Failure::new(Kind::Handshake, "STARTTLS over TLS"));
        };
        // A device may send its ClientHello without waiting for our OK. Anything else was put there by somebody on
        // the way, to be taken for the device's own words behind the handshake.
        if is_client_hello(&unread) == Some(false) {
            return Err(Failure::new(Kind::Injection, "the device's side sent commands in clear behind STARTTLS"));
        }
        stream.put_back(&unread);
        let secure = self.service.secure(stream, TlsMode::StartTls, self.record);
        let stream = unless_over(&self.registered, secure).await?;
        self.registered.channel_established(stream.facts(), false);
        self.driver.secured(Side::Downstream, stream);
        Ok(())
    }

    async fn start_tls_upstream(&mut self) -> Result<(), Failure> {
        let Some((Stream::Plain(stream), unread)) = self.driver.take(Side::Upstream) else {
            return Err(Failure::new(Kind::UpstreamTls, "STARTTLS over TLS"));
        };
        if !unread.is_empty() {
            return Err(Failure::new(Kind::Injection, "the server's side sent answers in clear behind STARTTLS"));
        }
        let Some(server) = self.server.as_ref().map(Arc::clone) else {
            return Err(Failure::new(Kind::UpstreamTls, "STARTTLS without a server"));
        };
        let handshake = server.handshake(stream);
        let stream = unless_over(&self.registered, handshake).await?;
        self.record.upstream_tls = stream.facts();
        self.driver.secured(Side::Upstream, stream);
        Ok(())
    }

    /// The device has closed its half. The server hears of it; after LOGOUT or QUIT only by its own answer and close,
    /// so that what was to be deleted is. It is never told QUIT on the device's behalf.
    async fn device_closed(&mut self) {
        self.device_is_gone = true;
        if !self.driver.session().activity().has_logged_out {
            // A server that does not take it in time is closed all the same.
            within(self.service.limits.close_timeout, self.driver.close(Side::Upstream)).await;
        }
    }

    fn server_closed(&self) -> Ending {
        if self.driver.session().activity().has_logged_out {
            Ending::LoggedOut
        } else if self.device_is_gone {
            Ending::DeviceClosed
        } else {
            Ending::ServerClosed
        }
    }

    /// Closes both sides, and writes the line.
    async fn leave(mut self, ending: Ending) {
        self.attempt.take().into_iter().for_each(|attempt| attempt.abandoned());
        self.record.commands = self.driver.session().activity().commands;
        self.record.passed = self.driver.passed();
        let close = async {
            match &ending {
                Ending::Failed(failure) => self.driver.end_with(failure).await,
                Ending::LoggedOut | Ending::DeviceClosed | Ending::ServerClosed => {
                    self.driver.close_both().await;
                }
            }
        };
        // Who does not take the last words in time does without.
        within(self.service.limits.close_timeout, close).await;
        self.record.close(&ending);
        // At the very end there is nobody left to wait for.
        let drained = matches!(&ending, Ending::Failed(failure) if failure.kind == Kind::Drained);
        if !drained {
            within(LINGER, self.driver.linger()).await;
        }
    }
}

/// The commonest mistake of all, in the words that mend it.
fn in_clear() -> Ending {
    let advice =
        "switch the device to SSL/TLS or STARTTLS, or set allow_plaintext and allowed_networks on this listener";
    Ending::Failed(Failure::new(Kind::LoginInClear, advice))
}

/// How long a device that does not close in its turn is waited for.
const LINGER: Duration = Duration::from_secs(2);
