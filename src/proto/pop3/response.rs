//! Status indicators (RFC 1939 §3), which packetboat sends to the device and reads from the server.

/// Writes a status indicator with its text: `indicator text CRLF`.
pub(super) fn line(indicator: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(indicator.as_bytes());
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
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
