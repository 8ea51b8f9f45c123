//! The relay of IMAP carries commands and responses after login, for a device that may delete and for one that may
//! not.

use super::command_frame::CommandFrame;
use super::in_step::{InStep, Logout, Recorded};
use super::no_delete::NoDelete;
use super::response;
use super::response_frame::ResponseFrame;
use crate::proto::{
    Action, Activity, Deletes, Failure, Kind, Leftover, MailboxTerms, Outbox, Responses, Side, Step, dialect,
};

/// Authenticated and selected state (RFC 3501 §3.2, §3.3): the device talks to the server.
pub(in crate::proto) struct Relay {
    commands: Commands,
    responses: ResponseFrame,
    /// The record for a connection that may be parked.
    in_step: Option<Box<InStep>>,
    /// The device has logged out, and the server does not know.
    has_left: bool,
}

/// The device's commands, by its right to delete.
enum Commands {
    /// All commands pass, but for logins where those are refused.
    Any(CommandFrame),
    /// Commands pass that delete nothing.
    NoDelete(NoDelete),
}

impl Relay {
    /// The relay of a session on these terms, at a connection that has this capability list.
    pub(super) fn new(terms: MailboxTerms, capability: Option<Vec<u8>>) -> Self {
        let commands = match terms.deletes {
            Deletes::Allowed => Commands::Any(CommandFrame::new(terms.relogin)),
            Deletes::Refused => Commands::NoDelete(NoDelete::default()),
        };
        let in_step = terms.parks.then(|| Box::new(InStep::new(capability)));
        Self { commands, responses: ResponseFrame::default(), in_step, has_left: false }
    }

    /// Follows octets of a session whose connection may be parked.
    fn recorded(
        &mut self,
        side: Side,
        input: &[u8],
        activity: &mut Activity,
        out: &mut Outbox,
    ) -> Result<Step, Failure> {
        let Some(in_step) = self.in_step.as_deref_mut() else { return Ok(Step::Read) };
        if side == Side::Upstream {
            let step = match &mut self.commands {
                Commands::Any(commands) => upstream_of_any(&mut self.responses, commands, in_step, input, out),
                Commands::NoDelete(commands) => {
                    upstream_of_no_delete(&mut self.responses, commands, in_step, input, out)
                }
            };
            activity.fetched = self.responses.fetched();
            activity.first_uidnext = in_step.first_uidnext();
            return Ok(step);
        }
        let mut piece = input.get(..in_step.first_piece(input)).unwrap_or(input);
        if in_step.is_in_step() && self.responses.is_between_responses() && self.commands.is_between_commands() {
            match Logout::of(input) {
                Logout::No => {}
                Logout::Incomplete => piece = &[],
                Logout::Whole(tag) => {
                    activity.commands += 1;
                    activity.has_logged_out = true;
                    self.has_left = true;
                    response::logged_out(&mut out.downstream, tag);
                    return Ok(Step::Act(input.len(), Action::Park(in_step.state())));
                }
            }
        }
        let written = out.upstream.len();
        let step = match &mut self.commands {
            Commands::Any(commands) => commands.pass(piece, activity),
            Commands::NoDelete(commands) => commands.pass(piece, activity, &mut out.upstream)?,
        };
        in_step.sent(out.upstream.get(written..).unwrap_or_default());
        if let Step::Forward(count) = step {
            in_step.sent(piece.get(..count).unwrap_or(piece));
        }
        Ok(step)
    }
}

impl Commands {
    /// Returns whether the device's next octet begins a command, and nothing of the one before is left.
    fn is_between_commands(&self) -> bool {
        match self {
            Commands::Any(commands) => commands.is_between_commands(),
            Commands::NoDelete(commands) => commands.is_between_commands(),
        }
    }
}

fn upstream_of_any(
    responses: &mut ResponseFrame,
    commands: &mut CommandFrame,
    in_step: &mut InStep,
    input: &[u8],
    out: &mut Outbox,
) -> Step {
    if commands.has_refusals() && responses.is_between_responses() {
        commands.write_refusals(&mut out.downstream);
        return Step::Consume(0);
    }
    responses.pass(input, &mut Recorded { commands, in_step }, &mut out.downstream)
}

fn upstream_of_no_delete(
    responses: &mut ResponseFrame,
    commands: &mut NoDelete,
    in_step: &mut InStep,
    input: &[u8],
    out: &mut Outbox,
) -> Step {
    if commands.device_goes_first() {
        return Step::Read;
    }
    if responses.is_between_responses() && commands.write_refusals(&mut out.downstream) {
        return Step::Consume(0);
    }
    responses.pass(input, &mut Recorded { commands, in_step }, &mut out.downstream)
}

impl dialect::Relay for Relay {
    fn recv(&mut self, side: Side, input: &[u8], activity: &mut Activity, out: &mut Outbox) -> Result<Step, Failure> {
        if self.has_left {
            return Ok(Step::Read);
        }
        if self.in_step.is_some() {
            return self.recorded(side, input, activity, out);
        }
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
        if self.has_left {
            return false;
        }
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
