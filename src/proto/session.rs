//! The session machine holds what every protocol does alike between a device and a server. Packetboat is the server
//! until the login, and the client during it; from then on device and server talk to each other.

use zeroize::Zeroize;

use super::dialect::{Client, Dialect, Fault, Progress, Read, Relay, Request, Response};
use super::line::Line;
use super::parking::ParkedState;
use super::preamble;
use super::sasl::{Exchange, NOT_SANE, Next};
use super::{
    Action, Activity, Awaited, CommandLimits, Credentials, Failure, Kind, Leftover, MailboxTerms, Offer, Outbox, Phase,
    RESPONSE_LINE, Session, Side, Step, UpstreamLogin,
};

/// The state of one connection. Its dialect adds what a protocol has of its own.
pub(super) struct Machine<D: Dialect> {
    state: State<D>,
    /// The reader of the device's commands before login.
    dialect: D,
    offer: Offer,
    limits: CommandLimits,
    bad_commands: u32,
    /// No command has come since the connection began, or since TLS did.
    is_first: bool,
    activity: Activity,
}

/// RFC 3501 §3 and RFC 1939 §3, as seen from between the two sides:
///
/// ```text
///  greet                    LOGIN, PASS, AUTH              upstream OK
/// ------> NotAuthenticated ------+-----------> LoggingIn --------------> Relay
///           ^  ^                 | SASL           |                        |
///           |  |             Exchange -> (done) --+                        | logout, bye
///           |  +-- cancelled, malformed           | upstream NO            v
///           +-------------------------------------+                     (closed)
/// ```
enum State<D: Dialect> {
    /// The device talks to packetboat.
    NotAuthenticated,
    /// A SASL exchange is between two challenges.
    Exchange(D::Tag, Exchange),
    /// The driver dials the server, or the client logs in there. The device's octets wait meanwhile.
    LoggingIn(D::Tag, Option<D::Client>),
    /// The device talks to the server.
    Relay(D::Relay),
    /// The device has logged out before login.
    LoggedOut,
}

impl<D: Dialect> Machine<D> {
    /// Makes a connection on which nothing has been sent.
    pub(super) fn new(offer: Offer, limits: CommandLimits) -> Self {
        Self {
            state: State::NotAuthenticated,
            dialect: D::default(),
            offer,
            limits,
            bad_commands: 0,
            is_first: true,
            activity: Activity::default(),
        }
    }

    /// Makes the machine of a login without a device. The connection to the server comes next.
    pub(super) fn logging_in() -> Self {
        let offer = Offer { encrypted: true, starttls: false, plaintext_login: false, xoauth2: false, ..Offer::NONE };
        Self { state: State::LoggingIn(D::Tag::default(), None), ..Self::new(offer, CommandLimits::default()) }
    }

    /// Reads a command of the device before login.
    fn command(&mut self, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        if self.dialect.is_between_commands()
            && let Some(step) = preamble::before_command(input, self.is_first, self.offer.encrypted)?
        {
            return Ok(step);
        }
        let (tag, request, len) = match self.dialect.read(input, &self.offer, &self.limits, &mut out.downstream)? {
            Read::Incomplete => return Ok(Step::Read),
            Read::Part(len) => return Ok(Step::Consume(len)),
            Read::Command(tag, request, len) => (tag, request, len),
        };
        self.is_first = false;
        self.activity.commands += u64::from(!matches!(request, Request::Malformed(_) | Request::LoginBySource));
        let action = self.obey(tag, request, out)?;
        Ok(Step::after(len, action))
    }

    fn obey(&mut self, tag: D::Tag, request: Request, out: &mut Outbox) -> Result<Option<Action>, Failure> {
        let (response, action) = match request {
            Request::Answered => return Ok(None),
            Request::Closed => {
                self.state = State::LoggedOut;
                return Ok(Some(Action::Close));
            }
            Request::Bad(why) | Request::Malformed(why) => return self.bad(&tag, Fault::Command, why, out),
            Request::Logout => {
                self.activity.has_logged_out = true;
                self.state = State::LoggedOut;
                (Response::LoggedOut, Some(Action::Close))
            }
            Request::StartTls if self.offer.starttls_now() => {
                // RFC 2595 §4: what was said in clear is forgotten.
                self.dialect = D::default();
                (Response::BeginTls, Some(Action::StartTls))
            }
            Request::StartTls if self.offer.encrypted => {
                return self.bad(&tag, Fault::Sequence, "TLS is active already", out);
            }
            Request::StartTls => return self.bad(&tag, Fault::Sequence, "TLS is not offered here", out),
            Request::Login(_) | Request::Authenticate(..) if !self.offer.login_allowed() => (self.in_clear(), None),
            Request::LoginInClear => (self.in_clear(), None),
            Request::NotLoggedIn => {
                self.activity.tried_without_login = true;
                return Ok(None);
            }
            Request::LoginBySource => return Ok(Some(self.log_in(tag, Credentials::from_source()))),
            Request::Login(credentials) if !credentials.is_sane() => {
                return self.bad(&tag, Fault::Syntax, NOT_SANE, out);
            }
            Request::Login(credentials) => return Ok(Some(self.log_in(tag, credentials))),
            Request::Authenticate(mechanism, initial) if self.offer.takes(mechanism) => {
                let mut exchange = Exchange::new(mechanism);
                let next = exchange.begin(initial.as_ref().map(|initial| initial.as_slice()));
                return self.exchanged(tag, exchange, next, out);
            }
            Request::Authenticate(..) | Request::UnknownMechanism => (Response::UnknownMechanism, None),
        };
        D::respond(&tag, response, &mut out.downstream);
        Ok(action)
    }

    fn in_clear(&mut self) -> Response<'static> {
        self.activity.tried_in_clear = true;
        Response::TlsRequired
    }

    /// Reads the next line of a SASL exchange (RFC 3501 §6.2.2, RFC 5034 §4).
    fn exchange(&mut self, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        let (text, len) = match Line::split(input, self.limits.sasl_line) {
            Line::Incomplete => return Ok(Step::Read),
            Line::TooLong => return Err(Failure::new(Kind::TooLong, SASL_LINE_TOO_LONG)),
            Line::Complete { text, len } => (text, len),
        };
        let State::Exchange(tag, mut exchange) = std::mem::replace(&mut self.state, State::NotAuthenticated) else {
            return Ok(Step::Read);
        };
        let next = exchange.respond(text);
        let action = self.exchanged(tag, exchange, next, out)?;
        Ok(Step::after(len, action))
    }

    fn exchanged(
        &mut self,
        tag: D::Tag,
        exchange: Exchange,
        next: Next,
        out: &mut Outbox,
    ) -> Result<Option<Action>, Failure> {
        match next {
            Next::Challenge(challenge) => {
                D::respond(&tag, Response::Challenge(challenge), &mut out.downstream);
                self.dialect = D::default();
                self.state = State::Exchange(tag, exchange);
            }
            Next::Done(credentials) => return Ok(Some(self.log_in(tag, credentials))),
            Next::Cancelled => D::respond(&tag, Response::Cancelled, &mut out.downstream),
            Next::Malformed(why) => return self.bad(&tag, Fault::Syntax, why, out),
        }
        Ok(None)
    }

    fn log_in(&mut self, tag: D::Tag, credentials: Credentials) -> Action {
        self.dialect = D::default();
        self.state = State::LoggingIn(tag, None);
        Action::Authenticate(credentials)
    }

    fn bad(&mut self, tag: &D::Tag, fault: Fault, why: &str, out: &mut Outbox) -> Result<Option<Action>, Failure> {
        self.bad_commands += 1;
        D::respond(tag, Response::Bad(fault, why), &mut out.downstream);
        if self.bad_commands >= self.limits.bad_commands {
            return Err(Failure::new(
                Kind::TooManyBadCommands,
                format!("the last one: {why}; limits.bad_commands says how many may be"),
            ));
        }
        Ok(None)
    }

    /// Reads a line of the server during the login there.
    fn response(&mut self, input: &[u8], out: &mut Outbox) -> Step {
        let State::LoggingIn(_, Some(client)) = &mut self.state else { return Step::Read };
        let (text, len) = match Line::split(input, RESPONSE_LINE) {
            Line::Incomplete => return Step::Read,
            Line::TooLong => return self.refuse(Failure::new(Kind::UpstreamProtocol, "endless line"), out),
            Line::Complete { text, len } => (text, len),
        };
        match client.receive(text, &mut out.upstream) {
            Progress::Wait => Step::Consume(len),
            Progress::StartTls => Step::Act(len, Action::StartTls),
            Progress::LoggedIn => {
                let logging_in = std::mem::replace(&mut self.state, State::LoggedOut);
                let State::LoggingIn(tag, Some(client)) = logging_in else { return Step::Read };
                self.state = State::Relay(D::logged_in(&tag, client, &self.offer, &mut out.downstream));
                Step::Act(len, Action::LoggedIn)
            }
            Progress::Failed(failure) => self.refuse(failure, out),
        }
    }

    fn refuse(&mut self, failure: Failure, out: &mut Outbox) -> Step {
        if let State::LoggingIn(_, client) = &mut self.state {
            *client = None;
        }
        out.upstream.zeroize();
        Step::Act(0, Action::LoginFailed(failure))
    }
}

impl<D: Dialect> Session for Machine<D> {
    fn greet(&mut self, out: &mut Outbox) {
        D::greet(&self.offer, &mut out.downstream);
    }

    fn recv(&mut self, side: Side, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        match (&mut self.state, side) {
            (State::Relay(relay), _) => relay.recv(side, input, &mut self.activity, out),
            _ if input.is_empty() => Ok(Step::Read),
            (State::NotAuthenticated, Side::Downstream) => {
                self.activity.has_spoken = true;
                self.command(input, out)
            }
            (State::Exchange(..), Side::Downstream) => self.exchange(input, out),
            (State::LoggingIn(..), Side::Upstream) => Ok(self.response(input, out)),
            (State::LoggingIn(..) | State::LoggedOut, Side::Downstream)
            | (State::NotAuthenticated | State::Exchange(..) | State::LoggedOut, Side::Upstream) => Ok(Step::Read),
        }
    }

    fn upstream_connected(&mut self, login: UpstreamLogin) {
        match &mut self.state {
            State::LoggingIn(_, client) => *client = Some(D::Client::new(login)),
            State::Relay(relay) => relay.upstream_connected(login),
            State::NotAuthenticated | State::Exchange(..) | State::LoggedOut => {}
        }
    }

    fn upstream_lost(&mut self, out: &mut Outbox) -> bool {
        match &mut self.state {
            State::Relay(relay) => relay.upstream_lost(out),
            _ => false,
        }
    }

    fn message_begun(&mut self, is_kept: bool, out: &mut Outbox) {
        if let State::Relay(relay) = &mut self.state {
            relay.message_begun(is_kept, out);
        }
    }

    fn message_kept(&mut self, is_kept: bool, out: &mut Outbox) {
        if let State::Relay(relay) = &mut self.state {
            relay.message_kept(is_kept, out);
        }
    }

    fn logged_in_without_server(&mut self, login: UpstreamLogin, out: &mut Outbox) -> bool {
        let State::LoggingIn(tag, _) = &self.state else { return false };
        let mut answer = Outbox::default();
        let mut relay = D::logged_in(tag, D::Client::new(login), &self.offer, &mut answer.downstream);
        if !self.offer.keeps || !relay.upstream_lost(&mut answer) {
            return false;
        }
        out.downstream.extend_from_slice(&answer.downstream);
        self.state = State::Relay(relay);
        true
    }

    fn resumed(&mut self, terms: MailboxTerms, state: ParkedState, out: &mut Outbox) -> bool {
        let State::LoggingIn(tag, _) = &self.state else { return false };
        let Some(relay) = D::resumed(tag, terms, state, &mut out.downstream) else { return false };
        self.state = State::Relay(relay);
        true
    }

    fn tls_started(&mut self, side: Side, out: &mut Outbox) {
        match (side, &mut self.state) {
            (Side::Downstream, _) => {
                self.offer.encrypted = true;
                self.is_first = true;
                self.activity.tried_in_clear = false;
                self.activity.tried_without_login = false;
                self.activity.has_spoken = false;
            }
            (Side::Upstream, State::LoggingIn(_, Some(client))) => client.tls_started(&mut out.upstream),
            (Side::Upstream, State::Relay(relay)) => relay.tls_started(out),
            (Side::Upstream, _) => {}
        }
    }

    fn login_failed(&mut self, failure: &Failure, out: &mut Outbox) {
        if let State::Relay(relay) = &mut self.state {
            relay.connect_failed(failure, out);
        } else if let State::LoggingIn(tag, _) = std::mem::replace(&mut self.state, State::NotAuthenticated) {
            self.dialect = D::after_failed_login(&tag);
            D::respond(&tag, Response::LoginFailed(failure.kind.reply()), &mut out.downstream);
        }
        out.upstream.zeroize();
    }

    fn bye(&mut self, failure: &Failure, out: &mut Outbox) {
        let takes_bye = match &self.state {
            State::NotAuthenticated | State::Exchange(..) | State::LoggingIn(..) => true,
            State::Relay(relay) => relay.takes_bye(failure),
            State::LoggedOut => false,
        };
        if takes_bye {
            D::bye(failure, &mut out.downstream);
        }
    }

    fn phase(&self) -> Phase {
        match &self.state {
            State::NotAuthenticated | State::Exchange(..) => Phase::NotAuthenticated,
            State::LoggingIn(..) => Phase::LoggingIn,
            State::Relay(relay) if relay.is_connecting() => Phase::LoggingIn,
            State::Relay(relay) => Phase::Relaying(relay.responses()),
            State::LoggedOut => Phase::LoggedOut,
        }
    }

    fn activity(&self) -> Activity {
        self.activity
    }

    fn awaited(&self) -> Option<Awaited> {
        match &self.state {
            State::Relay(relay) => relay.awaited(),
            _ => None,
        }
    }

    fn present_message(&self) -> Option<u32> {
        match &self.state {
            State::Relay(relay) => relay.present_message(),
            _ => None,
        }
    }

    fn unanswered_recipients(&self) -> u32 {
        match &self.state {
            State::Relay(relay) => relay.unanswered_recipients(),
            _ => 0,
        }
    }

    fn leftover(&mut self, side: Side) -> Leftover {
        match &mut self.state {
            State::Relay(relay) => relay.leftover(side),
            _ => Leftover::Forward,
        }
    }
}

impl Step {
    /// Makes the step behind a command of so many octets.
    pub(super) fn after(len: usize, action: Option<Action>) -> Self {
        action.map_or(Step::Consume(len), |action| Step::Act(len, action))
    }

    /// The number of octets that the step takes from the input.
    pub(super) fn count(&self) -> usize {
        match self {
            Step::Consume(count) | Step::Act(count, _) | Step::Forward(count) => *count,
            Step::Read => 0,
        }
    }
}

const SASL_LINE_TOO_LONG: &str = "a SASL response; limits.sasl_line says how long one may be";
