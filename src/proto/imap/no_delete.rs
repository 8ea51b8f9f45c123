//! The commands of a device that may not delete: only those that are known to delete nothing reach the server.
//!
//! A line waits until it is whole; then it passes, or packetboat answers it. The server must never take octets for a
//! command that packetboat took for something else. So no literal passes before the server has asked for it, a
//! non-synchronising literal becomes synchronising, and nothing passes behind IDLE but DONE.
//!
//! Where the server has to answer first, the device waits. The octets that it sends then are read before anything
//! more of the server's passes. So the outcome does not depend on where the octets are cut.

mod classify;
mod completions;
mod responses;

use super::dropped::{Dropped, Next};
use super::literal::{Literal, Tail, count_down};
use super::relogin::{CommandStart, Refused, RefusedBefore};
use super::response;
use super::tag::{self, UNTAGGED};
use crate::proto::line::Line;
use crate::proto::{Activity, Failure, Kind, Step, preamble};
use classify::{Class, announced_literal};
use completions::Completions;

/// The framing of such a device's octets.
pub(super) struct NoDelete {
    position: Position,
    /// The server idles: it takes DONE, and nothing else.
    is_idle: bool,
    completions: Completions,
    /// Responses of packetboat's that wait until they can stand between two of the server's.
    refusals: Vec<u8>,
    tail: Tail,
    /// The command that is dropped is a login.
    is_login: bool,
    /// A literal of a login was refused, and may come all the same.
    behind: RefusedBefore,
    turn: bool,
}

/// The position of the device's next octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// The next octet begins a command.
    Start,
    /// The server has not answered the announcement of this literal yet.
    Announced(Literal),
    /// Inside a literal, this many octets before its end.
    Literal(u64),
    /// The command goes on after a literal.
    Behind,
    /// The server has not answered IDLE yet.
    Idle,
    /// Inside a command that is dropped.
    Dropped(Dropped),
    /// The server has completed a command whose literal it has asked for and not received.
    OutOfStep,
}

impl Position {
    /// Returns the position inside a literal with this many octets left, or behind it.
    fn in_literal(left: u64) -> Self {
        if left == 0 { Position::Behind } else { Position::Literal(left) }
    }
}

impl Default for NoDelete {
    fn default() -> Self {
        Self {
            position: Position::Start,
            is_idle: false,
            completions: Completions::default(),
            refusals: Vec::new(),
            tail: Tail::default(),
            is_login: false,
            behind: RefusedBefore::Nothing,
            // Commands that were pipelined behind the login are read before what the server sent behind it.
            turn: true,
        }
    }
}

impl NoDelete {
    /// Follows the device's octets, a line or a piece of a literal a step.
    ///
    /// # Errors
    /// The server may take the rest of a literal for commands.
    pub(super) fn pass(&mut self, input: &[u8], activity: &mut Activity, out: &mut Vec<u8>) -> Result<Step, Failure> {
        let step = self.next(input, activity, out)?;
        if matches!(step, Step::Read) && std::mem::take(&mut self.turn) {
            // The other side is to be called again.
            return Ok(Step::Consume(0));
        }
        Ok(step)
    }

    /// Returns whether the device's octets are read first.
    pub(super) fn device_goes_first(&self) -> bool {
        self.turn
    }

    /// Writes the responses that have been waiting; returns whether there were any.
    pub(super) fn write_refusals(&mut self, out: &mut Vec<u8>) -> bool {
        if self.refusals.is_empty() {
            return false;
        }
        self.turn |= self.is_full();
        out.append(&mut self.refusals);
        true
    }

    /// Returns whether responses of packetboat's wait for the end of one of the server's.
    pub(super) fn has_refusals(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// Returns whether the device's next octet begins a command, and none before it is unfinished or unanswered.
    pub(super) fn is_between_commands(&self) -> bool {
        let is_start = self.position == Position::Start && !self.is_idle;
        is_start && self.behind == RefusedBefore::Nothing && self.refusals.is_empty()
    }

    /// Returns whether the device's octets wait for the server.
    pub(super) fn waits(&self) -> bool {
        self.is_full() || matches!(self.position, Position::Announced(_) | Position::Idle)
    }

    fn next(&mut self, input: &[u8], activity: &mut Activity, out: &mut Vec<u8>) -> Result<Step, Failure> {
        if self.position == Position::OutOfStep {
            return Err(Failure::new(Kind::UpstreamProtocol, "a command was completed in the middle of its literal"));
        }
        if input.is_empty() || self.is_full() {
            return Ok(Step::Read);
        }
        Ok(match self.position {
            // NULs are dropped, as before the login.
            Position::Start | Position::Idle if input.first() == Some(&0) => Step::Consume(preamble::nuls(input)),
            Position::Start => match Line::split(input, LINE) {
                Line::Incomplete => Step::Read,
                Line::TooLong => {
                    activity.commands += 1;
                    let behind = std::mem::take(&mut self.behind);
                    self.drop_command(tag::strict_of(input), input, behind)
                }
                Line::Complete { text, len } => self.command(text, input.get(..len).unwrap_or_default(), activity, out),
            },
            Position::Behind => match Line::split(input, LINE) {
                Line::Incomplete => Step::Read,
                Line::Complete { text, len } if continues_command(text) => {
                    self.pass_line(text, input.get(..len).unwrap_or_default(), out)
                }
                Line::TooLong | Line::Complete { .. } => {
                    // No command goes on like this. The server refuses it, and that is the device's answer.
                    out.extend_from_slice(b" )\r\n");
                    self.skip(Dropped::Line, input)
                }
            },
            Position::Literal(left) => {
                let (left, passed) = count_down(left, input.len());
                self.position = Position::in_literal(left);
                Step::Forward(passed)
            }
            Position::Dropped(dropped) => self.skip(dropped, input),
            // The device has seen that the server idles, or does not want to. It need not wait until packetboat has,
            // which never happens if the server has announced a longer literal than it sent.
            Position::Idle => match Line::split(input, LINE) {
                Line::Complete { text, len }
                    if Class::of(text) == Class::Done && self.completions.takes_early_done() =>
                {
                    self.completions.done_early();
                    self.position = Position::Start;
                    out.extend_from_slice(b"DONE\r\n");
                    Step::Consume(len)
                }
                _ => Step::Read,
            },
            Position::Announced(_) | Position::OutOfStep => Step::Read,
        })
    }

    /// Reads the first line of a command. `line` is `text` with its line end.
    fn command(&mut self, text: &[u8], line: &[u8], activity: &mut Activity, out: &mut Vec<u8>) -> Step {
        let behind = std::mem::take(&mut self.behind);
        let class = match CommandStart::of(line, behind) {
            // A login without its tag may look like something else, and so may a literal of one.
            CommandStart::Refused(Refused { tag, goes_on: true, .. }) => Class::Refuse { tag },
            _ => Class::of(text),
        };
        activity.commands += u64::from(!matches!(class, Class::Empty | Class::Done));
        match class {
            Class::Done if self.is_idle => {
                self.is_idle = false;
                out.extend_from_slice(b"DONE\r\n");
            }
            // The server has ended the IDLE by itself.
            Class::Done => {}
            Class::Empty if self.is_idle => {}
            // The line may still belong to a command whose response came early.
            Class::Empty => return send(text, line, out),
            Class::Refuse { tag } => return self.drop_command(tag, line, behind),
            Class::Pass { tag, .. } | Class::Idle { tag } | Class::Close { tag } if self.is_idle => {
                return self.drop_command(tag, line, behind);
            }
            Class::Pass { tag, logout } => {
                activity.has_logged_out |= logout;
                self.begin(tag);
                return self.pass_line(text, line, out);
            }
            Class::Idle { tag } => {
                self.begin(tag);
                self.position = Position::Idle;
                return send(text, line, out);
            }
            Class::Close { tag } => {
                self.begin(tag);
                // UNSELECT does the same (RFC 3691), but nothing is removed.
                response::tagged(out, tag, "UNSELECT");
            }
        }
        Step::Consume(line.len())
    }

    fn begin(&mut self, tag: &[u8]) {
        self.completions.begin(tag);
        self.is_login = false;
    }

    /// Passes a line of a command that passes.
    fn pass_line(&mut self, text: &[u8], line: &[u8], out: &mut Vec<u8>) -> Step {
        let literal = announced_literal(text).ok().flatten();
        self.position = literal.map_or(Position::Start, Position::Announced);
        match literal {
            // Some servers do not know such literals, or forget to skip them when they refuse the command. Then they
            // read them as commands.
            Some(Literal { synchronising: false, .. }) => {
                out.extend_from_slice(text.strip_suffix(b"+}").unwrap_or(text));
                out.extend_from_slice(b"}\r\n");
                Step::Consume(line.len())
            }
            Some(Literal { synchronising: true, .. }) | None => send(text, line, out),
        }
    }

    /// Answers a command that does not pass, and drops its first line, as far as that is there.
    fn drop_command(&mut self, tag: &[u8], line: &[u8], behind: RefusedBefore) -> Step {
        let beginning = CommandStart::of(line, behind);
        self.is_login = matches!(beginning, CommandStart::Refused(Refused { goes_on: true, .. }));
        let (tag, text) = match beginning {
            CommandStart::Refused(Refused { tag, text, goes_on: true }) => (tag, text),
            _ => (tag, if tag == UNTAGGED { NOT_A_COMMAND } else { REFUSED }),
        };
        response::tagged(&mut self.refusals, tag, text);
        self.skip(Dropped::Line, line)
    }

    fn skip(&mut self, dropped: Dropped, input: &[u8]) -> Step {
        let (len, next) = dropped.drop(&mut self.tail, input);
        self.position = match next {
            Next::More(dropped) => Position::Dropped(dropped),
            Next::Command(announced) => {
                if let (Some(size), true) = (announced, self.is_login) {
                    self.behind = RefusedBefore::Literal(size);
                }
                Position::Start
            }
        };
        Step::Consume(len)
    }

    fn is_full(&self) -> bool {
        self.refusals.len() > QUEUE
    }
}

/// Sends a line as it came. Some servers do not take a bare LF for a line end, so that becomes CRLF.
fn send(text: &[u8], line: &[u8], out: &mut Vec<u8>) -> Step {
    if line.ends_with(b"\r\n") {
        return Step::Forward(line.len());
    }
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
    Step::Consume(line.len())
}

/// Returns whether a line can stand behind a literal (RFC 3501 §9), and is no command for a server that has answered
/// already.
fn continues_command(text: &[u8]) -> bool {
    matches!(text.first(), None | Some(b' ' | b')')) && announced_literal(text).is_ok()
}

/// The responses to commands that do not pass (RFC 5530 §3).
const REFUSED: &str = "NO [NOPERM] refused: delete = false, only what cannot delete passes";
const NOT_A_COMMAND: &str = "BAD refused: delete = false, only commands that are understood pass";

/// The longest line that is read, in octets. A longer one does not pass (RFC 2683 §3.2.1.5 asks for 8000).
const LINE: usize = 8192;

/// The number of octets of responses that may wait; beyond it the device waits.
const QUEUE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::imap::response_frame::PendingCommands;

    /// All that the server hears of `input`, cut at `cut`, until it wants more.
    fn passed(relay: &mut NoDelete, input: &[u8], cut: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut unread = Vec::new();
        for piece in [&input[..cut], &input[cut..]] {
            unread.extend_from_slice(piece);
            loop {
                let step = relay.pass(&unread, &mut Activity::default(), &mut heard).unwrap();
                match step {
                    Step::Forward(count) => heard.extend(unread.drain(..count)),
                    Step::Consume(count) => drop(unread.drain(..count)),
                    Step::Read => break,
                    other => panic!("{other:?}"),
                }
            }
        }
        heard
    }

    #[test]
    fn a_full_queue_stops_the_device_until_it_is_sent() {
        let mut relay = NoDelete::default();
        let many = b"a EXPUNGE\r\n".repeat(1000);
        assert_eq!(passed(&mut relay, &many, 0), b"");
        assert!(relay.is_full() && relay.refusals.len() < QUEUE + 100);
        assert!(!relay.device_goes_first() && relay.waits());
        let mut said = Vec::new();
        assert!(relay.write_refusals(&mut said) && !said.is_empty());
        assert!(relay.device_goes_first(), "what was held back goes on, without another octet from anybody");
        assert!(matches!(relay.pass(b"a NOOP\r\n", &mut Activity::default(), &mut said), Ok(Step::Forward(8))));
        assert!(matches!(relay.pass(b"", &mut Activity::default(), &mut said), Ok(Step::Consume(0))));
        assert!(matches!(relay.pass(b"", &mut Activity::default(), &mut said), Ok(Step::Read)));
        assert!(!relay.write_refusals(&mut said));
    }

    #[test]
    fn commands_that_wait_for_the_server_survive_the_devices_close() {
        for (input, waits) in
            [(&b"a APPEND x {5+}\r\nhello\r\n"[..], true), (b"a IDLE\r\nb NOOP\r\n", true), (b"a EXPUN", false)]
        {
            let mut relay = NoDelete::default();
            passed(&mut relay, input, 0);
            assert_eq!(relay.waits(), waits, "{input:?}");
            if waits {
                // Any answer of the server ends the wait.
                relay.completed(b"a", false);
                assert!(!relay.waits(), "{input:?}");
            }
        }
    }

    #[test]
    fn long_lines_are_refused_with_their_literals() {
        let long = "1".repeat(LINE);
        let input = format!("a FETCH {long} {{11+}}\r\nb EXPUNGE\r\n\r\nc {long}\r\nd NOOP\r\n");
        for cut in (0..input.len()).step_by(97).chain(input.len() - 60..input.len()).chain(LINE..LINE + 60) {
            let mut relay = NoDelete::default();
            assert_eq!(passed(&mut relay, input.as_bytes(), cut), b"d NOOP\r\n", "{cut}");
            assert_eq!(String::from_utf8(relay.refusals).unwrap(), format!("a {REFUSED}\r\nc {REFUSED}\r\n"), "{cut}");
        }
        let fits = format!("a SEARCH {}\r\n", &long[..LINE - 9]);
        assert_eq!(passed(&mut NoDelete::default(), fits.as_bytes(), 5), fits.as_bytes());
    }
}
