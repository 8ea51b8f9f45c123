//! IMAP4rev1 (RFC 3501) between a device and a server: we are the server until the login, and the client for it;
//! from then on the two talk to each other, and only capability lists are rewritten.

mod arguments;
mod capability;
mod client;
mod command;
mod command_frame;
mod literal;
mod no_delete;
mod not_authenticated;
mod relogin;
mod response;
mod response_frame;

use zeroize::Zeroize;

use super::line::Line;
use super::sasl::Exchange;
use super::{
    Credentials, Deletes, Failure, Kind, Leftover, Limits, Offer, Outbox, Session, Side, Step, Terms, UpstreamTls,
};
use crate::text::excerpt;
use arguments::Arguments;
use client::{Client, Progress};
use command_frame::{CommandFrame, Seen};
use no_delete::NoDelete;
use response_frame::ResponseFrame;

/// The state of one IMAP connection.
pub struct Imap {
    state: State,
    /// The step that follows one already returned, and the side that is called for it.
    pending: Option<(Side, Step)>,
    offer: Offer,
    limits: Limits,
    /// What the device may do once it is in.
    terms: Terms,
    /// Continuation requests sent for the command that is being read.
    continued: usize,
    bad_commands: u32,
    /// No command has come, since the connection began or TLS did.
    is_first: bool,
    tried_in_clear: bool,
    logged_out: bool,
    commands: u64,
}

/// RFC 3501 §3, as seen from between the two sides:
///
/// ```text
///  greet            LOGIN, AUTHENTICATE              upstream OK
/// ------> Outside ------+-------------> LoggingIn ---------------> Relay
///           ^  ^        | (SASL)            |                        |
///           |  |     Exchange ---> (done) --+                        | LOGOUT, BYE
///           |  +-- cancelled, malformed     | upstream NO            v
///           +-------------------------------+                     (closed)
/// ```
enum State {
    /// Not authenticated: the device talks to us.
    NotAuthenticated,
    /// In the arguments of a command that does not need them.
    Arguments(Box<Arguments>),
    /// Between the challenges of AUTHENTICATE.
    Exchange { tag: Vec<u8>, exchange: Exchange },
    /// The driver looks for the server, or we log in there. What the device sends meanwhile waits.
    LoggingIn { tag: Vec<u8>, upstream: Option<Client> },
    /// Authenticated or selected: the device talks to the server.
    Relay { commands: CommandFrame, responses: ResponseFrame },
    /// The same, for a device that may not delete.
    NoDeleteRelay { relay: Box<NoDelete>, responses: ResponseFrame },
    /// LOGOUT was answered.
    Over,
}

impl Imap {
    /// A connection on which nothing has been said.
    pub fn new(offer: Offer, limits: Limits) -> Self {
        Self {
            state: State::NotAuthenticated,
            pending: None,
            offer,
            limits,
            terms: Terms::PASS_THROUGH,
            continued: 0,
            bad_commands: 0,
            is_first: true,
            tried_in_clear: false,
            logged_out: false,
            commands: 0,
        }
    }

    /// A line of the server while we log in there.
    fn logging_in(&mut self, input: &[u8], out: &mut Outbox) -> Step {
        let State::LoggingIn { tag, upstream: Some(client) } = &mut self.state else { return Step::Read };
        let (text, len) = match Line::split(input, super::RESPONSE_LINE) {
            Line::Incomplete => return Step::Read,
            Line::TooLong => return self.refuse(Failure::new(Kind::UpstreamProtocol, "endless line"), out),
            Line::Complete { text, len } => (text, len),
        };
        match client.receive(text, &mut out.upstream) {
            Progress::Wait => {}
            Progress::StartTls => self.pending = Some((Side::Upstream, Step::StartTls)),
            Progress::LoggedIn { capability } => {
                match capability {
                    Some(list) => {
                        out.downstream.extend_from_slice(tag);
                        out.downstream.extend_from_slice(b" OK [CAPABILITY");
                        capability::keep(&list, &mut out.downstream);
                        out.downstream.extend_from_slice(b"] logged in\r\n");
                    }
                    None => response::tagged(&mut out.downstream, tag, "OK logged in"),
                }
                let responses = ResponseFrame::default();
                self.state = match self.terms.deletes {
                    Deletes::Allowed => State::Relay { commands: CommandFrame::new(self.terms.relogin), responses },
                    Deletes::Refused => State::NoDeleteRelay { relay: Box::default(), responses },
                };
                self.pending = Some((Side::Upstream, Step::LoggedIn));
            }
            Progress::Failed(failure) => return self.refuse(failure, out),
        }
        Step::Consume(len)
    }

    fn refuse(&mut self, failure: Failure, out: &mut Outbox) -> Step {
        if let State::LoggingIn { upstream, .. } = &mut self.state {
            *upstream = None;
        }
        out.upstream.zeroize();
        Step::LoginFailed(failure)
    }

    /// Either side of a device that may not delete. It is asked without input as well: it may have something to
    /// say.
    fn no_delete_relay(&mut self, side: Side, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        let State::NoDeleteRelay { relay, responses } = &mut self.state else { return Ok(Step::Read) };
        match side {
            Side::Downstream => {
                let mut seen = Seen::default();
                let step = relay.commands(input, &mut seen, &mut out.upstream);
                self.commands += seen.commands;
                self.logged_out |= seen.logout;
                step
            }
            Side::Upstream if relay.device_goes_first() => Ok(Step::Read),
            Side::Upstream if responses.is_between_responses() && relay.write_refusals(&mut out.downstream) => {
                Ok(Step::Consume(0))
            }
            Side::Upstream => Ok(responses.pass(input, relay.as_mut(), &mut out.downstream)),
        }
    }
}

impl Session for Imap {
    fn greet(&mut self, out: &mut Outbox) {
        // RFC 3501 §7.1: a CAPABILITY code in the greeting spares the device a question; some insist on it.
        out.downstream.extend_from_slice(b"* OK [CAPABILITY");
        capability::list(&self.offer, &mut out.downstream);
        out.downstream.extend_from_slice(b"] packetboat ready\r\n");
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
        if let State::NoDeleteRelay { .. } = &self.state {
            return self.no_delete_relay(side, input, out);
        }
        if let (State::Relay { commands, responses }, Side::Upstream) = (&mut self.state, side)
            && commands.has_refusals()
            && responses.is_between_responses()
        {
            commands.write_refusals(&mut out.downstream);
            return Ok(Step::Consume(0));
        }
        if input.is_empty() {
            return Ok(Step::Read);
        }
        match (&mut self.state, side) {
            (State::NotAuthenticated, Side::Downstream) => self.not_authenticated(input, out),
            (State::Arguments(_), Side::Downstream) => self.arguments(input, out),
            (State::Exchange { .. }, Side::Downstream) => self.exchange(input, out),
            (State::LoggingIn { .. }, Side::Upstream) => Ok(self.logging_in(input, out)),
            (State::Relay { commands, .. }, Side::Downstream) => {
                let mut seen = Seen::default();
                let step = commands.pass(input, &mut seen);
                self.commands += seen.commands;
                self.logged_out |= seen.logout;
                Ok(step)
            }
            (State::Relay { commands, responses }, Side::Upstream) => {
                Ok(responses.pass(input, commands, &mut out.downstream))
            }
            (State::NoDeleteRelay { .. }, _)
            | (State::LoggingIn { .. } | State::Over, Side::Downstream)
            | (State::NotAuthenticated | State::Arguments(_) | State::Exchange { .. } | State::Over, Side::Upstream) => {
                Ok(Step::Read)
            }
        }
    }

    fn upstream_connected(&mut self, login: Credentials, tls: UpstreamTls, terms: Terms) {
        self.terms = terms;
        if let State::LoggingIn { upstream, .. } = &mut self.state {
            *upstream = Some(Client::new(login, tls, terms.probe));
        }
    }

    fn tls_started(&mut self, side: Side, out: &mut Outbox) {
        match (side, &mut self.state) {
            (Side::Downstream, _) => {
                self.offer.encrypted = true;
                self.is_first = true;
            }
            (Side::Upstream, State::LoggingIn { upstream: Some(client), .. }) => {
                client.tls_started(&mut out.upstream);
            }
            (Side::Upstream, _) => {}
        }
    }

    fn login_failed(&mut self, failure: &Failure, out: &mut Outbox) {
        if let State::LoggingIn { tag, .. } = std::mem::replace(&mut self.state, State::NotAuthenticated) {
            response::tagged(&mut out.downstream, &tag, response::refusal(failure.kind.reply()));
        }
        out.upstream.zeroize();
    }

    fn bye(&mut self, failure: &Failure, out: &mut Outbox) {
        let can_speak = match &self.state {
            State::NotAuthenticated | State::Arguments(_) | State::Exchange { .. } | State::LoggingIn { .. } => true,
            // In the middle of a response only where that goes on no more, as the device may know.
            State::Relay { responses, .. } | State::NoDeleteRelay { responses, .. } => {
                responses.is_between_responses()
                    || (failure.kind == Kind::UpstreamProtocol && self.waits_for_response())
            }
            State::Over => false,
        };
        if can_speak {
            // RFC 3501 §7.1.5
            out.downstream.extend_from_slice(b"* BYE ");
            out.downstream.extend_from_slice(excerpt(failure.kind.meaning().as_bytes()).as_bytes());
            out.downstream.extend_from_slice(b"\r\n");
        }
    }

    fn tried_in_clear(&self) -> bool {
        self.tried_in_clear && !self.offer.encrypted
    }

    fn is_logging_in(&self) -> bool {
        matches!(self.state, State::LoggingIn { .. })
    }

    fn is_relaying(&self) -> bool {
        matches!(self.state, State::Relay { .. } | State::NoDeleteRelay { .. })
    }

    fn waits_for_response(&self) -> bool {
        match &self.state {
            State::Relay { commands, responses } => commands.has_refusals() && !responses.is_between_responses(),
            State::NoDeleteRelay { relay, responses } => {
                (relay.has_refusals() || relay.waits()) && !responses.is_between_responses()
            }
            _ => false,
        }
    }

    fn is_between_responses(&self) -> bool {
        match &self.state {
            State::Relay { responses, .. } | State::NoDeleteRelay { responses, .. } => responses.is_between_responses(),
            _ => false,
        }
    }

    fn leftover(&mut self, side: Side) -> Leftover {
        match (&mut self.state, side) {
            (State::Relay { responses, .. } | State::NoDeleteRelay { responses, .. }, Side::Upstream) => {
                responses.break_off();
                Leftover::Forward
            }
            (State::NoDeleteRelay { relay, .. }, Side::Downstream) if relay.waits() => Leftover::Wait,
            (State::NoDeleteRelay { .. }, Side::Downstream) => Leftover::Discard,
            (State::Relay { commands, .. }, Side::Downstream) if commands.is_full() => Leftover::Wait,
            (State::Relay { commands, .. }, Side::Downstream) if !commands.forwards_leftover() => Leftover::Discard,
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
