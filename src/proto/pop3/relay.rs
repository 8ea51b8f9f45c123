//! The relay of POP3 carries commands and responses after login, for a device that may delete and for one that may
//! not.

use super::frame::Frame;
use super::no_delete::NoDelete;
use crate::proto::{
    Activity, Deletes, Failure, Leftover, MailboxTerms, Offer, Outbox, Relogin, Responses, Side, Step, dialect,
};

/// TRANSACTION and UPDATE states (RFC 1939 §5, §6): the device talks to the server.
pub(in crate::proto) struct Relay {
    /// The framing, in a box: a session is a good deal smaller before login.
    frame: Box<Frame>,
    /// The reader of commands, if the device may not delete.
    no_delete: Option<NoDelete>,
}

impl Relay {
    pub(super) fn new(offer: Offer, terms: MailboxTerms) -> Self {
        let (relogin, no_delete) = match terms.deletes {
            Deletes::Allowed => (terms.relogin, None),
            // `NoDelete` reads whole lines, and finds logins in them.
            Deletes::Refused => (Relogin::Allowed, Some(NoDelete::default())),
        };
        Self { frame: Box::new(Frame::new(offer, relogin)), no_delete }
    }
}

impl dialect::Relay for Relay {
    fn recv(&mut self, side: Side, input: &[u8], activity: &mut Activity, out: &mut Outbox) -> Result<Step, Failure> {
        let answers_here = side == Side::Upstream && self.frame.answers_next();
        if input.is_empty() && !answers_here {
            return Ok(Step::Read);
        }
        Ok(match (side, &mut self.no_delete) {
            (Side::Downstream, None) => self.frame.commands(input, activity),
            (Side::Downstream, Some(no_delete)) => {
                no_delete.commands(&mut self.frame, input, activity, &mut out.upstream)
            }
            (Side::Upstream, _) => self.frame.responses(input, &mut out.downstream),
        })
    }

    fn responses(&self) -> Responses {
        match (self.frame.is_between_responses(), self.frame.waits()) {
            (true, _) => Responses::Whole,
            (false, true) => Responses::Awaited,
            (false, false) => Responses::Partial,
        }
    }

    /// POP3 has no response that a server may send unasked. The connection just ends, and nothing is deleted.
    fn takes_bye(&self, _: &Failure) -> bool {
        false
    }

    fn leftover(&mut self, side: Side) -> Leftover {
        match side {
            Side::Upstream => {
                self.frame.break_off();
                Leftover::Forward
            }
            Side::Downstream if self.frame.is_full() => Leftover::Wait,
            Side::Downstream if self.no_delete.is_some() || !self.frame.forwards_leftover() => Leftover::Discard,
            Side::Downstream => Leftover::Forward,
        }
    }
}
