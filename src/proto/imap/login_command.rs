//! Commands before login (RFC 3501 §6.1, §6.2, §9): framed with their literals, then read.

use super::literal::Literal;
use super::tag::{self, UNTAGGED};
use crate::proto::CommandLimits;
use crate::proto::line::{Line, word};
use crate::proto::sasl::Mechanism;
use crate::secret::Secret;

/// The beginning of the input.
#[derive(Debug)]
pub(super) enum Parsed<'a> {
    /// More has to come.
    Incomplete,
    /// The device announced a synchronising literal (§4.3) and waits for one more `+`. Without it, the command is
    /// over behind `len` octets.
    Continue { tag: &'a [u8], len: usize },
    /// A command, with the octets it took.
    Complete { command: Command<'a>, len: usize },
    /// Octets that are no command that makes sense here; `len` of them are to be dropped.
    Bad { tag: &'a [u8], why: &'static str, len: usize },
    /// A line or a non-synchronising literal is beyond the limits. The beginning of the next command is unknown.
    TooLong,
}

/// A command: `tag SP verb [SP arguments]`.
#[derive(Debug)]
pub(super) struct Command<'a> {
    pub(super) tag: &'a [u8],
    pub(super) verb: Verb<'a>,
}

/// The commands that are answered before login.
#[derive(Debug)]
pub(super) enum Verb<'a> {
    Capability,
    Noop,
    Id,
    Logout,
    StartTls,
    Login { user: Vec<u8>, password: Secret },
    Authenticate { mechanism: Mechanism, initial: Option<&'a [u8]> },
    UnknownMechanism,
    Unknown,
}

/// Reads one command. `continued` literals of it have had their `+` already.
pub(super) fn parse<'a>(input: &'a [u8], limits: &CommandLimits, continued: usize) -> Parsed<'a> {
    let (mut at, mut literals, mut literal_octets, mut text_octets) = (0, 0, 0_usize, 0_usize);
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let (text, len) = match Line::split(rest, limit(input, limits).saturating_sub(text_octets)) {
            Line::Complete { text, len } => (text, len),
            Line::Incomplete => return Parsed::Incomplete,
            Line::TooLong => return Parsed::TooLong,
        };
        at += len;
        text_octets += text.len();
        let Some(literal) = Literal::at_end_of(text) else { break };
        literals += 1;
        let size = usize::try_from(literal.size).unwrap_or(usize::MAX);
        literal_octets = literal_octets.saturating_add(size);
        if literal_octets > limits.literal {
            if !literal.synchronising || is_id(input) {
                return Parsed::TooLong;
            }
            return Parsed::Bad { tag: tag_of(input), why: LITERAL_TOO_LARGE, len: at };
        }
        if literal.synchronising && literals > continued {
            if !takes_literals(input) {
                return Parsed::Bad { tag: tag_of(input), why: LITERAL_NOT_ALLOWED, len: at };
            }
            return Parsed::Continue { tag: tag_of(input), len: at };
        }
        at += size;
        if at > input.len() {
            return Parsed::Incomplete;
        }
    }
    let command = input.get(..at).unwrap_or_default();
    let command = command.strip_suffix(b"\n").unwrap_or(command);
    let command = command.strip_suffix(b"\r").unwrap_or(command);
    match read(command) {
        Ok(command) => Parsed::Complete { command, len: at },
        Err((tag, why)) => Parsed::Bad { tag, why, len: at },
    }
}

/// Returns the limit on a line. AUTHENTICATE may carry a token as its initial response (RFC 4959 §3), which is as
/// long as a SASL line.
fn limit(input: &[u8], limits: &CommandLimits) -> usize {
    // The verb counts where any other command would have to end, and not wherever a long line happens to be cut.
    if verb_of(input.get(..limits.line).unwrap_or(input)).eq_ignore_ascii_case(b"AUTHENTICATE") {
        limits.line.max(limits.sasl_line)
    } else {
        limits.line
    }
}

/// Reads a whole command, without its last line end.
pub(super) fn read(command: &[u8]) -> Result<Command<'_>, (&[u8], &'static str)> {
    let (tag, rest) = word(command);
    if !tag::is_echoed(tag) {
        return Err((UNTAGGED, "a command begins with a tag"));
    }
    let (verb, arguments) = word(rest);
    let arguments = arguments.trim_ascii();
    let verb = match verb.to_ascii_uppercase().as_slice() {
        b"CAPABILITY" => Verb::Capability,
        b"NOOP" => Verb::Noop,
        b"ID" => Verb::Id,
        b"LOGOUT" => Verb::Logout,
        b"STARTTLS" => Verb::StartTls,
        b"LOGIN" => {
            let mut cursor = Cursor { rest: word(rest).1 };
            let user = cursor.astring().ok_or((tag, "LOGIN takes a user name and a password"))?;
            let password = cursor.astring().map(Secret::new).ok_or((tag, "LOGIN takes a user name and a password"))?;
            if !cursor.rest.trim_ascii().is_empty() {
                return Err((tag, "LOGIN takes a user name and a password"));
            }
            Verb::Login { user, password }
        }
        b"AUTHENTICATE" => {
            let (name, initial) = word(arguments);
            let initial = initial.trim_ascii();
            match Mechanism::parse(name) {
                Some(mechanism) => Verb::Authenticate { mechanism, initial: (!initial.is_empty()).then_some(initial) },
                None => Verb::UnknownMechanism,
            }
        }
        b"" => return Err((tag, "no command behind the tag")),
        _ => Verb::Unknown,
    };
    Ok(Command { tag, verb })
}

/// Returns the first line, as far as it is there. Tag and verb stand on it.
fn first_line(input: &[u8]) -> &[u8] {
    input.get(..memchr::memchr(b'\n', input).unwrap_or(input.len())).unwrap_or_default().trim_ascii_end()
}

pub(super) fn tag_of(input: &[u8]) -> &[u8] {
    tag::echoed(word(first_line(input)).0)
}

fn verb_of(input: &[u8]) -> &[u8] {
    word(word(first_line(input)).1).0
}

pub(super) fn takes_literals(input: &[u8]) -> bool {
    verb_of(input).eq_ignore_ascii_case(b"LOGIN") || is_id(input)
}

fn is_id(input: &[u8]) -> bool {
    verb_of(input).eq_ignore_ascii_case(b"ID")
}

/// Returns tag and verb of a command whose arguments do not matter.
pub(super) fn start_of(input: &[u8]) -> Option<&[u8]> {
    let line = first_line(input);
    let (tag, rest) = word(line);
    let verb = word(rest).0;
    let matters = [&b"LOGIN"[..], b"AUTHENTICATE", b""].iter().any(|one| one.eq_ignore_ascii_case(verb));
    // A verb without an end is none.
    let has_end = verb.len() < rest.len() || line.len() < input.len();
    (tag::is_echoed(tag) && !matters && has_end).then(|| line.get(..tag.len() + 1 + verb.len())).flatten()
}

pub(super) const LITERAL_TOO_LARGE: &str = "literal too large";
pub(super) const LITERAL_NOT_ALLOWED: &str = "literal not allowed here";

/// The arguments of LOGIN, one after the other.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Reads an `astring` (§9). Any octet but space, quotes and braces passes in an atom: old devices send what they
    /// are given.
    fn astring(&mut self) -> Option<Vec<u8>> {
        let start = self.rest.iter().position(|&octet| octet != b' ')?;
        let text = self.rest.get(start..)?;
        match text.first()? {
            b'"' => self.quoted(text.get(1..)?),
            b'{' => self.literal(text),
            _ => {
                let (atom, rest) = word(text);
                self.rest = rest;
                Some(atom.to_vec())
            }
        }
    }

    fn quoted(&mut self, text: &'a [u8]) -> Option<Vec<u8>> {
        // The value has room for all of it, so that no copy is left behind when it grows.
        let mut value = Vec::with_capacity(text.len());
        let mut octets = text.iter().enumerate();
        loop {
            match octets.next()? {
                (at, b'"') => {
                    self.rest = text.get(at + 1..)?;
                    // A space or the end follows a closing quote.
                    return matches!(self.rest.first(), None | Some(b' ')).then_some(value);
                }
                (_, b'\\') => value.push(*octets.next()?.1),
                (_, b'\r' | b'\n') => return None,
                (_, octet) => value.push(*octet),
            }
        }
    }

    fn literal(&mut self, text: &'a [u8]) -> Option<Vec<u8>> {
        let line_end = memchr::memchr(b'\n', text)?;
        let announced = text.get(..line_end)?;
        let literal = Literal::at_end_of(announced.strip_suffix(b"\r").unwrap_or(announced))?;
        let size = usize::try_from(literal.size).ok()?;
        let (value, rest) = text.get(line_end + 1..)?.split_at_checked(size)?;
        self.rest = rest;
        Some(value.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(input: &[u8], continued: usize) -> (Vec<u8>, Vec<u8>) {
        match parse(input, &CommandLimits::default(), continued) {
            Parsed::Complete { command: Command { verb: Verb::Login { user, password }, .. }, len } => {
                assert_eq!(len, input.len());
                (user, password.expose().to_vec())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn login_in_every_form() {
        for (input, continued) in [
            (&b"a1 LOGIN scan secret\r\n"[..], 0),
            (b"a1 login \"scan\" \"secret\"\r\n", 0),
            (b"a1 LoGiN {4}\r\nscan {6}\r\nsecret\r\n", 2),
            (b"a1 LOGIN {4+}\r\nscan {6+}\r\nsecret\r\n", 0),
            (b"a1 LOGIN \"scan\" {6}\r\nsecret\r\n", 1),
            (b"a1 LOGIN scan  secret \r\n", 0),
        ] {
            assert_eq!(login(input, continued), (b"scan".to_vec(), b"secret".to_vec()), "{input:?}");
        }
        assert_eq!(login(b"a LOGIN \"a b\\\"c\" \"d\\\\e f\"\r\n", 0), (b"a b\"c".to_vec(), b"d\\e f".to_vec()));
        assert_eq!(login(b"a LOGIN {3+}\r\n{5} \"\"\r\n", 0).0, b"{5}");
        assert_eq!(login("a LOGIN us\u{fc}r \"p\u{e4}ss\"\r\n".as_bytes(), 0).0, "us\u{fc}r".as_bytes());
    }

    #[test]
    fn synchronising_literals_wait_one_after_the_other() {
        let limits = CommandLimits::default();
        assert!(matches!(parse(b"a LOGIN {4}\r\n", &limits, 0), Parsed::Continue { .. }));
        assert!(matches!(parse(b"a LOGIN {4}\r\n", &limits, 1), Parsed::Incomplete));
        assert!(matches!(parse(b"a LOGIN {4}\r\nscan {6}\r\n", &limits, 1), Parsed::Continue { .. }));
        assert!(matches!(parse(b"a LOGIN {0}\r\n {6}\r\n", &limits, 1), Parsed::Continue { .. }));
        assert!(matches!(parse(b"a SELECT {5}\r\n", &limits, 0), Parsed::Bad { len: 14, .. }));
        assert!(matches!(parse(b"a LOGIN {99999}\r\n", &limits, 0), Parsed::Bad { .. }));
        assert!(matches!(parse(b"a LOGIN {99999+}\r\n", &limits, 0), Parsed::TooLong));
        assert!(matches!(parse(b"a LOGIN {99999999999999999999999+}\r\n", &limits, 0), Parsed::Bad { .. }));
    }

    #[test]
    fn malformed_logins_are_refused() {
        let limits = CommandLimits::default();
        for input in [
            &b"\r\n"[..],
            b"a1\r\n",
            b"* LOGIN a b\r\n",
            b"a LOGIN\r\n",
            b"a LOGIN user\r\n",
            b"a LOGIN user pass word\r\n",
            b"a LOGIN \"user pass\r\n",
            b"a LOGIN \"user\"pass word\r\n",
        ] {
            assert!(matches!(parse(input, &limits, 0), Parsed::Bad { .. }), "{input:?}");
        }
    }
}
