//! The relay of SMTP passes one command at a time, its whole reply, and then the next; and a message's content from the
//! buffer in which it came.
//!
//! SMTP keeps nothing between two messages. So the server may be away while the device is there: the relay answers what
//! needs no server, asks for one at the next MAIL, and once more for a message whose server is lost before its content.

mod command;
mod connect;
mod content;
mod keep;
mod reply;
#[cfg(test)]
mod tests;
mod transaction;

use super::capability::Extensions;
use super::client::Client;
use super::content::Content;
use super::reply::ReplyLine;
use super::rules::SessionRules;
use crate::proto::{
    Action, Activity, Awaited, Failure, KeepReason, Kind, Leftover, Offer, Outbox, Responses, Side, Step,
    UpstreamLogin, dialect, preamble,
};
use crate::submission::Reservation;
use crate::text::excerpt;
use transaction::Transaction;

/// A session after login (RFC 5321 §3.3), between two commands or within one.
pub(in crate::proto) struct Relay {
    stage: Stage,
    offer: Offer,
    server: Extensions,
    rules: SessionRules,
    /// The connection to the server stands.
    has_server: bool,
    /// The server of the present message was lost, and another one was asked for.
    is_second_server: bool,
    /// The driver keeps the present message's content.
    is_kept: bool,
    /// The server has refused DATA, and the device has said nothing since.
    is_data_refused: bool,
    /// The lines of the server's reply whose last line is still to come.
    held: Option<Box<HeldReply>>,
    /// The envelope of the present message, from MAIL on.
    transaction: Option<Box<Transaction>>,
    /// The envelope that another MAIL is to replace, until the server has answered that.
    replaced: Option<Box<Transaction>>,
    /// Octets of the present message as the device sent them, with the end of the data.
    octets: u64,
    /// The number of recipients of the last message.
    sent_to: u32,
    /// The reservation of the last message, until the driver counts its recipients.
    sent: Reservation,
    /// The number of messages that have come to their end.
    messages: u32,
    /// The domain of its first recipient outside of the mailbox's own domain.
    outside: Option<Box<str>>,
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
    /// The command needs a server, and the driver does not know that yet.
    Wanting(Pending),
    /// The driver dials a server for this command, or the client logs in there.
    Connecting(Pending, Option<Box<Client>>),
    /// A new server gets the envelope before this command. The octets of the recipients up to here were sent.
    Replaying(Pending, usize),
    /// The server has asked for the content, and it goes up.
    Content(Box<Content>),
    /// The content can be kept, and the driver is asked to do so. The device has not heard the answer to DATA yet.
    Opening { content: Box<Content>, answer: Vec<u8>, is_hasty: bool, is_asked: bool },
    /// The message is to be kept, for this reason; none once the driver knows.
    Keeping(Option<KeepReason>),
    /// The content must not reach the server. The connection there is closed, the rest is dropped, and this reply is
    /// due.
    Refused(Box<Content>, Vec<u8>),
    /// DATA came to nothing, and the device has sent the message behind it already.
    SentAhead,
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
    Rset,
    /// RSET that stands for a second EHLO or HELO (RFC 5321 §4.1.4).
    Greeting {
        is_extended: bool,
    },
    Noop,
    Quit,
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

/// The lines of a reply but its last one, with their line ends.
struct HeldReply {
    code: u16,
    lines: Vec<u8>,
}

impl Relay {
    pub(super) fn new(offer: Offer, client: Client) -> Self {
        let (server, rules) = client.into_parts();
        Self {
            stage: Stage::Ready,
            offer,
            server,
            rules,
            has_server: true,
            is_second_server: false,
            is_kept: false,
            is_data_refused: false,
            held: None,
            transaction: None,
            replaced: None,
            octets: 0,
            sent_to: 0,
            sent: Reservation::default(),
            messages: 0,
            outside: None,
            unknown_commands: 0,
        }
    }

    /// The number of recipients of the present message that the server has taken.
    fn recipients(&self) -> u32 {
        self.transaction.as_ref().map_or(0, |transaction| transaction.recipients())
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
        match &mut self.stage {
            Stage::Opening { is_asked: is_asked @ false, .. } => {
                *is_asked = true;
                return Ok(Step::Act(0, Action::MessageBegins(self.message_envelope())));
            }
            Stage::Keeping(reason @ Some(_)) => {
                let reason = reason.take().unwrap_or(KeepReason::ServerLost);
                if let (KeepReason::Refused(reply, _), Some(transaction)) = (&reason, &mut self.transaction) {
                    transaction.refusal = Some(reply.clone());
                }
                return Ok(Step::Act(0, Action::Keep(reason)));
            }
            Stage::Wanting(pending) => {
                self.stage = Stage::Connecting(*pending, None);
                return Ok(Step::Act(0, Action::Connect));
            }
            Stage::SentAhead => return Err(Failure::new(Kind::SentAhead, "behind DATA, whose server was lost")),
            Stage::Refused(content, _) if content.is_complete() => {}
            _ if input.is_empty() => return Ok(Step::Read),
            _ => {}
        }
        match (side, &mut self.stage) {
            (Side::Downstream, Stage::Ready) => self.command(input, activity, out),
            (Side::Downstream, Stage::Skipping) => Ok(self.skip(input)),
            (Side::Downstream, Stage::Content(_)) => Ok(self.content(input, out)),
            (Side::Downstream, Stage::Refused(..)) => Ok(self.refused(input, out)),
            (
                Side::Downstream,
                Stage::Opening { is_hasty, .. }
                | Stage::Pending(Pending::Data { is_hasty })
                | Stage::Connecting(Pending::Data { is_hasty }, _)
                | Stage::Replaying(Pending::Data { is_hasty }, _),
            ) => {
                // The NUL behind the line of DATA is no octet of the message.
                let nuls = preamble::nuls(input);
                *is_hasty |= nuls == 0;
                Ok(if nuls > 0 { Step::Consume(nuls) } else { Step::Read })
            }
            (Side::Upstream, Stage::Content(_)) => self.early(input),
            (Side::Upstream, Stage::Connecting(..)) => Ok(self.logging_in(input, out)),
            (Side::Upstream, Stage::Replaying(..)) => self.replayed(input, out),
            (Side::Upstream, Stage::Opening { .. } | Stage::Keeping(_)) | (Side::Downstream, Stage::Keeping(_)) => {
                Ok(Step::Read)
            }
            (Side::Upstream, Stage::Ready | Stage::Skipping | Stage::Pending(_)) => self.reply(input, out),
            (Side::Upstream, Stage::Refused(..) | Stage::Over)
            | (Side::Downstream, Stage::Pending(_) | Stage::Connecting(..) | Stage::Replaying(..) | Stage::Over)
            | (_, Stage::Wanting(_) | Stage::SentAhead) => Ok(Step::Read),
        }
    }

    fn responses(&self) -> Responses {
        match self.stage {
            Stage::Ready | Stage::Skipping | Stage::Over => Responses::Whole,
            _ => Responses::Partial,
        }
    }

    /// RFC 5321 §3.8: 421 may come at any time. The device never has a reply in part.
    fn takes_bye(&self, _: &Failure) -> bool {
        !matches!(self.stage, Stage::Over)
    }

    fn awaited(&self) -> Option<Awaited> {
        Some(match self.stage {
            Stage::Connecting(_, Some(_)) => return None,
            Stage::Ready | Stage::Skipping if self.is_between_messages() => Awaited::Mail,
            Stage::Ready | Stage::Skipping | Stage::SentAhead | Stage::Over => Awaited::Command,
            Stage::Opening { .. } | Stage::Content(_) | Stage::Keeping(_) | Stage::Refused(..) => Awaited::Content,
            Stage::Pending(Pending::Message) => Awaited::Answer,
            Stage::Pending(_) | Stage::Wanting(_) | Stage::Connecting(..) | Stage::Replaying(..) => Awaited::Reply,
        })
    }

    fn leftover(&mut self, side: Side) -> Leftover {
        match (side, &self.stage) {
            // Commands that the device has sent ahead are obeyed: QUIT, mostly.
            (
                Side::Downstream,
                Stage::Pending(_) | Stage::Replaying(..) | Stage::Opening { .. } | Stage::Keeping(_),
            ) => Leftover::Wait,
            // Half a message never becomes a whole one.
            (Side::Downstream | Side::Upstream, _) => Leftover::Discard,
        }
    }

    fn present_message(&self) -> Option<u32> {
        self.transaction.is_some().then_some(self.messages)
    }

    fn unanswered_recipients(&self) -> u32 {
        if matches!(self.stage, Stage::Pending(Pending::Message)) { self.recipients() } else { 0 }
    }

    fn is_connecting(&self) -> bool {
        matches!(self.stage, Stage::Connecting(..))
    }

    fn upstream_connected(&mut self, login: UpstreamLogin) {
        if let Stage::Connecting(_, client) = &mut self.stage {
            *client = Some(Box::new(dialect::Client::new(login)));
        }
    }

    fn tls_started(&mut self, out: &mut Outbox) {
        if let Stage::Connecting(_, Some(client)) = &mut self.stage {
            dialect::Client::tls_started(client.as_mut(), &mut out.upstream);
        }
    }

    fn connect_failed(&mut self, failure: &Failure, out: &mut Outbox) {
        self.not_connected(failure, out);
    }

    fn message_begun(&mut self, is_kept: bool, out: &mut Outbox) {
        self.begun(is_kept, out);
    }

    fn message_kept(&mut self, is_kept: bool, out: &mut Outbox) {
        self.kept(is_kept, out);
    }

    fn upstream_lost(&mut self, out: &mut Outbox) -> bool {
        self.server_lost(out)
    }
}

/// The reply to a command whose server was lost.
const LOST: &str = "451 4.4.2 connection to the mail server lost, try again later";
