//! The relay passes a message's content on, up to its end; or it drops the rest of a message that is refused.

use super::{Pending, Relay, Stage, endless, unexpected};
use crate::proto::line::Line;
use crate::proto::smtp::content::Refusal;
use crate::proto::smtp::envelope::Stopped;
use crate::proto::smtp::refusal::{self, Meaning, Refused};
use crate::proto::smtp::reply::{self, ReplyLine};
use crate::proto::{Action, Failure, KeepReason, Kind, Outbox, RESPONSE_LINE, Step};
use crate::text::excerpt;

impl Relay {
    /// Passes the content on, up to the end of the data.
    pub(super) fn content(&mut self, input: &[u8], out: &mut Outbox) -> Step {
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
            (None, true) if self.has_server => self.stage = Stage::Pending(Pending::Message),
            (None, true) => self.stage = Stage::Keeping(Some(self.reason())),
            (None, false) => {}
        }
        step
    }

    /// Drops the content of a message that is refused. Behind its end the device hears the reply; the server is gone by
    /// then, and so the connection ends.
    pub(super) fn refused(&mut self, input: &[u8], out: &mut Outbox) -> Step {
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
    pub(super) fn early(&mut self, input: &[u8]) -> Result<Step, Failure> {
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
        if self.is_kept && reply.is_transient() {
            let reason = KeepReason::Refused(format!("{} {}", reply.code, excerpt(reply.text)), None);
            self.transaction.iter_mut().for_each(|transaction| transaction.kept_for = Some(reason.clone()));
            self.has_server = false;
            return Ok(Step::Act(len, Action::LeaveServer));
        }
        let Meaning { failure, reply: own } = refusal::of(Refused::Message, &reply);
        let answer = own.map_or_else(|| text.to_vec(), |own| own.as_bytes().to_vec());
        if let Stage::Content(content) = std::mem::replace(&mut self.stage, Stage::Over) {
            self.stage = Stage::Refused(content, answer);
        }
        Ok(Step::Act(len, Action::DropServer(failure)))
    }
}

/// The octets of the end of the data behind the last line.
const END_OF_DATA: u64 = ".\r\n".len() as u64;
