//! The relay of SMTP passes one command at a time, its whole reply, and then the next; and a message's content from the
//! buffer in which it came.

use std::sync::Arc;

use super::capability::{self, Extensions};
use super::client::Client;
use super::command::Command;
use super::content::{Content, Refusal};
use super::envelope::{self, Stopped};
use super::not_authenticated::{HELO, HELP, NOT_OFFERED, VRFY};
use super::refusal::{self, Meaning, Refused};
use super::reply::{self, ReplyLine};
use super::rules::SessionRules;
use crate::proto::line::Line;
use crate::proto::{
    Action, Activity, Awaited, Failure, Kind, Leftover, Offer, Outbox, RESPONSE_LINE, Responses, Side, Step, Submitted,
    dialect, preamble,
};
use crate::text::excerpt;

/// A session after login (RFC 5321 §3.3), between two commands or within one.
pub(in crate::proto) struct Relay {
    stage: Stage,
    offer: Offer,
    server: Extensions,
    rules: SessionRules,
    /// The code of the reply that the device has in part.
    in_reply: Option<u16>,
    /// The server has refused DATA, and the device has said nothing since.
    is_data_refused: bool,
    /// Recipients of the present message that the server has taken.
    recipients: u32,
    /// Octets of the present message as the device sent them, with the end of the data.
    octets: u64,
    unknown_commands: u32,
}

/// The progress of the present command.
enum Stage {
    /// The next octet of the device begins a command.
    Ready,
    /// The rest of a line that is too long is dropped.
    Skipping,
    /// The server has a command, and its reply is awaited.
    Pending(Pending),
    /// The server has asked for the content, and it goes up.
    Content(Box<Content>),
    /// The content must not reach the server. The connection there is closed, the rest is dropped, and this reply is
    /// due.
    Refused(Box<Content>, Vec<u8>),
    /// The session has ended: no octet passes.
    Over,
}

/// A command that the server has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    Mail,
    Rcpt,
    /// DATA. `is_hasty` is true where the device does not wait for the reply.
    Data {
        is_hasty: bool,
    },
    /// The end of the data.
    Message,
    /// RSET that stands for a second EHLO or HELO (RFC 5321 §4.1.4).
    Greeting {
        is_extended: bool,
    },
    /// A command whose reply changes nothing.
    Other,
}

impl Pending {
    /// Returns whether the reply belongs to the command. DATA alone takes 354, and no success (RFC 5321 §4.3.2).
    fn is_answered_by(self, reply: &ReplyLine<'_>) -> bool {
        match self {
            Pending::Data { .. } => reply.code == 354 || reply.code >= 400,
            _ => reply.code / 100 != 3,
        }
    }
}

impl Relay {
    pub(super) fn new(offer: Offer, client: Client) -> Self {
        let (server, rules) = client.into_parts();
        let (recipients, octets, unknown_commands) = (0, 0, 0);
        let stage = Stage::Ready;
        let (in_reply, is_data_refused) = (None, false);
        Self { stage, offer, server, rules, in_reply, is_data_refused, recipients, octets, unknown_commands }
    }

    /// Reads a command of the device.
    fn command(&mut self, input: &[u8], activity: &mut Activity, out: &mut Outbox) -> Result<Step, Failure> {
        // C firmware sends the NUL of its strings behind each line.
        let nuls = preamble::nuls(input);
        if nuls > 0 {
            return Ok(Step::Consume(nuls));
        }
        let (text, len) = match Line::split(input, LONGEST_COMMAND) {
            Line::Incomplete => return Ok(Step::Read),
            Line::TooLong => {
                self.stage = Stage::Skipping;
                reply::line("500 5.5.2 line too long", &mut out.downstream);
                return Ok(Step::Consume(0));
            }
            Line::Complete { text, len } => (text, len),
        };
        activity.commands += 1;
        let is_hasty = input.len() > len;
        let is_data_refused = std::mem::take(&mut self.is_data_refused);
        let (command, upstream) = (Command::read(text), &mut out.upstream);
        let pending: Result<Pending, Stopped> = match command {
            Command::Mail(arguments) => {
                let largest = self.offer.submission.max_message_size;
                envelope::mail(arguments, &self.rules, self.server, largest, upstream).map(|()| Pending::Mail)
            }
            Command::Rcpt(arguments) => {
                envelope::rcpt(arguments, &self.rules, self.recipients, upstream).map(|()| Pending::Rcpt)
            }
            Command::Data => Ok(ask(b"DATA\r\n", Pending::Data { is_hasty }, upstream)),
            Command::Rset => Ok(ask(b"RSET\r\n", Pending::Other, upstream)),
            Command::Noop => Ok(ask(b"NOOP\r\n", Pending::Other, upstream)),
            Command::Ehlo => Ok(ask(b"RSET\r\n", Pending::Greeting { is_extended: true }, upstream)),
            Command::Helo => Ok(ask(b"RSET\r\n", Pending::Greeting { is_extended: false }, upstream)),
            Command::Quit => {
                activity.has_logged_out = true;
                Ok(ask(b"QUIT\r\n", Pending::Other, upstream))
            }
            Command::Bdat => {
                // Behind it stand octets of a message, which must not be read as commands.
                self.stage = Stage::Over;
                reply::line(NOT_OFFERED, &mut out.downstream);
                return Ok(Step::Act(len, Action::Close));
            }
            // The message that the server has not asked for. A line of it may look like a command.
            Command::Unknown if is_data_refused => {
                return Err(Failure::new(Kind::SentAhead, format!("\"{}\" behind DATA", excerpt(text))));
            }
            Command::Unknown => return self.unknown(len, out),
            // Exchange Online waits for seconds over a command that it does not know.
            Command::NotOffered | Command::Expn => Err(NOT_OFFERED.into()),
            Command::Vrfy => Err(VRFY.into()),
            Command::Help => Err(HELP.into()),
            Command::StartTls | Command::StartTlsWith => Err("503 5.5.1 STARTTLS comes before the login".into()),
            Command::Auth { .. } | Command::UnknownMechanism => Err("503 5.5.1 the login was done".into()),
        };
        match pending {
            Ok(pending) => self.stage = Stage::Pending(pending),
            Err(Stopped { reply, failure }) => {
                reply::line(reply, &mut out.downstream);
                return Ok(failure.map_or(Step::Consume(len), |failure| Step::Act(len, Action::Notice(failure))));
            }
        }
        Ok(Step::Consume(len))
    }

    fn unknown(&mut self, len: usize, out: &mut Outbox) -> Result<Step, Failure> {
        self.unknown_commands += 1;
        reply::line("500 5.5.1 command not recognized", &mut out.downstream);
        if self.unknown_commands >= MOST_UNKNOWN {
            return Err(Failure::new(Kind::TooManyBadCommands, "after the login"));
        }
        Ok(Step::Consume(len))
    }

    /// Passes the content on, up to the end of the data.
    fn content(&mut self, input: &[u8], out: &mut Outbox) -> Step {
        let Stage::Content(content) = &mut self.stage else { return Step::Read };
        let step = content.recv(input, &mut out.upstream);
        let count = step.count();
        self.octets += count as u64;
        // RFC 1870 §4: the end of the data does not count.
        if self.octets > self.offer.submission.max_message_size + END_OF_DATA {
            content.refuse(Refusal::TooBig);
        }
        match (content.refusal().map(Stopped::from), content.is_complete()) {
            (Some(stopped), _) => {
                out.upstream.clear();
                let failure = stopped.failure.unwrap_or_else(|| Failure::new(Kind::MessageRefused, stopped.reply));
                if let Stage::Content(content) = std::mem::replace(&mut self.stage, Stage::Over) {
                    self.stage = Stage::Refused(content, stopped.reply.as_bytes().to_vec());
                }
                return Step::Act(count, Action::DropServer(failure));
            }
            (None, true) => self.stage = Stage::Pending(Pending::Message),
            (None, false) => {}
        }
        step
    }

    /// Drops the content of a message that is refused. Behind its end the device hears the reply; the server is gone by
    /// then, and so the connection ends.
    fn refused(&mut self, input: &[u8], out: &mut Outbox) -> Step {
        let Stage::Refused(content, answer) = &mut self.stage else { return Step::Read };
        if !content.is_complete() {
            let step = content.recv(input, &mut out.upstream);
            out.upstream.clear();
            return if step.count() > 0 { Step::Consume(step.count()) } else { step };
        }
        reply::whole(answer, &mut out.downstream);
        self.stage = Stage::Over;
        Step::Act(0, Action::Close)
    }

    /// Reads what the server says before the message is over. It may give up; a yes would be a lie.
    fn early(&mut self, input: &[u8]) -> Result<Step, Failure> {
        let (text, len) = match Line::split(input, RESPONSE_LINE) {
            Line::Incomplete => return Ok(Step::Read),
            Line::TooLong => return Err(endless()),
            Line::Complete { text, len } => (text, len),
        };
        let reply = ReplyLine::read(text).filter(|reply| reply.code >= 400);
        let Some(reply) = reply else { return Err(unexpected(text)) };
        if !reply.is_last {
            return Ok(Step::Consume(len));
        }
        let Meaning { failure, reply: own } = refusal::of(Refused::Message, &reply);
        let answer = own.map_or_else(|| text.to_vec(), |own| own.as_bytes().to_vec());
        if let Stage::Content(content) = std::mem::replace(&mut self.stage, Stage::Over) {
            self.stage = Stage::Refused(content, answer);
        }
        Ok(Step::Act(len, Action::DropServer(failure)))
    }

    /// Drops the rest of a line that is too long.
    fn skip(&mut self, input: &[u8]) -> Step {
        match memchr::memchr(b'\n', input) {
            Some(end) => {
                self.stage = Stage::Ready;
                Step::Consume(end + 1)
            }
            None => Step::Consume(input.len()),
        }
    }

    /// Reads a line of the server.
    fn reply(&mut self, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        let (line, len) = match Line::split(input, RESPONSE_LINE) {
            Line::Incomplete => return Ok(Step::Read),
            Line::TooLong => return Err(endless()),
            Line::Complete { text, len } => (text, len),
        };
        let reply = ReplyLine::read(line).ok_or_else(|| unexpected(line))?;
        let pending = match self.stage {
            Stage::Pending(pending) => pending,
            // The server may say 421 at any time, and closes then (RFC 5321 §3.8).
            _ if reply.code == 421 && reply.is_last => {
                self.stage = Stage::Over;
                return Ok(reply::pass(input, line, len, &mut out.downstream));
            }
            _ => return Err(unexpected(line)),
        };
        // RFC 5321 §4.2.1: every line has the same code, and a device may believe any of them.
        let is_other = self.in_reply.is_some_and(|code| code != reply.code);
        if is_other || !pending.is_answered_by(&reply) {
            return Err(unexpected(line));
        }
        if !reply.is_last {
            if matches!(pending, Pending::Greeting { .. }) {
                return Ok(Step::Consume(len));
            }
            self.in_reply = Some(reply.code);
            return Ok(reply::pass(input, line, len, &mut out.downstream));
        }
        // Commands go up one at a time: another reply has no command. It must not be taken for the answer to the next.
        let behind = input.get(len..).unwrap_or_default();
        if !behind.is_empty() && !b"421".starts_with(behind.get(..3).unwrap_or(behind)) {
            return Err(unexpected(behind));
        }
        self.stage = Stage::Ready;
        let was_in_reply = self.in_reply.take().is_some();
        let meaning = self.answered(pending, &reply)?;
        if let (Pending::Greeting { is_extended }, true) = (pending, reply.is_positive()) {
            match is_extended {
                true => capability::announce(&self.offer, true, &mut out.downstream),
                false => reply::line(HELO, &mut out.downstream),
            }
            return Ok(Step::Consume(len));
        }
        let action = match meaning {
            Some(Meaning { failure, reply: own }) => {
                match own.filter(|_| !was_in_reply) {
                    Some(own) => reply::line(own, &mut out.downstream),
                    None => reply::whole(line, &mut out.downstream),
                }
                Action::Notice(failure)
            }
            None if pending == Pending::Message && reply.is_positive() => {
                reply::whole(line, &mut out.downstream);
                let (recipients, octets) = (self.recipients, self.octets);
                let is_trial = self.rules.delivered_to.is_some();
                Action::Submitted(Submitted { recipients, octets, is_trial, answer: excerpt(line) })
            }
            None => return Ok(reply::pass(input, line, len, &mut out.downstream)),
        };
        Ok(Step::Act(len, action))
    }

    /// Goes on behind the last line of a reply. Returns what a refusal means.
    fn answered(&mut self, pending: Pending, reply: &ReplyLine<'_>) -> Result<Option<Meaning>, Failure> {
        match pending {
            Pending::Mail if reply.is_positive() => self.recipients = 0,
            Pending::Rcpt if reply.is_positive() => self.recipients += 1,
            Pending::Data { .. } if reply.code == 354 => {
                self.octets = 0;
                self.stage =
                    Stage::Content(Box::new(Content::new(Arc::clone(&self.rules.content), self.rules.stamps.next())));
            }
            // The octets that the device has sent behind DATA are a message, and would be read as commands.
            Pending::Data { is_hasty: true } => {
                let detail = format!("DATA was answered with {}, and the device had not waited for that", reply.code);
                return Err(Failure::new(Kind::SentAhead, detail));
            }
            // RFC 5321 §3.3: without one valid recipient DATA is refused, which says nothing new.
            Pending::Data { .. } if self.recipients == 0 => self.is_data_refused = true,
            Pending::Rcpt => return Ok(Some(refusal::of(Refused::Recipient, reply))),
            Pending::Mail | Pending::Data { .. } | Pending::Message if !reply.is_positive() => {
                self.is_data_refused = matches!(pending, Pending::Data { .. });
                return Ok(Some(refusal::of(Refused::Message, reply)));
            }
            Pending::Mail | Pending::Data { .. } | Pending::Message | Pending::Greeting { .. } | Pending::Other => {}
        }
        Ok(None)
    }
}

fn ask(command: &[u8], pending: Pending, out: &mut Vec<u8>) -> Pending {
    out.extend_from_slice(command);
    pending
}

fn endless() -> Failure {
    Failure::new(Kind::UpstreamProtocol, "endless line")
}

fn unexpected(line: &[u8]) -> Failure {
    Failure::new(Kind::UpstreamProtocol, format!("it said \"{}\" out of turn", excerpt(line)))
}

impl dialect::Relay for Relay {
    fn recv(&mut self, side: Side, input: &[u8], activity: &mut Activity, out: &mut Outbox) -> Result<Step, Failure> {
        if input.is_empty() && !matches!(&self.stage, Stage::Refused(content, _) if content.is_complete()) {
            return Ok(Step::Read);
        }
        match (side, &mut self.stage) {
            (Side::Downstream, Stage::Ready) => self.command(input, activity, out),
            (Side::Downstream, Stage::Skipping) => Ok(self.skip(input)),
            (Side::Downstream, Stage::Content(_)) => Ok(self.content(input, out)),
            (Side::Downstream, Stage::Refused(..)) => Ok(self.refused(input, out)),
            (Side::Downstream, Stage::Pending(Pending::Data { is_hasty })) => {
                *is_hasty = true;
                Ok(Step::Read)
            }
            (Side::Upstream, Stage::Content(_)) => self.early(input),
            (Side::Upstream, Stage::Refused(..) | Stage::Over)
            | (Side::Downstream, Stage::Pending(_) | Stage::Over) => Ok(Step::Read),
            (Side::Upstream, Stage::Ready | Stage::Skipping | Stage::Pending(_)) => self.reply(input, out),
        }
    }

    fn responses(&self) -> Responses {
        match self.stage {
            Stage::Ready | Stage::Skipping | Stage::Over if self.in_reply.is_none() => Responses::Whole,
            _ => Responses::Partial,
        }
    }

    /// RFC 5321 §3.8: 421 may come at any time, but not within a reply.
    fn takes_bye(&self, _: &Failure) -> bool {
        self.in_reply.is_none() && !matches!(self.stage, Stage::Over)
    }

    fn awaited(&self) -> Option<Awaited> {
        Some(match self.stage {
            Stage::Ready | Stage::Skipping | Stage::Over => Awaited::Command,
            Stage::Content(_) | Stage::Refused(..) => Awaited::Content,
            Stage::Pending(Pending::Message) => Awaited::Answer,
            Stage::Pending(_) => Awaited::Reply,
        })
    }

    fn leftover(&mut self, side: Side) -> Leftover {
        match (side, &self.stage) {
            // Commands that the device has sent ahead are obeyed: QUIT, mostly.
            (Side::Downstream, Stage::Pending(_)) => Leftover::Wait,
            // Half a message never becomes a whole one.
            (Side::Downstream | Side::Upstream, _) => Leftover::Discard,
        }
    }
}

/// A command's line, in octets without its end: RFC 5321 §4.5.3.1.4, with room for parameters (RFC 4954 §3).
const LONGEST_COMMAND: usize = 2048;
/// The octets of the end of the data behind the last line.
const END_OF_DATA: u64 = ".\r\n".len() as u64;
/// The number of unknown commands after which the connection ends.
const MOST_UNKNOWN: u32 = 20;
