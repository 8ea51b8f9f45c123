//! A login behind the login is answered here where the device's first login was translated.
//!
//! The server has let in another user than the device names, and a device's password is for packetboat alone. A line
//! is read as the most lenient server would read it: blanks and control characters before and between words are
//! overlooked.

use super::tag::{self, UNTAGGED};
use crate::proto::line::lenient_word;

/// The decision on a line, from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandStart<'a> {
    /// More of the line has to come.
    Undecided,
    /// The line goes on to the server.
    Passes,
    /// The line is a login, or a command behind which a login could not be read. Packetboat answers it.
    Refused(Refused<'a>),
}

/// A refused command in front of a line, which may go on in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RefusedBefore {
    #[default]
    Nothing,
    /// A login.
    Login,
    /// A literal of a login, of this size. A device that waits sends a command now, and one that does not sends the
    /// literal.
    Literal(u64),
}

/// A line that packetboat answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused<'a> {
    /// The tag of the response.
    pub(super) tag: &'a [u8],
    pub(super) text: &'static str,
    /// More of the same login may follow without being asked for: SASL responses, literals.
    pub(super) goes_on: bool,
}

impl<'a> CommandStart<'a> {
    /// Reads the beginning of a line. Behind a refused login only known commands pass, because a password may look
    /// like an unknown one. Behind one of its literals no line passes that may be that literal, even if it looks like
    /// a command as well.
    pub(super) fn of(input: &'a [u8], refused_before: RefusedBefore) -> Self {
        let behind_login = refused_before != RefusedBefore::Nothing;
        // The result depends on these octets alone, however many have come.
        let window = input.get(..LONGEST).unwrap_or(input);
        let end = memchr::memchr(b'\n', window);
        let line = window.get(..end.unwrap_or(window.len())).unwrap_or_default();
        let (first, rest) = lenient_word(line);
        let (verb, behind) = lenient_word(rest);
        let is_whole = |rest: &[u8]| end.is_some() || !rest.is_empty();
        let refused = |tag, text, goes_on| CommandStart::Refused(Refused { tag, text, goes_on });
        // A line with a verb may be a command, whose device waits for the response to its tag.
        let unknown = if verb.first().is_some_and(u8::is_ascii_alphabetic) { tag::strict(first) } else { UNTAGGED };
        if let RefusedBefore::Literal(size) = refused_before {
            if end.is_none() && window.len() < LONGEST {
                return CommandStart::Undecided;
            }
            if may_be_literal(line, size) {
                return refused(unknown, NO_COMMAND, true);
            }
        }
        if is_whole(rest) && is_one_of(first, &["LOGIN", "AUTHENTICATE", "AUTH"]) {
            // The device forgot the tag.
            return refused(UNTAGGED, LOGGED_IN, true);
        }
        if !verb.is_empty() && is_whole(behind) {
            return if begins(verb, "LOGIN") || begins(verb, "AUTH") {
                refused(tag::strict(first), LOGGED_IN, true)
            } else if is_one_of(verb, &["STARTTLS", "COMPRESS", "UNAUTHENTICATE"]) {
                refused(tag::strict(first), NOT_NOW, false)
            } else if behind_login && !KNOWN.iter().any(|name| verb.eq_ignore_ascii_case(name.as_bytes())) {
                refused(unknown, NO_COMMAND, true)
            } else {
                CommandStart::Passes
            };
        }
        match end {
            None if window.len() < LONGEST => CommandStart::Undecided,
            None => refused(UNTAGGED, NO_COMMAND, behind_login),
            // An empty line, or the end of IDLE (RFC 2177 §3).
            Some(_) if first.is_empty() || is_one_of(first, &["DONE"]) => CommandStart::Passes,
            // A SASL response has one word, and no command has.
            Some(_) if behind_login => refused(UNTAGGED, NO_COMMAND, true),
            Some(_) => refused(tag::strict(first), NO_COMMAND, false),
        }
    }
}

/// Returns whether a line may be a literal of this size, with its command's next argument or end behind it.
fn may_be_literal(line: &[u8], size: u64) -> bool {
    let size = usize::try_from(size).unwrap_or(usize::MAX).min(LONGEST);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.len() == size || line.get(size).is_some_and(|octet| *octet <= b' ' || *octet == 0x7f)
}

/// Returns the word without what some writers put in front of the first one, like a byte order mark.
fn letters(word: &[u8]) -> &[u8] {
    let start = word.iter().position(u8::is_ascii_alphanumeric).unwrap_or(word.len());
    word.get(start..).unwrap_or_default()
}

fn is_one_of(word: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| letters(word).eq_ignore_ascii_case(name.as_bytes()))
}

fn begins(word: &[u8], name: &str) -> bool {
    letters(word).get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
}

/// The response to commands that belong to the state before the login (RFC 3501 §6.2).
const LOGGED_IN: &str = "BAD already logged in";
const NOT_NOW: &str = "BAD not possible after login";
const NO_COMMAND: &str = "BAD no command here";

/// Commands of the state after login (RFC 3501 §6.1, §6.3, §6.4, and the extensions that mail programs use).
const KNOWN: &[&str] = &[
    "NOOP",
    "CHECK",
    "SELECT",
    "EXAMINE",
    "LIST",
    "LSUB",
    "XLIST",
    "STATUS",
    "FETCH",
    "UID",
    "STORE",
    "SEARCH",
    "COPY",
    "MOVE",
    "APPEND",
    "EXPUNGE",
    "CLOSE",
    "UNSELECT",
    "IDLE",
    "LOGOUT",
    "CAPABILITY",
    "ID",
    "ENABLE",
    "NAMESPACE",
    "CREATE",
    "DELETE",
    "RENAME",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "SORT",
    "THREAD",
    "GETQUOTA",
    "GETQUOTAROOT",
    "GETACL",
    "MYRIGHTS",
    "GETMETADATA",
];

/// Tag and verb stand within this many octets.
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &[u8], behind_login: bool) -> Option<(&[u8], &'static str)> {
        behind(line, if behind_login { RefusedBefore::Login } else { RefusedBefore::Nothing })
    }

    fn behind(line: &[u8], refused_before: RefusedBefore) -> Option<(&[u8], &'static str)> {
        match CommandStart::of(line, refused_before) {
            CommandStart::Refused(Refused { tag, text, .. }) => Some((tag, text)),
            CommandStart::Passes => None,
            CommandStart::Undecided => panic!("{line:?}"),
        }
    }

    #[test]
    fn logins_in_every_form() {
        for line in [
            &b"a LOGIN u p\r\n"[..],
            b"a login \"u\" ",
            b"a LoGiN {",
            b" a  LOGIN u p",
            b"\t\0a\tlogin\tu",
            b"a LOGIN\r\n",
            b"a LOGIN\n",
            b"a AUTHENTICATE PLAIN AHUAcA==\r\n",
            b"a authenticate XOAUTH2\r\n",
            b"a AUTH PLAIN\r\n",
            b"a \xef\xbb\xbfLOGIN u p",
        ] {
            assert_eq!(text(line, false), Some((&b"a"[..], LOGGED_IN)), "{line:?}");
        }
        for line in [&b"LOGIN u p\r\n"[..], b"\xef\xbb\xbfLOGIN u p", b"authenticate PLAIN\r\n", b"(a LOGIN u p"] {
            assert_eq!(text(line, false), Some((UNTAGGED, LOGGED_IN)), "{line:?}");
        }
        for line in [&b"a STARTTLS\r\n"[..], b"a compress DEFLATE", b"a unauthenticate\r\n"] {
            assert_eq!(text(line, false), Some((&b"a"[..], NOT_NOW)), "{line:?}");
        }
        assert_eq!(text(&[b"a".repeat(LONGEST), b" LOGIN u p".to_vec()].concat(), false), Some((UNTAGGED, NO_COMMAND)));
    }

    #[test]
    fn all_else_passes() {
        for line in [
            &b"a NOOP\r\n"[..],
            b"a SELECT LOGIN",
            b"a X-GM-THING ",
            b"\r\n",
            b"  \n",
            b"DONE\r\n",
            b"done \n",
            b"login1 NOOP ",
        ] {
            assert_eq!(text(line, false), None, "{line:?}");
        }
        for line in [&b"a"[..], b"a ", b"a LOG", b"a NOOP", b"DO", b"", b"LOGIN", b"a LOGIN"] {
            assert_eq!(CommandStart::of(line, RefusedBefore::Nothing), CommandStart::Undecided, "{line:?}");
        }
    }

    #[test]
    fn octets_after_a_refused_login() {
        for line in [&b"AHUAcA==\r\n"[..], b"two \"list of\"\r\n", b"user {4}\r\n", b"*\r\n"] {
            assert_eq!(text(line, true), Some((UNTAGGED, NO_COMMAND)), "{line:?}");
        }
        for line in [&b"a SETQUOTA b\r\n"[..], b"a NOTIFY NONE\r\n", b"a XAPPLEPUSHSERVICE aps\r\n", b"a pass\r\n"] {
            assert_eq!(text(line, true), Some((&b"a"[..], NO_COMMAND)), "{line:?}");
        }
        assert_eq!(
            text(b"AHUAcA==\r\n", false),
            Some((UNTAGGED, NO_COMMAND)).map(|(_, text)| (&b"AHUAcA=="[..], text))
        );
        assert_eq!(text(b"a NOOP\r\n", true), None);
        assert_eq!(text(b"DONE\r\n", true), None);
    }

    #[test]
    fn octets_after_a_refused_literal() {
        for (line, size) in [
            (&b"my list\r\n"[..], 7),
            (b"my list\n", 7),
            (b"my list {4}\r\n", 7),
            (b"user noop\r\n", 4),
            (b"a list of words\r\n", 15),
            (&[&b"a list "[..], &[b'x'; LONGEST]].concat(), 3000),
        ] {
            let (tag, text) = behind(line, RefusedBefore::Literal(size)).unwrap();
            assert!(text == NO_COMMAND && tag == lenient_word(line).0, "{line:?}");
        }
        assert_eq!(behind(b"\r\n", RefusedBefore::Literal(0)), Some((UNTAGGED, NO_COMMAND)));
        // A device that has waited says a command.
        for (line, size) in
            [(&b"a NOOP\r\n"[..], 8), (b"a SELECT INBOX\r\n", 7), (b"a noop\r\n", 7), (b"a noop\r\n", 3000)]
        {
            assert_eq!(behind(line, RefusedBefore::Literal(size)), None, "{line:?}");
        }
        assert_eq!(CommandStart::of(b"a NOOP \r", RefusedBefore::Literal(8)), CommandStart::Undecided);
    }
}
