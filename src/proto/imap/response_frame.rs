//! The framing of a server's responses after login, at memchr speed. A literal is counted down, and a line is read
//! only at its start and its end. Octets are never gathered; only the start of a line that may need a rewrite waits.

use super::capability;
use super::literal::{Tail, count_down};
use super::response::{CODE, Status};
use crate::failure::Failure;
use crate::proto::line::{Line, word};
use crate::proto::server_refusal::{self, Condition};
use crate::proto::{Action, RESPONSE_LINE, Step};

/// The position of the next octet of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    /// The next octet begins a command or response.
    #[default]
    Start,
    /// Inside a line.
    Line,
    /// Inside a literal, this many octets before its end.
    Literal(u64),
    /// The octets are no longer text that can be framed: everything passes.
    Blind,
}

/// The commands, as far as the framing of the responses depends on them.
pub(super) trait PendingCommands {
    /// Reads that the server has completed the command with this tag, or has sent `*` or `+`. Returns whether nothing
    /// behind this line is text any more.
    fn completed(&mut self, tag: &[u8], ok: bool) -> bool;

    /// Reads that the server has sent BYE, an untagged NO or BAD, a tagged line without a status, or a line of `*`
    /// alone.
    fn unexpected(&mut self) {}

    /// Reads the server's octets from a capability list on, which ends with a bracket or with the line.
    fn announced(&mut self, _octets: &[u8], _in_code: bool) {}

    /// Returns whether a continuation request that comes now answers packetboat, and is not for the device.
    fn is_continued_by_us(&self) -> bool {
        false
    }

    /// Returns whether the responses stop at the next boundary, because something has to happen there.
    fn stops_responses(&self) -> bool {
        false
    }
}

/// The framing of the server's octets.
#[derive(Default)]
pub(super) struct ResponseFrame {
    position: Position,
    /// The line is data, which may hold literals. Status texts may end in braces by chance.
    data: bool,
    /// Whether this line is the last that is text.
    last: bool,
    /// The notice of the line that comes next was given.
    notice_given: bool,
    tail: Tail,
    /// The present response is counted in `fetched`.
    is_counted: bool,
    /// The number of responses that hold a literal. Those are messages, or parts of one.
    fetched: u64,
}

impl ResponseFrame {
    /// Follows the server's octets. Capability lists are rewritten into `out`; all else is forwarded.
    pub(super) fn pass<C: PendingCommands>(&mut self, input: &[u8], commands: &mut C, out: &mut Vec<u8>) -> Step {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            at += match self.position {
                Position::Blind => rest.len(),
                Position::Literal(left) => {
                    let (left, passed) = count_down(left, rest.len());
                    // The response goes on after the literal, if only with its line end.
                    self.position = if left == 0 { Position::Line } else { Position::Literal(left) };
                    passed
                }
                Position::Line => self.line(rest),
                Position::Start if at > 0 && commands.stops_responses() => break,
                Position::Start => match self.start(rest, commands) {
                    Started::Passes(passed) => passed,
                    Started::Wait => break,
                    // The octets before it go first.
                    Started::Ours(_) if at > 0 => break,
                    Started::Ours(ours) => return self.ours(ours, commands, out),
                },
            };
        }
        if at == 0 { Step::Read } else { Step::Forward(at) }
    }

    /// Reads the start of a response, and its first line as far as that is there and passes.
    fn start<'a, C: PendingCommands>(&mut self, rest: &'a [u8], commands: &mut C) -> Started<'a> {
        match ResponseStart::of(rest) {
            ResponseStart::Undecided => Started::Wait,
            ResponseStart::Data => {
                self.data = true;
                self.is_counted = false;
                Started::Passes(self.line(rest))
            }
            ResponseStart::Status { tag: b"+", .. } if commands.is_continued_by_us() => {
                match Line::split(rest, RESPONSE_LINE) {
                    Line::Incomplete => Started::Wait,
                    Line::Complete { len, .. } => Started::Ours(Ours::Continuation(len)),
                    Line::TooLong => Started::Passes(self.status(b"+", false, rest, commands)),
                }
            }
            ResponseStart::Status { notice: Some(notice), .. } if !self.notice_given => {
                Started::Ours(Ours::Notice(notice))
            }
            ResponseStart::Status { tag, ok, is_completion, .. } => {
                self.notice_given = false;
                if !ok && !is_completion {
                    commands.unexpected();
                }
                Started::Passes(self.status(tag, ok, rest, commands))
            }
            ResponseStart::Capability { tag, ok, list, in_code } => {
                let Some(rewrite) = Rewrite::of(rest, list, in_code) else { return Started::Wait };
                if !in_code || ok {
                    commands.announced(rest.get(list..).unwrap_or_default(), in_code);
                } else if tag == b"*" {
                    commands.unexpected();
                }
                match rewrite {
                    Rewrite::Keep => Started::Passes(self.status(tag, ok, rest, commands)),
                    Rewrite::Line(rewritten) => Started::Ours(Ours::Capability { tag, ok, rewritten }),
                }
            }
        }
    }

    /// Handles a line that is addressed to packetboat, or that packetboat rewrites.
    fn ours<C: PendingCommands>(&mut self, ours: Ours<'_>, commands: &mut C, out: &mut Vec<u8>) -> Step {
        match ours {
            Ours::Continuation(len) => {
                commands.completed(b"+", false);
                Step::Consume(len)
            }
            Ours::Notice(notice) => {
                self.notice_given = true;
                Step::Act(0, Action::Notice(notice))
            }
            Ours::Capability { tag, ok, rewritten } => {
                if commands.completed(tag, ok) {
                    self.position = Position::Blind;
                }
                out.extend_from_slice(rewritten.before);
                capability::keep(rewritten.list, out);
                out.extend_from_slice(rewritten.after);
                out.extend_from_slice(b"\r\n");
                Step::Consume(rewritten.len)
            }
        }
    }

    /// Passes the first line of a status response, which holds no literals, as far as it is there.
    fn status<C: PendingCommands>(&mut self, tag: &[u8], ok: bool, rest: &[u8], commands: &mut C) -> usize {
        self.last = commands.completed(tag, ok);
        self.data = false;
        self.line(rest)
    }

    /// Passes the rest of the line, as far as it is there.
    fn line(&mut self, rest: &[u8]) -> usize {
        let end = memchr::memchr(b'\n', rest);
        let passed = end.map_or(rest.len(), |end| end + 1);
        let part = rest.get(..passed).unwrap_or_default();
        self.position = match end {
            Some(_) if self.last => Position::Blind,
            _ if !self.data => end.map_or(Position::Line, |_| Position::Start),
            None => {
                self.tail.push(part);
                Position::Line
            }
            Some(_) => self.tail.end_line(part).map_or(Position::Start, |literal| self.literal(literal.size)),
        };
        passed
    }

    /// Begins a literal, and counts the first of a response.
    fn literal(&mut self, size: u64) -> Position {
        self.fetched += u64::from(!self.is_counted);
        self.is_counted = true;
        Position::Literal(size)
    }

    /// Returns the number of responses that held a literal.
    pub(super) fn fetched(&self) -> u64 {
        self.fetched
    }

    /// Notes that the server has closed in the middle of a line, which passes.
    pub(super) fn break_off(&mut self) {
        if self.position == Position::Start {
            self.position = Position::Line;
        }
    }

    /// Returns whether a line of packetboat's would stand between two responses here.
    pub(super) fn is_between_responses(&self) -> bool {
        self.position == Position::Start
    }
}

/// The start of a response.
#[derive(Debug)]
enum ResponseStart<'a> {
    /// More of the start has to come first.
    Undecided,
    /// `* ...`, which may hold literals.
    Data,
    /// A status response, tagged or not, or a continuation request. It holds no literals. Untagged ones have the tag
    /// `*`, and complete nothing. A tagged line without a status completes nothing that packetboat understands.
    Status { tag: &'a [u8], ok: bool, is_completion: bool, notice: Option<Failure> },
    /// A response with a capability list, which begins at `list`. In a response code it ends with a bracket.
    Capability { tag: &'a [u8], ok: bool, list: usize, in_code: bool },
}

impl<'a> ResponseStart<'a> {
    /// Reads no more than [`BEGINNING`] octets, so that the result does not depend on how much has come.
    fn of(rest: &'a [u8]) -> Self {
        let window = rest.get(..BEGINNING).unwrap_or(rest);
        match window {
            [b'+', ..] => return ResponseStart::Status { tag: b"+", ok: false, is_completion: true, notice: None },
            // FETCH, EXISTS and EXPUNGE are the hot path.
            [b'*', b' ', b'0'..=b'9', ..] => return ResponseStart::Data,
            _ => {}
        }
        let end = memchr::memchr(b'\n', window);
        if end.is_none() && window.len() < BEGINNING {
            return ResponseStart::Undecided;
        }
        let line = window.get(..end.unwrap_or(window.len())).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (tag, text) = word(line);
        let (keyword, text) = word(text);
        let untagged = tag == b"*";
        let status = Status::parse(keyword);
        let is_status = status.is_some()
            || (untagged && (keyword.eq_ignore_ascii_case(b"BYE") || keyword.eq_ignore_ascii_case(b"PREAUTH")));
        if untagged && keyword.eq_ignore_ascii_case(b"CAPABILITY") {
            return ResponseStart::Capability { tag, ok: false, list: b"* CAPABILITY".len(), in_code: false };
        }
        let ok = status == Some(Status::Ok);
        if is_status && text.get(..CODE.len()).is_some_and(|code| code.eq_ignore_ascii_case(CODE)) {
            // The list begins behind the word, before the space.
            let list = tag.len() + 1 + keyword.len() + CODE.len();
            return ResponseStart::Capability { tag, ok, list, in_code: true };
        }
        let is_bare = keyword.is_empty() && text.is_empty();
        if untagged && !is_status && !is_bare {
            return ResponseStart::Data;
        }
        let said = match status {
            Some(Status::No) => Some(Condition::No),
            Some(Status::Bad) => Some(Condition::Bad),
            None if keyword.eq_ignore_ascii_case(b"BYE") => Some(Condition::Bye),
            Some(Status::Ok) | None => None,
        };
        // The whole line counts.
        let notice = said.filter(|_| end.is_some()).and_then(|said| server_refusal::notice(said, text));
        ResponseStart::Status { tag, ok, is_completion: !untagged && status.is_some(), notice }
    }
}

/// The treatment of the start of a response.
enum Started<'a> {
    /// More of it has to come first.
    Wait,
    /// This many octets of it pass.
    Passes(usize),
    /// The line is replaced by our own.
    Ours(Ours<'a>),
}

/// A line that does not go on as it is.
enum Ours<'a> {
    /// A continuation request of this many octets, which answers packetboat.
    Continuation(usize),
    /// A line that an operator should know, before it passes.
    Notice(Failure),
    /// A line with a capability list.
    Capability { tag: &'a [u8], ok: bool, rewritten: Rewritten<'a> },
}

/// The treatment of a line with a capability list.
enum Rewrite<'a> {
    /// The line passes as it is: nothing is to be dropped, or nothing is understood.
    Keep,
    /// The line is written anew.
    Line(Rewritten<'a>),
}

/// A line that is written anew: `before`, what stays of `list`, and `after`, in place of `len` octets.
struct Rewritten<'a> {
    before: &'a [u8],
    list: &'a [u8],
    after: &'a [u8],
    len: usize,
}

impl<'a> Rewrite<'a> {
    /// Reads the line that `rest` begins with, whose list begins at `list_at`. Returns `None` if the line end has not
    /// come.
    fn of(rest: &'a [u8], list_at: usize, in_code: bool) -> Option<Self> {
        let (text, len) = match Line::split(rest, RESPONSE_LINE) {
            Line::Incomplete => return None,
            Line::TooLong => return Some(Rewrite::Keep),
            Line::Complete { text, len } => (text, len),
        };
        Some(Self::of_line(text, len, list_at, in_code).unwrap_or(Rewrite::Keep))
    }

    fn of_line(text: &'a [u8], len: usize, list_at: usize, in_code: bool) -> Option<Self> {
        let (before, list) = text.split_at_checked(list_at)?;
        let (list, after) = if in_code { list.split_at_checked(memchr::memchr(b']', list)?)? } else { (list, &[][..]) };
        (!capability::is_kept_whole(list)).then_some(Rewrite::Line(Rewritten { before, list, after, len }))
    }
}

/// The octets within which a tag and its keyword stand. Tags are short; a longer one is not recognised, and passes.
const BEGINNING: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    struct NoCommands;

    impl PendingCommands for NoCommands {
        fn completed(&mut self, _: &[u8], _: bool) -> bool {
            false
        }
    }

    /// A message in two literals is one message, wherever the input is cut; flags alone are none.
    #[test]
    fn responses_with_literals_are_counted_once() {
        let text = b"* 1 FETCH (BODY[HEADER] {2}\r\nab BODY[TEXT] {3}\r\ncde)\r\n* 2 FETCH (FLAGS ())\r\n\
                     * 3 FETCH (BODY[] {1}\r\nx)\r\na OK done {4}\r\n";
        for cut in 0..=text.len() {
            let (mut frame, mut unread) = (ResponseFrame::default(), Vec::new());
            for part in [&text[..cut], &text[cut..]] {
                unread.extend_from_slice(part);
                while let Step::Forward(count) = frame.pass(&unread, &mut NoCommands, &mut Vec::new()) {
                    unread.drain(..count);
                }
            }
            assert_eq!((frame.fetched(), unread.len()), (2, 0), "{cut}");
        }
    }
}
