//! This file plays the server of one cell: it obeys, up to its fault.

use openssl::ssl::SslContext;

use super::{Cell, HALF, Side, State, ail};
use crate::peer::Peer;
use support::process::PATIENCE;

/// The commands and messages of one session, as the server has seen them.
#[derive(Debug, Default)]
pub struct Seen {
    commands: Vec<String>,
    /// Messages with their end.
    pub messages: usize,
    /// Messages that it has answered with 250.
    pub taken: usize,
}

pub struct Server<'a> {
    pub peer: Peer,
    cell: Cell,
    context: &'a SslContext,
    pub seen: Seen,
}

impl<'a> Server<'a> {
    pub fn new(peer: Peer, cell: Cell, context: &'a SslContext) -> Self {
        Self { peer, cell, context, seen: Seen::default() }
    }

    /// Serves one session. An error is the end of the session.
    pub fn serve(&mut self) -> Result<(), String> {
        let starttls = self.cell.is_begun_in_clear(Side::Server);
        if !starttls {
            self.shake()?;
        }
        self.reply(State::Connected, "")?;
        self.reply(State::Greeted, "220 mail.example ESMTP\r\n")?;
        loop {
            let line = self.peer.line()?;
            let verb = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
            self.seen.commands.push(line.clone());
            match verb.as_str() {
                "EHLO" if starttls && self.seen.commands.len() == 1 => {
                    self.reply(State::Ehlo, "250-mail.example\r\n250 STARTTLS\r\n")?;
                }
                "EHLO" => {
                    let mechanism = match () {
                        () if self.has_steps() => "LOGIN",
                        () if self.cell.has_token() => "XOAUTH2",
                        () => "PLAIN",
                    };
                    self.reply(State::Ehlo, &format!("250-mail.example\r\n250 AUTH {mechanism}\r\n"))?;
                }
                "STAR" => {
                    self.reply(State::StartTls, "220 go\r\n")?;
                    self.reply(State::StartTlsAnswered, "")?;
                    self.shake()?;
                }
                "AUTH" => self.log_in()?,
                "MAIL" => self.reply(State::Mail, "250 ok\r\n")?,
                "RCPT" => {
                    self.reply(State::MidCommand, "")?;
                    self.reply(State::Rcpt, "250 ok\r\n")?;
                }
                "DATA" => {
                    self.reply(State::Data, "354 go\r\n")?;
                    self.content()?;
                }
                "QUIT" => return self.reply(State::Quit, "221 bye\r\n"),
                _ => return Err(format!("{line:?} at the server")),
            }
        }
    }

    fn shake(&mut self) -> Result<(), String> {
        if self.cell.is_at(Side::Server, State::MidHello) {
            self.peer.hear_for(PATIENCE);
            let _ = self.peer.try_send(&[22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3]);
        }
        self.reply(State::MidHello, "")?;
        self.peer.shake_as_server(self.context)
    }

    /// Whether the login comes in steps: user, then password.
    fn has_steps(&self) -> bool {
        [State::AuthUser, State::AuthPassword].iter().any(|state| self.cell.is_at(Side::Server, *state))
    }

    fn log_in(&mut self) -> Result<(), String> {
        if self.has_steps() {
            self.reply(State::AuthUser, "334 VXNlcm5hbWU6\r\n")?;
            self.peer.line()?;
            self.reply(State::AuthPassword, "334 UGFzc3dvcmQ6\r\n")?;
            self.peer.line()?;
        }
        if self.cell.has_token() {
            self.reply(State::AuthToken, "334 \r\n")?;
            self.peer.line()?;
            if self.cell.is_at(Side::Server, State::AuthChallenge) {
                self.send("334 eyJzdGF0dXMiOiI0MDAifQ==\r\n")?;
                self.peer.line()?;
                return self.reply(State::AuthChallenge, "535 5.7.8 no\r\n");
            }
        }
        self.reply(State::Auth, "235 in\r\n")
    }

    fn content(&mut self) -> Result<(), String> {
        while self.peer.line()? != HALF {}
        self.reply(State::Content, "")?;
        while self.peer.line()? != ".\r\n" {}
        self.seen.messages += 1;
        self.reply(State::MidDot, "")?;
        self.reply(State::Dot, "250 queued\r\n")?;
        self.seen.taken += 1;
        self.reply(State::Between, "")
    }

    /// Replies; in the state of the cell the fault comes in place of it, behind half a reply where the state is that.
    fn reply(&mut self, state: State, text: &str) -> Result<(), String> {
        let mut text = text.to_owned();
        if self.cell.is_at(Side::Server, state) {
            let Some(fault) = self.cell.fault else {
                text.insert_str(0, EARLY);
                return self.send(&text);
            };
            self.send(half(state))?;
            ail(fault, &mut self.peer, self.cell);
            return Err("the server has failed".to_owned());
        }
        self.send(&text)
    }

    fn send(&mut self, text: &str) -> Result<(), String> {
        self.peer.try_send(text.as_bytes()).map_err(|error| error.to_string())
    }
}

/// Whether a reply that nothing has asked for makes sense in this state: not within another one.
pub fn may_speak_early(state: State) -> bool {
    half(state).is_empty() && state != State::MidHello
}

/// The half of a reply in which the server fails.
fn half(state: State) -> &'static str {
    match state {
        State::Greeted => "22",
        State::MidCommand | State::MidDot => "25",
        _ => "",
    }
}

/// A reply that nothing has asked for.
const EARLY: &str = "250 2.0.0 early\r\n";
