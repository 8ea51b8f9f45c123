//! The relay reads the server's replies, and goes on behind the last line of each.

use std::sync::Arc;

use super::{Pending, Relay, Stage, endless, unexpected};
use crate::proto::line::Line;
use crate::proto::smtp::capability;
use crate::proto::smtp::content::Content;
use crate::proto::smtp::not_authenticated::HELO;
use crate::proto::smtp::refusal::{self, Meaning, Refused};
use crate::proto::smtp::reply::{self, ReplyLine};
use crate::proto::{Action, Failure, Kind, Outbox, RESPONSE_LINE, Step, Submitted};
use crate::text::excerpt;

impl Relay {
    /// Reads a line of the server.
    pub(super) fn reply(&mut self, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
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
    pub(super) fn answered(&mut self, pending: Pending, reply: &ReplyLine<'_>) -> Result<Option<Meaning>, Failure> {
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
