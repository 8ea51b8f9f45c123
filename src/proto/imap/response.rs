//! Status responses (RFC 3501 §7.1), which packetboat sends to the device and reads from the server during the login.

use crate::proto::line::word;

/// Writes `tag text CRLF`.
pub(super) fn tagged(out: &mut Vec<u8>, tag: &[u8], text: &str) {
    out.extend_from_slice(tag);
    out.push(b' ');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Answers LOGOUT (RFC 3501 §6.1.3).
pub(super) fn logged_out(out: &mut Vec<u8>, tag: &[u8]) {
    out.extend_from_slice(b"* BYE closing connection\r\n");
    tagged(out, tag, "OK LOGOUT completed");
}

/// A line of the server, without its line end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response<'a> {
    /// `+ text`; the space may be missing.
    Continuation,
    /// `* keyword text`
    Untagged { keyword: &'a [u8], text: &'a [u8] },
    /// `tag OK|NO|BAD text`
    Tagged { tag: &'a [u8], status: Status, text: &'a [u8] },
    /// Another line.
    Other,
}

/// The three outcomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    No,
    Bad,
}

impl Status {
    pub(super) fn parse(keyword: &[u8]) -> Option<Self> {
        match keyword.to_ascii_uppercase().as_slice() {
            b"OK" => Some(Status::Ok),
            b"NO" => Some(Status::No),
            b"BAD" => Some(Status::Bad),
            _ => None,
        }
    }
}

impl<'a> Response<'a> {
    pub(super) fn read(line: &'a [u8]) -> Self {
        if line.first() == Some(&b'+') {
            return Response::Continuation;
        }
        let (tag, rest) = word(line);
        let (keyword, text) = word(rest);
        match (tag, Status::parse(keyword)) {
            (b"*", _) => Response::Untagged { keyword, text },
            (_, Some(status)) => Response::Tagged { tag, status, text },
            (_, None) => Response::Other,
        }
    }
}

/// Returns the list in a `[CAPABILITY list]` code that `text` begins with (RFC 3501 §7.1).
pub(super) fn capability_code(text: &[u8]) -> Option<&[u8]> {
    let (opening, list) = text.split_at_checked(CODE.len())?;
    let end = memchr::memchr(b']', list)?;
    opening.eq_ignore_ascii_case(CODE).then(|| list.get(..end)).flatten()
}

pub(super) const CODE: &[u8] = b"[CAPABILITY ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        assert_eq!(capability_code(b"[CAPABILITY IMAP4rev1 IDLE] hello"), Some(&b"IMAP4rev1 IDLE"[..]));
        assert_eq!(capability_code(b"[capability IMAP4rev1]"), Some(&b"IMAP4rev1"[..]));
        assert_eq!(capability_code(b"[CAPABILITY IMAP4rev1"), None);
        assert_eq!(capability_code(b"hello"), None);
    }
}
