//! The relay of IMAP carries commands and responses after login, for a device that may delete and for one that may
//! not.

use super::command_frame::CommandFrame;
use super::no_delete::NoDelete;
use super::response_frame::ResponseFrame;
use crate::proto::{Activity, Deletes, Failure, Kind, Leftover, MailboxTerms, Outbox, Responses, Side, Step, dialect};

/// Authenticated and selected state (RFC 3501 §3.2, §3.3): the device talks to the server.
pub(in crate::proto) struct Relay {
    commands: Commands,
    responses: ResponseFrame,
}

/// The device's commands, by its right to delete.
enum Commands {
    /// All commands pass, but for logins where those are refused.
    Any(CommandFrame),
    /// Commands pass that delete nothing.
    NoDelete(NoDelete),
}

impl Relay {
    pub(super) fn new(terms: MailboxTerms) -> Self {
        let commands = match terms.deletes {
            Deletes::Allowed => Commands::Any(CommandFrame::new(terms.relogin)),
            Deletes::Refused => Commands::NoDelete(NoDelete::default()),
        };
        Self { commands, responses: ResponseFrame::default() }
    }
}

impl dialect::Relay for Relay {
    fn recv(&mut self, side: Side, input: &[u8], activity: &mut Activity, out: &mut Outbox) -> Result<Step, Failure> {
        let responses = &mut self.responses;
        match (&mut self.commands, side) {
            (Commands::Any(commands), Side::Downstream) => Ok(commands.pass(input, activity)),
            (Commands::Any(commands), Side::Upstream) => {
                if commands.has_refusals() && responses.is_between_responses() {
                    commands.write_refusals(&mut out.downstream);
                    return Ok(Step::Consume(0));
                }
                let step = responses.pass(input, commands, &mut out.downstream);
                activity.fetched = responses.fetched();
                Ok(step)
            }
            (Commands::NoDelete(commands), Side::Downstream) => commands.pass(input, activity, &mut out.upstream),
            (Commands::NoDelete(commands), Side::Upstream) if commands.device_goes_first() => Ok(Step::Read),
            (Commands::NoDelete(commands), Side::Upstream) => {
                if responses.is_between_responses() && commands.write_refusals(&mut out.downstream) {
                    return Ok(Step::Consume(0));
                }
                let step = responses.pass(input, commands, &mut out.downstream);
                activity.fetched = responses.fetched();
                Ok(step)
            }
        }
    }

    fn responses(&self) -> Responses {
        let waits = match &self.commands {
            Commands::Any(commands) => commands.has_refusals(),
            Commands::NoDelete(commands) => commands.has_refusals() || commands.waits(),
        };
        match (self.responses.is_between_responses(), waits) {
            (true, _) => Responses::Whole,
            (false, true) => Responses::Awaited,
            (false, false) => Responses::Partial,
        }
    }

    /// A BYE may stand in the middle of a response only if that goes on no more, as the device may know.
    fn takes_bye(&self, failure: &Failure) -> bool {
        match self.responses() {
            Responses::Whole => true,
            Responses::Awaited => failure.kind == Kind::UpstreamProtocol,
            Responses::Partial => false,
        }
    }

    fn leftover(&mut self, side: Side) -> Leftover {
        match (&self.commands, side) {
            (_, Side::Upstream) => {
                self.responses.break_off();
                Leftover::Forward
            }
            (Commands::NoDelete(commands), Side::Downstream) if commands.waits() => Leftover::Wait,
            (Commands::NoDelete(_), Side::Downstream) => Leftover::Discard,
            (Commands::Any(commands), Side::Downstream) if commands.is_full() => Leftover::Wait,
            (Commands::Any(commands), Side::Downstream) if !commands.forwards_leftover() => Leftover::Discard,
            (Commands::Any(_), Side::Downstream) => Leftover::Forward,
        }
    }
}
