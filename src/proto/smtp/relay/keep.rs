//! The relay lets a message be kept here: it goes on without the server, and the device notices nothing.
//!
//! The sender and the recipients of such a message are judged by the same rules as ever; only the server's own judgement
//! comes later.

use super::{LOST, Pending, Relay, Stage};
use crate::failure::Reply;
use crate::proto::smtp::content::Content;
use crate::proto::smtp::envelope;
use crate::proto::smtp::refusal::{self, Refused};
use crate::proto::smtp::reply::{self, ReplyLine};
use crate::proto::{Action, Failure, KeepReason, Kind, MessageEnvelope, Outbox, Step};
use crate::text::excerpt;
use std::sync::Arc;

impl Relay {
    /// Returns whether the present message can be kept.
    pub(super) fn may_keep(&self) -> bool {
        self.offer.keeps
            && self.rules.can_reconnect
            && self.transaction.as_ref().is_some_and(|transaction| transaction.is_whole())
    }

    /// Returns whether the present message goes to no server.
    pub(super) fn is_local(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.kept_for.is_some())
    }

    /// Goes on with the present message without a server, and answers this command of it.
    pub(super) fn go_local(&mut self, pending: Pending, reason: KeepReason, out: &mut Outbox) {
        out.upstream.clear();
        self.replaced = None;
        self.stage = Stage::Ready;
        if let Some(transaction) = &mut self.transaction {
            transaction.kept_for.get_or_insert(reason);
        }
        self.answer_locally(pending, out);
    }

    /// Answers a command of a message that goes to no server.
    pub(super) fn answer_locally(&mut self, pending: Pending, out: &mut Outbox) {
        out.upstream.clear();
        match pending {
            Pending::Mail => reply::line("250 2.1.0 sender OK", &mut out.downstream),
            Pending::Rcpt if !self.may_keep() || self.recipients() >= MOST_RECIPIENTS => {
                self.transaction.iter_mut().for_each(|transaction| transaction.answered(false));
                reply::line("452 4.5.3 too many recipients", &mut out.downstream);
            }
            Pending::Rcpt => {
                self.transaction.iter_mut().for_each(|transaction| transaction.answered(true));
                reply::line("250 2.1.5 recipient OK", &mut out.downstream);
            }
            Pending::Data { .. } if self.recipients() == 0 => self.give_up(pending, "503 5.5.1 RCPT comes first", out),
            Pending::Data { is_hasty } => self.open(b"354 end with CRLF, dot, CRLF\r\n".to_vec(), is_hasty),
            Pending::Message | Pending::Rset | Pending::Greeting { .. } | Pending::Noop | Pending::Quit => {}
        }
    }

    /// Asks whether the content can be kept, before the device hears this answer to DATA.
    pub(super) fn open(&mut self, answer: Vec<u8>, is_hasty: bool) {
        self.octets = 0;
        let content = Content::new(Arc::clone(&self.rules.content), self.rules.stamps.next());
        self.stage = Stage::Opening { content: Box::new(content), answer, is_hasty, is_asked: false };
    }

    /// The envelope as it goes up.
    pub(super) fn message_envelope(&self) -> Box<MessageEnvelope> {
        let Some(transaction) = &self.transaction else { return Box::default() };
        let (mut line, largest) = (Vec::new(), self.offer.submission.max_message_size);
        let _ = envelope::mail(transaction.mail(), &self.rules, self.server, largest, &mut line);
        let (sender, parameters) = path(&line);
        let mut recipients = Vec::new();
        let mut at = 0;
        while let Some(line) = transaction.taken_at(at) {
            at += line.len();
            recipients.push(path(line).0);
        }
        Box::new(MessageEnvelope { sender, recipients, parameters })
    }

    /// Goes on with the content, which is kept or is not.
    pub(super) fn begun(&mut self, is_kept: bool, out: &mut Outbox) {
        match std::mem::replace(&mut self.stage, Stage::Ready) {
            Stage::Opening { is_hasty, .. } if !is_kept && !self.has_server => {
                self.give_up(Pending::Data { is_hasty }, LOST, out);
            }
            Stage::Opening { content, answer, .. } => {
                out.downstream.extend_from_slice(&answer);
                self.is_kept = is_kept;
                self.stage = Stage::Content(content);
            }
            other => self.stage = other,
        }
    }

    /// Goes on behind a message that is kept, or could not be.
    pub(super) fn kept(&mut self, is_kept: bool, out: &mut Outbox) {
        match self.stage {
            // The server's answer comes too late for this device.
            Stage::Pending(Pending::Message) if is_kept => {
                self.held = None;
                self.has_server = false;
            }
            Stage::Keeping(_) => {}
            _ => return,
        }
        let refusal = self.transaction.as_mut().and_then(|transaction| transaction.refusal.take());
        let answer = if is_kept { KEPT } else { refusal.as_deref().unwrap_or(LOST) };
        reply::line(answer, &mut out.downstream);
        self.transaction = None;
        self.messages = self.messages.wrapping_add(1);
        self.is_kept = false;
        self.stage = Stage::Ready;
    }

    /// Goes on without the server where a reply refuses the present message for the moment, and it can be kept. Returns
    /// none where it cannot.
    pub(super) fn keep_deferred(
        &mut self,
        pending: Pending,
        reply: &ReplyLine<'_>,
        len: usize,
        out: &mut Outbox,
    ) -> Option<Step> {
        // A server that closes before the content is dialled once more first.
        if !reply.is_transient() || (reply.code == 421 && pending != Pending::Message) {
            return None;
        }
        let reason = || {
            let retry_after = refusal::of(Refused::Message, reply).failure.retry_after;
            KeepReason::Refused(format!("{} {}", reply.code, excerpt(reply.text)), retry_after)
        };
        match pending {
            // RFC 5321 §4.5.3.1.10: the device sends to the others with another message. A kept one with all of them
            // would never be taken.
            Pending::Rcpt if reply.code == 452 && self.recipients() > 0 => return None,
            Pending::Mail | Pending::Rcpt | Pending::Data { .. } if self.may_keep() => {
                self.go_local(pending, reason(), out);
            }
            Pending::Message if self.is_kept => self.stage = Stage::Keeping(Some(reason())),
            _ => return None,
        }
        // The content of a message that is kept must not reach the server as commands.
        if pending == Pending::Message && reply.code != 421 {
            return Some(Step::Consume(len));
        }
        self.has_server = false;
        Some(Step::Act(len, Action::LeaveServer))
    }

    /// Goes on with a message that is kept, whose server is lost. Returns whether it can.
    pub(super) fn keep_without_server(&mut self) -> bool {
        match &self.stage {
            Stage::Content(_) if self.is_kept => {}
            Stage::Opening { .. } | Stage::Keeping(_) => {}
            Stage::Pending(Pending::Message) if self.is_kept => {
                self.stage = Stage::Keeping(Some(KeepReason::Unknown));
            }
            _ => return false,
        }
        self.held = None;
        self.has_server = false;
        if let Some(transaction) = &mut self.transaction {
            transaction.kept_for.get_or_insert(KeepReason::ServerLost);
        }
        true
    }

    /// The reason for which the present message is kept, at its end.
    pub(super) fn reason(&mut self) -> KeepReason {
        let reason = self.transaction.as_mut().and_then(|transaction| transaction.kept_for.take());
        reason.unwrap_or(KeepReason::ServerLost)
    }
}

/// Returns whether a failure to reach the server may pass by itself, so that a message is kept.
pub(super) fn may_pass(failure: &Failure) -> bool {
    let is_end = matches!(failure.kind, Kind::Revoked | Kind::Drained);
    !is_end && matches!(failure.kind.reply(), Reply::Unavailable | Reply::InUse)
}

/// Splits a line of MAIL or RCPT into the path and its parameters.
fn path(line: &[u8]) -> (String, String) {
    let line = String::from_utf8_lossy(line);
    let behind = line.split_once('<').map_or("", |(_, behind)| behind);
    // A quoted local part may hold a bracket; a parameter does not.
    let (path, parameters) = behind.rsplit_once('>').unwrap_or((behind, ""));
    (path.to_owned(), parameters.trim().to_owned())
}

/// The recipients of a message that are taken without a server. Exchange Online takes so many, unless the mailbox is set
/// to take up to 1000; a message with more would wait until it is too old. RFC 5321 §4.5.3.1.8 wants 100 at least.
const MOST_RECIPIENTS: u32 = 500;
/// The reply to a message that is kept.
const KEPT: &str = "250 2.6.0 kept here, it will be sent later";
