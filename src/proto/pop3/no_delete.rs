//! The commands of a device that may not delete: only those that are known to delete nothing reach the server.
//!
//! A command waits until its line is whole. In place of a command that does not pass, the server gets a harmless one
//! whose response suits the device. So the responses keep their order, whatever is pipelined, and whether or not they
//! can still be framed.

use super::frame::Frame;
use super::relogin;
use crate::proto::line::{Line, word};
use crate::proto::{Activity, Step, preamble};

/// The reader of the device's commands, one at a time.
#[derive(Default)]
pub(super) struct NoDelete {
    /// The rest of a long line is dropped; it was answered.
    in_long_line: bool,
}

impl NoDelete {
    /// Follows the device's octets, one command a step. `frame` learns what the server gets.
    pub(super) fn commands(
        &mut self,
        frame: &mut Frame,
        input: &[u8],
        activity: &mut Activity,
        out: &mut Vec<u8>,
    ) -> Step {
        if self.in_long_line {
            return self.drop_line(input);
        }
        if input.first() == Some(&0) {
            // NULs are dropped, as before the login.
            return Step::Consume(preamble::nuls(input));
        }
        let (text, len) = match Line::split(input, LINE) {
            Line::Incomplete => return Step::Read,
            Line::TooLong => (input.get(..LINE).unwrap_or_default(), None),
            Line::Complete { text, len } => (text, Some(len)),
        };
        if relogin::is_login(text) {
            return if frame.refuse(activity) { self.done(len, input) } else { Step::Read };
        }
        let (Some(len), None) = (len, replacement(text)) else {
            let line = replacement(text).unwrap_or(UNKNOWN);
            return match frame.commands(line, activity) {
                Step::Read => Step::Read,
                _ => {
                    out.extend_from_slice(line);
                    self.done(len, input)
                }
            };
        };
        let line = input.get(..len).unwrap_or_default();
        match frame.commands(line, activity) {
            // Some servers do not take a bare LF for a line end, and would join two commands.
            Step::Forward(_) if !line.ends_with(b"\r\n") => {
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
                Step::Consume(len)
            }
            step => step,
        }
    }

    /// Drops a command that was answered, as far as it has come.
    fn done(&mut self, len: Option<usize>, input: &[u8]) -> Step {
        len.map_or_else(|| self.drop_line(input), Step::Consume)
    }

    fn drop_line(&mut self, input: &[u8]) -> Step {
        let end = memchr::memchr(b'\n', input);
        self.in_long_line = end.is_none();
        Step::Consume(end.map_or(input.len(), |end| end + 1))
    }
}

/// Returns the command that the server gets in place of a line, if the line does not pass.
fn replacement(text: &[u8]) -> Option<&'static [u8]> {
    // A server may overlook what stands before the keyword.
    let start = text.iter().position(|octet| *octet > b' ').unwrap_or(text.len());
    let (keyword, behind) = text.get(start..).unwrap_or_default().split_at_checked(DELE.len()).unwrap_or_default();
    if keyword.eq_ignore_ascii_case(DELE) && !behind.first().is_some_and(u8::is_ascii_alphanumeric) {
        return Some(b"NOOP\r\n");
    }
    // A lone CR or a NUL may end a line elsewhere.
    let is_clean = text.iter().all(|octet| !octet.is_ascii_control());
    let passes = is_clean && PASSING.iter().any(|passing| passing.eq_ignore_ascii_case(word(text).0));
    (!passes).then_some(UNKNOWN)
}

const DELE: &[u8] = b"DELE";

/// Keywords of commands that delete nothing (RFC 1939 §5, §6, §7, RFC 2449 §5, RFC 6856 §2.1, §3). QUIT deletes what
/// DELE has marked, and that is nothing.
const PASSING: &[&[u8]] =
    &[b"STAT", b"LIST", b"RETR", b"NOOP", b"RSET", b"QUIT", b"TOP", b"UIDL", b"CAPA", b"LANG", b"UTF8"];

/// A command that no server knows. Each has to answer it with a single -ERR (RFC 1939 §3).
const UNKNOWN: &[u8] = b"XREFUSED\r\n";

/// The longest line that is read. A longer one does not pass (RFC 2449 §4: no command has more than 255 octets).
const LINE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dele_in_every_form() {
        for line in [
            &b"DELE 1"[..],
            b"dele 1",
            b"DeLe",
            b" DELE 1",
            b"\t \0dele\t1",
            b"DELE",
            b"DELE 1 2",
            b"DELE\0",
            b"dele-1",
        ] {
            assert_eq!(replacement(line), Some(&b"NOOP\r\n"[..]), "{line:?}");
        }
    }

    #[test]
    fn unknown_commands_do_not_pass() {
        for line in [
            &b"XTND"[..],
            b"AUTH",
            b"DELEX",
            b"DEL",
            b"",
            b" STAT",
            b"RETR\t1",
            b"NOOP\rDELE 1",
            b"NOOP\0",
            b"D\0ELE 1",
            b"USER x",
        ] {
            assert_eq!(replacement(line), Some(UNKNOWN), "{line:?}");
        }
        for line in [&b"STAT"[..], b"retr 1", b"TOP 1 0", b"uidl", b"quit", b"LIST ", b"lang *"] {
            assert_eq!(replacement(line), None, "{line:?}");
        }
    }
}
