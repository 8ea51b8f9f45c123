//! The record of a session whose connection may be parked: it knows at LOGOUT whether device and server are in step, and
//! whether the connection bears the marks of this device.
//!
//! It follows the octets that the server gets, whoever wrote them, and the completions that the server sends. Once
//! something is not understood, the connection is not parked any more. The device never notices.

use super::literal::{Literal, count_down};
use super::response_frame::PendingCommands;
use super::tag;
use crate::proto::line::word;
use crate::proto::parking::ParkedState;

#[cfg(test)]
mod tests;

/// The record of one session.
pub(super) struct InStep {
    position: Position,
    /// The present line of a command, where it did not come whole.
    line: Vec<u8>,
    /// The commands without their tagged response.
    open: Vec<Open>,
    /// The literal that the server has not asked for yet.
    awaited: bool,
    may_be_selected: bool,
    /// The capability list of the connection, as the server sent it after the login.
    capability: Option<Vec<u8>>,
    is_lost: bool,
}

/// The position of the next octet for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// The next octet begins a command.
    Start,
    /// The next octet belongs to a line that goes on.
    Line,
    /// Inside a literal, this many octets before its end.
    Literal(u64),
}

/// A command that the server has not completed.
struct Open {
    tag: Box<[u8]>,
    effect: Effect,
    /// The device has not waited until the server asked for a literal.
    has_unasked: bool,
    /// The command succeeds at every connection that has its mailbox.
    is_sure: bool,
}

/// The effect of a command on what a connection keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    /// A mailbox is selected.
    Selects,
    /// No mailbox is selected any more.
    Unselects,
    /// The server takes DONE alone. True once it has asked for that.
    Idles(bool),
}

/// A command line of the device that may be LOGOUT.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Logout<'a> {
    /// The line is something else, or not LOGOUT alone.
    No,
    /// The line's end has to come.
    Incomplete,
    /// The whole line, with its tag.
    Whole(&'a [u8]),
}

impl InStep {
    /// The record of a connection that has just logged in, with the list that the server has volunteered.
    pub(super) fn new(capability: Option<Vec<u8>>) -> Self {
        Self {
            position: Position::Start,
            line: Vec::new(),
            open: Vec::new(),
            awaited: false,
            may_be_selected: false,
            capability,
            is_lost: false,
        }
    }

    /// Returns whether every command has its tagged response, and nothing was said that stays in the connection.
    pub(super) fn is_in_step(&self) -> bool {
        !self.is_lost && self.open.is_empty() && !self.awaited && self.position == Position::Start
    }

    /// The state of the connection, for the next login.
    pub(super) fn state(&mut self) -> ParkedState {
        ParkedState { capability: self.capability.take(), may_be_selected: self.may_be_selected }
    }

    /// Returns the number of octets up to the end of the first line or literal.
    fn first_piece(&self, input: &[u8]) -> usize {
        match self.position {
            Position::Literal(left) => count_down(left, input.len()).1,
            Position::Start | Position::Line => memchr::memchr(b'\n', input).map_or(input.len(), |end| end + 1),
        }
    }

    /// Follows octets that go to the server.
    pub(super) fn sent(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() && !self.is_lost {
            let count = self.first_piece(octets).max(1).min(octets.len());
            let (piece, rest) = octets.split_at(count);
            octets = rest;
            match self.position {
                Position::Literal(left) => {
                    // A device that does not wait may be refused, and then its literal is read as commands.
                    self.is_lost |= self.awaited;
                    let (left, _) = count_down(left, piece.len());
                    self.position = if left == 0 { Position::Line } else { Position::Literal(left) };
                }
                Position::Start | Position::Line => self.line(piece),
            }
        }
    }

    /// Follows a part of a line, up to its end at most.
    fn line(&mut self, part: &[u8]) {
        // A device that does not wait may be refused, and then the rest is read as commands.
        self.is_lost |= self.awaited;
        let is_first = self.position == Position::Start && self.line.is_empty();
        if !part.ends_with(b"\n") || !self.line.is_empty() {
            self.line.extend_from_slice(part);
        }
        if self.line.len() > LONGEST_LINE {
            self.line = Vec::new();
            return self.is_lost = true;
        }
        if !part.ends_with(b"\n") {
            return;
        }
        let gathered = std::mem::take(&mut self.line);
        let line = if gathered.is_empty() { part } else { gathered.as_slice() };
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let begins = self.position == Position::Start;
        debug_assert!(!is_first || begins);
        // Some servers end a line at a CR, or read nothing behind a NUL.
        if changes_syntax(line) || memchr::memchr2(b'\r', 0, line).is_some() {
            self.is_lost = true;
        } else if begins {
            self.begin(line);
        }
        self.position = match Literal::at_end_of(line) {
            Some(Literal { size, synchronising }) => {
                self.awaited = synchronising;
                if let Some(open) = self.open.last_mut() {
                    open.has_unasked |= !synchronising;
                }
                if size == 0 { Position::Line } else { Position::Literal(size) }
            }
            None => Position::Start,
        };
    }

    /// Reads the first line of a command.
    fn begin(&mut self, line: &[u8]) {
        if let Some(idle) = self.open.iter().position(|open| matches!(open.effect, Effect::Idles(_))) {
            // Nothing but DONE, and that once (RFC 2177 §3).
            let is_done = line.eq_ignore_ascii_case(b"DONE") && self.open.len() == idle + 1;
            match self.open.get_mut(idle) {
                Some(open) if is_done && open.effect == Effect::Idles(true) => open.effect = Effect::Nothing,
                _ => self.is_lost = true,
            }
            return;
        }
        let (tag, rest) = word(line);
        let (verb, arguments) = word(rest);
        // What follows a command that has no arguments may be read as commands.
        let is_whole = arguments.is_empty() || !ALONE.iter().any(|one| verb.eq_ignore_ascii_case(one.as_bytes()));
        let is_new = is_whole && tag::strict(tag) != tag::UNTAGGED && self.open.iter().all(|open| *open.tag != *tag);
        match effect(verb, arguments).filter(|_| is_new && self.open.len() < MOST_OPEN) {
            Some(effect) => {
                if effect == Effect::Selects {
                    self.selects();
                }
                let is_sure = opens_inbox(verb, arguments);
                self.open.push(Open { tag: Box::from(tag), effect, has_unasked: false, is_sure });
            }
            None => self.is_lost = true,
        }
    }

    /// A mailbox is about to be selected. The completion of a command before it says nothing about that.
    fn selects(&mut self) {
        self.may_be_selected = true;
        let before = self.open.iter_mut().filter(|open| open.effect == Effect::Unselects);
        before.for_each(|open| open.effect = Effect::Nothing);
    }

    /// Reads the completion of a command, or a continuation request. `*` is no completion.
    pub(super) fn completed(&mut self, tag: &[u8], ok: bool) {
        match tag {
            b"*" => {}
            b"+" => self.continued(),
            tag => match self.open.iter().position(|open| *open.tag == *tag) {
                Some(index) => {
                    let Open { effect, has_unasked, is_sure, .. } = self.open.remove(index);
                    // Such a literal may have been read as commands, by a server that does not know it. And a connection
                    // without its mailbox is of no use to the next device.
                    self.is_lost |= (has_unasked || is_sure) && !ok;
                    let selects = self.open.iter().any(|open| open.effect == Effect::Selects);
                    self.may_be_selected &= selects || !ok || effect != Effect::Unselects;
                    let is_last = index == self.open.len();
                    match self.position {
                        Position::Start => {}
                        // The server refuses a literal that it has not asked for.
                        _ if is_last && self.awaited && self.line.is_empty() => self.position = Position::Start,
                        _ => self.is_lost |= is_last,
                    }
                    self.awaited &= !is_last;
                }
                None => self.is_lost = true,
            },
        }
    }

    fn continued(&mut self) {
        match self.open.last_mut() {
            Some(_) if self.awaited => self.awaited = false,
            Some(open) if open.effect == Effect::Idles(false) => open.effect = Effect::Idles(true),
            _ => self.is_lost = true,
        }
    }
}

/// The commands of a session, with its record beside them.
pub(super) struct Recorded<'a, C> {
    pub(super) commands: &'a mut C,
    pub(super) in_step: &'a mut InStep,
}

impl<C: PendingCommands> PendingCommands for Recorded<'_, C> {
    fn completed(&mut self, tag: &[u8], ok: bool) -> bool {
        self.in_step.completed(tag, ok);
        self.commands.completed(tag, ok)
    }

    fn is_continued_by_us(&self) -> bool {
        self.commands.is_continued_by_us()
    }

    fn stops_responses(&self) -> bool {
        self.commands.stops_responses()
    }

    fn unexpected(&mut self) {
        self.in_step.is_lost = true;
    }

    fn announced(&mut self, octets: &[u8], in_code: bool) {
        let is_end = |octet: &u8| matches!(octet, b'\r' | b'\n') || (in_code && *octet == b']');
        let list = octets.split(is_end).next().unwrap_or_default().trim_ascii();
        // A list of the connection that is longer than a line is none.
        self.in_step.capability = (list.len() <= LONGEST_LINE).then(|| list.to_vec());
    }
}

impl<'a> Logout<'a> {
    /// Reads the line that the input begins with.
    pub(super) fn of(input: &'a [u8]) -> Self {
        let window = input.get(..LONGEST_LOGOUT).unwrap_or(input);
        let end = memchr::memchr(b'\n', window);
        let line = window.get(..end.unwrap_or(window.len())).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (tag, verb) = word(line);
        let is_tag = tag::strict(tag) != tag::UNTAGGED;
        match end {
            _ if !is_tag || !verb.eq_ignore_ascii_case(b"LOGOUT") => Logout::No,
            None => Logout::Incomplete,
            // Something behind it is for nobody, but nobody knows what it is.
            Some(end) if end + 1 < input.len() => Logout::No,
            Some(_) => Logout::Whole(tag),
        }
    }
}

/// Returns the effect of a command; none where it is not known, or leaves something in the connection.
fn effect(verb: &[u8], arguments: &[u8]) -> Option<Effect> {
    let is = |names: &[&str], verb: &[u8]| names.iter().any(|name| verb.eq_ignore_ascii_case(name.as_bytes()));
    if is(&["SELECT", "EXAMINE"], verb) {
        Some(Effect::Selects)
    } else if is(&["CLOSE", "UNSELECT"], verb) {
        Some(Effect::Unselects)
    } else if is(&["IDLE"], verb) {
        Some(Effect::Idles(false))
    } else if is(&["UID"], verb) {
        is(OF_MESSAGES, word(arguments).0).then_some(Effect::Nothing)
    } else {
        (is(OF_MESSAGES, verb) || is(PLAIN, verb)).then_some(Effect::Nothing)
    }
}

/// Returns whether a command opens INBOX, which every mailbox has (RFC 3501 §5.1).
fn opens_inbox(verb: &[u8], arguments: &[u8]) -> bool {
    let name = word(arguments).0;
    let name = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(name);
    let opens = ["SELECT", "EXAMINE", "STATUS"].iter().any(|one| verb.eq_ignore_ascii_case(one.as_bytes()));
    opens && name.eq_ignore_ascii_case(b"INBOX")
}

/// Returns whether a line has a word that switches something on for the rest of the connection: mod-sequences (RFC 7162
/// §3.1) come with FETCH, STORE, SEARCH, STATUS and SELECT.
fn changes_syntax(line: &[u8]) -> bool {
    ["MODSEQ", "CHANGEDSINCE", "UNCHANGEDSINCE", "CONDSTORE", "QRESYNC"]
        .iter()
        .any(|name| line.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name.as_bytes())))
}

/// Commands that stand alone and behind UID.
const OF_MESSAGES: &[&str] = &["FETCH", "STORE", "SEARCH", "COPY", "MOVE", "EXPUNGE", "SORT", "THREAD"];
/// Commands that leave nothing in the connection.
const PLAIN: &[&str] = &[
    "NOOP",
    "CHECK",
    "LIST",
    "LSUB",
    "XLIST",
    "STATUS",
    "APPEND",
    "CAPABILITY",
    "ID",
    "NAMESPACE",
    "CREATE",
    "DELETE",
    "RENAME",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "GETQUOTA",
    "GETQUOTAROOT",
    "GETACL",
    "MYRIGHTS",
    "GETMETADATA",
];

/// Commands that have no arguments.
const ALONE: &[&str] = &["NOOP", "CHECK", "CAPABILITY", "IDLE", "CLOSE", "UNSELECT", "EXPUNGE", "NAMESPACE"];

/// The commands at a time that are followed.
const MOST_OPEN: usize = 64;
/// The longest line that is read, in octets (RFC 2683 §3.2.1.5 asks for 8000).
const LONGEST_LINE: usize = 8192;
/// A tag, LOGOUT and the line end stand within this many octets.
const LONGEST_LOGOUT: usize = tag::LONGEST + 16;
