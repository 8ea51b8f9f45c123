//! This file runs a device and a server at the two ends of the real driver, in memory, and records what each receives.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use packetboat::failure::{Failure, Kind};
use packetboat::proto::parking::ParkedState;
use packetboat::proto::{
    self, CommandLimits, Credentials, Deletes, MailboxTerms, Method, Offer, Phase, Probe, Relogin, Side,
    SubmissionTerms, Terms, UpstreamLogin,
};
pub use packetboat::protocol::Protocol;
use packetboat::protocol::Security;
use packetboat::proxy::{Driver, Event};
use packetboat::secret::Secret;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::fuzz::laws::{Checked, Seen};
use crate::fuzz::model::Model;

/// The settings that configuration and account give a session.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub offer: Offer,
    pub upstream: Security,
    pub probe: Probe,
    pub deletes: Deletes,
    pub relogin: Relogin,
    /// Whether the server's connection may be parked when the device logs out, in IMAP.
    pub parks: bool,
    /// Whether there is a token and a server that accepts connections.
    pub reachable: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            offer: Offer { encrypted: true, starttls: true, plaintext_login: false, xoauth2: true, ..Offer::NONE },
            upstream: Security::Implicit,
            probe: Probe::Skip,
            deletes: Deletes::Allowed,
            relogin: Relogin::Allowed,
            parks: false,
            reachable: true,
        }
    }
}

/// All octets that either side has received, and the events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub device: String,
    pub server: String,
    pub events: Vec<String>,
}

/// The two peers with the driver between them; [`Pair`] carries out the driver's events as the proxy does.
pub struct Pair {
    driver: Driver<Pipe, Pipe>,
    seen: Arc<Mutex<Seen>>,
    woken: Arc<Woken>,
    pub settings: Settings,
    protocol: Protocol,
    device: Pipe,
    /// The connection to the server; `None` before the first login, and between a failed login and the next.
    server: Option<Pipe>,
    /// The number of dropped connections to the server.
    dropped: usize,
    /// Octets received downstream and upstream, the latter over all connections.
    pub received: [Vec<u8>; 2],
    pub events: Vec<String>,
    pub over: bool,
    has_ended: [bool; 2],
    /// The side whose present input goes on, in clear, whatever happens meanwhile.
    more: Option<Side>,
    /// The octets that each side should receive since the login, and the count that it had received before.
    model: Option<(Model, [usize; 2])>,
    /// The connection that a device has left behind, for the next one.
    parked: Option<Parked>,
    /// The parked connection that the next login takes.
    resumes: Option<Parked>,
}

/// A connection to the server whose device has logged out.
pub struct Parked {
    server: Pipe,
    pub state: ParkedState,
}

impl Pair {
    pub fn new(settings: Settings, protocol: Protocol) -> Self {
        let limits = CommandLimits { line: 200, sasl_line: 400, literal: 60, bad_commands: 4 };
        let session = proto::session(protocol, settings.offer, limits);
        let (session, seen) = Checked::new(session, protocol);
        let device = Pipe::default();
        let mut driver = Driver::new(Box::new(session), device.clone());
        driver.greet();
        let mut pair = Self {
            driver,
            seen,
            woken: Arc::default(),
            settings,
            protocol,
            device,
            server: None,
            dropped: 0,
            received: [Vec::new(), Vec::new()],
            events: Vec::new(),
            over: false,
            has_ended: [false; 2],
            more: None,
            model: None,
            parked: None,
            resumes: None,
        };
        pair.run();
        pair
    }

    /// Lets the next login take this connection in place of another one.
    pub fn resume(&mut self, parked: Parked) {
        self.resumes = Some(parked);
    }

    /// The connection that the device has left behind, if it is parked.
    pub fn take_parked(&mut self) -> Option<Parked> {
        self.parked.take()
    }

    /// Sends octets of one side, in pieces whose size `cut` chooses from the rest. Everything that follows from a piece
    /// happens before the next one.
    pub fn send(&mut self, side: Side, input: &[u8], mut cut: impl FnMut(usize) -> usize) {
        let dropped = self.dropped;
        let mut rest = input;
        while !rest.is_empty() && !self.has_ended[side as usize] {
            // A peer without a connection, or with a dropped one, sends nothing.
            if self.over || (side == Side::Upstream && (self.server.is_none() || self.dropped != dropped)) {
                break;
            }
            let (piece, behind) = rest.split_at(cut(rest.len()).clamp(1, rest.len()));
            rest = behind;
            if let Some((model, _)) = &mut self.model {
                model.hear(side, piece);
            }
            if let Some(mut pipe) = self.pipe(side) {
                pipe.sends.extend(piece);
            }
            self.more = (!rest.is_empty()).then_some(side);
            self.run();
        }
        self.more = None;
    }

    /// Lets the device take so many octets before it reads them, and read nothing until [`read`](Self::read).
    pub fn slow_device(&mut self, window: usize) {
        self.device.0.borrow_mut().window = Some(window);
    }

    /// Lets the device read all that there is for it.
    pub fn read(&mut self) {
        loop {
            let before = self.received[0].len();
            self.received[0].append(&mut self.device.0.borrow_mut().receives);
            self.run();
            if self.received[0].len() == before {
                return;
            }
        }
    }

    /// Closes one side's half.
    pub fn close(&mut self, side: Side) {
        self.has_ended[side as usize] = true;
        if let (Side::Upstream, Some((model, _))) = (side, &mut self.model) {
            model.closed();
        }
        if let Some(mut pipe) = self.pipe(side) {
            pipe.has_closed = true;
        }
        self.run();
    }

    /// Ends the connection for a reason outside the session.
    pub fn end(&mut self, failure: &Failure) {
        if !self.over {
            self.say_bye(failure);
        }
    }

    pub fn is_relaying(&self) -> bool {
        self.driver.session().phase().is_relaying()
    }

    /// Everything that both sides have received, in readable form, compared with the model if there is one.
    pub fn all_received(self) -> Heard {
        if let Some((model, [device, server])) = &self.model {
            let seen = self.seen.lock().unwrap();
            // The server does not get LOGOUT where the connection is parked, and packetboat answers in its place.
            let (logout, answer) = seen.logout();
            assert!(self.received[0].ends_with(&answer), "{}", readable(&self.received[0]));
            let end = self.received[0].len() - seen.bye - answer.len();
            let to_server = [&self.received[1][*server..], logout].concat();
            model.compare(&self.received[0][*device..end], &to_server, &seen.unread[0]);
        }
        Heard { device: readable(&self.received[0]), server: readable(&self.received[1]), events: self.events }
    }

    /// Returns whether the server of a submission has said more than it was asked.
    pub fn is_out_of_turn(&self) -> bool {
        self.seen.lock().unwrap().out_of_turn
    }

    fn pipe(&mut self, side: Side) -> Option<std::cell::RefMut<'_, Ends>> {
        match side {
            Side::Downstream => Some(self.device.0.borrow_mut()),
            Side::Upstream => self.server.as_ref().map(|server| server.0.borrow_mut()),
        }
    }

    /// Runs the driver until it waits for one of the peers.
    fn run(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        while !self.over {
            let polled = std::pin::pin!(self.driver.next()).poll(&mut cx);
            self.collect();
            match polled {
                Poll::Ready(Ok(event)) => self.answer(event),
                Poll::Ready(Err(failure)) => {
                    // As for a notice: whether the driver has met the device's end before depends on the cut.
                    if self.events.last().is_some_and(|last| last == "ended downstream") {
                        self.events.pop();
                    }
                    self.events.push(format!("error {}", failure.kind.label()));
                    self.say_bye(&failure);
                }
                Poll::Pending if self.woken.0.swap(false, Ordering::Relaxed) => {}
                Poll::Pending => return,
            }
        }
    }

    fn answer(&mut self, event: Event) {
        match event {
            Event::Authenticate(credentials) => self.authenticate(credentials),
            Event::LoggedIn => self.logged_in(),
            Event::LoginFailed(failure) => self.lose_server(&failure),
            Event::Notice(failure) => {
                let wait = failure.retry_after.map(|wait| format!(" {wait:?}")).unwrap_or_default();
                let notice = format!("notice {}{wait}", failure.kind.label());
                // The device's end and a notice come from two peers: the cut decides which of them the driver meets first.
                let is_behind_end = self.events.last().is_some_and(|last| last == "ended downstream");
                self.events.insert(self.events.len() - usize::from(is_behind_end), notice);
            }
            Event::Connect => {
                self.server_left();
                self.events.push("connect".to_owned());
                // A device that sends ahead of a server that is not reached: the cut decides what came before that.
                self.seen.lock().unwrap().out_of_turn |= !self.settings.reachable;
                let secret = Secret::new(b"p".to_vec());
                let (method, login, authzid) = (Method::Command, b"u".to_vec(), Vec::new());
                self.connect(Credentials { method, login, authzid, secret });
            }
            Event::ServerLeft => self.server_left(),
            // The disk is full.
            Event::MessageBegins(_) => self.driver.message_begun(None),
            Event::Keep(_) => unreachable!("nothing is kept"),
            Event::Submitted(one) => self.events.push(format!("submitted {} {}", one.recipients, one.octets)),
            Event::Waits | Event::HalfClosed => {}
            Event::StartTls(side) => self.start_tls(side),
            Event::Stopped => unreachable!("nobody stops it"),
            Event::Park(state) => {
                self.events.push("parked".to_owned());
                let (server, unread) = self.driver.take_upstream().unwrap();
                self.parked = unread.is_empty().then_some(Parked { server, state });
                self.over = true;
            }
            Event::Close => {
                self.events.push("close".to_owned());
                self.over = true;
            }
            Event::Ended(Side::Upstream) if self.driver.session().phase() == Phase::LoggingIn => {
                self.lose_server(&Failure::new(Kind::UpstreamLost, "closed"));
            }
            Event::Ended(Side::Upstream) if self.goes_on_without_server() => self.server_left(),
            Event::Ended(side) => {
                self.events.push(format!("ended {side:?}").to_lowercase());
                self.over = !self.is_relaying();
            }
        }
        self.collect();
    }

    fn authenticate(&mut self, credentials: Credentials) {
        let (login, secret) = (readable(&credentials.login), readable(credentials.secret.expose()));
        let is_by_source = credentials.method == Method::Source;
        let who = if is_by_source { "by source".to_owned() } else { format!("{login} {secret}") };
        self.events.push(format!("authenticate {who}"));
        self.connect(if is_by_source { of_account() } else { credentials });
    }

    /// Returns whether a submission goes on without its server, which has closed.
    fn goes_on_without_server(&mut self) -> bool {
        self.driver.session().awaited().is_some() && self.driver.upstream_lost()
    }

    /// The server's connection is dropped, and the session goes on.
    fn server_left(&mut self) {
        self.dropped += usize::from(self.server.take().is_some());
        self.has_ended[1] = false;
    }

    fn connect(&mut self, credentials: Credentials) {
        if !self.settings.reachable {
            return self.driver.login_failed(&Failure::new(Kind::Connect, "nobody there"));
        }
        let Settings { upstream, probe, deletes, relogin, parks, .. } = self.settings;
        if let Some(Parked { server, state }) = self.resumes.take() {
            self.server = Some(server.clone());
            assert!(self.driver.resume(server, MailboxTerms { probe, deletes, relogin, parks }, state).is_ok());
            return;
        }
        let server = Pipe::default();
        self.server = Some(server.clone());
        let terms = match (self.protocol, relogin) {
            (Protocol::Imap | Protocol::Pop3, _) => Terms::Mailbox(MailboxTerms { probe, deletes, relogin, parks }),
            (Protocol::Smtp, Relogin::Allowed) => Terms::Submission(None),
            (Protocol::Smtp, Relogin::Refused) => {
                let mailbox = "scans@contoso.example".to_owned();
                Terms::Submission(Some(Arc::new(SubmissionTerms { mailbox, ..SubmissionTerms::default() })))
            }
        };
        self.driver.connect(server, UpstreamLogin { credentials, security: upstream, terms });
    }

    fn logged_in(&mut self) {
        self.events.push("logged in".to_owned());
        if self.settings.deletes == Deletes::Allowed && self.protocol != Protocol::Smtp {
            let mut model = Model::new(self.protocol, self.settings.offer, self.settings.relogin);
            let seen = self.seen.lock().unwrap();
            model.hear(Side::Downstream, &seen.unread[0]);
            model.hear(Side::Upstream, &seen.unread[1]);
            self.model = Some((model, [self.received[0].len(), self.received[1].len()]));
        }
    }

    fn lose_server(&mut self, failure: &Failure) {
        self.server = None;
        self.dropped += 1;
        self.has_ended[1] = false;
        self.events.push(format!("login failed {}", failure.kind.label()));
        self.driver.login_failed(failure);
    }

    fn start_tls(&mut self, side: Side) {
        let taken = match side {
            Side::Downstream => self.driver.take_downstream(),
            Side::Upstream => self.driver.take_upstream(),
        };
        let (stream, unread) = taken.unwrap();
        if !unread.is_empty() || self.more == Some(side) {
            self.events.push(format!("injection {side:?}").to_lowercase());
            self.over = true;
            return;
        }
        self.events.push(format!("start tls {side:?}").to_lowercase());
        match side {
            Side::Downstream => {
                self.settings.offer.encrypted = true;
                self.driver.downstream_secured(stream);
            }
            Side::Upstream => self.driver.upstream_secured(stream),
        }
    }

    fn say_bye(&mut self, failure: &Failure) {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(std::pin::pin!(self.driver.end_with(failure)).poll(&mut cx).is_ready(), "pipes take everything");
        self.collect();
        self.over = true;
    }

    /// Takes the octets that the driver has written since.
    fn collect(&mut self) {
        let mut device = self.device.0.borrow_mut();
        if device.window.is_none() {
            self.received[0].append(&mut device.receives);
        }
        if let Some(server) = &self.server {
            self.received[1].append(&mut server.0.borrow_mut().receives);
        }
    }
}

/// A connection in memory: the peer's ends of it, and a stream for the driver. It blocks only where the peer reads slowly,
/// and wakes nobody: whoever writes to it, or reads, polls the driver.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<Ends>>);

#[derive(Default)]
struct Ends {
    sends: Vec<u8>,
    has_closed: bool,
    receives: Vec<u8>,
    /// The octets that the peer takes before it reads; `None` for a peer that reads at once.
    window: Option<usize>,
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.0.borrow_mut();
        if ends.sends.is_empty() {
            return if ends.has_closed { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let count = ends.sends.len().min(room.remaining());
        room.put_slice(&ends.sends[..count]);
        ends.sends.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let mut ends = self.0.borrow_mut();
        let room = ends.window.map_or(octets.len(), |window| window.saturating_sub(ends.receives.len()));
        let taken = octets.len().min(room);
        ends.receives.extend(&octets[..taken]);
        if taken == 0 && !octets.is_empty() { Poll::Pending } else { Poll::Ready(Ok(taken)) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whether the driver has more to do.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The credentials that the proxy has for a device without a login.
fn of_account() -> Credentials {
    let plain = proto::sasl::Mechanism::Plain;
    Credentials { method: Method::Sasl(plain), ..Credentials::from_command(b"u", b"p".to_vec()) }
}

/// The octets as text that people can read.
pub fn readable(octets: &[u8]) -> String {
    octets.escape_ascii().to_string().replace("\\r\\n", "\n")
}
