//! The content of a message: the octets behind the server's 354, up to the end of the data (RFC 5321 §4.1.1.4).
//!
//! Only CRLF, a dot and CRLF end the data, and they are looked for in the octets as they come. Nothing with a bare CR
//! or LF goes up. Servers differ in what they take for a line's end, and an attacker uses the difference to hide a
//! second message in the first.

mod body;
mod display_name;
mod from;
mod header;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::path::Address;
use super::sender::{SENDER_REFUSED, SenderRules};
use crate::proto::Step;
use crate::submission::{BareLineEnds, SenderPolicy, Stamp};
use body::{Body, Piece, Treatment};
use header::{Ending, Extent, HeadReader};

/// The rules for the content of every message of a session.
#[derive(Debug, Default)]
pub(in crate::proto) struct Rules {
    /// The treatment of bare line ends.
    pub(in crate::proto) bare_line_ends: BareLineEnds,
    /// LF, a dot and LF end the data of a device that sends no CRLF at all. Off unless a device needs it.
    pub(in crate::proto) lf_end_of_data: bool,
    /// The sender policy. Without one, as for a login that is passed through, the head of a message is not looked at.
    pub(in crate::proto) sender: Option<SenderRules>,
}

/// The reasons for which packetboat refuses a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proto) enum Refusal {
    /// The message has a bare CR or LF, or a NUL, and [`BareLineEnds::Refuse`] holds.
    BareLineEnd,
    /// The sender policy does not allow the address in the From field.
    Sender(Address),
    /// The sender policy allows one address in one From field alone, and the message does not have that.
    UnreadableSender,
    /// The sender policy has to see every header field, and there are more octets of them than are looked at.
    HeadTooLong,
    /// The message has more octets than the listener takes.
    TooBig,
}

impl Refusal {
    /// Returns the reply to the end of the data, without its line end.
    pub(in crate::proto) fn reply(&self) -> &'static str {
        match self {
            Refusal::BareLineEnd => "550 5.6.0 The message holds a NUL, or a CR or LF that is not part of CRLF",
            Refusal::Sender(_) => SENDER_REFUSED,
            Refusal::UnreadableSender => "550 5.7.60 The message has more than one sender, or none that can be read",
            Refusal::HeadTooLong => "552 5.3.4 The header fields are longer than 65536 octets",
            Refusal::TooBig => TOO_BIG,
        }
    }
}

/// The content of one message, from the device to the server.
///
/// # Contract
///
/// 1. Make it behind the server's 354, and call [`recv`](Content::recv) with the device's octets as the session's
///    contract says. What `recv` writes goes up before the octets that it forwards.
/// 2. Once [`refusal`](Content::refusal) returns a reason, close the connection to the server at once and send nothing
///    more there: without the end of the data, the server drops the message. Go on calling `recv`: it consumes the
///    rest of the data.
/// 3. Once [`is_complete`](Content::is_complete) returns true, the next octet of the device begins a command. Reply
///    with the refusal's [`reply`](Refusal::reply) if there is one. Otherwise the end of the data goes up with the last
///    step, and the server replies.
/// 4. A device that is lost before that: close the connection to the server, and send nothing more there.
pub(in crate::proto) struct Content {
    rules: Arc<Rules>,
    stamp: Stamp,
    /// The reader of the head, until that has come.
    head: Option<HeadReader>,
    body: Body,
    refusal: Option<Refusal>,
    is_complete: bool,
}

impl Content {
    /// Makes the content of a message of which nothing has come.
    pub(in crate::proto) fn new(rules: Arc<Rules>, stamp: Stamp) -> Self {
        let head = rules.sender.as_ref().map(|_| HeadReader::new());
        let body = Body::new(rules.lf_end_of_data);
        Self { rules, stamp, head, body, refusal: None, is_complete: false }
    }

    /// Returns whether the end of the data has come.
    pub(in crate::proto) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Returns the reason for which the message must not reach the server.
    pub(in crate::proto) fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Refuses the message for a reason outside its content. Call it only after [`recv`](Content::recv) has forwarded or
    /// consumed octets.
    pub(in crate::proto) fn refuse(&mut self, refusal: Refusal) {
        self.refusal.get_or_insert(refusal);
    }

    /// Reads what has come from the device, and returns what to do with its beginning: forward it, consume it, or read
    /// more. Replacements for consumed octets go to `out`, which is for the server.
    pub(in crate::proto) fn recv(&mut self, input: &[u8], out: &mut Vec<u8>) -> Step {
        if self.is_complete {
            return Step::Read;
        }
        if self.refusal.is_some() {
            return self.swallow(input);
        }
        let mut at = match &mut self.head {
            None => 0,
            Some(head) => match head.read(input) {
                None => return Step::Read,
                Some(extent) => {
                    let len = extent.len;
                    match self.end_head(extent, input, out) {
                        Head::Passes => len,
                        Head::Written => return Step::Consume(len),
                        Head::Refused if len == 0 => return self.swallow(input),
                        Head::Refused => return Step::Consume(len),
                    }
                }
            },
        };
        while let Some(mut piece) = self.body.piece(input.get(at..).unwrap_or_default()) {
            let is_repair = !matches!(piece.treatment, Treatment::Passes | Treatment::Ends);
            if self.rules.bare_line_ends == BareLineEnds::Refuse {
                let nul = memchr::memchr(0, input.get(at..at + piece.len).unwrap_or_default());
                if is_repair || nul == Some(0) {
                    if at > 0 {
                        break;
                    }
                    self.refusal = Some(Refusal::BareLineEnd);
                    return self.swallow(input);
                }
                piece = nul.map_or(piece, Piece::inside);
            }
            if is_repair {
                // The octets before it go first; a line of them is copied rather than forwarded by a step of its own.
                return if at < NEAR { self.repair(input, at, out) } else { Step::Forward(at) };
            }
            at += piece.len;
            self.is_complete = piece.treatment == Treatment::Ends;
            self.body.advance(&piece);
            if self.is_complete {
                break;
            }
        }
        if at > 0 { Step::Forward(at) } else { Step::Read }
    }

    /// Goes on behind the head.
    fn end_head(&mut self, mut extent: Extent, input: &[u8], out: &mut Vec<u8>) -> Head {
        self.head = None;
        self.body.begin_line(extent.boundary, extent.has_crlf);
        let (head, behind) = input.split_at_checked(extent.len).unwrap_or((input, &[]));
        let is_odd = extent.has_bare || memchr::memchr(0, head).is_some();
        if self.rules.bare_line_ends == BareLineEnds::Refuse && is_odd {
            self.refusal = Some(Refusal::BareLineEnd);
            return Head::Refused;
        }
        let Some(sender) = &self.rules.sender else { return Head::Passes };
        // A From field behind the bound would be one that the policy has not seen.
        if extent.ending == Ending::Bound && sender.policy != SenderPolicy::Envelope {
            self.refusal = Some(Refusal::HeadTooLong);
            return Head::Refused;
        }
        // A message may consist of fields alone.
        let ends = self.body.piece(behind).is_some_and(|piece| piece.ends());
        extent.needs_blank &= !(ends && extent.len > 0);
        match header::rewrite(input, &extent, sender, &self.stamp, out) {
            Ok(true) => Head::Written,
            Ok(false) => Head::Passes,
            Err(refusal) => {
                self.refusal = Some(refusal);
                Head::Refused
            }
        }
    }

    /// Copies to `out` from a repair on, which stands at `at`. It stops where nothing has been repaired for a while, so
    /// that a message without any CRLF is gathered, and one with a single bare LF is forwarded again soon.
    fn repair(&mut self, input: &[u8], mut at: usize, out: &mut Vec<u8>) -> Step {
        let input = input.get(..GATHERED).unwrap_or(input);
        out.extend_from_slice(input.get(..at).unwrap_or_default());
        let mut repaired = at;
        while at - repaired < NEAR
            && let Some(piece) = self.body.piece(input.get(at..).unwrap_or_default())
        {
            match piece.treatment {
                Treatment::Passes if piece.len <= NEAR => {
                    out.extend_from_slice(input.get(at..at + piece.len).unwrap_or_default());
                }
                // The next step forwards it.
                Treatment::Passes | Treatment::Ends => break,
                Treatment::Replaced(text) | Treatment::EndsReplaced(text) => {
                    out.extend_from_slice(text);
                    repaired = at + piece.len;
                }
            }
            at += piece.len;
            self.body.advance(&piece);
            self.is_complete = matches!(piece.treatment, Treatment::EndsReplaced(_));
            if self.is_complete {
                break;
            }
        }
        Step::Consume(at)
    }

    /// Consumes the octets of a message that is refused.
    fn swallow(&mut self, input: &[u8]) -> Step {
        let mut at = 0;
        while !self.is_complete
            && let Some(piece) = self.body.piece(input.get(at..).unwrap_or_default())
        {
            at += piece.len;
            self.is_complete = piece.ends();
            self.body.advance(&piece);
        }
        if at > 0 { Step::Consume(at) } else { Step::Read }
    }
}

/// The reply to a message that is too big, without its line end.
pub(in crate::proto) const TOO_BIG: &str = "552 5.3.4 the message is too big";

/// The treatment of the head.
enum Head {
    /// It goes up as it is.
    Passes,
    /// The replacement for it is written.
    Written,
    /// The message is refused.
    Refused,
}

/// The number of octets that one step copies at most, if line ends are repaired.
const GATHERED: usize = 16 * 1024;

/// The number of octets that are copied behind a repair, in case that another one follows: a line (RFC 5321
/// §4.5.3.1.6).
const NEAR: usize = 1000;
