//! A kept connection to an IMAP server is one that is logged in and has no device. packetboat sends it commands of its
//! own, and reads the answers.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use memchr::memchr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::text::excerpt;
use crate::transport::Stream;

/// An authenticated connection.
pub(super) struct KeptConnection {
    stream: Stream,
    unread: Vec<u8>,
    /// The number of commands so far, for their tags.
    commands: u32,
}

/// The answer to a command.
#[derive(Debug)]
pub(super) struct Answer {
    untagged: Vec<Vec<u8>>,
    /// The tagged line without its tag.
    status: Vec<u8>,
    command: &'static str,
}

/// The reason for which a command has no answer, or another one than OK.
#[derive(Debug)]
pub(super) enum AnswerError {
    /// The connection broke.
    Broken(&'static str, io::Error),
    /// The server closed the connection.
    Closed(&'static str),
    /// The server ended the session with these words.
    Bye(&'static str, String),
    /// The server did not answer within this time.
    Late(&'static str, Duration),
    /// The server answered with these words.
    Refused(&'static str, String),
    /// The answer is too long.
    TooLong(&'static str),
}

impl KeptConnection {
    /// A connection on which a login has succeeded, with the octets behind that.
    pub(super) fn new(stream: Stream, unread: Vec<u8>) -> Self {
        Self { stream, unread, commands: 0 }
    }

    /// Sends a command and reads its answer.
    pub(super) async fn ask(&mut self, command: &'static str, limit: Duration) -> Result<Answer, AnswerError> {
        let answer = timeout(limit, self.ask_patiently(command)).await;
        answer.unwrap_or(Err(AnswerError::Late(command, limit)))
    }

    /// Opens the inbox for reading only; returns its UIDNEXT, if the server gives it.
    pub(super) async fn next_uid(&mut self, limit: Duration) -> Result<Option<u32>, AnswerError> {
        Ok(self.ask("EXAMINE INBOX", limit).await?.into_ok()?.next_uid())
    }

    /// Logs out and closes the connection, whatever the server answers.
    pub(super) async fn log_out(mut self) {
        let _ = self.ask("LOGOUT", FAREWELL).await;
        let _ = timeout(FAREWELL, self.stream.shutdown()).await;
    }

    async fn ask_patiently(&mut self, command: &'static str) -> Result<Answer, AnswerError> {
        self.commands += 1;
        let tag = format!("k{} ", self.commands);
        let broken = |error| AnswerError::Broken(command, error);
        self.stream.write_all(format!("{tag}{command}\r\n").as_bytes()).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)?;
        let (mut untagged, mut length) = (Vec::new(), 0);
        loop {
            let line = self.line(command).await?;
            length += line.len();
            if let Some(status) = line.strip_prefix(tag.as_bytes()) {
                return Ok(Answer { untagged, status: status.to_vec(), command });
            }
            if command != "LOGOUT" && line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"* BYE")) {
                return Err(AnswerError::Bye(command, excerpt(&line)));
            }
            if length > LONGEST_ANSWER {
                return Err(AnswerError::TooLong(command));
            }
            untagged.push(line);
        }
    }

    /// The next line, without its end.
    async fn line(&mut self, command: &'static str) -> Result<Vec<u8>, AnswerError> {
        loop {
            if let Some(at) = memchr(b'\n', &self.unread) {
                let mut line: Vec<u8> = self.unread.drain(..=at).collect();
                line.truncate(line.trim_ascii_end().len());
                return Ok(line);
            }
            if self.unread.len() > LONGEST_ANSWER {
                return Err(AnswerError::TooLong(command));
            }
            let read = self.stream.read_buf(&mut self.unread).await;
            if read.map_err(|error| AnswerError::Broken(command, error))? == 0 {
                return Err(AnswerError::Closed(command));
            }
        }
    }
}

impl Answer {
    /// The answer, if it is OK.
    pub(super) fn into_ok(self) -> Result<Self, AnswerError> {
        let is_ok = self.status.get(..2).is_some_and(|status| status.eq_ignore_ascii_case(b"OK"));
        if is_ok { Ok(self) } else { Err(AnswerError::Refused(self.command, excerpt(&self.status))) }
    }

    /// Returns whether a list of capabilities has this word.
    pub(super) fn announces(&self, capability: &str) -> bool {
        let mut lists = self.untagged.iter().filter_map(|line| {
            line.get(..13).is_some_and(|start| start.eq_ignore_ascii_case(b"* CAPABILITY ")).then(|| line.get(13..))?
        });
        let has = |list: &[u8]| {
            list.split(|octet| *octet == b' ').any(|word| word.eq_ignore_ascii_case(capability.as_bytes()))
        };
        lists.any(has)
    }

    /// The number behind `[UIDNEXT ` (RFC 3501 §7.1).
    fn next_uid(&self) -> Option<u32> {
        self.untagged.iter().find_map(|line| {
            let text = std::str::from_utf8(line).ok()?.to_ascii_uppercase();
            let (_, behind) = text.split_once("[UIDNEXT ")?;
            behind.split_once(']')?.0.trim().parse().ok()
        })
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(command, error) => write!(f, "{command}: the connection broke: {error}"),
            Self::Closed(command) => write!(f, "{command}: the server closed the connection"),
            Self::Bye(command, line) => write!(f, "{command}: the server ended the session with \"{line}\""),
            Self::Late(command, limit) => {
                write!(f, "{command}: no answer within {}", humantime::format_duration(*limit))
            }
            Self::Refused(command, text) => write!(f, "{command}: the server answered \"{text}\""),
            Self::TooLong(command) => write!(f, "{command}: the answer is too long"),
        }
    }
}

impl Error for AnswerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Broken(_, error) => Some(error),
            Self::Closed(_) | Self::Bye(..) | Self::Late(..) | Self::Refused(..) | Self::TooLong(_) => None,
        }
    }
}

/// The most octets of an answer to one of these commands.
const LONGEST_ANSWER: usize = 64 * 1024;
/// The time for a LOGOUT, and for the end of TLS.
const FAREWELL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lines: &[&str], status: &str) -> Answer {
        let untagged = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        Answer { untagged, status: status.as_bytes().to_vec(), command: "X" }
    }

    #[test]
    fn capabilities_are_whole_words() {
        let list = answer(&["* OK [CAPABILITY UNSELECT]", "* capability IMAP4rev1 UNSELECTED Idle"], "OK");
        assert!(list.announces("IDLE") && !list.announces("UNSELECT"));
    }

    #[test]
    fn uidnext_stands_in_a_code() {
        assert_eq!(answer(&["* 3 EXISTS", "* OK [UIDNEXT 4392] next"], "OK").next_uid(), Some(4392));
        // Some servers leave out OK.
        assert_eq!(answer(&["* [uidnext 7] next"], "OK").next_uid(), Some(7));
        assert_eq!(answer(&["* OK [UIDNEXT x] next", "* 4 EXISTS"], "OK").next_uid(), None);
    }

    #[test]
    fn only_ok_is_ok() {
        assert!(answer(&[], "ok [READ-ONLY] done").into_ok().is_ok());
        let refused = answer(&[], "NO Server Unavailable. 15").into_ok().unwrap_err();
        assert_eq!(refused.to_string(), "X: the server answered \"NO Server Unavailable. 15\"");
    }
}
