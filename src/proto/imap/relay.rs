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
            return Ok(step);
        }
        // All that is there passes at once. LOGOUT is looked for in its first line alone: behind a command that passes,
        // device and server are out of step until the server has answered.
        let mut piece = input;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dialect::Relay as _;
    use crate::proto::{Probe, Relogin};

    /// A cut behind each octet.
    const EACH: usize = usize::MAX;

    fn relay(deletes: Deletes) -> Relay {
        Relay::new(MailboxTerms { probe: Probe::Skip, deletes, relogin: Relogin::Refused, parks: true }, None)
    }

    /// Returns the octets for the server, and whether the connection is parked at the end. A line that begins with
    /// `S: ` is the server's. Either side's octets are cut at `cut`, counted from the beginning, or behind each octet.
    fn play(conversation: &str, deletes: Deletes, cut: usize) -> (String, bool) {
        let mut relay = relay(deletes);
        let (mut to_server, mut parked, mut played) = (Vec::new(), false, 0);
        let mut unread = [Vec::new(), Vec::new()];
        for line in conversation.split_inclusive('\n') {
            let (side, text) = match line.strip_prefix("S: ") {
                Some(text) => (Side::Upstream, text),
                None => (Side::Downstream, line),
            };
            let text = text.replace('\n', "\r\n").into_bytes();
            let at = cut.saturating_sub(played).min(text.len());
            played += text.len();
            let pieces = if cut == EACH { text.chunks(1).collect() } else { vec![&text[..at], &text[at..]] };
            for piece in pieces {
                unread[side as usize].extend_from_slice(piece);
                for side in [Side::Downstream, Side::Upstream, Side::Downstream, Side::Upstream] {
                    parked |= run(&mut relay, side, &mut unread[side as usize], &mut to_server);
                }
            }
        }
        (String::from_utf8(to_server).unwrap(), parked)
    }

    fn run(relay: &mut Relay, side: Side, unread: &mut Vec<u8>, to_server: &mut Vec<u8>) -> bool {
        let mut parked = false;
        loop {
            let mut out = Outbox::default();
            let step = relay.recv(side, unread, &mut Activity::default(), &mut out).unwrap();
            to_server.extend_from_slice(&out.upstream);
            match step {
                Step::Read => return parked,
                Step::Consume(count) => drop(unread.drain(..count)),
                Step::Forward(count) if side == Side::Downstream => to_server.extend(unread.drain(..count)),
                Step::Forward(count) => drop(unread.drain(..count)),
                Step::Act(count, action) => {
                    parked |= matches!(action, Action::Park(_));
                    unread.drain(..count);
                }
            }
        }
    }

    #[test]
    fn a_session_in_step_is_parked_at_every_cut() {
        for conversation in [
            "a LOGOUT\n",
            "a NOOP\nS: a OK done\nb logout\n",
            "a SELECT INBOX\nS: * 1 EXISTS\nS: a OK done\nb UID FETCH 1 BODY[]\nS: * 1 FETCH (BODY[] {3}\nS: x\nS: )\n\
             S: b OK done\nc LOGOUT\n",
            "a IDLE\nS: + idling\nS: * 2 EXISTS\nDONE\nS: a OK done\nb LOGOUT\n",
            "a APPEND x {3}\nS: + go on\nx\n\nS: a OK done\nb LOGOUT\n",
            "a APPEND x {3}\nS: a NO too large\nb LOGOUT\n",
            "a SELECT nowhere\nS: a NO no such folder\nb LOGOUT\n",
            "a NOOP\nb CHECK\nS: b OK done\nS: a OK done\nc LOGOUT\n",
        ] {
            for deletes in [Deletes::Allowed, Deletes::Refused] {
                let whole = play(conversation, deletes, 0);
                assert!(whole.1 && !whole.0.to_uppercase().contains("LOGOUT"), "{conversation}: {whole:?}");
                for cut in (0..=conversation.len()).chain([EACH]) {
                    assert_eq!(play(conversation, deletes, cut), whole, "{conversation} at {cut}, {deletes:?}");
                }
            }
        }
    }

    /// Commands that come together go on together, and the record has each of them.
    #[test]
    fn pipelined_commands_pass_in_one_step() {
        let mut relay = relay(Deletes::Allowed);
        let pass = |relay: &mut Relay, side, input: &str| {
            relay.recv(side, input.as_bytes(), &mut Activity::default(), &mut Outbox::default()).unwrap()
        };
        let tags: Vec<String> = (0..16).map(|number| format!("a{number}")).collect();
        let commands =
            tags.iter().map(|tag| format!("{tag} NOOP\r\n")).collect::<String>() + "b APPEND x {3+}\r\nabc\r\n";
        let step = pass(&mut relay, Side::Downstream, &commands);
        assert!(matches!(step, Step::Forward(count) if count == commands.len()), "{step:?}");
        for tag in tags.iter().map(String::as_str).chain(["b"]) {
            assert!(!relay.in_step.as_ref().unwrap().is_in_step(), "{tag} has no answer yet");
            pass(&mut relay, Side::Upstream, &format!("{tag} OK done\r\n"));
        }
        let step = pass(&mut relay, Side::Downstream, "c LOGOUT\r\n");
        assert!(matches!(step, Step::Act(10, Action::Park(_))), "{step:?}");
    }

    #[test]
    fn a_session_out_of_step_is_not_parked() {
        for conversation in [
            "a NOOP\nb LOGOUT\n",
            "a NOOP\na NOOP\nS: a OK done\nb LOGOUT\n",
            "a NOOP\nS: * BYE going down\nS: a OK done\nb LOGOUT\n",
            "a NOOP\nS: c OK whose?\nS: a OK done\nb LOGOUT\n",
            "a NOOP\nS: a\nb LOGOUT\n",
            "a NOOP\nS: a DONE\nb LOGOUT\n",
            "a NOOP\nS: *\nS: a OK done\nb LOGOUT\n",
            "a ENABLE CONDSTORE\nS: a OK done\nb LOGOUT\n",
            "a SELECT INBOX (CONDSTORE)\nS: a OK done\nb LOGOUT\n",
            "a UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)\nS: a OK done\nb LOGOUT\n",
            "a NOTIFY NONE\nS: a OK done\nb LOGOUT\n",
            "a X-UNKNOWN\nS: a BAD what?\nb LOGOUT\n",
            "a IDLE\nS: + idling\nb LOGOUT\n",
            "a NOOP\nS: a OK done\nb LOGOUT now\n",
            "\nb LOGOUT\n",
            "a APPEND x {30}\nS: + go on\nb LOGOUT\n",
        ] {
            for deletes in [Deletes::Allowed, Deletes::Refused] {
                let (_, parked) = play(conversation, deletes, 0);
                assert!(!parked, "{conversation} {deletes:?}");
            }
        }
    }

    /// A device that sends a literal before the server has asked for it is out of step, and its session goes on.
    #[test]
    fn a_session_out_of_step_goes_on_at_every_cut() {
        for conversation in [
            "a APPEND x {9}\nsome mail\nb NOOP\nc FETCH 1 BODY[]\nd LOGOUT\n",
            "a APPEND x {9}\nS: * BYE going down\nsome mail\nb NOOP\nc FETCH 1 BODY[]\nd LOGOUT\n",
            "a APPEND x {9+}\nS: a NO too large\nsome mail\nb NOOP\nc FETCH 1 BODY[]\nd LOGOUT\n",
        ] {
            for deletes in [Deletes::Allowed, Deletes::Refused] {
                for cut in 0..=conversation.len() {
                    let (to_server, parked) = play(conversation, deletes, cut);
                    let goes_on = to_server.ends_with("b NOOP\r\nc FETCH 1 BODY[]\r\nd LOGOUT\r\n");
                    let waits = deletes == Deletes::Refused && !to_server.contains("some mail");
                    assert!((goes_on || waits) && !parked, "{conversation} at {cut}, {deletes:?}: {to_server}");
                }
            }
        }
    }
}
