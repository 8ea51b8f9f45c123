//! Framing after login, at memchr speed: a literal is a number counted down, a line is looked at only at its start
//! and its end. Octets are never gathered; only an unfinished line start that may need a rewrite is held back.

use super::capability;
use super::response::{CODE, Status};
use crate::failure::Failure;
use crate::proto::line::{Head, Line, word};
use crate::proto::{RESPONSE_LINE, Step, refusal};

/// Where the next octet of a stream stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    /// At the start of a command or response.
    #[default]
    Start,
    /// Inside a line.
    Line,
    /// Inside a literal, this many octets before its end.
    Literal(u64),
    /// No longer text that we can frame: everything passes.
    Blind,
}

/// Framing of what the device sends.
#[derive(Default)]
pub(super) struct CommandFrame {
    position: Position,
    /// The beginning of the command, as far as tag and verb reach.
    head: Head<HEAD>,
    /// Tag and verb were read already; what goes on is the same command, behind a literal.
    is_read: bool,
    tail: Tail,
    /// The tag of a command whose synchronising literal the server may still refuse.
    awaiting: Option<Box<[u8]>>,
    /// The tag of a COMPRESS that the server has not answered.
    compress: Option<Box<[u8]>>,
}

/// What was seen in a stretch of commands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) commands: u64,
    pub(super) logout: bool,
}

impl CommandFrame {
    /// Follows the device's octets; all of them pass.
    pub(super) fn pass(&mut self, mut input: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while !input.is_empty() {
            let passed = match self.position {
                Position::Blind => input.len(),
                Position::Literal(left) => {
                    // Its first octet says that the server has asked for it, or that nobody waits.
                    self.awaiting = None;
                    let (position, passed) = count_down(left, input.len());
                    self.position = position;
                    passed
                }
                Position::Start | Position::Line => {
                    let end = memchr::memchr(b'\n', input);
                    let passed = end.map_or(input.len(), |end| end + 1);
                    let part = input.get(..passed).unwrap_or_default();
                    if !self.is_read {
                        self.head.push(part);
                    }
                    self.position = if end.is_some() {
                        self.line_ended(part, &mut seen)
                    } else {
                        self.tail.push(part);
                        Position::Line
                    };
                    passed
                }
            };
            input = input.get(passed..).unwrap_or_default();
        }
        seen
    }

    /// The line is whole; `part` is what came of it last.
    fn line_ended(&mut self, part: &[u8], seen: &mut Seen) -> Position {
        let (tag, rest) = word(self.head.octets());
        if !self.is_read {
            let verb = word(rest).0.trim_ascii_end();
            // DONE (RFC 2177 §3) and an empty line have no verb: they are not commands.
            seen.commands += u64::from(!verb.is_empty());
            seen.logout |= verb.eq_ignore_ascii_case(b"LOGOUT");
            if verb.eq_ignore_ascii_case(b"COMPRESS") {
                self.compress = Some(Box::from(tag));
            }
        }
        if let Some((size, synchronising)) = self.tail.end_line(part) {
            self.awaiting = synchronising.then(|| Box::from(tag));
            self.is_read = true;
            Position::Literal(size)
        } else {
            self.head.clear();
            self.is_read = false;
            Position::Start
        }
    }
}

impl Commands for CommandFrame {
    /// If its literal was still to come, it is not coming; if it was COMPRESS and is OK, nothing behind this line is text
    /// any more (RFC 4978 §3).
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
}

/// The commands, as far as the framing of the responses has to do with them.
pub(super) trait Commands {
    /// The server has completed the command with this tag, or has said `*` or `+`. Whether nothing behind this line is
    /// text any more.
    fn completed(&mut self, tag: &[u8], ok: bool) -> bool;

    /// Whether a continuation request that comes now is an answer to us, and not for the device.
    fn is_continued_by_us(&self) -> bool {
        false
    }

    /// Whether the responses stop at the next boundary, because something is to happen there.
    fn stops_responses(&self) -> bool {
        false
    }
}

/// Framing of what the server sends.
#[derive(Default)]
pub(super) struct ResponseFrame {
    position: Position,
    /// The line is data, which may hold literals; status texts may end in braces by chance.
    data: bool,
    /// Behind this line nothing is text any more.
    last: bool,
    /// The line that comes next has been told of.
    told: bool,
    tail: Tail,
}

impl ResponseFrame {
    /// Follows the server's octets. Capability lists are rewritten into `out`; all else is forwarded.
    pub(super) fn pass<C: Commands>(&mut self, input: &[u8], commands: &mut C, out: &mut Vec<u8>) -> Step {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            at += match self.position {
                Position::Blind => rest.len(),
                Position::Literal(left) => {
                    let (position, passed) = count_down(left, rest.len());
                    self.position = position;
                    passed
                }
                Position::Line => self.line(rest),
                Position::Start if at > 0 && commands.stops_responses() => break,
                Position::Start => match Start::of(rest) {
                    Start::Undecided => break,
                    Start::Status { tag: b"+", .. } if commands.is_continued_by_us() => {
                        match Line::split(rest, RESPONSE_LINE) {
                            Line::Incomplete => break,
                            Line::Complete { .. } if at > 0 => break,
                            Line::Complete { len, .. } => {
                                commands.completed(b"+", false);
                                return Step::Consume(len);
                            }
                            Line::TooLong => {
                                commands.completed(b"+", false);
                                self.data = false;
                                self.line(rest)
                            }
                        }
                    }
                    Start::Data => {
                        self.data = true;
                        self.line(rest)
                    }
                    Start::Status { notice: Some(notice), .. } if !self.told => {
                        if at > 0 {
                            break;
                        }
                        self.told = true;
                        return Step::Notice(notice);
                    }
                    Start::Status { tag, ok, .. } => {
                        self.told = false;
                        self.last = commands.completed(tag, ok);
                        self.data = false;
                        self.line(rest)
                    }
                    Start::Capability { tag, ok, list, in_code } => match rewritten(rest, list, in_code) {
                        Rewrite::Incomplete => break,
                        Rewrite::None => {
                            self.last = commands.completed(tag, ok);
                            self.data = false;
                            self.line(rest)
                        }
                        Rewrite::Line { .. } if at > 0 => break,
                        Rewrite::Line { before, list, after, len } => {
                            if commands.completed(tag, ok) {
                                self.position = Position::Blind;
                            }
                            out.extend_from_slice(before);
                            capability::keep(list, out);
                            out.extend_from_slice(after);
                            out.extend_from_slice(b"\r\n");
                            return Step::Consume(len);
                        }
                    },
                },
            };
        }
        if at == 0 { Step::Read } else { Step::Forward(at) }
    }

    /// Passes the line's rest, as far as it is there.
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
            Some(_) => self.tail.end_line(part).map_or(Position::Start, |(size, _)| Position::Literal(size)),
        };
        passed
    }

    /// Whether a line of our own would stand between two responses here.
    pub(super) fn is_between_responses(&self) -> bool {
        self.position == Position::Start
    }
}

/// How a response begins.
#[derive(Debug)]
enum Start<'a> {
    /// The rest of the beginning has to come first.
    Undecided,
    /// `* ...`, which may hold literals.
    Data,
    /// A status response, tagged or not, or a continuation request: no literals. Untagged ones have the tag `*`.
    Status { tag: &'a [u8], ok: bool, notice: Option<Failure> },
    /// A capability list begins at `list`; in a response code it ends with a bracket.
    Capability { tag: &'a [u8], ok: bool, list: usize, in_code: bool },
}

impl<'a> Start<'a> {
    /// Looks at no more than [`BEGINNING`] octets, so that the answer does not depend on how much has come.
    fn of(rest: &'a [u8]) -> Self {
        let window = rest.get(..BEGINNING).unwrap_or(rest);
        match window {
            [b'+', ..] => return Start::Status { tag: b"+", ok: false, notice: None },
            // The hot path: FETCH, EXISTS, EXPUNGE.
            [b'*', b' ', b'0'..=b'9', ..] => return Start::Data,
            _ => {}
        }
        let end = memchr::memchr(b'\n', window);
        if end.is_none() && window.len() < BEGINNING {
            return Start::Undecided;
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
            return Start::Capability { tag, ok: false, list: b"* CAPABILITY".len(), in_code: false };
        }
        let ok = status == Some(Status::Ok);
        if is_status && text.get(..CODE.len()).is_some_and(|code| code.eq_ignore_ascii_case(CODE)) {
            // Behind the word, before the space.
            let list = tag.len() + 1 + keyword.len() + CODE.len();
            return Start::Capability { tag, ok, list, in_code: true };
        }
        if untagged && !is_status {
            return Start::Data;
        }
        Start::Status { tag, ok, notice: if ok { None } else { refusal::notice(text) } }
    }
}

/// What becomes of a line with a capability list.
enum Rewrite<'a> {
    /// Its end has not come.
    Incomplete,
    /// It passes as it is: nothing to drop, or nothing that we understand.
    None,
    /// `before`, what is kept of `list`, `after`, in place of `len` octets.
    Line { before: &'a [u8], list: &'a [u8], after: &'a [u8], len: usize },
}

fn rewritten(rest: &[u8], list_at: usize, in_code: bool) -> Rewrite<'_> {
    let (text, len) = match Line::split(rest, RESPONSE_LINE) {
        Line::Incomplete => return Rewrite::Incomplete,
        Line::TooLong => return Rewrite::None,
        Line::Complete { text, len } => (text, len),
    };
    let Some((before, list)) = text.split_at_checked(list_at) else { return Rewrite::None };
    let (list, after) = if in_code {
        match memchr::memchr(b']', list).and_then(|end| list.split_at_checked(end)) {
            Some(parts) => parts,
            None => return Rewrite::None,
        }
    } else {
        (list, &[][..])
    };
    if capability::is_kept_whole(list) { Rewrite::None } else { Rewrite::Line { before, list, after, len } }
}

fn count_down(left: u64, available: usize) -> (Position, usize) {
    let passed = usize::try_from(left).unwrap_or(usize::MAX).min(available);
    let left = left.saturating_sub(passed as u64);
    // Behind the literal the same command or response goes on, if only with its line end.
    (if left == 0 { Position::Line } else { Position::Literal(left) }, passed)
}

/// The size that a line announces at its end, and whether its sender waits for a `+`: `{n}`, `{n+}` (RFC 3501 §4.3,
/// RFC 7888 §4). The line comes without its line end.
pub(super) fn literal_at_end(line: &[u8]) -> Option<(u64, bool)> {
    let inner = line.strip_suffix(b"}")?;
    let (inner, synchronising) = match inner.strip_suffix(b"+") {
        Some(inner) => (inner, false),
        None => (inner, true),
    };
    let digits = inner.get(memchr::memrchr(b'{', inner)? + 1..)?;
    if digits.is_empty() || digits.len() > LONGEST_NUMBER {
        return None;
    }
    let mut size = 0_u64;
    for &octet in digits {
        size = size.checked_mul(10)?.checked_add(u64::from(octet.checked_sub(b'0').filter(|digit| *digit < 10)?))?;
    }
    Some((size, synchronising))
}

/// The last octets of a line, kept across reads: enough for a literal's announcement and the line end.
#[derive(Clone, Copy, Default)]
pub(super) struct Tail {
    octets: [u8; TAIL],
    len: usize,
}

impl Tail {
    pub(super) fn push(&mut self, part: &[u8]) {
        if let Some(end) = part.len().checked_sub(TAIL).and_then(|start| part.get(start..)) {
            self.octets.copy_from_slice(end);
            self.len = TAIL;
            return;
        }
        let drop = (self.len + part.len()).saturating_sub(TAIL);
        self.octets.copy_within(drop.., 0);
        self.len -= drop;
        for (slot, &octet) in self.octets.iter_mut().skip(self.len).zip(part) {
            *slot = octet;
        }
        self.len += part.len();
    }

    /// The last part of a line, with its line end: the literal that the line announces. Empties the tail.
    pub(super) fn end_line(&mut self, part: &[u8]) -> Option<(u64, bool)> {
        // Most lines come whole, and are looked at where they are.
        let line = if self.len == 0 {
            part
        } else {
            self.push(part);
            self.octets.get(..self.len)?
        };
        let line = line.strip_suffix(b"\n")?;
        let literal = literal_at_end(line.strip_suffix(b"\r").unwrap_or(line));
        self.len = 0;
        literal
    }
}

/// Tags are short; one that does not fit beside its keyword within this is not recognised, and passes.
const BEGINNING: usize = 300;
const HEAD: usize = 80;
/// `{`, 20 digits, `+}`, CRLF.
const TAIL: usize = 25;
const LONGEST_NUMBER: usize = 20;
