//! The relay of SMTP passes one command at a time, its whole reply, and then the next; and a message's content from the
//! buffer in which it came.

mod command;
mod content;
mod reply;

use super::capability::Extensions;
use super::client::Client;
use super::content::Content;
use super::reply::ReplyLine;
use super::rules::SessionRules;
use crate::proto::{Activity, Awaited, Failure, Kind, Leftover, Offer, Outbox, Responses, Side, Step, dialect};
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
