//! The framing after login: which response belongs to which command, and where a multi-line response ends (RFC 1939
//! §3). Octets are never gathered or unstuffed; a message body is searched for its terminator at memmem speed.

use std::collections::VecDeque;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::capability;
use super::command_line::CommandLine;
use super::relogin::CommandStart;
use crate::proto::line::Line;
use crate::proto::server_refusal::{self, Condition};
use crate::proto::{Action, Activity, Offer, RESPONSE_LINE, Relogin, Step, preamble};

/// The framing of both directions after login.
pub(super) struct Frame {
    offer: Offer,
    relogin: Relogin,
    /// A login was refused, and more of it may follow.
    behind_login: bool,
    /// The responses that the device has still to get, in order.
    expected: VecDeque<Answer>,
    /// The command that is being read.
    line: CommandLine,
    /// The rest of the line is dropped.
    is_dropping: bool,
    position: Position,
    /// The notice of the response that comes next was given.
    notice_given: bool,
}

/// The forms of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// One line.
    Single,
    /// A line, and if it is +OK more lines until `.`.
    Multi,
    /// A multi-line response that is a capability list, and is rewritten.
    Capa,
    /// One line of packetboat's: the server has not received the command.
    Refused,
}

/// The position of the server's next octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// The next octet begins a response.
    Start,
    /// Inside its first line; then this form follows.
    Status(Option<Answer>),
    /// Inside a multi-line response; this much of the terminator has come.
    Body(usize),
    /// The next octet begins a line of a capability list.
    Capa,
    /// The octets cannot be framed: everything passes. At the start of a line, or not.
    Blind { at_start: bool },
}

impl Frame {
    pub(super) fn new(offer: Offer, relogin: Relogin) -> Self {
        Self {
            offer,
            relogin,
            behind_login: false,
            expected: VecDeque::new(),
            line: CommandLine::default(),
            is_dropping: false,
            position: Position::Start,
            notice_given: false,
        }
    }

    /// Follows the device's octets. All of them pass, but for logins where those are refused, and unless the device
    /// has pipelined more than was answered.
    pub(super) fn commands(&mut self, input: &[u8], activity: &mut Activity) -> Step {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            if self.is_full() {
                break;
            }
            let end = memchr::memchr(b'\n', rest);
            let passed = end.map_or(rest.len(), |end| end + 1);
            if self.is_dropping {
                if at == 0 {
                    self.is_dropping = end.is_none();
                    return Step::Consume(passed);
                }
                break;
            }
            if self.relogin == Relogin::Refused && self.line.is_at_start() {
                if rest.first() == Some(&0) {
                    // NULs are dropped, as before the login.
                    if at == 0 {
                        return Step::Consume(preamble::nuls(rest));
                    }
                    break;
                }
                match CommandStart::of(rest, self.behind_login) {
                    CommandStart::Undecided => break,
                    CommandStart::Refused if at > 0 => break,
                    CommandStart::Refused => {
                        self.is_dropping = end.is_none();
                        self.refuse(activity);
                        return Step::Consume(passed);
                    }
                    CommandStart::Passes => self.behind_login = false,
                }
            }
            self.line.push(rest.get(..passed).unwrap_or_default());
            at += passed;
            if end.is_some() {
                if !matches!(self.position, Position::Blind { .. }) {
                    self.expected.push_back(Answer::to(&self.line));
                }
                activity.commands += 1;
                activity.fetched += u64::from(self.line.is(b"RETR"));
                activity.has_logged_out |= self.line.is(b"QUIT") && self.line.is_bare();
                self.line = CommandLine::default();
            }
        }
        if at > 0 { Step::Forward(at) } else { Step::Read }
    }

    /// Answers a command in place of the server, once all before it are answered. Returns whether there is room for
    /// the response; without it the command has to wait.
    pub(super) fn refuse(&mut self, activity: &mut Activity) -> bool {
        if self.is_full() {
            return false;
        }
        self.behind_login = true;
        self.expected.push_back(Answer::Refused);
        activity.commands += 1;
        true
    }

    /// Returns whether the next response is packetboat's.
    pub(super) fn answers_next(&self) -> bool {
        matches!(self.position, Position::Start | Position::Blind { at_start: true })
            && self.expected.front() == Some(&Answer::Refused)
    }

    /// Returns whether responses of packetboat's, or the device's octets, wait for the end of a response.
    pub(super) fn waits(&self) -> bool {
        !matches!(self.position, Position::Start) && (self.is_full() || self.expected.contains(&Answer::Refused))
    }

    /// Returns whether the server's next octet begins a response.
    pub(super) fn is_between_responses(&self) -> bool {
        self.position == Position::Start
    }

    /// Returns whether octets that the device has left behind may pass unread.
    pub(super) fn forwards_leftover(&self) -> bool {
        self.relogin == Relogin::Allowed
    }

    /// Returns whether the server has to answer before another command passes.
    pub(super) fn is_full(&self) -> bool {
        self.expected.len() >= PIPELINE
    }

    /// Notes that the server has closed in the middle of a line, which passes.
    pub(super) fn break_off(&mut self) {
        if self.position == Position::Start {
            self.position = Position::Status(None);
        }
    }

    /// Follows the server's octets. A capability list is rewritten line by line; all else is forwarded.
    pub(super) fn responses(&mut self, input: &[u8], out: &mut Vec<u8>) -> Step {
        if self.answers_next() {
            while self.expected.pop_front_if(|answer| *answer == Answer::Refused).is_some() {
                out.extend_from_slice(LOGGED_IN);
            }
            return Step::Consume(0);
        }
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            let part = match self.position {
                // Something passes before it; else it would have been sent above.
                Position::Start | Position::Blind { at_start: true } if self.answers_next() => Part::Wait,
                Position::Blind { .. } => Part::Passes(self.pass_unframed(rest)),
                Position::Start => self.start(rest, at == 0),
                Position::Status(then) => Part::Passes(self.status(then, rest)),
                Position::Body(seen) => {
                    let (position, passed) = body(seen, rest);
                    self.position = position;
                    Part::Passes(passed)
                }
                Position::Capa => self.capability_line(rest, at == 0, out),
            };
            match part {
                Part::Passes(passed) => at += passed,
                Part::Wait => break,
                Part::Step(step) => return step,
            }
        }
        if at == 0 { Step::Read } else { Step::Forward(at) }
    }

    /// Reads the start of a response. `is_first` is true if nothing passes before it.
    fn start(&mut self, rest: &[u8], is_first: bool) -> Part {
        let Some(indicator) = indicator(rest) else { return Part::Wait };
        if indicator == Indicator::Other {
            self.go_blind();
            return Part::Passes(self.pass_unframed(rest));
        }
        if indicator == Indicator::Err && !self.notice_given {
            let Some(text) = refusal_text(rest) else { return Part::Wait };
            match server_refusal::notice(Condition::Err, text) {
                Some(_) if !is_first => return Part::Wait,
                Some(notice) => {
                    self.notice_given = true;
                    return Part::Step(Step::Act(0, Action::Notice(notice)));
                }
                None => {}
            }
        }
        self.notice_given = false;
        let answer = self.expected.pop_front().unwrap_or(Answer::Single);
        self.position = Position::Status(match (indicator, answer) {
            (Indicator::Ok, Answer::Multi | Answer::Capa) => Some(answer),
            _ => None,
        });
        Part::Passes(0)
    }

    /// Passes the first line of a response, as far as it is there. `then` is the form of what follows it.
    fn status(&mut self, then: Option<Answer>, rest: &[u8]) -> usize {
        let end = memchr::memchr(b'\n', rest);
        if end.is_some() {
            self.position = match then {
                None | Some(Answer::Single | Answer::Refused) => Position::Start,
                // The line end just passed is the first half of a terminator.
                Some(Answer::Multi) => Position::Body(2),
                Some(Answer::Capa) => Position::Capa,
            };
        }
        end.map_or(rest.len(), |end| end + 1)
    }

    /// Reads a line of a capability list. `is_first` is true if nothing passes before it.
    fn capability_line(&mut self, rest: &[u8], is_first: bool, out: &mut Vec<u8>) -> Part {
        match Line::split(rest, RESPONSE_LINE) {
            Line::Incomplete => Part::Wait,
            Line::TooLong => {
                self.go_blind();
                Part::Passes(self.pass_unframed(rest))
            }
            Line::Complete { text, len } if capability::is_kept(text) => Part::Passes(len),
            // Packetboat writes or drops this line. Octets before it pass first.
            Line::Complete { .. } if !is_first => Part::Wait,
            Line::Complete { text: b".", len } => {
                capability::logins(&self.offer, out);
                self.position = Position::Start;
                Part::Passes(len)
            }
            Line::Complete { len, .. } => Part::Step(Step::Consume(len)),
        }
    }

    /// Passes everything, up to a line's end where a response of packetboat's waits for one.
    fn pass_unframed(&mut self, rest: &[u8]) -> usize {
        let end = if self.expected.is_empty() { None } else { memchr::memchr(b'\n', rest).map(|end| end + 1) };
        let passed = end.unwrap_or(rest.len());
        self.position = Position::Blind { at_start: rest.get(..passed).is_some_and(|part| part.ends_with(b"\n")) };
        passed
    }

    fn go_blind(&mut self) {
        self.position = Position::Blind { at_start: true };
        // Responses can no longer be assigned to commands.
        self.expected.retain(|answer| *answer == Answer::Refused);
    }
}

impl Answer {
    /// Returns the form of the response to a command (RFC 1939 §5, RFC 2449 §5, RFC 6856 §3).
    fn to(command: &CommandLine) -> Self {
        let is_one_of = |keywords: &[&[u8]]| keywords.iter().any(|keyword| command.is(keyword));
        if command.is(b"CAPA") {
            Answer::Capa
        } else if is_one_of(&[b"RETR", b"TOP"]) || (command.is_bare() && is_one_of(LISTS)) {
            Answer::Multi
        } else {
            Answer::Single
        }
    }
}

/// Commands whose response has many lines if they have no argument.
const LISTS: &[&[u8]] = &[b"LIST", b"UIDL", b"LANG", b"AUTH"];

/// The treatment of the server's next octets.
enum Part {
    /// This many octets pass.
    Passes(usize),
    /// The octets wait until those before them have passed, or until more have come.
    Wait,
    /// The step is this one.
    Step(Step),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Indicator {
    Ok,
    Err,
    Other,
}

/// Reads the status indicator that a response begins with, once enough of it is there.
fn indicator(rest: &[u8]) -> Option<Indicator> {
    let begins = |word: &[u8]| rest.iter().zip(word).all(|(have, want)| have.eq_ignore_ascii_case(want));
    match (begins(b"+OK"), begins(b"-ERR")) {
        (true, _) => (rest.len() >= 3).then_some(Indicator::Ok),
        (_, true) => (rest.len() >= 4).then_some(Indicator::Err),
        (false, false) => Some(Indicator::Other),
    }
}

/// Reads the text of a negative response, once it is there. It is empty for a line that is longer than allowed (RFC
/// 2449 §4: no more than 512 octets).
fn refusal_text(rest: &[u8]) -> Option<&[u8]> {
    let window = rest.get(..REFUSAL).unwrap_or(rest);
    match memchr::memchr(b'\n', window) {
        Some(end) => window.get(b"-ERR".len()..end),
        None => (window.len() == REFUSAL).then_some(&[]),
    }
}

/// Passes a multi-line response up to and with its terminator. `seen` octets of that came before `rest`.
fn body(mut seen: usize, rest: &[u8]) -> (Position, usize) {
    let mut at = 0;
    // A read may have cut the terminator: here it is read octet by octet.
    while seen > 0 {
        let Some(&octet) = rest.get(at) else { return (Position::Body(seen), at) };
        seen = advance(seen, octet);
        at += 1;
        if seen == TERMINATOR.len() {
            return (Position::Start, at);
        }
    }
    let scanned = rest.get(at..).unwrap_or_default();
    if let Some(found) = FINDER.find(scanned) {
        return (Position::Start, at + found + TERMINATOR.len());
    }
    let last = scanned.get(scanned.len().saturating_sub(TERMINATOR.len() - 1)..).unwrap_or_default();
    (Position::Body(last.iter().fold(0, |seen, &octet| advance(seen, octet))), rest.len())
}

/// Returns how much of the terminator has come after one octet more (the automaton of Knuth, Morris and Pratt).
fn advance(seen: usize, octet: u8) -> usize {
    if TERMINATOR.get(seen) == Some(&octet) { seen + 1 } else { usize::from(octet == b'\r') }
}

/// The terminator: CRLF, then a line of one dot (RFC 1939 §3). A lone LF ends nothing.
const TERMINATOR: &[u8] = b"\r\n.\r\n";
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(TERMINATOR));

/// The number of commands that may wait for their responses.
const PIPELINE: usize = 4096;

const REFUSAL: usize = 512;

/// The response to commands that belong to the state before the login (RFC 1939 §4).
const LOGGED_IN: &[u8] = b"-ERR already logged in\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetched_messages_are_counted() {
        let offer = Offer { encrypted: true, starttls: false, plaintext_login: false, xoauth2: false, ..Offer::NONE };
        let mut frame = Frame::new(offer, Relogin::Allowed);
        let mut activity = Activity::default();
        for part in [&b"STAT\r\nRETR 1\r\nret"[..], b"r 2\r\nTOP 1 0\r\nRETRY\r\n"] {
            assert!(matches!(frame.commands(part, &mut activity), Step::Forward(count) if count == part.len()));
        }
        assert_eq!((activity.fetched, activity.commands), (2, 5));
    }
}
