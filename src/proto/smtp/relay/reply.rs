//! The relay reads the server's replies, and goes on behind the last line of each.

use std::sync::Arc;

use super::{HeldReply, Pending, Relay, Stage, endless, unexpected};
use crate::failure::Refuser;
use crate::proto::line::Line;
use crate::proto::smtp::capability;
use crate::proto::smtp::content::Content;
use crate::proto::smtp::not_authenticated::HELO;
use crate::proto::smtp::refusal::{self, Meaning, Refused};
use crate::proto::smtp::reply::{self, ReplyLine};
use crate::proto::{Action, Failure, Kind, Outbox, RESPONSE_LINE, Step, Submitted};
use crate::text::excerpt;

impl Relay {
    /// Reads a line of the server. The device gets a reply once its last line is there: it never has one in part.
    pub(super) fn reply(&mut self, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        let (line, len) = match Line::split(input, RESPONSE_LINE) {
            Line::Incomplete => return Ok(Step::Read),
            Line::TooLong => return Err(endless()),
            Line::Complete { text, len } => (text, len),
        };
        let reply = ReplyLine::read(line).ok_or_else(|| unexpected(line))?;
        let Stage::Pending(pending) = self.stage else { return self.unasked(&reply, input, len, out) };
        // RFC 5321 §4.2.1: every line has the same code, and a device may believe any of them.
        let is_other = self.held.as_ref().is_some_and(|held| held.code != reply.code);
        if is_other || !pending.is_answered_by(&reply) {
            return Err(unexpected(line));
        }
        if !reply.is_last {
            if !matches!(pending, Pending::Greeting { .. }) {
                self.hold(reply.code, line);
            }
            return Ok(Step::Consume(len));
        }
        // Commands go up one at a time: another reply has no command. It must not be taken for the answer to the next.
        let behind = input.get(len..).unwrap_or_default();
        if !behind.is_empty() && !b"421".starts_with(behind.get(..3).unwrap_or(behind)) {
            return Err(unexpected(behind));
        }
        let held = self.held.take();
        if let Some(step) = self.keep_deferred(pending, &reply, len, out) {
            return Ok(step);
        }
        if reply.code == 421 && self.rules.can_reconnect {
            return self.closing(pending, &reply, len, out);
        }
        self.stage = Stage::Ready;
        let meaning = self.answered(pending, &reply)?;
        if let (Pending::Data { is_hasty }, Stage::Content(_), true) = (pending, &self.stage, self.may_keep()) {
            let mut answer = held.map_or_else(Vec::new, |held| held.lines);
            reply::whole(line, &mut answer);
            self.open(answer, is_hasty);
            return Ok(Step::Consume(len));
        }
        if let (Pending::Greeting { is_extended }, true) = (pending, reply.is_positive()) {
            match is_extended {
                true => capability::announce(&self.offer, true, &mut out.downstream),
                false => reply::line(HELO, &mut out.downstream),
            }
            return Ok(Step::Consume(len));
        }
        let action = match meaning {
            Some(Meaning { failure, reply: Some(own) }) => {
                reply::line(own, &mut out.downstream);
                return Ok(Step::Act(len, Action::Notice(failure)));
            }
            Some(Meaning { failure, reply: None }) => Some(Action::Notice(failure)),
            None if pending == Pending::Message && reply.is_positive() => Some(self.submitted(line)),
            None => None,
        };
        if let Some(held) = held {
            out.downstream.extend_from_slice(&held.lines);
        } else if action.is_none() {
            return Ok(reply::pass(input, line, len, &mut out.downstream));
        }
        reply::whole(line, &mut out.downstream);
        Ok(Step::after(len, action))
    }

    /// The failure of a message that has come to DATA without a recipient. None where there is no message.
    pub(super) fn without_recipients(&self) -> Option<Failure> {
        self.transaction.as_ref().map(|transaction| transaction.without_recipients())
    }

    fn submitted(&mut self, line: &[u8]) -> Action {
        let (recipients, octets, outside) = (self.sent_to, self.octets, self.outside.take());
        let (is_trial, reserved) = (self.rules.delivered_to.is_some(), std::mem::take(&mut self.sent));
        Action::Submitted(Submitted { recipients, octets, is_trial, outside, answer: excerpt(line), reserved })
    }

    /// Keeps a line of a reply until its last one is there. Those beyond a bound are left out.
    fn hold(&mut self, code: u16, line: &[u8]) {
        let held = self.held.get_or_insert_with(|| Box::new(HeldReply { code, lines: Vec::new() }));
        if held.lines.len() + line.len() <= LONGEST_HELD {
            reply::whole(line, &mut held.lines);
        }
    }

    /// Reads a line of the server that answers no command. It may say 421 at any time, and closes then (RFC 5321 §3.8).
    fn unasked(&mut self, reply: &ReplyLine<'_>, input: &[u8], len: usize, out: &mut Outbox) -> Result<Step, Failure> {
        let line = Line::split(input, RESPONSE_LINE);
        let text = if let Line::Complete { text, .. } = line { text } else { &[] };
        if reply.code != 421 || !reply.is_last {
            return Err(unexpected(text));
        }
        if self.server_lost(out) {
            return Ok(Step::Act(len, Action::LeaveServer));
        }
        self.stage = Stage::Over;
        Ok(reply::pass(input, text, len, &mut out.downstream))
    }

    /// Goes on behind 421 in the place of a reply: the server closes.
    fn closing(
        &mut self,
        pending: Pending,
        reply: &ReplyLine<'_>,
        len: usize,
        out: &mut Outbox,
    ) -> Result<Step, Failure> {
        if pending != Pending::Message {
            if self.server_lost(out) {
                return Ok(Step::Act(len, Action::LeaveServer));
            }
            self.stage = Stage::Over;
            reply::coded("421", "4.3.2 the mail server closes the connection", &mut out.downstream);
            return Ok(Step::Consume(len));
        }
        // The message was not taken. The device must not take the code for the end of its own session.
        self.stage = Stage::Ready;
        self.has_server = false;
        let failure = self.answered(pending, reply)?.map(|meaning| meaning.failure);
        out.downstream.extend_from_slice(b"451 ");
        reply::whole(reply.text, &mut out.downstream);
        let failure = failure.unwrap_or_else(|| Failure::new(Kind::MessageDeferred, excerpt(reply.text)));
        Ok(Step::Act(len, Action::DropServer(failure)))
    }

    /// Goes on behind the last line of a reply. Returns what a refusal means.
    pub(super) fn answered(&mut self, pending: Pending, reply: &ReplyLine<'_>) -> Result<Option<Meaning>, Failure> {
        match pending {
            Pending::Mail => {
                let replaced = self.replaced.take();
                if !reply.is_positive() {
                    self.transaction = replaced;
                    return Ok(Some(refusal::of(Refused::Message, reply)));
                }
            }
            Pending::Rcpt => {
                let is_taken = reply.is_positive();
                let meaning = (!is_taken).then(|| refusal::of(Refused::Recipient, reply));
                if let Some(transaction) = &mut self.transaction {
                    transaction.answered(is_taken);
                    if let Some(meaning) = &meaning {
                        transaction.note_refused(&meaning.failure, Refuser::MailServer);
                    }
                }
                return Ok(meaning);
            }
            Pending::Message => {
                self.is_kept = false;
                self.messages = self.messages.wrapping_add(1);
                let transaction = self.transaction.take();
                self.sent_to = transaction.as_ref().map_or(0, |transaction| transaction.recipients());
                let own = self.rules.own_domain();
                self.outside = transaction.as_ref().zip(own).and_then(|(of, own)| of.other_domain(own));
                let refused = (!reply.is_positive()).then(|| refusal::of(Refused::Message, reply));
                self.sent = transaction.filter(|_| refused.is_none()).map(|sent| sent.reserved).unwrap_or_default();
                return Ok(refused);
            }
            Pending::Data { .. } if reply.code == 354 => {
                self.octets = 0;
                self.stage =
                    Stage::Content(Box::new(Content::new(Arc::clone(&self.rules.content), self.rules.stamps.next())));
            }
            // The octets that the device has sent behind DATA are a message, and would be read as commands.
            Pending::Data { is_hasty: true } => {
                let detail = format!("DATA was answered with {}, and the device had not waited for that", reply.code);
                let message_refused_by = Some(Refuser::MailServer);
                return Err(Failure { message_refused_by, ..Failure::new(Kind::SentAhead, detail) });
            }
            // RFC 5321 §3.3: without one valid recipient DATA is refused. The recipients' own refusals say why.
            Pending::Data { .. } if self.recipients() == 0 => {
                self.is_data_refused = true;
                return Ok(self.without_recipients().map(|failure| Meaning { failure, reply: None }));
            }
            Pending::Data { .. } => {
                self.is_data_refused = true;
                return Ok(Some(refusal::of(Refused::Message, reply)));
            }
            Pending::Rset | Pending::Greeting { .. } if reply.is_positive() => self.transaction = None,
            // The server closes now.
            Pending::Quit if reply.is_positive() => self.stage = Stage::Over,
            Pending::Rset | Pending::Greeting { .. } | Pending::Noop | Pending::Quit => {}
        }
        Ok(None)
    }
}

/// The octets of a reply of several lines that are kept for the device.
const LONGEST_HELD: usize = 4096;
