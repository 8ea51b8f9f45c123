//! A command that is dropped as it comes, with all that follows without being asked for.

use super::literal::{Literal, Tail, count_down};

/// The position of the next octet of a dropped command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// Inside a line.
    Line,
    /// Inside a literal, this many octets before its end.
    Literal(u64),
}

/// The kind of octets that follow those that were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More of the command follows.
    More(Dropped),
    /// Another command follows. The device may send the synchronising literal of this size all the same, if one was
    /// announced.
    Command(Option<u64>),
}

impl Dropped {
    /// Returns the position inside a literal with this many octets left, or behind it.
    pub(super) fn literal(left: u64) -> Self {
        if left == 0 { Dropped::Line } else { Dropped::Literal(left) }
    }

    /// Drops octets up to a line end or the end of a literal; returns how many, and what follows. `tail` keeps the
    /// end of a line that is not whole.
    pub(super) fn drop(self, tail: &mut Tail, input: &[u8]) -> (usize, Next) {
        if let Dropped::Literal(left) = self {
            let (left, dropped) = count_down(left, input.len());
            return (dropped, Next::More(Dropped::literal(left)));
        }
        let Some(end) = memchr::memchr(b'\n', input) else {
            tail.push(input);
            return (input.len(), Next::More(Dropped::Line));
        };
        let next = match tail.end_line(input.get(..=end).unwrap_or_default()) {
            Some(Literal { size, synchronising: false }) => Next::More(Dropped::literal(size)),
            Some(Literal { size, synchronising: true }) => Next::Command(Some(size)),
            None => Next::Command(None),
        };
        (end + 1, next)
    }
}
