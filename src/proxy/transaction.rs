//! A mail transaction as a client (RFC 5321 §3.3): MAIL, RCPT and DATA for a message from the spool, one command at a
//! time.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::config::SubmissionLimits;
use crate::failure::{Failure, Refuser};
use crate::proto::{Judged, Refused, judge};
use crate::spool::{self, Answer, Envelope, Outgoing, Piece};

/// A connection to a mail server that has let us in.
pub(super) struct Transaction<S> {
    stream: S,
    /// The octets that were read and are not a whole line yet.
    unread: Vec<u8>,
    limits: SubmissionLimits,
}

/// The outcome of a transaction.
pub(super) struct Outcome {
    pub(super) answer: Answer,
    /// The refusal of the message, if it is refused.
    pub(super) failure: Option<Failure>,
    /// The number of recipients that the server has taken.
    pub(super) taken: u32,
    /// The recipients that the server has refused for good, each with its reply.
    pub(super) refused: Vec<(String, String)>,
    /// The recipients that the server does not take for the moment, each with its reply.
    pub(super) deferred: Vec<(String, String)>,
}

/// The recipients of a message, by the server's replies.
#[derive(Default)]
struct Recipients {
    taken: u32,
    refused: Vec<(String, String)>,
    deferred: Vec<(String, String)>,
}

/// A reason why a transaction came to no answer.
pub(super) enum Error {
    /// The server was lost, with the words for it.
    Lost(Lost),
    /// The message's file does not let itself be sent. The final dot was not.
    Spool(spool::Error),
}

/// The way in which a server was lost.
pub(super) enum Lost {
    Io(io::Error),
    Closed,
    Silent(Duration),
    /// The server has sent what is no reply.
    NoReply,
}

/// A whole reply.
struct Reply {
    class: u8,
    text: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transaction<S> {
    /// A transaction on this stream. The server has sent `unread` already.
    pub(super) fn new(stream: S, unread: &[u8], limits: SubmissionLimits) -> Self {
        Self { stream, unread: unread.to_vec(), limits }
    }

    /// Sends the message. An error behind the final dot comes as [`Answer::Lost`], as the spool expects it.
    pub(super) async fn send(&mut self, outgoing: &mut Outgoing) -> Result<Outcome, Error> {
        let envelope = outgoing.envelope().clone();
        let recipients = match self.until_content(&envelope).await? {
            Ok(recipients) => recipients,
            Err(outcome) => return Ok(outcome),
        };
        loop {
            match outgoing.next().await.map_err(Error::Spool)? {
                Piece::More(piece) => self.write(&piece, self.limits.content_timeout).await?,
                Piece::Last(piece) => {
                    self.write(&piece, self.limits.content_timeout).await?;
                    break;
                }
            }
        }
        let reply = self.reply(self.limits.answer_timeout).await?;
        reply.outcome(recipients)
    }

    /// Waits for the answer to a message that was sent to so many recipients before. The end of it may not have left yet.
    pub(super) async fn late_answer(&mut self, recipients: u32) -> Outcome {
        match self.answer_behind_end(recipients).await {
            Ok(outcome) => outcome,
            Err(Error::Lost(lost)) => Outcome::lost(lost.to_string()),
            Err(Error::Spool(error)) => Outcome::lost(error.to_string()),
        }
    }

    async fn answer_behind_end(&mut self, taken: u32) -> Result<Outcome, Error> {
        self.write(b"", self.limits.content_timeout).await?;
        let reply = self.reply(self.limits.answer_timeout).await?;
        reply.outcome(Recipients { taken, ..Recipients::default() })
    }

    /// Says goodbye. The message is settled, whatever the server answers.
    pub(super) async fn quit(mut self) {
        let _ = self.write(b"QUIT\r\n", GOODBYE).await;
        let _ = timeout(GOODBYE, self.stream.shutdown()).await;
    }

    /// Says all that comes before the content. Returns the same as [`envelope`](Self::envelope).
    async fn until_content(&mut self, envelope: &Envelope) -> Result<Result<Recipients, Outcome>, Error> {
        let recipients = match self.envelope(envelope).await? {
            Ok(recipients) => recipients,
            Err(outcome) => return Ok(Err(outcome)),
        };
        let go_ahead = self.command("DATA").await?;
        match go_ahead.class {
            b'3' if self.unread.is_empty() => Ok(Ok(recipients)),
            // RFC 5321 §4.3.2: no success answers DATA. A message that it is taken for would be lost.
            b'2' | b'3' => Err(Error::Lost(Lost::NoReply)),
            _ => Ok(Err(go_ahead.outcome(recipients)?)),
        }
    }

    /// Names the sender and the recipients. Returns the recipients, of whom some are taken, or the outcome of the whole
    /// message.
    async fn envelope(&mut self, envelope: &Envelope) -> Result<Result<Recipients, Outcome>, Error> {
        let Envelope { sender, recipients, parameters, .. } = envelope;
        let space = if parameters.is_empty() { "" } else { " " };
        let reply = self.command(&format!("MAIL FROM:<{sender}>{space}{parameters}")).await?;
        if reply.class != b'2' {
            return Ok(Err(reply.outcome(Recipients::default())?));
        }
        let (mut answered, mut refusal) = (Recipients::default(), None);
        for recipient in recipients {
            let reply = self.command(&format!("RCPT TO:<{recipient}>")).await?;
            if reply.class == b'2' {
                answered.taken = answered.taken.saturating_add(1);
                continue;
            }
            let Judged { failure, passes } =
                judge(Refused::Recipient, &reply.text).filter(|_| reply.class != b'3').ok_or_else(no_reply)?;
            // The server closes, or throttles the mailbox: the others are not asked, and nobody gets the message.
            if reply.is_closing() || failure.retry_after.is_some() {
                return Ok(Err(Outcome::refused(Judged { failure, passes }, reply.text, answered)));
            }
            let answers = if passes { &mut answered.deferred } else { &mut answered.refused };
            answers.push((recipient.clone(), reply.text));
            refusal = Some(failure);
        }
        if answered.taken > 0 {
            return Ok(Ok(answered));
        }
        let refusal = refusal.ok_or_else(no_reply)?;
        let passes = !answered.deferred.is_empty();
        let replies = if passes { &answered.deferred } else { &answered.refused };
        let text = replies.iter().map(|(_, reply)| reply.as_str()).collect::<Vec<_>>().join("; ");
        // Without a recipient the message itself comes to nothing.
        let failure = Failure { message_refused_by: Some(Refuser::MailServer), ..refusal };
        Ok(Err(Outcome::refused(Judged { failure, passes }, text, answered)))
    }

    async fn command(&mut self, line: &str) -> Result<Reply, Error> {
        // A reply that is there before the command answers another one, and must not be taken for the answer to this.
        if !self.unread.is_empty() {
            return Err(Error::Lost(Lost::NoReply));
        }
        self.write(format!("{line}\r\n").as_bytes(), self.limits.reply_timeout).await?;
        self.reply(self.limits.reply_timeout).await
    }

    async fn write(&mut self, octets: &[u8], patience: Duration) -> Result<(), Error> {
        let written = timeout(patience, async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        });
        let written = written.await.map_err(|_| Error::Lost(Lost::Silent(patience)))?;
        written.map_err(|error| Error::Lost(Lost::Io(error)))
    }

    async fn reply(&mut self, patience: Duration) -> Result<Reply, Error> {
        let reply = timeout(patience, self.whole_reply()).await;
        reply.unwrap_or(Err(Lost::Silent(patience))).map_err(Error::Lost)
    }

    async fn whole_reply(&mut self) -> Result<Reply, Lost> {
        let mut text = String::new();
        loop {
            let line = self.line().await?;
            let (code, rest) = line.split_at_checked(3).ok_or(Lost::NoReply)?;
            if !matches!(code, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']) {
                return Err(Lost::NoReply);
            }
            if text.is_empty() {
                text.extend(code.iter().map(|&digit| char::from(digit)));
            } else if !text.as_bytes().starts_with(code) {
                // RFC 5321 §4.2.1: every line has the same code.
                return Err(Lost::NoReply);
            }
            let shown = rest.get(1..).unwrap_or_default().trim_ascii();
            if text.len() + shown.len() < LONGEST_REPLY {
                text.push(' ');
                text.extend(shown.iter().map(|&one| if (b' '..=b'~').contains(&one) { char::from(one) } else { '?' }));
            }
            match rest.first() {
                Some(b'-') => {}
                Some(b' ') | None => {
                    let class = code.first().copied().unwrap_or_default();
                    return Ok(Reply { class, text: text.trim_end().to_owned() });
                }
                Some(_) => return Err(Lost::NoReply),
            }
        }
    }

    /// Reads a line, without its line end.
    async fn line(&mut self) -> Result<Vec<u8>, Lost> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.unread) {
                let rest = self.unread.split_off(at + 1);
                let mut line = std::mem::replace(&mut self.unread, rest);
                line.truncate(at);
                return Ok(line.strip_suffix(b"\r").unwrap_or(&line).to_vec());
            }
            if self.unread.len() > LONGEST_LINE {
                return Err(Lost::NoReply);
            }
            if self.stream.read_buf(&mut self.unread).await.map_err(Lost::Io)? == 0 {
                return Err(Lost::Closed);
            }
        }
    }
}

impl Reply {
    /// The outcome of a message by the reply to it, or to its sender or DATA. 3yz answers none of them.
    fn outcome(self, recipients: Recipients) -> Result<Outcome, Error> {
        match self.class {
            b'2' => {
                let Recipients { taken, refused, deferred } = recipients;
                Ok(Outcome { answer: Answer::Accepted(self.text), failure: None, taken, refused, deferred })
            }
            b'4' | b'5' => {
                let judged = judge(Refused::Message, &self.text).ok_or_else(no_reply)?;
                Ok(Outcome::refused(judged, self.text, recipients))
            }
            _ => Err(no_reply()),
        }
    }

    /// RFC 5321 §3.8: the server closes behind 421.
    fn is_closing(&self) -> bool {
        self.text.starts_with("421")
    }
}

impl Outcome {
    /// A message that nobody has got.
    fn refused(judged: Judged, text: String, recipients: Recipients) -> Self {
        let answer = if judged.passes { Answer::Temporary(text) } else { Answer::Permanent(text) };
        let Recipients { refused, .. } = recipients;
        Self { answer, failure: Some(judged.failure), taken: 0, refused, deferred: Vec::new() }
    }

    /// A message whose server was lost.
    pub(super) fn lost(why: String) -> Self {
        Self { answer: Answer::Lost(why), failure: None, taken: 0, refused: Vec::new(), deferred: Vec::new() }
    }
}

fn no_reply() -> Error {
    Error::Lost(Lost::NoReply)
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the mail server was lost: {error}"),
            Self::Closed => f.write_str("the mail server has closed the connection"),
            Self::Silent(patience) => {
                write!(f, "the mail server did not answer within {}", humantime::format_duration(*patience))
            }
            Self::NoReply => f.write_str("the mail server has sent what is no reply"),
        }
    }
}

const LONGEST_LINE: usize = 8 * 1024;
/// The octets of a reply that are repeated.
const LONGEST_REPLY: usize = 500;
/// The time for the last words to the server.
const GOODBYE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
