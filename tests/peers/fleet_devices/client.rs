//! A client of IMAP, POP3 and SMTP over TLS 1.0, which returns what goes wrong.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use openssl::ssl::{SslContext, SslSession};
use support::connection::Connection;
use support::smtp::{base64, stuffed};

/// A reason why a visit has failed.
#[derive(Debug)]
pub enum Trouble {
    /// The connection broke in this step, or nothing came for as long as the device waits.
    Broken(&'static str, io::Error),
    /// This answer came in the place of a good one.
    Refused(&'static str, String),
    /// The session was ended with these words.
    Bye(&'static str, String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(step, error) => write!(f, "{step}: {error}"),
            Self::Refused(step, answer) => write!(f, "{step}: refused with {answer}"),
            Self::Bye(step, words) => write!(f, "{step}: {words}"),
        }
    }
}

pub type Visit<T = ()> = Result<T, Trouble>;

pub struct Client {
    connection: Connection,
    tag: u32,
}

/// The parts of an answer by IMAP.
#[derive(Default)]
pub struct Answer {
    /// The number of messages, as last said.
    pub exists: usize,
    pub literals: Vec<Vec<u8>>,
}

impl Client {
    /// Connects from this address, and resumes the session of before.
    pub fn connect(
        source: IpAddr,
        to: SocketAddr,
        context: &SslContext,
        session: &mut Option<SslSession>,
    ) -> Visit<Self> {
        let mut connection = Connection::connect(source, to).map_err(broken("connect"))?;
        connection.set_patience(PATIENCE).map_err(broken("connect"))?;
        connection.connect_tls(context, session).map_err(broken("handshake"))?;
        Ok(Self { connection, tag: 0 })
    }

    pub fn log_in_by_imap(&mut self, login: &str, password: &str) -> Visit {
        let greeting = self.line("greeting")?;
        if !greeting.starts_with("* OK") {
            return Err(Trouble::Refused("greeting", greeting));
        }
        self.imap("LOGIN", &format!("LOGIN {login} {password}")).map(drop)
    }

    /// A command that is answered with OK.
    pub fn imap(&mut self, step: &'static str, command: &str) -> Visit<Answer> {
        self.tag += 1;
        let tag = format!("d{} ", self.tag);
        self.send(step, format!("{tag}{command}\r\n"))?;
        let (mut answer, mut bye) = (Answer::default(), None);
        loop {
            let line = match (self.line(step), bye) {
                (Ok(line), before) => {
                    bye = before;
                    line
                }
                (Err(_), Some(words)) => return Err(Trouble::Bye(step, words)),
                (Err(trouble), None) => return Err(trouble),
            };
            if let Some(status) = line.strip_prefix(&tag) {
                return if status.starts_with("OK") { Ok(answer) } else { Err(Trouble::Refused(step, line)) };
            }
            if line.starts_with("* BYE") {
                bye = Some(line);
                continue;
            }
            if let Some(count) = line.strip_prefix("* ").and_then(|rest| rest.strip_suffix(" EXISTS")) {
                answer.exists = count.parse().unwrap();
            }
            let size = line.strip_suffix('}').and_then(|line| line.rsplit_once('{'));
            if let Some((_, size)) = size {
                let literal = self.connection.octets(size.parse().unwrap());
                answer.literals.push(literal.map_err(broken(step))?);
            }
        }
    }

    pub fn log_in_by_pop3(&mut self, login: &str, password: &str) -> Visit {
        let greeting = self.line("greeting")?;
        if !greeting.starts_with("+OK") {
            return Err(Trouble::Refused("greeting", greeting));
        }
        self.pop3("USER", &format!("USER {login}"))?;
        self.pop3("PASS", &format!("PASS {password}")).map(drop)
    }

    /// A command that is answered with +OK.
    pub fn pop3(&mut self, step: &'static str, command: &str) -> Visit<String> {
        self.send(step, format!("{command}\r\n"))?;
        let line = self.line(step)?;
        if line.starts_with("+OK") { Ok(line) } else { Err(Trouble::Refused(step, line)) }
    }

    /// The lines behind a first one.
    pub fn pop3_lines(&mut self, step: &'static str) -> Visit<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            let line = self.connection.octets_of_line().map_err(broken(step))?;
            if line == b"." {
                return Ok(text);
            }
            text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            text.extend_from_slice(b"\r\n");
        }
    }

    pub fn log_in_by_smtp(&mut self, login: &str, password: &str) -> Visit {
        self.smtp_reply("greeting", "220")?;
        self.smtp("EHLO", "EHLO printer", "250")?;
        let plain = base64(&format!("\0{login}\0{password}"));
        self.smtp("AUTH", &format!("AUTH PLAIN {plain}"), "235")
    }

    /// A command that is answered with this code.
    pub fn smtp(&mut self, step: &'static str, command: &str, code: &str) -> Visit {
        self.send(step, format!("{command}\r\n"))?;
        self.smtp_reply(step, code)
    }

    /// Sends the content of a message, behind the answer to DATA.
    pub fn content(&mut self, content: &[u8]) -> Visit {
        self.send("content", stuffed(content))?;
        self.smtp_reply("end of the content", "250")
    }

    fn smtp_reply(&mut self, step: &'static str, code: &str) -> Visit {
        loop {
            let line = self.line(step)?;
            if line.as_bytes().get(3) != Some(&b'-') {
                return if line.starts_with(code) { Ok(()) } else { Err(Trouble::Refused(step, line)) };
            }
        }
    }

    /// Waits until the other end has closed.
    pub fn close(self) -> Visit {
        self.connection.close().map_err(broken("close"))
    }

    fn send(&mut self, step: &'static str, octets: impl AsRef<[u8]>) -> Visit {
        self.connection.send(octets.as_ref()).map_err(broken(step))
    }

    fn line(&mut self, step: &'static str) -> Visit<String> {
        self.connection.line().map_err(broken(step))
    }
}

fn broken(step: &'static str) -> impl Fn(io::Error) -> Trouble {
    move |error| Trouble::Broken(step, error)
}

/// The longest wait of a device. It is longer than HAProxy takes to leave out an instance that is frozen.
const PATIENCE: Duration = Duration::from_secs(30);
