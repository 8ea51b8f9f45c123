//! The framing of a device's commands after login, at memchr speed. Octets are never gathered. Where the device's
//! login was translated, the beginning of a line waits until its verb is there.

use super::dropped::{Dropped, Next};
use super::literal::{Literal, Tail, count_down};
use super::relogin::{CommandStart, Refused, RefusedBefore};
use super::response;
use super::response_frame::PendingCommands;
use crate::proto::line::{Head, word};
use crate::proto::{Activity, Relogin, Step, preamble};

/// The framing of the device's octets.
pub(super) struct CommandFrame {
    position: Position,
    relogin: Relogin,
    /// The command that was refused last, and may go on.
    behind: RefusedBefore,
    /// Responses of packetboat's that wait until they can stand between two of the server's.
    refusals: Vec<u8>,
    /// The beginning of the command, as far as tag and verb reach.
    head: Head<HEAD>,
    /// Tag and verb were read already. The same command goes on behind a literal.
    is_read: bool,
    tail: Tail,
    /// The tag of a command whose synchronising literal the server may still refuse.
    awaiting: Option<Box<[u8]>>,
    /// The tag of a COMPRESS that the server has not answered.
    compress: Option<Box<[u8]>>,
}

/// The position of the device's next octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// The next octet begins a command.
    Start,
    /// Inside a line.
    Line,
    /// Inside a literal, this many octets before its end.
    Literal(u64),
    /// The octets follow COMPRESS, and are no longer text that can be framed.
    Blind,
    /// Inside a command that is dropped.
    Dropped(Dropped),
}

impl CommandFrame {
    pub(super) fn new(relogin: Relogin) -> Self {
        Self {
            position: Position::Start,
            relogin,
            behind: RefusedBefore::Nothing,
            refusals: Vec::new(),
            head: Head::default(),
            is_read: false,
            tail: Tail::default(),
            awaiting: None,
            compress: None,
        }
    }

    /// Follows the device's octets. All of them pass, but for logins where those are refused.
    pub(super) fn pass(&mut self, input: &[u8], activity: &mut Activity) -> Step {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            at += match self.position {
                Position::Blind => rest.len(),
                Position::Literal(left) => {
                    // The first octet tells that the server has asked for the literal, or that nobody waits.
                    self.awaiting = None;
                    let (left, passed) = count_down(left, rest.len());
                    // The command goes on after the literal, if only with its line end.
                    self.position = if left == 0 { Position::Line } else { Position::Literal(left) };
                    passed
                }
                Position::Start if self.relogin == Relogin::Refused && rest.first() == Some(&0) => {
                    // NULs are dropped, as before the login.
                    if at > 0 {
                        break;
                    }
                    return Step::Consume(preamble::nuls(rest));
                }
                Position::Start if self.relogin == Relogin::Refused => match CommandStart::of(rest, self.behind) {
                    CommandStart::Passes => {
                        self.behind = RefusedBefore::Nothing;
                        self.line(rest, activity)
                    }
                    CommandStart::Undecided => break,
                    CommandStart::Refused(_) if at > 0 || self.is_full() => break,
                    CommandStart::Refused(refused) => {
                        activity.commands += 1;
                        return self.refuse(&refused, rest);
                    }
                },
                Position::Start | Position::Line => self.line(rest, activity),
                Position::Dropped(_) if at > 0 => break,
                Position::Dropped(dropped) => return self.drop_command(dropped, rest),
            };
        }
        if at == 0 { Step::Read } else { Step::Forward(at) }
    }

    /// Writes the responses that have been waiting.
    pub(super) fn write_refusals(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.refusals);
    }

    /// Returns whether responses of packetboat's wait.
    pub(super) fn has_refusals(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// Returns whether the device's next octet begins a command, and none before it is unfinished or unanswered.
    pub(super) fn is_between_commands(&self) -> bool {
        self.position == Position::Start && self.behind == RefusedBefore::Nothing && self.refusals.is_empty()
    }

    /// Returns whether the device waits until some of them are written.
    pub(super) fn is_full(&self) -> bool {
        self.refusals.len() > QUEUE
    }

    /// Returns whether octets that the device has left behind may pass unread.
    pub(super) fn forwards_leftover(&self) -> bool {
        self.relogin == Relogin::Allowed
    }

    /// Passes the rest of the line, as far as it is there.
    fn line(&mut self, rest: &[u8], activity: &mut Activity) -> usize {
        let end = memchr::memchr(b'\n', rest);
        let passed = end.map_or(rest.len(), |end| end + 1);
        let part = rest.get(..passed).unwrap_or_default();
        if !self.is_read {
            self.head.push(part);
        }
        self.position = if end.is_some() {
            self.line_ended(part, activity)
        } else {
            self.tail.push(part);
            Position::Line
        };
        passed
    }

    /// Reads the end of a line. `part` is the last part of it.
    fn line_ended(&mut self, part: &[u8], activity: &mut Activity) -> Position {
        let (tag, rest) = word(self.head.octets());
        if !self.is_read {
            let verb = word(rest).0.trim_ascii_end();
            // DONE (RFC 2177 §3) and an empty line have no verb, and are no commands.
            activity.commands += u64::from(!verb.is_empty());
            activity.has_logged_out |= verb.eq_ignore_ascii_case(b"LOGOUT");
            if verb.eq_ignore_ascii_case(b"COMPRESS") {
                self.compress = Some(Box::from(tag));
            }
        }
        if let Some(Literal { size, synchronising }) = self.tail.end_line(part) {
            self.awaiting = synchronising.then(|| Box::from(tag));
            self.is_read = true;
            Position::Literal(size)
        } else {
            self.head.clear();
            self.is_read = false;
            Position::Start
        }
    }

    fn refuse(&mut self, refused: &Refused<'_>, input: &[u8]) -> Step {
        response::tagged(&mut self.refusals, refused.tag, refused.text);
        if refused.goes_on || self.behind != RefusedBefore::Nothing {
            self.behind = RefusedBefore::Login;
        }
        self.drop_command(Dropped::Line, input)
    }

    fn drop_command(&mut self, dropped: Dropped, input: &[u8]) -> Step {
        let (len, next) = dropped.drop(&mut self.tail, input);
        self.position = match next {
            Next::More(dropped) => Position::Dropped(dropped),
            Next::Command(announced) => {
                if let (Some(size), true) = (announced, self.behind != RefusedBefore::Nothing) {
                    self.behind = RefusedBefore::Literal(size);
                }
                Position::Start
            }
        };
        Step::Consume(len)
    }
}

impl PendingCommands for CommandFrame {
    /// Reads the completion of a command. A literal that was still to come does not come any more. Behind an OK to
    /// COMPRESS nothing is text any more (RFC 4978 §3).
    fn completed(&mut self, tag: &[u8], ok: bool) -> bool {
        if self.awaiting.as_deref() == Some(tag) {
            self.awaiting = None;
            self.head.clear();
            self.is_read = false;
            self.position = Position::Start;
        }
        let was_compress = self.compress.take_if(|compress| **compress == *tag).is_some();
        if was_compress && ok {
            self.position = Position::Blind;
        }
        was_compress && ok
    }

    fn stops_responses(&self) -> bool {
        self.has_refusals()
    }
}

const HEAD: usize = 80;

/// The number of octets of responses that may wait; beyond it the device waits.
const QUEUE: usize = 4096;
