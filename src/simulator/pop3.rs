//! The simulator's POP3 service behaves like Exchange's (RFC 1939) behind implicit TLS: only XOAUTH2 in two steps opens
//! a mailbox.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use memchr::memmem;

use super::connection::{Connection, End};
use super::imap::{CHALLENGE, diagnostics, server_name};
use super::login::{LoginResult, OpenSession, log_in, refuse, token_length};
use super::mailbox::Message;
use super::quirks::{Excess, Greeting, Moment};
use super::world::World;
use crate::protocol::Protocol;

/// Serves POP3 until the connection has to end; returns why, and the last line.
pub(super) async fn serve(world: Arc<World>, connection: &mut Connection) -> (End, String) {
    let mut pop3 = Pop3Service { world, connection, session: None, user: None, maildrop: Vec::new() };
    let end = match pop3.run().await {
        Ok(()) => End::Finished,
        Err(end) => end,
    };
    let farewell = match end {
        // The real answer to an expired token in POP3 is not known, so the simulator only closes.
        End::Gone | End::Finished | End::Reset | End::Expired => "",
        End::Closed => "-ERR Connection is closed. 13\r\n",
        End::TooLong => PROTOCOL_ERROR,
    };
    (end, farewell.to_owned())
}

struct Pop3Service<'a> {
    world: Arc<World>,
    connection: &'a mut Connection,
    session: Option<OpenSession>,
    /// The user name of USER.
    user: Option<String>,
    /// The messages as they were at login, and whether they are to be deleted.
    maildrop: Vec<(Message, bool)>,
}

impl Pop3Service<'_> {
    async fn run(&mut self) -> Result<(), End> {
        let (greeting, delay) = self.world.quirk(|quirks| (quirks.mail.greeting, quirks.mail.greeting_delay));
        tokio::time::sleep(delay).await;
        self.send(match greeting {
            Greeting::Classic => format!("+OK The Microsoft Exchange POP3 service is ready. [{}]", server_name()),
            Greeting::TcpProxy => {
                format!("+OK Microsoft Exchange POP3 server ready (tcpproxy/15.20.9137.005). [{}]", server_name())
            }
            Greeting::Bye => "-ERR Connection is closed. 13".to_owned(),
        })
        .await?;
        if greeting == Greeting::Bye {
            return Ok(());
        }
        loop {
            let line = self.connection.line().await?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let (name, argument) = line.split_once(' ').unwrap_or((&line, ""));
            self.execute(&name.to_ascii_uppercase(), argument).await?;
        }
    }

    async fn execute(&mut self, name: &str, argument: &str) -> Result<(), End> {
        self.connection.check_expiry()?;
        match name {
            "CAPA" => self.send("+OK\r\nTOP\r\nUIDL\r\nSASL PLAIN XOAUTH2\r\nUSER\r\n.").await,
            "QUIT" => self.quit().await,
            _ if self.session.is_some() => self.execute_in_session(name, argument).await,
            "AUTH" => self.auth(argument).await,
            "USER" => {
                self.user = Some(argument.to_owned());
                self.send("+OK").await
            }
            "PASS" => {
                let user = self.user.take().unwrap_or_default();
                refuse(&self.world, Protocol::Pop3, &format!("USER and PASS as {user} refused"));
                self.send("-ERR Logon failure: unknown user name or bad password.").await
            }
            _ => self.send("-ERR Command is not valid in this state.").await,
        }
    }

    /// Executes AUTH. The response comes on a line of its own: the one-line form of RFC 5034 is a protocol error here.
    async fn auth(&mut self, argument: &str) -> Result<(), End> {
        let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
        if !initial.is_empty() {
            self.world.log_event("POP3: AUTH on one line is a protocol error".to_owned());
            self.connection.send(PROTOCOL_ERROR).await?;
            return Err(End::Finished);
        }
        if mechanism.is_empty() {
            return self.send("+OK\r\nPLAIN\r\nXOAUTH2\r\n.").await;
        }
        if !mechanism.eq_ignore_ascii_case("XOAUTH2") {
            refuse(&self.world, Protocol::Pop3, &format!("AUTH {mechanism} refused"));
            return self.send(REFUSED).await;
        }
        let mail = self.world.quirk(|quirks| quirks.mail.clone());
        self.send(if mail.continuation_space { "+ " } else { "+" }).await?;
        let line = self.connection.line().await?;
        if line == b"*" {
            return self.send("-ERR Authentication cancelled.").await;
        }
        let Ok(response) = STANDARD.decode(&line) else { return self.send("-ERR Command is not valid.").await };
        if mail.pop3_token_limit.is_some_and(|limit| token_length(&response) > limit) {
            refuse(&self.world, Protocol::Pop3, "the token is longer than POP3 takes");
            self.connection.send(PROTOCOL_ERROR).await?;
            return Err(End::Finished);
        }
        tokio::time::sleep(mail.login_delay).await;
        if self.inject_fault(Moment::Login).await? {
            return Ok(());
        }
        match log_in(&self.world, Protocol::Pop3, self.connection.facts(), &response) {
            LoginResult::Excessive(Excess::Throttled(milliseconds)) => {
                let text = format!("-ERR Request is throttled. Suggested Backoff Time: {milliseconds} milliseconds");
                self.send(text).await
            }
            LoginResult::Excessive(Excess::Unavailable) => self.send("-ERR Server Unavailable. 15").await,
            LoginResult::Excessive(Excess::Reset | Excess::NotConnected) => Err(End::Reset),
            LoginResult::Accepted(session) => {
                self.connection.logged_in(session.token_ends);
                let contents = session.folders.as_ref().map(|one| one.inbox.contents()).unwrap_or_default();
                self.maildrop = contents.messages.into_iter().map(|message| (message, false)).collect();
                self.session = Some(session);
                self.send("+OK User successfully authenticated.").await
            }
            LoginResult::Refused { user } => {
                if mail.json_challenge {
                    self.send(format!("+ {}", STANDARD.encode(CHALLENGE))).await?;
                    // The client has to say something, and nothing is right.
                    self.connection.line().await?;
                }
                let long = mail.long_diagnostics.then(|| format!("-ERR {}", diagnostics(&user)));
                self.send(long.as_deref().unwrap_or(REFUSED)).await
            }
        }
    }

    async fn execute_in_session(&mut self, name: &str, argument: &str) -> Result<(), End> {
        if self.session.as_ref().is_none_or(|session| session.folders.is_none()) {
            self.send("-ERR User is authenticated but not connected. Connection is closed. 14").await?;
            return Err(End::Finished);
        }
        if self.inject_fault(Moment::Command).await? {
            return Ok(());
        }
        match name {
            "NOOP" => self.send("+OK").await,
            "RSET" => {
                self.maildrop.iter_mut().for_each(|(_, is_deleted)| *is_deleted = false);
                self.send("+OK").await
            }
            "STAT" => {
                let (count, size) =
                    (self.kept().count(), self.kept().map(|(_, message)| self.size(message)).sum::<usize>());
                self.send(format!("+OK {count} {size}")).await
            }
            "LIST" => self.list(argument, |pop3, message| pop3.size(message).to_string()).await,
            "UIDL" => self.list(argument, |_, message| format!("{:08}", message.uid)).await,
            "RETR" => self.retrieve(argument, None).await,
            "TOP" => {
                let (number, lines) = argument.split_once(' ').unwrap_or((argument, ""));
                match lines.trim().parse() {
                    Ok(lines) => self.retrieve(number, Some(lines)).await,
                    Err(_) => self.send("-ERR Command is not valid.").await,
                }
            }
            "DELE" => {
                let number = argument.trim().parse::<usize>().ok().and_then(|number| number.checked_sub(1));
                match number.and_then(|at| self.maildrop.get_mut(at)).filter(|(_, is_deleted)| !is_deleted) {
                    Some((_, is_deleted)) => {
                        *is_deleted = true;
                        self.send("+OK").await
                    }
                    None => self.send(NO_MESSAGE).await,
                }
            }
            _ => self.send("-ERR Command is not valid in this state.").await,
        }
    }

    /// Executes QUIT, which deletes the marked messages (RFC 1939 §6).
    async fn quit(&mut self) -> Result<(), End> {
        let doomed: Vec<u32> =
            self.maildrop.iter().filter(|(_, is_deleted)| *is_deleted).map(|(message, _)| message.uid).collect();
        if let Some(folders) = self.session.as_ref().and_then(|session| session.folders.as_ref()) {
            let removed = folders.inbox.mailbox.remove(|message| doomed.contains(&message.uid));
            if removed > 0 {
                self.world.count(|counts| counts.deleted += removed as u64);
                self.world.log_event(format!("POP3: {removed} messages deleted"));
            }
        }
        self.session = None;
        self.send("+OK Microsoft Exchange Server POP3 server signing off.").await?;
        Err(End::Finished)
    }

    async fn list(&mut self, argument: &str, value: impl Fn(&Self, &Message) -> String) -> Result<(), End> {
        if !argument.trim().is_empty() {
            let line = self.message(argument).map(|(number, message)| format!("+OK {number} {}", value(self, message)));
            return self.send(line.as_deref().unwrap_or(NO_MESSAGE)).await;
        }
        let lines: String =
            self.kept().map(|(number, message)| format!("{number} {}\r\n", value(self, message))).collect();
        self.send(format!("+OK\r\n{lines}.")).await
    }

    /// Sends a message, byte-stuffed: all of it, or its header and so many lines of its body.
    async fn retrieve(&mut self, number: &str, lines: Option<usize>) -> Result<(), End> {
        let Some((number, message)) = self.message(number) else { return self.send(NO_MESSAGE).await };
        let message = message.clone();
        let stuffed = match lines {
            None => stuff(&message.octets),
            Some(lines) => {
                let (header, text) = message.header_and_body();
                let end = memchr::memchr_iter(b'\n', text).take(lines).last().map_or(0, |at| at + 1);
                stuff(&[header, text.get(..end).unwrap_or(text)].concat())
            }
        };
        self.send("+OK").await?;
        if self.world.quirk(|quirks| quirks.mail.cut_literal) {
            self.world.quirks.send_modify(|quirks| quirks.mail.cut_literal = false);
            self.connection.send(stuffed.get(..stuffed.len() / 2).unwrap_or_default()).await?;
            return Err(End::Expired);
        }
        self.connection.send(&stuffed).await?;
        self.send(".").await?;
        if lines.is_none() {
            self.world.count(|counts| counts.fetched += 1);
            self.world.log_event(format!("POP3: message {number} fetched, {} octets", message.octets.len()));
        }
        Ok(())
    }

    async fn inject_fault(&mut self, moment: Moment) -> Result<bool, End> {
        let (throttle, unavailable) = self.world.quirk(|quirks| (quirks.mail.throttle, quirks.mail.unavailable));
        if let Some((_, milliseconds)) = throttle.filter(|(when, _)| *when == moment) {
            let backoff = format!("Suggested Backoff Time: {milliseconds} milliseconds");
            self.send(format!("-ERR Request is throttled. {backoff}")).await?;
            return Ok(true);
        }
        if unavailable == Some(moment) {
            self.send("-ERR Server Unavailable. 15").await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// The messages that are not marked as deleted, with their numbers.
    fn kept(&self) -> impl Iterator<Item = (usize, &Message)> {
        (1..)
            .zip(&self.maildrop)
            .filter(|(_, (_, is_deleted))| !is_deleted)
            .map(|(number, (message, _))| (number, message))
    }

    fn message(&self, number: &str) -> Option<(usize, &Message)> {
        let wanted = number.trim().parse::<usize>().ok()?;
        self.kept().find(|&(number, _)| number == wanted)
    }

    fn size(&self, message: &Message) -> usize {
        message.octets.len() + self.world.quirk(|quirks| quirks.mail.size_excess)
    }

    async fn send(&mut self, line: impl AsRef<str>) -> Result<(), End> {
        self.connection.send(format!("{}\r\n", line.as_ref())).await
    }
}

/// Doubles the dots at the beginning of lines, and ends the last line (RFC 1939 §3).
fn stuff(octets: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(octets.len() + 64);
    if octets.starts_with(b".") {
        stuffed.push(b'.');
    }
    let mut from = 0;
    for at in memmem::find_iter(octets, b"\n.") {
        stuffed.extend_from_slice(octets.get(from..at + 2).unwrap_or_default());
        stuffed.push(b'.');
        from = at + 2;
    }
    stuffed.extend_from_slice(octets.get(from..).unwrap_or_default());
    if !octets.is_empty() && !octets.ends_with(b"\r\n") {
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed
}

const PROTOCOL_ERROR: &str = "-ERR Protocol error. Connection is closed. 10\r\n";
const REFUSED: &str = "-ERR Authentication failure: unknown user name or bad password.";
const NO_MESSAGE: &str = "-ERR The specified message is out of range.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_stuffed() {
        assert_eq!(stuff(b".\r\n..\r\na.b\r\n.c"), b"..\r\n...\r\na.b\r\n..c\r\n");
        assert_eq!(stuff(b""), b"");
    }
}
