//! Status indicators (RFC 1939 §3) and their response codes (RFC 2449 §8, RFC 3206).

use crate::failure::Reply;

/// Writes a status indicator with its text: `indicator text CRLF`.
pub(super) fn line(indicator: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(indicator.as_bytes());
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Returns the refusal of a login, behind `-ERR `. The texts are short: devices show them on a small display.
pub(super) fn refusal(reply: Reply) -> &'static str {
    match reply {
        Reply::BadCredentials => "[AUTH] user name or password is wrong",
        Reply::NotAuthorized => "[AUTH] no access to this mailbox",
        Reply::NotVerified => "[SYS/TEMP] too many logins, try again later",
        Reply::Observed => "[SYS/TEMP] only inventory is taken here, try again later",
        Reply::Unavailable => "[SYS/TEMP] mail server not reachable, try again later",
        Reply::ContactAdmin => "[SYS/PERM] mail server setup needs attention",
        Reply::InUse => "[IN-USE] mailbox is in use, try again later",
    }
}

/// The first line of a server's response, without its line end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Status<'a> {
    Ok,
    /// The text behind `-ERR `.
    Err(&'a [u8]),
    /// `+`, with or without a space and a challenge (RFC 5034 §4).
    Continuation,
    /// Another line.
    Other,
}

impl<'a> Status<'a> {
    pub(super) fn read(line: &'a [u8]) -> Self {
        if begins(line, b"+OK") {
            Status::Ok
        } else if begins(line, b"-ERR") {
            Status::Err(line.get(b"-ERR".len()..).unwrap_or_default().trim_ascii())
        } else if line == b"+" || line.starts_with(b"+ ") {
            Status::Continuation
        } else {
            Status::Other
        }
    }
}

fn begins(line: &[u8], indicator: &[u8]) -> bool {
    line.get(..indicator.len()).is_some_and(|start| start.eq_ignore_ascii_case(indicator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_indicators() {
        assert_eq!(Status::read(b"+OK"), Status::Ok);
        assert_eq!(Status::read(b"+"), Status::Continuation);
        assert_eq!(Status::read(b"+ dGVzdA=="), Status::Continuation);
        assert_eq!(Status::read(b"-ERR [IN-USE] busy"), Status::Err(b"[IN-USE] busy"));
        assert_eq!(Status::read(b"hello"), Status::Other);
    }
}
