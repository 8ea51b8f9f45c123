//! A command on its way to the server: its keyword, and whether an argument follows, however many blanks stand
//! between.

use crate::proto::line::Head;

/// The parts of a line that matter, as far as it has come. Its octets are not kept.
#[derive(Default)]
pub(super) struct CommandLine {
    keyword: Head<KEYWORD>,
    position: Position,
}

/// The position of the next octet.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Start,
    /// The next octet follows blanks, which some servers overlook.
    Before,
    Keyword,
    /// The next octet follows the keyword, in blanks.
    Behind,
    Argument,
}

impl CommandLine {
    /// Takes the next part of the line.
    pub(super) fn push(&mut self, part: &[u8]) {
        for octet in part {
            // A tab or a NUL is a blank for some servers; the others answer with -ERR, which has one line in any case.
            let is_blank = *octet <= b' ' || *octet == 0x7f;
            self.position = match self.position {
                Position::Argument => return,
                Position::Start | Position::Before if is_blank => Position::Before,
                Position::Keyword | Position::Behind if is_blank => Position::Behind,
                Position::Behind => Position::Argument,
                Position::Start | Position::Before | Position::Keyword => {
                    self.keyword.push(std::slice::from_ref(octet));
                    Position::Keyword
                }
            };
        }
    }

    /// Returns whether nothing of the line has come.
    pub(super) fn is_at_start(&self) -> bool {
        self.position == Position::Start
    }

    /// Returns whether the line has this keyword.
    pub(super) fn is(&self, keyword: &[u8]) -> bool {
        self.keyword.octets().eq_ignore_ascii_case(keyword)
    }

    /// Returns whether the line has no argument.
    pub(super) fn is_bare(&self) -> bool {
        self.position != Position::Argument
    }
}

/// The room for a keyword: one octet more than the longest that matters.
const KEYWORD: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &[u8], cut: usize) -> CommandLine {
        let mut line = CommandLine::default();
        let (first, second) = text.split_at(cut);
        line.push(first);
        line.push(second);
        line
    }

    #[test]
    fn keyword_and_argument_at_every_cut() {
        let many = format!("LIST{}1\r\n", " ".repeat(1000));
        for (text, keyword, is_bare) in [
            (&b"LIST\r\n"[..], &b"list"[..], true),
            (b"LIST 1\r\n", b"LIST", false),
            (many.as_bytes(), b"LIST", false),
            (b"LIST\t1\n", b"LIST", false),
            (b"  uidl \t \r\n", b"UIDL", true),
            (b"\tTOP 1 0\r\n", b"TOP", false),
            (b"LISTEN\r\n", b"LISTE", true),
            (b"\r\n", b"", true),
        ] {
            for cut in 0..text.len() {
                let line = line(text, cut);
                assert!(line.is(keyword) && line.is_bare() == is_bare, "{text:?} at {cut}");
            }
        }
    }
}
