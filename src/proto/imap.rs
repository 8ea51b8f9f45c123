//! IMAP4rev1 (RFC 3501) between a device and a server: we are the server until the login, and the client for it;
//! from then on the two talk to each other, and only capability lists are rewritten.

mod arguments;
mod capability;
mod command;
mod commands;
mod frame;
mod guard;
mod literal;
mod login;
mod outside;
mod relogin;
mod response;

use zeroize::Zeroize;

use super::line::{Line, printable};
use super::sasl::Exchange;
use super::{
    Credentials, Deletes, Failure, Kind, Limits, Offer, Outbox, Rest, Session, Side, Step, Terms, UpstreamTls,
};
use arguments::Arguments;
use commands::{CommandFrame, Seen};
use frame::ResponseFrame;
use guard::Guard;
use login::{Dialogue, Progress};

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
    Outside,
    /// In the arguments of a command that does not need them.
    Arguments(Box<Arguments>),
    /// Between the challenges of AUTHENTICATE.
    Exchange { tag: Vec<u8>, exchange: Exchange },
    /// The driver looks for the server, or we log in there. What the device sends meanwhile waits.
    LoggingIn { tag: Vec<u8>, upstream: Option<Dialogue> },
    /// Authenticated or selected: the device talks to the server.
    Relay { commands: CommandFrame, responses: ResponseFrame },
    /// The same, for a device that may not delete.
    Guarded { guard: Box<Guard>, responses: ResponseFrame },
    /// LOGOUT was answered.
    Over,
}

impl Imap {
    /// A connection on which nothing has been said.
    pub fn new(offer: Offer, limits: Limits) -> Self {
        Self {
            state: State::Outside,
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
        let State::LoggingIn { tag, upstream: Some(dialogue) } = &mut self.state else { return Step::Read };
        let (text, len) = match Line::split(input, super::RESPONSE_LINE) {
            Line::Incomplete => return Step::Read,
            Line::TooLong => return self.refuse(Failure::new(Kind::UpstreamProtocol, "endless line"), out),
            Line::Complete { text, len } => (text, len),
        };
        match dialogue.heard(text, &mut out.upstream) {
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
                    Deletes::Refused => State::Guarded { guard: Box::default(), responses },
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

    /// Either side of a device that may not delete. The guard is asked without input as well: it may have something to
    /// say.
    fn guarded(&mut self, side: Side, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        let State::Guarded { guard, responses } = &mut self.state else { return Ok(Step::Read) };
        match side {
            Side::Downstream => {
                let mut seen = Seen::default();
                let step = guard.commands(input, &mut seen, &mut out.upstream);
                self.commands += seen.commands;
                self.logged_out |= seen.logout;
                step
            }
            Side::Upstream if guard.is_devices_turn() => Ok(Step::Read),
            Side::Upstream if responses.is_between_responses() && guard.say(&mut out.downstream) => {
                Ok(Step::Consume(0))
            }
            Side::Upstream => Ok(responses.pass(input, guard.as_mut(), &mut out.downstream)),
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
        if let State::Guarded { .. } = &self.state {
            return self.guarded(side, input, out);
        }
        if let (State::Relay { commands, responses }, Side::Upstream) = (&mut self.state, side)
            && commands.has_to_say()
            && responses.is_between_responses()
        {
            commands.say(&mut out.downstream);
            return Ok(Step::Consume(0));
        }
        if input.is_empty() {
            return Ok(Step::Read);
        }
        match (&mut self.state, side) {
            (State::Outside, Side::Downstream) => self.outside(input, out),
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
            (State::Guarded { .. }, _)
            | (State::LoggingIn { .. } | State::Over, Side::Downstream)
            | (State::Outside | State::Arguments(_) | State::Exchange { .. } | State::Over, Side::Upstream) => {
                Ok(Step::Read)
            }
        }
    }

    fn upstream_connected(&mut self, login: Credentials, tls: UpstreamTls, terms: Terms) {
        self.terms = terms;
        if let State::LoggingIn { upstream, .. } = &mut self.state {
            *upstream = Some(Dialogue::new(login, tls, terms.probe));
        }
    }

    fn tls_started(&mut self, side: Side, out: &mut Outbox) {
        match (side, &mut self.state) {
            (Side::Downstream, _) => {
                self.offer.encrypted = true;
                self.is_first = true;
            }
            (Side::Upstream, State::LoggingIn { upstream: Some(dialogue), .. }) => {
                dialogue.tls_started(&mut out.upstream);
            }
            (Side::Upstream, _) => {}
        }
    }

    fn login_failed(&mut self, failure: &Failure, out: &mut Outbox) {
        if let State::LoggingIn { tag, .. } = std::mem::replace(&mut self.state, State::Outside) {
            response::tagged(&mut out.downstream, &tag, response::refusal(failure.kind.reply()));
        }
        out.upstream.zeroize();
    }

    fn bye(&mut self, failure: &Failure, out: &mut Outbox) {
        let can_speak = match &self.state {
            State::Outside | State::Arguments(_) | State::Exchange { .. } | State::LoggingIn { .. } => true,
            // In the middle of a response only where that goes on no more, as the device may know.
            State::Relay { responses, .. } | State::Guarded { responses, .. } => {
                responses.is_between_responses()
                    || (failure.kind == Kind::UpstreamProtocol && self.waits_for_response())
            }
            State::Over => false,
        };
        if can_speak {
            // RFC 3501 §7.1.5
            out.downstream.extend_from_slice(b"* BYE ");
            out.downstream.extend_from_slice(printable(failure.kind.meaning().as_bytes()).as_bytes());
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
        matches!(self.state, State::Relay { .. } | State::Guarded { .. })
    }

    fn waits_for_response(&self) -> bool {
        match &self.state {
            State::Relay { commands, responses } => commands.has_to_say() && !responses.is_between_responses(),
            State::Guarded { guard, responses } => {
                (guard.has_to_say() || guard.waits()) && !responses.is_between_responses()
            }
            _ => false,
        }
    }

    fn is_between_responses(&self) -> bool {
        match &self.state {
            State::Relay { responses, .. } | State::Guarded { responses, .. } => responses.is_between_responses(),
            _ => false,
        }
    }

    fn rest(&mut self, side: Side) -> Rest {
        match (&mut self.state, side) {
            (State::Relay { responses, .. } | State::Guarded { responses, .. }, Side::Upstream) => {
                responses.break_off();
                Rest::Passes
            }
            (State::Guarded { guard, .. }, Side::Downstream) if guard.waits() => Rest::Waits,
            (State::Guarded { .. }, Side::Downstream) => Rest::Dropped,
            (State::Relay { commands, .. }, Side::Downstream) if commands.is_full() => Rest::Waits,
            (State::Relay { commands, .. }, Side::Downstream) if !commands.passes_rest() => Rest::Dropped,
            _ => Rest::Passes,
        }
    }

    fn has_logged_out(&self) -> bool {
        self.logged_out
    }

    fn commands(&self) -> u64 {
        self.commands
    }
}
