//! The relay reads the device's commands: it answers some, and writes the others anew for the server.

use super::{Pending, Relay, Stage};
use crate::failure::Refuser;
use crate::proto::line::Line;
use crate::proto::smtp::command::Command;
use crate::proto::smtp::envelope::{self, Stopped};
use crate::proto::smtp::not_authenticated::{HELP, NOT_OFFERED, VRFY};
use crate::proto::smtp::reply;
use crate::proto::{Action, Activity, Failure, Kind, Outbox, Step, preamble};
use crate::text::excerpt;

impl Relay {
    /// Reads a command of the device.
    pub(super) fn command(&mut self, input: &[u8], activity: &mut Activity, out: &mut Outbox) -> Result<Step, Failure> {
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
        let behind = input.get(len..).unwrap_or_default();
        let is_hasty = preamble::nuls(behind) < behind.len();
        let is_data_refused = std::mem::take(&mut self.is_data_refused);
        let (command, upstream) = (Command::read(text), &mut out.upstream);
        let pending: Result<Pending, Stopped> = match command {
            Command::Mail(arguments) => self.mail(arguments, upstream),
            Command::Rcpt(arguments) => self.rcpt(arguments, upstream),
            Command::Data => Ok(ask(b"DATA\r\n", Pending::Data { is_hasty }, upstream)),
            Command::Rset => Ok(ask(b"RSET\r\n", Pending::Rset, upstream)),
            Command::Noop => Ok(ask(b"NOOP\r\n", Pending::Noop, upstream)),
            Command::Ehlo => Ok(ask(b"RSET\r\n", Pending::Greeting { is_extended: true }, upstream)),
            Command::Helo => Ok(ask(b"RSET\r\n", Pending::Greeting { is_extended: false }, upstream)),
            Command::Quit => {
                activity.has_logged_out = true;
                Ok(ask(b"QUIT\r\n", Pending::Quit, upstream))
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
            Ok(pending @ (Pending::Rcpt | Pending::Data { .. })) if self.is_local() => {
                let is_rcpt = pending == Pending::Rcpt;
                let failure = if is_rcpt || self.recipients() > 0 { None } else { self.without_recipients() };
                self.answer_locally(if is_rcpt { pending } else { Pending::Data { is_hasty: false } }, out);
                return Ok(Step::after(len, failure.map(Action::Notice)));
            }
            Ok(pending) if self.has_server => self.stage = Stage::Pending(pending),
            Ok(pending) => return Ok(Step::after(len, self.without_server(pending, out))),
            Err(Stopped { reply, failure }) => {
                reply::line(reply, &mut out.downstream);
                return Ok(failure.map_or(Step::Consume(len), |failure| Step::Act(len, Action::Notice(failure))));
            }
        }
        Ok(Step::Consume(len))
    }

    fn mail(&mut self, arguments: &[u8], upstream: &mut Vec<u8>) -> Result<Pending, Stopped> {
        if self.rules.hold_back.holds() {
            return Err("450 4.7.1 held back after repeated refusals, try again later".into());
        }
        envelope::check_device(&self.rules)?;
        let largest = self.offer.submission.max_message_size;
        envelope::mail(arguments, &self.rules, self.server, largest, upstream)?;
        self.begin(arguments);
        Ok(Pending::Mail)
    }

    fn rcpt(&mut self, arguments: &[u8], upstream: &mut Vec<u8>) -> Result<Pending, Stopped> {
        let taken = self.recipients();
        // Without MAIL nothing is sent, and the reservation ends with the command.
        let mut unsent = self.rules.quota.begin();
        let reserved = self.transaction.as_mut().map_or(&mut unsent, |transaction| &mut transaction.reserved);
        let written = envelope::rcpt(arguments, &self.rules, taken, reserved, upstream);
        if let Some(transaction) = &mut self.transaction {
            match &written {
                Ok(()) => transaction.ask(upstream),
                Err(Stopped { failure: Some(failure), .. }) => transaction.note_refused(failure, Refuser::Rules),
                Err(_) => {}
            }
        }
        written?;
        Ok(Pending::Rcpt)
    }

    pub(super) fn unknown(&mut self, len: usize, out: &mut Outbox) -> Result<Step, Failure> {
        self.unknown_commands += 1;
        reply::line("500 5.5.1 command not recognized", &mut out.downstream);
        if self.unknown_commands >= MOST_UNKNOWN {
            return Err(Failure::new(Kind::TooManyBadCommands, "after the login"));
        }
        Ok(Step::Consume(len))
    }

    /// Drops the rest of a line that is too long.
    pub(super) fn skip(&mut self, input: &[u8]) -> Step {
        match memchr::memchr(b'\n', input) {
            Some(end) => {
                self.stage = Stage::Ready;
                Step::Consume(end + 1)
            }
            None => Step::Consume(input.len()),
        }
    }
}

fn ask(command: &[u8], pending: Pending, out: &mut Vec<u8>) -> Pending {
    out.extend_from_slice(command);
    pending
}

/// A command's line, in octets without its end: RFC 5321 §4.5.3.1.4, with room for parameters (RFC 4954 §3).
const LONGEST_COMMAND: usize = 2048;
/// The number of unknown commands after which the connection ends.
const MOST_UNKNOWN: u32 = 20;
