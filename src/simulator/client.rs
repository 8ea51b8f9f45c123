//! The client is an old device that fetches its mail, or sends a scan, command by command.

mod submit;

use std::fmt;
use std::io;

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::protocol::Protocol;
pub use submit::{Hello, Job, Login, LoginForm, stuffed, submit};

/// One command of the device, and the server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The command, with the password as `****`; empty for the greeting.
    pub command: String,
    /// The lines of the answer; of a long message only its length.
    pub answer: String,
}

/// The error of a device that fetches its mail.
#[derive(Debug)]
pub enum FetchError {
    /// The server does not greet as its protocol says; its line.
    Greeting(String),
    /// The server refuses a command.
    Refused(Exchange),
    /// The server closed the connection.
    Closed,
    /// The connection broke.
    Broken(io::Error),
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greeting(line) => write!(f, "greeted with: {line}"),
            Self::Refused(Exchange { command, answer }) => write!(f, "{command} was answered: {answer}"),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
        }
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(error) => Some(error),
            Self::Greeting(_) | Self::Refused(_) | Self::Closed => None,
        }
    }
}

/// Fetches a message, as a device that logs in with user name and password: by IMAP the newest, by POP3 the first.
///
/// # Errors
/// The server refused a command, or speaks another protocol; the error holds command and answer.
pub async fn fetch<S>(protocol: Protocol, stream: S, login: &str, password: &str) -> Result<Vec<Exchange>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match protocol {
        Protocol::Imap => fetch_by_imap(stream, login, password).await,
        Protocol::Pop3 => fetch_by_pop3(stream, login, password).await,
        Protocol::Smtp => Err(FetchError::Greeting("SMTP fetches no mail".to_owned())),
    }
}

/// Fetches the newest message by IMAP, as a device that logs in with user name and password.
///
/// # Errors
/// The server refused a command, or speaks another protocol; the error holds command and answer.
async fn fetch_by_imap<S>(stream: S, login: &str, password: &str) -> Result<Vec<Exchange>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut conversation = Conversation::new(stream);
    conversation.greeting(b"* OK").await?;
    let (login, password) = (quote(login), quote(password));
    conversation.imap("1", &format!("LOGIN {login} {password}"), &format!("LOGIN {login} \"****\"")).await?;
    let selected = conversation.imap_plain("2", "SELECT INBOX").await?;
    if !selected.contains("* 0 EXISTS") {
        conversation.imap_plain("3", "FETCH * (RFC822.SIZE BODY.PEEK[])").await?;
    }
    conversation.imap_plain("4", "LOGOUT").await?;
    Ok(conversation.exchanges)
}

/// Fetches the first message by POP3 and leaves it there, as a device that logs in with USER and PASS.
///
/// # Errors
/// The server refused a command, or speaks another protocol; the error holds command and answer.
async fn fetch_by_pop3<S>(stream: S, login: &str, password: &str) -> Result<Vec<Exchange>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut conversation = Conversation::new(stream);
    conversation.greeting(b"+OK").await?;
    conversation.pop3(&format!("USER {login}"), &format!("USER {login}"), false).await?;
    conversation.pop3(&format!("PASS {password}"), "PASS ****", false).await?;
    conversation.pop3("STAT", "STAT", false).await?;
    let listed = conversation.pop3("LIST", "LIST", true).await?;
    if listed.lines().nth(1).is_some_and(|line| line.starts_with("1 ")) {
        conversation.pop3("RETR 1", "RETR 1", true).await?;
    }
    conversation.pop3("QUIT", "QUIT", false).await?;
    Ok(conversation.exchanges)
}

struct Conversation<S> {
    stream: S,
    unread: Vec<u8>,
    exchanges: Vec<Exchange>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    fn new(stream: S) -> Self {
        Self { stream, unread: Vec::new(), exchanges: Vec::new() }
    }

    async fn greeting(&mut self, begins: &[u8]) -> Result<(), FetchError> {
        let line = self.line().await?;
        if !line.as_bytes().starts_with(begins) {
            return Err(FetchError::Greeting(line));
        }
        self.exchanges.push(Exchange { command: String::new(), answer: line });
        Ok(())
    }

    async fn imap_plain(&mut self, tag: &str, command: &str) -> Result<String, FetchError> {
        self.imap(tag, command, command).await
    }

    /// Sends a command and reads all of its answer; of long literals only the length is kept.
    async fn imap(&mut self, tag: &str, command: &str, shown: &str) -> Result<String, FetchError> {
        self.send(&format!("{tag} {command}")).await?;
        let mut answer = String::new();
        loop {
            let mut line = self.line().await?;
            while let Some(length) = literal(&line) {
                let text = self.literal(length).await?;
                line = format!("{line}\n{text}{}", self.line().await?);
            }
            let is_last = line.strip_prefix(tag).is_some_and(|rest| rest.starts_with(' '));
            answer.push_str(&line);
            if is_last {
                let is_ok = line.strip_prefix(tag).is_some_and(|rest| rest.starts_with(" OK"));
                return self.record(format!("{tag} {shown}"), answer, is_ok);
            }
            answer.push('\n');
        }
    }

    /// Sends a command and reads its answer; of a long multi-line answer only the length is kept.
    async fn pop3(&mut self, command: &str, shown: &str, is_multi_line: bool) -> Result<String, FetchError> {
        self.send(command).await?;
        let mut answer = self.line().await?;
        let is_ok = answer.starts_with("+OK");
        if is_ok && is_multi_line {
            let (mut lines, mut octets) = (String::new(), 0);
            loop {
                let line = self.line().await?;
                if line == "." {
                    break;
                }
                octets += line.len() + 2;
                if octets <= SHOWN {
                    lines.push('\n');
                    lines.push_str(&line);
                }
            }
            let lines = if octets > SHOWN { format!("\n... {octets} octets ...") } else { lines };
            answer.push_str(&lines);
            answer.push_str("\n.");
        }
        self.record(shown.to_owned(), answer, is_ok)
    }

    fn record(&mut self, command: String, answer: String, is_ok: bool) -> Result<String, FetchError> {
        if !is_ok {
            return Err(FetchError::Refused(Exchange { command, answer }));
        }
        self.exchanges.push(Exchange { command, answer: answer.clone() });
        Ok(answer)
    }

    async fn send(&mut self, line: &str) -> Result<(), FetchError> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.stream.flush().await?;
        Ok(())
    }

    async fn line(&mut self) -> Result<String, FetchError> {
        loop {
            if let Some(at) = memchr(b'\n', &self.unread) {
                let line: Vec<u8> = self.unread.drain(..=at).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            self.fill().await?;
        }
    }

    /// The text of a literal; of a long one only its length.
    async fn literal(&mut self, length: usize) -> Result<String, FetchError> {
        let mut left = length;
        let mut text = Vec::new();
        loop {
            let here = left.min(self.unread.len());
            if length <= SHOWN {
                text.extend(self.unread.iter().take(here));
            }
            self.unread.drain(..here);
            left -= here;
            if left == 0 {
                break;
            }
            self.fill().await?;
        }
        Ok(if length <= SHOWN {
            String::from_utf8_lossy(&text).replace("\r\n", "\n")
        } else {
            format!("... {length} octets ...\n")
        })
    }

    async fn fill(&mut self) -> Result<(), FetchError> {
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(FetchError::Closed),
            _ => Ok(()),
        }
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn literal(line: &str) -> Option<usize> {
    line.strip_suffix('}')?.rsplit_once('{')?.1.parse().ok()
}

/// The longest literal or multi-line answer that is kept, in octets.
const SHOWN: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a script against a server whose answers are fixed; returns its result and the commands that it sent.
    pub(super) async fn scripted<T, F>(answers: &str, script: impl FnOnce(tokio::io::DuplexStream) -> F) -> (T, String)
    where
        F: Future<Output = T>,
    {
        let (mut server, device) = tokio::io::duplex(4096);
        server.write_all(answers.as_bytes()).await.unwrap();
        let result = script(device).await;
        let mut commands = String::new();
        server.read_to_string(&mut commands).await.unwrap();
        (result, commands)
    }

    #[tokio::test]
    async fn imap_without_the_password() {
        let answers = "* OK hello\r\n1 OK in\r\n* 1 EXISTS\r\n2 OK\r\n* 1 FETCH (BODY[] {3}\r\nabc)\r\n3 OK\r\n\
                       * BYE\r\n4 OK\r\n";
        let (exchanges, commands) = scripted(answers, |device| fetch_by_imap(device, "scan", "hunter\"2")).await;
        let exchanges = exchanges.unwrap();
        assert_eq!(exchanges.len(), 5);
        assert_eq!(exchanges[3].answer, "* 1 FETCH (BODY[] {3}\nabc)\n3 OK");
        assert!(commands.starts_with("1 LOGIN \"scan\" \"hunter\\\"2\"\r\n"));
        assert!(!format!("{exchanges:?}").contains("hunter"));
    }

    #[tokio::test]
    async fn pop3_up_to_a_no() {
        let answers = "+OK hello\r\n+OK\r\n-ERR no\r\n";
        let (exchanges, _) = scripted(answers, |device| fetch_by_pop3(device, "scan", "hunter2")).await;
        assert_eq!(exchanges.unwrap_err().to_string(), "PASS **** was answered: -ERR no");
    }
}
