//! Arguments that nothing depends on, of ID and of other long commands before login, are skipped as they come.

use super::literal::{Literal, Tail, count_down};
use super::login_command::{self, Command};
use crate::proto::CommandLimits;

/// A command whose arguments are being skipped.
pub(super) struct Arguments {
    /// Tag and verb.
    command: Vec<u8>,
    position: Position,
    tail: Tail,
    /// The number of synchronising literals that are still to come and have had their `+`.
    continued: usize,
    /// The number of octets that may still come.
    left: u64,
}

/// The position of the device's next octet.
enum Position {
    Line,
    /// Inside a literal, this many octets before its end.
    Literal(u64),
}

/// The result of skipping some octets.
pub(super) enum Skipped {
    /// The command goes on.
    More,
    /// The device waits for a `+` (RFC 3501 §4.3).
    Continue,
    /// The command is whole.
    Whole,
    /// The command is over, and makes no sense.
    Bad(&'static str),
    /// The command is longer than any of its kind.
    TooLong,
}

impl Arguments {
    /// Begins to skip the command at the start of `input`, if its arguments are not needed. `continued` literals of
    /// it have had their `+`.
    pub(super) fn of(input: &[u8], limits: &CommandLimits, continued: usize) -> Option<Self> {
        let command = login_command::start_of(input.get(..limits.line).unwrap_or(input))?.to_vec();
        Some(Self { command, position: Position::Line, tail: Tail::default(), continued, left: LONGEST })
    }

    /// Skips octets up to a line end or the end of a literal; returns how many, and the result.
    pub(super) fn skip(&mut self, input: &[u8]) -> (usize, Skipped) {
        let (passed, skipped) = match self.position {
            Position::Literal(left) => {
                let (left, passed) = count_down(left, input.len());
                self.position = if left == 0 { Position::Line } else { Position::Literal(left) };
                (passed, Skipped::More)
            }
            Position::Line => {
                let end = memchr::memchr(b'\n', input);
                let passed = end.map_or(input.len(), |end| end + 1);
                let part = input.get(..passed).unwrap_or_default();
                let skipped = if end.is_some() {
                    self.line_ended(part)
                } else {
                    self.tail.push(part);
                    Skipped::More
                };
                (passed, skipped)
            }
        };
        match self.left.checked_sub(passed as u64) {
            Some(left) => self.left = left,
            None => return (passed, Skipped::TooLong),
        }
        (passed, skipped)
    }

    /// Returns the command, without its arguments.
    pub(super) fn command(&self) -> Option<Command<'_>> {
        login_command::read(&self.command).ok()
    }

    /// Returns the tag for the response.
    pub(super) fn tag(&self) -> &[u8] {
        login_command::tag_of(&self.command)
    }

    fn line_ended(&mut self, part: &[u8]) -> Skipped {
        let Some(Literal { size, synchronising }) = self.tail.end_line(part) else { return Skipped::Whole };
        if size > self.left {
            return if synchronising { Skipped::Bad(login_command::LITERAL_TOO_LARGE) } else { Skipped::TooLong };
        }
        if size > 0 {
            self.position = Position::Literal(size);
        }
        if !synchronising {
            return Skipped::More;
        }
        if let Some(left) = self.continued.checked_sub(1) {
            self.continued = left;
            return Skipped::More;
        }
        if login_command::takes_literals(&self.command) {
            Skipped::Continue
        } else {
            Skipped::Bad(login_command::LITERAL_NOT_ALLOWED)
        }
    }
}

/// The longest arguments, in octets. RFC 2971 §3.3 allows 30 fields of 30 octets with values of 1024: half of this.
const LONGEST: u64 = 64 * 1024;
