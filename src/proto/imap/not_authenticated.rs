//! Commands before login (RFC 3501 §6.1, §6.2): we are the server.

use super::arguments::{Arguments, Skipped};
use super::command::{self, Command, Parsed, Verb};
use super::{Imap, State, capability, response};
use crate::proto::line::Line;
use crate::proto::preamble;
use crate::proto::sasl::{Exchange, NOT_SANE, Next};
use crate::proto::{Credentials, Failure, Kind, Outbox, Side, Step};

impl Imap {
    /// A command of the device before login.
    pub(super) fn not_authenticated(&mut self, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        if let Some(step) = preamble::before_command(input, self.is_first, self.offer.encrypted)? {
            return Ok(step);
        }
        loop {
            match command::parse(input, &self.limits, self.continued) {
                Parsed::Incomplete => return Ok(Step::Read),
                Parsed::TooLong => {
                    let arguments = Arguments::of(input, &self.limits, std::mem::take(&mut self.continued));
                    let arguments = arguments.ok_or_else(|| Failure::new(Kind::TooLong, TOO_LONG))?;
                    self.state = State::Arguments(Box::new(arguments));
                    return self.arguments(input, out);
                }
                Parsed::Continue { tag, len } if !self.offer.login_allowed() => {
                    // Before the password is asked for, not after it went over the wire in clear.
                    self.continued = 0;
                    self.tried_in_clear = true;
                    response::tagged(&mut out.downstream, tag, PRIVACY_REQUIRED);
                    return Ok(Step::Consume(len));
                }
                Parsed::Continue { .. } => {
                    // The literal may be here already: some devices do not wait.
                    self.continued += 1;
                    out.downstream.extend_from_slice(GO_AHEAD);
                }
                Parsed::Bad { tag, why, len } => {
                    self.continued = 0;
                    self.is_first = false;
                    self.bad(tag, why, out)?;
                    return Ok(Step::Consume(len));
                }
                Parsed::Complete { command, len } => {
                    self.continued = 0;
                    self.is_first = false;
                    self.commands += 1;
                    self.obey(&command, out)?;
                    return Ok(Step::Consume(len));
                }
            }
        }
    }

    /// A command whose arguments are skipped.
    pub(super) fn arguments(&mut self, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        let State::Arguments(mut arguments) = std::mem::replace(&mut self.state, State::NotAuthenticated) else {
            return Ok(Step::Read);
        };
        let (len, skipped) = arguments.skip(input);
        match skipped {
            Skipped::More => self.state = State::Arguments(arguments),
            Skipped::Continue => {
                out.downstream.extend_from_slice(GO_AHEAD);
                self.state = State::Arguments(arguments);
            }
            Skipped::Whole => {
                self.is_first = false;
                self.commands += 1;
                if let Some(command) = arguments.command() {
                    self.obey(&command, out)?;
                }
            }
            Skipped::Bad(why) => self.bad(arguments.tag(), why, out)?,
            Skipped::TooLong => return Err(Failure::new(Kind::TooLong, TOO_LONG)),
        }
        Ok(Step::Consume(len))
    }

    fn obey(&mut self, command: &Command<'_>, out: &mut Outbox) -> Result<(), Failure> {
        let tag = command.tag;
        let say = &mut out.downstream;
        match &command.verb {
            Verb::Capability => {
                capability::announce(&self.offer, say);
                response::tagged(say, tag, "OK CAPABILITY completed");
            }
            Verb::Noop => response::tagged(say, tag, "OK NOOP completed"),
            Verb::Id => {
                // RFC 2971 §3.1: at any time, also before login.
                say.extend_from_slice(b"* ID NIL\r\n");
                response::tagged(say, tag, "OK ID completed");
            }
            Verb::Logout => {
                say.extend_from_slice(b"* BYE closing connection\r\n");
                response::tagged(say, tag, "OK LOGOUT completed");
                self.logged_out = true;
                self.state = State::Over;
                self.pending = Some((Side::Downstream, Step::Close));
            }
            Verb::StartTls if self.offer.starttls_now() => {
                response::tagged(say, tag, "OK begin TLS negotiation");
                self.pending = Some((Side::Downstream, Step::StartTls));
            }
            Verb::StartTls if self.offer.encrypted => return self.bad(tag, "TLS is active already", out),
            Verb::StartTls => return self.bad(tag, "TLS is not offered here", out),
            Verb::Login { .. } | Verb::Authenticate { .. } if !self.offer.login_allowed() => {
                self.tried_in_clear = true;
                response::tagged(say, tag, PRIVACY_REQUIRED);
            }
            Verb::Login { user, password } => {
                let credentials = Credentials::from_command(user, password.expose().to_vec());
                if credentials.is_sane() {
                    self.log_in(tag.to_vec(), credentials);
                } else {
                    return self.bad(tag, NOT_SANE, out);
                }
            }
            Verb::Authenticate { mechanism, initial } if self.offer.takes(*mechanism) => {
                let mut exchange = Exchange::new(*mechanism);
                let next = exchange.begin(*initial);
                return self.exchanged(tag.to_vec(), exchange, next, out);
            }
            Verb::Authenticate { .. } | Verb::UnknownMechanism => {
                response::tagged(say, tag, "NO mechanism not supported")
            }
            Verb::Unknown => return self.bad(tag, "command unknown or not allowed before login", out),
        }
        Ok(())
    }

    /// The next line of a SASL exchange (RFC 3501 §6.2.2).
    pub(super) fn exchange(&mut self, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        match Line::split(input, self.limits.sasl_line) {
            Line::Incomplete => Ok(Step::Read),
            Line::TooLong => {
                Err(Failure::new(Kind::TooLong, "a SASL response; limits.sasl_line says how long one may be"))
            }
            Line::Complete { text, len } => {
                if let State::Exchange { tag, mut exchange } =
                    std::mem::replace(&mut self.state, State::NotAuthenticated)
                {
                    let next = exchange.respond(text);
                    self.exchanged(tag, exchange, next, out)?;
                }
                Ok(Step::Consume(len))
            }
        }
    }

    fn exchanged(&mut self, tag: Vec<u8>, exchange: Exchange, next: Next, out: &mut Outbox) -> Result<(), Failure> {
        match next {
            Next::Challenge(challenge) => {
                out.downstream.extend_from_slice(b"+ ");
                out.downstream.extend_from_slice(challenge.as_bytes());
                out.downstream.extend_from_slice(b"\r\n");
                self.state = State::Exchange { tag, exchange };
            }
            Next::Done(credentials) => self.log_in(tag, credentials),
            Next::Cancelled => response::tagged(&mut out.downstream, &tag, "BAD authentication cancelled"),
            Next::Malformed(why) => return self.bad(&tag, why, out),
        }
        Ok(())
    }

    fn log_in(&mut self, tag: Vec<u8>, credentials: Credentials) {
        self.state = State::LoggingIn { tag, upstream: None };
        self.pending = Some((Side::Downstream, Step::Authenticate(credentials)));
    }

    fn bad(&mut self, tag: &[u8], why: &str, out: &mut Outbox) -> Result<(), Failure> {
        self.bad_commands += 1;
        response::tagged(&mut out.downstream, tag, &format!("BAD {why}"));
        if self.bad_commands >= self.limits.bad_commands {
            return Err(Failure::new(
                Kind::TooManyBadCommands,
                format!("the last one: {why}; limits.bad_commands says how many may be"),
            ));
        }
        Ok(())
    }
}

const TOO_LONG: &str = "an IMAP command; limits.line and limits.literal say how long one may be";
const GO_AHEAD: &[u8] = b"+ go ahead\r\n";
/// RFC 5530 §3.
const PRIVACY_REQUIRED: &str = "NO [PRIVACYREQUIRED] start TLS before login";
