//! A login behind the login is answered here where the device's first login was translated.
//!
//! The server has let in another user than the device names, and a device's password is for packetboat alone. A line
//! is read as the most lenient server would read it: blanks and control characters before and behind the keyword are
//! overlooked.

use crate::proto::line::lenient_word;

/// The decision on a line, from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandStart {
    /// More of the line has to come.
    Undecided,
    /// The line goes on to the server.
    Passes,
    /// The line is a login, goes on behind one, or is STLS, behind which one could not be read. Packetboat answers
    /// it.
    Refused,
}

impl CommandStart {
    /// Reads the beginning of a line. `behind_login` is true if a refused login may go on in it; then only known
    /// commands pass.
    pub(super) fn of(input: &[u8], behind_login: bool) -> Self {
        // The result depends on these octets alone, however many have come.
        let window = input.get(..LONGEST).unwrap_or(input);
        let end = memchr::memchr(b'\n', window);
        let line = window.get(..end.unwrap_or(window.len())).unwrap_or_default();
        let (keyword, behind) = lenient_word(line);
        if (keyword.is_empty() || behind.is_empty()) && end.is_none() {
            return if window.len() < LONGEST { CommandStart::Undecided } else { CommandStart::Refused };
        }
        let is_unknown = behind_login && !keyword.is_empty() && !is_one_of(keyword, KNOWN);
        if is_unknown || is_one_of(keyword, LOGINS) || is_one_of(keyword, &["STLS"]) {
            CommandStart::Refused
        } else {
            CommandStart::Passes
        }
    }
}

/// Returns whether a line is a login, as far as it has come.
pub(super) fn is_login(line: &[u8]) -> bool {
    is_one_of(lenient_word(line).0, LOGINS)
}

/// Returns whether a word is one of these names. Octets that some writers put in front of the first word, like a byte
/// order mark, do not count.
fn is_one_of(word: &[u8], names: &[&str]) -> bool {
    let start = word.iter().position(u8::is_ascii_alphanumeric).unwrap_or(word.len());
    let letters = word.get(start..).unwrap_or_default();
    names.iter().any(|name| letters.eq_ignore_ascii_case(name.as_bytes()))
}

/// The commands of a login (RFC 1939 §7, RFC 5034 §4).
const LOGINS: &[&str] = &["USER", "PASS", "APOP", "AUTH"];

/// Commands of the state after login (RFC 1939 §5, §6, §7, RFC 2449 §5, RFC 6856).
const KNOWN: &[&str] =
    &["STAT", "LIST", "RETR", "DELE", "NOOP", "RSET", "LAST", "QUIT", "TOP", "UIDL", "CAPA", "LANG", "UTF8", "XTND"];

/// The keyword stands within this many octets.
const LONGEST: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_in_every_form() {
        for line in [
            &b"USER u\r\n"[..],
            b"pass two words",
            b"  PaSs x",
            b"\t\0AUTH\tPLAIN AHUAcA==\r\n",
            b"AUTH\r\n",
            b"apop u c4c9334bac560ecc979e58001b3e22fb\n",
            b"\xef\xbb\xbfUSER u",
            b"PASS\0x",
            b"STLS\r\n",
            &[b' '; LONGEST],
        ] {
            assert_eq!(CommandStart::of(line, false), CommandStart::Refused, "{line:?}");
        }
    }

    #[test]
    fn all_else_passes() {
        for line in [&b"STAT\r\n"[..], b"LIST ", b"\r\n", b"USERS x", b"XPASS\n", b"AHUAcA==\r\n", b"DELE 1"] {
            assert_eq!(CommandStart::of(line, false), CommandStart::Passes, "{line:?}");
        }
        for line in [&b"PAS"[..], b"PASS", b"", b"  ", b"STAT\x80"] {
            assert_eq!(CommandStart::of(line, false), CommandStart::Undecided, "{line:?}");
        }
        assert_eq!(CommandStart::of(b"AHUAcA==\r\n", true), CommandStart::Refused);
        assert_eq!(CommandStart::of(b"stat\r\n", true), CommandStart::Passes);
    }
}
