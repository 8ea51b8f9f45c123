//! The story of one connection: enter, log in, relay, leave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

use super::Door;
use super::driver::{Driver, Event};
use super::limits::Admitted;
use super::record::{Ending, Record};
use crate::config::{Entry, Limits, Protocol, Security};
use crate::failure::{Failure, Kind, Side};
use crate::lifecycle::{Lifecycle, Phase};
use crate::proto::imap::Imap;
use crate::proto::line::printable;
use crate::proto::pop3::Pop3;
use crate::proto::{Credentials, Limits as SessionLimits, Offer, Session, UpstreamTls};
use crate::transport::Stream;
use crate::transport::detect::{Opening, Peeked};
use crate::transport::downstream::refusal;

/// Serves a device from the first octet to the last, and writes its line.
pub(super) async fn serve(
    tcp: TcpStream,
    source: SocketAddr,
    door: Arc<Door>,
    admitted: Admitted,
    lifecycle: Lifecycle,
) {
    let mut record = Record::new(source, &door.listener.name);
    match unless_ending(&lifecycle, door.enter(Peeked::new(tcp))).await {
        Err(failure) => record.close(&Ending::Failed(failure)),
        Ok(stream) => {
            record.device_tls = stream.facts();
            let session = door.session(record.device_tls.is_some());
            let mut connection = Connection {
                driver: Driver::new(session, stream),
                door: &door,
                record: &mut record,
                lifecycle,
                deadline: Instant::now() + door.limits.login_timeout,
                device_is_gone: false,
            };
            let ending = connection.converse().await;
            connection.leave(ending).await;
        }
    }
    drop(admitted);
}

struct Connection<'a> {
    driver: Driver,
    door: &'a Door,
    record: &'a mut Record,
    lifecycle: Lifecycle,
    /// Until login.
    deadline: Instant,
    /// The device has closed; only the server's last words are waited for.
    device_is_gone: bool,
}

impl Connection<'_> {
    async fn converse(&mut self) -> Ending {
        self.driver.greet();
        loop {
            let event = match self.next_event().await {
                Ok(event) => event,
                Err(failure) => match self.survives(failure) {
                    Ok(()) => continue,
                    Err(ending) => return ending,
                },
            };
            match event {
                Event::Authenticate(credentials) => {
                    self.record.login = Some(printable(&credentials.login));
                    match self.log_in(credentials).await {
                        Ok(()) => {}
                        Err(failure) if failure.kind == Kind::DeviceLost => return Ending::Failed(failure),
                        Err(failure) => self.login_failed(&failure),
                    }
                }
                Event::LoggedIn => {}
                Event::LoginFailed(failure) => self.try_again(&failure),
                Event::StartTls(Side::Downstream) => {
                    if let Err(failure) = self.start_tls_downstream().await {
                        return Ending::Failed(failure);
                    }
                }
                Event::StartTls(Side::Upstream) => {
                    if let Err(failure) = self.start_tls_upstream().await {
                        self.login_failed(&failure);
                    }
                }
                Event::Close => return Ending::LoggedOut,
                Event::Ended(Side::Downstream) if self.driver.session().is_relaying() => self.device_closed().await,
                Event::Ended(Side::Downstream) => return Ending::DeviceClosed,
                Event::Ended(Side::Upstream) if self.driver.session().is_relaying() => return self.server_closed(),
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
            tokio::select! {
                biased;
                event = self.driver.next() => return event,
                () = sleep_until(deadline.into()) => {}
                () = self.lifecycle.reached(Phase::Ending) => return Err(Failure::new(Kind::Drained, "")),
            }
            // Octets may have moved since.
            let (deadline, failure) = self.time_left();
            if deadline <= Instant::now() {
                return Err(failure);
            }
        }
    }

    /// Until when the present phase may last, and what it means when it does not end.
    fn time_left(&self) -> (Instant, Failure) {
        let limits = &self.door.limits;
        let last_move = self.driver.last_move();
        let (deadline, kind, key, limit) = if self.device_is_gone {
            (last_move + limits.close_timeout, Kind::UpstreamTimeout, "close_timeout", limits.close_timeout)
        } else if self.driver.session().is_relaying() {
            (last_move + limits.idle_timeout, Kind::IdleTimeout, "idle_timeout", limits.idle_timeout)
        } else if self.driver.session().is_logging_in() {
            (self.deadline, Kind::UpstreamTimeout, "upstream_login_timeout", limits.upstream_login_timeout)
        } else {
            (self.deadline, Kind::LoginTimeout, "login_timeout", limits.login_timeout)
        };
        (deadline, Failure::new(kind, setting(key, limit)))
    }

    /// A server that fails during the login costs the device that login, and no more. A device that is gone after
    /// LOGOUT or QUIT still has its command carried out.
    fn survives(&mut self, failure: Failure) -> Result<(), Ending> {
        let session = self.driver.session();
        match failure.kind.side() {
            Some(Side::Upstream) if !session.is_relaying() => {
                self.login_failed(&failure);
                Ok(())
            }
            Some(Side::Upstream) if self.device_is_gone && failure.kind == Kind::UpstreamLost => {
                Err(self.server_closed())
            }
            Some(Side::Downstream)
                if failure.kind == Kind::DeviceLost && (self.device_is_gone || session.has_logged_out()) =>
            {
                self.device_is_gone = true;
                self.driver.abandon(Side::Downstream);
                Ok(())
            }
            Some(Side::Upstream | Side::Downstream) | None => Err(Ending::Failed(failure)),
        }
    }

    /// The login failed on the way to the server, and the device does not know yet.
    fn login_failed(&mut self, failure: &Failure) {
        self.driver.login_failed(failure);
        self.try_again(failure);
    }

    /// The device has been told; it has its time again.
    fn try_again(&mut self, failure: &Failure) {
        self.record.login_failed(failure);
        self.deadline = Instant::now() + self.door.limits.login_timeout;
    }

    /// Finds and dials the server, now that the device has said who it is. A device that leaves meanwhile is not
    /// dialled for any longer.
    async fn log_in(&mut self, credentials: Credentials) -> Result<(), Failure> {
        let door = self.door;
        let (stream, tls) = tokio::select! {
            reached = unless_ending(&self.lifecycle, door.reach_server()) => reached?,
            left = self.driver.next() => {
                let detail = match left {
                    Ok(_) => "it closed while the mail server was dialled".to_owned(),
                    Err(failure) => failure.detail,
                };
                return Err(Failure::new(Kind::DeviceLost, detail));
            }
        };
        self.record.upstream_tls = stream.facts();
        self.deadline = Instant::now() + door.limits.upstream_login_timeout;
        self.driver.connect(stream, credentials, tls);
        Ok(())
    }

    async fn start_tls_downstream(&mut self) -> Result<(), Failure> {
        let Some((Stream::Plain(mut stream), unread)) = self.driver.take(Side::Downstream) else {
            return Err(Failure::new(Kind::Handshake, "STARTTLS over TLS"));
        };
        // A device may send its ClientHello without waiting for our OK. Anything else was put there by somebody on
        // the way, to be taken for the device's own words behind the handshake.
        if unread.first().is_some_and(|&octet| octet != TLS_HANDSHAKE && octet & 0x80 == 0) {
            return Err(Failure::new(Kind::Injection, "the device's side sent commands in clear behind STARTTLS"));
        }
        stream.put_back(&unread);
        let stream = unless_ending(&self.lifecycle, self.door.secure(stream)).await?;
        self.record.device_tls = stream.facts();
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
        let handshake = self.door.connector.handshake(stream.into_tcp());
        let stream = unless_ending(&self.lifecycle, handshake).await?;
        self.record.upstream_tls = stream.facts();
        self.driver.secured(Side::Upstream, stream);
        Ok(())
    }

    /// The device has closed its half. The server hears of it; after LOGOUT or QUIT only by its own answer and close,
    /// so that what was to be deleted is. It is never told QUIT on the device's behalf.
    async fn device_closed(&mut self) {
        self.device_is_gone = true;
        if !self.driver.session().has_logged_out() {
            // A server that does not take it in time is closed all the same.
            let _ = timeout(self.door.limits.close_timeout, self.driver.close(Side::Upstream)).await;
        }
    }

    fn server_closed(&self) -> Ending {
        if self.driver.session().has_logged_out() {
            Ending::LoggedOut
        } else if self.device_is_gone {
            Ending::DeviceClosed
        } else {
            Ending::ServerClosed
        }
    }

    /// Closes both sides, and writes the line.
    async fn leave(mut self, ending: Ending) {
        self.record.commands = self.driver.session().commands();
        self.record.passed = self.driver.passed();
        let close = async {
            match &ending {
                Ending::Failed(failure) => self.driver.end_with(failure).await,
                Ending::LoggedOut | Ending::DeviceClosed | Ending::ServerClosed => {
                    self.driver.close(Side::Upstream).await;
                    self.driver.close(Side::Downstream).await;
                }
            }
        };
        // Who does not take the last words in time does without.
        let _ = timeout(self.door.limits.close_timeout, close).await;
        self.record.close(&ending);
        // At the very end there is nobody left to wait for.
        let drained = matches!(&ending, Ending::Failed(failure) if failure.kind == Kind::Drained);
        if !drained {
            let _ = timeout(LINGER, self.driver.linger()).await;
        }
    }
}

impl Door {
    /// From the first octet to a stream on which the protocol is spoken.
    async fn enter(&self, mut stream: Peeked) -> Result<Stream, Failure> {
        match self.listener.entry {
            Entry::Implicit => self.secure(stream).await,
            Entry::StartTls | Entry::Plaintext => Ok(Stream::Plain(stream)),
            Entry::Auto => {
                let delay = self.listener.detect_delay;
                match timeout(delay + self.limits.handshake_timeout, stream.opening(Some(delay))).await {
                    Ok(Ok(Opening::Plaintext | Opening::Silence)) => Ok(Stream::Plain(stream)),
                    Ok(Ok(Opening::Closed) | Err(_)) => Err(Failure::new(Kind::NothingSaid, "")),
                    Ok(Ok(Opening::Hello(_) | Opening::Strange)) => self.secure(stream).await,
                    Err(_) => Err(self.too_slow("its ClientHello does not end")),
                }
            }
        }
    }

    /// Dials the server, up to where the protocol is spoken.
    async fn reach_server(&self) -> Result<(Stream, UpstreamTls), Failure> {
        let tcp = self.connector.dial(self.listener.protocol).await?;
        Ok(match self.connector.security() {
            Security::Implicit => (self.connector.handshake(tcp).await?, UpstreamTls::Implicit),
            Security::StartTls => (Stream::Plain(Peeked::new(tcp)), UpstreamTls::StartTls),
        })
    }

    /// Shakes hands with the device; a failure is explained in plain words.
    async fn secure(&self, mut stream: Peeked) -> Result<Stream, Failure> {
        let Some(acceptor) = &self.acceptor else {
            return Err(Failure::new(Kind::Handshake, "this listener has no TLS"));
        };
        let mut begun = false;
        let handshake = async {
            let hello = match stream.opening(None).await {
                Ok(Opening::Hello(hello)) => Some(hello),
                Ok(Opening::Strange | Opening::Silence) => None,
                Ok(Opening::Closed) | Err(_) => return Err(Failure::new(Kind::NothingSaid, "")),
                Ok(Opening::Plaintext) => {
                    return Err(Failure::new(
                        Kind::Handshake,
                        "the device speaks without TLS: switch TLS on in the device, or set entry = \"auto\" on this listener",
                    ));
                }
            };
            begun = true;
            if hello.as_ref().is_some_and(|hello| hello.sslv2_format) && !self.listener.tls.sslv2_hello {
                // The device hears why in its own words; it may be gone, which changes nothing.
                let _ = stream.write_all(ALERT_HANDSHAKE_FAILURE).await;
                return Err(Failure::new(Kind::Handshake, refusal::sslv2_format(hello.as_deref(), &self.listener.tls)));
            }
            match acceptor.accept(stream).await {
                Ok(tls) => Ok(Stream::Device(Box::new(tls))),
                Err(refused) => Err(Failure::new(
                    Kind::Handshake,
                    refusal::explain(&refused, hello.as_deref(), &self.listener.tls, acceptor.has_ecdsa()),
                )),
            }
        };
        match timeout(self.limits.handshake_timeout, handshake).await {
            Ok(result) => result,
            Err(_) if begun => Err(self.too_slow("it began and did not finish")),
            Err(_) => Err(self.too_slow(
                "it sent nothing; if it waits for a greeting in clear, set entry = \"auto\" on this listener",
            )),
        }
    }

    fn too_slow(&self, what: &str) -> Failure {
        let limit = setting("handshake_timeout", self.limits.handshake_timeout);
        Failure::new(Kind::HandshakeTimeout, format!("{what} ({limit})"))
    }

    fn session(&self, encrypted: bool) -> Box<dyn Session> {
        let offer = Offer {
            encrypted,
            starttls: self.acceptor.is_some(),
            plaintext_login: self.listener.allow_plaintext,
            // Logins are passed through, so what the server takes may be used.
            xoauth2: true,
        };
        let limits = session_limits(&self.limits);
        match self.listener.protocol {
            Protocol::Imap => Box::new(Imap::new(offer, limits)),
            Protocol::Pop3 => Box::new(Pop3::new(offer, limits)),
        }
    }
}

/// Does this, unless the time of all sessions is over.
async fn unless_ending<T>(lifecycle: &Lifecycle, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut lifecycle = lifecycle.clone();
    tokio::select! {
        biased;
        result = work => result,
        () = lifecycle.reached(Phase::Ending) => Err(Failure::new(Kind::Drained, "")),
    }
}

fn session_limits(limits: &Limits) -> SessionLimits {
    SessionLimits {
        line: limits.line,
        sasl_line: limits.sasl_line,
        literal: limits.literal,
        bad_commands: limits.bad_commands,
    }
}

fn setting(key: &str, value: Duration) -> String {
    format!("limits.{key} = {}", humantime::format_duration(value))
}

const TLS_HANDSHAKE: u8 = 22;
/// A fatal alert in a record of SSLv3, which every stack reads (RFC 5246 §7.2).
const ALERT_HANDSHAKE_FAILURE: &[u8] = &[21, 3, 0, 0, 2, 2, 40];
/// How long a device that does not close in its turn is waited for.
const LINGER: Duration = Duration::from_secs(2);
