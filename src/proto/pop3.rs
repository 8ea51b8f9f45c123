//! POP3 (RFC 1939) between a device and a server: we are the server until the login, and the client for it;
//! from then on the two talk to each other, and only the answer to CAPA is rewritten.

mod capability;
mod client;
mod command;
mod command_line;
mod frame;
mod no_delete;
mod relogin;
mod response;

use zeroize::Zeroize;

use super::line::Line;
use super::preamble;
use super::sasl::{Exchange, NOT_SANE, Next};
use super::{
    Credentials, Deletes, Failure, Kind, Leftover, Limits, Offer, Outbox, Relogin, Session, Side, Step, Terms,
    UpstreamTls,
};
use client::{Client, Progress};
use command::Command;
use frame::Frame;
use no_delete::NoDelete;

/// The state of one POP3 connection.
pub struct Pop3 {
    state: State,
    /// The step that follows one already returned, and the side that is called for it.
    pending: Option<(Side, Step)>,
    offer: Offer,
    limits: Limits,
    /// What the device may do once it is in.
    terms: Terms,
    bad_commands: u32,
    /// No command has come, since the connection began or TLS did.
    is_first: bool,
    tried_in_clear: bool,
    logged_out: bool,
    commands: u64,
}

/// RFC 1939 §3, as seen from between the two sides:
///
/// ```text
///  greet                 PASS, AUTH                  upstream +OK
/// ------> Authorization ------+------> LoggingIn ------------------> Relay (TRANSACTION, then
///           ^  ^   | USER     | (SASL)    |                                 UPDATE after QUIT)
///           |  |   v          |           |
///           |  | Authorization with     Exchange ---> (done) --> LoggingIn
///           |  | a user       |           | cancelled, malformed
///           |  +--------------------------+
///           +--- upstream -ERR ---- LoggingIn
/// ```
enum State {
    /// AUTHORIZATION: the device talks to us; USER was given or not.
    Authorization { user: Option<Vec<u8>> },
    /// Between the challenges of AUTH.
    Exchange(Exchange),
    /// The driver looks for the server, or we log in there. What the device sends meanwhile waits.
    LoggingIn { upstream: Option<Client> },
    /// TRANSACTION and UPDATE: the device talks to the server.
    Relay(Box<Frame>),
    /// The same, for a device that may not delete.
    NoDeleteRelay(Box<NoDelete>),
    /// QUIT was answered before login.
    Over,
}

const AUTHORIZATION: State = State::Authorization { user: None };

impl Pop3 {
    /// A connection on which nothing has been said.
    pub fn new(offer: Offer, limits: Limits) -> Self {
        Self {
            state: AUTHORIZATION,
            pending: None,
            offer,
            limits,
            terms: Terms::PASS_THROUGH,
            bad_commands: 0,
            is_first: true,
            tried_in_clear: false,
            logged_out: false,
            commands: 0,
        }
    }

    /// A command of the device before login.
    fn authorization(&mut self, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        if let Some(step) = preamble::before_command(input, self.is_first, self.offer.encrypted)? {
            return Ok(step);
        }
        match Line::split(input, self.limits.line) {
            Line::Incomplete => Ok(Step::Read),
            Line::TooLong => Err(Failure::new(Kind::TooLong, "a POP3 command; limits.line says how long one may be")),
            Line::Complete { text, len } => {
                self.commands += 1;
                self.is_first = false;
                self.obey(Command::read(text), out)?;
                Ok(Step::Consume(len))
            }
        }
    }

    fn obey(&mut self, command: Command<'_>, out: &mut Outbox) -> Result<(), Failure> {
        let say = &mut out.downstream;
        match command {
            Command::Capa => capability::announce(&self.offer, say),
            Command::Noop => say.extend_from_slice(b"+OK nothing done\r\n"),
            Command::Quit => {
                say.extend_from_slice(b"+OK closing connection\r\n");
                self.logged_out = true;
                self.state = State::Over;
                self.pending = Some((Side::Downstream, Step::Close));
            }
            Command::Stls if self.offer.starttls_now() => {
                say.extend_from_slice(b"+OK begin TLS negotiation\r\n");
                // RFC 2595 §4: what was said in clear is forgotten.
                self.state = AUTHORIZATION;
                self.pending = Some((Side::Downstream, Step::StartTls));
            }
            Command::Stls if self.offer.encrypted => return self.bad("TLS is active already", out),
            Command::Stls => return self.bad("TLS is not offered here", out),
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } if !self.offer.login_allowed() => {
                self.tried_in_clear = true;
                say.extend_from_slice(b"-ERR start TLS with STLS before login\r\n");
            }
            Command::User([]) => return self.bad("USER takes a name", out),
            Command::User(user) => {
                self.state = State::Authorization { user: Some(user.to_vec()) };
                say.extend_from_slice(b"+OK send PASS\r\n");
            }
            Command::Pass(password) => {
                let State::Authorization { user: Some(user) } = std::mem::replace(&mut self.state, AUTHORIZATION)
                else {
                    return self.bad("send USER first", out);
                };
                let credentials = Credentials::from_command(&user, password.to_vec());
                if !credentials.is_sane() {
                    return self.bad(NOT_SANE, out);
                }
                self.log_in(credentials);
            }
            Command::AuthList => {
                // RFC 1734's bare form: the mechanisms, a line each.
                say.extend_from_slice(b"+OK mechanisms follow\r\n");
                for mechanism in capability::mechanisms(&self.offer) {
                    say.extend_from_slice(mechanism.as_bytes());
                    say.extend_from_slice(b"\r\n");
                }
                say.extend_from_slice(b".\r\n");
            }
            Command::Auth { mechanism, initial } if self.offer.takes(mechanism) => {
                let mut exchange = Exchange::new(mechanism);
                let next = exchange.begin(initial);
                return self.exchanged(exchange, next, out);
            }
            Command::Auth { .. } | Command::UnknownMechanism => {
                say.extend_from_slice(b"-ERR mechanism not supported\r\n")
            }
            Command::Apop => say.extend_from_slice(b"-ERR APOP is not offered, use USER and PASS\r\n"),
            Command::Unknown => return self.bad("command unknown or not allowed before login", out),
        }
        Ok(())
    }

    /// The next line of a SASL exchange (RFC 5034 §4).
    fn exchange(&mut self, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        match Line::split(input, self.limits.sasl_line) {
            Line::Incomplete => Ok(Step::Read),
            Line::TooLong => {
                Err(Failure::new(Kind::TooLong, "a SASL response; limits.sasl_line says how long one may be"))
            }
            Line::Complete { text, len } => {
                if let State::Exchange(mut exchange) = std::mem::replace(&mut self.state, AUTHORIZATION) {
                    let next = exchange.respond(text);
                    self.exchanged(exchange, next, out)?;
                }
                Ok(Step::Consume(len))
            }
        }
    }

    fn exchanged(&mut self, exchange: Exchange, next: Next, out: &mut Outbox) -> Result<(), Failure> {
        match next {
            Next::Challenge(challenge) => {
                out.downstream.extend_from_slice(b"+ ");
                out.downstream.extend_from_slice(challenge.as_bytes());
                out.downstream.extend_from_slice(b"\r\n");
                self.state = State::Exchange(exchange);
            }
            Next::Done(credentials) => self.log_in(credentials),
            Next::Cancelled => out.downstream.extend_from_slice(b"-ERR authentication cancelled\r\n"),
            Next::Malformed(why) => return self.bad(why, out),
        }
        Ok(())
    }

    fn log_in(&mut self, credentials: Credentials) {
        self.state = State::LoggingIn { upstream: None };
        self.pending = Some((Side::Downstream, Step::Authenticate(credentials)));
    }

    fn bad(&mut self, why: &str, out: &mut Outbox) -> Result<(), Failure> {
        self.bad_commands += 1;
        out.downstream.extend_from_slice(b"-ERR ");
        out.downstream.extend_from_slice(why.as_bytes());
        out.downstream.extend_from_slice(b"\r\n");
        if self.bad_commands >= self.limits.bad_commands {
            return Err(Failure::new(
                Kind::TooManyBadCommands,
                format!("the last one: {why}; limits.bad_commands says how many may be"),
            ));
        }
        Ok(())
    }

    /// A line of the server while we log in there.
    fn logging_in(&mut self, input: &[u8], out: &mut Outbox) -> Step {
        let State::LoggingIn { upstream: Some(client) } = &mut self.state else { return Step::Read };
        let (text, len) = match Line::split(input, super::RESPONSE_LINE) {
            Line::Incomplete => return Step::Read,
            Line::TooLong => return self.refuse(Failure::new(Kind::UpstreamProtocol, "endless line"), out),
            Line::Complete { text, len } => (text, len),
        };
        match client.receive(text, &mut out.upstream) {
            Progress::Wait => {}
            Progress::StartTls => self.pending = Some((Side::Upstream, Step::StartTls)),
            Progress::LoggedIn => {
                out.downstream.extend_from_slice(b"+OK logged in\r\n");
                self.state = match self.terms.deletes {
                    Deletes::Allowed => State::Relay(Box::new(Frame::new(self.offer, self.terms.relogin))),
                    // It looks at whole lines, and at these itself.
                    Deletes::Refused => {
                        State::NoDeleteRelay(Box::new(NoDelete::new(Frame::new(self.offer, Relogin::Allowed))))
                    }
                };
                self.pending = Some((Side::Upstream, Step::LoggedIn));
            }
            Progress::Failed(failure) => return self.refuse(failure, out),
        }
        Step::Consume(len)
    }

    /// Whether the answer that comes next is ours, behind all that the server has answered.
    fn answers_next(&self) -> bool {
        match &self.state {
            State::Relay(frame) => frame.answers_next(),
            State::NoDeleteRelay(relay) => relay.answers_next(),
            _ => false,
        }
    }

    fn refuse(&mut self, failure: Failure, out: &mut Outbox) -> Step {
        if let State::LoggingIn { upstream, .. } = &mut self.state {
            *upstream = None;
        }
        out.upstream.zeroize();
        Step::LoginFailed(failure)
    }
}

impl Session for Pop3 {
    fn greet(&mut self, out: &mut Outbox) {
        // No angle brackets: they would offer APOP (RFC 2449 §6). Text behind +OK, because some clients need a word.
        out.downstream.extend_from_slice(b"+OK packetboat ready\r\n");
    }

    fn recv(&mut self, side: Side, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        match self.pending.take() {
            Some((whose, step)) if whose == side => return Ok(step),
            Some(other) => {
                self.pending = Some(other);
                return Ok(Step::Read);
            }
            None => {}
        }
        let answers_here = side == Side::Upstream && self.answers_next();
        if input.is_empty() && !answers_here {
            return Ok(Step::Read);
        }
        match (&mut self.state, side) {
            (State::Authorization { .. }, Side::Downstream) => self.authorization(input, out),
            (State::Exchange(_), Side::Downstream) => self.exchange(input, out),
            (State::LoggingIn { .. }, Side::Upstream) => Ok(self.logging_in(input, out)),
            (State::Relay(frame), Side::Downstream) => {
                let seen = frame.commands(input);
                self.commands += seen.commands;
                self.logged_out |= seen.quit;
                Ok(seen.step)
            }
            (State::NoDeleteRelay(relay), Side::Downstream) => {
                let seen = relay.commands(input, &mut out.upstream);
                self.commands += seen.commands;
                self.logged_out |= seen.quit;
                Ok(seen.step)
            }
            (State::NoDeleteRelay(relay), Side::Upstream) => Ok(relay.responses(input, &mut out.downstream)),
            (State::Relay(frame), Side::Upstream) => Ok(frame.responses(input, &mut out.downstream)),
            (State::LoggingIn { .. } | State::Over, Side::Downstream)
            | (State::Authorization { .. } | State::Exchange(_) | State::Over, Side::Upstream) => Ok(Step::Read),
        }
    }

    fn upstream_connected(&mut self, login: Credentials, tls: UpstreamTls, terms: Terms) {
        self.terms = terms;
        if let State::LoggingIn { upstream } = &mut self.state {
            *upstream = Some(Client::new(login, tls, terms.probe));
        }
    }

    fn tls_started(&mut self, side: Side, out: &mut Outbox) {
        match (side, &mut self.state) {
            (Side::Downstream, _) => {
                self.offer.encrypted = true;
                self.is_first = true;
            }
            (Side::Upstream, State::LoggingIn { upstream: Some(client) }) => {
                client.tls_started(&mut out.upstream);
            }
            (Side::Upstream, _) => {}
        }
    }

    fn login_failed(&mut self, failure: &Failure, out: &mut Outbox) {
        if let State::LoggingIn { .. } = std::mem::replace(&mut self.state, AUTHORIZATION) {
            out.downstream.extend_from_slice(response::refusal(failure.kind.reply()).as_bytes());
        }
        out.upstream.zeroize();
    }

    fn bye(&mut self, failure: &Failure, out: &mut Outbox) {
        match &self.state {
            State::Authorization { .. } | State::Exchange(_) | State::LoggingIn { .. } => {
                out.downstream.extend_from_slice(b"-ERR ");
                out.downstream.extend_from_slice(failure.kind.meaning().as_bytes());
                out.downstream.extend_from_slice(b"\r\n");
            }
            // POP3 has no line that a server may say unasked; the connection just ends, and nothing is deleted.
            State::Relay(_) | State::NoDeleteRelay(_) | State::Over => {}
        }
    }

    fn tried_in_clear(&self) -> bool {
        self.tried_in_clear && !self.offer.encrypted
    }

    fn is_logging_in(&self) -> bool {
        matches!(self.state, State::LoggingIn { .. })
    }

    fn is_relaying(&self) -> bool {
        matches!(self.state, State::Relay(_) | State::NoDeleteRelay(_))
    }

    fn waits_for_response(&self) -> bool {
        match &self.state {
            State::Relay(frame) => frame.waits(),
            State::NoDeleteRelay(relay) => relay.waits_for_response(),
            _ => false,
        }
    }

    fn is_between_responses(&self) -> bool {
        match &self.state {
            State::Relay(frame) => frame.is_between_responses(),
            State::NoDeleteRelay(relay) => relay.is_between_responses(),
            _ => false,
        }
    }

    fn leftover(&mut self, side: Side) -> Leftover {
        match (&mut self.state, side) {
            (State::NoDeleteRelay(relay), Side::Upstream) => relay.break_off(),
            (State::Relay(frame), Side::Upstream) => frame.break_off(),
            (State::NoDeleteRelay(relay), Side::Downstream) if relay.waits() => Leftover::Wait,
            (State::NoDeleteRelay(_), Side::Downstream) => Leftover::Discard,
            (State::Relay(frame), Side::Downstream) if frame.is_full() => Leftover::Wait,
            (State::Relay(frame), Side::Downstream) if !frame.forwards_leftover() => Leftover::Discard,
            _ => Leftover::Forward,
        }
    }

    fn has_logged_out(&self) -> bool {
        self.logged_out
    }

    fn commands(&self) -> u64 {
        self.commands
    }
}
