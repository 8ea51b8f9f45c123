//! Status indicators (RFC 1939 §3) and their response codes (RFC 2449 §8, RFC 3206).

use crate::failure::Reply;

/// How a login is refused. The texts are short: devices show them on a small display.
pub(super) fn refusal(reply: Reply) -> &'static str {
    match reply {
        Reply::BadCredentials => "-ERR [AUTH] user name or password is wrong\r\n",
        Reply::NotAuthorized => "-ERR [AUTH] no access to this mailbox\r\n",
        Reply::NotVerified => "-ERR [SYS/TEMP] too many logins, try again later\r\n",
        Reply::Observed => "-ERR [SYS/TEMP] only inventory is taken here, try again later\r\n",
        Reply::Unavailable => "-ERR [SYS/TEMP] mail server not reachable, try again later\r\n",
        Reply::ContactAdmin => "-ERR [SYS/PERM] mail server setup needs attention\r\n",
        Reply::InUse => "-ERR [IN-USE] mailbox is in use, try again later\r\n",
    }
}

/// The first line of a server's answer, without its line end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Status<'a> {
    Ok,
    /// The text behind `-ERR `.
    Err(&'a [u8]),
    /// `+`, with or without a space and a challenge (RFC 5034 §4).
    Continuation,
    /// Nothing of the kind.
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
